"""The dashboard, the REST API under it, and the metrics. Every refusal is `{"code": ..., "detail": ...}`."""

from __future__ import annotations

import secrets
import time
from typing import Any

from django.http import HttpResponse
from django.template.loader import render_to_string
from prometheus_client.exposition import choose_encoder
from rest_framework import serializers
from rest_framework.permissions import BasePermission, IsAdminUser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from scaling_kit import members, staff
from scaling_kit.cluster import board, board_hosts, charts, live_entries, marks, metrics, orders, permissions, runners
from scaling_kit.cluster.conf import settings
from scaling_kit.cluster.live_views import SETTINGS
from scaling_kit.cluster.overview import overview
from scaling_kit.cluster.refusals import RefusedError, refused_by_runner
from scaling_kit.redis import BREAKER_SECONDS, Purpose, RedisError, client
from scaling_kit.staff import validated

VERBS = ("scale", "reload", "restart", "stop", "start")
# Of a whole host, and done here: marks in Redis need no runner.
HOST_VERBS = ("drain", "undrain")
# A request waits so long for an order to be carried out, then the client asks again: a web process that is reloaded
# has to finish this very request first.
TAKEN_WITHIN_SECONDS = 2.0
REMEMBERED_SECONDS = 3600


class ClusterPage(staff.StaffPage):
    permissions = permissions.PROCESSES
    template_name = "scaling_kit/cluster/page.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        try:
            ensure_answers()
            kwargs["board"] = board.look()
        except RedisError:
            kwargs["board"] = None  # the page says so, and asks again
        kwargs["shows_settings"] = live_entries.is_on() and SETTINGS.may_view(self.request.user)
        return super().get_context_data(**kwargs)


class ClusterView(staff.StaffView):
    """What the views of this API have in common. Open to all of the staff; to act, one needs the permission."""

    permissions = permissions.PROCESSES

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        ensure_answers()


class OverviewView(ClusterView):
    """The overview of the cluster as JSON. Subclass it to let others see it: `permission_classes`."""

    def get(self, _request: Request) -> Response:
        return Response(overview())


class HistoryView(ClusterView):
    """What the charts are drawn from."""

    def get(self, _request: Request) -> Response:
        return Response(charts.fetch().as_json())


class HostsView(ClusterView):
    """What the runner of each host keeps running, and whether it answers."""

    def get(self, _request: Request) -> Response:
        asked = runners.fetch(_hosts_with_runner())
        return Response({"hosts": [_as_json(runner) for runner in asked.values()]})


class LiveView(ClusterView):
    """The part of the page that changes, as `{"html"}`. Subclass it for a page of your own: `template_name`."""

    template_name = "scaling_kit/cluster/live.html"

    def get(self, _request: Request) -> Response:
        shown = board.look()
        return Response({"html": render_to_string(self.template_name, self.get_context(shown))})

    def get_context(self, shown: board.Board) -> dict[str, Any]:
        return {"board": shown, "may_change": self.permissions.may_change(self.request.user)}


class Order(serializers.Serializer[Any]):
    host = serializers.CharField(max_length=255)
    verb = serializers.ChoiceField(choices=VERBS + HOST_VERBS)
    names = serializers.JSONField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """`scale` takes names and numbers, `{"web": "+1"}`; the others a list of names; those of a host nothing."""
        if attrs["verb"] in HOST_VERBS:
            return {**attrs, "names": []}
        name = serializers.CharField(max_length=200)
        known: serializers.Field[Any, Any, Any, Any]
        if attrs["verb"] == "scale":
            known = serializers.DictField(child=serializers.CharField(max_length=6), allow_empty=False)
        else:
            known = serializers.ListField(child=name, allow_empty=False, max_length=100)
        return {**attrs, "names": known.run_validation(attrs.get("names", []))}


