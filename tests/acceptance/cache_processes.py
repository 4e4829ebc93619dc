"""Processes of `cache_reader.py`, and what tests ask them and their Redis."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from django.db import connection

from scaling_kit.embedded import Valkey
from scaling_kit.testing import die_with_parent

ROOT = Path(__file__).parents[2]


StartReaders = Callable[..., list["Reader"]]


class Reader:
    """One process of `cache_reader.py`."""

    def __init__(self, prefix: str, redis_url: str, **settings: Any) -> None:
        database = connection.settings_dict
        url = "postgres://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**database)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.acceptance.cache_reader", prefix, redis_url, json.dumps(settings)],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )

    def tell(self, command: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def do(self, command: str) -> Any:
        self.tell(command)
        return self.answer()

    def wait_until_ready(self) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def is_hit(reader: Reader, title: str = "") -> bool:
    answer = reader.do("read")
    return bool(answer["status"] == "hit") and title in ("", answer["titles"][0])


def redis_of(server: Valkey) -> Any:
    return redis.Redis.from_url(server.url)


def claims(server: Valkey) -> list[bytes]:
    return list(redis_of(server).scan_iter("*claim*"))
