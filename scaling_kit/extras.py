"""Each room's libraries are an extra of the package; one that is missing is a system check, not an ImportError."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.urls import NoReverseMatch, reverse


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


def check_page(room: str, number: str) -> list[CheckMessage]:
    """For a room with a page for the staff: an error if the URLconf has it, and the app of the hall is missing."""
    if apps.is_installed("scaling_kit") or not getattr(settings, "ROOT_URLCONF", ""):
        return []
    try:
        address = reverse(f"scaling_kit_{room}:page")
    except NoReverseMatch:
        return []
    return [
        Error(
            f"The page at {address} needs the templates and static files of the app scaling_kit.",
            hint='Add "scaling_kit" to INSTALLED_APPS.',
            id=f"scaling_kit_{room}.{number}",
        )
    ]
