"""What the runner of each host says of the processes it keeps running, asked through Redis, all hosts at once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from scaling_kit.cluster import orders
from scaling_kit.redis import key

WAIT_SECONDS = 1.5
POLL_SECONDS = 0.02
MOST_AT_ONCE = 16
# Many people may look: a host is asked once in this time by each process that answers them.
BELIEVED_SECONDS = 1.0
# A runner that once does not answer in time is believed to be as it was.
BELIEVED_SILENT_SECONDS = 6.0

FACTS = ("name", "state", "pid", "starts", "since", "workers", "rss_bytes", "cpu_seconds")
MORE_FACTS = ("group", "once", "last_end", "pids")


@dataclass(frozen=True, kw_only=True)
class Runner:
    """`processes` as in `cluster describe`, without what is for its host alone: commands, folders, users."""

    host: str
    processes: tuple[Mapping[str, Any], ...] = ()
    error: str = ""
    """Why there are none, in words."""


def fetch(hosts: Iterable[str]) -> dict[str, Runner]:
    """By host. Takes WAIT_SECONDS at most, if a runner does not answer. Raises `redis.RedisError`."""
    wanted = list(hosts)
    unknown = [host for host in wanted if _age(host) > BELIEVED_SECONDS]
    if unknown:
        with ThreadPoolExecutor(max_workers=min(len(unknown), MOST_AT_ONCE)) as asking:
            for runner in asking.map(_ask, unknown):
                if not runner.error or _age(runner.host) > BELIEVED_SILENT_SECONDS:
                    _known[_name(runner.host)] = (time.monotonic(), runner)
    return {host: _known[_name(host)][1] for host in wanted}


_known: dict[str, tuple[float, Runner]] = {}


def forget() -> None:
    """Ask again, since something was changed."""
    _known.update({name: (asked_at - BELIEVED_SECONDS, runner) for name, (asked_at, runner) in _known.items()})


def _age(host: str) -> float:
    known = _known.get(_name(host))
    return time.monotonic() - known[0] if known else float("inf")


def _name(host: str) -> str:
    return key("cluster", "runner", host)  # of another prefix, another cluster


def _ask(host: str) -> Runner:
    answer = wait_for_answer(orders.send(host, {"verb": "describe"}, within_seconds=WAIT_SECONDS), WAIT_SECONDS)
    if answer is None:
        return Runner(host=host, error=f"its runner has not answered within {WAIT_SECONDS:g} s")
    if not answer.get("ok"):
        return Runner(host=host, error=str(answer.get("reason", "its runner refuses to say")))
    return Runner(host=host, processes=tuple(_facts(process) for process in answer["processes"]))


def wait_for_answer(order_id: str, seconds: float) -> dict[str, Any] | None:
    """Not with a blocking command: if Redis hangs, that would hang as well. Raises `redis.RedisError`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = orders.fetch_answer(order_id)
        if answer is not None or time.monotonic() > deadline:
            return answer
        time.sleep(POLL_SECONDS)


def _facts(process: Mapping[str, Any]) -> dict[str, Any]:
    return {name: process.get(name) for name in (*FACTS, *MORE_FACTS)}
