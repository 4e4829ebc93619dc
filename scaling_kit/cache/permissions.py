"""Who may look at the cache and who may drop entries: staff with a permission on the model `Entry`, and superusers."""

from __future__ import annotations

from scaling_kit.permissions import Permissions

ENTRIES = Permissions(view="scaling_kit_cache.view_entry", change="scaling_kit_cache.change_entry")
