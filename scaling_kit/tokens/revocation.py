"""Revoke everyone, a user, or a session: seen by every process with its next request, without a database read.

Each of the three is a *subject* with an *epoch*, a number that only goes up: a token carries the epochs at which it
was issued, and is void once one of them has gone up. The database is the record; Redis holds the epochs that went up
recently, for as long as an access token can be older than that, and is seeded again when it lost its data.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import redis
from django.db import DatabaseError, InterfaceError, models, router, transaction
from django.db.models.functions import Greatest
from django.utils import timezone

from scaling_kit import members
from scaling_kit.redis import Purpose, RedisError, Script, client, key
from scaling_kit.tokens.conf import refresh_lifetime, retention, settings
from scaling_kit.tokens.models import Revocation
from scaling_kit.tokens.refusals import Refusal

logger = logging.getLogger(__name__)

EVERYONE = "everyone"
UNANSWERED = (RedisError, DatabaseError, InterfaceError)
RAISE_EPOCHS = Script.beside(__file__, "revocation_raise", idempotent=True)

# Set when this process could not tell Redis of a revocation: it tells it from the database with the next request.
_owes_redis = False


def user_subject(user_id: object) -> str:
    return f"user:{user_id}"


def session_subject(session_id: str) -> str:
    return f"session:{session_id}"


def epoch_key(subject: str) -> str:
    return key("tokens", "epoch", subject)


def ensure_not_revoked(epochs: Mapping[str, int]) -> None:
    """Raise `Refusal` if one of the subjects was revoked since these epochs. One round trip to Redis.

    When Redis cannot be asked, passes unless FAIL_CLOSED is set: an access token expires soon enough.
    """
    try:
        published = _fetch_published(epochs)
    except UNANSWERED as error:
        members.count("tokens.unchecked")
        logger.debug("revocation_unknown error=%r", error)
        if settings.FAIL_CLOSED:
            raise Refusal("redis_unavailable") from error
        return
    if any(published[subject] > epoch for subject, epoch in epochs.items()):
        raise Refusal("token_revoked")


def revoke(subject: str, *, robust: bool = False) -> None:
    """Void every token of the subject: recorded within the current transaction, in force when that commits.

    One SQL transaction; then one call to Redis, which raises `redis.RedisError` unless `robust`: the revocation is
    recorded by then, refresh tokens are void, and access tokens as soon as Redis answers this process again.
    """
    database = router.db_for_write(Revocation)
    with transaction.atomic(using=database):
        epoch = _raise_recorded_epoch(subject)
        transaction.on_commit(lambda: _publish({subject: epoch}), using=database, robust=robust)
    logger.info("revoked subject=%s epoch=%s", subject, epoch)


def fetch_epochs(subjects: Iterable[str]) -> dict[str, int]:
    """The subjects' epochs, 0 for one that was never revoked. One SQL query, one round trip to Redis.

    Whichever of the two was restored from a backup, the other remembers. Raises `redis.RedisError`.
    """
    published = _fetch_published(subjects)
    recorded = dict(Revocation.objects.filter(pk__in=list(published)).values_list("subject", "epoch"))
    return {subject: max(epoch, recorded.get(subject, 0)) for subject, epoch in published.items()}


def _raise_recorded_epoch(subject: str) -> int:
    """Up by one, or to the clock in µs: so it goes up even where a restored database has forgotten how far it was."""
    now = timezone.now()
    now_us = int(now.timestamp() * 1_000_000)
    if subject.startswith("session:"):  # a session's row is of no use once its refresh token would have expired
        Revocation.objects.filter(subject__startswith="session:", revoked_at__lt=now - refresh_lifetime()).delete()
    row, _ = Revocation.objects.update_or_create(
        subject=subject,
        defaults={"epoch": Greatest(models.F("epoch") + 1, now_us), "revoked_at": now},
        create_defaults={"epoch": now_us, "revoked_at": now},
    )
    row.refresh_from_db(fields=["epoch"])  # ours: the row is locked until we commit
    return row.epoch


def _fetch_published(subjects: Iterable[str]) -> dict[str, int]:
    """The epochs by Redis, EVERYONE's among them: that one is there unless Redis lost its data."""
    asked = [EVERYONE, *(subject for subject in subjects if subject != EVERYONE)]
    values = _client().mget([epoch_key(subject) for subject in asked])
    if values[0] is None or _owes_redis:
        _seed()
        values = _client().mget([epoch_key(subject) for subject in asked])
    return {subject: int(value or 0) for subject, value in zip(asked, values, strict=True)}


def _seed() -> None:
    """Copy to Redis what the database knows of the time that matters."""
    global _owes_redis
    _owes_redis = False  # before reading: what another thread records after that, it publishes or owes itself
    try:
        epochs = _fetch_recent()
        _publish({EVERYONE: 0, **epochs})
    except UNANSWERED:
        _owes_redis = True
        raise
    logger.info("revocations_seeded count=%s", len(epochs))


def _fetch_recent() -> dict[str, int]:
    recent = models.Q(revoked_at__gt=timezone.now() - retention()) | models.Q(subject=EVERYONE)
    return dict(Revocation.objects.filter(recent).values_list("subject", "epoch"))


def _publish(epochs: Mapping[str, int]) -> None:
    global _owes_redis
    retention_ms = round(retention().total_seconds() * 1000)
    lifetimes_ms = [0 if subject == EVERYONE else retention_ms for subject in epochs]
    flat = [item for pair in zip(epochs.values(), lifetimes_ms, strict=True) for item in pair]
    try:
        RAISE_EPOCHS(_client(), [epoch_key(subject) for subject in epochs], flat)
    except RedisError:
        _owes_redis = True
        raise


def _client() -> redis.Redis:
    return client(Purpose.REQUEST, settings.REDIS_URL)
