from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import override_settings
from rest_framework.test import APIClient

from scaling_kit.redis import Purpose, client, key
from scaling_kit.testing import wait_until
from scaling_kit.tokens import grants, sessions
from scaling_kit.tokens.authentication import authenticate
from scaling_kit.tokens.sessions import RefreshToken, Session
from scaling_kit.tokens.signals import refresh_reused
from tests.tokens.conftest import Login, bearer

pytestmark = pytest.mark.django_db


def refresh(api: APIClient, token: Any) -> tuple[int, dict[str, Any]]:
    response = api.post("/token/refresh/", {"refresh": token}, format="json")
    assert response.headers["Cache-Control"] == "no-store"
    return response.status_code, response.json()


def test_refresh__new_pair_that_works(login: Login, api: APIClient) -> None:
    first = login()
    status, second = refresh(api, first["refresh"])
    assert (status, second["expires_in"]) == (200, 300)
    assert second["refresh"] != first["refresh"]
    assert api.get("/whoami/", **bearer(second["access"])).status_code == 200
    assert refresh(api, second["refresh"])[0] == 200


def test_refresh_replayed_within_the_grace__same_successor(login: Login, api: APIClient) -> None:
    first = login()["refresh"]
    assert refresh(api, first)[1]["refresh"] == refresh(api, first)[1]["refresh"]


@override_settings(SCALING_KIT_TOKENS_REFRESH_GRACE_SECONDS=-1)
def test_refresh_replayed__kills_the_family(login: Login, api: APIClient) -> None:
    reused: list[Session] = []

    def remember(session: Session, **_: Any) -> None:
        reused.append(session)

    refresh_reused.connect(remember)
    first = login()["refresh"]
    second = refresh(api, first)[1]
    assert refresh(api, first)[1]["code"] == "refresh_reused"
    assert refresh(api, second["refresh"])[1]["code"] == "refresh_invalid"
    assert api.get("/whoami/", **bearer(second["access"])).json()["code"] == "token_revoked"
    assert [session.id for session in reused] == [RefreshToken.parse(first).session_id]


def test_grandparent_replayed_even_within_the_grace__kills_the_family(login: Login, api: APIClient) -> None:
    first = login()["refresh"]
    second = refresh(api, first)[1]["refresh"]
    third = refresh(api, second)[1]["refresh"]
    assert refresh(api, first)[1]["code"] == "refresh_reused"
    assert refresh(api, third)[1]["code"] == "refresh_invalid"


def test_parallel_refreshes__one_successor() -> None:
    token = sessions.open_session("7", {"everyone": 0, "user:7": 0})
    with ThreadPoolExecutor(8) as pool:
        successors = set(pool.map(lambda _: str(sessions.rotate(token)), range(32)))
    assert len(successors) == 1


def test_session_id_known__neither_refreshes_nor_ends_the_session(login: Login, api: APIClient) -> None:
    tokens = login()
    sid = api.get("/whoami/", **bearer(tokens["access"])).json()["sid"]
    assert refresh(api, f"{sid}.{'x' * 43}")[1]["code"] == "refresh_invalid"
    assert refresh(api, tokens["refresh"])[0] == 200


def test_what_redis_holds__refreshes_nothing(login: Login, api: APIClient) -> None:
    first = login()["refresh"]
    second = refresh(api, first)[1]["refresh"]
    record = client(Purpose.SCRIPT).hgetall(key("tokens", "session", RefreshToken.parse(first).session_id))
    secrets = {*first.split("."), *second.split(".")}
    assert not secrets & set(record.values())  # type: ignore[union-attr]


@pytest.mark.parametrize("token", ["", ".", "a.", ".b", "a", "a.b", "é.b", "a." + "b" * 200, "a.b.c", 7, None, ["a.b"]])
def test_malformed_refresh_token__4xx(token: Any, api: APIClient) -> None:
    status, body = refresh(api, token)
    assert (status, body["code"]) in {(401, "refresh_invalid"), (400, "request_invalid")}


def test_access_token_as_refresh_token__refused(login: Login, api: APIClient) -> None:
    assert refresh(api, login()["access"]) == (401, refresh(api, "a.b")[1])


def test_roles__read_again_at_refresh_only(login: Login, api: APIClient, user: User) -> None:
    tokens = login()
    User.objects.filter(pk=user.pk).update(is_staff=True)
    assert not authenticate(tokens["access"])[0].is_staff
    assert authenticate(refresh(api, tokens["refresh"])[1]["access"])[0].is_staff


@pytest.mark.parametrize(
    "change", [lambda users: users.update(is_active=False), lambda users: users._raw_delete("default")]
)
def test_user_gone_behind_the_back_of_signals__401_at_refresh(
    change: Any, login: Login, api: APIClient, user: User
) -> None:
    tokens = login()
    change(User.objects.filter(pk=user.pk))
    assert refresh(api, tokens["refresh"])[1]["code"] == "user_inactive"
    assert refresh(api, tokens["refresh"])[1]["code"] == "refresh_invalid"


def test_unused_for_the_refresh_lifetime__ended(login: Login, api: APIClient) -> None:
    with override_settings(
        SIMPLE_JWT={**django_settings.SIMPLE_JWT, "REFRESH_TOKEN_LIFETIME": timedelta(seconds=0.05)}
    ):
        token = login()["refresh"]
        wait_until(lambda: refresh(api, token)[0] == 401 or None)


def test_refreshed_until_the_session_lifetime__ended(login: Login, api: APIClient) -> None:
    with override_settings(SCALING_KIT_TOKENS_SESSION_LIFETIME=timedelta(seconds=1)):
        token = login()["refresh"]
    session = key("tokens", "session", RefreshToken.parse(token).session_id)
    assert refresh(api, token)[0] == 200
    assert client(Purpose.SCRIPT).pttl(session) <= 1000, "a refresh does not prolong it"


def test_wrong_password__401_like_an_unknown_user(user: User, api: APIClient) -> None:
    known = api.post("/token/", {"username": "ada", "password": "wrong"}, format="json")
    unknown = api.post("/token/", {"username": "nobody", "password": "wrong"}, format="json")
    assert (known.status_code, known.json()) == (unknown.status_code, unknown.json())
    assert known.json()["code"] == "credentials_invalid"
    assert known.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"7", b'{"username": {}}', b'{"username":"a\\u0000","password":"b"}', b"\xff"]
)
def test_malformed_login__400(body: bytes, api: APIClient) -> None:
    response = api.generic("POST", "/token/", body, content_type="application/json")
    assert (response.status_code, response.json()["code"]) == (400, "request_invalid")
    assert response.json()["fields"]


def test_wrong_method_or_media_type__4xx_with_code(api: APIClient) -> None:
    assert api.get("/token/").json()["code"] == "method_not_allowed"
    assert api.post("/token/", b"x", content_type="text/plain").json()["code"] == "unsupported_media_type"


def test_password_changed_while_it_was_checked__no_session(user: User) -> None:
    checked = User.objects.get(pk=user.pk)
    user.set_password("another")
    user.save()
    with pytest.raises(grants.Refusal, match="No active account"):
        grants.begin(checked)
