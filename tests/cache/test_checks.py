from pathlib import Path

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from scaling_kit.cache.checks import check_durations, check_first_level, check_tenant
from scaling_kit.cache.conf import CacheSettings

PAGE = (Path(__file__).parents[2] / "docs" / "cache.md").read_text()


@pytest.mark.parametrize("name", ["TIMEOUT_SECONDS", "LEASE_SECONDS", "MAX_ENTRY_BYTES"])
def test_not_positive__named(name: str) -> None:
    with override_settings(**{f"SCALING_KIT_CACHE_{name}": 0}):
        [error] = check_durations()
    assert error.id == "scaling_kit_cache.E002"
    assert name in error.msg


def test_first_level_of_less_than_nothing__named() -> None:
    with override_settings(SCALING_KIT_CACHE_NEARBY_BYTES=-1):
        [error] = check_first_level()
    assert error.id == "scaling_kit_cache.E006"


@pytest.mark.parametrize("path", ["tests.cache.nowhere", "tests.cache.test_checks.PAGE"])
def test_tenant_that_is_no_function__named(path: str) -> None:
    with override_settings(SCALING_KIT_CACHE_TENANT=path):
        [error] = check_tenant()
    assert error.id == "scaling_kit_cache.E007"
    assert path in error.msg


def test_defaults__no_complaints() -> None:
    assert [found for found in run_checks() if "cache" in str(found.id)] == []


@pytest.mark.parametrize(("name", "default"), CacheSettings.defaults().items())
def test_documented(name: str, default: object) -> None:
    [row] = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}`")]
    shown = f'"{default}"' if isinstance(default, str) else str(default).replace("'", '"')
    assert f"`{shown}`" in row
