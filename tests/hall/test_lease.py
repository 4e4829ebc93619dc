import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from scaling_kit.embedded import Valkey, free_port
from scaling_kit.lease import Lease, LeaseLostError, NotHeldError
from scaling_kit.redis import Purpose, Script, client, key
from scaling_kit.testing import running, wait_until


def lease(name: str = "test", *, ttl_seconds: float = 15) -> Lease:
    return Lease(name, ttl_seconds=ttl_seconds)


def test_two_candidates__one_holds() -> None:
    first, second = lease(), lease()
    assert first.hold()
    assert not second.hold()
    assert first.hold(), "the holder renews"


def test_released__the_other_takes_over_with_a_later_epoch() -> None:
    first, second = lease(), lease()
    first.hold()
    assert first.release()
    assert second.hold()
    assert second.epoch > first.epoch
    assert not first.release(), "a former holder cannot release its successor's lease"
    assert second.hold()


def test_expired__the_holder_knows_by_its_own_clock() -> None:
    first, second = lease(ttl_seconds=0.05), lease()
    first.hold()
    wait_until(second.hold)
    assert not first.is_held
    assert not first.hold()


def test_epoch_lost_with_redis_data__still_goes_up() -> None:
    first, second = lease(), lease()
    first.hold()
    first.client.delete(first.holder_key, first.epoch_key)
    assert second.hold()
    assert second.epoch > first.epoch


def test_refused__knows_when_the_lease_runs_out_and_who_holds_it() -> None:
    first, second = lease(ttl_seconds=5), lease()
    first.hold()
    second.hold()
    assert 0 < second.free_in_seconds <= 5
    holder = second.fetch_holder()
    assert holder is not None
    assert (holder.token, holder.epoch) == (first.token, first.epoch)
    first.release()
    assert second.fetch_holder() is None


def test_now__is_redis_time_and_never_fast() -> None:
    one = lease()
    one.hold()
    told = one.now()
    seconds, microseconds = one.client.time()
    assert told <= seconds + microseconds / 1e6 < told + 5


NIGHTLY = Lease("nightly", ttl_seconds=60)


def test_made_at_import__each_with_is_an_owner_of_its_own() -> None:
    with NIGHTLY.held() as lease:
        assert lease.is_held
        with pytest.raises(NotHeldError, match="'nightly' is held by another owner"), NIGHTLY.held():
            raise AssertionError("two bodies at once")
    with NIGHTLY.held() as later:
        assert later.epoch > lease.epoch


def test_made_before_a_fork__the_child_does_not_hold_what_its_parent_holds() -> None:
    one = lease()
    assert one.hold()
    pid = os.fork()
    if not pid:
        os._exit(int(one.hold()))
    assert os.waitpid(pid, 0)[1] == 0
    assert one.hold()


def test_body_raises__the_lease_is_given_up() -> None:
    with pytest.raises(ZeroDivisionError), NIGHTLY.held():
        _ = 1 / 0
    assert NIGHTLY.fetch_holder() is None


def test_names_that_look_like_keys_of_another_lease__are_other_leases() -> None:
    names = ["a", "a:epoch", "a:holder"]
    assert all(lease(name).hold() for name in names)


def test_ttl_without_meaning__is_refused() -> None:
    with pytest.raises(ValueError, match="'test': ttl_seconds is 0; it must be above 0"):
        lease(ttl_seconds=0)


def test_wait_for_release__released_before_we_listened__is_not_missed() -> None:
    first, second = lease(ttl_seconds=600), lease()
    first.hold()
    assert not second.hold()
    first.release()
    assert second.wait_for_release(30)
    assert second.hold()
    assert not second.wait_for_release(0.05), "nothing was released since"


def test_wait_seconds__woken_by_the_release() -> None:
    with background(NIGHTLY) as let_go:
        threading.Timer(0.1, let_go.set).start()
        started_at = time.monotonic()
        with NIGHTLY.held(wait_seconds=30):
            assert time.monotonic() - started_at < 5


def test_wait_seconds__takes_over_when_the_lease_of_a_dead_holder_runs_out() -> None:
    lease("nightly", ttl_seconds=0.2).hold()
    with NIGHTLY.held(wait_seconds=30) as taken_over:
        assert taken_over.is_held


def test_wait_seconds__refused_when_they_are_over() -> None:
    lease("nightly").hold()
    started_at = time.monotonic()
    with pytest.raises(NotHeldError), NIGHTLY.held(wait_seconds=0.2):
        pass
    assert 0.2 <= time.monotonic() - started_at < 5


def test_renewed__a_long_body_keeps_the_lease() -> None:
    short = lease(ttl_seconds=0.4)
    with short.held(renewed=True) as held:
        until = time.monotonic() + 1.2
        wait_until(lambda: held.check() or time.monotonic() > until)
        assert not lease().hold()
    assert lease().hold()
    assert not [thread for thread in threading.enumerate() if thread.name == "lease test"]


def test_renewed_and_stolen__the_body_sees_it_and_the_loss_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), lease(ttl_seconds=0.4).held(renewed=True) as held:
        held.client.delete(held.holder_key)
        rival = lease()
        assert rival.hold()
        wait_until(lambda: not held.is_held)
        with pytest.raises(LeaseLostError, match=f"'test' of epoch {held.epoch} is not ours any more"):
            held.check()
        assert not held.renew()
    assert "lease lost while in use name=test" in caplog.text
    assert rival.hold(), "a successor's lease is not given up by whoever lost it"


def test_renew__never_acquires() -> None:
    one = lease()
    assert not one.renew(), "never held"
    one.hold()
    one.client.delete(one.holder_key)
    assert not one.renew()
    assert one.fetch_holder() is None


def test_redis_away__bodies_go_on_and_see_when_their_lease_runs_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    valkey = Valkey(folder=tmp_path, port=free_port(), persistent=False)
    own = client(Purpose.SCRIPT, valkey.url)
    with running(valkey) as server:
        long, short = Lease("long", client=own), Lease("short", client=own, ttl_seconds=0.4)
        with long.held(renewed=True) as still_held, short.held(renewed=True) as lost:
            server.kill()
            wait_until(lambda: not lost.is_held)
            still_held.check()
        assert "lease lost while in use name=short" in caplog.text
        assert "lease not released, it runs out by itself name=long" in caplog.text
        with pytest.raises(redis.RedisError), long.held():
            pass


FENCED_SET = Script("""
if tonumber(redis.call('HGET', KEYS[1], 'epoch') or 0) > tonumber(ARGV[1]) then
  return 0
end
return redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'value', ARGV[2]) and 1
""")


def test_fenced_script__refuses_a_former_holder() -> None:
    former, holder = lease(), lease()
    former.hold()
    former.client.delete(former.holder_key)  # it ran out during a pause
    holder.hold()
    assert FENCED_SET(holder.client, [key("reports", "nightly")], [holder.epoch, "new"]) == 1
    assert FENCED_SET(holder.client, [key("reports", "nightly")], [former.epoch, "old"]) == 0
    assert FENCED_SET(holder.client, [key("reports", "nightly")], [holder.epoch, "newer"]) == 1
    assert holder.client.hget(key("reports", "nightly"), "value") == "newer"


@contextmanager
def background(one: Lease) -> Iterator[threading.Event]:
    """Another thread holds the lease until told to let go."""
    holds, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with one.held():
            holds.set()
            let_go.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holds.wait(5)
    try:
        yield let_go
    finally:
        let_go.set()
        thread.join(5)
