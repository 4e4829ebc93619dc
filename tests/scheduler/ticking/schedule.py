from scaling_kit.scheduler import every, schedule
from tests.scheduler.queue import Task

task = every(seconds=1, name="all", catch_up="all")(Task())
schedule.add("latest", task, "* * * * * *", catch_up="latest", overlap="allow")
