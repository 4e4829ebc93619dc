"""A Redis of the room's own that hangs, dies, and comes back empty."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings
from rest_framework.test import APIClient

from scaling_kit import embedded
from scaling_kit.testing import running, wait_until
from scaling_kit.tokens import grants
from scaling_kit.tokens.grants import Grant

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[embedded.Valkey]:
    """Not running yet."""
    server = embedded.Valkey(folder=tmp_path / "valkey", port=embedded.free_port())
    with override_settings(SCALING_KIT_TOKENS_REDIS_URL=server.url):
        yield server


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ada", password="correct horse battery staple")


def whoami(grant: Grant) -> Any:
    return APIClient().get("/whoami/", HTTP_AUTHORIZATION=f"Bearer {grant.access}").json()


def refreshed(grant: Grant) -> Any:
    return APIClient().post("/token/refresh/", {"refresh": grant.refresh}, format="json").json()


def test_redis_restarted_empty__what_was_revoked_stays_revoked(redis: embedded.Valkey, user: User) -> None:
    with running(redis):
        revoked, stands = grants.begin(user), grants.begin(user)
        grants.end(whoami(revoked)["sid"])
        assert whoami(revoked)["code"] == "token_revoked"
    assert whoami(revoked)["username"] == "ada", "nobody knows better while Redis is away"
    shutil.rmtree(redis.folder)
    with running(redis):
        wait_until(lambda: whoami(revoked).get("code") == "token_revoked")
        assert whoami(stands)["username"] == "ada"
        assert refreshed(stands)["code"] == "refresh_invalid", "its session is lost, and a new one begins at once"
        assert whoami(grants.begin(user))["username"] == "ada"


def test_redis_restarted_with_its_data__sessions_go_on(redis: embedded.Valkey, user: User) -> None:
    with running(redis):
        grant = grants.begin(user)
    assert refreshed(grant)["code"] == "redis_unavailable"
    with running(redis):
        wait_until(lambda: "access" in refreshed(grant))


@pytest.mark.timeout(60)  # with redis-py's defaults, one request would wait as long
def test_redis_hangs__requests_do_not(redis: embedded.Valkey, user: User) -> None:
    with running(redis) as process:
        grant = grants.begin(user)
        process.send_signal(signal.SIGSTOP)
        try:
            for _ in range(20):
                assert whoami(grant)["username"] == "ada"
            assert refreshed(grant)["code"] == "redis_unavailable"
        finally:
            process.send_signal(signal.SIGCONT)
        wait_until(lambda: "access" in refreshed(grant))
