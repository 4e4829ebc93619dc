"""The history as numbers and as lines."""

import re
import time

import pytest

from scaling_kit import members
from scaling_kit.cluster import charts, gauges, latency
from scaling_kit.cluster.charts import HEIGHT, History, Slot


def slot(**fields: float) -> Slot:
    return charts.slot(0, 10.0, fields, {})


def test_slot__rates_and_shares() -> None:
    found = charts.slot(
        0, 10.0, {"web.requests": 50, "web.errors": 5, "cache.hit": 3, "cache.miss": 1}, {charts.QUEUE_AGE: 7.0}
    )
    assert (found.requests_per_second, found.errors_per_second, found.hit_ratio) == (5.0, 0.5, 0.75)
    assert found.queue_age_seconds == 7.0


def test_slot_without_anything__says_so() -> None:
    found = slot()
    assert (found.requests_per_second, found.p50_seconds, found.hit_ratio, found.queue_age_seconds) == (
        0,
        None,
        None,
        None,
    )


def test_latency__is_bounded_so_that_it_is_json() -> None:
    found = charts.slot(0, 10.0, {latency.bucket(latency.INFINITY): 1, latency.bucket(0.005): 1}, {})
    assert (found.p50_seconds, found.p99_seconds) == (0.005, charts.MOST_SECONDS)


def test_fetch__what_was_counted_and_looked_at() -> None:
    members.count("web.requests", 30)
    members.Member("web").beat()
    gauges.record({charts.QUEUE_AGE: 12.0})
    history = charts.fetch(minutes=1)
    assert len(history.slots) == 6
    assert history.recent.requests_per_second >= 1.5
    assert history.recent.queue_age_seconds == 12.0
    assert charts.fetch().as_json()["slot_seconds"] == 10


def test_gauge__last_word_stands_in_each_slot() -> None:
    at = int(time.time()) // 10 * 10
    gauges.record({"age": 1.0}, now=at)
    gauges.record({"age": 2.0}, now=at + 9)
    gauges.record({"age": 5.0}, now=at - 10)
    gauges.record({})
    assert gauges.fetch([at - 20, at - 10, at]) == [{}, {"age": 5.0}, {"age": 2.0}]


@pytest.mark.parametrize(
    ("values", "moves"),
    [([1.0, 2.0, 3.0], 1), ([1.0, None, 3.0], 2), ([None, None], 0), ([None, 2.0, 2.0, None, 1.0], 2), ([], 0)],
)
def test_line__has_a_gap_where_nothing_is_known(values: list[float | None], moves: int) -> None:
    line = charts.path(values, 4.0)
    assert line.count("M") == moves
    assert not re.search("nan|inf|None", line + charts.area(values, 4.0))


def test_line__highest_is_at_the_upper_edge_and_none_above() -> None:
    assert charts.path([4.0, 0.0, 9.0], 4.0) == f"M0.0 3.0L120.0 {HEIGHT:.1f}L240.0 3.0"


@pytest.mark.parametrize(("value", "edge"), [(0, 1), (0.3, 0.5), (1, 1), (1.1, 2), (42, 50), (2.2, 2.5), (990, 1000)])
def test_upper_edge__is_good_to_read(value: float, edge: float) -> None:
    assert charts._round_up(value) == pytest.approx(edge)


def test_charts__words_for_those_who_do_not_see_them() -> None:
    busy = charts.slot(0, 10.0, {"web.requests": 20, "web.errors": 1, latency.bucket(0.05): 20}, {})
    made = {chart.name: chart for chart in charts.charts(History(slots=(slot(), busy), recent=busy))}
    assert made["requests"].summary == "The last 10 minutes: requests between 0 and 2/s"
    assert (made["requests"].value, made["requests"].unit, made["requests"].top) == ("2", "/s", "2/s")
    assert (made["latency"].value, made["latency"].note) == ("≤ 50 ms", "p99 ≤ 50 ms")
    assert made["errors"].is_bad
    assert made["hit_ratio"].value == charts.NOTHING


def test_latency_beyond_the_last_bucket__is_more_than() -> None:
    assert charts._at_most(charts.MOST_SECONDS) == "> 5 s"
