"""For the processes of the tests of faults and of autoscale: the kit's defaults, unless the environment says more."""

import os

from tests.jobs.settings import *  # noqa: F403

for name in [found for found in globals() if found.startswith("SCALING_KIT_JOBS_")]:
    del globals()[name]

for name, value in os.environ.items():
    if name.startswith("TEST_JOBS_"):
        globals()[name.replace("TEST", "SCALING_KIT", 1)] = float(value)
