# ruff: noqa: F811  (fixtures are imported, and arguments)
"""Real `runworkers --autoscale`: up with a burst, down when it is quiet, and no job the worse for it."""

import signal
import subprocess

from scaling_kit.members import fetch_members
from scaling_kit.testing import wait_until
from tests.jobs import tasks
from tests.jobs.conftest import Queues, fleet, queues  # noqa: F401  (fixtures)
from tests.jobs.fleet import Fleet

QUICK = {"TEST_JOBS_AUTOSCALE_LATENCY_SECONDS": "0.2", "TEST_JOBS_AUTOSCALE_QUIET_SECONDS": "0.5"}


def start(fleet: Fleet, bounds: str, *arguments: str) -> subprocess.Popen[bytes]:
    return fleet.start("--autoscale", bounds, *arguments, "--settings", "tests.jobs.fault_settings", **QUICK)


def shown(process: subprocess.Popen[bytes]) -> tuple[str, str]:
    member = wait_until(lambda: next((one for one in fetch_members() if one["pid"] == str(process.pid)), None))
    return member["autoscale"], member["processes"]


def test_burst_then_quiet__up_to_the_most_and_back_to_the_least(queues: Queues, fleet: Fleet) -> None:
    process = start(fleet, "1:3", "--mode", "fork")
    wait_until(lambda: shown(process) == ("1:3", "1"))
    results = [tasks.add_slowly.using(queue_name=queues.default).enqueue(1, 1, seconds=0.3) for _ in range(20)]
    wait_until(lambda: len(fleet.workers_of(process)) == 3, what="three workers")
    wait_until(lambda: shown(process) == ("1:3", "3"))
    tasks.work_for.using(queue_name=queues.low).enqueue("long", 4)
    wait_until(lambda: tasks.noted("long"))
    wait_until(lambda: len(fleet.workers_of(process)) == 1, timeout_seconds=15, what="one worker")
    wait_until(lambda: "ended" in tasks.noted("long"))
    for result in results:
        result.refresh()
    assert [result.attempts for result in results] == [1] * 20
    assert len(tasks.noted("long")) == 2, "started once, ended once"
    assert "handed back" not in fleet.stop(process)


def test_surplus_worker_that_took_a_job_after_all__ends_it_first(queues: Queues, fleet: Fleet) -> None:
    """Long jobs for all begin in the moment in which two workers are to end, whichever those are."""
    process = start(fleet, "1:3", "--mode", "simple")
    for _ in range(15):
        tasks.add_slowly.using(queue_name=queues.default).enqueue(1, 1, seconds=0.3)
    wait_until(lambda: len(fleet.workers_of(process)) == 3, what="three workers")
    wait_until(lambda: "processes=2" in fleet.log(process), what="one less")
    for _ in range(6):
        tasks.work_for.using(queue_name=queues.default).enqueue("job", 1.2)
    wait_until(lambda: tasks.noted("job").count("ended") == 6)
    assert len(tasks.noted("job")) == 12, "each was started once"


def test_hup_keeps_the_number__and_ttin_is_refused(queues: Queues, fleet: Fleet) -> None:
    process = start(fleet, "1:2", "--mode", "simple")
    for _ in range(2):
        tasks.work_for.using(queue_name=queues.default).enqueue("job", 6)
    wait_until(lambda: len(fleet.workers_of(process)) == 2)
    before = set(fleet.workers_of(process))
    process.send_signal(signal.SIGTTIN)
    wait_until(lambda: "not resized: --autoscale 1:2 decides" in fleet.log(process))
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: fleet.log(process).count("supervisor started") == 2)
    assert shown(process) == ("1:2", "2")
    wait_until(lambda: not before & set(fleet.workers_of(process)), what="the old ones ended, after their jobs")
    assert len(tasks.noted("job")) == 4
