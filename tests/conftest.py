"""Real servers for every test: Valkey always, S3 and PostgreSQL as soon as a test needs them."""

import os
import shutil
from collections.abc import Iterator

import hypothesis
import pytest
from django.conf import settings

from scaling_kit.testing import isolated_keys, running
from tests import settings as test_settings

# The same examples in every run. To look further: pytest --hypothesis-profile=search --timeout=0
hypothesis.settings.register_profile("kit", derandomize=True, database=None, deadline=None)
hypothesis.settings.register_profile("search", max_examples=20_000, database=None, deadline=None, print_blob=True)
hypothesis.settings.load_profile("kit")


@pytest.fixture(scope="session", autouse=True)
def valkey() -> Iterator[None]:
    if "REDIS_URL" in os.environ:
        yield
        return
    with running(test_settings.VALKEY):
        yield


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The endpoint of an S3 server that checks signatures; its bucket is `test`."""
    with running(test_settings.S3):
        yield test_settings.S3.endpoint


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> Iterator[None]:
    if "DATABASE_URL" in os.environ:
        yield
        return
    with running(test_settings.POSTGRES):
        yield


@pytest.fixture(autouse=True)
def keys_of_one_test(valkey: None) -> Iterator[str]:
    """Each test has a key prefix of its own."""
    with isolated_keys() as prefix:
        yield prefix


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    if settings.configured:
        shutil.rmtree(test_settings.FOLDER, ignore_errors=True)
