"""The scheduler with the jobs room: two rooms that do not know each other."""

import pytest

pytest.importorskip("scaling_kit.jobs")

from scaling_kit.lease import Lease
from scaling_kit.redis import Purpose, client
from scaling_kit.scheduler.claim import Outcome, State, claim
from scaling_kit.scheduler.schedule import Schedule
from scaling_kit.scheduler.timetable import Interval
from tests.scheduler.tasks import sweep


def test_claimed__the_job_is_on_the_queue_as_a_result_can_be_asked_for() -> None:
    lease = Lease("scaling_kit_scheduler", client=client(Purpose.SCRIPT))
    lease.hold()
    schedule = Schedule(name="sweep", task=sweep, args=[3], timetable=Interval(seconds=1))
    outcome, state = claim(lease, schedule, 100, State(watermark=0))
    assert outcome is Outcome.CLAIMED
    result = sweep.get_result("cron-sweep-100")
    assert (result.status, result.args) == ("READY", [3])
    assert claim(lease, schedule, 101, state)[0] is Outcome.OVERLAPPED
