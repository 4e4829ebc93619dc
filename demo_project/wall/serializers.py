from typing import Any

from rest_framework import serializers

from demo_project.wall.models import Comment, Photo, Pick


class PhotoSerializer(serializers.ModelSerializer):
    owner = serializers.CharField(source="owner.username")
    likes = serializers.IntegerField(source="like_count")
    comments = serializers.IntegerField(source="comment_count")
    thumbnail = serializers.SerializerMethodField()
    large = serializers.SerializerMethodField()

    class Meta:
        model = Photo
        fields = [
            "id", "title", "owner", "state", "likes", "comments", "thumbnail", "large", "width", "height",
            "taken_at", "created_at",
        ]  # fmt: skip

    def get_thumbnail(self, photo: Photo) -> str:
        return photo.thumbnail.signed_url()

    def get_large(self, photo: Photo) -> str:
        return photo.large.signed_url()


class CommentSerializer(serializers.ModelSerializer):
    author = serializers.CharField(source="author.username", read_only=True)

    class Meta:
        model = Comment
        fields = ["id", "author", "text", "created_at"]


class PickSerializer(serializers.ModelSerializer):
    photo: Any = PhotoSerializer()

    class Meta:
        model = Pick
        fields = ["tick", "picked_at", "photo"]
