"""A process that holds a lease and then writes to PostgreSQL, fenced: whatever it was doing when it was paused."""

import os
import sys

import django

from scaling_kit.lease import Lease


def main() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    from django.test import override_settings

    with override_settings(SCALING_KIT_KEY_PREFIX=sys.argv[1]), Lease("report", ttl_seconds=0.5).held() as lease:
        print("held", lease.epoch, flush=True)
        sys.stdin.readline()  # whatever takes long
        write = {"row": write_row, "transaction": write_several}[sys.argv[3]]
        print(write(sys.argv[2], lease.epoch), flush=True)


def write_row(text: str, epoch: int) -> int:
    """How many rows were written: 0 to a former holder."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("UPDATE report SET text = %s, epoch = %s WHERE epoch <= %s", [text, epoch, epoch])
        return int(cursor.rowcount)


def write_several(text: str, epoch: int) -> int:
    from django.db import connection, transaction

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE fence SET epoch = %s WHERE epoch <= %s", [epoch, epoch])
        if cursor.rowcount:
            cursor.execute("UPDATE report SET text = %s", [text])
        return int(cursor.rowcount)


if __name__ == "__main__":
    main()
