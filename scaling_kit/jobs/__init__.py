"""Background jobs: Django's Tasks API on RQ, and `manage.py runworkers`."""

from typing import Any


def __getattr__(name: str) -> Any:
    """`scaling_kit.jobs.RQBackend`, imported when it is asked for: installing the app must not need RQ."""
    if name == "RQBackend":
        from scaling_kit.jobs.backend import RQBackend

        return RQBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
