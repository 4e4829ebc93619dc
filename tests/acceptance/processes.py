"""Are they really gone?"""

import psutil

from scaling_kit.testing import wait_until


def assert_gone(processes: list[psutil.Process], *, within_seconds: float) -> None:
    """Ended; whether their new parent has buried them is not ours to decide."""
    wait_until(lambda: not any(map(is_alive, processes)), timeout_seconds=within_seconds, what=f"{processes} are gone")


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
