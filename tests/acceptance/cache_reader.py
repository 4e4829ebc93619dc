"""A process that reads a cached list of books, and changes it: one command a line, one line of JSON as an answer."""

import json
import os
import sys
import time

import django
from django.db import transaction


def main() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    from django.test import override_settings

    with override_settings(
        ROOT_URLCONF="tests.cache.views",
        SCALING_KIT_KEY_PREFIX=sys.argv[1],
        SCALING_KIT_CACHE_REDIS_URL=sys.argv[2],
        SCALING_KIT_CACHE_HEADER=True,
    ):
        print("ready", flush=True)
        for line in sys.stdin:
            print(json.dumps(obey(*line.split())), flush=True)


def obey(command: str, *arguments: str) -> object:
    from rest_framework.test import APIClient

    from tests.cache.views import Hooks
    from tests.library.models import Book

    if command == "slow":  # the next computation takes a while, so that the others come in meanwhile
        Hooks.while_computing = lambda: time.sleep(0.3)
        return None
    if command == "write":
        with transaction.atomic():
            return Book.objects.update(title=arguments[0])
    started = time.monotonic()
    response = APIClient().get("/books/")
    return {
        "status": response["X-Cache"],
        "titles": [book["title"] for book in response.json()],
        "computed": Hooks.computed,
        "seconds": time.monotonic() - started,
    }


if __name__ == "__main__":
    main()
