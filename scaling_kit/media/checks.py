"""System checks of the media room."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import InvalidStorageError, storages

from scaling_kit.media.conf import settings
from scaling_kit.media.formats import FORMATS

REQUIRED = ("boto3", "storages", "rest_framework")


@register("scaling_kit")
def check_media(**_: Any) -> list[CheckMessage]:
    """E001 a missing package; E002, E003, E006 the storage; E005 a type that cannot be recognised."""
    missing = [name for name in REQUIRED if find_spec(name) is None]
    if missing:
        return [_missing_packages(missing)]
    return [*_check_storage(), *_check_types()]


def _missing_packages(missing: list[str]) -> CheckMessage:
    return Error(
        f"scaling_kit.media needs packages that are not installed: {', '.join(missing)}.",
        hint="pip install 'scaling-kit[media]'",
        id="scaling_kit_media.E001",
    )


def _check_storage() -> list[CheckMessage]:
    from scaling_kit.media.storage import SharedClientS3Storage

    hint = "Use STORAGES = scaling_kit.recipes.storages(bucket, ...)."
    alias = f"STORAGES[{settings.STORAGE!r}]"
    try:
        storage = storages[settings.STORAGE]
    except (InvalidStorageError, ImproperlyConfigured, ImportError) as error:
        return [Error(f"{alias} cannot be used: {error}", hint=hint, id="scaling_kit_media.E002")]
    if not isinstance(storage, SharedClientS3Storage):
        message = f"{alias} is {type(storage).__name__}: uploads need scaling_kit.media's storage."
        return [Error(message, hint=hint, id="scaling_kit_media.E002")]
    if not storage.bucket_name:
        return [Error(f"{alias} names no bucket.", hint=hint, id="scaling_kit_media.E003")]
    if storage.public_endpoint and not (storage.endpoint_url and storage.addressing_style == "path"):
        message = f"{alias} has a public_endpoint, which needs an endpoint_url and addressing_style 'path'."
        return [Error(message, hint=hint, id="scaling_kit_media.E006")]
    return []


def _check_types() -> list[CheckMessage]:
    return [
        Error(
            f"SCALING_KIT_MEDIA_ALLOWED_TYPES has {unknown!r}, which cannot be recognised by its first bytes.",
            hint=f"Known are {', '.join(FORMATS)}.",
            id="scaling_kit_media.E005",
        )
        for unknown in settings.ALLOWED_TYPES
        if unknown not in FORMATS
    ]
