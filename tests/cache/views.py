"""A library's API, cached in every way the room offers."""

import threading
from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.urls import include, path
from rest_framework import permissions, renderers, serializers, viewsets
from rest_framework.decorators import action, api_view
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.views import APIView

from scaling_kit.cache import CachedViewSetMixin, cached_response
from tests.library.models import Author, Book, Tag


class Hooks:
    """What a test wants to happen while a view computes; and how often that happened."""

    computed = 0
    while_computing: Callable[[], Any] | None = None
    _lock = threading.Lock()

    @classmethod
    def run(cls) -> None:
        with cls._lock:
            cls.computed += 1
            hook, cls.while_computing = cls.while_computing, None
        if hook:
            hook()


class AuthorSerializer(serializers.ModelSerializer[Author]):
    class Meta:
        model = Author
        fields = ["id", "name"]


class TagSerializer(serializers.ModelSerializer[Tag]):
    class Meta:
        model = Tag
        fields = ["id", "name"]


class BookSerializer(serializers.ModelSerializer[Book]):
    author = AuthorSerializer()
    tags = TagSerializer(many=True)

    class Meta:
        model = Book
        fields = ["id", "title", "author", "tags"]


class BookViewSet(CachedViewSetMixin, viewsets.ReadOnlyModelViewSet[Book]):
    queryset = Book.objects.select_related("author").prefetch_related("tags").order_by("id")
    serializer_class = BookSerializer
    cache_vary = "public"

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        response = super().list(request, *args, **kwargs)
        Hooks.run()  # the data has been read, the response has not been stored
        return response

    @action(detail=False)
    @cached_response(vary="public", params=["q"])
    def search(self, request: Request) -> Response:
        titles = Book.objects.filter(title__contains=request.query_params.get("q", "")).values_list("title", flat=True)
        return Response(sorted(titles))


class BriefBookViewSet(BookViewSet):
    cache_vary = lambda request: "everyone"  # noqa: E731

    @cached_response(vary="public", timeout=60)
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().list(request, *args, **kwargs)


class OwnBook(permissions.BasePermission):
    def has_object_permission(self, request: Request, view: Any, obj: Book) -> bool:
        return bool(obj.author.name == request.user.get_username())


class OwnBookViewSet(BookViewSet):
    permission_classes = [OwnBook]


class OwnBookOfTenantViewSet(OwnBookViewSet):
    cache_vary = lambda request: "tenant"  # noqa: E731


class Whoami(APIView):
    @cached_response()
    def get(self, request: Request) -> Response:
        Hooks.run()
        return Response({"user": request.user.get_username(), "books": Book.objects.count()})


class FormRenderer(renderers.JSONRenderer):
    format = "form"

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> Any:
        return super().render(get_token(renderer_context["request"]._request))


class Form(APIView):
    renderer_classes = [FormRenderer]

    @cached_response(vary="public")
    def get(self, request: Request) -> Response:
        return Response()


class Forbidden(APIView):
    permission_classes = [permissions.IsAdminUser]

    @cached_response(vary="public")
    def get(self, request: Request) -> Response:
        return Response("secret")


class Peculiar(APIView):
    """Answers that must not be stored."""

    @cached_response(vary="public")
    def get(self, request: Request, kind: str) -> Any:
        Hooks.run()
        answers: dict[str, Callable[[], Any]] = {
            "cookie": self.cookie,
            "private": lambda: Response(1, headers={"Cache-Control": "private"}),
            "no-store": lambda: Response(1, headers={"Cache-Control": "no-store"}),
            "vary": lambda: Response(1, headers={"Vary": "X-Tenant"}),
            "unavailable": lambda: Response({"code": "unavailable"}, status=503),
            "streaming": lambda: StreamingHttpResponse(iter([b"1"])),
            "missing": self.missing,
            "large": lambda: Response("x" * 2_000_000),
            "session": self.session,
            "session read": lambda: Response(request.session.get("cart")),
            "cookie read": lambda: Response(request.COOKIES.get("cart")),
            "csrf": lambda: Response(get_token(request._request)),
            "writing": self.writing,
        }
        return answers[kind]()

    def cookie(self) -> Response:
        response = Response(1)
        response.set_cookie("a", "b")
        return response

    def missing(self) -> Response:
        raise NotFound

    def session(self) -> Response:
        self.request.session["visits"] = self.request.session.get("visits", 0) + 1
        return Response(1)

    def writing(self) -> Response:
        with transaction.atomic():
            Author.objects.create(name="written by a view")
            return Response(Author.objects.count())


class Tenanted(APIView):
    @cached_response(vary=lambda request: request.headers.get("X-Tenant"))
    def get(self, request: Request) -> Response:
        Hooks.run()
        return Response(request.headers.get("X-Tenant"))


@api_view(["GET", "POST"])
@cached_response(vary="public", depends_on=["weather"])
def weather(request: Request) -> Response:
    Hooks.run()
    return Response(Hooks.computed)


@api_view(["GET"])
@cached_response(vary="public")
def plain(request: Request) -> HttpResponse:
    return HttpResponse("plain", content_type="text/plain", headers={"X-Total": "1"})


@cached_response(vary="public")
def no_rest_framework(request: Any) -> HttpResponse:
    return HttpResponse("")


router = SimpleRouter()
router.register("books", BookViewSet)
router.register("brief", BriefBookViewSet, basename="brief")
router.register("own", OwnBookViewSet, basename="own")
router.register("own-of-tenant", OwnBookOfTenantViewSet, basename="own-of-tenant")

urlpatterns = [
    path("whoami/", Whoami.as_view()),
    path("form/", Form.as_view()),
    path("forbidden/", Forbidden.as_view()),
    path("peculiar/<str:kind>/", Peculiar.as_view()),
    path("tenanted/", Tenanted.as_view()),
    path("weather/", weather),
    path("plain/", plain),
    path("no-rest-framework/", no_rest_framework),
    path("", include(router.urls)),
]
