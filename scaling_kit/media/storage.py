"""Django's storage on S3, made for many threads and many processes.

django-storages builds a client per thread (under ASGI: per request, 0.2 s and 12 MB each), reads whole objects
into memory, and lets two uploads of one name overwrite each other. This class keeps its settings and its API.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionError, HTTPClientError, IncompleteReadError  # noqa: A004
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.base import File
from storages.backends.s3 import S3Storage
from storages.utils import clean_name, setting

from scaling_kit.media.clients import DEFAULTS, Clients, open_clients, opening
from scaling_kit.media.files import ObjectReader, ObjectWriter, RangeReader
from scaling_kit.media.signing import signed_get

# For what is published: its key is made for it, and never holds anything else.
IMMUTABLE = "private, max-age=31536000, immutable"


class StorageUnavailableError(OSError):
    """S3 did not answer, or answered that it cannot now. The same call may succeed later."""


class ObjectChangedError(OSError):
    """The object is no longer the one that was looked at."""


@dataclass(frozen=True, kw_only=True)
class ObjectFacts:
    """What S3 says about an object. `content_type` is empty in listings."""

    key: str
    size: int
    etag: str
    modified_at: datetime
    content_type: str = ""


class SharedClientS3Storage(S3Storage):  # type: ignore[misc]  # django-storages has no types
    """`S3Storage` with clients that a process's threads share, ranged reads, unique names and whole writes.

    Takes the options of `storages.backends.s3.S3Storage`, and `public_endpoint`: where browsers find what this
    server knows as `endpoint_url`. It may be a path (`/s3`) of the site itself. The proxy there must pass on the Host
    of `endpoint_url`, which signatures cover.
    """

    client_config: Config

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.client_config = DEFAULTS.merge(self.client_config)
        self._clients: Clients | None = None

    def get_default_settings(self) -> dict[str, Any]:
        defaults: dict[str, Any] = super().get_default_settings()
        return {
            **defaults,
            "signature_version": defaults["signature_version"] or "s3v4",
            "file_overwrite": setting("AWS_S3_FILE_OVERWRITE", False),
            "public_endpoint": setting("AWS_S3_PUBLIC_ENDPOINT"),
        }

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_clients": None}

    # Clients

    @property
    def clients(self) -> Clients:
        """This process's clients, opened by the first thread that needs them."""
        if not self._is_open():
            with opening():
                if not self._is_open():
                    self._clients = self._open_clients()
        return self._clients  # type: ignore[return-value]  # open now

    @property
    def connection(self) -> Any:
        return self.clients.resource

    @property
    def unsigned_connection(self) -> Any:
        return self.clients.unsigned_resource

    @property
    def bucket(self) -> Any:
        return self.clients.bucket

    def _is_open(self) -> bool:
        return self._clients is not None and self._clients.pid == os.getpid()

    def _open_clients(self) -> Clients:
        return open_clients(
            self._create_session(),
            self.bucket_name,
            self.client_config,
            region_name=self.region_name,
            use_ssl=self.use_ssl,
            endpoint_url=self.endpoint_url,
            verify=self.verify,
        )

    # Names

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        """A name nobody else gets: the folder and extension of `name`, and a random part between.

        Raises `SuspiciousFileOperation` if that is longer than `max_length`.
        """
        if self.file_overwrite:
            return str(super().get_available_name(name, max_length))
        path = PurePosixPath(clean_name(name))
        if ".." in path.parts:
            raise SuspiciousFileOperation(f"Path traversal in {name!r}")
        unique = str(path.with_name(f"{uuid.uuid4().hex}{path.suffix.lower()}"))
        if max_length is not None and len(unique) > max_length:
            raise SuspiciousFileOperation(f"{unique!r} is longer than the {max_length} characters there is room for")
        return unique

    # Reading and writing

    def _open(self, name: str, mode: str = "rb") -> File:  # type: ignore[type-arg]
        if "w" in mode:
            return ObjectWriter(self._key(name), mode, self)
        if self.gzip:  # what django-storages compressed, only it can read
            return super()._open(name, mode)  # type: ignore[no-any-return]
        return ObjectReader(name, mode, lambda: self._stream(name))

    def _stream(self, name: str) -> RangeReader:
        facts = self.stat(name)
        return RangeReader(lambda first, count: self.read_range(name, first, count, etag=facts.etag), facts.size)

    def read_range(self, name: str, first: int, count: int, *, etag: str = "") -> bytes:
        """`count` bytes from `first`, or what there is of them. `etag` names the only version wanted.

        Raises `FileNotFoundError`, `ObjectChangedError`, `StorageUnavailableError`.
        """
        condition = {"IfMatch": etag} if etag else {}
        wanted = f"bytes={first}-{first + count - 1}"
        with translated(name):
            reply = self.clients.looking.get_object(
                Bucket=self.bucket_name, Key=self._key(name), Range=wanted, **condition
            )
            with reply["Body"] as body:
                data: bytes = body.read(count)
        # Not every server honours If-Match or Range (rclone does the second with status 200).
        if etag and reply["ETag"] != etag:
            raise ObjectChangedError(f"{name} was replaced while it was read")
        if first and "ContentRange" not in reply:
            raise OSError(f"{name}: the server does not know ranges, and sent the whole object")
        return data

    def write(self, name: str, content: Any, *, content_type: str) -> None:
        """Put bytes or a binary file under exactly this name, over what was there. Raises `StorageUnavailableError`."""
        with translated(name):
            self.clients.working.put_object(
                Bucket=self.bucket_name,
                Key=self._key(name),
                Body=content,
                ContentType=content_type,
                CacheControl=IMMUTABLE,
            )

    def stat(self, name: str) -> ObjectFacts:
        """Raises `FileNotFoundError`, `StorageUnavailableError`."""
        with translated(name):
            head = self.clients.looking.head_object(Bucket=self.bucket_name, Key=self._key(name))
        return ObjectFacts(
            key=name,
            size=head["ContentLength"],
            etag=head["ETag"],
            modified_at=head["LastModified"],
            content_type=head.get("ContentType", ""),
        )

    def copy(self, source: str, target: str, *, etag: str, content_type: str) -> None:
        """Copy within the bucket, the bytes never leaving S3, if the source still is the version `etag`.

        Raises `FileNotFoundError`, `ObjectChangedError`, `StorageUnavailableError`.
        """
        if self.stat(source).etag != etag:  # for servers that ignore the condition below
            raise ObjectChangedError(f"{source} was replaced since it was looked at")
        with translated(source):
            self.clients.working.copy_object(
                Bucket=self.bucket_name,
                Key=self._key(target),
                CopySource={"Bucket": self.bucket_name, "Key": self._key(source)},
                CopySourceIfMatch=etag,
                MetadataDirective="REPLACE",
                ContentType=content_type,
                CacheControl=IMMUTABLE,
            )

    def listing(self, prefix: str) -> Iterator[list[ObjectFacts]]:
        """The objects whose names begin with `prefix`, a page of up to 1000 at a time."""
        pages = self.clients.working.get_paginator("list_objects_v2")
        folder = f"{self.location}/".lstrip("/")
        with translated(prefix):
            for page in pages.paginate(Bucket=self.bucket_name, Prefix=folder + prefix):
                yield [
                    ObjectFacts(
                        key=found["Key"].removeprefix(folder),
                        size=found["Size"],
                        etag=found["ETag"],
                        modified_at=found["LastModified"],
                    )
                    for found in page.get("Contents", [])
                ]

    def remove(self, names: Iterable[str]) -> None:
        """Delete up to 1000 objects; one that is not there is no error. Raises `StorageUnavailableError`."""
        objects = [{"Key": self._key(name)} for name in names]
        if not objects:
            return
        with translated(f"{len(objects)} objects"):
            self.clients.working.delete_objects(Bucket=self.bucket_name, Delete={"Objects": objects, "Quiet": True})

    # URLs

    def url(
        self,
        name: str,
        parameters: dict[str, Any] | None = None,
        expire: int | None = None,
        http_method: str | None = None,
    ) -> str:
        """A URL for browsers, signed unless `querystring_auth` is off. Computed here, without asking S3.

        The same for all processes within `signing.WINDOW_SECONDS`, so that browsers find the object in their cache.
        """
        if self.custom_domain or not self.querystring_auth or http_method not in (None, "GET"):
            return self._public(super().url(name, parameters, expire, http_method))
        clients = self.clients
        return self._public(
            signed_get(
                clients.bucket_url,
                self._key(name),
                credentials=clients.credentials,
                region=clients.region,
                expires=self.querystring_expire if expire is None else expire,
                now=time.time(),
                parameters=parameters or {},
            )
        )

    def presigned_put(self, name: str, *, content_type: str, size: int, expires: int) -> str:
        """A URL by which a browser may PUT exactly `size` bytes of `content_type`, for `expires` seconds."""
        target = {
            "Bucket": self.bucket_name,
            "Key": self._key(name),
            "ContentType": content_type,
            "ContentLength": size,
        }
        return self._public(self.clients.working.generate_presigned_url("put_object", target, ExpiresIn=expires))

    def _public(self, url: str) -> str:
        if not self.public_endpoint or not url.startswith(self.endpoint_url):
            return url
        return str(self.public_endpoint).rstrip("/") + url.removeprefix(self.endpoint_url.rstrip("/"))

    def _key(self, name: str) -> str:
        return str(self._normalize_name(clean_name(name)))


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turn boto3's errors into Python's: missing, changed, unavailable. What is left is a mistake in configuration."""
    try:
        yield
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 404:
            raise FileNotFoundError(f"{name} is not in the storage") from error
        if status == 412:
            raise ObjectChangedError(f"{name} was replaced") from error
        if status == 429 or status >= 500:
            raise StorageUnavailableError(f"S3 answered {status} for {name}") from error
        raise
    except (ConnectionError, HTTPClientError, IncompleteReadError) as error:
        raise StorageUnavailableError(f"S3 did not answer for {name}: {error}") from error
