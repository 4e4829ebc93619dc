"""Why the API of the page refuses: the codes that clients see, each with its HTTP status."""

from __future__ import annotations

from scaling_kit import staff

REFUSALS = {
    **staff.REFUSALS,
    "model_unknown": (404, "There is no such model."),
    "view_unknown": (404, "No view of this name has been counted or stored."),
    "not_taken": (503, "Redis has not taken it. This process sends it again as soon as Redis does."),
}


class RefusedError(staff.RefusedError):
    """A request is refused. `code` is one of `REFUSALS`."""

    refusals = REFUSALS
