"""Direct uploads: the client asks, sends the bytes to S3 itself, and says when it is done.

`begin` and `complete` are the two ends of a request each; `publish`, `read` and `write_variant` are for the job that
follows; `sweep` removes what clients gave up. All may run twice, and in any process.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from django.core.files.base import File
from django.core.files.storage import storages
from django.db import IntegrityError, router, transaction
from django.db.models.functions import Now
from django.utils import timezone

from scaling_kit import members
from scaling_kit.media.conf import settings
from scaling_kit.media.formats import SNIFFED_BYTES, sniff
from scaling_kit.media.models import Upload
from scaling_kit.media.refusals import UploadRefusedError
from scaling_kit.media.storage import ObjectFacts, SharedClientS3Storage, StorageUnavailableError

logger = logging.getLogger(__name__)

PENDING_FOLDER = "pending/"


@dataclass(frozen=True, kw_only=True)
class PresignedRequest:
    """What the client sends to S3: exactly these headers, and a body of the declared size."""

    method: str
    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Swept:
    """What a sweep removed."""

    uploads: int
    objects: int


def storage() -> SharedClientS3Storage:
    """The storage uploads go to, STORAGES[SCALING_KIT_MEDIA_STORAGE]."""
    return storages[settings.STORAGE]  # type: ignore[return-value]  # a system check (E002) looks at its class


def database() -> str:
    return router.db_for_write(Upload)


def begin(*, owner_id: Any, name: str, size: int, content_type: str, metadata: Mapping[str, Any]) -> Upload:
    """Allow a user one upload; S3 is not asked. Raises `UploadRefusedError` if the user is gone from the database."""
    upload = Upload(
        owner_id=owner_id,
        name=name,
        size=size,
        content_type=content_type,
        metadata=dict(metadata),
        expires_at=timezone.now() + timedelta(seconds=settings.INTENT_SECONDS),
    )
    upload.key = upload.pending_key
    try:
        with transaction.atomic(using=database()):
            upload.save(force_insert=True)
    except IntegrityError as error:
        raise UploadRefusedError("owner_unknown") from error
    members.count("media.upload_begun")
    return upload


def presign(upload: Upload) -> PresignedRequest:
    """The request by which the client sends the bytes. Signed for the upload's type, size and time."""
    remaining = (upload.expires_at - timezone.now()).total_seconds()
    url = storage().presigned_put(
        upload.key, content_type=upload.content_type, size=upload.size, expires=max(1, int(remaining))
    )
    return PresignedRequest(method="PUT", url=url, headers={"Content-Type": upload.content_type})


def find(upload_id: str, *, owner_id: Any) -> Upload:
    """A user's own upload. Raises `UploadRefusedError` for anyone else's, as for one that never was."""
    try:
        return Upload.objects.get(pk=uuid.UUID(upload_id), owner_id=owner_id)
    except (ValueError, Upload.DoesNotExist) as error:
        raise UploadRefusedError("upload_unknown") from error


def inspect(upload: Upload) -> ObjectFacts:
    """Look at what arrived: size, type, first bytes. Call it outside of a transaction: it asks S3.

    Raises `UploadRefusedError`, for good if the object is not what was declared; `StorageUnavailableError`.
    """
    _require_open(upload)
    try:
        facts = storage().stat(upload.key)
        mismatch = _mismatch(upload, facts)
    except FileNotFoundError as error:
        raise UploadRefusedError("object_missing") from error
    if mismatch:
        _fail(upload, mismatch)
        raise UploadRefusedError(mismatch)
    return facts


def complete(upload: Upload, facts: ObjectFacts) -> None:
    """Make the upload completed, in the caller's transaction. Of many callers one succeeds.

    Raises `UploadRefusedError` if it is no longer open.
    """
    changed = Upload.objects.filter(pk=upload.pk, state=Upload.State.PENDING, expires_at__gt=Now()).update(
        state=Upload.State.COMPLETED, etag=facts.etag, completed_at=Now()
    )
    if not changed:
        _require_open(_reread(upload))
        raise UploadRefusedError("upload_expired")  # by the database's clock
    upload.refresh_from_db()
    members.count("media.upload_completed")


