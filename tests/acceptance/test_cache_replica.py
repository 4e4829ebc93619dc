"""A streaming replica that applies everything 0.7 s later."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from scaling_kit import embedded
from scaling_kit.embedded import Postgres
from scaling_kit.testing import running
from tests.settings import FOLDER

ROOT = Path(__file__).parents[2]
DELAY_SECONDS = 0.7


def replica_of(primary: Postgres, folder: Path) -> Postgres:
    """Made of the files of a primary that has been shut down."""
    replica = replace(primary, folder=folder, port=embedded.free_port())
    shutil.copytree(primary.folder, folder, symlinks=True)
    data = folder / "data"
    (data / "standby.signal").touch()
    source = f"host=127.0.0.1 port={primary.port} user={primary.database} password={primary.password}"
    with (data / "postgresql.auto.conf").open("a") as configuration:
        configuration.write(
            f"primary_conninfo = '{source}'\nrecovery_min_apply_delay = '{DELAY_SECONDS * 1000:.0f}ms'\n"
        )
    if primary.user:
        for path in [folder, *folder.rglob("*")]:
            if not path.is_symlink():
                shutil.chown(path, primary.user)
    return replica


def test_computed_from_a_replica_that_is_behind__stored_only_without_the_guard(keys_of_one_test: str) -> None:
    folder = FOLDER / "replication"
    primary = Postgres(folder=folder / "primary", port=embedded.free_port(), durable=False)
    folder.mkdir()
    with running(primary):
        pass
    replica = replica_of(primary, folder / "replica")
    with running(primary), running(replica):
        done = subprocess.run(
            [sys.executable, "-m", "tests.acceptance.cache_replica", keys_of_one_test, str(2 * DELAY_SECONDS)],
            cwd=ROOT,
            env={**os.environ, "PRIMARY_AND_REPLICA": json.dumps([primary.url, replica.url])},
            stdout=subprocess.PIPE,
            check=True,
            timeout=30,
        )
    assert json.loads(done.stdout) == {
        "unguarded": {"behind": ["old"], "caught_up": ["old"]},
        "guarded": {"behind": ["new"], "caught_up": ["newer"]},
    }
