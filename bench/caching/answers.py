"""The read that everyone caches: 20 articles with author and tags, through a serializer of REST framework."""

from __future__ import annotations

from typing import Any

from django.db import DEFAULT_DB_ALIAS
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bench.caching.data import ROWS
from bench.caching.models import Article, Author, Tag


class AuthorSerializer(serializers.ModelSerializer[Author]):
    class Meta:
        model = Author
        fields = ["id", "name"]


class TagSerializer(serializers.ModelSerializer[Tag]):
    class Meta:
        model = Tag
        fields = ["id", "name"]


class ArticleSerializer(serializers.ModelSerializer[Article]):
    author = AuthorSerializer()
    tags = TagSerializer(many=True)

    class Meta:
        model = Article
        fields = ["id", "title", "price", "author", "tags"]


def rows(using: str = DEFAULT_DB_ALIAS) -> list[Any]:
    articles = Article.objects.using(using).select_related("author").prefetch_related("tags").order_by("pk")[:ROWS]
    return [{**row} for row in ArticleSerializer(articles, many=True).data]


class ListView(APIView):
    """Answers with the rows, uncached."""

    using = DEFAULT_DB_ALIAS

    def get(self, request: Request) -> Response:  # noqa: ARG002
        return Response(rows(self.using))
