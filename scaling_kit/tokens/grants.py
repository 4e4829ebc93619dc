"""What a log-in or a refresh grants: an access token and a refresh token. Also how a session ends.

All raise `redis.RedisError` and Django's database errors as they come; the views make 503 of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser

from scaling_kit import members
from scaling_kit.tokens import access, revocation, sessions
from scaling_kit.tokens.conf import access_lifetime, simple_jwt
from scaling_kit.tokens.refusals import Refusal
from scaling_kit.tokens.sessions import RefreshToken, Session
from scaling_kit.tokens.signals import refresh_reused


@dataclass(frozen=True, kw_only=True)
class Grant:
    """`expires_in` is the life of the access token in seconds."""

    access: str
    refresh: str
    expires_in: int


def begin(user: AbstractBaseUser) -> Grant:
    """Begin a session for a user whom somebody has just authenticated. Raises `Refusal`."""
    user_id = str(getattr(user, simple_jwt().USER_ID_FIELD))
    epochs = revocation.fetch_epochs([revocation.EVERYONE, revocation.user_subject(user_id)])
    # Read again after the epochs: a password changed since it was checked would otherwise begin a session.
    fresh = _fetch_active_user(user_id)
    if fresh is None or fresh.password != user.password:
        raise Refusal("credentials_invalid")
    token = sessions.open_session(user_id, epochs)
    members.count("tokens.logins")
    return _grant(fresh, token, epochs)


def renew(refresh: str) -> Grant:
    """Exchange a refresh token. Here, and only here, the user is read from the database again. Raises `Refusal`."""
    token = RefreshToken.parse(refresh)
    session = sessions.fetch_session(token)
    epochs = _ensure_still_granted(session)
    user = _fetch_active_user(session.user_id)
    if user is None:
        sessions.close(session.id)
        raise Refusal("user_inactive")
    successor = _rotate(token, session)
    members.count("tokens.refreshes")
    return _grant(user, successor, epochs)


def end(session_id: str) -> None:
    """Log out here: the session's refresh token and its access tokens are void."""
    revocation.revoke(revocation.session_subject(session_id))
    sessions.close(session_id)


def end_all(user_id: object) -> None:
    """Log out everywhere: every token the user has is void. Also for an administrator, or after a theft."""
    revocation.revoke(revocation.user_subject(user_id))


def _ensure_still_granted(session: Session) -> dict[str, int]:
    """The epochs as they are now, the database being asked too: Redis may have come back with older data."""
    epochs = revocation.fetch_epochs(session.epochs)
    if any(epochs[subject] > epoch for subject, epoch in session.epochs.items()):
        sessions.close(session.id)
        raise Refusal("session_revoked")
    return epochs


def _fetch_active_user(user_id: str) -> Any:
    config = simple_jwt()
    user = get_user_model()._default_manager.filter(**{config.USER_ID_FIELD: user_id}).first()
    return user if config.USER_AUTHENTICATION_RULE(user) else None


def _rotate(token: RefreshToken, session: Session) -> RefreshToken:
    try:
        return sessions.rotate(token)
    except Refusal as refusal:
        if refusal.code == "refresh_reused":
            members.count("tokens.reuses")
            revocation.revoke(revocation.session_subject(session.id))
            refresh_reused.send(sender=Session, session=session)
        raise


def _grant(user: AbstractBaseUser, token: RefreshToken, epochs: dict[str, int]) -> Grant:
    return Grant(
        access=access.issue(user, session_id=token.session_id, epochs=epochs),
        refresh=str(token),
        expires_in=int(access_lifetime().total_seconds()),
    )
