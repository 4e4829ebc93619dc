"""A process of a contestant: does what it reads, a line of JSON at a time, and answers with what that cost.

python -m bench.caching.performer
"""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import django

Act = Callable[[], object]
ENVIRON = {
    "REQUEST_METHOD": "GET",
    "PATH_INFO": "/articles/",
    "QUERY_STRING": "",
    "SERVER_NAME": "testserver",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "wsgi.url_scheme": "http",
    "wsgi.input": io.BytesIO(),
    "HTTP_ACCEPT": "application/json",
}


def main() -> None:
    django.setup()
    from bench.caching.field import library

    acts = _acts()
    print(json.dumps({"can": [*acts, *(["hoard"] if hasattr(library(), "hoard") else [])]}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(_obey(acts, **order)), flush=True)


def _obey(acts: dict[str, Act], *, act: str, **arguments: Any) -> dict[str, float]:
    from bench.caching.field import library

    if act == "hoard":
        library().hoard(**arguments)
        return {}
    return repeat(acts[act], **arguments)


def repeat(act: Act, *, seconds: float = 0.0, threads: int = 1, warm_up: int = 0) -> dict[str, float]:
    """Do it for so long, at least once, in so many threads; how often that was, and its cost, warm-up excluded."""
    for _ in range(warm_up):
        act()
    counts: list[int] = []
    started_at, cpu = time.perf_counter(), time.process_time()
    end_at = started_at + seconds
    if threads == 1:
        _until(act, end_at, counts)
    else:
        running = [threading.Thread(target=_until, args=(act, end_at, counts)) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    return {
        "count": sum(counts),
        "seconds": time.perf_counter() - started_at,
        "cpu_seconds": time.process_time() - cpu,
    }


def _until(act: Act, end_at: float, counts: list[int]) -> None:
    count = 0
    while not count or time.perf_counter() < end_at:
        act()
        count += 1
    counts.append(count)


def _acts() -> dict[str, Act]:
    """What this contestant can do, by the names of measures.py."""
    from django.db import transaction

    from bench.caching.field import library
    from bench.caching.models import Article

    article = Article.objects.get(pk=1)

    def save() -> None:
        article.save()

    def atomic_save() -> None:
        with transaction.atomic():
            article.save()

    def update() -> None:
        Article.objects.filter(pk=1).update(views=1)

    acts = {"view": _view(), "request": _request(), "save": save, "atomic_save": atomic_save, "update": update}
    if hasattr(library(), "rows"):
        acts["function"] = library().rows
    return acts


def _view() -> Act:
    """The view alone, called with a request that is there already."""
    from django.core.handlers.wsgi import WSGIRequest

    from bench.caching.field import library

    view, request = library().ListView.as_view(), WSGIRequest(dict(ENVIRON))

    def act() -> None:
        response = view(request)
        if hasattr(response, "render"):
            response.render()

    return act


def _request() -> Act:
    """A whole request through Django's WSGI handler, without a server and a socket."""
    from django.core.handlers.wsgi import WSGIHandler

    application = WSGIHandler()

    def start_response(status: str, headers: Any) -> None:  # noqa: ARG001
        if not status.startswith("200"):
            raise RuntimeError(f"The view answers {status}")

    def act() -> None:
        response = application(dict(ENVIRON), start_response)
        b"".join(response)
        response.close()

    return act


if __name__ == "__main__":
    main()
