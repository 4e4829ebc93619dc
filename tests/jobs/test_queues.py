"""The scripts: what is taken, handed back and moved, and by whom it is refused."""

import threading

import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from rq.registry import StartedJobRegistry

from scaling_kit import members, recipes
from scaling_kit.jobs import queues as places
from scaling_kit.jobs import transitions
from scaling_kit.jobs.interrupts import SignalDeadline
from scaling_kit.jobs.performer import Performer
from scaling_kit.jobs.status import snapshot
from scaling_kit.jobs.tasks import TaskResult, TaskResultStatus
from scaling_kit.jobs.transitions import Claimed
from scaling_kit.jobs.upkeep import hand_back_orphans, tidy
from scaling_kit.lease import Lease
from scaling_kit.redis import Purpose, client
from scaling_kit.testing import wait_until
from tests.jobs import tasks
from tests.jobs.conftest import Queues
from tests.jobs.fleet import in_process_worker


def enqueue(queues: Queues, value: object = None) -> TaskResult:  # type: ignore[type-arg, unused-ignore]
    return tasks.append.using(queue_name=queues.default).enqueue("ran", value)


def claim(queues: Queues, execution_id: str = "e1", worker: str = "test-w1") -> Claimed | None:
    found = transitions.claim(queues.names, worker, execution_id)
    return found if isinstance(found, Claimed) else None


def hand_back(found: Claimed, worker: str = "test-w1", *, killed: bool = True) -> str:
    return transitions.hand_back(
        found.queue_name, found.job_id, found.execution_id, worker, reason="killed by SIGKILL", killed=killed
    )


def test_claim_repeated_after_a_lost_reply__answers_the_same_job(queues: Queues) -> None:
    first, _second = enqueue(queues), enqueue(queues)
    assert [claim(queues).job_id, claim(queues).job_id] == [first.id, first.id]  # type: ignore[union-attr]
    assert claim(queues, "e2").job_id == _second.id  # type: ignore[union-attr]
    assert claim(queues, "e3") is None


def test_claimed__is_in_rqs_registry_of_started_jobs(queues: Queues) -> None:
    result = enqueue(queues)
    claim(queues)
    registry = StartedJobRegistry(queues.default, connection=places.connection(queues.default))
    assert registry.get_job_and_execution_ids() == [(result.id, "e1")]
    result.refresh()
    assert result.status == TaskResultStatus.RUNNING