def publish(upload: Upload, key: str) -> None:
    """Move a completed upload's object to its final key, once; calling it again does no harm.

    Copies only the version that was looked at: what a client puts at the pending place afterwards is never published.
    Raises `FileNotFoundError`, `ObjectChangedError`, `StorageUnavailableError`; `ValueError` if it is not completed.
    """
    if _reread(upload).state != Upload.State.COMPLETED:
        raise ValueError(f"Upload {upload} cannot be published before it is completed")
    pending = upload.pending_key
    if upload.key != key:
        try:
            storage().copy(upload.key, key, etag=upload.etag, content_type=upload.content_type)
        except FileNotFoundError:
            if _reread(upload).key != key:  # unless another run of the same job was faster
                raise
    Upload.objects.filter(pk=upload.pk).update(key=key)
    upload.key = key
    transaction.on_commit(lambda: storage().remove([pending]), using=database())


def read(upload: Upload) -> File:  # type: ignore[type-arg]
    """The uploaded bytes, fetched as they are read. Raises `FileNotFoundError`, `StorageUnavailableError`."""
    return storage().open(upload.key)  # type: ignore[no-any-return]


def write_variant(upload: Upload, suffix: str, content: Any, *, content_type: str) -> str:
    """Store bytes or a binary file made from a published upload beside it, and return the key.

    `suffix` with its extension (`-320.webp`) takes the place of the original's extension. Twice is as once.
    """
    key = str(PurePosixPath(upload.key).with_suffix("")) + suffix
    storage().write(key, content, content_type=content_type)
    return key


def sweep() -> Swept:
    """Remove uploads that were given up or refused, and pending objects that no upload claims.

    Takes only what is older than SCALING_KIT_MEDIA_SWEEP_AFTER_SECONDS. A completed upload that waits for its job is
    claimed, however long it waits. Raises `StorageUnavailableError`; what is left is swept the next time.
    """
    given_up_before = timezone.now() - timedelta(seconds=settings.SWEEP_AFTER_SECONDS)
    given_up = Upload.objects.exclude(state=Upload.State.COMPLETED).filter(expires_at__lt=given_up_before)
    uploads, _ = given_up.delete()
    objects = sum(_remove_unclaimed(page, given_up_before) for page in storage().listing(PENDING_FOLDER))
    logger.info("sweep uploads=%d objects=%d", uploads, objects)
    return Swept(uploads=uploads, objects=objects)


def _require_open(upload: Upload) -> None:
    if upload.state == Upload.State.COMPLETED:
        raise UploadRefusedError("upload_completed")
    if upload.state == Upload.State.FAILED:
        raise UploadRefusedError("upload_failed")
    if upload.expires_at <= timezone.now():
        raise UploadRefusedError("upload_expired")


def _mismatch(upload: Upload, facts: ObjectFacts) -> str:
    if facts.size != upload.size:
        return "size_mismatch"
    if facts.content_type.partition(";")[0].strip().lower() != upload.content_type:
        return "type_mismatch"
    if sniff(storage().read_range(upload.key, 0, SNIFFED_BYTES, etag=facts.etag)) != upload.content_type:
        return "content_mismatch"
    return ""


def _fail(upload: Upload, code: str) -> None:
    pending = Upload.objects.filter(pk=upload.pk, state=Upload.State.PENDING)
    if not pending.update(state=Upload.State.FAILED):
        return
    logger.warning("refused upload=%s owner=%s code=%s", upload.pk, upload.owner_id, code)
    members.count("media.upload_refused")
    try:
        storage().remove([upload.key])
    except StorageUnavailableError:
        logger.info("object of refused upload=%s is left for the sweep", upload.pk)


def _reread(upload: Upload) -> Upload:
    try:
        upload.refresh_from_db()
    except Upload.DoesNotExist as error:
        raise UploadRefusedError("upload_unknown") from error
    return upload


def _remove_unclaimed(page: list[ObjectFacts], before: datetime) -> int:
    upload_ids = {found.key: _upload_id(found.key) for found in page if found.modified_at < before}
    ours = {key for key, upload_id in upload_ids.items() if upload_id}
    claimed = Upload.objects.filter(pk__in=filter(None, upload_ids.values())).values_list("key", flat=True)
    unclaimed = ours.difference(claimed)
    storage().remove(unclaimed)
    return len(unclaimed)


def _upload_id(key: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(PurePosixPath(key).stem)
    except ValueError:  # not put there by an upload: not ours to remove
        return None
