#!/usr/bin/env python
import os
import sys
from pathlib import Path


def use_servers_of_the_running_demo() -> None:
    """So that a command in another terminal, such as `cluster status`, speaks to those that `make demo` has started."""
    from scaling_kit.cluster import run_folder

    folder = Path(os.environ.get("DEMO_RUN_FOLDER") or Path(__file__).parent / ".run")
    state = run_folder.read_state(folder) or {}
    for name, value in state.get("environment", {}).items():
        os.environ.setdefault(name, value)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")
    if os.environ["DJANGO_SETTINGS_MODULE"] == "demo_project.settings":
        use_servers_of_the_running_demo()
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
