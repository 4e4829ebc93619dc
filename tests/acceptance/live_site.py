"""What the web processes of test_cluster_live.py answer."""

import json
import os
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from django.core.wsgi import get_wsgi_application

get_wsgi_application()

from django.db import connection, reset_queries  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402

from scaling_kit.cluster.live import live  # noqa: E402


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """`/` the value, `/change?to=5`, `/read?times=1000` what so many reads cost."""
    asked = parse_qs(environ["QUERY_STRING"])
    answer: dict[str, Any] = {"pid": os.getpid()}
    if environ["PATH_INFO"] == "/change":
        live.UPLOAD_MAX_MB = int(asked["to"][0])
        connection.close()
    if environ["PATH_INFO"] == "/read":
        answer |= _cost(int(asked["times"][0]))
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({**answer, "value": live.UPLOAD_MAX_MB}).encode()]


def _cost(times: int) -> dict[str, float]:
    reset_queries()
    with CaptureQueriesContext(connection) as queries:
        began_at = time.perf_counter()
        for _ in range(times):
            _ = live.UPLOAD_MAX_MB
        seconds = time.perf_counter() - began_at
    connection.close()
    return {"queries": len(queries), "seconds": seconds}
