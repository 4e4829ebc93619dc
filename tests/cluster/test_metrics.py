"""Metrics of the cluster, as Prometheus reads them."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django_rq import get_queue
from prometheus_client.parser import text_string_to_metric_families

from scaling_kit import members
from scaling_kit.cluster import latency
from scaling_kit.embedded import free_port
from scaling_kit.redis import Purpose, client

TOKEN = "a-token-of-prometheus"
URL = "/metrics/"


@pytest.fixture(autouse=True)
def site(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.cluster.urls"
    settings.SCALING_KIT_CLUSTER_METRICS_TOKEN = TOKEN


def scrape(**headers: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Name of a sample → its labels → its value."""
    response = Client().get(URL, headers={"Authorization": f"Bearer {TOKEN}", **headers})
    assert response.status_code == 200, response.content
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(response.content.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def beat(role: str = "web") -> members.Member:
    member = members.Member(role)
    member.beat()
    return member


def test_counters_of_all_processes__are_there() -> None:
    members._take_counts()
    members.count("cache.hit", 7)
    members.count("cache.hit:shop.views.ArticleViewSet.list", 5)
    members.count("cache.bypass;cookie", 2)
    beat()
    members.count("cache.hit", 3)
    beat("worker")
    found = scrape()
    assert found["scaling_kit_cache_hit_total"][()] == 10
    assert found["scaling_kit_cache_hit_by_view_total"] == {(("view", "shop.views.ArticleViewSet.list"),): 5}
    assert found["scaling_kit_cache_bypass_by_reason_total"] == {(("reason", "cookie"),): 2}


def test_processes__by_role_and_each_with_its_memory() -> None:
    member = beat()
    found = scrape()
    [(labels, number)] = found["scaling_kit_processes"].items()
    assert (dict(labels)["role"], number) == ("web", 1)
    [(labels, memory)] = found["scaling_kit_process_resident_memory_bytes"].items()
    assert dict(labels)["pid"] == member.id.rpartition(":")[2]
    assert memory > 10**6


def test_latency__is_a_histogram() -> None:
    members._take_counts()
    for seconds in (0.001, 0.02, 0.02, 3.0, 60.0):
        members.count_each(latency.bucket_of(seconds))
        members.count(latency.MILLISECONDS, round(seconds * 1000))
    beat()
    found = scrape()
    buckets = {dict(labels)["le"]: value for labels, value in found["scaling_kit_web_request_seconds_bucket"].items()}
    assert (buckets["0.005"], buckets["0.025"], buckets["2.5"], buckets["5.0"], buckets["+Inf"]) == (1, 3, 3, 4, 5)
    assert found["scaling_kit_web_request_seconds_count"][()] == 5
    assert found["scaling_kit_web_request_seconds_sum"][()] == pytest.approx(63.041)


@pytest.mark.parametrize(("share", "expected"), [(0.2, 0.005), (0.5, 0.025), (0.7, 5.0), (0.99, latency.INFINITY)])
def test_quantile__is_the_bound_of_its_bucket(share: float, expected: float) -> None:
    counted = {latency.bucket_of(seconds): 1 for seconds in (0.001, 3.0, 60.0)}
    counted[latency.bucket_of(0.02)] = 2
    assert latency.quantile(counted, share) == expected
    assert latency.quantile({}, share) is None


@pytest.mark.django_db
def test_who_may_read() -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        assert Client().get(URL, headers=headers).status_code in (401, 403)
    with override_settings(SCALING_KIT_CLUSTER_METRICS_TOKEN=""):
        assert Client().get(URL, headers={"Authorization": "Bearer "}).status_code in (401, 403)
    assert User.objects.create_user("ada", is_staff=True).is_staff


def test_open_metrics__if_asked_for() -> None:
    response = Client().get(
        URL, headers={"Authorization": f"Bearer {TOKEN}", "Accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert response["Content-Type"].startswith("application/openmetrics-text")
    assert response.content.endswith(b"# EOF\n")


def test_redis_away__503_that_says_so() -> None:
    with override_settings(SCALING_KIT_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0"):
        response = Client().get(URL, headers={"Authorization": f"Bearer {TOKEN}"})
    assert (response.status_code, response.json()["code"]) == (503, "redis_unavailable")


def test_app_that_fails__is_named_and_the_others_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.apps import apps

    monkeypatch.setattr(
        apps.get_app_config("scaling_kit_scheduler"), "cluster_metrics", "no.such.function", raising=False
    )
    found = scrape()
    assert found["scaling_kit_app_failed"] == {(("app", "scaling_kit_scheduler"),): 1}
    assert "scaling_kit_jobs" in found


def test_fifty_processes_and_many_jobs__a_few_round_trips() -> None:
    """The figure of docs/cluster.md: `pytest -s` prints it."""
    for number in range(50):
        member = members.Member("web")
        member.id = f"host:{number}"
        member.beat()
    queue = get_queue("default")
    pushed = 100_000
    queue.connection.rpush(queue.key, *[f"job-{number}" for number in range(pushed)])
    redis = client(Purpose.SCRIPT)
    try:
        before = redis.info("stats")["total_commands_processed"]
        found = scrape()
        commands = redis.info("stats")["total_commands_processed"] - before
    finally:
        queue.connection.delete(queue.key)
    assert sum(found["scaling_kit_processes"].values()) == 50
    assert found["scaling_kit_jobs"][(("queue", "default"), ("state", "waiting"))] >= pushed
    assert commands < 50 + 200
    seconds = sorted(_seconds() for _ in range(20))
    print(f"median of 20: {1000 * seconds[10]:.1f} ms")


def _seconds() -> float:
    return scrape()["scaling_kit_collect_seconds"][()]


def test_history__what_the_counters_grew_by() -> None:
    members._take_counts()
    members.count("web.requests", 5)
    beat()
    members.count("web.requests", 2)
    beat()
    history = members.fetch_history(minutes=1)
    assert len(history) == 7
    assert sum(counted.get("web.requests", 0) for _, counted in history) == 7
    assert {slot % members.SLOT_SECONDS for slot, _ in history} == {0}
