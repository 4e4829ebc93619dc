"""REST framework's own features, one view each."""

from typing import Any

from django.http import HttpResponse, JsonResponse
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.utils.http import http_date
from rest_framework import filters, generics, pagination, permissions, throttling, versioning, viewsets
from rest_framework.decorators import api_view, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.views import APIView

from scaling_kit.cache import CachedViewSetMixin, cached_response
from tests.cache.views import BookSerializer, Hooks
from tests.library.models import Author, Book


class Cursor(pagination.CursorPagination):
    page_size = 1
    ordering = "id"


class Window(pagination.LimitOffsetPagination):
    default_limit = 1


class Shelf(viewsets.ReadOnlyModelViewSet[Book]):
    queryset = Book.objects.order_by("id")
    serializer_class = BookSerializer
    pagination_class = Window
    filter_backends = [filters.SearchFilter, filters.OrderingFilter]
    search_fields = ["title"]


class CachedShelf(CachedViewSetMixin, Shelf):
    cache_vary = "public"


class CachedCursorShelf(CachedShelf):
    pagination_class = Cursor


class BooksOfAuthor(CachedShelf):
    """Below `authors/<pk>/`, as nested routers do it."""

    def get_queryset(self) -> Any:
        return super().get_queryset().filter(author=self.kwargs["author_pk"])


class OncePerTest(throttling.UserRateThrottle):
    rate = "2/day"


class Throttled(APIView):
    throttle_classes = [OncePerTest]

    @cached_response(vary="public")
    def get(self, request: Request) -> Response:
        return Response(Author.objects.count())


@method_decorator(cached_response(vary="public"), name="get")
class Decorated(generics.ListAPIView[Book]):
    queryset = Book.objects.order_by("id")
    serializer_class = BookSerializer


@method_decorator(cached_response(vary="public"), name="dispatch")
class DecoratedTooFarOut(APIView):
    pass


class Outer(Decorated):
    """Calls what is cached, and is cached."""

    @cached_response(vary="public")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return Response({"inner": super().get(request, *args, **kwargs).data})


class Versioned(APIView):
    versioning_class = versioning.QueryParameterVersioning

    @cached_response(vary="public", params=[])
    def get(self, request: Request) -> Response:
        Hooks.run()
        return Response([request.version, request.query_params])


@api_view(["GET"])
@permission_classes([permissions.IsAuthenticated])
@cached_response(vary="public")
def members_only(request: Request) -> Response:
    return Response(Author.objects.count())


@api_view(["GET", "HEAD"])
@cached_response(vary="public")
def by_method(request: Request) -> Response:
    return Response(request.method)


@api_view(["GET"])
@cached_response(vary="public")
def dated(request: Request) -> HttpResponse:
    Hooks.run()
    headers = {
        "Last-Modified": http_date(1_000_000),
        "Content-Location": "/dated/",
        "X-Total": str(Author.objects.count()),
    }
    return JsonResponse({}, headers=headers)


@api_view(["GET"])
@cached_response(vary="public")
def empty(request: Request) -> Response:
    return Response()


def moving(request: Request) -> str:
    return "before" if Hooks.computed == 0 else "after"


@api_view(["GET"])
@cached_response(vary=moving)
def moved_meanwhile(request: Request) -> Response:
    Hooks.run()
    return Response(Hooks.computed)


@api_view(["GET"])
@cached_response()
def by_key(request: Request) -> Response:
    return Response(str(request.auth))


router = SimpleRouter()
router.register("plain", Shelf, basename="plain")
router.register("shelf", CachedShelf, basename="shelf")
router.register("cursor", CachedCursorShelf, basename="cursor")
nested = SimpleRouter()
nested.register("books", BooksOfAuthor, basename="books-of-author")

urlpatterns = [
    path("throttled/", Throttled.as_view()),
    path("decorated/", Decorated.as_view()),
    path("decorated-too-far-out/", DecoratedTooFarOut.as_view()),
    path("outer/", Outer.as_view()),
    path("versioned/", Versioned.as_view()),
    path("members-only/", members_only),
    path("by-method/", by_method),
    path("dated/", dated),
    path("empty/", empty),
    path("by-key/", by_key),
    path("moved-meanwhile/", moved_meanwhile),
    path("authors/<int:author_pk>/", include(nested.urls)),
    path("", include(router.urls)),
]
