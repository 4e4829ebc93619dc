"""SCALING_KIT_CLUSTER_CHECKS: functions, and checks that are written for django-health-check."""

import dataclasses
import datetime
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import Client, override_settings

from scaling_kit.cluster import health
from scaling_kit.cluster.checks import check_project_checks, check_ready_requires

health_check = pytest.importorskip("health_check")

from health_check.base import HealthCheck  # noqa: E402
from health_check.exceptions import ServiceUnavailable, ServiceWarning  # noqa: E402

HERE = __name__


@dataclasses.dataclass
class Answering(HealthCheck):
    async def run(self) -> None:
        pass


@dataclasses.dataclass
class Failing(HealthCheck):
    why: str = "closed"

    def run(self) -> None:  # type: ignore[override]  # they may be functions
        raise ServiceUnavailable(self.why)


@dataclasses.dataclass
class NearlyFull(HealthCheck):
    def run(self) -> None:  # type: ignore[override]
        raise ServiceWarning("90 % of it is used")


@dataclasses.dataclass
class Hanging(HealthCheck):
    timeout: datetime.timedelta = datetime.timedelta(seconds=0.1)

    async def run(self) -> None:
        import asyncio

        await asyncio.sleep(60)


def ping(*, answers: bool = True) -> None:
    if not answers:
        raise ConnectionError("refused")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_of_the_project", {})


def ready(*requires: str, **checks: Any) -> tuple[int, str, dict[str, str]]:
    """Status and answer of /health/ready, without the kit's own checks."""
    with override_settings(SCALING_KIT_CLUSTER_READY_REQUIRES=requires, SCALING_KIT_CLUSTER_CHECKS=checks):
        for probe in health.probes():
            probe.renew()
            probe.passes()
        response = Client().get("/health/ready")
    return response.status_code, response.json()["status"], {name: response.json()["checks"][name] for name in checks}


def test_not_required_and_failing__degraded() -> None:
    assert ready(good=f"{HERE}.Answering", bad=(f"{HERE}.Failing", {"why": "away"})) == (
        200,
        "degraded",
        {"good": "ok", "bad": "failing"},
    )


def test_required_and_failing__unready() -> None:
    assert ready("bad", bad=f"{HERE}.Failing")[:2] == (503, "unready")


def test_required_and_warning__ready_but_degraded() -> None:
    assert ready("disk", disk=f"{HERE}.NearlyFull") == (200, "degraded", {"disk": "warning"})


def test_coroutine_that_hangs__fails_at_its_own_timeout() -> None:
    assert ready(slow=f"{HERE}.Hanging")[2] == {"slow": "failing"}


def test_function_with_arguments() -> None:
    assert ready(good=f"{HERE}.ping", bad=(f"{HERE}.ping", {"answers": False}))[2] == {"good": "ok", "bad": "failing"}


@pytest.mark.django_db(transaction=True)
def test_checks_of_the_package__with_the_real_database_and_cache() -> None:
    checks = {"base": "health_check.checks.Database", "cached": ("health_check.checks.Cache", {"alias": "default"})}
    assert ready(**checks)[2] == {"base": "ok", "cached": "ok"}


@pytest.mark.parametrize(
    ("checks", "said"),
    [
        ({"redis": f"{HERE}.ping"}, "a check of the kit's own"),
        ({"x": "no.such.module"}, "No module named"),
        ({"x": (f"{HERE}.Failing", {"wy": 1})}, "unexpected keyword argument"),
        ({"x": f"{HERE}.HERE"}, "neither a function nor a check"),
    ],
)
def test_entry_that_cannot_be_used__is_a_system_check(checks: dict[str, Any], said: str) -> None:
    with override_settings(SCALING_KIT_CLUSTER_CHECKS=checks):
        [error] = check_project_checks()
        assert error.id == "scaling_kit_cluster.E007"
        assert said in error.msg
        with pytest.raises(SystemCheckError, match=r"scaling_kit_cluster\.E007"):
            call_command("check")


def test_ready_requires__may_name_them() -> None:
    with override_settings(SCALING_KIT_CLUSTER_CHECKS={"x": f"{HERE}.ping"}):
        with override_settings(SCALING_KIT_CLUSTER_READY_REQUIRES=("x",)):
            assert check_ready_requires() == []
        with override_settings(SCALING_KIT_CLUSTER_READY_REQUIRES=("y",)):
            assert [error.id for error in check_ready_requires()] == ["scaling_kit_cluster.E004"]
