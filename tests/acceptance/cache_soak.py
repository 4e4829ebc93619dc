"""Four processes that read what is cached and change what it is made of, in every way, while Redis is killed.

Every book, author and set of tags has a version in its name, `number:version`. Whoever has changed one says so in
shared memory after the commit has returned. A reader takes note of that before it reads: an answer with an older
version is stale, and one that is right never is.

    python -m tests.acceptance.cache_soak --seconds 60 --variant default

Variants: `default`, `strict`, `nearby` (with the first level), and three that are broken on purpose: `late-sequence`,
`delete-on-write`, and `deaf` (a first level that hears nothing).
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import django

from scaling_kit import embedded
from scaling_kit.embedded import Valkey
from scaling_kit.redis import RedisError
from scaling_kit.testing import die_with_parent, running, start, wait_until

ROOT = Path(__file__).parents[2]
VARIANTS = ["default", "strict", "nearby", "late-sequence", "delete-on-write", "deaf"]
PROCESSES = 4
BOOKS = AUTHORS = 4
KINDS = ["book", "author", "tags"]
WRITE_SHARE = 0.06
NEVER_COMMITTED = 10**6


class Published:
    """The latest versions that each process has committed, in memory that all of them share."""

    SIZE = len(KINDS) * BOOKS

    def __init__(self, path: Path, process: int) -> None:
        self.process = process
        with path.open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 8 * self.SIZE * PROCESSES)

    @classmethod
    def create(cls, path: Path) -> None:
        path.write_bytes(bytes(8 * cls.SIZE * PROCESSES))

    def tell(self, thing: tuple[str, int], version: int) -> None:
        place = 8 * (self.process * self.SIZE + KINDS.index(thing[0]) * BOOKS + thing[1])
        self.memory[place : place + 8] = struct.pack("q", max(version, struct.unpack_from("q", self.memory, place)[0]))

    def latest(self) -> dict[tuple[str, int], int]:
        """The lower bound for every answer to a question that is asked from now on."""
        values = struct.unpack(f"{self.SIZE * PROCESSES}q", self.memory[:])
        things = [(kind, number) for kind in KINDS for number in range(BOOKS)]
        return {thing: max(values[place :: self.SIZE]) for place, thing in enumerate(things)}


# --- one of the processes


def work(process: int, variant: str, seconds: float, folder: Path) -> dict[str, int]:
    from django.conf import settings
    from django.db import OperationalError
    from rest_framework.test import APIClient

    settings.SCALING_KIT_CACHE_STRICT = variant == "strict"
    settings.SCALING_KIT_CACHE_NEARBY_BYTES = 10**7 if variant in ("nearby", "deaf") else 0
    if variant in BREAKING:
        BREAKING[variant]()
    published, found = Published(folder / "published", process), Counter[str]()
    client, chance = APIClient(), random.Random(process)
    (folder / f"ready-{process}").touch()
    wait_until((folder / "go").exists, timeout_seconds=60)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if chance.random() < WRITE_SHARE:
            kind = chance.choice(list(CHANGES))
            try:
                change(kind, chance, published)
            except OperationalError:  # a deadlock
                kind = "deadlock"
            found[f"write {kind}"] += 1
        else:
            read(client, published, found)
    return dict(found)


def read(client: Any, published: Published, found: Counter[str]) -> None:
    at_least = published.latest()
    response = client.get("/books/")
    found["reads"] += 1
    found["hits"] += response["X-Cache"] == "hit"
    found["bypasses"] += response["X-Cache"].startswith("bypass")
    answer = versions_of(response.json())
    found["stale"] += any(is_stale(thing, answer, version) for thing, version in at_least.items())
    found["uncommitted"] += any(version >= NEVER_COMMITTED for version in answer.values())


def is_stale(thing: tuple[str, int], answer: dict[tuple[str, int], int], at_least: int) -> bool:
    if thing[0] == "tags" and thing not in answer:
        # A book was read, then deleted, then its tags were read: not the cache's doing. If that is served later on,
        # the book itself is stale.
        return False
    return answer.get(thing, -1) < at_least


def versions_of(books: list[Any]) -> dict[tuple[str, int], int]:
    found = {}
    for book in books:
        number, version = _parsed(book["title"])
        found["book", number] = version
        for tag in book["tags"]:
            found["tags", number] = _parsed(tag["name"])[1]
        author, version = _parsed(book["author"]["name"])
        found["author", author] = version
    return found


def change(kind: str, chance: random.Random, published: Published) -> None:
    from scaling_kit.cache import unsent

    told = CHANGES[kind](chance.randrange(BOOKS))
    # The promise is for as long as Redis takes the bumps; what it does not take within 0.1 s is sent later.
    wait_until(lambda: not unsent.waiting(), timeout_seconds=30)
    for thing, version in told.items():
        published.tell(thing, version)


def _parsed(name: str) -> tuple[int, int]:
    number, _, version = name.partition(":")
    return int(number), int(version)


# --- changes: each returns the versions that are committed now, at least


def save(number: int) -> dict[tuple[str, int], int]:
    with _locked(number):
        return _save(number)


def _save(number: int, version: int = 0) -> dict[tuple[str, int], int]:
    book = _book(number)
    version = version or _parsed(book.title)[1] + 1
    book.title = f"{number}:{version}"
    book.save()
    return {("book", number): version}


def update(number: int) -> dict[tuple[str, int], int]:
    """Without a transaction: the row's own lock makes the order."""
    from django.db.models.expressions import RawSQL

    from tests.library.models import Author

    before = _parsed(Author.objects.get(name__startswith=f"{number}:").name)[1]
    next_name = RawSQL("split_part(name, ':', 1) || ':' || (split_part(name, ':', 2)::int + 1)", ())
    Author.objects.filter(name__startswith=f"{number}:").update(name=next_name)
    return {("author", number): before + 1}


