"""Times and tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable


def duration(seconds: float) -> str:
    """The two largest units: `3 d 4 h`."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def table(rows: Iterable[list[str]]) -> list[str]:
    """Lines of cells of one width, indented."""
    found = list(rows)
    widths = [max(map(len, column)) for column in zip(*found, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in found]
