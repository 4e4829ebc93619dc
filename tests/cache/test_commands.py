from __future__ import annotations

import json
import signal
import subprocess
import sys
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from scaling_kit.cache import status, tags
from scaling_kit.cache.tags import EPOCH
from tests.cache import stock
from tests.cache.stock import LIST
from tests.library.models import Book

pytestmark = pytest.mark.django_db(transaction=True)

NOWHERE = "redis://:secret@127.0.0.1:1/0"


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def bumped(*what: tags.Dependency) -> bool:
    return set(tags.fetch_bumps(tags.of(*what))) == tags.of(*what)


# --- invalidate


def test_model_and_names__are_bumped_and_named() -> None:
    said = run("invalidate", "library.book", "weather", "--name", "a.b")
    assert said.splitlines() == [
        "library.book forgotten: table.library_book",
        "weather forgotten: name.weather",
        "a.b forgotten: name.a.b",
    ]
    assert bumped(Book, "weather", "a.b")


def test_entries__are_void_afterwards() -> None:
    stock.put(LIST, Book)
    run("invalidate", "library.Book")
    assert status.snapshot(seconds=5)["current"] == 0


def test_all__bumps_the_epoch() -> None:
    tags.bump([EPOCH])
    before = tags.fetch_bumps([EPOCH])[EPOCH]
    assert run("invalidate", "--all") == "everything forgotten: *\n"
    assert tags.fetch_bumps([EPOCH])[EPOCH] > before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["library.Bok"], r"no model 'library.Bok'. Did you mean library.Book\? A name with a dot: --name library.Bok"),
        (["library.Bok", "weather"], "library.Bok"),
        (["Book"], "'Book' is the name of a model: library.Book"),
        (["zzz.qqq"], "no model 'zzz.qqq'. A name"),
        ([], "Say what to forget"),
        (["weather", "--all"], "Say what to forget"),
    ],
)
def test_mistake__says_what_was_meant_and_forgets_nothing(arguments: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        run("invalidate", *arguments)
    assert not bumped("weather")


@override_settings(SCALING_KIT_CACHE_REDIS_URL=NOWHERE)
@pytest.mark.parametrize("command", [["invalidate", "weather"], ["cachestatus"], ["cachestatus", "--json"]])
def test_redis_away__one_line(command: list[str]) -> None:
    with pytest.raises(CommandError) as caught:
        run(*command)
    assert "Redis at redis://:***@127.0.0.1:1/0" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_exit_codes(process: Any) -> None:
    assert process("invalidate", "weather").returncode == 0
    wrong = process("invalidate", "library.Bok")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert process("cachestatus", "--watch", "0").returncode == 2


@pytest.fixture
def process(keys_of_one_test: str) -> Any:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60)

    return run


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "django", *arguments, "--settings", "tests.settings"]


# --- cachestatus


def test_table__has_views_changes_and_warnings() -> None:
    stock.begin_counting()
    stock.count(LIST, hit=1234, miss=66, bypass=3, reasons=["status"])
    stock.put(LIST, Book, size=1500)
    said = run("cachestatus")
    assert "hit ratio 94.9%: 1,234 hits, 66 misses" in said
    assert "bypassed 3 (status 1)" in said
    [row] = [line for line in said.splitlines() if line.startswith("ArticleViewSet.list  ")]
    assert row.split() == ["ArticleViewSet.list", "94.9%", "1,234", "66", "3", "1", "1", "1.5", "kB"]
    assert "library_book" in said.partition("changed last")[2]
    assert "warning memory_unbounded" in said


def test_table_of_nothing() -> None:
    assert "hit ratio -: 0 hits" in run("cachestatus")


def test_json__is_the_snapshot_on_one_line() -> None:
    stock.put(LIST, Book)
    said = run("cachestatus", "--json")
    assert said.count("\n") == 1
    assert json.loads(said).keys() == status.snapshot().keys()


def test_watch__goes_on_until_interrupted_and_ends_well() -> None:
    with subprocess.Popen(command("cachestatus", "--json", "--watch", "0.1"), stdout=subprocess.PIPE) as watching:
        lines = [json.loads(watching.stdout.readline()) for _ in range(2)]  # type: ignore[union-attr]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=20) == 0
    assert all(line["reachable"] for line in lines)
