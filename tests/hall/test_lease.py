from scaling_kit.lease import Lease
from scaling_kit.redis import Purpose, client
from scaling_kit.testing import wait_until


def lease(name: str = "test", **options: float) -> Lease:
    return Lease(name, client=client(Purpose.SCRIPT), **options)


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
