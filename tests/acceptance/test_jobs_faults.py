# ruff: noqa: F811  (fixtures are imported, and arguments)
"""Real `runworkers`, and what may befall them: cut connections, kills at random, pauses, Redis gone, jobs spoilt.

What the jobs did is in a journal, a file, so that it does not depend on what is killed.
"""

import base64
import itertools
import json
import os
import pickle
import random
import re
import signal
import subprocess
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import django_rq
import psutil
import pytest
from django.conf import settings
from django.test import override_settings
from redis import Redis
from rq.job import JobStatus

from scaling_kit import recipes
from scaling_kit.embedded import Valkey, free_port
from scaling_kit.jobs import enqueuing, transitions
from scaling_kit.jobs import queues as places
from scaling_kit.jobs.job import RUN_TASK
from scaling_kit.jobs.tasks import Task, TaskResult, TaskResultStatus
from scaling_kit.jobs.upkeep import hand_back_orphans
from scaling_kit.lease import Lease
from scaling_kit.prepared import PreparedJob
from scaling_kit.redis import Purpose, RedisError, client
from scaling_kit.testing import running, wait_until
from tests.jobs import fault_tasks, tasks
from tests.jobs.conftest import Queues, fleet, queues  # noqa: F401  (fixtures)
from tests.jobs.fleet import Fleet
from tests.jobs.journal import Execution, Journal
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


def prepared(queue_name: str, task: Task, *args: object, job_id: str) -> PreparedJob:
    bound = task.using(queue_name=queue_name)
    return bound.get_backend().prepare(bound, list(args), {}, job_id=job_id)


def enqueue(queue_name: str, task: Task, *args: object, job_id: str) -> TaskResult:
    """Enqueue under an id of our own, which can be waited for before it is there."""
    enqueuing.enqueue(queue_name, prepared(queue_name, task, *args, job_id=job_id))
    return task.get_backend().get_result(job_id)


def wait_for(result: TaskResult, *, timeout_seconds: float = 10.0) -> TaskResult:
    def is_finished() -> bool:
        result.refresh()
        return bool(result.is_finished)

    wait_until(is_finished, timeout_seconds=timeout_seconds, what=f"{result} has ended")
    return result


def assert_ran_once(result: TaskResult, journal: Journal) -> None:
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


@pytest.mark.parametrize(("mode", "queue_count"), [*zip(MODES, itertools.repeat(3)), ("fork", 1), ("threads", 1)])
def test_cut_between_pop_and_reply__the_job_runs_once(
    queues: Queues, fleet: Fleet, journal: Journal, proxy: Proxy, mode: str, queue_count: int
) -> None:
    options = ("--processes", "1", "--mode", mode, *names_of(queues, queue_count))
    process = fleet.start(*options, REDIS_URL=proxy.url)
    workers = fleet.workers_of(process)
    for queue_name in queues.names[:queue_count]:
        job_id = f"{queue_name}-job"
        named = job_id.encode()
        trap = proxy.lose_reply(lambda request, reply, named=named: is_script(request) and named in reply)
        result = enqueue(queue_name, fault_tasks.work, str(journal.path), job_id, 0.0, job_id=job_id)
        assert_ran_once(result, journal)
        assert trap.is_sprung()
    assert fleet.workers_of(process) == workers


@pytest.mark.parametrize("mode", MODES)
def test_cut_again_and_again_when_a_job_has_ended_and_the_next_is_claimed__that_runs_once(
    queues: Queues, fleet: Fleet, journal: Journal, proxy: Proxy, mode: str
) -> None:
    """As often as a script is repeated. No job follows on it, which would make its worker ask again."""
    concurrency = ("--concurrency", "1") if mode == "threads" else ()
    fleet.start("--processes", "1", "--mode", mode, *concurrency, REDIS_URL=proxy.url)
    named = f"{queues.default}-second".encode()
    trap = proxy.lose_reply(lambda request, reply: is_script(request) and named in reply, times=3)
    first, second = (
        enqueue(queues.default, fault_tasks.work, str(journal.path), job_id, 0.2, job_id=job_id)
        for job_id in (f"{queues.default}-first", named.decode())
    )
    wait_for(first)
    assert_ran_once(second, journal)
    assert trap.is_sprung()


