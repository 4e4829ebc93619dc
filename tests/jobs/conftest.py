from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.test import override_settings

from scaling_kit import recipes
from tests.jobs.fleet import Fleet, delete_queues, in_process_worker
from tests.jobs.lossy import LossyProxy


@dataclass
class Queues:
    """Queues of one test, in the order of their rank."""

    high: str
    default: str
    low: str
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = [self.high, self.default, self.low]

    def work(self, *, mode: str = "simple") -> None:
        """Run what is waiting, here and now."""
        with in_process_worker(self.names, mode=mode) as worker:
            worker.run()


@pytest.fixture(autouse=True)
def no_connections(django_db_blocker: Any) -> None:
    """None that an earlier test has left: a worker looks after those, which pytest-django forbids."""
    with django_db_blocker.unblock():
        connections.close_all()


@pytest.fixture
def queues(keys_of_one_test: str) -> Iterator[Queues]:
    found = Queues(*(f"{keys_of_one_test}-{name}" for name in ("high", "default", "low")))
    with override_settings(
        RQ_QUEUES=recipes.rq_queues(settings.SCALING_KIT_REDIS_URL, queues=found.names),
        TASKS=recipes.tasks(queues=["default", *found.names]),
    ):
        yield found
        delete_queues(found.names)


@pytest.fixture
def lossy(queues: Queues) -> Iterator[LossyProxy]:
    """The queues behind a proxy that loses replies when told to."""
    proxy = LossyProxy(settings.SCALING_KIT_REDIS_URL)
    with proxy.running(), override_settings(RQ_QUEUES=recipes.rq_queues(proxy.url, queues=queues.names)):
        yield proxy


@pytest.fixture
def fleet(queues: Queues, keys_of_one_test: str, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(key_prefix=keys_of_one_test, folder=tmp_path).running() as started:
        yield started
