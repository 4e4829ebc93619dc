# ruff: noqa: F811  (fixtures are imported, and arguments)
"""Real `runworkers`, and what may befall them: cut connections, kills at random, pauses, Redis gone, jobs spoilt.

What the jobs did is in a journal, a file, so that it does not depend on what is killed.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.test import override_settings

from scaling_kit import recipes
from scaling_kit.jobs import queues as places
from scaling_kit.jobs.tasks import TaskResult, TaskResultStatus
from scaling_kit.testing import wait_until
from tests.jobs import fault_tasks
from tests.jobs.conftest import Queues, fleet, queues  # noqa: F401  (fixtures)
from tests.jobs.fleet import Fleet
from tests.jobs.journal import Journal
from tests.jobs.proxy import Proxy

MODES = ("fork", "simple", "threads")
# `tests.jobs.settings` makes things quick; these are the kit's own defaults.
DEFAULTS = ("--settings", "tests.jobs.fault_settings")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy(settings.SCALING_KIT_REDIS_URL) as started:
        yield started


def enqueue(queue_name: str, task: object, *args: object, job_id: str) -> TaskResult:  # type: ignore[type-arg, unused-ignore]
    """Enqueue under an id of our own: it can be waited for before it is there, and enqueued again after an error."""
    bound = task.using(queue_name=queue_name)  # type: ignore[attr-defined]
    places.enqueue(queue_name, bound.get_backend().prepare(bound, list(args), {}, job_id=job_id))
    return bound.get_backend().get_result(job_id)


def wait_for(result: TaskResult, *, timeout_seconds: float = 10.0) -> TaskResult:  # type: ignore[type-arg, unused-ignore]
    def is_finished() -> bool:
        result.refresh()
        return bool(result.is_finished)

    wait_until(is_finished, timeout_seconds=timeout_seconds, what=f"{result} has ended")
    return result


def assert_ran_once(result: TaskResult, journal: Journal) -> None:  # type: ignore[type-arg, unused-ignore]
    wait_for(result)
    runs = journal.executions(result.id)
    assert (result.status, result.attempts) == (TaskResultStatus.SUCCESSFUL, 1)
    assert len(runs) == 1
    assert runs[0].ended_at is not None
    assert_nothing_left(result.task.queue_name)


def assert_nothing_left(queue_name: str) -> None:
    redis = places.connection(queue_name)

    def left() -> tuple[int, int]:
        return redis.llen(places.queue_key(queue_name)), redis.zcard(places.started_key(queue_name))

    wait_until(lambda: left() == (0, 0), what=f"nothing waits or runs in {queue_name}")


# --- cut connections


def names_of(queues: Queues, count: int) -> tuple[str, str]:
    return "--queues", ",".join(queues.names[:count])


def is_script(request: bytes) -> bool:
    return b"EVAL" in request[:32]


@pytest.mark.parametrize("queue_count", [1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_cut_between_pop_and_reply__the_job_runs_once(
    queues: Queues, fleet: Fleet, journal: Journal, proxy: Proxy, mode: str, queue_count: int
) -> None:
    options = ("--processes", "1", "--mode", mode, *names_of(queues, queue_count))
    process = fleet.start(*options, REDIS_URL=proxy.url)
    workers = fleet.workers_of(process)
    for queue_name in queues.names[:queue_count]:
        job_id = f"{queue_name}-job"
        trap = proxy.lose_reply(lambda request, reply, job=job_id.encode(): is_script(request) and job in reply)
        result = enqueue(queue_name, fault_tasks.work, str(journal.path), job_id, 0.0, job_id=job_id)
        assert_ran_once(result, journal)
        assert trap.is_sprung()
    assert fleet.workers_of(process) == workers


@pytest.mark.parametrize("mode", MODES)
def test_cut_between_finish_and_reply__the_job_is_done_and_not_run_again(
    queues: Queues, fleet: Fleet, journal: Journal, proxy: Proxy, mode: str
) -> None:
    fleet.start("--processes", "1", "--mode", mode, REDIS_URL=proxy.url)
    job_id = f"{queues.default}-job"
    trap = proxy.lose_reply(lambda request, reply: is_script(request) and job_id.encode() in request)
    result = enqueue(queues.default, fault_tasks.work, str(journal.path), job_id, 0.0, job_id=job_id)
    assert_ran_once(result, journal)
    assert trap.is_sprung()


@pytest.mark.parametrize("mode", MODES)
def test_cut_at_every_exchange_that_names_the_job__it_runs_once_all_the_same(
    queues: Queues, fleet: Fleet, journal: Journal, proxy: Proxy, mode: str
) -> None:
    fleet.start("--processes", "1", "--mode", mode, REDIS_URL=proxy.url)
    for nth in itertools.count(1):
        job_id = f"{queues.low}-job{nth}"
        named = job_id.encode()
        trap = proxy.lose_reply(lambda request, reply, named=named: named in request or named in reply, nth=nth)
        result = enqueue(queues.low, fault_tasks.work, str(journal.path), job_id, 0.0, job_id=job_id)
        assert_ran_once(result, journal)
        if not trap.is_sprung():
            break
    assert nth > 2


def test_reply_to_the_enqueue_lost__one_execution(queues: Queues, fleet: Fleet, journal: Journal, proxy: Proxy) -> None:
    fleet.start("--processes", "2", "--mode", "simple")
    by_proxy = recipes.rq_queues(proxy.url, queues=queues.names)
    with override_settings(RQ_QUEUES=by_proxy, SCALING_KIT_REDIS_URL=proxy.url):
        trap = proxy.lose_reply(lambda request, reply: is_script(request) and b"kit_task" in request)
        result = fault_tasks.work.using(queue_name=queues.default).enqueue(str(journal.path), "job", 0.1)
        assert trap.is_sprung()
    wait_for(result)
    assert_nothing_left(queues.default)
    assert (result.attempts, len(journal.executions())) == (1, 1)
