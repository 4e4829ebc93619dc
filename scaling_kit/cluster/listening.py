"""The listening sockets of one host: opened by the runner, so that they outlive the processes that serve them."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

from scaling_kit.cluster.launch import FIRST_HELD_DESCRIPTOR
from scaling_kit.cluster.output import Output

HOST, PORT = "127.0.0.1", 8000
BACKLOG = 2048
ANY_PORT = 0
NOT_YET = (502, 503, 504)


@dataclass(frozen=True, kw_only=True)
class Sockets:
    """The listening sockets the runner holds. Without nginx there is no front, and both others are public."""

    web: socket.socket
    websocket: socket.socket
    front: socket.socket | None = None

    @property
    def url(self) -> str:
        return f"http://{address(self.front or self.web)}"

    @property
    def websocket_url(self) -> str:
        return f"ws://{address(self.front or self.websocket)}"


def open_sockets(bind: tuple[str, int], *, or_after: bool, behind_nginx: bool, output: Output) -> Sockets:
    """Listen at this address or, if allowed, at the first free port after it. One that systemd opened goes before."""
    host, port = bind
    public = inherited() or (listen_at_or_after(host, port, output) if or_after else listen(host, port))
    if behind_nginx:
        return Sockets(front=public, web=listen(HOST, ANY_PORT), websocket=listen(HOST, ANY_PORT))
    return Sockets(web=public, websocket=listen_at_or_after(host, port + 1, output))


def inherited() -> socket.socket | None:
    """The listening socket that we were started with, as sd_listen_fds(3) has it."""
    given = {name: os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if given["LISTEN_PID"] != str(os.getpid()):
        return None
    if given["LISTEN_FDS"] != "1":
        raise OSError(f"LISTEN_FDS={given['LISTEN_FDS']}: give one listening socket, the one the public comes to.")
    listener = socket.socket(fileno=FIRST_HELD_DESCRIPTOR)
    listener.set_inheritable(False)
    return listener


def listen(host: str, port: int) -> socket.socket:
    """Raises `OSError` that names the address."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    listener.listen(BACKLOG)
    return listener


def listen_at_or_after(host: str, port: int, output: Output, *, tries: int = 20) -> socket.socket:
    """The first free of the next ports, else any; says which it is if it is not the first."""
    for candidate in [*range(port, min(port + tries, 2**16)), ANY_PORT]:
        try:
            listener = listen(host, candidate)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        if candidate != port:
            output.event("port %s is taken, using %s", port, listener.getsockname()[1])
        return listener
    raise AssertionError("unreachable: any port is free, or raises")


def address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def answers(listener: socket.socket, path: str) -> bool:
    """Does a process behind this socket answer HTTP, whatever it says, other than that it is not ready?"""
    host, port = listener.getsockname()[:2]
    connection = HTTPConnection("127.0.0.1" if host in ("0.0.0.0", "::") else host, port, timeout=2)  # noqa: S104
    try:
        connection.request("GET", path)
        return connection.getresponse().status not in NOT_YET
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host or HOST, int(port)
