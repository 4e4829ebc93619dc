"""The last minutes in small charts: numbers for scripts, and lines for an inline SVG."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scaling_kit import members
from scaling_kit.cluster import gauges, latency
from scaling_kit.members import SLOT_SECONDS

MINUTES = 10
# Slowest requests are counted together; they are drawn as this.
MOST_SECONDS = 10.0
QUEUE_AGE = "queue_age_seconds"

# In the place of a number that is not known.
NOTHING = "–"  # noqa: RUF001  (an en dash, as tables have it)

WIDTH, HEIGHT, PADDING = 240.0, 56.0, 3.0

Text = Callable[[float], str]


@dataclass(frozen=True, kw_only=True)
class Slot:
    """`seconds` from `at` on. None: nothing happened, or nobody looked."""

    at: int
    seconds: float
    requests_per_second: float
    errors_per_second: float
    p50_seconds: float | None
    p99_seconds: float | None
    deliveries_per_second: float
    hit_ratio: float | None
    queue_age_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class History:
    slots: tuple[Slot, ...]
    """The oldest first; the one of now is not among them."""
    recent: Slot
    """The last slot that is over, and the one of now."""

    def as_json(self) -> dict[str, Any]:
        return {
            "slot_seconds": SLOT_SECONDS,
            "slots": [asdict(slot) for slot in self.slots],
            "recent": asdict(self.recent),
        }


@dataclass(frozen=True, kw_only=True)
class Line:
    name: str
    path: str
    """As in the attribute `d` of SVG's <path>."""
    area: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    name: str
    title: str
    value: str
    unit: str
    note: str
    top: str
    """What the upper edge stands for."""
    lines: tuple[Line, ...]
    summary: str
    """For those who do not see it."""
    is_bad: bool = False


def fetch(*, minutes: float = MINUTES) -> History:
    """Raises `redis.RedisError`."""
    found = members.fetch_history(minutes=minutes)
    looked = gauges.fetch([at for at, _ in found])
    slots = [slot(at, SLOT_SECONDS, counted, seen) for (at, counted), seen in zip(found, looked, strict=True)]
    return History(slots=tuple(slots[:-1]), recent=_recent(found[-2:], looked[-2:]))


def slot(at: int, seconds: float, counted: Mapping[str, int], seen: Mapping[str, float]) -> Slot:
    asked = counted.get("cache.hit", 0) + counted.get("cache.miss", 0)
    return Slot(
        at=at,
        seconds=seconds,
        requests_per_second=round(counted.get("web.requests", 0) / seconds, 2),
        errors_per_second=round(counted.get("web.errors", 0) / seconds, 2),
        p50_seconds=_bounded(latency.quantile(counted, 0.5)),
        p99_seconds=_bounded(latency.quantile(counted, 0.99)),
        deliveries_per_second=round(counted.get("realtime.delivered", 0) / seconds, 2),
        hit_ratio=round(counted.get("cache.hit", 0) / asked, 3) if asked else None,
        queue_age_seconds=seen.get(QUEUE_AGE),
    )


def charts(history: History) -> list[Chart]:
    now = history.recent
    return [
        _chart(history, "requests", "Requests", {"requests": "requests_per_second"}, _rate, unit="/s"),
        _chart(
            history,
            "latency",
            "Latency",
            {"p50": "p50_seconds", "p99": "p99_seconds"},
            _at_most,
            note=f"p99 {_at_most(now.p99_seconds)}" if now.p99_seconds is not None else "no requests just now",
        ),
        _chart(
            history,
            "errors",
            "Errors",
            {"errors": "errors_per_second"},
            _rate,
            unit="/s",
            note="answers 5xx",
            is_bad=now.errors_per_second > 0,
        ),
        _chart(
            history,
            "queue_age",
            "Oldest job waits",
            {"waits": QUEUE_AGE},
            _seconds,
            note="while somebody looks",
        ),
        _chart(history, "deliveries", "Deliveries", {"deliveries": "deliveries_per_second"}, _rate, unit="/s"),
        _chart(history, "hit_ratio", "Cache hits", {"hits": "hit_ratio"}, _percent, top=1.0),
    ]


