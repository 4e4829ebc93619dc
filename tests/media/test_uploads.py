import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from scaling_kit.media import uploads
from scaling_kit.media.models import Upload
from scaling_kit.media.refusals import UploadRefusedError
from scaling_kit.media.storage import ObjectChangedError, SharedClientS3Storage

PNG = b"\x89PNG\r\n\x1a\n" + bytes(92)


def begun(user: User) -> Upload:
    return uploads.begin(owner_id=user.pk, name="a.png", size=len(PNG), content_type="image/png", metadata={})


def completed(user: User) -> Upload:
    upload = begun(user)
    uploads.storage().write(upload.key, PNG, content_type="image/png")
    uploads.complete(upload, uploads.inspect(upload))
    return upload


@pytest.fixture
def final_key(folder: str) -> str:
    return f"{folder}/photo.png"


@pytest.mark.django_db(transaction=True)
class TestPublish:
    def test_published__at_its_key_and_pending_gone(
        self, user: User, storage: SharedClientS3Storage, final_key: str
    ) -> None:
        upload = completed(user)
        uploads.publish(upload, final_key)
        assert Upload.objects.get().key == final_key
        assert storage.stat(final_key).content_type == "image/png"
        assert not storage.exists(upload.pending_key)
        assert uploads.read(upload).read() == PNG

    def test_published_twice__as_once(self, user: User, storage: SharedClientS3Storage, final_key: str) -> None:
        upload = completed(user)
        stale = Upload.objects.get()
        uploads.publish(upload, final_key)
        uploads.publish(stale, final_key)
        assert storage.open(final_key).read() == PNG

    def test_died_before_the_pending_object_was_removed__removed_by_the_second_run(
        self, user: User, storage: SharedClientS3Storage, final_key: str
    ) -> None:
        upload = completed(user)
        uploads.publish(upload, final_key)
        storage.write(upload.pending_key, PNG, content_type="image/png")
        uploads.publish(Upload.objects.get(), final_key)
        assert not storage.exists(upload.pending_key)

    def test_transaction_rolled_back__can_be_published_again(
        self, user: User, storage: SharedClientS3Storage, final_key: str
    ) -> None:
        upload = completed(user)
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            uploads.publish(upload, final_key)
            raise ZeroDivisionError
        uploads.publish(Upload.objects.get(), final_key)
        assert storage.open(final_key).read() == PNG

    def test_not_completed__refused(self, user: User, storage: SharedClientS3Storage, final_key: str) -> None:
        with pytest.raises(ValueError, match="before it is completed"):
            uploads.publish(begun(user), final_key)

    def test_object_swapped_after_it_was_looked_at__not_published(
        self, user: User, storage: SharedClientS3Storage, final_key: str
    ) -> None:
        upload = completed(user)
        storage.write(upload.pending_key, PNG[:-1] + b"!", content_type="image/png")
        with pytest.raises(ObjectChangedError):
            uploads.publish(upload, final_key)
        assert not storage.exists(final_key)

    def test_variant__beside_the_original(
        self, user: User, storage: SharedClientS3Storage, final_key: str, folder: str
    ) -> None:
        upload = completed(user)
        uploads.publish(upload, final_key)
        key = uploads.write_variant(upload, "-320.webp", b"RIFF", content_type="image/webp")
        assert key == f"{folder}/photo-320.webp"
        assert storage.stat(key).content_type == "image/webp"


@pytest.mark.django_db
def test_refused_by_a_stale_view_of_it__a_completed_upload_is_left_alone(
    user: User, storage: SharedClientS3Storage
) -> None:
    upload = completed(user)
    stale = Upload.objects.get()
    stale.state, stale.size = Upload.State.PENDING, 1
    with pytest.raises(UploadRefusedError, match="size"):
        uploads.inspect(stale)
    assert Upload.objects.get().state == Upload.State.COMPLETED
    assert storage.exists(upload.key)


@pytest.mark.django_db
class TestSweep:
    @pytest.fixture(autouse=True)
    def at_once(self) -> Iterator[None]:
        with override_settings(SCALING_KIT_MEDIA_SWEEP_AFTER_SECONDS=0):
            yield

    def test_given_up__row_and_object_removed(self, user: User, storage: SharedClientS3Storage) -> None:
        upload = begun(user)
        storage.write(upload.key, PNG, content_type="image/png")
        Upload.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        assert uploads.sweep().uploads == 1
        assert not storage.exists(upload.key)

    def test_pending_and_waiting_for_its_job__kept(self, user: User, storage: SharedClientS3Storage) -> None:
        pending, waiting = begun(user), completed(user)
        storage.write(pending.key, PNG, content_type="image/png")
        Upload.objects.filter(pk=waiting.pk).update(expires_at=timezone.now() - timedelta(days=30))
        assert uploads.sweep().uploads == 0
        assert storage.exists(pending.key)
        assert storage.exists(waiting.key)

    @pytest.mark.django_db(transaction=True)
    def test_sent_again_after_it_was_published__removed(
        self, user: User, storage: SharedClientS3Storage, final_key: str
    ) -> None:
        upload = completed(user)
        uploads.publish(upload, final_key)
        storage.write(upload.pending_key, b"anything", content_type="image/png")
        uploads.sweep()
        assert not storage.exists(upload.pending_key)
        assert storage.exists(final_key)

    def test_object_without_row__removed(self, user: User, storage: SharedClientS3Storage) -> None:
        key = f"pending/{user.pk}/{uuid.uuid4()}.png"
        storage.write(key, PNG, content_type="image/png")
        assert uploads.sweep().objects >= 1
        assert not storage.exists(key)

    def test_object_that_is_no_upload__kept(self, user: User, storage: SharedClientS3Storage) -> None:
        storage.write("pending/README.txt", b"by hand", content_type="text/plain")
        uploads.sweep()
        assert storage.exists("pending/README.txt")

    @override_settings(SCALING_KIT_MEDIA_SWEEP_AFTER_SECONDS=60)
    def test_younger_than_the_setting__kept(self, user: User, storage: SharedClientS3Storage) -> None:
        key = f"pending/{user.pk}/{uuid.uuid4()}.png"
        storage.write(key, PNG, content_type="image/png")
        uploads.sweep()
        assert storage.exists(key)
