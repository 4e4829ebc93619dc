"""Access tokens: short-lived, signed, and verified in the order of RFC 8725 without asking anyone.

Whether a valid token was revoked meanwhile is the question of `scaling_kit.tokens.revocation`.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from scaling_kit.tokens import keys, revocation
from scaling_kit.tokens.conf import access_lifetime, leeway, settings, simple_jwt
from scaling_kit.tokens.refusals import Refusal

logger = logging.getLogger(__name__)

TYPE = "at+jwt"  # RFC 9068: a token of any other kind is not an access token, whoever signed it
REQUIRED = {
    "sub": str,
    "sid": str,
    "jti": str,
    "iat": int,
    "exp": int,
    "epoch": int,
    "epoch_all": int,
}
REFUSED_BY_PYJWT: tuple[tuple[type[Exception], str], ...] = (
    (jwt.InvalidSignatureError, "token_signature"),
    (jwt.ExpiredSignatureError, "token_expired"),
    (jwt.ImmatureSignatureError, "token_not_yet_valid"),
    (jwt.InvalidIssuerError, "token_issuer"),
    (jwt.InvalidAudienceError, "token_audience"),
    (jwt.MissingRequiredClaimError, "token_claims"),
    (jwt.InvalidAlgorithmError, "token_algorithm"),
)


@dataclass(frozen=True, kw_only=True)
class AccessToken:
    """A verified access token. `expires_at` in seconds since 1970; `epochs` is what `revocation` compares."""

    user_id: str
    session_id: str
    expires_at: int
    epochs: Mapping[str, int]
    claims: Mapping[str, Any]


def issue(user: AbstractBaseUser, *, session_id: str, epochs: Mapping[str, int]) -> str:
    """A signed access token for the user. Reads what CLAIMS reads: by default permissions and groups, 3 SQL queries.

    A token that would be larger than MAX_BYTES is issued without its permissions, and that is logged; if it is too
    large even so, `ImproperlyConfigured` is raised.
    """
    read_claims: Callable[[AbstractBaseUser], dict[str, Any]] = import_string(settings.CLAIMS)
    claims = {**read_claims(user), **_registered_claims(user, session_id, epochs)}
    token = keys.sign(claims, type_=TYPE)
    if len(token) > settings.MAX_BYTES and claims.pop("permissions", None):
        logger.error("permissions_left_out user=%s token_bytes=%s max=%s", user.pk, len(token), settings.MAX_BYTES)
        token = keys.sign(claims, type_=TYPE)
    if len(token) > settings.MAX_BYTES:
        message = f"{settings.CLAIMS} makes tokens of {len(token)} bytes; SCALING_KIT_TOKENS_MAX_BYTES is less."
        raise ImproperlyConfigured(message)
    return token


def default_claims(user: Any) -> dict[str, Any]:
    """User name, staff and superuser flags, names of the groups, and the permissions of whoever is no superuser."""
    claims: dict[str, Any] = {"username": user.get_username()}
    claims |= {flag: True for flag in ("is_staff", "is_superuser") if getattr(user, flag, False)}
    if hasattr(user, "groups"):
        claims["roles"] = sorted(user.groups.values_list("name", flat=True))
    if hasattr(user, "get_all_permissions") and "is_superuser" not in claims:
        claims["permissions"] = sorted(user.get_all_permissions())
    return claims


def verify(raw: str | bytes) -> AccessToken:
    """The token, if it is one of ours and has not expired; otherwise raises `Refusal`. Asks nobody."""
    text = _text(raw)
    key = _key_of(text)
    try:
        claims = jwt.decode(
            text,
            key.verifying,
            algorithms=[key.algorithm],
            issuer=simple_jwt().ISSUER,
            audience=simple_jwt().AUDIENCE,
            leeway=leeway(),
            options={"require": list(REQUIRED), "verify_aud": simple_jwt().AUDIENCE is not None},
        )
    except jwt.InvalidTokenError as error:
        raise Refusal(_code_of(error)) from error
    return _token_of(claims)


def _registered_claims(user: AbstractBaseUser, session_id: str, epochs: Mapping[str, int]) -> dict[str, Any]:
    config, now = simple_jwt(), int(time.time())
    user_id = str(getattr(user, config.USER_ID_FIELD))
    registered = {
        "iss": config.ISSUER,
        "aud": config.AUDIENCE,
        "sub": user_id,
        "sid": session_id,
        "jti": uuid.uuid4().hex,
        "iat": now,
        "exp": now + int(access_lifetime().total_seconds()),
        "epoch": epochs[revocation.user_subject(user_id)],
        "epoch_all": epochs[revocation.EVERYONE],
        config.TOKEN_TYPE_CLAIM: "access",  # so that simplejwt's own authentication classes take it too
        config.USER_ID_CLAIM: user_id,
    }
    return {name: value for name, value in registered.items() if name and value is not None}


def _text(raw: str | bytes) -> str:
    if len(raw) > settings.MAX_BYTES:
        raise Refusal("token_too_large")
    if not raw.isascii():
        raise Refusal("token_malformed")
    return raw.decode() if isinstance(raw, bytes) else raw


def _key_of(text: str) -> keys.Key:
    """The key the token names, if the token's header is that of an access token signed with it."""
    try:
        header = jwt.get_unverified_header(text)
    except jwt.InvalidTokenError as error:
        raise Refusal("token_malformed") from error
    if "crit" in header:  # RFC 7515, section 4.1.11: it demands what we do not understand
        raise Refusal("token_malformed")
    key = keys.verifying_key(header.get("kid"))
    if key is None:
        raise Refusal("token_key_unknown")
    if header.get("alg") != key.algorithm:
        raise Refusal("token_algorithm")
    if str(header.get("typ")).lower().removeprefix("application/") != TYPE:
        raise Refusal("token_type")
    return key


def _code_of(error: jwt.InvalidTokenError) -> str:
    return next((code for cls, code in REFUSED_BY_PYJWT if isinstance(error, cls)), "token_claims")


def _token_of(claims: dict[str, Any]) -> AccessToken:
    if any(type(claims[name]) is not type_ for name, type_ in REQUIRED.items()):
        raise Refusal("token_claims")
    return AccessToken(
        user_id=claims["sub"],
        session_id=claims["sid"],
        expires_at=claims["exp"],
        epochs={
            revocation.EVERYONE: claims["epoch_all"],
            revocation.user_subject(claims["sub"]): claims["epoch"],
            revocation.session_subject(claims["sid"]): 0,
        },
        claims=claims,
    )
