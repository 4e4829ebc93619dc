"""No rows and no cache: what Django and REST framework cost by themselves."""

from django.http import HttpResponse
from rest_framework.request import Request

from bench.caching import answers

BODY = b"[" + b" " * 2900 + b"]"


class ListView(answers.ListView):
    def get(self, request: Request) -> HttpResponse:  # type: ignore[override]  # noqa: ARG002
        return HttpResponse(BODY, content_type="application/json")


class ReplicaView(ListView):
    using = "replica"
