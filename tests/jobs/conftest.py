from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from django.conf import settings
from django.test import override_settings

from scaling_kit import recipes
from tests.jobs.fleet import Fleet, delete_queues, in_process_worker


@dataclass
class Queues:
    """Queues of one test, in the order of their rank."""

    high: str
    default: str
    low: str
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = [self.high, self.default, self.low]

    def work(self, *, forks: bool = False) -> None:
        """Run what is waiting, here and now."""
        with in_process_worker(self.names, forks=forks) as worker:
            worker.run()


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
def fleet(queues: Queues, keys_of_one_test: str) -> Iterator[Fleet]:
    with Fleet(key_prefix=keys_of_one_test).running() as started:
        yield started
