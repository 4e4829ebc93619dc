import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.test import override_settings
from django.urls import include, path
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient

from scaling_kit import recipes
from scaling_kit.media import status, uploads
from scaling_kit.media.models import Upload
from scaling_kit.media.storage import SharedClientS3Storage
from scaling_kit.media.views import UploadViewSet
from tests.library.models import Author

PNG = b"\x89PNG\r\n\x1a\n" + bytes(92)


class NoTokenIsGood(BaseAuthentication):
    def authenticate(self, request: Request) -> None:
        raise AuthenticationFailed({"code": "token_expired", "detail": "The token has expired."})

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class RefusingUploadViewSet(UploadViewSet):
    authentication_classes = [NoTokenIsGood]


class AuthorUploadViewSet(UploadViewSet):
    """Makes an author of an upload; refuses once if the metadata asks for it."""

    def perform_complete(self, upload: Upload) -> dict[str, Any]:
        author = Author.objects.create(name=upload.name)
        if upload.metadata.get("raise"):
            raise ZeroDivisionError
        return {"author": author.pk}


hooked = SimpleRouter()
hooked.register("hooked", AuthorUploadViewSet, basename="hooked")
hooked.register("refusing", RefusingUploadViewSet, basename="refusing")
urlpatterns = [path("", include("scaling_kit.media.urls")), path("", include(hooked.urls))]

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.media.test_views"), pytest.mark.usefixtures("s3")]


def ask(api: APIClient, *, to: str = "/uploads/", **changes: Any) -> Any:
    declared = {"name": "a.png", "size": len(PNG), "type": "image/png", **changes}
    return api.post(to, declared, format="json")


def send(intent: dict[str, Any], body: bytes = PNG) -> int:
    return httpx.request(intent["method"], intent["url"], content=body, headers=intent["headers"]).status_code


def complete(api: APIClient, intent: dict[str, Any], *, to: str = "/uploads/") -> Any:
    return api.post(f"{to}{intent['id']}/complete/")


def test_ask_send_complete__completed_once(api: APIClient, user: User) -> None:
    intent = ask(api, metadata={"caption": "Ein Bild"}).json()
    assert intent["key"] == f"pending/{user.pk}/{intent['id']}.png"
    assert send(intent) == 200
    first, second = complete(api, intent), complete(api, intent)
    assert (first.status_code, first.json()["state"], first.json()["metadata"]) == (
        200,
        "completed",
        {"caption": "Ein Bild"},
    )
    assert (second.status_code, second.json()["code"]) == (409, "upload_completed")
    assert api.get(f"/uploads/{intent['id']}/").json() == first.json()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"type": "text/html"}, "type_not_allowed"),
        ({"type": "image/svg+xml"}, "type_not_allowed"),
        ({"size": 0}, "min_value"),
        ({"size": -1}, "min_value"),
        ({"size": 21 * 1024 * 1024}, "too_large"),
        ({"size": "many"}, "invalid"),
        ({"name": ""}, "blank"),
        ({"name": "a\x00b"}, "null_characters_not_allowed"),
        ({"name": "a" * 256}, "max_length"),
        ({"metadata": ["no", "object"]}, "not_a_dict"),
        ({"metadata": {"a": "\x00"}}, "invalid"),
        ({"metadata": {"a": "x" * 5000}}, "invalid"),
    ],
)
def test_intent_wrong__400_with_code(api: APIClient, changes: dict[str, Any], code: str) -> None:
    response = ask(api, **changes)
    assert (response.status_code, response.json()["code"]) == (400, code)
    assert not Upload.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"name":"a","size":1,"type":"image/png","metadata":{"a":1e999}}',
        b'{"name":"a","size":1,"type":"image/png","metadata":{"a":NaN}}',
        b'{"name":"a","size":1,"type":"image/png","metadata":{"a":"\\ud800"}}',
        b'{"name":"\\ud800","size":1,"type":"image/png"}',
        b'{"name":"a","size":' + b"9" * 5000 + b',"type":"image/png"}',
    ],
)
def test_body_malformed__400_with_code(api: APIClient, body: bytes) -> None:
    response = api.post("/uploads/", body, content_type="application/json")
    assert response.status_code == 400
    assert set(response.json()) >= {"code", "detail"}


