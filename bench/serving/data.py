"""The articles of the feed: those of bench/caching, without PostgreSQL."""

from __future__ import annotations

from bench.caching.data import ROWS
from bench.caching.models import Article, Author, Tag

AUTHORS, TAGS = 5, 6


def fill() -> None:
    authors = [Author.objects.create(name=f"author {number}") for number in range(1, AUTHORS + 1)]
    tags = [Tag.objects.create(name=f"tag {number}") for number in range(1, TAGS + 1)]
    for number in range(1, ROWS + 1):
        author = authors[number % AUTHORS]
        article = Article.objects.create(title=f"title of article {number}", price="1.50", author=author)
        article.tags.set([tags[number % TAGS], tags[(number + 1) % TAGS]])
