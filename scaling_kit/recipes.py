"""Django's own settings, from a URL: what each room needs, spelled out for you.

    CACHES = recipes.caches(REDIS_URL)
    CHANNEL_LAYERS = recipes.channel_layers(REDIS_URL)

Pure functions: they read no environment and change no settings. Edit what they return as you like.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any


def caches(url: str, *, key_prefix: str = "", timeout_seconds: int = 300) -> dict[str, Any]:
    """`CACHES` on django-redis: short timeouts, no retries; a Redis that is away is an empty cache, not an error.

    Of use for sessions, throttles (which let everyone through while Redis is away) and your own `cache.get`. Three
    things of django-redis to know: aliases with the same URL share one connection pool, with the options of whichever
    is used first, so give each URL one alias. `touch`, `ttl`, `lock` and whatever works on sets and hashes raise all
    the same when Redis is away. Values are pickled: whoever can write to this Redis can run code in your processes;
    if you cache nothing but JSON, add "SERIALIZER": "django_redis.serializers.json.JSONSerializer" to OPTIONS.
    """
    return {
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": url,
            "KEY_PREFIX": key_prefix,
            "TIMEOUT": timeout_seconds,
            "OPTIONS": {
                "SOCKET_CONNECT_TIMEOUT": 0.5,
                "SOCKET_TIMEOUT": 0.5,
                "IGNORE_EXCEPTIONS": True,
            },
        }
    }


def sessions() -> dict[str, Any]:
    """Settings for Django's sessions (the admin's log-in): in the database, read through the shared cache.

    Use as `globals().update(recipes.sessions())`, or write the one line: SESSION_ENGINE = "...cached_db".
    """
    return {"SESSION_ENGINE": "django.contrib.sessions.backends.cached_db"}


def channel_layers(url: str, *, prefix: str = "sk:channels", capacity: int = 100) -> dict[str, Any]:
    """`CHANNEL_LAYERS` that survives a Redis restart and a client that stops reading.

    `capacity` is how many messages wait for one consumer before the oldest is dropped.
    """
    return {
        "default": {
            "BACKEND": "scaling_kit.realtime.layer.ResilientPubSubLayer",
            "CONFIG": {"hosts": [{"address": url}], "prefix": prefix, "capacity": capacity},
        }
    }


def storages(
    bucket: str,
    *,
    endpoint: str | None = None,
    public_endpoint: str | None = None,
    access_key: str | None = None,
    secret_key: str | None = None,
    region: str = "us-east-1",
    static: str = "django.contrib.staticfiles.storage.StaticFilesStorage",
    url_expiry: timedelta = timedelta(hours=1),
) -> dict[str, Any]:
    """`STORAGES` with user files in a private bucket, handed out by signed URLs.

    `endpoint` is where this server finds S3 (None: AWS). `public_endpoint` is where the browser finds the same
    service, if that differs; the proxy there must pass the Host of `endpoint` on, since the signature covers it.
    """
    options: dict[str, Any] = {
        "bucket_name": bucket,
        "endpoint_url": endpoint,
        "public_endpoint": public_endpoint,
        "access_key": access_key,
        "secret_key": secret_key,
        "region_name": region,
        "signature_version": "s3v4",
        "addressing_style": "path" if endpoint else "auto",
        "default_acl": None,
        "querystring_auth": True,
        "querystring_expire": int(url_expiry.total_seconds()),
        "file_overwrite": False,
    }
    return {
        "default": {"BACKEND": "scaling_kit.media.storage.SharedClientS3Storage", "OPTIONS": options},
        "staticfiles": {"BACKEND": static},
    }


def rq_queues(url: str, *, queues: Sequence[str] = ("high", "default", "low")) -> dict[str, Any]:
    """`RQ_QUEUES` for django-rq and for the kit's workers.

    JSON: with pickle, who writes to Redis runs code here. The queue class has plain RQ jobs wait for the commit.
    """
    entry = {
        "URL": url,
        "DEFAULT_TIMEOUT": 180,
        "SERIALIZER": "json",
        "QUEUE_CLASS": "scaling_kit.jobs.plain.Queue",
    }
    return {name: dict(entry) for name in queues}


def tasks(*, queues: Sequence[str] = ("high", "default", "low")) -> dict[str, Any]:
    """`TASKS`: Django's Tasks API with the kit's RQ backend. The queues must be in `RQ_QUEUES`."""
    return {"default": {"BACKEND": "scaling_kit.jobs.RQBackend", "QUEUES": list(queues), "OPTIONS": {}}}


def simple_jwt(
    signing_key: str,
    *,
    issuer: str = "scaling_kit",
    audience: str = "scaling_kit",
    access: timedelta = timedelta(minutes=5),
    refresh: timedelta = timedelta(days=14),
) -> dict[str, Any]:
    """`SIMPLE_JWT` for stateless verification: short access tokens, issuer and audience always checked."""
    return {
        "ALGORITHM": "HS256",
        "SIGNING_KEY": signing_key,
        "ISSUER": issuer,
        "AUDIENCE": audience,
        "ACCESS_TOKEN_LIFETIME": access,
        "REFRESH_TOKEN_LIFETIME": refresh,
        "LEEWAY": 10,
        "USER_ID_FIELD": "pk",
        "USER_ID_CLAIM": "sub",
    }
