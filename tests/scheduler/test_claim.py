from typing import Any

import pytest

from scaling_kit.lease import Lease
from scaling_kit.redis import Purpose, client, key
from scaling_kit.scheduler import claim
from scaling_kit.scheduler.claim import OtherRedisError, Outcome, State
from scaling_kit.scheduler.schedule import Schedule
from scaling_kit.scheduler.status import Run, fetch_runs
from scaling_kit.scheduler.timetable import Interval
from tests.scheduler.queue import Backend, PlainTask, Task, finish, waiting

NEW = State(watermark=0)


def lease() -> Lease:
    return Lease("scaling_kit_scheduler", client=client(Purpose.SCRIPT))


@pytest.fixture
def leader() -> Lease:
    one = lease()
    one.hold()
    return one


def a_schedule(**options: Any) -> Schedule:
    return Schedule(
        **{"name": "sweep", "task": Task(), "timetable": Interval(seconds=1), "overlap": "allow", **options}
    )


def outcome(lease: Lease, schedule: Schedule, tick: int, state: State = NEW) -> Outcome:
    return claim.claim(lease, schedule, tick, state)[0]


def test_claimed__job_queue_watermark_and_history_are_written(leader: Lease) -> None:
    answer, state = claim.claim(leader, a_schedule(args=[7]), 100, NEW)
    assert answer is Outcome.CLAIMED
    assert state == State(watermark=100, job_key=key("queue", "job", "cron-sweep-100"))
    assert waiting() == ["cron-sweep-100"]
    assert leader.client.smembers(key("queue", "names")) == {"waiting"}
    assert leader.client.hget(state.job_key, "call") == "task(7,){}"
    assert fetch_runs("sweep") == [Run(tick=100, job_id="cron-sweep-100")]


def test_reply_lost_and_repeated__is_mine_and_enqueued_once(leader: Lease) -> None:
    assert [outcome(leader, a_schedule(), 100) for _ in range(3)] == ["claimed", "mine", "mine"]
    assert waiting() == ["cron-sweep-100"]


def test_repeated_after_the_lease_was_lost__is_still_mine(leader: Lease) -> None:
    outcome(leader, a_schedule(), 100)
    leader.release()
    assert outcome(leader, a_schedule(), 100) is Outcome.MINE


def test_earlier_or_same_tick_of_another__has_passed(leader: Lease) -> None:
    outcome(leader, a_schedule(), 100)
    leader.release()
    successor = lease()
    successor.hold()
    assert outcome(successor, a_schedule(), 100) is Outcome.PASSED
    assert outcome(successor, a_schedule(), 99) is Outcome.PASSED
    assert outcome(successor, a_schedule(), 101) is Outcome.CLAIMED
    assert waiting() == ["cron-sweep-100", "cron-sweep-101"]


def test_former_leader__is_fenced_off(leader: Lease) -> None:
    leader.client.delete(leader.holder_key)  # its lease ran out while it was paused
    lease().hold()
    assert outcome(leader, a_schedule(), 100) is Outcome.FENCED
    assert waiting() == []


def test_nobody_holds_the_lease__nothing_is_enqueued() -> None:
    assert outcome(lease(), a_schedule(), 100) is Outcome.FENCED


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("queued", "overlapped"),
        ("started", "overlapped"),
        ("scheduled", "overlapped"),
        ("finished", "claimed"),
        ("failed", "claimed"),
    ],
)
def test_overlap_skip__looks_at_the_job_of_the_tick_before(leader: Lease, status: str, expected: str) -> None:
    schedule = a_schedule(overlap="skip")
    _, state = claim.claim(leader, schedule, 100, NEW)
    finish("cron-sweep-100", status)
    assert outcome(leader, schedule, 101, state) == expected


