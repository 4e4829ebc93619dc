"""Two hundred requests for one cold entry, in four processes of fifty threads."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from scaling_kit.redis import Purpose, client
from scaling_kit.testing import die_with_parent, wait_until

ROOT = Path(__file__).parents[2]
PREFIX = "test-stampede"
THREADS = 50
LEASE_SECONDS = 2.0
# Wait for the lease, then compute; the machine may be busy with the threads of all.
BOUND_SECONDS = LEASE_SECONDS + 1.5
addresses = (f"address {number}" for number in count())


class Crowd:
    """One process of `cache_crowd.py`."""

    def __init__(self, prefix: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.acceptance.cache_crowd", prefix, str(LEASE_SECONDS)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )

    def read_line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def tell(self, **order: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


Ask = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def crowds(valkey: None) -> Iterator[list[Crowd]]:
    with ExitStack() as stack:
        started = [Crowd(PREFIX) for _ in range(4)]
        for crowd in started:
            stack.callback(crowd.end)
        for crowd in started:
            assert crowd.read_line() == "ready\n"
            # One after the other: fifty threads open fifty connections, which on a busy machine may take too long.
            crowd.tell(address="warm-up", threads=THREADS, step="slow")
            crowd.read_line()
        yield started


@pytest.fixture
def ask(crowds: list[Crowd]) -> Ask:
    """Have them all want the same new entry, the first one first; what each has seen that lives to tell."""

    def ask(first: str, *others: str) -> list[dict[str, Any]]:
        address = next(addresses)
        crowds[0].tell(address=address, threads=THREADS, step=first)
        wait_until(lambda: list(client(Purpose.SCRIPT).scan_iter(f"{PREFIX}*:claim:*")), what="the first one computes")
        for crowd, step in zip(crowds[1:], others, strict=True):
            crowd.tell(address=address, threads=THREADS, step=step)
        answers = [crowd.read_line() for crowd in crowds]
        return [json.loads(answer) for answer in answers if answer]

    return ask


def total(found: list[dict[str, Any]]) -> Counter[str]:
    return sum((Counter(one["statuses"]) for one in found), Counter())


def longest(found: list[dict[str, Any]]) -> float:
    return max(one["seconds"] for one in found)


def test_cold_entry__one_computation(ask: Ask) -> None:
    found = ask("slow", "slow", "slow", "slow")
    assert total(found) == {"miss": 1, "hit": 199}
    assert sum(one["computed"] for one in found) == 1


def test_computation_raises__another_process_takes_its_turn(ask: Ask) -> None:
    first, *others = ask("raise", "slow", "slow", "slow")
    assert first["statuses"]["error"] >= 1
    assert set(total(others)) <= {"hit", "miss"}
    assert longest([first, *others]) < BOUND_SECONDS


def test_computation_hangs__one_other_computes_after_half_of_the_lease(ask: Ask) -> None:
    first, *others = ask("hang", "slow", "slow", "slow")
    assert total([first, *others]) == {"miss": 2, "hit": 198}
    assert longest(others) < BOUND_SECONDS < first["seconds"]


def test_nothing_to_store__nobody_waits_for_ever(ask: Ask) -> None:
    found = ask("refuse", "refuse", "refuse", "refuse")
    assert total(found) == {"bypass;cookie": 200}
    assert longest(found) < BOUND_SECONDS


def test_process_of_the_computation_dies__one_other_computes_after_half_of_the_lease(ask: Ask) -> None:
    found = ask("die", "slow", "slow", "slow")  # the last test: it costs a process
    assert len(found) == 3
    assert total(found) == {"miss": 1, "hit": 149}
    assert longest(found) < BOUND_SECONDS
