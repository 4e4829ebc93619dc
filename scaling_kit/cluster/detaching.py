"""Go on in the background, and return when it is known whether that works."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from django.core.management.base import CommandError

READY = "ready"


def run(main: Callable[[Callable[[], None]], None], *, errors: Path) -> int:
    """Call `main` in a process of its own session; return its pid when it calls what it is given.

    Raises `CommandError` with what it raised, if it ends before. `errors`: the file for what it writes past its log.
    Before the first thread is started: forks.
    """
    errors.parent.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        os.close(reading)
        _run(main, writing, errors)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    if said == READY:
        return pid
    os.waitpid(pid, 0)
    raise CommandError(said or f"It ended before it was ready; see {errors}.")


def _run(main: Callable[[Callable[[], None]], None], writing: int, errors: Path) -> NoReturn:
    def say(text: str) -> None:
        with suppress(OSError):  # said already, or nobody waits any more
            os.write(writing, text.encode())
            os.close(writing)

    status = 1
    try:
        os.setsid()
        _redirect(errors)
        main(lambda: say(READY))
        status = 0
    except CommandError as error:
        say(str(error))
    except BaseException:  # or what called us would run twice
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _redirect(errors: Path) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    file = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor, standard in ((null, 0), (file, 1), (file, 2)):
        os.dup2(descriptor, standard)
    os.close(null)
    os.close(file)
