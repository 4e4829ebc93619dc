from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

from scaling_kit import recipes
from scaling_kit.media import checks, refusals
from scaling_kit.media.conf import MediaSettings
from scaling_kit.media.formats import FORMATS, sniff


def ids() -> list[str | None]:
    return [message.id for message in checks.check_media()]


def test_as_the_recipe_says__no_complaint() -> None:
    assert ids() == []


def test_package_missing__said_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "REQUIRED", ("boto3", "no_such_package"))
    [message] = checks.check_media()
    assert message.id == "scaling_kit_media.E001"
    assert "no_such_package" in message.msg
    assert "scaling-kit[media]" in str(message.hint)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"SCALING_KIT_MEDIA_STORAGE": "nowhere"}, "E002"),
        ({"STORAGES": {"default": {"BACKEND": "django.core.files.storage.FileSystemStorage"}}}, "E002"),
        ({"STORAGES": {"default": {"BACKEND": "no.such.Storage"}}}, "E002"),
        ({"STORAGES": recipes.storages("")}, "E003"),
        ({"SCALING_KIT_MEDIA_ALLOWED_TYPES": ["image/jpeg", "image/svg+xml"]}, "E005"),
        ({"STORAGES": recipes.storages("b", public_endpoint="/s3")}, "E006"),
    ],
)
def test_misconfigured__error(settings: dict[str, Any], expected: str) -> None:
    with override_settings(**settings):
        assert ids() == [f"scaling_kit_media.{expected}"]


@pytest.mark.django_db
def test_migrations__complete() -> None:
    call_command("makemigrations", "scaling_kit_media", check=True, dry_run=True, verbosity=0)


def test_page__names_every_setting_and_code() -> None:
    page = (Path(__file__).parents[2] / "docs/media.md").read_text()
    missing = [name for name in [*MediaSettings.defaults(), *refusals.REFUSALS] if name not in page]
    assert missing == []


@pytest.mark.parametrize(
    ("first_bytes", "expected"),
    [
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n\x00", "image/png"),
        (b"GIF89a\x01", "image/gif"),
        (b"RIFF\x24\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", None),
        (b"\x00\x00\x00\x1cftypavif", "image/avif"),
        (b"\x00\x00\x00\x18ftypheic", "image/heic"),
        (b"\x00\x00\x00\x18ftypisom", "video/mp4"),
        (b"%PDF-1.7", "application/pdf"),
        (b"<html>", None),
        (b"<svg xmlns=", None),
        (b"\xff\xd8", None),
        (b"", None),
    ],
)
def test_sniffed(first_bytes: bytes, expected: str | None) -> None:
    assert sniff(first_bytes) == expected
    assert sum(known.matches(first_bytes) for known in FORMATS.values()) == bool(expected)
