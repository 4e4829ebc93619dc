"""Each room's libraries are an extra of the package; one that is missing is a system check, not an ImportError."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from django.core.checks import CheckMessage, Error


def missing(packages: Iterable[str]) -> list[str]:
    """Those of the packages that cannot be imported. Imports none of them."""
    return [package for package in packages if find_spec(package) is None]


def check_installed(room: str, packages: Iterable[str]) -> list[CheckMessage]:
    """For a room's E001: an error for each missing package, with the extra that brings it."""
    return [
        Error(
            f"scaling_kit.{room} needs {package}, which is not installed.",
            hint=f"pip install 'scaling-kit[{room}]'",
            id=f"scaling_kit_{room}.E001",
        )
        for package in missing(packages)
    ]
