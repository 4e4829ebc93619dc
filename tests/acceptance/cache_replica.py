"""Writes to the primary, reads from a replica that is behind; prints what a cached function says, as JSON."""

import json
import os
import sys
import time

import django


def main() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.acceptance.replica_settings"
    django.setup()
    from django.db import connection
    from django.test import override_settings

    from scaling_kit.cache import cached
    from scaling_kit.testing import wait_until
    from tests.library.models import Author

    with connection.schema_editor() as editor:
        editor.create_model(Author)
    author = Author.objects.create(name="old")
    names = Author.objects.using("replica").values_list("name", flat=True)
    time.sleep(0.1)

    @cached()
    def fetch_names() -> list[str]:
        return list(names.all())

    def arrived(name: str) -> bool:
        try:
            return list(names.all()) == [name]
        except django.db.ProgrammingError:  # the table has not arrived
            return False

    def write_and_read(name: str) -> dict[str, object]:
        author.name = name
        author.save()
        before = fetch_names()
        wait_until(lambda: arrived(name))
        return {"behind": before, "caught_up": fetch_names()}

    wait_until(lambda: arrived("old"))
    with override_settings(SCALING_KIT_KEY_PREFIX=sys.argv[1]):
        unguarded = write_and_read("new")
        with override_settings(SCALING_KIT_CACHE_LAG_SECONDS=float(sys.argv[2])):
            guarded = write_and_read("newer")
    print(json.dumps({"unguarded": unguarded, "guarded": guarded}))


if __name__ == "__main__":
    main()
