"""Numbers, sizes and times as the dashboard says them."""

from __future__ import annotations

from scaling_kit.cluster.charts import NOTHING


def number(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\u202f") if value == int(value) else f"{value:g}"


def size(number_of_bytes: float) -> str:
    return f"{number_of_bytes / 1e6:.0f} MB" if number_of_bytes < 1e9 else f"{number_of_bytes / 1e9:.1f} GB"


def duration(seconds: float) -> str:
    """As scaling_kit/staff/elements.js says it, in whole numbers."""
    seconds = max(0.0, seconds)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.0f} days"


def moment(at: float | None, now: float) -> str:
    if at is None:
        return NOTHING
    return f"in {duration(at - now)}" if at > now else f"{duration(now - at)} ago"
