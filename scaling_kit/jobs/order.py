"""In which order a worker looks into its queues."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Order:
    """The queues in the order of their rank or, with weights, so that none is starved.

    With weights 6, 3 and 1 a worker looks into the first queue first six times of ten, and so on; the others follow
    in an order drawn in the same way, so no worker is idle while any queue has a job.
    """

    queue_names: tuple[str, ...]
    weights: tuple[float, ...] = ()

    def pick(self) -> Sequence[str]:
        if not self.weights:
            return self.queue_names
        # Efraimidis and Spirakis, "Weighted random sampling with a reservoir" (2006): the largest u^(1/w) first.
        drawn = [random.random() ** (1 / weight) for weight in self.weights]  # noqa: S311  (no secret)
        ranked = sorted(zip(drawn, self.queue_names, strict=True), reverse=True)
        return [name for _, name in ranked]
