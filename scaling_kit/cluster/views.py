from __future__ import annotations

from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

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
