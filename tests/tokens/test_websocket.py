from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, User
from django.test import override_settings

from scaling_kit.tokens import grants
from scaling_kit.tokens.users import TokenUser
from scaling_kit.tokens.websocket import TokenAuthMiddleware
from tests.tokens.conftest import Login

pytestmark = pytest.mark.django_db(transaction=True)


def scope_seen(*subprotocols: str, type_: str = "websocket") -> Any:
    """The scope that the application gets when a client offers these subprotocols."""
    seen: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    scope = {"type": type_, "path": "/", "subprotocols": list(subprotocols)}
    async_to_sync(TokenAuthMiddleware(application))(scope, None, None)  # type: ignore[arg-type]
    return seen[0]


def test_token_offered__its_user(login: Login, user: User) -> None:
    scope = scope_seen("kit.v1", f"bearer.{login()['access']}")
    assert isinstance(scope["user"], TokenUser)
    assert scope["user"] == user
    assert scope["auth"]["error"] is None
    assert scope["auth"]["expires_at"] > 0
    assert scope["auth"]["sid"]
    assert scope["subprotocols"] == ["kit.v1"], "the token cannot be echoed"


@pytest.mark.parametrize(
    ("subprotocols", "error"),
    [
        (["kit.v1"], "token_missing"),
        ([], "token_missing"),
        (["kit.v1", "bearer."], "token_malformed"),
        (["bearer.x.y.z"], "token_malformed"),
        (["bearer." + "x" * 9000], "token_too_large"),
        (["bearer.\udcff"], "token_malformed"),
    ],
)
def test_no_valid_token__anonymous_with_the_reason(subprotocols: list[str], error: str) -> None:
    scope = scope_seen(*subprotocols)
    assert isinstance(scope["user"], AnonymousUser)
    assert scope["auth"] == {"expires_at": None, "sid": None, "error": error}


def test_revoked__anonymous(login: Login, user: User) -> None:
    token = f"bearer.{login()['access']}"
    grants.end_all(user.pk)
    assert scope_seen(token)["auth"]["error"] == "token_revoked"


@override_settings(SCALING_KIT_TOKENS_FAIL_CLOSED=True, SCALING_KIT_TOKENS_REDIS_URL="redis://127.0.0.1:1/0")
def test_redis_away_and_fail_closed__anonymous(user: User) -> None:
    with override_settings(SCALING_KIT_TOKENS_REDIS_URL=""):
        access = grants.begin(user).access
    assert scope_seen(f"bearer.{access}")["auth"]["error"] == "redis_unavailable"


def test_http__passes_untouched() -> None:
    assert "user" not in scope_seen(type_="http")
