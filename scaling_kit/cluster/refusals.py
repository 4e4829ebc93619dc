"""Why orders are refused: the codes that clients see, each with its HTTP status."""

from __future__ import annotations

from typing import Any

from scaling_kit import staff

REFUSALS = {
    **staff.REFUSALS,
    "host_unknown": (404, "No process of this host is there."),
    "order_unknown": (404, "Nothing is known of this order: it ended more than a minute ago, or never was."),
    "no_runner": (409, "There is no runner on this host: whoever started its processes has to stop and scale them."),
    "no_answer": (504, "The runner of this host does not take orders. Nothing was done."),
    # What the runner answers.
    "malformed": (400, "The runner cannot read the order."),
    "unknown_verb": (400, "The runner does not know this order: is it of another release?"),
    "out_of_range": (400, "So many processes are not possible."),
    "unknown_name": (404, "The runner has no process of this name."),
    "busy": (409, "Another order about this process is under way."),
    "not_reloadable": (409, "It cannot be reloaded: restart it instead."),
    "reload_failed": (409, "The new release does not start. The old processes go on serving."),
    "not_ready": (409, "It was started, but does not come up. It is tried again."),
    "stopping": (409, "The runner is ending."),
    "runner_failed": (502, "The runner could not carry out the order; its log says why."),
}


class RefusedError(staff.RefusedError):
    """A request is refused. `code` is one of `REFUSALS`."""

    refusals = REFUSALS


def refused_by_runner(answer: dict[str, Any]) -> RefusedError:
    code = answer.get("code")
    known = code if code in REFUSALS else "runner_failed"
    return RefusedError(str(known), str(answer.get("reason", "")), done=answer.get("done", {}))
