"""A process with many threads that want one cached answer at one moment: one line of JSON for each line of orders.

    {"address": "a", "threads": 50, "step": "slow"} → {"statuses": {"hit": 50}, "computed": 0, "seconds": 0.1}

`step` is what a computation does in this process: `slow`, `raise`, `hang` (the first one), `die`, `refuse`.
"""

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import django

from scaling_kit.redis import Purpose

SLOW_SECONDS = 0.3


def main() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    from django.test import override_settings

    # Two hundred threads share two cores: that one of them reads a reply late does not mean that Redis is away.
    Purpose.REQUEST.value.update(socket_timeout=5.0, socket_connect_timeout=5.0)

    lease = float(sys.argv[2])
    with override_settings(SCALING_KIT_KEY_PREFIX=sys.argv[1], SCALING_KIT_CACHE_LEASE_SECONDS=lease):
        print("ready", flush=True)
        for line in sys.stdin:
            print(json.dumps(crowd(**json.loads(line))), flush=True)


def crowd(*, address: str, threads: int, step: str) -> dict[str, Any]:
    from scaling_kit.cache import entries
    from scaling_kit.cache.entries import Computed

    computed: list[float] = []
    begin = threading.Barrier(threads)

    def compute() -> Computed[str]:
        computed.append(time.monotonic())
        time.sleep(SLOW_SECONDS)
        if step == "raise":
            raise ZeroDivisionError
        if step == "hang" and len(computed) == 1:
            time.sleep(4)
        if step == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return Computed(value="x", payload=b"x", refusal="cookie" if step == "refuse" else "")

    def one(_: int) -> tuple[str, float]:
        begin.wait()
        started = time.monotonic()
        try:
            where = entries.address("tests.crowd", address)
            status = entries.serve(where, compute, bytes.decode, timeout_seconds=60).status
        except ZeroDivisionError:
            status = "error"
        return status, time.monotonic() - started

    with ThreadPoolExecutor(threads) as pool:
        served = list(pool.map(one, range(threads)))
    return {
        "statuses": Counter(status for status, _ in served),
        "computed": len(computed),
        "seconds": max(seconds for _, seconds in served),
    }


if __name__ == "__main__":
    main()
