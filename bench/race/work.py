"""What every job does: nothing, or wait for 10 ms as for an answer from elsewhere; then say when."""

from __future__ import annotations

import time

from bench.race.marks import Pen

NAP_SECONDS = 0.010

pen = Pen()


def noop(due_at: float) -> None:
    now = time.time()
    pen.write(due_at, now, now)


def nap(due_at: float) -> None:
    started_at = time.time()
    time.sleep(NAP_SECONDS)
    pen.write(due_at, started_at, time.time())


BY_NAME = {"noop": noop, "nap": nap}
