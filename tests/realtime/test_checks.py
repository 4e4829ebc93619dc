import pytest
from django.core.checks import run_checks
from django.test import override_settings

from scaling_kit import members
from scaling_kit.realtime import publish, status


def found(number: str) -> int:
    return sum(message.id == f"scaling_kit_realtime.{number}" for message in run_checks())


def test_no_hook__warned_that_nobody_may_join() -> None:
    with override_settings(SCALING_KIT_REALTIME_CAN_JOIN=""):
        assert found("W002") == 1
    with override_settings(SCALING_KIT_REALTIME_CAN_JOIN="tests.realtime.permissions.can_join"):
        assert found("W002") == found("E003") == 0


@pytest.mark.parametrize("path", ["nowhere", "tests.nowhere.can_join", "tests.realtime.permissions.nothing", "os.name"])
def test_hook_that_cannot_be_used__error(path: str) -> None:
    with override_settings(SCALING_KIT_REALTIME_CAN_JOIN=path):
        assert found("E003") == 1


def test_origins_that_no_page_has__one_error_each() -> None:
    with override_settings(SCALING_KIT_REALTIME_ORIGINS=["https://app.example", "app.example", "*"]):
        assert found("E004") == 2


def test_everything_installed__no_error() -> None:
    assert found("E001") == 0


def test_status__sockets_of_all_processes_and_totals() -> None:
    member = members.Member("websocket", sockets=3)
    publish("wall", "n", 1)
    member.beat()
    snapshot = status.snapshot()
    assert (snapshot["sockets"], snapshot["sockets_by_process"]) == (3, {member.id: 3})
    assert snapshot["published"] >= 1
