"""Run-time settings in one process: reading, changing, history, `override`, constance's own ways."""

import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from constance import config
from constance.models import Constance
from constance.signals import config_updated
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from scaling_kit.cluster import live_copy, live_store
from scaling_kit.cluster.live import live
from scaling_kit.cluster.models import LiveChange
from scaling_kit.testing import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def new_process(keys_of_one_test: str) -> Iterator[None]:
    live_copy.forget()
    yield
    live_copy.forget()


def history(name: str = "") -> list[tuple[Any, Any, str]]:
    return [(each["old"], each["new"], each["by"]) for each in live_store.fetch_history(name)]


def test_never_changed__the_default_and_nothing_is_stored() -> None:
    assert (live.UPLOAD_MAX_MB, config.UPLOAD_MAX_MB) == (20, 20)
    assert not Constance.objects.exists()
    assert not LiveChange.objects.exists()


def test_changed__seen_at_once_by_who_changed_it_and_kept_in_the_history() -> None:
    assert live.BANNER == ""
    live.change("BANNER", "Welcome", by="ada")
    assert (live.BANNER, config.BANNER) == ("Welcome", "Welcome")
    live.BANNER = "Bye"
    live.BANNER = "Bye"
    assert live.BANNER == "Bye"
    [second, first] = live_store.fetch_history("BANNER")
    assert (first["old"], first["new"], first["by"]) == ("", "Welcome", "ada")
    assert (second["old"], second["new"]) == ("Welcome", "Bye")
    assert second["by"], "who runs the command"
    assert str(os.getpid()) in second["origin"]


def test_changed_by_constance__recorded_and_its_signal_sent() -> None:
    heard: list[Any] = []

    def hear(key: str, old_value: Any, new_value: Any, **_: Any) -> None:
        heard.append((key, old_value, new_value))

    config_updated.connect(hear)
    with live_store.acting("grace"):
        config.UPLOAD_MAX_MB = 5
    config_updated.disconnect(hear)
    assert live.UPLOAD_MAX_MB == 5
    assert history() == [(20, 5, "grace")]
    assert heard == [("UPLOAD_MAX_MB", 20, 5)]


def test_rolled_back__neither_seen_nor_recorded() -> None:
    assert live.UPLOAD_MAX_MB == 20
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        live.UPLOAD_MAX_MB = 5
        assert live.UPLOAD_MAX_MB == 20, "others do not see it yet, and neither does this process"
        _ = 1 / 0
    assert live.UPLOAD_MAX_MB == 20
    assert history() == []


def test_moment_and_share__come_back_as_they_were() -> None:
    moment = datetime(2031, 2, 3, 4, 5, tzinfo=UTC)
    live.SALE_BEGINS_AT = moment
    live.RATE = 1
    live_copy.forget()
    assert (moment, 1) == (live.SALE_BEGINS_AT, live.RATE)


@pytest.mark.parametrize(("name", "value"), [("UPLOAD_MAX_MB", "5"), ("UPLOAD_MAX_MB", True), ("IS_OPEN", 1)])
def test_value_of_another_type__refused(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} is of type"):
        setattr(live, name, value)
    assert not LiveChange.objects.exists()


def test_unknown_name__says_the_nearest() -> None:
    for act in (lambda: live.UPLOAD_MAX, lambda: live.change("UPLOAD_MAX", 1), lambda: config.UPLOAD_MAX):
        with pytest.raises(AttributeError, match=r"UPLOAD_MAX"):
            act()
    with pytest.raises(AttributeError, match=r"Did you mean UPLOAD_MAX_MB\?"):
        _ = live.UPLOAD_MAX


def test_reads__ask_neither_database_nor_redis() -> None:
    assert live.UPLOAD_MAX_MB == 20
    with CaptureQueriesContext(
        connection,
    ) as queries:
        for _ in range(1000):
            _ = (live.UPLOAD_MAX_MB, config.BANNER)
    assert len(queries) == 0


