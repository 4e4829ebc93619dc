from typing import Any

from scaling_kit import conf


class ClusterSettings(conf.Settings, prefix="SCALING_KIT_CLUSTER_"):
    # Web and websocket processes of one host; 0 = one per core this machine or container may use.
    WORKERS: int = 0
    WEBSOCKET_WORKERS: int = 0
    # Requests that one web process answers at a time.
    THREADS: int = 4
    # How long a stopping process may finish its requests, and a starting one may take until it serves.
    GRACEFUL_SECONDS: int = 25
    BOOT_SECONDS: int = 60
    # How long a server told to stop goes on serving with /health/ready answering 503, so that the balancer notices.
    DRAIN_SECONDS: float = 0.0
    # A web process that has served so many requests, or any whose memory is above so many MB, is replaced; 0 = never.
    MAX_REQUESTS: int = 0
    MEMORY_MAX_MB: int = 0
    # Websockets: a larger message closes the socket with 1009; a client silent for two pings is disconnected.
    WEBSOCKET_MESSAGE_MAX_BYTES: int = 64 * 1024
    WEBSOCKET_PING_SECONDS: float = 20.0
    # Sockets of a stopping process are closed over this time, so that their clients do not all return at once.
    WEBSOCKET_CLOSE_SECONDS: float = 1.0
    # Add `X-Served-By: <host>:<pid>` to every response.
    SERVED_BY: bool = False
    # Checks without which /health/ready answers 503; the others are only reported.
    READY_REQUIRES: tuple[str, ...] = ("database", "migrations")
    # Checks of the project's own: name → dotted path of a function that raises, of a check of django-health-check, or
    # such a path and its arguments.
    CHECKS: dict[str, str | tuple[str, dict[str, Any]]] = {}
    # How long /health/ready waits for a check, and how long it believes the last result.
    READY_BUDGET_SECONDS: float = 1.0
    READY_MAX_AGE_SECONDS: float = 1.0
    # A check that passed before must fail this often in a row to count.
    READY_FAILURES: int = 2
    # Who sends `Authorization: Bearer <token>` may read /metrics/, beside the staff. Empty: nobody.
    METRICS_TOKEN: str = ""
    # What `cluster up` runs on a host: name → number, or a dictionary; see `wanted`. Its command line overrides it.
    PROCESSES: dict[str, Any] = {}
    # A process that ends is started again after FIRST, twice that ... LAST seconds. A start that does not last for
    # LASTING seconds has failed; so many in a row end the runner, if it never lasted.
    RESTART_FIRST_SECONDS: float = 0.1
    RESTART_LAST_SECONDS: float = 5.0
    RESTART_LASTING_SECONDS: float = 5.0
    RESTART_FAILED_STARTS: int = 5
    # How often the runner compares its processes with their `memory_max_mb`.
    MEMORY_LOOK_SECONDS: float = 10.0
    # Where `cluster up` keeps its state, control sockets and nginx's configuration.
    RUN_FOLDER: str = ".run"
    # Run-time settings follow the database. False, for tests: defaults and overrides, without a thread or connection.
    LIVE_FOLLOW: bool = True


settings = ClusterSettings()
