"""Two databases: the second is a replica of the first."""

import json
import os

import dj_database_url

from tests.settings import *  # noqa: F403

PRIMARY, REPLICA = json.loads(os.environ["PRIMARY_AND_REPLICA"])
DATABASES = {"default": dj_database_url.parse(PRIMARY), "replica": dj_database_url.parse(REPLICA)}
