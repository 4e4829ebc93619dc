from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models

from scaling_kit.media.formats import FORMATS


class Upload(models.Model):
    """A file a client may send straight to S3: asked for (pending), arrived and looked at (completed), or refused."""

    class State(models.TextChoices):
        PENDING = "pending"
        COMPLETED = "completed"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=1024, help_text="Where the object is now.")
    name = models.CharField(max_length=255, help_text="What the client calls the file. Never part of a key.")
    content_type = models.CharField(max_length=100)
    size = models.BigIntegerField(help_text="Bytes.")
    etag = models.CharField(max_length=100, blank=True, help_text="The version of the object that was looked at.")
    metadata = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    completed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["state", "expires_at"], name="sk_media_upload_state")]

    def __str__(self) -> str:
        return f"{self.id} ({self.state})"

    @property
    def pending_key(self) -> str:
        """Where the client puts the bytes. The extension follows from the type, not from the client's name."""
        return f"pending/{self.owner_id}/{self.id}.{FORMATS[self.content_type].extension}"
