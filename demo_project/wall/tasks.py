"""What workers do: make a photo's variants, tidy up after it, pick the photo of the minute."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import F
from django.utils import timezone
from PIL import Image, ImageOps

from demo_project.wall.models import Photo, Pick
from demo_project.wall.rooms import tell_user, tell_wall
from scaling_kit.jobs.progress import log, report_progress
from scaling_kit.media import uploads
from scaling_kit.media.fields import MediaURL

try:
    from django.tasks import task
except ImportError:  # Django 5.2
    from django_tasks import task

EXIF_DATE_TIME_ORIGINAL = 0x9003
EXIF_IFD = 0x8769
VARIANTS = {"thumbnail": 480, "large": 1600}


@task(retry=3, timeout=120)
def process_photo(photo_id: int) -> str:
    """Move the original to its place, make the variants (encoded anew, so nothing hides in them), show the photo.

    May run again after a worker died half-way: every step writes the same names again.
    """
    photo = Photo.objects.select_related("upload", "owner").filter(pk=photo_id).first()
    if photo is None or photo.state == Photo.State.READY:
        return "nothing to do"
    uploads.publish(photo.upload, f"photos/{photo.upload_id}/photo{_extension(photo)}")
    photo.original = MediaURL.from_key(photo.upload.key)
    try:
        with uploads.read(photo.upload) as file, Image.open(file) as image:
            _make_variants(photo, image)
    except (Image.UnidentifiedImageError, Image.DecompressionBombError):
        return _give_up(photo, "This file cannot be read as a picture.")
    photo.state = Photo.State.READY
    photo.save()
    tell_wall("photo.ready", id=photo.pk, title=photo.title, owner=photo.owner.username)
    return "ready"


def _make_variants(photo: Photo, image: Image.Image) -> None:
    photo.taken_at = _taken_at(image)
    upright = ImageOps.exif_transpose(image).convert("RGB")
    photo.width, photo.height = upright.size
    log(f"{photo.title}: {photo.width} x {photo.height}, taken at {photo.taken_at}")
    for done, (name, longest_side) in enumerate(VARIANTS.items(), start=1):
        content = _encode(upright, longest_side)
        key = uploads.write_variant(photo.upload, f"-{name}.jpg", content, content_type="image/jpeg")
        setattr(photo, name, MediaURL.from_key(key))
        report_progress(done, len(VARIANTS), message=name)
        tell_user(photo.owner_id, "photo.progress", id=photo.pk, percent=100 * done // len(VARIANTS))


def _encode(image: Image.Image, longest_side: int) -> bytes:
    smaller = image.copy()
    smaller.thumbnail((longest_side, longest_side))
    out = io.BytesIO()
    smaller.save(out, "JPEG", quality=85, optimize=True, progressive=True)
    return out.getvalue()


def _taken_at(image: Image.Image) -> datetime | None:
    """The moment of exposure, which EXIF gives without a time zone."""
    written = image.getexif().get_ifd(EXIF_IFD).get(EXIF_DATE_TIME_ORIGINAL)
    try:
        return datetime.strptime(str(written).strip("\0 "), "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _extension(photo: Photo) -> str:
    return "." + photo.upload.content_type.removeprefix("image/").replace("jpeg", "jpg")


def _give_up(photo: Photo, reason: str) -> str:
    Photo.objects.filter(pk=photo.pk).update(state=Photo.State.FAILED)
    tell_user(photo.owner_id, "photo.failed", id=photo.pk, title=photo.title, reason=reason)
    return reason


@task()
def remove_photo(keys: list[str]) -> None:
    """Delete the objects of a photo whose row is gone."""
    uploads.storage().remove(keys)


@task(takes_context=True)
def pick_photo_of_the_minute(context: Any) -> int | None:
    """Choose a photo that was not chosen lately. One pick per tick, however often the job runs."""
    recent = Pick.objects.values_list("photo_id", flat=True)[:3]
    ready = Photo.objects.filter(state=Photo.State.READY)
    photo = ready.exclude(pk__in=list(recent)).order_by("?").first() or ready.order_by("?").first()
    if photo is None:
        return None
    pick, is_new = Pick.objects.get_or_create(tick=context.task_result.id, defaults={"photo": photo})
    Pick.objects.filter(pk=pick.pk).update(runs=F("runs") + 1)
    if is_new:
        tell_wall("photo.picked", id=pick.photo_id, tick=pick.tick)
    return pick.photo_id


@task()
def sweep_orphans() -> dict[str, Any]:
    """Delete uploads that were announced and never finished, and picks older than a day."""
    removed, _ = Pick.objects.filter(picked_at__lt=timezone.now() - timedelta(days=1)).delete()
    swept = uploads.sweep()
    return {"uploads": swept.uploads, "objects": swept.objects, "picks": removed}
