"""Settings of the servers that the tests of realtime start: the tests' own, and who may join."""

import os

from tests.settings import *  # noqa: F403

SCALING_KIT_KEY_PREFIX = os.environ.get("SCALING_KIT_TEST_PREFIX", "sk")
SCALING_KIT_REDIS_URL = os.environ.get("SCALING_KIT_TEST_REDIS_URL", SCALING_KIT_REDIS_URL)  # noqa: F405
SCALING_KIT_REALTIME_CAN_JOIN = "tests.realtime.permissions.can_join"
SCALING_KIT_REALTIME_ORIGINS = ["https://app.example"]
