"""What the runner can be told while it runs: each verb takes an order and returns what belongs in the answer."""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from scaling_kit.cluster import master, sessions
from scaling_kit.cluster.child import Child

if TYPE_CHECKING:
    from scaling_kit.cluster.runner import Runner

POLL_SECONDS = 0.05
# So many starts in a row that did not last are enough to answer "it does not come up".
FAILED_STARTS = 2
MOST = 256
LINES = 100
ALL = "all"
# Its own lines, under whatever name it writes them.
RUNNER = "runner"
MOST_LINES = 1000


class Refusal(Exception):  # noqa: N818  (an answer, not an error of ours)
    """An order that is not carried out. `done` is what was done before."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.done: dict[str, str] = {}


class Verbs:
    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._under_way: dict[str, str] = {}
        self._verbs: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "list": self._list,
            "describe": self._describe,
            "logs": self._logs,
            "scale": self._scale,
            "reload": self._reload,
            "restart": self._restart,
            "stop": self._stop,
            "start": self._start,
            "reset": self._reset,
            "down": self._down,
        }

    async def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """Never raises."""
        try:
            return {"ok": True, **await self._verb(order)(order)}
        except Refusal as refusal:
            return {"ok": False, "code": refusal.code, "reason": refusal.reason, "done": refusal.done}
        except Exception as error:  # a fault in answering must not end the runner
            self._runner.output.event("order failed order=%r error=%r", order, error)
            return {"ok": False, "code": "internal", "reason": repr(error), "done": {}}

    async def restart(self, child: Child) -> None:
        """As the order does; not while another one about this process is under way."""
        with suppress(Refusal), self._alone([child], "restart"):
            await self._restart_one(child)

    def _verb(self, order: dict[str, Any]) -> Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]:
        name = str(order.get("verb"))
        if name not in self._verbs:
            raise Refusal("unknown_verb", f"{name!r} is none of {', '.join(self._verbs)}.")
        return self._verbs[name]

    # --- looking

    async def _list(self, _order: dict[str, Any]) -> dict[str, Any]:
        return {"processes": [_facts(child, seen) for child, seen in _seen(self._runner.children.values())]}

    async def _describe(self, order: dict[str, Any]) -> dict[str, Any]:
        return {"processes": [_everything(child, seen) for child, seen in _seen(self._named(order))]}

    async def _logs(self, order: dict[str, Any]) -> dict[str, Any]:
        names = {child.name for child in self._named(order, RUNNER)}
        if RUNNER in _names(order):
            names.add(self._runner.output.name)
        limit = min(max(_whole(order, "lines", LINES), 1), MOST_LINES)
        lines = self._runner.output.last_lines(
            names if _names(order) else (), limit=limit, after=_whole(order, "after", 0)
        )
        return {"lines": [asdict(line) for line in lines]}

    # --- changing

    async def _scale(self, order: dict[str, Any]) -> dict[str, Any]:
        wanted = order.get("names")
        if not isinstance(wanted, dict) or not wanted:
            raise Refusal("malformed", 'scale takes names and numbers: {"web": "+1", "workers": "4"}.')
        scalable = self._scalable()
        for name in wanted:
            if name not in scalable:
                raise self._unknown(name, list(scalable))
        return await self._each(wanted, lambda name: self._scale_one(scalable[name], name, str(wanted[name])))

    async def _scale_one(self, children: Sequence[Child], name: str, amount: str) -> str:
        had = children[0].count if children[0].process.workers else len(children)
        number = _number(name, amount, had)
        with self._alone(children, "scale"):
            if children[0].process.workers:
                await master.scale(children[0], number)
            else:
                await self._resize_group(children, number)
        return f"has {number} as before" if number == had else f"scaled from {had} to {number}"

    async def _resize_group(self, children: Sequence[Child], number: int) -> None:
        for _ in range(number - len(children)):
            name = _free_name(children[0].process.group, self._runner.children)
            await self._until_ready(self._runner.add(replace(children[0].process, name=name)))
        for child in children[number:]:
            await self._runner.remove(child)

    async def _reload(self, order: dict[str, Any]) -> dict[str, Any]:
        able = [child for child in self._runner.children.values() if child.process.workers or child.process.group]
        named = self._named(order)
        if not _names(order) or ALL in _names(order):
            named = [child for child in able if self._runner.is_kept(child)]
        for child in named:
            if child not in able:
                raise Refusal("not_reloadable", f"{child.name} cannot be reloaded; `restart {child.name}` stops it.")
        return await self._for_each(named, "reload", self._reload_one)

    async def _reload_one(self, child: Child) -> str:
        if child.process.workers is None:
            return await self._restart_one(child)
        try:
            return await master.reload(child, self._runner.output)
        except master.ReloadError as error:
            raise Refusal("reload_failed", f"{child.name}: {error}") from error

    async def _restart(self, order: dict[str, Any]) -> dict[str, Any]:
        return await self._for_each(self._named(order), "restart", self._restart_one)

    async def _restart_one(self, child: Child) -> str:
        if self._runner.is_kept(child):
            await self._runner.stop(child)
        self._runner.start(child)
        return f"restarted, pid {await self._until_ready(child)}"

    async def _stop(self, order: dict[str, Any]) -> dict[str, Any]:
        return await self._for_each(self._named(order), "stop", self._stop_one)

    async def _stop_one(self, child: Child) -> str:
        if not self._runner.is_kept(child):
            return f"was {child.state} already"
        await self._runner.stop(child)
        return "stopped"

    async def _start(self, order: dict[str, Any]) -> dict[str, Any]:
        return await self._for_each(self._named(order), "start", self._start_one)

    async def _start_one(self, child: Child) -> str:
        if self._runner.is_kept(child):
            return f"was {child.state} already"
        self._runner.start(child)
        return f"started, pid {await self._until_ready(child)}"

    async def _reset(self, order: dict[str, Any]) -> dict[str, Any]:
        named = self._named(order)
        for child in named:
            child.reset()
        return {"done": {child.name: "starts are counted anew" for child in named}}

    async def _down(self, _order: dict[str, Any]) -> dict[str, Any]:
        running = [child.name for child in self._runner.children.values() if self._runner.is_kept(child)]
        self._runner.stop_all("order=down")
        return {"done": dict.fromkeys(running, "stopping")}

    # --- how

    async def _for_each(
        self, children: Sequence[Child], verb: str, act: Callable[[Child], Awaitable[str]]
    ) -> dict[str, Any]:
        async def alone(name: str) -> str:
            child = self._runner.children[name]
            with self._alone([child], verb):
                return await act(child)

        return await self._each([child.name for child in children], alone)

    async def _each(
        self, names: Sequence[str] | dict[str, Any], act: Callable[[str], Awaitable[str]]
    ) -> dict[str, Any]:
        """One after another; the first that fails ends it."""
        done: dict[str, str] = {}
        for name in names:
            try:
                done[name] = await act(name)
            except Refusal as refusal:
                refusal.done = done
                raise
        return {"done": done}

    @contextmanager
    def _alone(self, children: Sequence[Child], verb: str) -> Iterator[None]:
        """Nobody else changes them meanwhile."""
        if self._runner.is_stopping:
            raise Refusal("stopping", "The runner is stopping everything.")
        names = [child.name for child in children]
        for name in names:
            if name in self._under_way:
                raise Refusal("busy", f"{name}: a {self._under_way[name]} is under way; try again when it is over.")
        self._under_way |= dict.fromkeys(names, verb)
        try:
            yield
        finally:
            for name in names:
                del self._under_way[name]

    async def _until_ready(self, child: Child) -> int | None:
        deadline = time.monotonic() + child.process.ready_within_seconds
        while not child.ready.is_set():
            if child.failed_starts >= FAILED_STARTS:
                raise Refusal(
                    "not_ready", f"{child.name} ended soon after its start with {child.last_end}; it is tried again."
                )
            if time.monotonic() > deadline:
                waited = child.process.ready_within_seconds
                raise Refusal("not_ready", f"{child.name} is not ready after {waited:.0f} s but {child.state}.")
            await asyncio.sleep(POLL_SECONDS)
        return child.pid

    def _named(self, order: dict[str, Any], *others: str) -> list[Child]:
        """The processes of these names; a group's name stands for all of it, no name for all there are."""
        children = list(self._runner.children.values())
        names = _names(order)
        known = {name for child in children for name in (child.name, child.process.group) if name} | set(others)
        if ALL in names:
            return [child for child in children if not child.process.once]
        for name in names:
            if name not in known:
                raise self._unknown(name, sorted(known))
        if not names and order.get("verb") in ("stop", "start", "restart"):
            raise Refusal("malformed", f"{order['verb']} takes the names of processes: {', '.join(sorted(known))}.")
        return [child for child in children if not names or {child.name, child.process.group} & set(names)]

    def _scalable(self) -> dict[str, list[Child]]:
        found: dict[str, list[Child]] = {}
        for child in self._runner.children.values():
            if child.process.workers or child.process.group:
                found.setdefault(child.process.group or child.name, []).append(child)
        return found

    def _unknown(self, name: str, known: Sequence[str]) -> Refusal:
        nearest = get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are {', '.join(known) or 'none'}."
        return Refusal("unknown_name", f"{name!r} is no name here: {hint}")


