"""Who may look at jobs and who may act on them: staff with a permission on the model `Job`, and superusers."""

from __future__ import annotations

from typing import Any

VIEW = "scaling_kit_jobs.view_job"
CHANGE = "scaling_kit_jobs.change_job"


def may_view(user: Any) -> bool:
    return _has(user, VIEW) or may_change(user)


def may_change(user: Any) -> bool:
    return _has(user, CHANGE)


def _has(user: Any, permission: str) -> bool:
    if not getattr(user, "is_active", False):
        return False
    return bool(user.is_superuser or (user.is_staff and user.has_perm(permission)))