def test_many_claiming_at_once__each_job_is_taken_once(queues: Queues) -> None:
    expected = sorted(enqueue(queues).id for _ in range(20))
    taken: list[str] = []

    def take(worker: int) -> None:
        for number in range(20):
            found = claim(queues, f"{worker}-{number}", f"test-{worker}")
            if found:
                taken.append(found.job_id)

    threads = [threading.Thread(target=take, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == expected


def test_id_listed_twice__is_run_once(queues: Queues) -> None:
    result = enqueue(queues)
    places.connection(queues.default).rpush(places.queue_key(queues.default), result.id)
    queues.work()
    assert tasks.noted("ran") == ["None"]


def test_handed_back__once_and_to_the_head_of_the_queue(queues: Queues) -> None:
    first, second = enqueue(queues, 1), enqueue(queues, 2)
    found = claim(queues)
    assert found is not None
    assert [hand_back(found), hand_back(found)] == ["requeued", "no"]
    redis = places.connection(queues.default)
    assert redis.lrange(places.queue_key(queues.default), 0, -1) == [first.id.encode(), second.id.encode()]


def test_handed_back_by_two_at_once__is_queued_once(queues: Queues) -> None:
    enqueue(queues)
    found = claim(queues)
    assert found is not None
    threads = [threading.Thread(target=hand_back, args=(found,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert places.connection(queues.default).llen(places.queue_key(queues.default)) == 1


def test_handed_back_with_a_priority__keeps_it(queues: Queues) -> None:
    tasks.append.using(queue_name=queues.default, priority=7).enqueue("ran", "first")
    enqueue(queues, "second")
    found = claim(queues)
    assert found is not None
    hand_back(found)
    queues.work()
    assert tasks.noted("ran") == ["first", "second"]


def test_killed_too_often__fails_with_the_reason(queues: Queues) -> None:
    result = enqueue(queues)
    verdicts = [hand_back(found) for number in range(3) if (found := claim(queues, f"e{number}"))]
    assert verdicts == ["requeued", "requeued", "failed"]
    result.refresh()
    assert result.status == TaskResultStatus.FAILED
    assert result.errors[-1].traceback == "killed by SIGKILL"
    [job_id] = places.connection(queues.default).zrange(places.failed_key(queues.default), 0, -1)
    assert job_id.decode() == result.id


def test_stopped_by_the_grace_period__does_not_count_against_the_job(queues: Queues) -> None:
    enqueue(queues)
    verdicts = [hand_back(found, killed=False) for number in range(5) if (found := claim(queues, f"e{number}"))]
    assert verdicts == ["requeued"] * 5


def test_outcome_of_a_job_handed_back_meanwhile__is_dropped(queues: Queues) -> None:
    result = enqueue(queues)
    with in_process_worker(queues.names) as worker:
        found = claim(queues, worker=worker.name)
        assert found is not None
        hand_back(found, worker.name)
        Performer(worker._plain, SignalDeadline).perform(found)
    result.refresh()
    assert result.status == TaskResultStatus.READY, "it is the next worker's"


def test_worker_that_lives__keeps_its_job(queues: Queues) -> None:
    enqueue(queues)
    claim(queues)
    transitions.beat(queues.default, ["test-w1"])
    hand_back_orphans(held_lease())
    assert places.connection(queues.default).llen(places.queue_key(queues.default)) == 0


@override_settings(SCALING_KIT_JOBS_WORKER_TTL_SECONDS=0.05)
def test_worker_fallen_silent__loses_its_job_to_the_holder_of_the_lease_only(queues: Queues) -> None:
    enqueue(queues)
    claim(queues)
    transitions.beat(queues.default, ["test-w1"])
    leader, other = held_lease(), Lease("scaling_kit_jobs", client=client(Purpose.SCRIPT))
    redis = places.connection(queues.default)

    def waiting() -> int:
        hand_back_orphans(other)
        hand_back_orphans(leader)
        return int(redis.llen(places.queue_key(queues.default)))

    hand_back_orphans(other)
    assert wait_until(waiting) == 1
    assert waiting() == 1, "once"


def test_tidy__drops_what_has_expired(queues: Queues) -> None:
    redis = places.connection(queues.default)
    redis.zadd(places.failed_key(queues.default), {"long-gone": 1, "recent": 4e9})
    tidy(held_lease())
    assert redis.zrange(places.failed_key(queues.default), 0, -1) == [b"recent"]


def test_suspended_by_rq__claims_nothing(queues: Queues) -> None:
    from rq.suspension import resume, suspend

    redis = places.connection(queues.default)
    enqueue(queues)
    suspend(redis)
    try:
        assert claim(queues) is None
    finally:
        resume(redis)
    assert claim(queues) is not None


def test_snapshot__counts_and_changes_nothing(queues: Queues) -> None:
    enqueue(queues)
    enqueue(queues)
    tasks.append.using(queue_name=queues.default, priority=3).enqueue("ran")
    claim(queues)
    found = snapshot()["queues"][queues.default]
    assert found.pop("oldest_seconds") >= 0
    assert {name: found[name] for name in ("waiting", "running", "failed", "scheduled")} == {
        "waiting": 2, "running": 1, "failed": 0, "scheduled": 0
    }  # fmt: skip
    assert snapshot()["queues"][queues.low]["oldest_seconds"] is None


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"URL": "redis://a:1/2"}, "redis://a:1/2"),
        ({"URL": "redis://a:1", "DB": 3}, "redis://a:1?db=3"),
        ({"HOST": "a", "PORT": 1, "DB": 2, "PASSWORD": "p@ss"}, "redis://:p%40ss@a:1/2"),
        ({"HOST": "a", "SSL": True}, "rediss://a:6379/0"),
        ({"UNIX_SOCKET_PATH": "/run/redis", "DB": 1}, "unix:///run/redis?db=1"),
    ],
)
def test_url__of_every_way_to_write_it(entry: dict[str, object], expected: str) -> None:
    with override_settings(RQ_QUEUES={"default": entry}):
        assert places.url("default") == expected


def test_unknown_queue__says_which_there_are(queues: Queues) -> None:
    with pytest.raises(ImproperlyConfigured, match=queues.low):
        places.url("nowhere")
    assert settings.RQ_QUEUES


def held_lease() -> Lease:
    lease = Lease("scaling_kit_jobs", client=client(Purpose.SCRIPT))
    assert lease.hold()
    return lease


def test_queue_that_no_worker_listens_to__found() -> None:
    members.Member("worker", queues="high,default").beat()
    with override_settings(RQ_QUEUES=recipes.rq_queues(settings.REDIS_URL)):
        found = run_checks(tags=["stateless"], include_deployment_checks=True)
    assert [message.msg for message in found if message.id == "scaling_kit_jobs.W007"] == [
        "No worker that runs now listens to the queue 'low'."
    ]