def test_overlapped__the_tick_is_spent_and_the_job_still_watched(leader: Lease) -> None:
    schedule = a_schedule(overlap="skip")
    _, first = claim.claim(leader, schedule, 100, NEW)
    answers = [claim.claim(leader, schedule, 101, first) for _ in range(2)]
    assert answers == [(Outcome.OVERLAPPED, State(watermark=101, job_key=first.job_key))] * 2
    finish("cron-sweep-100")
    assert outcome(leader, schedule, 101, answers[0][1]) is Outcome.OVERLAPPED
    assert outcome(leader, schedule, 102, answers[0][1]) is Outcome.CLAIMED


def test_job_of_the_tick_before_is_gone__is_no_overlap(leader: Lease) -> None:
    schedule = a_schedule(overlap="skip")
    _, state = claim.claim(leader, schedule, 100, NEW)
    leader.client.delete(state.job_key)
    assert outcome(leader, schedule, 101, state) is Outcome.CLAIMED


def test_history__is_bounded_and_latest_first(leader: Lease, settings: Any) -> None:
    settings.SCALING_KIT_SCHEDULER_HISTORY_LENGTH = 3
    for tick in range(100, 110):
        outcome(leader, a_schedule(), tick)
    assert [run.tick for run in fetch_runs("sweep")] == [109, 108, 107]


@pytest.mark.django_db  # a queue may be in the database, whose connections are kept fresh
def test_task_that_cannot_be_prepared__is_enqueued_by_itself_after_the_claim(leader: Lease) -> None:
    task = PlainTask()
    schedule = a_schedule(task=task, args=[1])
    assert outcome(leader, schedule, 100) is Outcome.CLAIMED
    assert outcome(leader, schedule, 99) is Outcome.PASSED
    assert task.enqueued == [(1,)]


@pytest.mark.django_db  # a queue may be in the database, whose connections are kept fresh
def test_own_enqueue_fails__the_tick_is_lost_and_said_so(leader: Lease, caplog: pytest.LogCaptureFixture) -> None:
    assert outcome(leader, a_schedule(task=PlainTask(), kwargs={"unknown": 1}), 100) is Outcome.CLAIMED
    assert "tick lost schedule=sweep tick=100" in caplog.text


@pytest.mark.django_db  # a queue may be in the database, whose connections are kept fresh
def test_django_rq_function__is_enqueued_by_delay(leader: Lease) -> None:
    class Job:
        delayed: list[int] = []

        def delay(self, number: int) -> None:
            self.delayed.append(number)

    outcome(leader, a_schedule(task=Job(), args=[5]), 100)
    assert Job.delayed == [5]


def test_queue_in_another_redis__is_refused(leader: Lease) -> None:
    task = Task(backend=Backend(redis_url="redis://:secret@elsewhere:6379/0"))
    with pytest.raises(OtherRedisError, match=r"elsewhere.*SCALING_KIT_SCHEDULER_REDIS_URL") as refused:
        outcome(leader, a_schedule(task=task), 100)
    assert "secret" not in str(refused.value)


def test_begin__new_schedules_start_now_and_known_ones_go_on(leader: Lease) -> None:
    outcome(leader, a_schedule(), 100)
    states = claim.begin(leader, [a_schedule(), a_schedule(name="new")])
    assert states is not None
    assert states[0] == State(watermark=100, job_key=key("queue", "job", "cron-sweep-100"))
    assert states[1].watermark == pytest.approx(leader.now(), abs=5)
    assert claim.begin(leader, [a_schedule(name="new")]) == [states[1]], "the first watermark is kept"


def test_begin__a_disabled_schedule_forgets_its_watermark(leader: Lease) -> None:
    outcome(leader, a_schedule(), 100)
    claim.begin(leader, [], [a_schedule()])
    states = claim.begin(leader, [a_schedule()])
    assert states is not None
    assert states[0].watermark > 100


def test_begin__is_refused_to_who_does_not_lead(leader: Lease) -> None:
    assert claim.begin(lease(), [a_schedule()]) is None


def test_every_key__has_an_expiry(leader: Lease) -> None:
    outcome(leader, a_schedule(), 100)
    assert leader.client.ttl(claim.state_key("sweep")) > 0
    assert leader.client.ttl(claim.history_key("sweep")) > 0
