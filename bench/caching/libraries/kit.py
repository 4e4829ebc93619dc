"""scaling_kit.cache: the decorators alone; nothing says what the rows depend on."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from bench.caching import answers
from scaling_kit.cache import cached, cached_response
from scaling_kit.redis import Purpose
from scaling_kit.redis import client as client_of

SECONDS = 300

rows = cached(timeout=SECONDS)(answers.rows)


class ListView(answers.ListView):
    @cached_response(timeout=SECONDS, vary="public")
    def get(self, request: Request) -> Response:
        return super().get(request)


class ReplicaView(ListView):
    using = "replica"


def ask(name: str, query: Any) -> Any:
    query.__qualname__ = name
    return cached(timeout=SECONDS)(query)()


def hoard(count: int) -> None:
    """Copies of an entry, which Redis takes faster than the library makes them."""
    rows()
    client = client_of(Purpose.SCRIPT, decode=False)
    entry = next(client.scan_iter("*:entry:*", count=1000))
    content = client.get(entry)
    for begin in range(0, count, 1000):
        pipeline = client.pipeline(transaction=False)
        for number in range(begin, min(begin + 1000, count)):
            pipeline.set(entry + b"%d" % number, content, ex=SECONDS)
        pipeline.execute()
