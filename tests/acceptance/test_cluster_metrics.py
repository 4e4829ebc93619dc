"""Any process answers for all: what a known load was counted as, from two real web processes."""

import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from scaling_kit import members
from scaling_kit.testing import wait_until
from tests.acceptance.gunicorns import APPLICATION, Gunicorn, gunicorn, pids

TOKEN = "token-of-prometheus"


@pytest.fixture
def server(tmp_path: Path, keys_of_one_test: str) -> Iterator[Gunicorn]:
    settings = {"SCALING_KIT_MEMBER_TTL_SECONDS": 1.5, "SCALING_KIT_CLUSTER_METRICS_TOKEN": TOKEN}
    application = APPLICATION.format(boot_seconds=0)
    with gunicorn(tmp_path, keys_of_one_test, application=application, settings=settings) as server:
        server.wait_for_workers(2)
        yield server


def scrape(server: Gunicorn) -> dict[str, float]:
    """The samples without labels."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/metrics/")
    request.add_header("Authorization", f"Bearer {TOKEN}")
    with urllib.request.urlopen(request, timeout=10) as response:
        families = text_string_to_metric_families(response.read().decode())
        return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


def counted() -> int:
    return members.fetch_totals().get("web.requests", 0)


def test_known_load__counted_whole_and_kept_when_a_worker_dies(server: Gunicorn) -> None:
    for _ in range(60):
        assert server.get("/none")[0] == 404
    wait_until(lambda: counted() == 60)
    found = scrape(server)
    assert found["scaling_kit_web_requests_total"] == found["scaling_kit_web_request_seconds_count"] == 60
    wait_until(lambda: counted() == 61)  # with the one that asked
    os.kill(server.wait_for_workers(2).pop(), signal.SIGKILL)
    wait_until(lambda: len(pids()) == 2)
    for _ in range(20):
        assert server.get("/none")[0] == 404
    wait_until(lambda: counted() == 81)
    assert scrape(server)["scaling_kit_web_requests_total"] == 81