def test_anonymous__401_or_403_with_code() -> None:
    response = ask(APIClient())
    assert response.status_code in (401, 403)
    assert response.json()["code"] == "not_authenticated"


def test_authentication_refuses_with_a_body__passed_on() -> None:
    response = ask(APIClient(), to="/refusing/")
    assert response.status_code == 401
    assert response.json() == {"code": "token_expired", "detail": "The token has expired."}


@pytest.mark.parametrize("wrong_id", ["not-a-uuid", "00000000-0000-4000-8000-000000000000", "0"])
def test_unknown_id__404(api: APIClient, wrong_id: str) -> None:
    response = api.post(f"/uploads/{wrong_id}/complete/")
    assert (response.status_code, response.json()["code"]) == (404, "upload_unknown")


def test_upload_of_another_user__404_and_stays_pending(api: APIClient) -> None:
    intent = ask(api).json()
    send(intent)
    stranger = APIClient()
    stranger.force_authenticate(User.objects.create(username="stranger"))
    assert complete(stranger, intent).json()["code"] == "upload_unknown"
    assert complete(api, intent).status_code == 200


def test_not_sent_yet__409_then_completes(api: APIClient) -> None:
    intent = ask(api).json()
    response = complete(api, intent)
    assert (response.status_code, response.json()["code"]) == (409, "object_missing")
    send(intent)
    assert complete(api, intent).status_code == 200


def test_expired__410(api: APIClient) -> None:
    intent = ask(api).json()
    send(intent)
    Upload.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    response = complete(api, intent)
    assert (response.status_code, response.json()["code"]) == (410, "upload_expired")


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (PNG + b"1", "image/png", "size_mismatch"),
        (PNG, "text/html", "type_mismatch"),
        (b"<script>".ljust(len(PNG)), "image/png", "content_mismatch"),
        (b"\xff\xd8\xff".ljust(len(PNG)), "image/png", "content_mismatch"),
    ],
)
def test_object_not_as_declared__422_and_gone(
    api: APIClient, storage: SharedClientS3Storage, body: bytes, content_type: str, code: str
) -> None:
    intent = ask(api).json()
    storage.write(intent["key"], body, content_type=content_type)  # as a server that checks less would let it through
    response = complete(api, intent)
    assert (response.status_code, response.json()["code"]) == (422, code)
    assert complete(api, intent).json()["code"] == "upload_failed"
    assert not storage.exists(intent["key"])


def test_hook__joins_the_response(api: APIClient) -> None:
    intent = ask(api, to="/hooked/").json()
    send(intent)
    assert complete(api, intent, to="/hooked/").json()["author"] == Author.objects.get().pk


def test_hook_raises__upload_stays_pending_and_nothing_is_written(api: APIClient) -> None:
    intent = ask(api, to="/hooked/", metadata={"raise": True}).json()
    send(intent)
    with pytest.raises(ZeroDivisionError):
        complete(api, intent, to="/hooked/")
    assert not Author.objects.exists()
    assert complete(api, intent).status_code == 200


def test_s3_away__503_and_nothing_changed(api: APIClient) -> None:
    intent = ask(api).json()
    send(intent)
    with override_settings(
        STORAGES=recipes.storages("test", endpoint="http://127.0.0.1:9", access_key="a", secret_key="b")
    ):
        response = complete(api, intent)
    assert (response.status_code, response.json()["code"]) == (503, "storage_unavailable")
    assert response["Retry-After"] == "5"
    assert complete(api, intent).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_user_deleted_while_the_token_lives__403(api: APIClient, user: User) -> None:
    User.objects.filter(pk=user.pk).delete()
    response = ask(api)
    assert (response.status_code, response.json()["code"]) == (403, "owner_unknown")


def test_status__counts_what_waits(api: APIClient) -> None:
    ask(api)
    ask(api)
    Upload.objects.filter(pk=ask(api).json()["id"]).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert json.loads(json.dumps(status.snapshot())) == {"pending": 2, "expired": 1, "failed": 0}


def test_storage__is_the_configured_one(storage: SharedClientS3Storage) -> None:
    assert uploads.storage() is storages["default"] is storage
