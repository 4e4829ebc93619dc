"""Settings of the tokens room. Keys, lifetimes, issuer and audience are simplejwt's: see `simple_jwt()`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from scaling_kit.conf import Settings


class TokensSettings(Settings, prefix="SCALING_KIT_TOKENS_"):
    REDIS_URL: str = ""
    # While Redis is away nobody knows what was revoked: False lets valid tokens in until they expire, True answers 503.
    FAIL_CLOSED: bool = False
    # A longer token is refused unread. With "Authorization: Bearer " it fits into the 8190 bytes gunicorn reads.
    MAX_BYTES: int = 8000
    # Dotted path of a function `user -> dict`: what the access token says about the user.
    CLAIMS: str = "scaling_kit.tokens.access.default_claims"
    # After this long one must log in again, however often the session was refreshed. A session that is not used
    # ends earlier, after SIMPLE_JWT's REFRESH_TOKEN_LIFETIME.
    SESSION_LIFETIME: timedelta = timedelta(days=90)
    # How long a client that lost the reply to a refresh may ask again with the same refresh token.
    REFRESH_GRACE_SECONDS: float = 10.0
    # Attempts to log in per window; 0 is no limit. A success forgets the attempts on that name from that address.
    LOGIN_WINDOW_SECONDS: float = 60.0
    LOGIN_ATTEMPTS: int = 5
    LOGIN_ATTEMPTS_PER_NAME: int = 100
    LOGIN_ATTEMPTS_PER_ADDRESS: int = 100


settings = TokensSettings()


def simple_jwt() -> Any:
    """simplejwt's settings as they are now: it replaces the object when SIMPLE_JWT is overridden."""
    from rest_framework_simplejwt import settings as module

    return module.api_settings


def leeway() -> timedelta:
    """By how much the clocks of two machines may differ."""
    value = simple_jwt().LEEWAY
    return value if isinstance(value, timedelta) else timedelta(seconds=value or 0)


def access_lifetime() -> timedelta:
    lifetime: timedelta = simple_jwt().ACCESS_TOKEN_LIFETIME
    return lifetime


def refresh_lifetime() -> timedelta:
    lifetime: timedelta = simple_jwt().REFRESH_TOKEN_LIFETIME
    return lifetime


def retention() -> timedelta:
    """How long a revocation matters: until the last access token issued before it has expired everywhere."""
    return access_lifetime() + 2 * leeway() + timedelta(minutes=1)
