"""What of a job's bytes can be shown to people. Nothing here runs code, so nothing here unpickles."""

from __future__ import annotations

import base64
import binascii
import json
import math
import zlib
from dataclasses import dataclass
from typing import Any

from scaling_kit.jobs.job import RUN_TASK

MAX_BYTES = 256 * 1024
MAX_DEPTH = 40
MAX_TEXT = 20_000
PICKLED = b"\x80"

TOO_LARGE = f"larger than {MAX_BYTES // 1024} KiB, not shown"
UNPICKLED = "pickled, not shown"


@dataclass(frozen=True, kw_only=True)
class Value:
    """A value, or the reason why it is not shown."""

    value: Any = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Call:
    """What a job calls. `reason` says why that cannot be shown."""

    function: str = ""
    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None
    reason: str = ""


def call(data: bytes) -> Call:
    """From the field `data` of a job's hash."""
    found = json_value(_inflated(data))
    if found.reason:
        return Call(reason=found.reason)
    match found.value:
        case [str(function), _, [str(path), list(args), dict(kwargs)], dict()] if function == RUN_TASK:
            return Call(function=path, args=args, kwargs=kwargs)
        case [str(function), _, list(args), dict(kwargs)]:
            return Call(function=function, args=args, kwargs=kwargs)
    return Call(reason="not what a job looks like")


def json_value(raw: bytes) -> Value:
    """The JSON value in these bytes."""
    if len(raw) > MAX_BYTES:
        return Value(reason=TOO_LARGE)
    if raw.startswith(PICKLED):
        return Value(reason=UNPICKLED)
    try:
        return Value(value=_plain(json.loads(raw), MAX_DEPTH))
    except RecursionError:
        return Value(reason="nested too deeply, not shown")
    except ValueError as error:
        return Value(reason=f"not JSON: {error}")


def base64_value(raw: bytes) -> Value:
    """The JSON value in RQ's stream of results."""
    try:
        return json_value(base64.b64decode(raw)) if len(raw) <= 2 * MAX_BYTES else Value(reason=TOO_LARGE)
    except binascii.Error as error:
        return Value(reason=f"not base64: {error}")


def traceback(packed: bytes) -> str:
    """The text of a failure as RQ stores it."""
    try:
        return ending(text(_inflated(base64.b64decode(packed))))
    except binascii.Error:
        return ending(text(packed))


def ending(long_text: str) -> str:
    """The end of a long text, where a traceback says what happened."""
    return long_text if len(long_text) <= MAX_TEXT else f"…{long_text[-MAX_TEXT:]}"


def text(raw: bytes) -> str:
    return raw.decode(errors="replace")


def _inflated(data: bytes) -> bytes:
    """Uncompressed, one byte more than can be shown at most; as it is if it is not compressed."""
    try:
        return zlib.decompressobj().decompress(data, MAX_BYTES + 1)
    except zlib.error:
        return data


def _plain(value: Any, depth: int) -> Any:
    """The same in what every JSON parser and terminal takes: no NaN, no half of a surrogate pair, not too deep."""
    if depth == 0 and isinstance(value, list | dict):
        return "…"
    if isinstance(value, list):
        return [_plain(item, depth - 1) for item in value]
    if isinstance(value, dict):
        return {_plain(name, depth): _plain(item, depth - 1) for name, item in value.items()}
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
