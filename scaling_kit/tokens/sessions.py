"""Sessions: what a refresh token stands for, from log-in to log-out.

A refresh token is `family.secret`, both random. `family` stays the same for the life of the session, and the session's
id is its hash, so that the id (which access tokens show) neither refreshes a session nor ends it. `secret` is good
once. Redis holds hashes only: whoever reads Redis cannot refresh.

Used again, a secret that had its turn ends the session, since two hold it and one of them may be a thief. Except
within REFRESH_GRACE_SECONDS for the last one: a client that lost the reply gets the same reply again. The successor
lies in Redis for that, sealed with the secret before it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import redis
from jwt.utils import base64url_decode, base64url_encode

from scaling_kit.redis import Purpose, Script, client, key
from scaling_kit.tokens import revocation
from scaling_kit.tokens.conf import refresh_lifetime, retention, settings
from scaling_kit.tokens.refusals import Refusal

ROTATE = Script.beside(__file__, "session_rotate", idempotent=True)
MAX_LENGTH = 128  # of a refresh token; ours have 87 characters


@dataclass(frozen=True, kw_only=True)
class RefreshToken:
    """The two parts of a refresh token; `str()` is what the client holds."""

    family: str = field(repr=False)
    secret: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> RefreshToken:
        family, dot, secret = text.partition(".")
        if not (family and dot and secret and text.isascii() and len(text) <= MAX_LENGTH):
            raise Refusal("refresh_invalid")
        return cls(family=family, secret=secret)

    @classmethod
    def fresh(cls, family: str = "") -> RefreshToken:
        return cls(family=family or secrets.token_urlsafe(32), secret=secrets.token_urlsafe(32))

    @property
    def session_id(self) -> str:
        return _hash(self.family)[:22]

    def __str__(self) -> str:
        return f"{self.family}.{self.secret}"


@dataclass(frozen=True, kw_only=True)
class Session:
    """A session that has not ended, as Redis has it. `epochs` are those of its user and of everyone at log-in."""

    id: str
    user_id: str
    epochs: Mapping[str, int]


def open_session(user_id: str, epochs: Mapping[str, int]) -> RefreshToken:
    """Begin a session. Raises `redis.RedisError`, like all of these."""
    token = RefreshToken.fresh()
    record = {
        "user": user_id,
        "epoch": epochs[revocation.user_subject(user_id)],
        "epoch_all": epochs[revocation.EVERYONE],
        "current": _hash(token.secret),
        "ends_at_ms": round((time.time() + settings.SESSION_LIFETIME.total_seconds()) * 1000),
    }
    lifetime = min(refresh_lifetime(), settings.SESSION_LIFETIME)
    pipeline = _client().pipeline()
    pipeline.hset(_session_key(token.session_id), mapping=record)  # type: ignore[arg-type]
    pipeline.pexpire(_session_key(token.session_id), lifetime)
    pipeline.execute()
    return token


def fetch_session(token: RefreshToken) -> Session:
    """The session the token belongs to; raises `Refusal` if there is none. Does not look at the secret."""
    found: Any = _client().hmget(_session_key(token.session_id), ["user", "epoch", "epoch_all"])
    user_id, epoch, epoch_all = found
    if user_id is None:
        raise Refusal("refresh_invalid")
    epochs = {
        revocation.EVERYONE: int(epoch_all),
        revocation.user_subject(user_id): int(epoch),
        revocation.session_subject(token.session_id): 0,
    }
    return Session(id=token.session_id, user_id=user_id, epochs=epochs)


def rotate(token: RefreshToken) -> RefreshToken:
    """Exchange the token for its successor, one and the same for all who ask at once.

    Raises `Refusal`: `refresh_invalid`, or `refresh_reused`, and then the session has ended and its access tokens
    are void.
    """
    successor = RefreshToken.fresh(token.family)
    session_id = token.session_id
    outcome, sealed = ROTATE(
        _client(),
        [_session_key(session_id), revocation.epoch_key(revocation.session_subject(session_id))],
        [
            _hash(token.secret),
            _hash(successor.secret),
            _sealed(successor.secret, token.secret),
            round(settings.REFRESH_GRACE_SECONDS * 1000),
            round(refresh_lifetime().total_seconds() * 1000),
            round(retention().total_seconds() * 1000),
        ],
    )
    if outcome != "rotated":
        raise Refusal(outcome)
    return RefreshToken(family=token.family, secret=_sealed(sealed, token.secret))


def close(session_id: str) -> None:
    """End the session: its refresh token is void. Its access tokens are the business of `revocation`."""
    _client().delete(_session_key(session_id))


def _session_key(session_id: str) -> str:
    return key("tokens", "session", session_id)


def _hash(secret: str) -> str:
    return base64url_encode(hashlib.sha256(secret.encode()).digest()).decode()


def _sealed(secret: str, with_secret: str) -> str:
    """Hide 32 random bytes from whoever does not know `with_secret`; done twice, they are back.

    A one-time pad: it is made from a random secret that is rotated once, so it is kept for one successor only.
    """
    pad = hmac.digest(with_secret.encode(), b"scaling_kit.tokens successor", hashlib.sha256)
    mixed = bytes(left ^ right for left, right in zip(base64url_decode(secret), pad, strict=True))
    return base64url_encode(mixed).decode()


def _client() -> redis.Redis:
    return client(Purpose.REQUEST, settings.REDIS_URL)