def path(values: Sequence[float | None], top: float) -> str:
    """A line through them, with a gap where there is none."""
    parts, is_drawing = [], False
    for index, value in enumerate(values):
        if value is None:
            is_drawing = False
            continue
        parts.append(f"{'L' if is_drawing else 'M'}{_x(index, len(values)):.1f} {_y(value, top):.1f}")
        if not is_drawing and (index + 1 == len(values) or values[index + 1] is None):
            parts.append("h2")  # one alone would be nothing
        is_drawing = True
    return "".join(parts)


def area(values: Sequence[float | None], top: float) -> str:
    """What is below that line."""
    runs: list[list[tuple[int, float]]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((index, value))
    return "".join(_closed(run, len(values), top) for run in runs if len(run) > 1)


def _closed(run: Sequence[tuple[int, float]], number: int, top: float) -> str:
    points = "L".join(f"{_x(index, number):.1f} {_y(value, top):.1f}" for index, value in run)
    return f"M{_x(run[0][0], number):.1f} {HEIGHT:g}L{points}L{_x(run[-1][0], number):.1f} {HEIGHT:g}Z"


def _x(index: int, number: int) -> float:
    return WIDTH * index / max(1, number - 1)


def _y(value: float, top: float) -> float:
    return HEIGHT - (HEIGHT - PADDING) * min(1.0, value / top)


def _chart(
    history: History,
    name: str,
    title: str,
    lines: Mapping[str, str],
    say: Text,
    *,
    unit: str = "",
    note: str = "",
    top: float = 0.0,
    is_bad: bool = False,
) -> Chart:
    columns = {line: [getattr(slot, field) for slot in history.slots] for line, field in lines.items()}
    known = [value for column in columns.values() for value in column if value is not None]
    now = getattr(history.recent, next(iter(lines.values())))
    highest = max(known, default=0.0)
    edge = top or _round_up(highest)
    return Chart(
        name=name,
        title=title,
        value=NOTHING if now is None else say(now),
        unit=unit if now is not None else "",
        note=note or (f"at most {say(max(highest, now or 0))}{unit}" if highest > 0 and not top else ""),
        top=f"{say(edge).removeprefix('≤ ')}{unit}",
        lines=tuple(
            Line(name=line, path=path(column, edge), area=area(column, edge)) for line, column in columns.items()
        ),
        summary=_summary(columns, say, unit),
        is_bad=is_bad,
    )


def _summary(columns: Mapping[str, Sequence[float | None]], say: Text, unit: str) -> str:
    told = []
    for name, column in columns.items():
        known = [value for value in column if value is not None]
        told.append(f"{name} between {say(min(known))} and {say(max(known))}{unit}" if known else f"{name}: none")
    return f"The last {MINUTES} minutes: {', '.join(told)}"


def _round_up(value: float) -> float:
    """To a number that is good to read: 1, 2, 2.5, 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * 0.999)


def _recent(found: Sequence[tuple[int, Mapping[str, int]]], looked: Sequence[Mapping[str, float]]) -> Slot:
    counted: Counter[str] = Counter()
    for _, each in found:
        counted.update(each)
    began = found[0][0]
    seconds = min(max(time.time() - began, SLOT_SECONDS), len(found) * SLOT_SECONDS)
    return slot(began, seconds, counted, {**looked[0], **looked[-1]})


def _bounded(seconds: float | None) -> float | None:
    return None if seconds is None else min(seconds, MOST_SECONDS)


def _rate(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def _seconds(value: float) -> str:
    if 0 < value < 1:
        return f"{1000 * value:.3g} ms"
    if value < 100:
        return f"{value:.3g} s"
    return f"{value / 60:.0f} min" if value < 6000 else f"{value / 3600:.1f} h"


def _at_most(value: float) -> str:
    """Latencies are counted in buckets: they are known to be at most so much."""
    return f"≤ {_seconds(value)}" if value < MOST_SECONDS else f"> {latency.BOUNDS_SECONDS[-3]:g} s"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}".removesuffix(".0") + " %"
