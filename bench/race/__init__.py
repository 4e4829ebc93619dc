"""What bench/jobs.py races: job systems side by side, on one Redis, with the same work.

`field` lists the contestants, `measures` says what is measured and how, `report` prints it. A contestant is a worker
process (`processes`) and a producer in a process of its own (`sender`), so that neither shares an interpreter with
another. `work` is what every job does; each library's way of saying so is in a module of that library.

This package is also a Django app, so that `runworkers` finds the kit's `tasks` before it forks, as in any project.
"""
