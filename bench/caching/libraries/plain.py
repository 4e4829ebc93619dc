"""`cache.get` and `cache.set` on django-redis. CACHING_INVALIDATE: nothing, or Django's signals, now or on commit."""

from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models.signals import m2m_changed, post_delete, post_save
from rest_framework.request import Request
from rest_framework.response import Response

from bench.caching import answers

SECONDS = 300
INVALIDATE = settings.CACHING_INVALIDATE
KEYS = {using: f"articles:{using}" for using in settings.DATABASES}


def rows(using: str = DEFAULT_DB_ALIAS) -> list[Any]:
    found = cache.get(KEYS[using])
    if found is None:
        found = answers.rows(using)
        cache.set(KEYS[using], found, SECONDS)
    return found


class ListView(answers.ListView):
    def get(self, request: Request) -> Response:  # noqa: ARG002
        return Response(rows(self.using))


class ReplicaView(ListView):
    using = "replica"


def hoard(count: int) -> None:
    for begin in range(0, count, 1000):
        cache.set_many({f"hoard:{number}": number for number in range(begin, min(begin + 1000, count))}, SECONDS)


def forget() -> None:
    if INVALIDATE == "pattern":
        cache.delete_pattern("hoard:*")
    else:
        cache.delete_many(list(KEYS.values()))


def _changed(sender: Any, **_: Any) -> None:
    if sender.__module__ != "bench.caching.models":
        return
    if INVALIDATE == "on_commit":
        transaction.on_commit(forget)
    else:
        forget()


if INVALIDATE:
    for signal in (post_save, post_delete, m2m_changed):
        signal.connect(_changed, dispatch_uid="bench.caching")
