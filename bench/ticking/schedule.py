"""Half of the schedules with each catch-up policy, and one that outlasts its period for each overlap policy.

Those that make up for everything come last: once the last of them has been attended, so have all.
"""

import os

from bench.ticking.tasks import count, outlast
from scaling_kit.scheduler import schedule

PAIRS = int(os.environ.get("TICKING_PAIRS", "1"))
LONG_SECONDS = 2.5

for number in range(PAIRS):
    schedule.add(f"latest-{number}", count, seconds=1, catch_up="latest", overlap="allow")
for number in range(PAIRS):
    schedule.add(f"all-{number}", count, seconds=1, catch_up="all")
for policy in os.environ.get("TICKING_OVERLAPS", "").split():
    arguments = [os.environ["TICKING_JOURNAL"], policy, LONG_SECONDS]
    schedule.add(f"long-{policy}", outlast, seconds=1, catch_up="all", overlap=policy, args=arguments)  # type: ignore[arg-type]
