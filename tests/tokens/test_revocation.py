from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone
from rest_framework.test import APIClient

from scaling_kit.redis import Purpose, client
from scaling_kit.tokens import grants, revocation
from scaling_kit.tokens.models import Revocation
from tests.tokens.conftest import PASSWORD, Login, bearer

pytestmark = pytest.mark.django_db(transaction=True)

AWAY = "redis://127.0.0.1:1/0"


def code(api: APIClient, access: str) -> str | None:
    answer: str | None = api.get("/whoami/", **bearer(access)).json().get("code")
    return answer


def test_logout__this_session_only(login: Login, api: APIClient) -> None:
    here, there = login(), login()
    assert api.post("/token/logout/", {"refresh": here["refresh"]}, format="json").status_code == 204
    assert code(api, here["access"]) == "token_revoked"
    assert code(api, there["access"]) is None
    response = api.post("/token/refresh/", {"refresh": here["refresh"]}, format="json")
    assert response.json()["code"] == "refresh_invalid"


def test_logout__by_access_token_and_again(login: Login, api: APIClient) -> None:
    tokens = login()
    assert api.post("/token/logout/", **bearer(tokens["access"])).status_code == 204
    assert api.post("/token/logout/", **bearer(tokens["access"])).json()["code"] == "token_revoked"
    again = api.post("/token/logout/", {"refresh": tokens["refresh"]}, format="json")
    assert again.status_code == 204, "RFC 7009: logged out already"
    assert api.post("/token/logout/").json()["code"] == "token_missing"


def test_logout_all__every_session_of_the_user_and_not_the_next(login: Login, api: APIClient) -> None:
    tokens = [login(), login()]
    assert api.post("/token/logout-all/", **bearer(tokens[0]["access"])).status_code == 204
    assert [code(api, each["access"]) for each in tokens] == ["token_revoked"] * 2
    refused = api.post("/token/refresh/", {"refresh": tokens[1]["refresh"]}, format="json")
    assert refused.json()["code"] == "session_revoked"
    assert code(api, login()["access"]) is None, "in the same second"


def test_everyone_revoked__everyone(login: Login, api: APIClient) -> None:
    User.objects.create_user("grace", password=PASSWORD)
    tokens = [login(), login("grace")]
    revocation.revoke(revocation.EVERYONE)
    assert [code(api, each["access"]) for each in tokens] == ["token_revoked"] * 2
    assert code(api, login()["access"]) is None


def deactivate(user: User) -> None:
    user.is_active = False
    user.save()


def change_password(user: User) -> None:
    user.set_password("another")
    user.save()


@pytest.mark.parametrize("change", [deactivate, change_password, User.delete])
def test_account_changed__tokens_void_with_the_commit(change: Any, login: Login, api: APIClient, user: User) -> None:
    tokens = login()
    with transaction.atomic():
        change(user)
        assert code(api, tokens["access"]) is None
    assert code(api, tokens["access"]) == "token_revoked"
    assert api.post("/token/refresh/", {"refresh": tokens["refresh"]}, format="json").status_code == 401


def test_account_changed_and_rolled_back__tokens_stand(login: Login, api: APIClient, user: User) -> None:
    tokens = login()
    with transaction.atomic():
        change_password(user)
        transaction.set_rollback(True)
    assert code(api, tokens["access"]) is None
    assert api.post("/token/refresh/", {"refresh": tokens["refresh"]}, format="json").status_code == 200


def test_account_saved_otherwise_or_hash_upgraded__tokens_stand(login: Login, api: APIClient, user: User) -> None:
    tokens = login()
    user.first_name = "Ada"
    user.save()
    with override_settings(
        PASSWORD_HASHERS=[
            "django.contrib.auth.hashers.PBKDF2PasswordHasher",
            "django.contrib.auth.hashers.MD5PasswordHasher",
        ]
    ):
        login()
    assert User.objects.get(pk=user.pk).password.startswith("pbkdf2")
    assert code(api, tokens["access"]) is None


