import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.test import AsyncClient, Client, override_settings

from scaling_kit import members, recipes
from scaling_kit.cluster import drain, health
from scaling_kit.cluster.health import Probe
from scaling_kit.embedded import free_port
from scaling_kit.testing import wait_until
from tests import settings as test_settings

no_waiting = override_settings(SCALING_KIT_CLUSTER_READY_MAX_AGE_SECONDS=0.0)


def ask(probe: Probe) -> bool:
    probe.renew()
    return probe.passes()


def failing() -> None:
    raise ConnectionError("refused")


def test_live__whatever_host_the_probe_names() -> None:
    assert Client(headers={"host": "10.0.0.7:8000"}).get("/health/live").json() == {"status": "live"}


@pytest.mark.django_db
def test_ready__says_so_with_each_check() -> None:
    ready, why = health.readiness([Probe("database", health.check_database), Probe("redis", health.check_redis)])
    assert not ready  # migrations were not looked at
    assert why["checks"] == {"database": "ok", "redis": "ok"}


@override_settings(SCALING_KIT_CLUSTER_READY_REQUIRES=("database",))
@pytest.mark.parametrize(
    ("database", "redis", "status"),
    [
        (int, int, "ready"),
        (int, failing, "degraded"),
        (failing, int, "unready"),
    ],
)
def test_only_what_is_required__decides(database: Callable[[], None], redis: Callable[[], None], status: str) -> None:
    ready, why = health.readiness([Probe("database", database), Probe("redis", redis)])
    assert (ready, why["status"]) == (status != "unready", status)


@no_waiting
def test_passed_before__fails_only_after_failures_in_a_row() -> None:
    answers = iter([True, False, True, False, False, True])

    def check() -> None:
        if not next(answers):
            failing()

    probe = Probe("database", check)
    assert [ask(probe) for _ in range(6)] == [True, True, True, True, False, True]


@no_waiting
@override_settings(SCALING_KIT_CLUSTER_READY_BUDGET_SECONDS=0.05)
def test_check_that_hangs__is_not_waited_for_and_fails() -> None:
    released = threading.Event()
    released.set()
    probe = Probe("database", lambda: bool(released.wait()) or None)
    assert ask(probe)
    released.clear()
    assert ask(probe)  # not yet: one slow answer is not a failure
    wait_until(lambda: not ask(probe))
    released.set()
    wait_until(lambda: ask(probe))


@no_waiting
@override_settings(SCALING_KIT_CLUSTER_READY_BUDGET_SECONDS=0.02)
def test_check_that_never_returns__another_one_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "ABANDON_SECONDS", 0.2)
    never, calls = threading.Event(), []

    def check() -> None:
        calls.append(1)
        if len(calls) == 1:
            never.wait()
            failing()

    probe = Probe("database", check)
    assert not ask(probe)
    wait_until(lambda: ask(probe))
    never.set()
    assert len(calls) >= 2
    assert ask(probe)  # whatever the first one says at last


def test_asked_often__checks_once() -> None:
    calls: list[int] = []
    probe = Probe("redis", lambda: calls.append(1))
    assert [ask(probe) for _ in range(5)] == [True] * 5
    assert calls == [1]


@no_waiting
def test_check_made_once__not_repeated_after_it_passed() -> None:
    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) < 3:
            failing()

    probe = Probe("migrations", check, once=True)
    assert [ask(probe) for _ in range(5)] == [False, False, True, True, True]
    assert len(calls) == 3


@pytest.mark.django_db
def test_migrations_applied__passes() -> None:
    health.check_migrations()


@override_settings(SCALING_KIT_CLUSTER_READY_REQUIRES=())
def test_redis_away__degraded_not_unready() -> None:
    with override_settings(SCALING_KIT_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0"):
        ready, why = health.readiness([Probe("redis", health.check_redis)])
    assert (ready, why["status"]) == (True, "degraded")


def s3_settings() -> dict[str, Any]:
    storages = recipes.storages(
        "test",
        endpoint=test_settings.S3.endpoint,
        access_key=test_settings.S3.access_key,
        secret_key=test_settings.S3.secret_key,
    )
    del storages["default"]["OPTIONS"]["public_endpoint"]
    storages["default"]["BACKEND"] = "storages.backends.s3.S3Storage"
    return storages


def test_storage_there__passes(s3: str) -> None:
    with override_settings(STORAGES=s3_settings()):
        health.check_storage()


def test_not_draining__unless_told() -> None:
    assert not drain.is_on()


def counted(name: str) -> int:
    members.Member("web").beat()
    return members.fetch_totals().get(name, 0)


def test_requests__counted_but_not_the_probes() -> None:
    before = counted("web.requests")
    Client().get("/no/such/page")
    Client().get("/health/live")
    assert counted("web.requests") == before + 1


@override_settings(SCALING_KIT_CLUSTER_SERVED_BY=True)
def test_served_by__names_this_process() -> None:
    assert Client().get("/no/such/page")["X-Served-By"].startswith(f"{members.host()}:")


def test_served_by__off_unless_asked_for() -> None:
    assert "X-Served-By" not in Client().get("/no/such/page")


def test_under_asgi__the_same() -> None:
    async def ask_live() -> Any:
        return (await AsyncClient().get("/health/live")).json()

    assert asyncio.run(ask_live()) == {"status": "live"}
