import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from scaling_kit import embedded
from scaling_kit.embedded import Valkey
from tests.acceptance.cache_processes import Reader, StartReaders
from tests.acceptance.demo import Demo
from tests.library.models import Author, Book


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of several processes of pytest, one runs a whole file: what a file starts is started once."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.name))


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    """One running demo for all tests: a photo is picked every second, a lease lasts two."""
    with tempfile.TemporaryDirectory(prefix="scaling_kit-demo-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user when the tests run as root
        with Demo(Path(folder), PHOTO_OF_THE_MINUTE_SECONDS="1", SCHEDULER_LEASE_SECONDS="2") as running:
            running.start()
            yield running
            running.stop()


@pytest.fixture
def valkey_of_its_own(tmp_path: Path) -> Valkey:
    return Valkey(folder=tmp_path, port=embedded.free_port(), persistent=False)


@pytest.fixture
def readers(transactional_db: None, keys_of_one_test: str, valkey_of_its_own: Valkey) -> Iterator[StartReaders]:
    Book.objects.create(title="old", author=Author.objects.create(name="Ursula"))

    with ExitStack() as stack:

        def start_readers(number: int, **settings: Any) -> list[Reader]:
            started = [Reader(keys_of_one_test, valkey_of_its_own.url, **settings) for _ in range(number)]
            for reader in started:
                stack.callback(reader.kill)
            for reader in started:
                reader.wait_until_ready()
            return started

        yield start_readers
