from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.checks import run_checks
from django.test import override_settings

from scaling_kit import members
from scaling_kit.checks import STATELESS

LOCAL = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
FILES = {"default": {"BACKEND": "django.core.files.storage.FileSystemStorage"}}
IN_MEMORY = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
STOCK_LAYER = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer"}}
THROTTLED = {"DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.UserRateThrottle"]}
SQLITE = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}


def ids(**options: Any) -> set[str]:
    return {message.id for message in run_checks(**options) if str(message.id).startswith("scaling_kit.")}


def stateless() -> set[str]:
    return ids(tags=[STATELESS], include_deployment_checks=True)


def test_settings_of_the_tests__stateless() -> None:
    members.Member("worker", queues=",".join(django_settings.RQ_QUEUES)).beat()
    assert stateless() == set()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"CACHES": LOCAL}, "scaling_kit.E101"),
        ({"SESSION_ENGINE": "django.contrib.sessions.backends.file"}, "scaling_kit.E102"),
        ({"SESSION_ENGINE": "django.contrib.sessions.backends.cache", "CACHES": LOCAL}, "scaling_kit.E102"),
        ({"STORAGES": FILES}, "scaling_kit.E103"),
        ({"CHANNEL_LAYERS": IN_MEMORY}, "scaling_kit.E104"),
        ({"CHANNEL_LAYERS": STOCK_LAYER}, "scaling_kit.W104"),
        ({"SCALING_KIT_REDIS_URL": "redis://127.0.0.1:1/0"}, "scaling_kit.W106"),
        ({"SECRET_KEY": "django-insecure-x"}, "scaling_kit.E107"),
        ({"REST_FRAMEWORK": THROTTLED, "CACHES": LOCAL}, "scaling_kit.E109"),
    ],
)
def test_what_breaks_with_two_processes__is_found(settings: dict[str, Any], expected: str) -> None:
    with override_settings(**settings):
        assert expected in stateless()


def test_evicting_redis__is_found(valkey_policy: str) -> None:
    assert "scaling_kit.E106" in stateless()


@pytest.fixture
def valkey_policy() -> Any:
    from scaling_kit.redis import Purpose, client

    redis = client(Purpose.SCRIPT)
    redis.config_set("maxmemory-policy", "allkeys-lru")
    yield "allkeys-lru"
    redis.config_set("maxmemory-policy", "noeviction")


@override_settings(SCALING_KIT_REDDIS_URL="redis://127.0.0.1:6379/0")
def test_misspelt_setting__names_the_nearest() -> None:
    [message] = [message for message in run_checks() if message.id == "scaling_kit.E001"]
    assert message.hint == "Did you mean SCALING_KIT_REDIS_URL?"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("SCALING_KIT_KEY_PREFIX", 7, "scaling_kit.E002"),
        ("SCALING_KIT_MEMBER_TTL_SECONDS", "15", "scaling_kit.E002"),
        ("SCALING_KIT_MEMBER_TTL_SECONDS", True, "scaling_kit.E002"),
        ("SCALING_KIT_REDIS_URL", "http://127.0.0.1", "scaling_kit.E003"),
    ],
)
def test_wrong_value__is_found(name: str, value: Any, expected: str) -> None:
    with override_settings(**{name: value}):
        assert expected in ids(tags=["scaling_kit"])


@override_settings(SCALING_KIT_MEMBER_TTL_SECONDS=15)
def test_whole_number_for_a_float__is_fine() -> None:
    assert ids(tags=["scaling_kit"]) == set()
