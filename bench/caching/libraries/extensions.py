"""drf-extensions: `cache_response`, by its defaults, or with the key bit of its documentation for invalidation."""

import time
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db.models.signals import m2m_changed, post_delete, post_save
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework_extensions.cache.decorators import cache_response
from rest_framework_extensions.key_constructor.bits import KeyBitBase
from rest_framework_extensions.key_constructor.constructors import DefaultKeyConstructor

from bench.caching import answers

UPDATED_AT = "updated_at"


class UpdatedAtKeyBit(KeyBitBase):
    def get_data(self, **_: Any) -> str:
        value = cache.get(UPDATED_AT)
        if value is None:
            cache.set(UPDATED_AT, value := str(time.time()), None)
        return value


class Key(DefaultKeyConstructor):
    updated_at = UpdatedAtKeyBit()


def _changed(sender: Any, **_: Any) -> None:
    if sender.__module__ == "bench.caching.models":
        cache.set(UPDATED_AT, str(time.time()), None)


if settings.CACHING_UPDATED_AT:
    for signal in (post_save, post_delete, m2m_changed):
        signal.connect(_changed, dispatch_uid="bench.caching")


class ListView(answers.ListView):
    @cache_response(timeout=300, **({"key_func": Key()} if settings.CACHING_UPDATED_AT else {}))
    def get(self, request: Request) -> Response:
        return super().get(request)


class ReplicaView(ListView):
    using = "replica"
