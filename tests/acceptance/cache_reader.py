"""A process that reads a cached list of books, and changes it: one command a line, one line of JSON as an answer."""

import json
import os
import sys
import time
from typing import Any

import django
from django.db import connections, transaction

from scaling_kit.redis import Purpose, client, key


def main() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    from django.test import override_settings

    with override_settings(
        ROOT_URLCONF="tests.cache.views",
        SCALING_KIT_KEY_PREFIX=sys.argv[1],
        SCALING_KIT_CACHE_REDIS_URL=sys.argv[2],
        SCALING_KIT_CACHE_HEADER=True,
        **{f"SCALING_KIT_CACHE_{name}": value for name, value in json.loads(sys.argv[3]).items()},
    ):
        print("ready", flush=True)
        for line in sys.stdin:
            print(json.dumps(obey(*line.split())), flush=True)


def obey(command: str, *arguments: str) -> object:
    from rest_framework.test import APIClient

    from tests.cache.views import Hooks
    from tests.library.models import Book

    if command == "slow":  # the next computation takes a while, so that the others come in meanwhile
        Hooks.while_computing = lambda: time.sleep(float(arguments[0]) if arguments else 0.3)
        return None
    if command == "write":
        with transaction.atomic():
            return Book.objects.update(title=arguments[0])
    if command == "write_at_once":
        return Book.objects.update(title=arguments[0])
    if command == "halt":  # in the next write, when it is committed and the cache knows nothing of that
        halt_after_commit()
        return None
    if command == "fork":
        return fork()
    if command == "publish":
        return publish(float(arguments[0]))
    if command == "soak":
        return soak(float(arguments[0]))
    started = time.monotonic()
    response = APIClient().get("/books/")
    return {
        "status": response["X-Cache"],
        "titles": [book["title"] for book in response.json()],
        "computed": Hooks.computed,
        "seconds": time.monotonic() - started,
    }


def halt_after_commit() -> None:
    """Once: say `committed`, and go on with the next line."""
    connection: Any = connections["default"]

    def halt() -> None:
        connection.execute_wrappers.pop()
        del connection._commit
        print('"committed"', flush=True)
        sys.stdin.readline()

    def commit() -> None:
        type(connection)._commit(connection)
        halt()

    def execute(execute: Any, *args: Any) -> Any:
        result = execute(*args)
        if connection.get_autocommit():
            halt()
        return result

    connection._commit = commit
    connection.execute_wrappers.append(execute)  # called by the cache's own


def fork() -> int:
    """Start a child that does nothing for a minute, and return its process id."""
    child = os.fork()
    if child == 0:
        os.closerange(0, 3)
        time.sleep(60)
        os._exit(0)
    return child


def publish(seconds: float) -> int:
    """Write 1, 2, 3, ... and say so after each commit."""
    from tests.library.models import Book

    number = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        number += 1
        with transaction.atomic():
            Book.objects.update(title=str(number))
        client(Purpose.SCRIPT).set(key("tests", "published"), number, ex=60)
        time.sleep(0.01)
    return number


def soak(seconds: float) -> dict[str, int]:
    """Read as fast as possible; how often was something older than the last published number served?"""
    from rest_framework.test import APIClient

    found = {"reads": 0, "hits": 0, "stale": 0}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        published = int(client(Purpose.SCRIPT).get(key("tests", "published")) or 0)
        response = APIClient().get("/books/")
        found["reads"] += 1
        found["hits"] += response["X-Cache"] == "hit"
        found["stale"] += int(response.json()[0]["title"]) < published
    return found


if __name__ == "__main__":
    main()