def _names(order: dict[str, Any]) -> list[str]:
    names = order.get("names") or []
    if not isinstance(names, list):
        raise Refusal("malformed", f"names={names!r} is not a list of names.")
    return [str(name) for name in names]


def _whole(order: dict[str, Any], name: str, default: int) -> int:
    number = order.get(name, default)
    if not isinstance(number, int):
        raise Refusal("malformed", f"{name}={number!r} is not a whole number.")
    return number


def _number(name: str, amount: str, had: int) -> int:
    if not re.fullmatch(r"[+-]?\d{1,4}", amount):
        raise Refusal("malformed", f"{name}={amount} is no number: give 4, +1 or -1.")
    number = had + int(amount) if amount[0] in "+-" else int(amount)
    if not 1 <= number <= MOST:
        stop = f" `stop {name}` stops it." if number < 1 else ""
        raise Refusal("out_of_range", f"{name}={amount} makes {number}; it must be 1 to {MOST}.{stop}")
    return number


def _free_name(group: str, taken: dict[str, Child]) -> str:
    number = 2 if group in taken else 1
    while f"{group}.{number}" in taken:
        number += 1
    return f"{group}.{number}"


def _seen(children: Collection[Child]) -> list[tuple[Child, list[sessions.Seen]]]:
    """Each with the living processes of its sessions."""
    of_child = {session: child.name for child in children for session in child.sessions}
    found: dict[str, list[sessions.Seen]] = defaultdict(list)
    for seen in sessions.members(of_child.keys()):  # one look at all, which takes milliseconds
        found[of_child[seen.session]].append(seen)
    return [(child, found[child.name]) for child in children]


def _facts(child: Child, seen: Sequence[sessions.Seen]) -> dict[str, Any]:
    return {
        "name": child.name,
        **child.facts(),
        "workers": child.count or None,
        "rss_bytes": sum(each.rss_bytes for each in seen),
        "cpu_seconds": round(sum(each.cpu_seconds for each in seen), 2),
    }


def _everything(child: Child, seen: Sequence[sessions.Seen]) -> dict[str, Any]:
    process = child.process
    return _facts(child, seen) | {
        "pids": sorted(each.pid for each in seen),
        "last_end": child.last_end or None,
        "failed_starts": child.failed_starts,
        "command": child.command,
        "folder": str(process.folder) if process.folder else None,
        "user": process.user,
        "group": process.group or None,
        "sockets": [str(held.getsockname()) for held in process.sockets],
        "after": list(process.after),
        "once": process.once,
        "required": process.required,
        "memory_max_mb": process.memory_max_mb or None,
        "restarts": asdict(process.restarts),
        "stop_signal": process.stop_signal.name,
        "stop_within_seconds": process.stop_within_seconds,
        "ready_within_seconds": process.ready_within_seconds,
    }
