"""`manage.py cachestatus`: what the page of the cache shows, for somebody with a terminal only."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from scaling_kit.cache import status

COLUMNS = ("view", "hit ratio", "hits", "misses", "bypassed", "entries", "current", "size")
COUNTING_SECONDS = 2.0
CLEAR_SCREEN = "\x1b[H\x1b[2J"


class Command(BaseCommand):
    help = "Hits and entries by view, what changed last, and what is wrong. Exits with 1 if Redis does not answer."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one line of JSON")
        parser.add_argument(
            "--watch", nargs="?", type=_seconds, const=2.0, metavar="SECONDS", help="again and again, until Ctrl-C"
        )

    def handle(self, *, json: bool, watch: float | None, **_: Any) -> None:
        if watch is None:
            self._show(as_json=json)
            return
        try:
            self._watch(watch, as_json=json)
        except KeyboardInterrupt:
            return

    def _show(self, *, as_json: bool) -> None:
        found = status.snapshot(seconds=COUNTING_SECONDS)
        if not found["reachable"]:
            raise CommandError(found["error"])
        self.stdout.write(json.dumps(found) if as_json else "\n".join(_lines(found)))

    def _watch(self, seconds: float, *, as_json: bool) -> None:
        while True:
            if self.stdout.isatty() and not as_json:
                self.stdout.write(CLEAR_SCREEN, ending="")
            try:
                self._show(as_json=as_json)
            except CommandError as error:  # it may come back, which is what one watches for
                self.stderr.write(str(error))
            self.stdout.flush()
            time.sleep(seconds)


def _seconds(text: str) -> float:
    seconds = float(text)
    if seconds <= 0:
        raise ValueError(text)
    return seconds


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"hit ratio {_percent(found['hit_ratio'])}: {found['hit']:,} hits, {found['miss']:,} misses"
    yield f"bypassed {found['bypass']:,}{_in_brackets(found['bypass_reasons'])}"
    yield f"refused as out of date {found['refused']:,}, invalidations {found['invalidation']:,}"
    yield f"entries {_at_least(found)}{found['current']:,} current of {found['entries']:,}, {_size(found['bytes'])}"
    yield f"Redis {_memory(**found['redis'])}"
    if found["views"]:
        yield ""
        yield from _table([COLUMNS, *map(_row, found["views"])])
    if found["latest_changes"]:
        yield "\nchanged last"
        now = time.time()
        yield from _table([(each["what"], _ago(now - each["changed_at"])) for each in found["latest_changes"]])
    if found["in_flight"]:
        yield f"\nbeing committed: {' '.join(found['in_flight'])}"
    if found["warnings"]:
        yield ""
        yield from (f"warning {each['code']}: {each['detail']}" for each in found["warnings"])


def _row(view: dict[str, Any]) -> tuple[str, ...]:
    counts = [f"{view[name]:,}" for name in ("hit", "miss", "bypass", "entries", "current")]
    return (view["label"] or "?", _percent(view["hit_ratio"]), *counts, _size(view["bytes"]))


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """The first column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        yield "  ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])])


def _in_brackets(reasons: dict[str, int]) -> str:
    shown = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
    return f" ({shown})" if shown else ""


def _at_least(found: dict[str, Any]) -> str:
    return "at least " if found["at_least"] else ""


def _memory(*, used_bytes: int | None, max_bytes: int | None, policy: str | None, evicted: int | None) -> str:
    if used_bytes is None:
        return "does not say how much memory it has"
    limit = f" of {_size(max_bytes)}" if max_bytes else ", no maxmemory"
    return f"{_size(used_bytes)}{limit}, {policy}, {evicted or 0:,} evicted"


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1%}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def _ago(seconds: float) -> str:
    for unit, length in (("s", 1), ("min", 60), ("h", 3600)):
        if seconds < 100 * length:
            return f"{max(0, seconds) / length:.0f} {unit} ago"
    return f"{seconds / 86400:.0f} days ago"
