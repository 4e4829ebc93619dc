"""What bench/scheduler_faults.py runs: `runscheduler` with schedules of one second, while it is hurt.

`stage` is a server with its candidates, `book` writes down every job that comes on the queue and judges what is
missing, `faults` are the scenarios, `report` prints them.

This package is also a Django app: its `schedule` is what the candidates run, its `tasks` are on a real RQ queue.
"""
