"""What a gunicorn master needs of Django, done in a process of its own.

A master that imported Django, the project's settings or the rest of the kit would hand them on to every worker it
forks, and a reload would go on serving the old release. So it asks a short-lived child.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import Any


class SettingsUnavailableError(Exception):
    """The project's settings cannot be read."""


def settings() -> dict[str, Any]:
    """The SCALING_KIT_CLUSTER_* settings of the project, without their prefix. Takes about 0.3 s."""
    if "DJANGO_SETTINGS_MODULE" not in os.environ:
        raise SettingsUnavailableError("DJANGO_SETTINGS_MODULE is not set, as it is by manage.py and for systemd units")
    child = subprocess.run([*_COMMAND, "settings"], env=_environment(), capture_output=True, text=True, check=False)
    if child.returncode:
        reason = child.stderr.strip().rpartition("\n")[2]
        raise SettingsUnavailableError(f"{os.environ['DJANGO_SETTINGS_MODULE']} cannot be imported: {reason}")
    found: dict[str, Any] = json.loads(child.stdout.rpartition("\n")[2])
    return found


def forget(pid: int) -> None:
    """Take a dead process of this host off the list of members. Does not wait, and never fails."""
    with contextlib.suppress(OSError):  # no process to be had: the entry expires by itself
        subprocess.Popen([*_COMMAND, "forget", str(pid)], env=_environment(), start_new_session=True)


_COMMAND = [sys.executable, "-m", "scaling_kit.cluster.aside"]


def _environment() -> dict[str, str]:
    """The environment of this process, and what it has put on its import path (`--chdir`, `--pythonpath`)."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def main(task: str, *arguments: str) -> None:
    if task == "settings":
        from scaling_kit.cluster import conf

        names = [name.removeprefix(conf.settings.prefix) for name in conf.settings.defaults()]
        sys.stdout.write(json.dumps({name: getattr(conf.settings, name) for name in names}, default=str))
    if task == "forget":
        from scaling_kit import members

        members.forget(int(arguments[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])