def bulk_update(number: int) -> dict[tuple[str, int], int]:
    from tests.library.models import Book

    with _locked(*range(BOOKS)):
        books = list(Book.objects.all())
        told = {}
        for book in books:
            place, version = _parsed(book.title)
            book.title = f"{place}:{version + 1}"
            told["book", place] = version + 1
        Book.objects.bulk_update(books, ["title"])
    return told


def raw(number: int) -> dict[tuple[str, int], int]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE library_book SET title = split_part(title, ':', 1) || ':' || (split_part(title, ':', 2)::int + 1)"
            " WHERE title LIKE %s RETURNING title",
            [f"{number}:%"],
        )
        found = cursor.fetchone()  # none if it was deleted in the meantime
    return {("book", number): _parsed(found[0])[1]} if found else {}


def common_table_expression(number: int) -> dict[tuple[str, int], int]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "WITH changed AS (UPDATE library_author SET name = split_part(name, ':', 1) || ':' ||"
            " (split_part(name, ':', 2)::int + 1) WHERE name LIKE %s RETURNING name) SELECT name FROM changed",
            [f"{number}:%"],
        )
        return {("author", number): _parsed(cursor.fetchone()[0])[1]}


def many_to_many(number: int) -> dict[tuple[str, int], int]:
    from tests.library.models import Tag

    with _locked(number):
        book = _book(number)
        old = list(book.tags.all())
        version = max((_parsed(tag.name)[1] for tag in old), default=0) + 1
        book.tags.set([Tag.objects.create(name=f"{number}:{version}")])
        Tag.objects.filter(pk__in=[tag.pk for tag in old]).delete()
    return {("tags", number): version}


def delete_and_create(number: int) -> dict[tuple[str, int], int]:
    from tests.library.models import Book

    with _locked(number):
        book = _book(number)
        tags, version = list(book.tags.all()), _parsed(book.title)[1] + 1
        book.delete()
        Book.objects.bulk_create([Book(title=f"{number}:{version}", author_id=book.author_id)])
        _book(number).tags.add(*tags)
    return {("book", number): version}


def roll_back(number: int) -> dict[tuple[str, int], int]:
    with _abandoned(), _locked(number):
        _save(number, version=NEVER_COMMITTED)
        raise _AbandonedError
    return {}


def roll_back_to_savepoint(number: int) -> dict[tuple[str, int], int]:
    from django.db import transaction

    from tests.library.models import Author

    with _locked(number):
        told = _save(number)
        with _abandoned(), transaction.atomic():
            Author.objects.update(name=f"0:{NEVER_COMMITTED}")
            raise _AbandonedError
    return told


CHANGES: dict[str, Callable[[int], dict[tuple[str, int], int]]] = {
    "save": save,
    "update": update,
    "bulk_update": bulk_update,
    "raw": raw,
    "cte": common_table_expression,
    "m2m": many_to_many,
    "delete": delete_and_create,
    "rollback": roll_back,
    "savepoint": roll_back_to_savepoint,
}


class _AbandonedError(Exception):
    pass


@contextmanager
def _abandoned() -> Iterator[None]:
    with suppress(_AbandonedError):
        yield


@contextmanager
def _locked(*numbers: int) -> Iterator[None]:
    """A transaction in which nobody else deletes these books."""
    from django.db import connection, transaction

    from tests.library.models import Book

    with transaction.atomic():
        with connection.cursor() as cursor:
            for number in numbers:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [number])
        list(Book.objects.select_for_update().filter(title__regex=f"^({'|'.join(map(str, numbers))}):").order_by("pk"))
        yield


