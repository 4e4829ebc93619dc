"""Acting on jobs while real workers take them."""

# ruff: noqa: F811  (fixtures of other files)

import contextlib
from typing import Any

import pytest

from scaling_kit.jobs import control, inspection
from scaling_kit.jobs.exceptions import JobsError
from scaling_kit.testing import wait_until
from tests.jobs import tasks
from tests.jobs.conftest import Queues, fleet, queues  # noqa: F401  (fixtures)
from tests.jobs.fleet import Fleet


@pytest.fixture(autouse=True)
def no_connections(django_db_blocker: Any) -> None:
    """These tests touch no database."""


def settled(queues: Queues) -> bool:
    return all(not counts.waiting and not counts.running for counts in inspection.fetch_counts(queues.names))


@pytest.mark.parametrize("mode", ["simple", "threads"])
def test_canceled_while_workers_work__each_job_ran_or_is_canceled_never_both(
    fleet: Fleet, queues: Queues, mode: str
) -> None:
    fleet.start("--processes", "2", "--mode", mode)
    control.pause(queues.default)
    job_ids = [tasks.append.using(queue_name=queues.default).enqueue("ran", number).id for number in range(400)]
    control.resume(queues.default)
    wait_until(lambda: tasks.noted("ran"), what="the workers work")
    for job_id in reversed(job_ids):
        with contextlib.suppress(JobsError):
            control.cancel(job_id)
    wait_until(lambda: settled(queues), what="nothing waits or runs")
    ran = tasks.noted("ran")
    states = {str(number): inspection.fetch_job(job_id).state for number, job_id in enumerate(job_ids)}
    assert len(ran) == len(set(ran))
    assert {"finished", "canceled"} <= set(states.values()) <= {"finished", "canceled", "failed"}
    assert not [number for number in ran if states[number] == "canceled"]
    assert not [number for number, state in states.items() if state == "finished" and number not in ran]


def test_reprioritised_and_retried_while_workers_work__each_job_runs_once(fleet: Fleet, queues: Queues) -> None:
    job_ids = [tasks.append.using(queue_name=queues.default).enqueue("ran", number).id for number in range(400)]
    for job_id in job_ids[:100]:
        control.cancel(job_id)
    fleet.start("--processes", "2", "--mode", "simple")
    for number, job_id in enumerate(job_ids):
        for act in (control.retry, lambda job_id, number=number: control.set_priority(job_id, number % 5)):
            with contextlib.suppress(JobsError):
                act(job_id)
    wait_until(lambda: settled(queues), what="nothing waits or runs")
    assert sorted(map(int, tasks.noted("ran"))) == list(range(400))
