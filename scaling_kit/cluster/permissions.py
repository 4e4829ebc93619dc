"""Who may look at the cluster: all of the staff. Who may act on it: staff with a permission on the model `Process`."""

from __future__ import annotations

from typing import Any

from scaling_kit.permissions import Permissions

CHANGE = "scaling_kit_cluster.change_process"


class ProcessPermissions(Permissions):
    def may_view(self, user: Any) -> bool:
        return bool(getattr(user, "is_active", False) and (user.is_staff or user.is_superuser))


PROCESSES = ProcessPermissions(view=CHANGE, change=CHANGE)
