from typing import Any

from django.urls import include, path
from rest_framework.decorators import api_view, permission_classes
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response


@api_view()
@permission_classes([IsAuthenticated])
def whoami(request: Request) -> Response:
    user: Any = request.user
    return Response({"pk": user.pk, "username": user.get_username(), "sid": request.auth.session_id})


urlpatterns = [path("whoami/", whoami), path("", include("scaling_kit.tokens.urls"))]
