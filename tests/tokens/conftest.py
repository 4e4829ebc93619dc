from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

PASSWORD = "correct horse battery staple"

Login = Callable[..., dict[str, Any]]


@pytest.fixture
def user(db: None) -> User:
    return User.objects.create_user("ada", password=PASSWORD)


@pytest.fixture
def api() -> APIClient:
    return APIClient()


@pytest.fixture
def login(user: User, api: APIClient) -> Login:
    """Log in as `user` (or another) and return {access, refresh, expires_in}."""

    def log_in(username: str = "ada", password: str = PASSWORD) -> dict[str, Any]:
        response = api.post("/token/", {"username": username, "password": password}, format="json")
        assert response.status_code == 200, response.content
        return dict(response.json())

    return log_in


def bearer(access: str) -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": f"Bearer {access}"}
