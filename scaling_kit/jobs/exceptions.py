"""What can be wrong when somebody looks at, or acts on, a job or a queue."""

from __future__ import annotations


class JobsError(Exception):
    """Base class. Do not raise directly."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.__doc__)


class NoSuchJobError(JobsError):
    """There is no job of this id: it never was, was removed, or its outcome was older than its ttl."""


class NoSuchQueueError(JobsError):
    """There is no queue of this name in RQ_QUEUES."""


class WrongStateError(JobsError):
    """The job is in a state in which this cannot be done."""

    def __init__(self, action: str, state: str) -> None:
        super().__init__(f"A job that is {state} cannot be {action}.")
        self.state = state


class DuplicateJobError(JobsError):
    """Another job holds the place that only one may have."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"The job is unique, and another one like it waits or runs: {holder}.")
        self.holder = holder


class NobodyListensError(JobsError):
    """No worker heard the request to stop. If the worker is dead, the job is soon back in its queue."""
