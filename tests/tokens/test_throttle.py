from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import User
from django.test import override_settings
from rest_framework.request import Request
from rest_framework.test import APIClient, APIRequestFactory

from scaling_kit.testing import wait_until
from scaling_kit.tokens import throttle
from scaling_kit.tokens.refusals import Refusal
from tests.tokens.conftest import PASSWORD


def admitted(username: str = "ada", address: str = "192.0.2.1") -> bool:
    try:
        throttle.admit(username, address)
    except Refusal:
        return False
    return True


def test_parallel_attempts__not_one_over_the_limit() -> None:
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: admitted(), range(20))) == 5


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_limit__exactly(limit: int) -> None:
    with override_settings(SCALING_KIT_TOKENS_LOGIN_ATTEMPTS=limit):
        assert [admitted() for _ in range(limit + 2)] == [True] * limit + [False] * 2


def test_name_spelled_otherwise__counts_the_same() -> None:
    assert [admitted(name) for name in ("ada", "Ada", "ADA", "aDa", "adA", "AdA")] == [True] * 5 + [False]


@override_settings(SCALING_KIT_TOKENS_LOGIN_ATTEMPTS_PER_ADDRESS=3)
def test_many_names_from_one_address__limited() -> None:
    assert [admitted(f"user{number}") for number in range(4)] == [True] * 3 + [False]
    assert admitted("user0", "192.0.2.2")


@override_settings(SCALING_KIT_TOKENS_LOGIN_ATTEMPTS_PER_NAME=3)
def test_one_name_from_many_addresses__limited() -> None:
    assert [admitted(address=f"192.0.2.{number}") for number in range(4)] == [True] * 3 + [False]


@override_settings(SCALING_KIT_TOKENS_LOGIN_WINDOW_SECONDS=0.5)
def test_after_a_while__admitted_again() -> None:
    while admitted():
        pass
    wait_until(admitted, timeout_seconds=2)


@override_settings(
    SCALING_KIT_TOKENS_LOGIN_ATTEMPTS=0,
    SCALING_KIT_TOKENS_LOGIN_ATTEMPTS_PER_NAME=0,
    SCALING_KIT_TOKENS_LOGIN_ATTEMPTS_PER_ADDRESS=0,
)
def test_zero__no_limit() -> None:
    assert all(admitted() for _ in range(200))


@pytest.mark.django_db
def test_right_password_after_too_many_wrong_ones__429_with_retry_after(api: APIClient, user: User) -> None:
    statuses = [
        api.post("/token/", {"username": "ada", "password": password}, format="json").status_code
        for password in ("1", "2", PASSWORD, "1", "2", "3", "4", "5")
    ]
    assert statuses == [401, 401, 200, 401, 401, 401, 401, 401], "a success forgets the failures before it"
    response = api.post("/token/", {"username": "ada", "password": PASSWORD}, format="json")
    assert (response.status_code, response.json()["code"]) == (429, "login_throttled")
    assert 1 <= int(response.headers["Retry-After"]) <= 12


@pytest.mark.parametrize(
    ("proxies", "remote", "forwarded", "address"),
    [
        (None, "192.0.2.1", "198.51.100.7", "192.0.2.1"),
        (1, "192.0.2.1", "6.6.6.6, 198.51.100.7", "198.51.100.7"),
        (None, "2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::/64"),
        (None, "", "", ""),
    ],
)
def test_address__forwarded_only_as_far_as_proxies_are_trusted(
    proxies: int | None, remote: str, forwarded: str, address: str
) -> None:
    with override_settings(REST_FRAMEWORK={"NUM_PROXIES": proxies}):
        headers = {"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {}
        request = Request(APIRequestFactory().post("/token/", REMOTE_ADDR=remote, **headers))
        assert throttle.address_of(request) == address
