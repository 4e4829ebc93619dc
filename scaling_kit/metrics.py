"""What an app tells whoever collects metrics: `cluster_metrics = "dotted.path"` in its AppConfig names a function that
returns a list of these, and is quick: a few round trips, whatever there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Sample = tuple[Mapping[str, str], float]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A family as Prometheus has it. `name` without prefix, in base units: `jobs_oldest_seconds`."""

    name: str
    help: str
    samples: Sequence[Sample]
    kind: Literal["gauge", "counter"] = "gauge"
