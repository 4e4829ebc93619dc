"""How the last reload of a gunicorn master went: a file that whoever asked for it reads."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Outcome:
    number: int
    """Of the reload, from 1; a later one has a higher number."""
    state: Literal["running", "done", "aborted"]
    reason: str = ""
    """Why it was aborted: `configuration: ...`, `boot_failed: ...` or `timeout: ...`."""


def path(control_socket: str) -> Path:
    return Path(f"{control_socket}.reload")


def write(file: Path, outcome: Outcome) -> None:
    """Replace the file, so that nobody reads half of it. Raises OSError."""
    new = file.with_name(f"{file.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        json.dump({**asdict(outcome), "at": time.time()}, stream)
    new.replace(file)
