from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse
from rest_framework.test import APIClient

from scaling_kit.cache import tags
from tests.cache.views import Hooks
from tests.library.models import Author, Book, Tag


@pytest.fixture(autouse=True)
def cache_settings(settings: Any, keys_of_one_test: str) -> None:
    settings.ROOT_URLCONF = "tests.cache.views"
    settings.SCALING_KIT_CACHE_HEADER = True
    # New connections meet this test's key prefix as a server's first time.
    tags.redis_client().connection_pool.disconnect()
    Hooks.computed, Hooks.while_computing = 0, None


@dataclass
class Library:
    """Two authors, two tags, one book; and a client to read it."""

    author: Author
    other_author: Author
    tag: Tag
    other_tag: Tag
    book: Book
    client: APIClient

    def fetch(self, path: str = "/books/", **headers: str) -> HttpResponse:
        response: HttpResponse = self.client.get(path, headers=headers)  # type: ignore[assignment]
        return response

    def read(self) -> Any:
        return self.fetch().json()

    def warm_up(self) -> Any:
        """Have the list stored, and served from there; return it."""
        self.fetch()  # on the first read of all, tags are born: another process's write may prevent storing
        before = self.fetch()
        assert before["X-Cache"] == "hit"
        return before.json()


@pytest.fixture
def library(transactional_db: None) -> Library:
    author, other_author = (Author.objects.create(name=name) for name in ("Ursula", "Stanislaw"))
    tag, other_tag = (Tag.objects.create(name=name) for name in ("novel", "essay"))
    book = Book.objects.create(title="The Dispossessed", author=author)
    book.tags.add(tag)
    return Library(author, other_author, tag, other_tag, book, APIClient())


@pytest.fixture
def elsewhere() -> Callable[[Callable[[], Any]], Any]:
    """Run a function in another thread, on a database connection of its own, and return what it returns."""

    def run(function: Callable[[], Any]) -> Any:
        def on_own_connection() -> Any:
            try:
                return function()
            finally:
                connection.close()

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(on_own_connection).result(timeout=20)

    return run
