"""The setting SCALING_KIT_CLUSTER_PROCESSES: how many processes of each kind `cluster up` runs, and others beside them.

{
    "web": 4,
    "workers": {"count": 8, "memory_max_mb": 300},
    "mailer": {"command": [sys.executable, "-m", "django", "send_mails"], "count": 2},
}
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from scaling_kit.cluster.conf import settings
from scaling_kit.cluster.verbs import MOST

KINDS = ("web", "websocket", "workers", "scheduler")
TAKEN = ("nginx", "runner", "all")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One entry of the setting."""

    count: int | None = None
    """None: as many as suit the kind; of others, one."""
    command: Sequence[str] = ()
    """Of a process of the project's own; the kinds of the kit have theirs."""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    memory_max_mb: int = 0
    """Above this it is replaced or restarted, losing nothing; 0 = never."""
    stop_signal: str = "SIGTERM"
    stop_seconds: float = 30.0


def of_kind(kind: str) -> Wanted:
    return _wanted(settings.PROCESSES.get(kind, {}))


def others() -> dict[str, Wanted]:
    """The project's own, by name."""
    return {name: _wanted(entry) for name, entry in settings.PROCESSES.items() if name not in KINDS}


def problems() -> Iterator[tuple[str, str]]:
    """What is wrong with the setting, and what to do about it."""
    if not isinstance(settings.PROCESSES, dict):
        yield f"{settings.PROCESSES!r} is no dictionary.", "Give numbers of processes, or dictionaries, by name."
        return
    for name, entry in settings.PROCESSES.items():
        given = _given(entry)
        if given is None:
            yield f"{name!r} is {entry!r}.", "Give a number of processes, or a dictionary."
        elif unknown := next((option for option in given if option not in _options(name)), None):
            yield (
                f"{name!r} has no option {unknown!r}.",
                f"Its options are {', '.join(_options(name))}.",
            )
        else:
            yield from _of_name(name, given)
            yield from (
                (f"{name!r} has {option}={given[option]!r}.", hint)
                for option, (is_right, hint) in _RIGHT.items()
                if option in given and not is_right(given[option])
            )


def _wanted(entry: Any) -> Wanted:
    return Wanted(**(_given(entry) or {}))


def _given(entry: Any) -> dict[str, Any] | None:
    if isinstance(entry, dict):
        return entry
    return {"count": entry} if _is_whole(entry) else None


def _options(name: str) -> list[str]:
    if name in KINDS:
        return ["count", "env", "memory_max_mb"]
    return [option.name for option in fields(Wanted)]


def _of_name(name: Any, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        yield f"{name!r} is no name for a process.", "Use small letters, digits, - and _."
    elif name in TAKEN:
        yield f"{name!r} is a name that the runner uses itself.", "Take another."
    elif name not in KINDS and not given.get("command"):
        yield f"{name!r} is none of {', '.join(KINDS)}, and has no command.", _nearest(name, KINDS)


def _nearest(name: str, known: Sequence[str]) -> str:
    nearest = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean {nearest[0]!r}?" if nearest else f"There are {', '.join(known)}."


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_texts(values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


_RIGHT: dict[str, tuple[Callable[[Any], bool], str]] = {
    "count": (lambda value: _is_whole(value) and 0 <= value <= MOST, f"A whole number from 0 to {MOST}."),
    "command": (
        lambda value: isinstance(value, list | tuple) and bool(value) and _are_texts(value),
        "A list: the program and its arguments.",
    ),
    "env": (lambda value: isinstance(value, dict) and _are_texts([*value, *value.values()]), "Texts by their names."),
    "cwd": (lambda value: isinstance(value, str), "The path of a folder, as text."),
    "memory_max_mb": (lambda value: _is_whole(value) and value >= 0, "A whole number; 0 for no limit."),
    "stop_signal": (lambda value: value in signal.Signals.__members__, "A name such as 'SIGINT'."),
    "stop_seconds": (lambda value: isinstance(value, int | float) and value >= 0, "A number of seconds."),
}