class OrdersView(ClusterView):
    """Give an order to the runner of a host: 200 when it was carried out, 202 with its `id` if that takes longer."""

    def post(self, request: Request) -> Response:
        order = validated(Order, request.data)
        host = order.pop("host")
        if order["verb"] in HOST_VERBS:
            return Response({"state": "done", "done": _marked(host, order["verb"])})
        _ensure_runner(host)
        order_id = orders.send(host, order, within_seconds=TAKEN_WITHIN_SECONDS, remember_seconds=REMEMBERED_SECONDS)
        answer = runners.wait_for_answer(order_id, TAKEN_WITHIN_SECONDS)
        if answer is None and orders.is_waiting(host, order_id):
            raise RefusedError("no_answer")
        return _told(order_id, answer)


class OrderView(ClusterView):
    """How an order went that took longer."""

    def get(self, _request: Request, order_id: str) -> Response:
        answer = orders.fetch_answer(order_id)
        if answer is None and not orders.was_sent(order_id):
            raise RefusedError("order_unknown")
        return _told(order_id, answer)


def ensure_answers() -> None:
    """Raise `redis.RedisError` within a second, where the rest would wait for longer if Redis hangs.

    Asks twice: of a moment in which a busy machine does not answer, nobody needs to be told.
    """
    try:
        client(Purpose.REQUEST).ping()
    except RedisError:
        time.sleep(BREAKER_SECONDS + 0.1)
        client(Purpose.REQUEST).ping()


def _told(order_id: str, answer: dict[str, Any] | None) -> Response:
    if answer is None:
        return Response({"id": order_id, "state": "under_way"}, status=202)
    runners.forget()
    if not answer.get("ok"):
        raise refused_by_runner(answer)
    return Response({"id": order_id, "state": "done", "done": answer.get("done", {})})


def _marked(host: str, verb: str) -> dict[str, str]:
    """As `cluster drain --no-stop`: whoever drains here stops with the buttons, when the balancer has noticed."""
    if verb == "undrain":
        marks.remove(host)
        return {host: "ready again"}
    _ensure_host(host, members.fetch_members())
    marks.put(host)
    return {host: "unready, and serves on"}


def _ensure_runner(host: str) -> None:
    found = members.fetch_members()
    _ensure_host(host, found)
    if host not in {record["host"] for record in found if record["role"] == board_hosts.RUNNER}:
        raise RefusedError("no_runner")


def _ensure_host(host: str, found: list[dict[str, str]]) -> None:
    if host not in {record["host"] for record in found}:
        raise RefusedError("host_unknown")


def _hosts_with_runner() -> list[str]:
    return sorted({record["host"] for record in members.fetch_members() if record["role"] == board_hosts.RUNNER})


def _as_json(runner: runners.Runner) -> dict[str, Any]:
    return {"host": runner.host, "error": runner.error or None, "processes": list(runner.processes)}


class HasMetricsToken(BasePermission):
    """`Authorization: Bearer <SCALING_KIT_CLUSTER_METRICS_TOKEN>`, as Prometheus sends it."""

    def has_permission(self, request: Request, _view: APIView) -> bool:
        scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        wanted = settings.METRICS_TOKEN
        return bool(wanted) and scheme.lower() == "bearer" and secrets.compare_digest(token.encode(), wanted.encode())


class MetricsView(APIView):
    """Metrics of the whole cluster in the format of Prometheus, or of OpenMetrics if the client prefers that.

    For staff, and for whoever has the token.
    """

    permission_classes = [HasMetricsToken | IsAdminUser]

    def perform_authentication(self, request: Request) -> None:
        """Not before the token was looked at: to the project's own authentication it would be a wrong one."""

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:  # noqa: ARG002
        """The client's Accept is for what the metrics are written in."""
        return JSONRenderer(), JSONRenderer.media_type

    def get(self, request: Request) -> HttpResponse:
        try:
            client(Purpose.REQUEST).ping()  # the rest waits for seconds if Redis hangs
            encode, content_type = choose_encoder(request.META.get("HTTP_ACCEPT", ""))
            body = encode(metrics.registry())
        except RedisError as error:
            return Response({"code": "redis_unavailable", "detail": str(error)}, status=503)
        return HttpResponse(body, content_type=content_type, headers={"Cache-Control": "no-store"})
