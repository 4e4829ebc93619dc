"""Which members of the staff may look at what a room has, and which may act on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Permissions:
    """To look one needs the permission `view`, to act `change`, and to be staff; superusers need neither."""

    view: str
    change: str

    def may_view(self, user: Any) -> bool:
        return _has(user, self.view) or self.may_change(user)

    def may_change(self, user: Any) -> bool:
        return _has(user, self.change)


def _has(user: Any, permission: str) -> bool:
    if not getattr(user, "is_active", False):
        return False
    return bool(user.is_superuser or (user.is_staff and user.has_perm(permission)))
