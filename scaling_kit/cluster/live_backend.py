"""CONSTANCE_BACKEND = "scaling_kit.cluster.live_backend.LiveBackend": constance's page, command and `config`, with
values read from the memory of the process and every change recorded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from asgiref.sync import sync_to_async
from constance.backends import Backend
from django.db import DatabaseError

from scaling_kit.cluster import live_store
from scaling_kit.cluster.live import live


class LiveBackend(Backend):  # type: ignore[misc]
    def get(self, key: str) -> Any:
        """Never None for what was not changed yet: constance would store the default."""
        return getattr(live, key)

    async def aget(self, key: str) -> Any:
        return self.get(key)

    def mget(self, keys: Iterable[str]) -> dict[str, Any]:
        """As the database has them, for the page on which they are edited."""
        try:
            found = live_store.fetch()
        except DatabaseError:
            return {key: self.get(key) for key in keys}
        return {key: found[key] for key in keys if key in found}

    async def amget(self, keys: Iterable[str]) -> dict[str, Any]:
        return {key: self.get(key) for key in keys}

    def set(self, key: str, value: Any) -> None:
        live_store.change(key, value)

    async def aset(self, key: str, value: Any) -> None:
        await sync_to_async(self.set, thread_sensitive=True)(key, value)