def _book(number: int) -> Any:
    from tests.library.models import Book

    return Book.objects.get(title__startswith=f"{number}:")


# --- variants that are broken


def _take_the_sequence_late() -> None:
    from scaling_kit.cache import readings

    store = readings.store

    def store_with_a_new_reading(address: Any, reading: Any, *args: Any, **options: Any) -> Any:
        return store(address, readings.read(address), *args, **options)

    readings.store = store_with_a_new_reading


def _delete_on_write() -> None:
    """As most recipes do, and with the kit's knowledge of all writes."""
    from scaling_kit.cache import readings, tags, unsent
    from scaling_kit.cache.readings import Reading

    def read(address: Any, **_: Any) -> Reading:
        payload: Any = tags.redis_client().get(tags.key_of("plain", address.digest))
        return Reading(sequence=1, asked_at=0.0, payload=payload)

    def store(address: Any, reading: Reading, payload: bytes, *args: Any, **options: Any) -> bool:
        return bool(tags.redis_client().set(tags.key_of("plain", address.digest), payload, ex=60))

    def delete(*args: Any, **options: Any) -> None:
        with suppress(RedisError):
            tags.redis_client().delete(b"-", *tags.redis_client().keys(tags.key_of("plain", "*")))

    readings.read, readings.store, unsent.bump = read, store, delete  # type: ignore[assignment]


def _deaf() -> None:
    from scaling_kit.cache.nearby import Level

    Level._take_in = lambda *_: None  # type: ignore[method-assign]


BREAKING: dict[str, Callable[[], None]] = {
    "late-sequence": _take_the_sequence_late,
    "delete-on-write": _delete_on_write,
    "deaf": _deaf,
}


# --- all of them


def soak(*, database_url: str, prefix: str, variant: str, seconds: float) -> dict[str, int]:
    """Run four processes, with an own Redis that is killed and started again in the middle. The tables are empty."""
    with tempfile.TemporaryDirectory(prefix="scaling_kit-soak-") as name:
        folder = Path(name)
        valkey = Valkey(folder=folder / "valkey", port=embedded.free_port(), persistent=False)
        _fill()
        Published.create(folder / "published")
        with running(valkey) as server:
            arguments = [prefix, valkey.url, variant, str(seconds), str(folder)]
            processes = [_start(number, arguments, database_url) for number in range(PROCESSES)]
            try:
                wait_until(lambda: len(list(folder.glob("ready-*"))) == PROCESSES, timeout_seconds=60)
                (folder / "go").touch()
                time.sleep(seconds / 2)
                server.kill()
                server.wait()
                time.sleep(0.2)
                again = start(valkey)
                found = sum((Counter(_result(process)) for process in processes), Counter[str]())
            finally:
                for process in processes:
                    process.kill()
                    process.communicate()
            again.kill()
            again.wait()
        return dict(found) | {"stale": found["stale"], "uncommitted": found["uncommitted"]}


def _start(number: int, arguments: list[str], database_url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.acceptance.cache_soak", "--process", str(number), *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,
    )


def _result(process: subprocess.Popen[str]) -> dict[str, int]:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    result: dict[str, int] = json.loads(output)
    return result


def _fill() -> None:
    from tests.library.models import Author, Book, Tag

    for number in range(BOOKS):
        book = Book.objects.create(title=f"{number}:0", author=Author.objects.create(name=f"{number}:0"))
        book.tags.add(Tag.objects.create(name=f"{number}:0"))


def _be_one_of_them(number: int, prefix: str, redis_url: str, variant: str, seconds: str, folder: str) -> None:
    from django.conf import settings

    settings.ROOT_URLCONF = "tests.cache.views"
    settings.SCALING_KIT_KEY_PREFIX = prefix
    settings.SCALING_KIT_CACHE_REDIS_URL = redis_url
    settings.SCALING_KIT_CACHE_HEADER = True
    print(json.dumps(work(number, variant, float(seconds), Path(folder))))


def _run_alone(variant: str, seconds: float) -> dict[str, int]:
    from django.core.management import call_command

    from tests import settings as servers

    with running(servers.VALKEY), running(servers.POSTGRES):
        call_command("migrate", run_syncdb=True, verbosity=0)
        return soak(database_url=servers.POSTGRES.url, prefix="soak", variant=variant, seconds=seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--variant", choices=VARIANTS, default="default")
    parser.add_argument("--process", type=int, help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    if options.process is not None:
        _be_one_of_them(options.process, *options.rest)
        return
    found = _run_alone(options.variant, options.seconds)
    print(json.dumps(found, indent=2))
    sys.exit(bool(found["stale"] or found["uncommitted"]))


if __name__ == "__main__":
    main()
