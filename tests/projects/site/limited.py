"""The small project with processes of its own and limits that are soon reached."""

import sys

from tests.projects.site.settings import *  # noqa: F403
from tests.projects.site.settings import SCALING_KIT_CLUSTER_RUN_FOLDER

GROW = "import os, time; print('hello from', os.environ['CLUSTER_PROCESS'], os.environ['GREETING'], os.getcwd()); "
GROW += "held = bytearray(80_000_000 if os.path.exists('grow') else 0); time.sleep(1000)"

SCALING_KIT_CLUSTER_PROCESSES = {
    "web": {"count": 1, "memory_max_mb": 900},
    "websocket": 0,
    "workers": {"count": 1, "memory_max_mb": 900},
    "scheduler": {"count": 2, "memory_max_mb": 900},
    "mailer": {
        "command": [sys.executable, "-c", GROW],
        "count": 2,
        "env": {"GREETING": "hi"},
        "cwd": SCALING_KIT_CLUSTER_RUN_FOLDER,
        "memory_max_mb": 60,
    },
    "broken": {"command": ["false"]},
}
SCALING_KIT_CLUSTER_MEMORY_LOOK_SECONDS = 0.3
SCALING_KIT_CLUSTER_RESTART_FIRST_SECONDS = 0.2
SCALING_KIT_CLUSTER_RESTART_LAST_SECONDS = 0.4
SCALING_KIT_CLUSTER_RESTART_FAILED_STARTS = 2
