"""A task for benches that only enqueue."""

from scaling_kit.jobs.tasks import task


@task
def nothing() -> None: ...
