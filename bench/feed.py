"""Requests per second of the photo wall's cached feed, with one web process and with two.

    python bench/feed.py [--seconds 10] [--rounds 3]

Starts the demo once, turns the number of web processes up and down between rounds (TTIN, TTOU), and asks the web
server directly, without nginx, with 16 keep-alive connections of `wrk` (Debian's package) on the same machine.
Prints the median of the rounds and every count of failed requests: it must be 0.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from scaling_kit.testing import wait_until
from tests.acceptance.demo import Demo
from tests.acceptance.wall import members

CONNECTIONS = 16


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("This needs wrk; on Debian: apt install wrk")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        demo = Demo(Path(folder), options=["--no-nginx"], PHOTO_OF_THE_MINUTE_SECONDS="60")
        demo.start()
        try:
            report(measure(demo, options.seconds, options.rounds))
        finally:
            demo.stop()
    return 0


def measure(demo: Demo, seconds: int, rounds: int) -> dict[int, list[tuple[float, int]]]:
    """Number of web processes → (requests per second, failed requests) of each round, alternating."""
    master = json.loads((demo.folder / "state.json").read_text())["processes"]["web"]["pid"]
    found: dict[int, list[tuple[float, int]]] = {1: [], 2: []}
    with httpx.Client(base_url=demo.url) as http:
        for _ in range(rounds):
            for count, rates in found.items():
                scale(http, master, count)
                rates.append(run_wrk(f"{demo.url}api/feed/", seconds))
    return found


def scale(http: httpx.Client, master: int, count: int) -> None:
    while (now := len(members(http, "web"))) != count:
        os.kill(master, signal.SIGTTIN if now < count else signal.SIGTTOU)
        wait_until(lambda before=now: len(members(http, "web")) != before, timeout_seconds=30)


def run_wrk(url: str, seconds: int) -> tuple[float, int]:
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", url]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    assert rate, out
    socket_errors = sum(int(number) for number in re.findall(r"(?:connect|read|write|timeout) (\d+)", out))
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    return float(rate[1]), socket_errors + (int(refused[1]) if refused else 0)


def report(found: dict[int, list[tuple[float, int]]]) -> None:
    medians = {count: statistics.median(rate for rate, _ in rounds) for count, rounds in found.items()}
    for count, rounds in found.items():
        every = ", ".join(f"{rate:.0f}" for rate, _ in rounds)
        failed = sum(failures for _, failures in rounds)
        print(f"{count} web process(es): {medians[count]:.0f} requests/s (rounds: {every}), {failed} failed")
    print(f"two over one: {medians[2] / medians[1]:.2f}x")


if __name__ == "__main__":
    sys.exit(main())