def test_redis_lost_its_data__still_revoked(login: Login, api: APIClient) -> None:
    logged_out, stands = login(), login()
    api.post("/token/logout/", **bearer(logged_out["access"]))
    for name in client(Purpose.SCRIPT).scan_iter(revocation.epoch_key("*")):
        client(Purpose.SCRIPT).delete(name)
    assert code(api, logged_out["access"]) == "token_revoked"
    assert code(api, stands["access"]) is None


def test_redis_away__valid_tokens_pass(login: Login, api: APIClient) -> None:
    tokens = login()
    with override_settings(SCALING_KIT_TOKENS_REDIS_URL=AWAY):
        assert code(api, tokens["access"]) is None


def test_redis_away_and_fail_closed__503(login: Login, api: APIClient) -> None:
    tokens = login()
    with override_settings(SCALING_KIT_TOKENS_REDIS_URL=AWAY, SCALING_KIT_TOKENS_FAIL_CLOSED=True):
        response = api.get("/whoami/", **bearer(tokens["access"]))
    assert (response.status_code, response.json()["code"]) == (503, "redis_unavailable")
    assert response.headers["Retry-After"] == "1"


def test_redis_away__login_refresh_and_logout_503(login: Login, api: APIClient) -> None:
    tokens = login()
    with override_settings(SCALING_KIT_TOKENS_REDIS_URL=AWAY):
        answers = [
            api.post("/token/", {"username": "ada", "password": PASSWORD}, format="json"),
            api.post("/token/refresh/", {"refresh": tokens["refresh"]}, format="json"),
            api.post("/token/logout/", {"refresh": tokens["refresh"]}, format="json"),
            api.post("/token/logout-all/", **bearer(tokens["access"])),
        ]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(503, "redis_unavailable")] * 4


def test_revoked_while_redis_was_away__in_force_when_it_is_back(login: Login, api: APIClient, user: User) -> None:
    tokens = login()
    assert code(api, tokens["access"]) is None
    with override_settings(SCALING_KIT_TOKENS_REDIS_URL=AWAY):
        change_password(user)
        assert code(api, tokens["access"]) is None
    assert code(api, tokens["access"]) == "token_revoked"


def test_database_away__503(login: Login, api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    token = login()["refresh"]
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    try:
        response = api.post("/token/refresh/", {"refresh": token}, format="json")
    finally:
        connection.close()
    assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")


def test_parallel_revocations__each_counts(user: User) -> None:
    def revoke(_: int) -> None:
        try:
            grants.end_all(user.pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(revoke, range(8)))
    subject = revocation.user_subject(user.pk)
    recorded = Revocation.objects.get(subject=subject).epoch
    assert client(Purpose.SCRIPT).get(revocation.epoch_key(subject)) == str(recorded)


def test_database_restored_from_before__revocation_takes_effect(login: Login, api: APIClient, user: User) -> None:
    grants.end_all(user.pk)
    Revocation.objects.all().delete()
    tokens = login()
    assert code(api, tokens["access"]) is None
    grants.end_all(user.pk)
    assert code(api, tokens["access"]) == "token_revoked"


def test_rows_of_sessions_long_gone__swept_at_the_next_logout(user: User) -> None:
    long_ago = timezone.now() - timedelta(days=100)
    for subject in ("session:old", "user:old"):
        Revocation.objects.create(subject=subject, epoch=1, revoked_at=long_ago)
    grants.end("new")
    assert set(Revocation.objects.values_list("subject", flat=True)) == {"session:new", "user:old"}


@override_settings(SCALING_KIT_TOKENS_REFRESH_GRACE_SECONDS=-1)
def test_atomic_requests__a_refusal_does_not_take_the_revocation_back(
    login: Login, api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    first = {"refresh": login()["refresh"]}
    codes = [api.post("/token/refresh/", first, format="json").json().get("code") for _ in range(2)]
    assert codes == [None, "refresh_reused"]
    assert Revocation.objects.filter(subject__startswith="session:").exists()
