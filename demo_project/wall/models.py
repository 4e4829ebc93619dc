from django.conf import settings
from django.db import models

from scaling_kit.media.fields import MediaURLField
from scaling_kit.media.models import Upload


class Photo(models.Model):
    """A photograph on the wall. It shows once a worker has made its variants."""

    class State(models.TextChoices):
        PROCESSING = "processing"
        READY = "ready"
        FAILED = "failed"

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="photos")
    upload = models.OneToOneField(Upload, on_delete=models.PROTECT, related_name="photo")
    title = models.CharField(max_length=120)
    state = models.CharField(max_length=10, choices=State, default=State.PROCESSING)
    original = MediaURLField(blank=True, prefix="photos/{upload_id}/")
    thumbnail = MediaURLField(blank=True, prefix="photos/{upload_id}/")
    large = MediaURLField(blank=True, prefix="photos/{upload_id}/")
    width = models.PositiveIntegerField(default=0)
    height = models.PositiveIntegerField(default=0)
    taken_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [models.Index(fields=["state", "-created_at"])]

    def __str__(self) -> str:
        return self.title

    def object_keys(self) -> list[str]:
        """What S3 holds of this photo."""
        return [url.key for url in (self.original, self.thumbnail, self.large) if url]


class Like(models.Model):
    photo = models.ForeignKey(Photo, on_delete=models.CASCADE, related_name="likes")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["photo", "user"], name="one_like_per_user")]

    def __str__(self) -> str:
        return f"{self.user_id} likes {self.photo_id}"


class Comment(models.Model):
    photo = models.ForeignKey(Photo, on_delete=models.CASCADE, related_name="comments")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    text = models.CharField(max_length=500)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["created_at"]

    def __str__(self) -> str:
        return self.text


class Pick(models.Model):
    """A photo of the minute: what the scheduler's job chose at one tick."""

    tick = models.CharField(max_length=120, unique=True)
    photo = models.ForeignKey(Photo, on_delete=models.CASCADE, related_name="picks")
    picked_at = models.DateTimeField(auto_now_add=True)
    runs = models.PositiveIntegerField(
        default=0, help_text="How often the job of this tick ran; more than once only after a worker died."
    )

    class Meta:
        ordering = ["-picked_at"]

    def __str__(self) -> str:
        return f"{self.photo} at {self.picked_at:%H:%M}"
