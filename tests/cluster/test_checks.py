import re
from pathlib import Path

import pytest
from django.test import override_settings

from scaling_kit.cluster import checks, conf

OTHER = "django.middleware.common.CommonMiddleware"


def test_as_it_should_be__nothing_to_say() -> None:
    assert checks.check_dependencies() == checks.check_middleware() == checks.check_ready_requires() == []


@override_settings(MIDDLEWARE=[OTHER])
def test_no_health_middleware__w002() -> None:
    assert [found.id for found in checks.check_middleware()] == ["scaling_kit_cluster.W002"]


@override_settings(MIDDLEWARE=[OTHER, checks.MIDDLEWARE])
def test_health_middleware_not_first__w003() -> None:
    assert [found.id for found in checks.check_middleware()] == ["scaling_kit_cluster.W003"]


@override_settings(SCALING_KIT_CLUSTER_READY_REQUIRES=("database", "redys"))
def test_unknown_health_check_required__e004() -> None:
    [found] = checks.check_ready_requires()
    assert found.id == "scaling_kit_cluster.E004"
    assert "redys" in found.msg


@pytest.mark.parametrize(
    ("processes", "said", "hint"),
    [
        (["web"], "['web'] is no dictionary.", "by name"),
        ({"web": -1}, "'web' has count=-1.", "A whole number from 0 to 256."),
        ({"web": True}, "'web' is True.", "Give a number"),
        ({"web": "4"}, "'web' is '4'.", "Give a number"),
        ({"wbe": 4}, "'wbe' is none of web, websocket, workers, scheduler, and has no command.", "Did you mean 'web'?"),
        ({"all": {"command": ["x"]}}, "'all' is a name that the runner uses itself.", "another"),
        ({"My mailer": {"command": ["x"]}}, "'My mailer' is no name for a process.", "small letters"),
        ({"mailer": {"command": "send mails"}}, "'mailer' has command='send mails'.", "A list"),
        (
            {"mailer": {"command": ["x"], "instances": 2}},
            "'mailer' has no option 'instances'.",
            "options are count, command",
        ),
        ({"web": {"command": ["x"]}}, "'web' has no option 'command'.", "Its options are count, env"),
        ({"web": {"memory_max_mb": "1G"}}, "'web' has memory_max_mb='1G'.", "A whole number"),
        ({"mailer": {"command": ["x"], "stop_signal": "TERM"}}, "'mailer' has stop_signal='TERM'.", "'SIGINT'"),
        ({"mailer": {"command": ["x"], "env": {"A": 1}}}, "'mailer' has env={'A': 1}.", "Texts"),
    ],
)
def test_processes_that_cannot_be_run__e005(processes: object, said: str, hint: str) -> None:
    with override_settings(SCALING_KIT_CLUSTER_PROCESSES=processes):
        [found] = checks.check_processes()
    assert found.id == "scaling_kit_cluster.E005"
    assert said in found.msg
    assert hint in str(found.hint)


def test_processes_that_can_be_run__nothing_to_say() -> None:
    mailer = {"command": ["x"], "count": 2, "env": {"A": "1"}, "cwd": "/", "stop_signal": "SIGINT", "stop_seconds": 5}
    with override_settings(SCALING_KIT_CLUSTER_PROCESSES={"web": 4, "workers": {"count": 0}, "mailer": mailer}):
        assert checks.check_processes() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("WORKERS", -1), ("RESTART_FAILED_STARTS", 0), ("RESTART_LAST_SECONDS", 0.01), ("MEMORY_LOOK_SECONDS", 0)],
)
def test_number_too_small__e006(name: str, value: float) -> None:
    with override_settings(**{f"SCALING_KIT_CLUSTER_{name}": value}):
        [found] = checks.check_numbers()
    assert found.id == "scaling_kit_cluster.E006"
    assert f"SCALING_KIT_CLUSTER_{name} is {value!r}." in found.msg


def test_numbers_that_are_none__are_left_to_the_check_of_types() -> None:
    with override_settings(SCALING_KIT_CLUSTER_WORKERS="4"):
        assert checks.check_numbers() == []


def test_docs__name_every_setting_and_every_code() -> None:
    docs = Path(__file__).parents[2] / "docs"
    pages = "".join((docs / name).read_text() for name in ("cluster.md", "runner.md", "live.md"))
    codes = re.findall(r"\b[EW]0\d\d\b", Path(checks.__file__).read_text())
    assert [
        name for name in conf.ClusterSettings.defaults() if name.removeprefix("SCALING_KIT_CLUSTER_") not in pages
    ] == []
    assert [code for code in {*codes} - {"E002"} if code not in pages] == []  # E002 is the hall's
