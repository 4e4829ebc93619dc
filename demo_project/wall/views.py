import os
import signal
import threading
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.db.models import Count, QuerySet
from django.shortcuts import get_object_or_404
from rest_framework import exceptions, mixins, permissions, serializers, viewsets
from rest_framework.authentication import BaseAuthentication
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.generics import ListAPIView
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from demo_project.wall.models import Comment, Like, Photo, Pick
from demo_project.wall.rooms import tell_wall
from demo_project.wall.serializers import CommentSerializer, PhotoSerializer, PickSerializer
from demo_project.wall.tasks import process_photo, remove_photo
from scaling_kit import members
from scaling_kit.cache import cached_response
from scaling_kit.cluster import views as cluster_views
from scaling_kit.cluster.board import Board
from scaling_kit.cluster.live import live
from scaling_kit.cluster.views import LiveView, OverviewView
from scaling_kit.media.models import Upload
from scaling_kit.media.views import UploadViewSet
from scaling_kit.staff import validated


def photos() -> QuerySet[Photo]:
    """Photos as the wall shows them."""
    counted = Photo.objects.annotate(
        like_count=Count("likes", distinct=True), comment_count=Count("comments", distinct=True)
    )
    return counted.filter(state=Photo.State.READY).select_related("owner")


class NewestFirst(CursorPagination):
    page_size = 30
    ordering = ("-created_at", "-id")


class FeedView(ListAPIView):
    """The wall, newest first. The same for everyone, so one cached answer serves all."""

    serializer_class = PhotoSerializer
    pagination_class = NewestFirst

    def get_queryset(self) -> QuerySet[Photo]:
        return photos()

    @cached_response(timeout=300, vary="public")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class PhotoOfTheMinuteView(APIView):
    @cached_response(timeout=300, vary="public")
    def get(self, request: Request) -> Response:
        pick = Pick.objects.first()
        if pick is None:
            return Response({"tick": None, "picked_at": None, "photo": None})
        pick.photo = get_object_or_404(photos(), pk=pick.photo_id)
        return Response(PickSerializer(pick).data)


class MeView(APIView):
    """Who the token says you are: no query is needed to answer."""

    permission_classes = [permissions.IsAuthenticated]

    def get(self, request: Request) -> Response:
        user = request.user
        return Response({"id": user.pk, "username": user.username, "is_staff": user.is_staff})


class OwnerOrReadOnly(permissions.IsAuthenticatedOrReadOnly):
    message = "Only its owner may remove a photo."

    def has_object_permission(self, request: Request, view: APIView, photo: Photo) -> bool:
        return request.method != "DELETE" or photo.owner_id == request.user.pk


class PhotoViewSet(mixins.RetrieveModelMixin, mixins.DestroyModelMixin, viewsets.GenericViewSet):
    serializer_class = PhotoSerializer
    permission_classes = [OwnerOrReadOnly]

    def get_queryset(self) -> QuerySet[Photo]:
        return photos()

    def perform_destroy(self, photo: Photo) -> None:
        photo_id, keys = photo.pk, photo.object_keys()
        photo.delete()
        remove_photo.enqueue(keys)
        tell_wall("photo.removed", id=photo_id)

    @action(detail=True, methods=["post", "delete"], permission_classes=[permissions.IsAuthenticated])
    def like(self, request: Request, pk: str) -> Response:
        photo = self.get_object()
        if request.method == "POST":
            Like.objects.get_or_create(photo=photo, user_id=request.user.pk)
        else:
            Like.objects.filter(photo=photo, user_id=request.user.pk).delete()
        likes = photo.likes.count()
        tell_wall("photo.liked", id=photo.pk, likes=likes)
        return Response({"id": photo.pk, "likes": likes, "liked": request.method == "POST"})

    @action(detail=True)
    @cached_response(timeout=300, vary="public")
    def comments(self, request: Request, pk: str) -> Response:
        comments = Comment.objects.filter(photo=self.get_object()).select_related("author")
        return Response(CommentSerializer(comments, many=True).data)

    @comments.mapping.post
    def add_comment(self, request: Request, pk: str) -> Response:
        if not live.COMMENTS_OPEN:
            raise PermissionDenied("Comments are closed for now.", code="comments_closed")
        photo = self.get_object()
        serializer = CommentSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        comment = serializer.save(photo=photo, author_id=request.user.pk)
        body = {**CommentSerializer(comment).data, "author": request.user.username}
        tell_wall("photo.commented", id=photo.pk, comments=photo.comments.count(), comment=body)
        return Response(body, status=201)


class PhotoMetadataSerializer(serializers.Serializer):
    title = serializers.CharField(max_length=120)


class PhotoUploadViewSet(UploadViewSet):
    """Upload a photo straight to S3; completing the upload puts it in the hands of a worker."""

    def max_bytes(self) -> int:
        return int(live.UPLOAD_MAX_MB) * 1024 * 1024

    def perform_complete(self, upload: Upload) -> dict[str, Any]:
        metadata = PhotoMetadataSerializer(data={"title": upload.name, **upload.metadata})
        metadata.is_valid(raise_exception=True)
        photo = Photo.objects.create(upload=upload, owner_id=upload.owner_id, **metadata.validated_data)
        job = process_photo.enqueue(photo.pk)
        return {"photo": photo.pk, "job": job.id}


class ClusterView(OverviewView):
    """What runs where. Open to everyone in the demo; a real project leaves it to staff."""

    permission_classes = [permissions.AllowAny]


class ClusterLiveView(LiveView):
    """The cluster page as everyone may see it; to those who may give orders, with buttons."""

    permission_classes = [permissions.AllowAny]
    template_name = "wall/cluster_live.html"

    def get_authenticators(self) -> list[BaseAuthentication]:
        """By the token alone, which this page sends with its orders too."""
        return [each() for each in self.authentication_classes]

    def get_context(self, shown: Board) -> dict[str, Any]:
        context = super().get_context(shown)
        return context | {"may_kill": context["may_change"] and settings.DEMO_KILL, "hide_links": True}


class VictimSerializer(serializers.Serializer):
    id = serializers.CharField(max_length=300)


class KillView(cluster_views.ClusterView):
    """kill -9 of a process, to see who takes its place. For a demo: only where DEMO_KILL says so."""

    def post(self, request: Request) -> Response:
        if not settings.DEMO_KILL:
            raise exceptions.PermissionDenied("DEMO_KILL is off.")
        victim = validated(VictimSerializer, request.data)["id"]
        if victim not in {record["id"] for record in members.fetch_members() if record["host"] == members.host()}:
            raise exceptions.NotFound("No such process is on the host that answers you.")
        kill(int(victim.rpartition(":")[2]))
        return Response({"state": "done", "done": {victim: "killed"}})


def kill(pid: int) -> None:
    """Even if it is this one, which answers first."""
    if pid == os.getpid():
        threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
