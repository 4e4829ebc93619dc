"""A changed password, a deactivated or a deleted account void the user's tokens with the transaction that says so."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models.signals import post_delete, post_save
from django.dispatch import Signal, receiver

from scaling_kit.tokens import revocation
from scaling_kit.tokens.conf import simple_jwt

refresh_reused = Signal()
"""A refresh token was used a second time, and `session`, which it belonged to, was ended."""


@receiver(post_save, sender=settings.AUTH_USER_MODEL, dispatch_uid="scaling_kit_tokens.saved")
def revoke_when_user_changed(*, instance: Any, created: bool, raw: bool, **_: Any) -> None:
    # While `set_password()` waits to be saved, `_password` holds the new password; not so when a hash is upgraded.
    password_changed = getattr(instance, "_password", None) is not None
    if not created and not raw and (password_changed or not instance.is_active):
        _revoke(instance)


@receiver(post_delete, sender=settings.AUTH_USER_MODEL, dispatch_uid="scaling_kit_tokens.deleted")
def revoke_when_user_deleted(*, instance: Any, **_: Any) -> None:
    _revoke(instance)


def _revoke(user: Any) -> None:
    user_id = getattr(user, simple_jwt().USER_ID_FIELD)
    revocation.revoke(revocation.user_subject(user_id), robust=True)