@pytest.mark.parametrize("mode", ["fork", "threads"])
def test_cut_until_the_worker_is_told_to_end__the_job_it_never_heard_of_is_back_in_its_queue_at_once(
    queues: Queues, fleet: Fleet, journal: Journal, proxy: Proxy, mode: str
) -> None:
    process = fleet.start("--processes", "1", "--mode", mode, REDIS_URL=proxy.url)
    job_id = f"{queues.default}-job"
    proxy.lose_reply(lambda request, reply: is_script(request) and job_id.encode() in reply, times=1000)
    enqueue(queues.default, fault_tasks.work, str(journal.path), job_id, 0.0, job_id=job_id)
    wait_until(lambda: "worker redis_reachable=False" in fleet.log(process))
    fleet.stop(process)
    redis = places.connection(queues.default)
    assert redis.lrange(places.queue_key(queues.default), 0, -1) == [job_id.encode()]
    assert (redis.hget(places.job_key(job_id), "kit_kills"), journal.executions()) == (None, [])


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


@pytest.mark.parametrize("mode", ["fork", "threads"])
def test_cut_at_every_exchange_that_names_a_plain_job__it_runs_once_all_the_same(
    queues: Queues, fleet: Fleet, journal: Journal, proxy: Proxy, mode: str
) -> None:
    process = fleet.start("--processes", "1", "--mode", mode, REDIS_URL=proxy.url)
    queue = django_rq.get_queue(queues.low, commit_mode="auto")
    for nth in itertools.count(1):
        job_id = f"{queues.low}-job{nth}"
        named = job_id.encode()
        trap = proxy.lose_reply(lambda request, reply, named=named: named in request or named in reply, nth=nth)
        job = queue.enqueue(fault_tasks.plain, str(journal.path), job_id, job_id=job_id)
        wait_until(lambda job=job: job.get_status() == JobStatus.FINISHED, what=f"{job} has ended, cut {nth}")
        assert_nothing_left(queues.low)
        assert (len(journal.executions(job_id)), job.return_value()) == (1, journal.executions(job_id)[0].pid)
        if not trap.is_sprung():
            break
    assert nth > 2
    assert "job handed back" not in fleet.log(process)


def test_reply_to_the_enqueue_lost__one_execution(queues: Queues, fleet: Fleet, journal: Journal, proxy: Proxy) -> None:
    fleet.start("--processes", "2", "--mode", "simple")
    by_proxy = recipes.rq_queues(proxy.url, queues=queues.names)
    names = [f"{queues.default}-{number}" for number in range(4)]
    with override_settings(RQ_QUEUES=by_proxy, SCALING_KIT_REDIS_URL=proxy.url):
        one, *many = [
            prepared(queues.default, fault_tasks.work, str(journal.path), name, 0.05, job_id=name) for name in names
        ]
        trap = proxy.lose_reply(lambda request, reply: b"kit_task" in request)
        assert enqueuing.enqueue(queues.default, one) == one.id
        assert trap.is_sprung()
        trap = proxy.lose_reply(lambda request, reply: b"kit_task" in request)
        assert enqueuing.enqueue_many(queues.default, many) == [job.id for job in many]
        assert trap.is_sprung()
    for name in names:
        assert_ran_once(fault_tasks.work.get_backend().get_result(name), journal)


# --- kills


@pytest.mark.parametrize("victim", ["horse", "worker"])
def test_killed_with_one_queue_and_default_settings__runs_again_within_10_seconds(
    queues: Queues, fleet: Fleet, journal: Journal, victim: str
) -> None:
    process = fleet.start("--processes", "1", *names_of(queues, 1), *DEFAULTS)
    [worker] = fleet.worker_pids(1)
    result = enqueue(
        queues.high, fault_tasks.hang_the_first_time, str(journal.path), "job", job_id=f"{queues.high}-job"
    )
    horse = wait_until(journal.executions)[0].pid
    killed_at = time.monotonic()
    os.kill(horse if victim == "horse" else worker, signal.SIGKILL)
    wait_for(result)
    seconds = journal.executions()[1].started_at - killed_at
    print(f"{victim} killed: its job was run again after {seconds:.3f} s")
    assert (seconds < 10, result.attempts, len(journal.executions())) == (True, 2, 2)
    assert process.poll() is None


