from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.db import InterfaceError, OperationalError, transaction
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import exception_handler
from rest_framework.viewsets import ViewSet

from scaling_kit.media import uploads
from scaling_kit.media.conf import settings
from scaling_kit.media.models import Upload
from scaling_kit.media.refusals import UploadRefusedError
from scaling_kit.media.storage import ObjectChangedError, StorageUnavailableError
from scaling_kit.parsers import BoundedJSONParser

METADATA_MAX_BYTES = 4096


class IntentSerializer(serializers.Serializer[Any]):
    """What a client declares about the file it wants to send."""

    name = serializers.CharField(max_length=255)
    size = serializers.IntegerField(min_value=1)
    type = serializers.CharField(max_length=100)
    metadata = serializers.DictField(default=dict)

    def validate_size(self, size: int) -> int:
        if size > self.context["max_bytes"]:
            raise serializers.ValidationError(
                f"At most {self.context['max_bytes']} bytes are allowed.", code="too_large"
            )
        return size

    def validate_type(self, content_type: str) -> str:
        if content_type not in settings.ALLOWED_TYPES:
            allowed = ", ".join(settings.ALLOWED_TYPES)
            raise serializers.ValidationError(f"Must be one of {allowed}.", code="type_not_allowed")
        return content_type

    def validate_metadata(self, metadata: dict[str, Any]) -> dict[str, Any]:
        """What PostgreSQL's jsonb cannot hold is refused here: NUL, lone surrogates, infinity."""
        try:
            encoded = json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode()
        except ValueError as error:
            raise serializers.ValidationError("Must be plain JSON values.", code="invalid") from error
        if len(encoded) > METADATA_MAX_BYTES or b"\\u0000" in encoded:
            detail = f"At most {METADATA_MAX_BYTES} bytes, and no NUL characters."
            raise serializers.ValidationError(detail, code="invalid")
        return metadata


class UploadViewSet(ViewSet):
    """Direct uploads. Override `perform_complete` to make something of a file that has arrived.

    `POST uploads/` (what shall be sent) → `PUT` to S3 → `POST uploads/<id>/complete/`.
    """

    parser_classes = [BoundedJSONParser]
    permission_classes = [IsAuthenticated]

    def perform_complete(self, upload: Upload) -> dict[str, Any]:  # noqa: ARG002  (for the one who overrides it)
        """Runs in the transaction that completes the upload; what it returns joins the response.

        If it raises, the upload stays pending and the client may try again.
        """
        return {}

    def max_bytes(self) -> int:
        """The largest file; override it for a limit that depends on the user, or changes while it runs."""
        return settings.MAX_BYTES

    def create(self, request: Request) -> Response:
        intent = IntentSerializer(data=request.data, context={"max_bytes": self.max_bytes()})
        intent.is_valid(raise_exception=True)
        declared = intent.validated_data
        upload = uploads.begin(
            owner_id=request.user.pk,
            name=declared["name"],
            size=declared["size"],
            content_type=declared["type"],
            metadata=declared["metadata"],
        )
        put = uploads.presign(upload)
        body = {"id": upload.pk, "key": upload.key, "method": put.method, "url": put.url, "headers": put.headers}
        return Response({**body, "expires_at": upload.expires_at}, status=201)

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(_representation(uploads.find(pk, owner_id=request.user.pk)))

    @action(detail=True, methods=["post"])
    def complete(self, request: Request, pk: str) -> Response:
        upload = uploads.find(pk, owner_id=request.user.pk)
        facts = uploads.inspect(upload)
        with transaction.atomic(using=uploads.database()):
            uploads.complete(upload, facts)
            joined = self.perform_complete(upload)
        return Response({**_representation(upload), **joined})

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return _refuse


def _representation(upload: Upload) -> dict[str, Any]:
    return {
        "id": upload.pk,
        "key": upload.key,
        "name": upload.name,
        "type": upload.content_type,
        "size": upload.size,
        "metadata": upload.metadata,
        "state": upload.state,
        "created_at": upload.created_at,
        "expires_at": upload.expires_at,
        "completed_at": upload.completed_at,
    }


def _refuse(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's own handling, with `{"code", "detail"}` as the body of every refusal."""
    error = _as_refusal(error)
    response = exception_handler(error, context)
    if response is not None:
        response.data = _body(error)
    return response


def _as_refusal(error: Exception) -> Exception:
    if isinstance(error, StorageUnavailableError):
        return UploadRefusedError("storage_unavailable")
    if isinstance(error, ObjectChangedError):
        return UploadRefusedError("object_missing", "The file is being replaced; complete when it has been sent.")
    if isinstance(error, OperationalError | InterfaceError):
        return UploadRefusedError("database_unavailable")
    return error


def _body(error: Exception) -> dict[str, Any]:
    if not isinstance(error, APIException):
        return {"code": "refused", "detail": str(error) or "Not allowed."}
    detail = error.detail
    if isinstance(detail, list):
        detail = detail[0]
    if not isinstance(detail, dict):
        return {"code": getattr(detail, "code", "invalid"), "detail": detail}
    if "code" in detail:  # an authentication class that gives such a body itself
        return detail
    field, messages = next(iter(detail.items()))
    first = messages[0] if isinstance(messages, list) else messages
    return {"code": getattr(first, "code", "invalid"), "detail": f"{field}: {first}", "fields": detail}
