"""django-cacheops: `cached_as` around the function, which is told every model the rows are made of."""

from cacheops import cached_as
from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response

from bench.caching import answers
from bench.caching.libraries.orm_cacheops import hoard as hoard
from bench.caching.models import Article, Author, Tag

FRESH = {"keep_fresh": True, "lock": True} if getattr(settings, "CACHEOPS_INSIDEOUT", False) else {}

rows = cached_as(Article, Author, Tag, Article.tags.through, timeout=300, **FRESH)(answers.rows)


class ListView(answers.ListView):
    def get(self, request: Request) -> Response:  # noqa: ARG002
        return Response(rows(self.using))


class ReplicaView(ListView):
    using = "replica"
