"""The fields of a job's hash and record, read by somebody who must not fail over what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from scaling_kit.jobs import payloads

MAX_LINE = 300


def task(raw: bytes | None) -> dict[str, Any] | None:
    value = payloads.json_value(raw).value if raw else None
    return value if isinstance(value, dict) else None


def task_name(task: Mapping[str, Any] | None, description: bytes | None) -> str:
    """The dotted path; of a plain job what its description says before the arguments."""
    name = str(task.get("path", "")) if task else payloads.text(description or b"").partition("(")[0]
    return name[:MAX_LINE]


def task_error(raw: bytes | None) -> dict[str, str]:
    error = task(raw) or {}
    traceback = payloads.ending(str(error.get("traceback", "")))
    return {"exception": str(error.get("exception_class_path", ""))[:MAX_LINE], "traceback": traceback}


def progress(raw: bytes | None) -> dict[str, Any] | None:
    found = task(raw)
    return {name: found.get(name) for name in ("done", "total", "message", "at")} if found else None


def names(raw: bytes | None) -> list[str]:
    found = payloads.json_value(raw).value if raw else []
    return [str(name) for name in found] if isinstance(found, list) else []


def moment(raw: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(payloads.text(raw))
    except (ValueError, AttributeError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def epoch(seconds: float | None) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    except (ValueError, OverflowError, OSError):
        return None


def number(raw: bytes | None) -> float | None:
    try:
        return float(raw) if raw else None
    except ValueError:
        return None


def integer(raw: Any, default: Any = 0) -> Any:
    try:
        return int(raw)
    except (ValueError, TypeError):
        return default
