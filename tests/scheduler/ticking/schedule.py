import os

from scaling_kit.scheduler import every, schedule
from tests.jobs.journal import Journal
from tests.scheduler.queue import SlowTask, Task

task = every(seconds=1, name="all", catch_up="all")(Task())
schedule.add("latest", task, "* * * * * *", catch_up="latest", overlap="allow")

for number in range(2, 1 + int(os.environ.get("TICKING_PAIRS", "1"))):
    schedule.add(f"{number}-all", task, seconds=1, catch_up="all")
    schedule.add(f"{number}-latest", task, "* * * * * *", catch_up="latest", overlap="allow")

if "TICKING_SLOW_JOURNAL" in os.environ:
    schedule.add("slow", SlowTask(journal=Journal(os.environ["TICKING_SLOW_JOURNAL"]), seconds=1.5), seconds=1)
