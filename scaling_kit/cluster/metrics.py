"""Prometheus metrics of the whole cluster, from any process: what the members' beats have brought to Redis, and what
each installed app says of itself. Nothing is kept in files or in the answering process.
"""

from __future__ import annotations

import logging
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from django.apps import apps
from django.utils.module_loading import import_string
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.registry import Collector, CollectorRegistry

from scaling_kit import members
from scaling_kit.cluster.latency import BOUNDS_SECONDS, INFINITY, MILLISECONDS, SECONDS_LE, bucket
from scaling_kit.metrics import Metric

logger = logging.getLogger(__name__)

PREFIX = "scaling_kit_"
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9_]+")


def registry() -> CollectorRegistry:
    """For `prometheus_client.exposition`: asks Redis whenever it is collected, which raises `redis.RedisError`."""
    made = CollectorRegistry(auto_describe=False)
    made.register(_Cluster())
    return made


class _Cluster(Collector):
    def collect(self) -> Iterator[Family]:
        started = time.monotonic()
        totals = members.fetch_totals()
        yield from _of_members(members.fetch_members())
        yield _latency(totals)
        yield from map(_family, [*_counters(totals), *of_apps()])
        yield GaugeMetricFamily(
            f"{PREFIX}collect_seconds", "How long it took to collect this.", time.monotonic() - started
        )

    def describe(self) -> Iterable[Family]:
        return []


def _of_members(found: list[dict[str, str]]) -> Iterator[Family]:
    labels = ("role", "host", "release")
    counts: dict[tuple[str, ...], int] = defaultdict(int)
    for member in found:
        counts[tuple(member[label] for label in labels)] += 1
    processes = GaugeMetricFamily(f"{PREFIX}processes", "Processes by role, host and release.", labels=labels)
    for values, count in counts.items():
        processes.add_metric(values, count)
    yield processes
    own = ("role", "host", "pid")
    rss = GaugeMetricFamily(f"{PREFIX}process_resident_memory_bytes", "Memory of each process.", labels=own)
    cpu = CounterMetricFamily(f"{PREFIX}process_cpu_seconds", "CPU time of each process.", labels=own)
    for member in found:
        process = [member[label] for label in own]
        rss.add_metric(process, float(member["rss_bytes"]))
        cpu.add_metric(process, float(member["cpu_seconds"]))
    yield rss
    yield cpu


def _latency(totals: Mapping[str, int]) -> Family:
    family = HistogramMetricFamily(f"{PREFIX}web_request_seconds", "Time until the response was there.")
    counted, buckets = 0, []
    for bound in BOUNDS_SECONDS:
        counted += totals.get(bucket(bound), 0)
        buckets.append(("+Inf" if bound == INFINITY else str(bound), counted))
    family.add_metric([], buckets, totals.get(MILLISECONDS, 0) / 1000)
    return family


def _counters(totals: Mapping[str, int]) -> Iterator[Metric]:
    """`cache.hit:<view>` is `cache_hit_by_view`, `cache.bypass;<reason>` is `cache_bypass_by_reason`."""
    samples: dict[str, list[tuple[Mapping[str, str], float]]] = defaultdict(list)
    for name, total in totals.items():
        stem, separator, value = name.partition(":") if ":" in name else name.partition(";")
        label = {":": "view", ";": "reason"}.get(separator, "")
        if stem in (MILLISECONDS, SECONDS_LE):
            continue
        metric = _NOT_IN_A_NAME.sub("_", stem.lower())
        samples[f"{metric}_by_{label}" if label else metric].append(({label: value} if label else {}, total))
    for metric, found in sorted(samples.items()):
        yield Metric(name=metric, help="Counted over all processes.", kind="counter", samples=found)


def of_apps() -> Iterator[Metric]:
    """What each installed app says of itself; one that fails says so."""
    for app in apps.get_app_configs():
        path = getattr(app, "cluster_metrics", "")
        try:
            yield from import_string(path)() if path else ()
        except Exception:  # whatever one app does wrong, the metrics of the others must appear
            logger.exception("metrics failed app=%s", app.label)
            yield Metric(name="app_failed", help="1 if its metrics failed.", samples=[({"app": app.label}, 1.0)])


def _family(metric: Metric) -> Family:
    labels = sorted({label for found, _ in metric.samples for label in found})
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(PREFIX + metric.name, metric.help, labels=labels)
    for found, value in metric.samples:
        family.add_metric([found.get(label, "") for label in labels], value)
    return family
