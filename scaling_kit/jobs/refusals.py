"""Why the API refuses: the codes that clients see, each with its HTTP status."""

from __future__ import annotations

from scaling_kit import staff
from scaling_kit.jobs.exceptions import (
    DuplicateJobError,
    NobodyListensError,
    NoSuchJobError,
    NoSuchQueueError,
    WrongStateError,
)

REFUSALS = {
    **staff.REFUSALS,
    "task_forbidden": (403, "This task is not in SCALING_KIT_JOBS_API_TASKS."),
    "job_unknown": (404, "There is no such job."),
    "queue_unknown": (404, "There is no such queue."),
    "job_state": (409, "The job is in a state in which this cannot be done."),
    "job_duplicate": (409, "The job is unique, and another one like it waits or runs."),
    "worker_silent": (409, "No worker heard the request to stop."),
    "arguments_invalid": (422, "The task does not take these arguments."),
    "task_unknown": (422, "This task does not exist in this release."),
}
_CODES: dict[type[Exception], str] = {
    NoSuchJobError: "job_unknown",
    NoSuchQueueError: "queue_unknown",
    WrongStateError: "job_state",
    DuplicateJobError: "job_duplicate",
    NobodyListensError: "worker_silent",
}


class RefusedError(staff.RefusedError):
    """A request is refused. `code` is one of `REFUSALS`; `more` joins the body of the response."""

    refusals = REFUSALS


def refusal_of(error: Exception) -> Exception:
    """The same error, as one that becomes a response, if it is one that clients should hear of."""
    if type(error) in _CODES:
        more = {name: getattr(error, name) for name in ("state", "holder") if hasattr(error, name)}
        return RefusedError(_CODES[type(error)], str(error), **more)
    return staff.refusal_of(error)
