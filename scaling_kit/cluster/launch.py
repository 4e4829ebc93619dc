"""Become the command of a child of the runner: give up root, place the held sockets, die with the runner, then exec.

Run by path with `python -I -S`, so it imports nothing but the standard library. A step of its own because LISTEN_PID
must name the process that serves, which nobody knows before it exists, and because code between fork and exec
(`preexec_fn`) is not safe in a process that has threads.

    launch.py <pid of the runner> <user or ""> <descriptors, comma-separated, or ""> <path of the program> <argument...>
"""

import ctypes
import fcntl
import os
import pwd
import signal
import sys

FIRST_HELD_DESCRIPTOR = 3  # SD_LISTEN_FDS_START of the socket activation protocol, sd_listen_fds(3)
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(runner: str, user: str, descriptors: str, *command: str) -> None:
    if user:
        become(user)  # from here on nothing more can be imported: the new user may not reach the standard library
    die_with(int(runner))
    place([int(descriptor) for descriptor in descriptors.split(",") if descriptor])
    try:
        os.execv(command[0], command)  # noqa: S606  (no shell is the point)
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


def become(user: str) -> None:
    account = pwd.getpwnam(user)
    os.initgroups(user, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def die_with(runner: int) -> None:
    """Have the kernel kill this process when the runner dies. Linux only; elsewhere the guardian does it alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != runner:
        sys.exit("the runner is gone")


def place(descriptors: list[int]) -> None:
    """Move the listening sockets to 3, 4, ... and announce them as systemd would."""
    if not descriptors:
        return
    beyond = FIRST_HELD_DESCRIPTOR + len(descriptors)
    for number, copy in enumerate([fcntl.fcntl(descriptor, fcntl.F_DUPFD, beyond) for descriptor in descriptors]):
        os.dup2(copy, FIRST_HELD_DESCRIPTOR + number)
        os.close(copy)
    for descriptor in descriptors:
        if descriptor >= beyond:
            os.close(descriptor)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(descriptors))


if __name__ == "__main__":
    main(*sys.argv[1:])
