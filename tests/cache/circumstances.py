"""Views whose answers depend on everything that a request may say, each cached in one of the ways there are."""

from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.utils import timezone, translation
from rest_framework import filters, pagination, permissions, renderers, serializers, versioning, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.views import APIView

from scaling_kit.cache import CachedViewSetMixin, cached_response
from tests.library.models import Author, Book

HOUR = timezone.datetime(2026, 11, 25, 12, tzinfo=timezone.get_fixed_timezone(0))


def zone_middleware(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        with timezone.override(request.headers.get("X-Zone", "UTC")):
            return get_response(request)

    return middleware


def tenant_of(request: Request) -> Any:
    return getattr(request.auth, "payload", {}).get("tenant")


class Lines(renderers.BaseRenderer):
    media_type = "text/csv"
    format = "csv"

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> str:
        return f"{accepted_media_type}\n{data}"


class Pages(pagination.PageNumberPagination):
    page_size = 1
    page_size_query_param = "size"


class LinkedBookSerializer(serializers.HyperlinkedModelSerializer):
    author = serializers.CharField(source="author.name")

    class Meta:
        model = Book
        fields = ["url", "title", "author"]
        extra_kwargs = {"url": {"view_name": "linked-detail"}}


class LinkedBookViewSet(CachedViewSetMixin, viewsets.ReadOnlyModelViewSet[Book]):
    queryset = Book.objects.order_by("id")
    serializer_class = LinkedBookSerializer
    pagination_class = Pages
    filter_backends = [filters.SearchFilter, filters.OrderingFilter]
    search_fields = ["title"]
    ordering_fields = ["title", "id"]
    renderer_classes = [renderers.JSONRenderer, Lines, renderers.BrowsableAPIRenderer]
    versioning_class = versioning.AcceptHeaderVersioning
    cache_vary = "public"


class NarrowBookViewSet(LinkedBookViewSet):
    cache_params = ["page", "search"]


class OfAuthor(permissions.BasePermission):
    def has_object_permission(self, request: Request, view: Any, obj: Book) -> bool:
        return bool(obj.author.name == request.user.get_username())


class ForeignBookViewSet(LinkedBookViewSet):
    permission_classes = [permissions.AllowAny & OfAuthor]

    @action(detail=False)
    @cached_response(vary="public")
    def first(self, request: Request) -> Response:
        book = Book.objects.select_related("author").order_by("id")[0]
        self.check_object_permissions(request, book)
        return Response(book.title)


class MayChange(permissions.BasePermission):
    """Everybody may; but from here on the user remembers their permissions."""

    def has_permission(self, request: Request, view: Any) -> bool:
        request.user.has_perm("library.change_book")
        return True


def person(request: Request) -> dict[str, Any]:
    user = request.user
    return {
        "name": user.get_username(),
        "change": user.has_perm("library.change_book"),
        "groups": [group.name for group in user.groups.order_by("name")] if isinstance(user, User) else [],
        "staff": user.is_staff,
        "claims": getattr(request.auth, "payload", None),
        "books": Book.objects.count(),
    }


class Self(APIView):
    permission_classes = [MayChange]

    @cached_response()
    def get(self, request: Request) -> Response:
        return Response(person(request))


class OfRole(APIView):
    permission_classes = [MayChange]

    @cached_response(vary="role")
    def get(self, request: Request) -> Response:
        return Response({name: value for name, value in person(request).items() if name not in ("name", "claims")})


class OfTenant(APIView):
    @cached_response(vary="tenant")
    def get(self, request: Request) -> Response:
        return Response([tenant_of(request), Author.objects.count()])


class Place(APIView):
    versioning_class = versioning.AcceptHeaderVersioning

    @cached_response(vary="public")
    def get(self, request: Request) -> Response:
        words = [translation.gettext("Monday"), timezone.localtime(HOUR).isoformat(), request.version]
        return Response([*words, request.build_absolute_uri(), request.query_params.lists()])


class Cart(APIView):
    @cached_response(vary="public")
    def get(self, request: Request) -> Response:
        return Response(request.COOKIES.get("cart"))


class Visits(APIView):
    @cached_response(vary="public")
    def get(self, request: Request) -> Response:
        return Response(request.session.get("visits"))


router = SimpleRouter()
router.register("linked", LinkedBookViewSet, basename="linked")
router.register("narrow", NarrowBookViewSet, basename="narrow")
router.register("foreign", ForeignBookViewSet, basename="foreign")

urlpatterns = [
    path("self/", Self.as_view()),
    path("role/", OfRole.as_view()),
    path("tenant/", OfTenant.as_view()),
    path("place/", Place.as_view()),
    path("cart/", Cart.as_view()),
    path("visits/", Visits.as_view()),
    path("", include(router.urls)),
]
