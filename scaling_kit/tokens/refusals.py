"""Every answer of this room that is not the one hoped for: a stable code, a status and a sentence."""

from __future__ import annotations

import math
from typing import Any, Final

from rest_framework.exceptions import APIException

REASONS: Final[dict[str, tuple[int, str]]] = {
    "token_missing": (401, "No token was given."),
    "token_malformed": (401, "This is not a JSON Web Token."),
    "token_too_large": (401, "The token is larger than this server reads."),
    "token_key_unknown": (401, "The token names a key that this server does not know."),
    "token_algorithm": (401, "The token's algorithm is not the one of the key it names."),
    "token_type": (401, "This is not an access token."),
    "token_signature": (401, "The token's signature is wrong."),
    "token_expired": (401, "The token has expired."),
    "token_not_yet_valid": (401, "The token is not valid yet."),
    "token_issuer": (401, "The token was issued by someone else."),
    "token_audience": (401, "The token is meant for another service."),
    "token_claims": (401, "The token lacks a claim, or one has the wrong type."),
    "token_revoked": (401, "The token was revoked: log in again."),
    "credentials_invalid": (401, "No active account has this user name and password."),
    "refresh_invalid": (401, "The refresh token is unknown, has expired, or its session has ended."),
    "refresh_reused": (401, "The refresh token had been used before. The session was ended, in case it was stolen."),
    "session_revoked": (401, "The session was revoked: log in again."),
    "user_inactive": (401, "The account was deactivated or deleted."),
    "login_throttled": (429, "Too many attempts to log in. Try again later."),
    "request_invalid": (400, "The request is not what this address expects."),
    "redis_unavailable": (503, "Sessions cannot be read or written at the moment. Try again."),
    "database_unavailable": (503, "The database cannot be reached at the moment. Try again."),
}


class Refusal(APIException):
    """A request was refused for one of `REASONS`; `fields` says what is wrong with which field.

    `wait_seconds` becomes the Retry-After header.
    """

    def __init__(self, code: str, *, wait_seconds: float = 0, fields: Any = None) -> None:
        status, detail = REASONS[code]
        super().__init__({"code": code, "detail": detail, **({"fields": fields} if fields else {})}, code)
        self.code = code
        self.status_code = status
        self.wait = math.ceil(wait_seconds) if status != 503 else 1
        self.auth_header = 'Bearer realm="api"' if status == 401 else None