def test_host_lost_with_default_settings__its_jobs_run_elsewhere_and_no_job_of_the_living_does(
    queues: Queues, fleet: Fleet, journal: Journal
) -> None:
    """The living run jobs that are longer than every limit of silence, and say nothing meanwhile."""
    lost = fleet.start("--processes", "2", *names_of(queues, 2), *DEFAULTS)
    results = [
        enqueue(name, fault_tasks.hang_the_first_time, str(journal.path), name, job_id=f"{name}-job")
        for name in queues.names[:2]
    ]
    wait_until(lambda: len(journal.executions()) == 2)
    fleet.start("--processes", "3", *names_of(queues, 2), *DEFAULTS)
    fleet.start("--processes", "1", "--mode", "simple", "--queues", queues.low, *DEFAULTS, wait=False)
    threads = ("--mode", "threads", "--concurrency", "1")
    fleet.start("--processes", "1", *threads, "--queues", queues.low, *DEFAULTS, wait=False)
    for number, queue_name in enumerate([queues.low, queues.low, queues.high]):
        task = fault_tasks.work if queue_name == queues.high else fault_tasks.hold_the_interpreter
        enqueue(queue_name, task, str(journal.path), f"long{number}", 24, job_id=f"{queue_name}-long{number}")
    wait_until(lambda: len(journal.executions()) == 5)
    killed_at = time.monotonic()
    kill_host(lost)
    for result in results:
        wait_for(result, timeout_seconds=32)
        [_, again] = journal.executions(result.task.queue_name)
        print(f"host lost: its job was run again after {again.started_at - killed_at:.1f} s")
        assert again.started_at - killed_at < 30
    wait_until(lambda: journal.ended() >= {"long0", "long1", "long2"})
    assert len(journal.executions()) == 7, "two jobs ran twice, three once"


def test_killed_at_random__every_job_ends_and_none_runs_beside_itself(
    queues: Queues, fleet: Fleet, journal: Journal
) -> None:
    chance = random.Random(20)
    quick = {"TEST_JOBS_WORKER_TTL_SECONDS": "1.5", "TEST_JOBS_LEASE_SECONDS": "1"}
    patient = {**quick, "TEST_JOBS_MAX_KILLS": "99", "TEST_JOBS_CRASH_LIMIT": "99"}

    def start(mode: str, *arguments: str) -> subprocess.Popen[bytes]:
        return fleet.start("--processes", "2", "--mode", mode, *arguments, *DEFAULTS, **patient, wait=False)

    hosts = [start("fork"), start("threads", "--concurrency", "2")]
    wait_until(lambda: all(map(fleet.workers_of, hosts)))
    results = [
        enqueue(
            chance.choice(queues.names),
            fault_tasks.work,
            str(journal.path),
            f"job{number}",
            chance.uniform(0.05, 0.3),
            job_id=f"{queues.high}-job{number}",
        )
        for number in range(60)
    ]
    for victim in ("horse", "worker", "worker", "horse", "host", "horse", "worker", "horse", "worker") * 2:
        time.sleep(chance.uniform(0.05, 0.2))
        if victim == "host":
            kill_host(hosts.pop())
            hosts.append(start("simple"))
        else:
            kill_one(hosts if victim == "worker" else [hosts[0]], victim, chance)
    for result in results:
        wait_for(result, timeout_seconds=20)
    runs = Counter(run.name for run in journal.executions())
    print(f"killed at random: {sum(runs.values()) - 60} of 60 jobs were run again")
    assert {result.status for result in results} == {TaskResultStatus.SUCCESSFUL}
    assert journal.ended() == {f"job{number}" for number in range(60)}
    assert journal.seen_beside_itself() == []
    assert [host.poll() for host in hosts] == [None, None]


