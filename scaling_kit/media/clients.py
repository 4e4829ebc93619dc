"""boto3 for one process: a session, and the few clients made of it that all threads share."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import boto3
import botocore
from botocore.config import Config

# What the options of a storage do not say. With checksums on every request (boto3's default) several servers
# other than AWS refuse uploads over HTTPS.
DEFAULTS = Config(
    connect_timeout=2,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 2},
    max_pool_connections=32,
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
# For looking at an object within a web request: with the one repetition, a server that hangs costs it 5 s.
LOOKING = Config(connect_timeout=1, read_timeout=2)
UNSIGNED = Config(signature_version=botocore.UNSIGNED)


@dataclass(frozen=True, kw_only=True)
class Clients:
    """What one process uses to talk to S3. boto3's clients may be used by many threads, but not across a fork.

    `bucket_url` is the bucket's URL with a slash at the end, however the bucket is addressed.
    """

    pid: int
    resource: Any
    unsigned_resource: Any
    looking: Any
    bucket: Any
    bucket_url: str
    credentials: Any

    @property
    def working(self) -> Any:
        return self.resource.meta.client

    @property
    def region(self) -> str:
        return str(self.working.meta.region_name)


def open_clients(session: boto3.Session, bucket: str, config: Config, **options: Any) -> Clients:
    """The session parses S3's description once (0.1 s, 16 MB); each client after the first costs 6 ms and 0.4 MB."""
    resource: Any = session.resource("s3", config=config, **options)
    example = resource.meta.client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "-"})
    return Clients(
        pid=os.getpid(),
        resource=resource,
        unsigned_resource=session.resource("s3", config=config.merge(UNSIGNED), **options),
        looking=session.client("s3", config=config.merge(LOOKING), **options),
        bucket=resource.Bucket(bucket),
        bucket_url=urlunsplit(urlsplit(example)._replace(query="")).removesuffix("-"),
        credentials=session.get_credentials(),
    )


_lock = threading.Lock()


def opening() -> threading.Lock:
    """The lock under which a process opens its clients, so that its first requests do not all do so."""
    return _lock


def _forget_the_lock_of_the_parent() -> None:
    global _lock
    _lock = threading.Lock()  # the parent may have held it at the moment of the fork


os.register_at_fork(after_in_child=_forget_the_lock_of_the_parent)
