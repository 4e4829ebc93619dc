import uuid
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages
from rest_framework.test import APIClient

from scaling_kit.media.storage import SharedClientS3Storage


@pytest.fixture
def storage(s3: str) -> SharedClientS3Storage:
    found = storages["default"]
    assert isinstance(found, SharedClientS3Storage)
    return found


@pytest.fixture
def folder() -> str:
    """A folder of keys that no other test uses."""
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def user(db: None) -> User:
    return User.objects.create(username=uuid.uuid4().hex)


@pytest.fixture
def api(user: User) -> Iterator[APIClient]:
    client = APIClient()
    client.force_authenticate(user)
    yield client
    client.logout()