def test_async_code__reads_plainly_and_changes_awaiting() -> None:
    async def act() -> tuple[Any, Any, Any]:
        before = live.UPLOAD_MAX_MB
        await live.achange("UPLOAD_MAX_MB", 7, by="ada")
        return before, live.UPLOAD_MAX_MB, await config.UPLOAD_MAX_MB

    assert async_to_sync(act)() == (20, 7, 7)
    assert history() == [(20, 7, "ada")]


def test_override__in_this_process_alone_and_put_back() -> None:
    @live.override(UPLOAD_MAX_MB=1)
    def inner() -> int:
        with live.override(UPLOAD_MAX_MB=2, BANNER="x"):
            assert (live.UPLOAD_MAX_MB, config.BANNER) == (2, "x")
        return int(live.UPLOAD_MAX_MB)

    assert inner() == 1
    assert live.UPLOAD_MAX_MB == 20
    with pytest.raises(AttributeError), live.override(NOTHING=1):
        pass
    assert not Constance.objects.exists()


@override_settings(SCALING_KIT_CLUSTER_LIVE_FOLLOW=False)
def test_not_following__defaults_without_a_thread() -> None:
    assert live.UPLOAD_MAX_MB == 20
    assert not [each for each in threading.enumerate() if each.name == "scaling_kit-live"]


def test_changed_in_the_table_by_hand_or_of_another_type__seen_and_the_default() -> None:
    live.UPLOAD_MAX_MB = 5
    Constance.objects.filter(key="UPLOAD_MAX_MB").update(value='"of an older release"')
    live.BANNER = "told"
    wait_until(lambda: live.BANNER == "told")
    assert live.UPLOAD_MAX_MB == 20


@pytest.mark.parametrize("stored", ['{"__type__": "decimal", "__value__": "x"}', "no JSON", None])
def test_row_that_cannot_be_read__the_others_can_and_it_can_be_changed(stored: str | None) -> None:
    Constance.objects.create(key="RATE", value=stored)
    live.BANNER = "told"
    assert (live.BANNER, live.RATE) == ("told", 0.5)
    live.RATE = 0.7
    assert live.RATE == 0.7
    assert live_store.fetch_history("RATE")[0]["new"] == 0.7


def test_fork__the_child_follows_too() -> None:
    live.UPLOAD_MAX_MB = 5
    assert live.UPLOAD_MAX_MB == 5
    reader, writer = os.pipe()
    connection.close()
    pid = _fork()
    if pid == 0:
        try:
            begin = live.UPLOAD_MAX_MB
            wait_until(lambda: live.UPLOAD_MAX_MB == 6, timeout_seconds=5)
            os.write(writer, f"{begin} {live.UPLOAD_MAX_MB}".encode())
        finally:
            os._exit(0)
    live.UPLOAD_MAX_MB = 6
    os.close(writer)
    assert os.read(reader, 100) == b"5 6"
    os.waitpid(pid, 0)
    os.close(reader)
    live.UPLOAD_MAX_MB = 7
    assert live.UPLOAD_MAX_MB == 7, "the parent's own connections work on"


def _fork() -> int:
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*multi-threaded", category=DeprecationWarning)
        return os.fork()


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("cluster", "settings", *arguments, stdout=out)
    return out.getvalue()


def test_command__shows_all_changes_one_and_shows_its_history() -> None:
    assert "UPLOAD_MAX_MB   20" in run()
    assert "20 → 5" in run("UPLOAD_MAX_MB", "5")
    assert '"new": 5' in run("UPLOAD_MAX_MB", "--json")
    run("IS_OPEN", "off")
    run("SALE_BEGINS_AT", "2031-02-03T04:05:00Z")
    assert live.IS_OPEN is False
    assert datetime(2031, 2, 3, 4, 5, tzinfo=UTC) == live.SALE_BEGINS_AT


@pytest.mark.parametrize(
    "arguments", [["UPLOAD_MAX"], ["UPLOAD_MAX_MB", "much"], ["IS_OPEN", "perhaps"], ["NOPE", "1"]]
)
def test_command__what_cannot_be_is_one_line(arguments: list[str]) -> None:
    with pytest.raises(CommandError, match=arguments[0]):
        run(*arguments)
