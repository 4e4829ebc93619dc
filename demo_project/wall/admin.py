from django.contrib import admin

from demo_project.wall.models import Comment, Photo, Pick
from scaling_kit.cache.admin import invalidate_selected


@admin.register(Photo)
class PhotoAdmin(admin.ModelAdmin):
    list_display = ["title", "owner", "state", "created_at"]
    list_filter = ["state"]
    actions = [invalidate_selected]


@admin.register(Comment)
class CommentAdmin(admin.ModelAdmin):
    list_display = ["text", "author", "photo", "created_at"]


@admin.register(Pick)
class PickAdmin(admin.ModelAdmin):
    list_display = ["photo", "tick", "picked_at"]
