import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.demo import Demo


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
