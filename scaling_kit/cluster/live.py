"""Run-time settings: `live.UPLOAD_MAX_MB` is what it was last changed to, in every process within a second.

They are django-constance's: declared in CONSTANCE_CONFIG, kept in the database, edited on its page of the admin. What
is ours is CONSTANCE_BACKEND = "scaling_kit.cluster.live_backend.LiveBackend", which keeps a copy in the memory of each
process, so that a read asks nobody, and a history of who changed what.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import sync_to_async

from scaling_kit.cluster import live_copy, live_entries

_overridden: dict[str, Any] = {}


class Live:
    """Read as attributes, in sync and async code alike. There is one, `live`.

    A read does not wait, but for the first one of a process: for a second at most, until the database has been read.
    If that is away it answers what was known last, or the default. Do not change a list or dictionary it returns.
    """

    def __getattr__(self, name: str) -> Any:
        if name in _overridden:
            return _overridden[name]
        if name.startswith("_"):  # Python's and other libraries' own questions
            raise AttributeError(name)
        values = live_copy.known()
        if name in values:
            return values[name]
        if name not in live_entries.entries():
            raise live_entries.unknown(name)
        return live_copy.values()[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self.change(name, value)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *live_entries.entries()]

    def change(self, name: str, value: Any, *, by: str = "") -> None:
        """Store it, with an entry in the history; all processes hear of it when the transaction is committed.

        `by` is who; by default whom `live_store.acting` names, else who runs the command. Raises `AttributeError` for
        an unknown name, `TypeError` for a value of another type, and what the database raises.
        """
        from scaling_kit.cluster import live_store  # has a model, and whoever reads a setting may have none yet

        live_store.change(name, value, by=by)

    async def achange(self, name: str, value: Any, *, by: str = "") -> None:
        await sync_to_async(self.change, thread_sensitive=True)(name, value, by=by)

    @contextmanager
    def override(self, **values: Any) -> Iterator[None]:
        """For tests, as a context manager or decorator: other values, in this process alone, and nothing is stored."""
        for name, value in values.items():
            live_entries.insist(name, value)
        before = dict(_overridden)
        _overridden.update(values)
        try:
            yield
        finally:
            _overridden.clear()
            _overridden.update(before)


live = Live()
