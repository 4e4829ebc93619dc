from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.checks import run_checks
from django.core.management import call_command
from django.test import override_settings

from scaling_kit.tokens import checks, conf, refusals, status


def found(**settings: Any) -> list[str | None]:
    with override_settings(**settings):
        return [message.id for message in run_checks(tags=["scaling_kit_tokens"])]


def simple_jwt(**changes: Any) -> dict[str, Any]:
    return {**django_settings.SIMPLE_JWT, **changes}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"SIGNING_KEY": "short"}, ["scaling_kit_tokens.E002"]),
        ({"SIGNING_KEY": ""}, ["scaling_kit_tokens.E002"]),
        ({"ALGORITHM": "ES256"}, ["scaling_kit_tokens.E003"]),
        ({"ALGORITHM": "none"}, ["scaling_kit_tokens.E003"]),
        ({"ISSUER": None}, ["scaling_kit_tokens.E004"]),
        ({"AUDIENCE": ""}, ["scaling_kit_tokens.E004"]),
        ({"ACCESS_TOKEN_LIFETIME": timedelta(hours=2)}, ["scaling_kit_tokens.W005"]),
    ],
)
def test_simple_jwt__checked(changes: dict[str, Any], expected: list[str]) -> None:
    assert found(SIMPLE_JWT=simple_jwt(**changes)) == expected


def test_claims_not_importable__found() -> None:
    assert found(SCALING_KIT_TOKENS_CLAIMS="no.such.function") == ["scaling_kit_tokens.E006"]


def test_extra_missing__found_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    assert found() == ["scaling_kit_tokens.E001"]


@pytest.mark.django_db
def test_migrations__complete() -> None:
    call_command("makemigrations", "scaling_kit_tokens", check=True, dry_run=True, stdout=StringIO())


def test_docs__name_every_setting_and_every_code() -> None:
    page = Path(__file__).parents[2].joinpath("docs/tokens.md").read_text()
    names = [*conf.TokensSettings.defaults(), *refusals.REASONS]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_status__whether_revocations_can_be_looked_up() -> None:
    snapshot = status.snapshot()
    assert snapshot["algorithm"] == "HS256"
    assert snapshot["revocations_known"] is False
    with override_settings(SCALING_KIT_TOKENS_REDIS_URL="redis://127.0.0.1:1/0"):
        assert status.snapshot()["revocations_known"] is False
