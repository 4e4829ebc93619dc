"""100 requests of 50 ms a second, GET and POST, kept alive and not, over all that may befall a server: none is lost.

The load is open: it does not wait for a slow server. Figures: pytest -s tests/acceptance/test_cluster_load.py
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scaling_kit import members
from scaling_kit.testing import wait_until
from tests.acceptance.gunicorns import APPLICATION, Gunicorn, gunicorn, pids
from tests.acceptance.load import OpenLoad, open_load

FAST = APPLICATION.format(boot_seconds=0)
SLOW_TO_BOOT = APPLICATION.format(boot_seconds=12)
BROKEN = "import nothing_of_that_name"
HOARDING = """
import os, time
from pathlib import Path
hoard = []

def application(environ, start_response):
    time.sleep(0.05)
    if Path({switch!r}).exists():
        hoard.append(b"x" * 3_000_000)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


@contextmanager
def loaded(folder: Path, prefix: str, application: str = FAST, **settings: Any) -> Iterator[tuple[Gunicorn, OpenLoad]]:
    given = {"SCALING_KIT_CLUSTER_THREADS": 8, **{f"SCALING_KIT_CLUSTER_{name}": settings[name] for name in settings}}
    with gunicorn(folder, prefix, application=application, settings=given) as server:
        server.wait_for_workers(settings.get("WORKERS", 2))
        with open_load(server.port, "/pid?0.05") as load:
            load.wait_for(50)
            yield server, load
            load.wait_for(50)


def outcome(server: Gunicorn) -> dict[str, Any]:
    [record, *_] = members.fetch_members()
    told = json.loads(Path(f"{record['control_socket']}.reload").read_text())
    assert abs(time.time() - told.pop("at")) < 30
    return told  # type: ignore[no-any-return]


def report(what: str, load: OpenLoad) -> None:
    took = sorted(request.answered_at - request.sent_at for request in load.requests)
    lost, longest = len(load.lost), took[-1]
    print(f"\n{what}: {len(took)} requests, {lost} lost, median {took[len(took) // 2]:.3f} s, longest {longest:.3f} s")


def test_reloaded_and_scaled__no_request_lost_and_slow_ones_finish(tmp_path: Path, keys_of_one_test: str) -> None:
    with loaded(tmp_path, keys_of_one_test) as (server, load), ThreadPoolExecutor() as pool:
        old = pids()
        slow = [pool.submit(server.get, "/pid?3") for _ in range(4)]
        load.wait_for(20)
        server.signal(signal.SIGHUP)
        server.wait_for_log("reload done")
        wait_until(lambda: outcome(server) == {"number": 1, "state": "done", "reason": ""})
        for sig, number in ((signal.SIGTTIN, 4), (signal.SIGTTOU, 2)):
            for times in (1, 2):
                server.signal(sig)
                server.wait_for_log(f"Handling signal: {sig.name.removeprefix('SIG').lower()}", times=times)
            wait_until(lambda number=number: len(pids() - old) == number, timeout_seconds=20)  # type: ignore[misc]
        answers = [answer.result() for answer in slow]
    report("reload, scale 2-4-2", load)
    assert load.lost == []
    assert {status for status, _ in answers} == {200}
    assert {int(body) for _, body in answers} <= old


def test_broken_releases_then_a_slow_one__no_request_lost_and_outcomes_told(
    tmp_path: Path, keys_of_one_test: str
) -> None:
    with loaded(tmp_path, keys_of_one_test, WORKERS=1) as (server, load):
        old = pids()
        server.write_application(BROKEN)
        server.signal(signal.SIGHUP)
        server.wait_for_log("reload aborted")
        reason = "boot_failed: ModuleNotFoundError: No module named 'nothing_of_that_name'"
        wait_until(lambda: outcome(server) == {"number": 1, "state": "aborted", "reason": reason})
        (server.folder / "site_settings.py").write_text("1 / 0")
        server.signal(signal.SIGHUP)
        wait_until(lambda: (outcome(server)["number"], outcome(server)["state"]) == (2, "aborted"))
        reason = outcome(server)["reason"]
        assert reason.startswith("configuration: ")
        assert "ZeroDivisionError" in reason
        assert pids() == old
        server.write_settings()
        server.write_application(SLOW_TO_BOOT)
        server.signal(signal.SIGHUP)
        wait_until(lambda: outcome(server) == {"number": 3, "state": "running", "reason": ""})
        wait_until(lambda: outcome(server)["state"] == "done", timeout_seconds=30)
        [*_, record] = members.fetch_members()
    report("broken release, broken settings, boot of 12 s", load)
    assert load.lost == []
    assert load.pids > old
    assert not Path(f"{record['control_socket']}.reload").exists()


def test_workers_killed__only_what_they_were_answering_is_lost(tmp_path: Path, keys_of_one_test: str) -> None:
    with loaded(tmp_path, keys_of_one_test) as (server, load):
        victim, survivor = pids()
        killed_at = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: load.pids - {victim, survivor}, what="the replacement answers")
        first = min(
            request.answered_at for request in load.requests if int(request.body or 0) not in {0, victim, survivor}
        )
        print(f"\nkill -9 of one: {len(load.lost)} lost, replacement serving after {first - killed_at:.2f} s")
        assert all(request.sent_at < killed_at + 0.25 for request in load.lost)  # the kernel takes a while to end it
        assert first - killed_at < 5  # seconds, on a busy machine; the aim is 0.5
        lost_with_one = len(load.lost)
        both = server.wait_for_workers(2)
        killed_at = time.monotonic()
        for pid in both:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(load.pids - both - {victim, survivor}) == 2, what="two new workers answer")
        assert all(request.sent_at < killed_at + 0.25 for request in load.lost[lost_with_one:])
    report("kill -9 of one, then of both", load)


def test_workers_that_served_enough_or_grew__replaced_without_a_lost_request(
    tmp_path: Path, keys_of_one_test: str
) -> None:
    switch = tmp_path / "hoard"
    application = HOARDING.format(switch=str(switch))
    with loaded(tmp_path, keys_of_one_test, application, MAX_REQUESTS=150, MEMORY_MAX_MB=150) as (server, load):
        server.wait_for_log("reason=max_requests")
        server.wait_for_log("recycling done")
        switch.touch()
        server.wait_for_log("reason=memory")
        server.wait_for_log("recycling done", times=server.log.count("recycling begun"))
    report("max_requests, memory limit", load)
    assert load.lost == []
    assert "Autorestarting" not in server.log  # gunicorn's own way