def kill_host(supervisor: subprocess.Popen[bytes]) -> None:
    everything = descendants(supervisor)
    os.killpg(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    wait_until(lambda: not any(map(lives, everything)), what="nothing outlives the supervisor")


def kill_one(hosts: Sequence[subprocess.Popen[bytes]], victim: str, chance: random.Random) -> None:
    """Kill a worker (a child of a supervisor, or what does its upkeep), or the child that runs a worker's job."""
    generation = 1 if victim == "worker" else 2
    found = [process for host in hosts for process in descendants(host) if depth(process, host.pid) == generation]
    if found:
        with suppress(psutil.NoSuchProcess):
            chance.choice(found).kill()


def depth(process: psutil.Process, ancestor: int) -> int:
    with suppress(psutil.NoSuchProcess, ValueError):
        return [parent.pid for parent in process.parents()].index(ancestor) + 1
    return 0


def descendants(supervisor: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(supervisor.pid).children(recursive=True)


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# --- pauses and sweeps


def test_hosts_paused_past_their_ttl__their_late_outcomes_are_dropped(
    queues: Queues, fleet: Fleet, journal: Journal
) -> None:
    short = {"TEST_WORKER_TTL": "1"}
    hosts = [
        fleet.start("--processes", "1", "--mode", mode, "--queues", queue_name, **short)
        for mode, queue_name in zip(MODES, queues.names, strict=True)
    ]
    results = [
        enqueue(name, fault_tasks.work, str(journal.path), name, 0.8, job_id=f"{name}-job") for name in queues.names
    ]
    wait_until(lambda: len(journal.executions()) == 3)
    everything = [process for host in hosts for process in [psutil.Process(host.pid), *descendants(host)]]
    for process in everything:
        process.suspend()
    fleet.start("--processes", "1", "--mode", "threads", **short)
    for result in results:
        wait_for(result)
    for process in everything:
        process.resume()
    for host, result in zip(hosts, results, strict=True):
        wait_until(lambda host=host: "outcome dropped" in fleet.log(host), what="the late outcome is dropped")
        result.refresh()
        [_, second] = journal.executions(result.task.queue_name)
        assert (result.status, result.attempts) == (TaskResultStatus.SUCCESSFUL, 2)
        assert result.return_value == second.pid, "the outcome is that of the second"
        assert places.connection(queues.high).xlen(f"rq:results:{result.id}") == 1, "and so it is for RQ"
        assert_nothing_left(result.task.queue_name)


@override_settings(SCALING_KIT_JOBS_WORKER_TTL_SECONDS=0.05)
def test_swept__jobs_wait_in_the_order_in_which_they_had_waited(queues: Queues, journal: Journal) -> None:
    """Beats say the same moment for all jobs of a host, so the registry does not tell which was first."""
    expected = [
        enqueue(queues.default, tasks.add, 1, number, job_id=f"{queues.default}-{name}").id
        for number, name in enumerate("dbeac")
    ]
    for number in range(4):
        transitions.claim(queues.names, f"test-lost-{number}", f"execution-{number}")
    transitions.beat(queues.default, [f"test-lost-{number}" for number in range(4)])
    lease = Lease("scaling_kit_jobs", client=client(Purpose.SCRIPT))
    assert lease.hold()
    redis = places.connection(queues.default)
    wait_until(lambda: hand_back_orphans(lease) or redis.llen(places.queue_key(queues.default)) == 5)
    assert [job_id.decode() for job_id in redis.lrange(places.queue_key(queues.default), 0, -1)] == expected


@override_settings(SCALING_KIT_JOBS_WORKER_TTL_SECONDS=0.05)
def test_many_sweeping_at_once__each_abandoned_job_is_queued_once(queues: Queues, journal: Journal) -> None:
    expected = [
        enqueue(queues.default, fault_tasks.work, str(journal.path), "job", 0, job_id=f"{queues.default}-{number}").id
        for number in range(20)
    ]
    for number in range(20):
        transitions.claim(queues.names, f"test-lost-{number % 4}", f"execution-{number}")
    leader, other = (Lease("scaling_kit_jobs", client=client(Purpose.SCRIPT)) for _ in range(2))
    assert leader.hold()
    redis = places.connection(queues.default)
    done = threading.Event()

    def sweep(lease: Lease) -> None:
        while not done.is_set():
            hand_back_orphans(lease)

    threads = [threading.Thread(target=sweep, args=(lease,)) for lease in [leader, other] * 4]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: redis.llen(places.queue_key(queues.default)) >= 20)
        time.sleep(0.2)  # nothing more may come
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert sorted(job_id.decode() for job_id in redis.lrange(places.queue_key(queues.default), 0, -1)) == sorted(
        expected
    )


# --- Redis away


@dataclass(frozen=True)
class Outage:
    """How Redis goes away, for how long, and with which settings of the fleets."""

    begin: Callable[[subprocess.Popen[bytes]], None]
    seconds: float
    environment: dict[str, str]


OUTAGES = {
    "terminated": Outage(lambda server: end(server, signal.SIGTERM), 1.0, {"TEST_JOBS_WORKER_TTL_SECONDS": "3"}),
    "killed, for longer than a worker's ttl": Outage(
        lambda server: end(server, signal.SIGKILL), 3.5, {"TEST_JOBS_WORKER_TTL_SECONDS": "3"}
    ),
    "hung": Outage(lambda server: server.send_signal(signal.SIGSTOP), 8.0, {}),
}


def end(server: subprocess.Popen[bytes], signum: signal.Signals) -> None:
    server.send_signal(signum)
    server.wait(timeout=10)


@pytest.mark.parametrize("outage", OUTAGES.values(), ids=OUTAGES)
def test_redis_away_under_load__every_job_runs_and_none_twice_that_was_not_in_flight(
    tmp_path: Path, keys_of_one_test: str, journal: Journal, outage: Outage
) -> None:
    server = Valkey(folder=tmp_path / "valkey", port=free_port())
    names = [f"{keys_of_one_test}-{name}" for name in ("high", "default", "low")]
    mine = override_settings(
        SCALING_KIT_REDIS_URL=server.url,
        RQ_QUEUES=recipes.rq_queues(server.url, queues=names),
        TASKS=recipes.tasks(queues=["default", *names]),
    )
    with mine, running(server) as process, Fleet(key_prefix=keys_of_one_test, folder=tmp_path).running() as fleet:
        environment = {"REDIS_URL": server.url, **outage.environment}
        hosts = [
            fleet.start("--processes", "2", "--mode", mode, *DEFAULTS, **environment) for mode in ("threads", "fork")
        ]
        for host in hosts:
            wait_until(lambda host=host: len(fleet.workers_of(host)) == 2)
        workers = [fleet.workers_of(host) for host in hosts]
        producer = threading.Thread(target=produce, args=(names, journal, 300))
        producer.start()
        wait_until(lambda: len(journal.executions()) > 60)
        outage.begin(process)
        gone_at = time.monotonic()
        time.sleep(outage.seconds)
        process.send_signal(signal.SIGCONT)
        with running(server) if process.poll() is not None else nullcontext():
            back_at = time.monotonic()
            producer.join()
            wait_until(lambda: len(journal.ended()) == 300, timeout_seconds=20, what="every job has ended")
            print(f"all ended {time.monotonic() - back_at:.1f} s after Redis was back")
            in_flight = {run.name for run in journal.executions() if overlaps(run, gone_at - 0.05, gone_at)}
            twice = {name for name, count in Counter(run.name for run in journal.executions()).items() if count > 1}
            print(f"in flight: {len(in_flight)}, run twice: {len(twice)}")
            assert twice <= in_flight
            for host, before in zip(hosts, workers, strict=True):
                wait_until(lambda host=host: "supervisor redis_reachable=True" in fleet.log(host), what="it says so")
                assert "supervisor redis_reachable=False" in fleet.log(host)
                assert (host.poll(), fleet.workers_of(host)) == (None, before)
            for name in names:
                assert_nothing_left(name)


def produce(names: Sequence[str], journal: Journal, count: int) -> None:
    """Enqueue until it is known to be there: under the same id, as often as it takes."""
    for number in range(count):
        job = prepared(
            names[number % 3], fault_tasks.work, str(journal.path), f"job{number}", 0.01, job_id=f"j{number}"
        )
        while not is_enqueued(names[number % 3], job):
            time.sleep(0.1)


def is_enqueued(queue_name: str, job: PreparedJob) -> bool:
    with suppress(RedisError):
        enqueuing.enqueue(queue_name, job)
        return True
    return False


def overlaps(run: Execution, since: float, until: float) -> bool:
    return run.started_at <= until and (run.ended_at is None or run.ended_at >= since)


# --- jobs that make no sense

JOB_THAT_MAKES_NO_SENSE = {
    "unknown task": "There is no task 'tests.jobs.gone.task' in this release",
    "no task": "'tests.jobs.tasks.plain' is a function, not a task",
    "arguments that do not fit": r"add\(\) missing 1 required positional argument: 'b'",
    "arguments that are none": "",
    "data that is no JSON": "",
    "data that is JSON, and no job": "",
    "pickle as a task": "",
    "pickle as a plain job": "",
    "plain job of an unknown function": "no.such",
    "plain job of no function": "",
    "kit_task that is no JSON": "JSON",
    "kit_task that is no object": "kit_task is not an object with backend, path",
    "kit_task without its fields": "kit_task is not an object with backend, path",
    "kit_task that is no text": "UnicodeDecodeError",
    "a moment that is none": "cannot be read: .*yesterday",
    "a timeout that is no number": "cannot be read",
}


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


def spoilt(what: str, queue_name: str, job_id: str, bomb: Bomb) -> dict[str, str | bytes]:
    """The fields of a job that are as the backend writes them, but for one thing."""
    fields = dict(prepared(queue_name, tasks.add, 1, 2, job_id=job_id).fields)
    plain = {name: value for name, value in fields.items() if not name.startswith("kit_")}
    written = json.loads(fields["kit_task"])

    def of(path: str) -> dict[str, str | bytes]:
        return {**fields, "kit_task": json.dumps({**written, "path": path}), "data": data(RUN_TASK, path, [1, 2], {})}

    found: dict[str, Callable[[], dict[str, str | bytes]]] = {
        "unknown task": lambda: of("tests.jobs.gone.task"),
        "no task": lambda: of("tests.jobs.tasks.plain"),
        "arguments that do not fit": lambda: fields | {"data": data(RUN_TASK, written["path"], [1], {})},
        "arguments that are none": lambda: fields | {"data": data(RUN_TASK, written["path"], 7, None)},
        "data that is no JSON": lambda: fields | {"data": b"\x80\xff no JSON"},
        "data that is JSON, and no job": lambda: fields | {"data": zlib.compress(b'{"a": 1}')},
        "pickle as a task": lambda: fields | {"data": pickle.dumps(bomb)},
        "pickle as a plain job": lambda: plain | {"data": zlib.compress(pickle.dumps(bomb))},
        "plain job of an unknown function": lambda: plain | {"data": data("no.such.function")},
        "plain job of no function": lambda: plain | {"data": data("")},
        "kit_task that is no JSON": lambda: fields | {"kit_task": "{"},
        "kit_task that is no object": lambda: fields | {"kit_task": "[1]"},
        "kit_task without its fields": lambda: fields | {"kit_task": "{}"},
        "kit_task that is no text": lambda: fields | {"kit_task": b"\xff"},
        "a moment that is none": lambda: fields | {"enqueued_at": "yesterday"},
        "a timeout that is no number": lambda: fields | {"timeout": "soon"},
    }
    return found[what]()


def data(function: str, *args: object) -> bytes:
    return zlib.compress(json.dumps([function, None, args, {}]).encode())


@pytest.mark.parametrize("mode", MODES)
def test_jobs_that_make_no_sense__fail_with_a_reason_and_the_worker_goes_on(
    queues: Queues, fleet: Fleet, tmp_path: Path, mode: str
) -> None:
    process = fleet.start("--processes", "1", "--mode", mode)
    workers = fleet.workers_of(process)
    redis = places.connection(queues.default)
    ids = {what: f"{queues.default}-{number}" for number, what in enumerate(JOB_THAT_MAKES_NO_SENSE)}
    for what, job_id in ids.items():
        redis.hset(places.job_key(job_id), mapping=spoilt(what, queues.default, job_id, Bomb(tmp_path / "bombed")))
        redis.rpush(places.queue_key(queues.default), job_id)
    after = enqueue(queues.default, tasks.add, 1, 2, job_id=f"{queues.default}-after")
    assert wait_for(after).return_value == 3
    assert_nothing_left(queues.default)
    failed = {job_id.decode() for job_id in redis.zrange(places.failed_key(queues.default), 0, -1)}
    reasons = {what: reason_of(job_id, redis) for what, job_id in ids.items()}
    print(json.dumps(reasons, indent=1))
    assert failed == set(ids.values())
    for what, expected in JOB_THAT_MAKES_NO_SENSE.items():
        assert re.search(expected, reasons[what]), (what, reasons[what])
        assert len(reasons[what]) > 10, f"{what}: {reasons[what]!r} tells nothing"
    assert {redis.hget(places.job_key(job_id), "kit_attempts") for job_id in ids.values()} == {b"1"}, "no loop"
    assert not (tmp_path / "bombed").exists(), "no pickle was loaded"
    assert fleet.workers_of(process) == workers, "no worker died of it"


def reason_of(job_id: str, redis: Redis) -> str:
    """The last line of what RQ's dashboard shows."""
    [(_, fields)] = redis.xrevrange(f"rq:results:{job_id}", count=1)
    return zlib.decompress(base64.b64decode(fields[b"exc_string"])).decode().strip().splitlines()[-1]


@pytest.mark.parametrize("what", ["a job of another type", "a job without data", "a queue of another type"])
def test_keys_that_make_no_sense__are_told_of_and_the_worker_goes_on(queues: Queues, fleet: Fleet, what: str) -> None:
    process = fleet.start("--processes", "1", "--mode", "simple")
    workers = fleet.workers_of(process)
    redis = places.connection(queues.default)
    job_id = f"{queues.high}-spoilt"
    if what == "a queue of another type":
        redis.set(places.queue_key(queues.high), "text")
    else:
        if what == "a job without data":
            redis.hset(places.job_key(job_id), "status", "queued")
        else:
            redis.rpush(places.job_key(job_id), "an item")
        redis.rpush(places.queue_key(queues.high), job_id)
    for number in range(2):
        after = enqueue(queues.default, tasks.add, 1, 2, job_id=f"{queues.default}-after{number}")
        assert wait_for(after, timeout_seconds=3).return_value == 3
    assert (process.poll(), fleet.workers_of(process)) == (None, workers)
    told = job_id if what != "a queue of another type" else places.queue_key(queues.high)
    assert told in fleet.log(process) or redis.zscore(places.failed_key(queues.high), job_id)


# --- the end, and crashes


@pytest.mark.parametrize("mode", ["fork", "threads"])
def test_term_with_several_jobs_in_flight__what_does_not_end_is_back_in_order_and_runs_elsewhere(
    queues: Queues, fleet: Fleet, journal: Journal, mode: str
) -> None:
    size = ("--processes", "1", "--concurrency", "5") if mode == "threads" else ("--processes", "5")
    process = fleet.start(*size, "--mode", mode, "--grace", "0.8")
    results = []
    for number, seconds in enumerate([0.5, 60, 0.5, 60, 60]):
        task = fault_tasks.work if seconds < 1 else fault_tasks.hang_the_first_time
        args = [str(journal.path), f"job{number}", *([seconds] if seconds < 1 else [])]
        results.append(enqueue(queues.default, task, *args, job_id=f"{queues.default}-{number}"))
        wait_until(lambda number=number: len(journal.executions()) == number + 1)
    behind = enqueue(queues.default, tasks.add, 1, 1, job_id=f"{queues.default}-behind")
    log = fleet.stop(process)
    waiting = places.connection(queues.default).lrange(places.queue_key(queues.default), 0, -1)
    assert journal.ended() == {"job0", "job2"}
    assert [found.decode() for found in waiting] == [results[1].id, results[3].id, results[4].id, behind.id]
    assert log.count("job handed back") == 3
    fleet.start("--processes", "1", "--mode", "simple")
    for result in results:
        wait_for(result)
    assert [result.attempts for result in results] == [1, 2, 1, 2, 2]


def test_crash_loop__each_time_it_waits_longer_and_then_it_gives_up(queues: Queues, fleet: Fleet) -> None:
    process = fleet.start("--processes", "1", *DEFAULTS, wait=False, TEST_JOBS_CRASH_LIMIT="4")
    killed: set[int] = set()

    def crash() -> bool:
        for pid in set(map(int, re.findall(r"worker started pid=(\d+)", fleet.log(process)))) - killed:
            killed.add(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return process.poll() is not None

    wait_until(crash, timeout_seconds=14)
    moments = re.findall(r"^\S+ (\S+) .* worker (?:started|ended) pid=", fleet.log(process), re.MULTILINE)
    seconds = [datetime.strptime(text, "%H:%M:%S,%f").timestamp() for text in moments]
    waits = [started - ended for ended, started in zip(seconds[1::2], seconds[2::2], strict=False)]
    print(f"crash loop: started again after {', '.join(f'{wait:.2f}' for wait in waits)} s")
    assert (process.returncode, len(killed)) == (1, 4)
    assert all(later > 1.5 * earlier for earlier, later in pairwise(waits)), waits
