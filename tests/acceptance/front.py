"""A real nginx in front of what a test serves."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from scaling_kit.cluster import nginx
from scaling_kit.embedded import accepts
from scaling_kit.testing import die_with_parent, wait_until

PROGRAM = nginx.binary()
needs_nginx = pytest.mark.skipif(PROGRAM is None, reason="no nginx")


@contextmanager
def served(front: nginx.Front) -> Iterator[str]:
    assert PROGRAM
    configuration = front.folder / "nginx.conf"
    configuration.write_text(nginx.render(front))
    process = subprocess.Popen(nginx.command(PROGRAM, configuration), preexec_fn=die_with_parent)
    try:
        wait_until(lambda: accepts(int(front.listen.rpartition(":")[2])), what="nginx listens")
        yield f"http://{front.listen}"
    finally:
        process.terminate()
        process.wait(timeout=10)
