from dataclasses import dataclass
from types import SimpleNamespace

from tests.scheduler.queue import Task

try:
    from django.tasks import task
except ImportError:  # Django < 6.0
    from django_tasks import task


@task()
def sweep(depth: int) -> int:
    return depth


@dataclass(frozen=True, kw_only=True)
class FunctionTask(Task):
    """One of the tests' own queue, whose arguments can be checked."""

    def func(self, depth: int = 0, *, to: str = "") -> None: ...


tidy = FunctionTask(name="tidy")
no_task = SimpleNamespace(enqueue=print)
