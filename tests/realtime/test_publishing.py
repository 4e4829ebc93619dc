import uuid
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db import transaction
from django.test import override_settings

from scaling_kit import embedded, members
from scaling_kit.realtime import publish, publishing, rooms
from scaling_kit.realtime.publishing import EventTooLargeError, Message
from scaling_kit.redis import Purpose, client, key
from scaling_kit.testing import start, wait_until


def history(room: str = "wall", url: str = "") -> list[str]:
    entries: Any = client(Purpose.SCRIPT, url).xrange(key("realtime", "history", room))
    return [fields["frame"] for _, fields in entries]


def test_published__numbered_and_kept_for_a_while() -> None:
    publish("wall", "hello", {"id": uuid.UUID(int=1), "name": "Füße"})
    publish("wall", "hello", None)
    assert history() == [
        '{"type":"event","room":"wall","event":"hello",'
        '"data":{"id":"00000000-0000-0000-0000-000000000001","name":"Füße"},"offset":1}',
        '{"type":"event","room":"wall","event":"hello","data":null,"offset":2}',
    ]
    assert all(0 < client(Purpose.SCRIPT).ttl(name) <= 86_400 for name in rooms.keys("wall"))  # type: ignore[operator]


@pytest.mark.django_db(transaction=True)
def test_in_a_transaction__published_when_it_commits() -> None:
    with transaction.atomic():
        publish("wall", "n", 1)
        assert history() == []
    assert len(history()) == 1


@pytest.mark.django_db(transaction=True)
def test_transaction_rolled_back__not_published() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        publish("wall", "n", 1)
        raise ZeroDivisionError
    assert history() == []


@pytest.mark.parametrize("room", ["", "a b", "a\n", "é", "x" * 201])
def test_bad_room__value_error(room: str) -> None:
    with pytest.raises(ValueError, match="cannot be a room"):
        publish(room, "n", 1)


@pytest.mark.parametrize(("data", "error"), [(object(), TypeError), (float("nan"), ValueError), ("\ud800", ValueError)])
def test_data_that_is_not_json__raised_to_the_caller(data: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        publish("wall", "n", data)


def test_too_much_data__says_how_much_is_allowed() -> None:
    with pytest.raises(EventTooLargeError, match="SCALING_KIT_REALTIME_MESSAGE_BYTES"):
        publish("wall", "n", "x" * 70_000)


def test_attempt_whose_reply_was_lost__repeated_without_a_second_event() -> None:
    message = Message(room="wall", start='{"n":1')
    for _ in range(3):
        message.send(client(Purpose.SCRIPT))
    assert history() == ['{"n":1,"offset":1}']


def test_history__trimmed() -> None:
    with override_settings(SCALING_KIT_REALTIME_HISTORY_SIZE=10):
        for number in range(250):
            publish("wall", "n", number)
    assert 10 <= len(history()) <= 120


def test_redis_away__kept_in_order_and_sent_when_it_is_back(tmp_path: Path) -> None:
    valkey = embedded.Valkey(folder=tmp_path / "valkey", port=embedded.free_port())
    with override_settings(SCALING_KIT_REALTIME_REDIS_URL=valkey.url):
        for number in range(5):
            publish("wall", "n", number)
        with pytest.raises(redis.ConnectionError):
            publish("wall", "n", 99, on_commit=False)
        valkey.prepare()
        process = start(valkey)
        try:
            wait_until(lambda: not publishing._outbox._waiting)
            publish("wall", "n", 5)
            assert [f'"data":{n},"offset":{n + 1}' in frame for n, frame in enumerate(history(url=valkey.url))] == [
                True
            ] * 6
        finally:
            process.terminate()
            process.wait()


@override_settings(SCALING_KIT_REALTIME_OUTBOX_SECONDS=0.1)
def test_redis_away_for_too_long__lost_and_counted() -> None:
    members.Member("tests").beat()
    with override_settings(SCALING_KIT_REALTIME_REDIS_URL=f"redis://127.0.0.1:{embedded.free_port()}"):
        publish("wall", "n", 1)
        wait_until(lambda: not publishing._outbox._waiting)
    members.Member("tests").beat()
    assert members.fetch_totals()["realtime.lost"] == 1
