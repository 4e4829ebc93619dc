"""Why the API refuses: the codes that clients see, each with its HTTP status."""

from __future__ import annotations

import logging
from typing import Any

from django.db import InterfaceError, OperationalError
from rest_framework.exceptions import APIException, ValidationError

from scaling_kit.jobs.exceptions import (
    DuplicateJobError,
    NobodyListensError,
    NoSuchJobError,
    NoSuchQueueError,
    WrongStateError,
)
from scaling_kit.redis import RedisError

logger = logging.getLogger(__name__)

REFUSALS = {
    "request_invalid": (400, "The request is not what this address expects."),
    "task_forbidden": (403, "This task is not in SCALING_KIT_JOBS_API_TASKS."),
    "job_unknown": (404, "There is no such job."),
    "queue_unknown": (404, "There is no such queue."),
    "job_state": (409, "The job is in a state in which this cannot be done."),
    "job_duplicate": (409, "The job is unique, and another one like it waits or runs."),
    "worker_silent": (409, "No worker heard the request to stop."),
    "arguments_invalid": (422, "The task does not take these arguments."),
    "task_unknown": (422, "This task does not exist in this release."),
    "redis_unavailable": (503, "Redis does not answer. Try again."),
    "database_unavailable": (503, "The database does not answer. Try again."),
}
RETRY_AFTER_SECONDS = 2
_CODES: dict[type[Exception], str] = {
    NoSuchJobError: "job_unknown",
    NoSuchQueueError: "queue_unknown",
    WrongStateError: "job_state",
    DuplicateJobError: "job_duplicate",
    NobodyListensError: "worker_silent",
}


class RefusedError(APIException):
    """A request is refused. `code` is one of `REFUSALS`; `more` joins the body of the response."""

    def __init__(self, code: str, detail: str = "", **more: Any) -> None:
        self.code = code
        self.status_code, default_detail = REFUSALS[code]
        super().__init__(detail or default_detail, code)
        self.more = more
        if self.status_code == 503:
            self.wait = RETRY_AFTER_SECONDS  # DRF makes it the header Retry-After


def refusal_of(error: Exception) -> Exception:
    """The same error, as one that becomes a response, if it is one that clients should hear of."""
    if type(error) in _CODES:
        more = {name: getattr(error, name) for name in ("state", "holder") if hasattr(error, name)}
        return RefusedError(_CODES[type(error)], str(error), **more)
    if isinstance(error, RedisError):
        logger.warning("redis_unavailable error=%r", error)
        return RefusedError("redis_unavailable")
    if isinstance(error, OperationalError | InterfaceError):
        logger.warning("database_unavailable error=%r", error)
        return RefusedError("database_unavailable")
    if isinstance(error, ValidationError):
        return RefusedError("request_invalid", fields=error.detail)
    return error


def body_of(error: Exception) -> dict[str, Any]:
    """`{"code", "detail", ...}`."""
    if isinstance(error, RefusedError):
        return {"code": error.code, "detail": _text(error.detail), **error.more}
    detail = getattr(error, "detail", None)
    if isinstance(detail, dict) and "code" in detail:  # an authentication class that gives such a body itself
        return detail
    code = getattr(detail, "code", None) or getattr(error, "default_code", "refused")
    return {"code": code, "detail": _text(detail or error) or "Not allowed."}


def _text(value: object) -> str:
    """What clients sent may be quoted in it, half of a surrogate pair too."""
    return str(value).encode(errors="replace").decode()
