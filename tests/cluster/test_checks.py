from django.test import override_settings

from scaling_kit.cluster import checks

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
