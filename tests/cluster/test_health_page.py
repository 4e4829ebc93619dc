"""`/health/`: one word for everyone, the reasons for the staff."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings

from scaling_kit import members
from scaling_kit.cluster import health, marks
from scaling_kit.embedded import free_port
from scaling_kit.testing import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    with override_settings(
        SCALING_KIT_CLUSTER_READY_MAX_AGE_SECONDS=0.0, SCALING_KIT_CLUSTER_READY_REQUIRES=("database",)
    ):
        yield
    marks._is_marked = False


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_user("ann", is_staff=True))
    return client


def in_json(client: Client, status: int = 200) -> dict[str, Any]:
    response = client.get("/health/", headers={"accept": "application/json"})
    assert response.status_code == status
    found: dict[str, Any] = response.json()
    return found


def in_html(client: Client) -> str:
    response = client.get("/health/", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert response["Content-Type"].startswith("text/html")
    return response.content.decode()


def test_anyone__sees_only_the_state() -> None:
    assert in_json(Client()).keys() == {"status"}
    page = in_html(Client())
    assert "<h1" in page
    assert "database" not in page
    assert members.host() not in page


def test_signed_in_but_not_staff__sees_only_the_state() -> None:
    client = Client()
    client.force_login(User.objects.create_user("bob"))
    assert in_json(client).keys() == {"status"}


def test_staff__sees_checks_and_processes(staff: Client) -> None:
    members.Member("web").beat()
    found = in_json(staff)
    assert found["checks"]["database"] | {"begun_seconds_ago": 0} == {
        "state": "ok",
        "required": True,
        "complaint": "",
        "begun_seconds_ago": 0,
    }
    assert found["hosts"] == {members.host(): {"web": 1}}
    page = in_html(staff)
    assert "database" in page
    assert "1 web" in page


def test_failing_check__its_reason_is_for_the_staff_and_escaped(staff: Client) -> None:
    def failing() -> None:
        raise ConnectionError("<refused>")

    probe = health.Probe("search", failing)
    health._of_the_project["search"] = probe
    with override_settings(SCALING_KIT_CLUSTER_CHECKS={"search": "x"}):
        probe.renew()
        assert not probe.passes()
        assert "ConnectionError: &lt;refused&gt;" in in_html(staff)
        assert "refused" not in in_html(Client())
    del health._of_the_project["search"]


def test_drained__unready_and_back(staff: Client) -> None:
    marks.put(members.host())
    assert in_json(staff, 503)["draining"] is True
    assert "Leaving service" in in_html(staff)
    assert Client().get("/health/started").status_code == 200
    marks.remove(members.host())
    assert in_json(staff)["draining"] is False


def test_redis_away__the_page_is_there(staff: Client) -> None:
    with override_settings(SCALING_KIT_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0"):
        wait_until(lambda: in_json(staff)["checks"]["redis"]["state"] == "failing")
        assert in_json(staff)["hosts"] is None
        assert "Redis does not say" in in_html(staff)
        assert "Working, with limits" in in_html(Client())
