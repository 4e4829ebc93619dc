"""`manage.py cluster drain` and `undrain`: take a host out of the balancer, stop what serves there, and back.

Works for any host from any, through Redis. What serves is stopped by the runner of that host; where there is none,
it becomes unready, and stopping it is left to what has started it.
"""

from __future__ import annotations

import argparse
import json as json_module
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.core.management.base import CommandError, CommandParser, OutputWrapper

from scaling_kit import members
from scaling_kit.cluster import marks, orders
from scaling_kit.cluster.conf import settings
from scaling_kit.redis import RedisError, UnreachableError, ensure_reachable

SERVING = ("web", "websocket")
ANSWER_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Drain:
    HELP: str = "turn /health/ready off on a host, wait for the balancer, and stop its web and websocket processes"

    def add_arguments(self, parser: CommandParser) -> None:
        _add_common_arguments(parser)
        parser.add_argument(
            "--wait",
            type=_seconds,
            metavar="SECONDS",
            help="how long to serve on unready before the stop; default: SCALING_KIT_CLUSTER_DRAIN_SECONDS, which a "
            "server that is told to stop waits by itself",
        )
        parser.add_argument("--no-stop", action="store_true", help="stop nothing: they serve on, unready")

    def run(self, *, stdout: OutputWrapper, json: bool, **options: Any) -> int:
        return _report(_answer(_drain, **options), stdout, as_json=json)


@dataclass(frozen=True, kw_only=True)
class Undrain:
    HELP: str = "the opposite of `drain`: start what it stopped, and let /health/ready say so"

    def add_arguments(self, parser: CommandParser) -> None:
        _add_common_arguments(parser)

    def run(self, *, stdout: OutputWrapper, json: bool, **options: Any) -> int:
        return _report(_answer(_undrain, **options), stdout, as_json=json)


drain = Drain()
undrain = Undrain()


def _add_common_arguments(parser: CommandParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="web, websocket; default: all that serves")
    parser.add_argument("--host", default="", help="as `cluster status` calls it; default: this one")
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time in seconds")
    return seconds


def _answer(act: Any, *, host: str, names: list[str], **options: Any) -> dict[str, Any]:
    host = host or members.host()
    wanted = {name: options[name] for name in ("wait", "no_stop") if name in options}
    try:
        ensure_reachable()
        done: dict[str, str] = act(host, names, **wanted)
    except (UnreachableError, RedisError, orders.NoAnswerError) as error:
        raise CommandError(str(error)) from error
    return {"ok": True, "host": host, "done": done}


def _drain(host: str, names: Sequence[str], *, wait: float | None, no_stop: bool) -> dict[str, str]:
    roles = _roles(host)
    if not roles:
        known = ", ".join(sorted({record["host"] for record in members.fetch_members()})) or "none"
        raise CommandError(f"No process of host {host!r} is there. Hosts that are: {known}.")
    for name in names:
        if name not in {*roles, *SERVING}:
            raise CommandError(f"Nothing of the role {name!r} is on {host}; there are {', '.join(sorted(roles))}.")
    marks.put(host, names or (marks.EVERYTHING,))
    served_by_runner = "runner" in roles and not no_stop
    # A server that a runner stops serves on for DRAIN_SECONDS by itself.
    default_wait = 0.0 if served_by_runner or no_stop else settings.DRAIN_SECONDS
    time.sleep(default_wait if wait is None else wait)
    if served_by_runner:
        return _order(host, "stop", _of_runner(host, names, stopped=False))
    return dict.fromkeys(names or sorted(roles & set(SERVING)), "unready, and serves on")


def _undrain(host: str, names: Sequence[str]) -> dict[str, str]:
    found = [mark.role for mark in marks.fetch() if mark.host == host]
    if names and marks.EVERYTHING in found:
        raise CommandError(f"All of {host} is drained: `undrain` it without names.")
    roles = _roles(host)
    marks.remove(host, names)
    started = _order(host, "start", _of_runner(host, names, stopped=True)) if found and "runner" in roles else {}
    return started or dict.fromkeys(names or found, "ready again")


def _roles(host: str) -> set[str]:
    return {record["role"] for record in members.fetch_members() if record["host"] == host}


def _of_runner(host: str, names: Sequence[str], *, stopped: bool) -> dict[str, float]:
    """Processes of the runner that serve, and are stopped or not; how long each may take to stop or start."""
    answer = _give(host, {"verb": "describe"}, ANSWER_SECONDS)
    return {
        process["name"]: process["ready_within_seconds" if stopped else "stop_within_seconds"]
        for process in answer["processes"]
        if process["name"] in (names or SERVING) and (process["state"] == "stopped") is stopped
    }


def _order(host: str, verb: str, processes: dict[str, float]) -> dict[str, str]:
    if not processes:
        return {}
    wait_seconds = ANSWER_SECONDS + sum(processes.values())
    done: dict[str, str] = _give(host, {"verb": verb, "names": list(processes)}, wait_seconds)["done"]
    return done


def _give(host: str, order: dict[str, Any], wait_seconds: float) -> dict[str, Any]:
    answer = orders.give(host, order, wait_seconds=wait_seconds)
    if not answer["ok"]:
        raise CommandError(f"The runner of {host} refused to {order['verb']}: {answer['reason']}")
    return answer


def _report(answer: dict[str, Any], stdout: OutputWrapper, *, as_json: bool) -> int:
    if as_json:
        stdout.write(json_module.dumps(answer, indent=2))
        return 0
    for name, what in answer["done"].items() or [("nothing", "to do")]:
        stdout.write(f"{answer['host']} {name}: {what}")
    return 0
