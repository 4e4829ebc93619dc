"""A holder that is paused for longer than its lease, and then writes: real processes, PostgreSQL."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from django.db import connection

from scaling_kit.lease import Lease
from scaling_kit.testing import die_with_parent, wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def report(transactional_db: None) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE report (text varchar NOT NULL, epoch bigint NOT NULL)")
        cursor.execute("INSERT INTO report VALUES ('', 0)")
        cursor.execute("CREATE TABLE fence (epoch bigint NOT NULL)")
        cursor.execute("INSERT INTO fence VALUES (0)")
        yield
        cursor.execute("DROP TABLE report, fence")


@contextmanager
def writer(prefix: str, text: str, how: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has the lease in hand, and writes as soon as it is told to."""
    url = "postgres://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**connection.settings_dict)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.acceptance.report_writer", prefix, text, how],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,
    )
    try:
        assert process.stdout
        assert process.stdout.readline().startswith("held")
        yield process
    finally:
        process.kill()
        process.communicate()


def rows_written(process: subprocess.Popen[str]) -> int:
    return int(process.communicate("go\n", timeout=30)[0])


@pytest.mark.parametrize("how", ["row", "transaction"])
def test_holder_paused_past_its_lease__its_write_is_refused(report: None, keys_of_one_test: str, how: str) -> None:
    with ExitStack() as stack:
        former = stack.enter_context(writer(keys_of_one_test, "old", how))
        former.send_signal(signal.SIGSTOP)
        wait_until(lambda: Lease("report").fetch_holder() is None, what="the lease has run out")
        successor = stack.enter_context(writer(keys_of_one_test, "new", how))
        assert rows_written(successor) == 1
        former.send_signal(signal.SIGCONT)
        assert rows_written(former) == 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT text FROM report")
        assert cursor.fetchall() == [("new",)]
