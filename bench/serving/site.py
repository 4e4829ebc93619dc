"""The three views under Django. node_site.cjs is the same in Node.js."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.urls import path
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bench.caching import answers
from scaling_kit.cache import cached_response


def greet(request: HttpRequest) -> JsonResponse:  # noqa: ARG001
    return JsonResponse({"message": "hello", "numbers": [1, 2, 3]})


class WhoView(APIView):
    """Verifies an access token, and asks Redis whether it was revoked."""

    permission_classes = [IsAuthenticated]

    def get(self, request: Request) -> Response:
        return Response({"id": request.user.pk, "username": request.user.username})


class FeedView(APIView):
    """20 articles with author and tags, out of the cache."""

    authentication_classes = ()

    @cached_response(timeout=3600, vary="public")
    def get(self, request: Request) -> Response:  # noqa: ARG002
        return Response(answers.rows())


urlpatterns = [
    path("json", greet),
    path("jwt", WhoView.as_view()),
    path("feed", FeedView.as_view()),
]
