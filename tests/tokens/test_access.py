import base64
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from rest_framework.test import APIClient
from rest_framework_simplejwt.authentication import JWTAuthentication

from scaling_kit import recipes
from scaling_kit.redis import Purpose, client
from scaling_kit.tokens import access, keys
from tests.tokens.conftest import Login, bearer

pytestmark = pytest.mark.django_db

SECRET = django_settings.SIMPLE_JWT["SIGNING_KEY"]


def test_login_then_request__no_sql_and_one_redis_command(
    login: Login, api: APIClient, user: User, django_assert_num_queries: Any
) -> None:
    token = login()["access"]
    api.get("/whoami/", **bearer(token))  # Redis is seeded
    redis = client(Purpose.REQUEST)
    before = int(redis.client_info()["tot-cmds"])
    with django_assert_num_queries(0):
        response = api.get("/whoami/", **bearer(token))
    assert response.json()["pk"] == user.pk
    assert int(redis.client_info()["tot-cmds"]) - before - 1 == 1


def test_no_token__401_with_challenge(api: APIClient) -> None:
    response = api.get("/whoami/")
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_issued__simplejwt_takes_it_too(login: Login, user: User) -> None:
    authentication = JWTAuthentication()
    assert authentication.get_user(authentication.get_validated_token(login()["access"].encode())) == user


def test_issued__names_its_type_and_key(login: Login) -> None:
    header = jwt.get_unverified_header(login()["access"])
    assert header == {"alg": "HS256", "kid": keys.signing_key().id, "typ": "at+jwt"}


# --- the attack table -----------------------------------------------------------------------------------------------

Claims = dict[str, Any]


def signed(claims: Claims, *, secret: str = SECRET, alg: str = "HS256", **headers: Any) -> str:
    return jwt.encode(claims, secret, algorithm=alg, headers={"typ": "at+jwt", "kid": keys.signing_key().id, **headers})


