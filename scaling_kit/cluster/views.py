from __future__ import annotations

import secrets

from django.http import HttpResponse
from prometheus_client.exposition import choose_encoder
from rest_framework.permissions import BasePermission, IsAdminUser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from scaling_kit.cluster import metrics
from scaling_kit.cluster.conf import settings
from scaling_kit.cluster.overview import overview
from scaling_kit.redis import Purpose, RedisError, client


class OverviewView(APIView):
    """The overview of the cluster as JSON, for staff. Subclass it to let others see it: `permission_classes`."""

    permission_classes = [IsAdminUser]

    def get(self, _request: Request) -> Response:
        try:
            client(Purpose.REQUEST).ping()  # the rest waits for seconds if Redis hangs
            return Response(overview(), headers={"Cache-Control": "no-store"})
        except RedisError as error:
            return Response({"code": "redis_unavailable", "detail": str(error)}, status=503)


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