def unsigned(claims: Claims, **headers: Any) -> str:
    parts = ({"alg": "none", "typ": "at+jwt", "kid": keys.signing_key().id, **headers}, claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def tampered(claims: Claims) -> str:
    header, _, signature = signed(claims).split(".")
    payload = signed({**claims, "is_superuser": True}).split(".")[1]
    return f"{header}.{payload}.{signature}"


def without(claims: Claims, name: str) -> Claims:
    return {key: value for key, value in claims.items() if key != name}


NOW = int(time.time())
ATTACKS: dict[str, tuple[str, Callable[[Claims], str]]] = {
    "alg none": ("token_algorithm", unsigned),
    "alg None in other spelling": ("token_algorithm", lambda claims: unsigned(claims, alg="nOnE")),
    "alg missing": ("token_algorithm", lambda claims: unsigned(claims, alg=None)),
    "alg is a list": ("token_algorithm", lambda claims: unsigned(claims, alg=["HS256"])),
    "another alg of the same key": ("token_algorithm", lambda claims: signed(claims, alg="HS512", secret=SECRET * 2)),
    "foreign key": ("token_signature", lambda claims: signed(claims, secret="x" * 64)),
    "unknown kid": ("token_key_unknown", lambda claims: signed(claims, kid="../../dev/null")),
    "no kid": ("token_key_unknown", lambda claims: jwt.encode(claims, SECRET)),
    "kid is a number": ("token_malformed", lambda claims: unsigned(claims, kid=7)),
    "embedded jwk": ("token_key_unknown", lambda claims: signed(claims, kid="mine", jwk={"kty": "oct", "k": "AA"})),
    "crit": ("token_malformed", lambda claims: unsigned(claims, crit=["exp"])),
    "typ JWT": ("token_type", lambda claims: signed(claims, typ="JWT")),
    "typ missing": ("token_type", lambda claims: signed(claims, typ=None)),
    "tampered payload": ("token_signature", tampered),
    "signature cut off": ("token_signature", lambda claims: signed(claims).rpartition(".")[0] + "."),
    "expired": ("token_expired", lambda claims: signed({**claims, "exp": NOW - 60})),
    "not yet valid": ("token_not_yet_valid", lambda claims: signed({**claims, "nbf": NOW + 600})),
    "issued in the future": ("token_not_yet_valid", lambda claims: signed({**claims, "iat": NOW + 600})),
    "wrong audience": ("token_audience", lambda claims: signed({**claims, "aud": "billing"})),
    "wrong issuer": ("token_issuer", lambda claims: signed({**claims, "iss": "evil"})),
    "no audience": ("token_claims", lambda claims: signed(without(claims, "aud"))),
    "no issuer": ("token_claims", lambda claims: signed(without(claims, "iss"))),
    "no sub": ("token_claims", lambda claims: signed(without(claims, "sub"))),
    "no exp": ("token_claims", lambda claims: signed(without(claims, "exp"))),
    "no epoch": ("token_claims", lambda claims: signed(without(claims, "epoch"))),
    "no jti": ("token_claims", lambda claims: signed(without(claims, "jti"))),
    "exp is text": ("token_claims", lambda claims: signed({**claims, "exp": str(NOW + 60)})),
    "exp is infinite": ("token_claims", lambda claims: signed({**claims, "exp": float("inf")})),
    "exp is a list": ("token_claims", lambda claims: signed({**claims, "exp": [1]})),
    "epoch is true": ("token_claims", lambda claims: signed({**claims, "epoch": True})),
    "sub is no key": ("token_claims", lambda claims: signed({**claims, "sub": "1 OR 1=1"})),
    "payload is a list": ("token_claims", lambda claims: jws(b"[]")),
    "payload is not JSON": ("token_claims", lambda claims: jws(b"\xff{")),
    "payload nested deep": ("token_claims", lambda claims: jws(b"[" * 2500)),
    "oversized": ("token_too_large", lambda claims: signed({**claims, "padding": "x" * 8000})),
    "one word": ("token_malformed", lambda claims: "garbage"),
    "malformed base64": ("token_malformed", lambda claims: "!!!.###.$$$"),
    "wrong padding": ("token_malformed", lambda claims: signed(claims) + "==="),
    "not ASCII": ("token_malformed", lambda claims: signed(claims) + "é"),
    "two words": ("token_malformed", lambda claims: signed(claims) + " and more"),
    "five parts, as an encrypted one": ("token_malformed", lambda claims: "e30.e30.e30.e30.e30"),
}


def jws(payload: bytes) -> str:
    headers = {"typ": "at+jwt", "kid": keys.signing_key().id}
    return jwt.PyJWS().encode(payload, SECRET, algorithm="HS256", headers=headers)


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack__refused_with_its_code(attack: str, login: Login, api: APIClient) -> None:
    code, forge = ATTACKS[attack]
    claims = jwt.decode(login()["access"], options={"verify_signature": False})
    response = api.get("/whoami/", **bearer(forge(claims)))
    assert (response.status_code, response.json()["code"]) == (401, code)
    assert response.json()["detail"]


def test_the_forger_of_the_table__can_sign_what_is_accepted(login: Login, api: APIClient) -> None:
    claims = jwt.decode(login()["access"], options={"verify_signature": False})
    assert api.get("/whoami/", **bearer(signed(claims))).status_code == 200


def test_refresh_token_as_access_token__refused(login: Login, api: APIClient) -> None:
    response = api.get("/whoami/", **bearer(login()["refresh"]))
    assert (response.status_code, response.json()["code"]) == (401, "token_malformed")


def test_other_scheme__left_to_others(api: APIClient) -> None:
    response = api.get("/whoami/", HTTP_AUTHORIZATION="Basic YTpi")
    assert (response.status_code, "code" in response.json()) == (401, False)


# --- settings -------------------------------------------------------------------------------------------------------


def test_es256__signs_with_the_private_and_verifies_with_the_public_key(user: User) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    config = {**recipes.simple_jwt(pem), "ALGORITHM": "ES256", "VERIFYING_KEY": public.decode()}
    with override_settings(SIMPLE_JWT=config):
        token = access.issue(user, session_id="s", epochs={"everyone": 0, f"user:{user.pk}": 0})
        assert access.verify(token).user_id == str(user.pk)
        confused = signed(dict(access.verify(token).claims), secret="x" * 64)  # RFC 8725, section 2.1
        with pytest.raises(access.Refusal) as refusal:
            access.verify(confused)
        assert refusal.value.code == "token_algorithm"


def test_lifetime_overridden__takes_effect_at_once(login: Login) -> None:
    config = {**django_settings.SIMPLE_JWT, "ACCESS_TOKEN_LIFETIME": timedelta(seconds=7)}
    with override_settings(SIMPLE_JWT=config):
        assert login()["expires_in"] == 7


def test_permissions_too_many__issued_without_them(user: User, caplog: pytest.LogCaptureFixture) -> None:
    epochs = {"everyone": 0, f"user:{user.pk}": 0}
    with override_settings(SCALING_KIT_TOKENS_CLAIMS="tests.tokens.test_access.many_permissions"):
        assert "permissions" not in access.verify(access.issue(user, session_id="s", epochs=epochs)).claims
    assert "permissions_left_out" in caplog.text
    with (
        override_settings(SCALING_KIT_TOKENS_CLAIMS="tests.tokens.test_access.too_much"),
        pytest.raises(ImproperlyConfigured, match="too_much"),
    ):
        access.issue(user, session_id="s", epochs=epochs)


def many_permissions(user: User) -> dict[str, Any]:
    return {"permissions": [f"app.permission_{number}" for number in range(1000)]}


def too_much(user: User) -> dict[str, Any]:
    return {"biography": "x" * 10000}
