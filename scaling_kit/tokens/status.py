"""What the cluster page shows of this room. The counters `tokens.*` are there already."""

from __future__ import annotations

from typing import Any

from scaling_kit.redis import Purpose, RedisError, client
from scaling_kit.tokens import keys, revocation
from scaling_kit.tokens.conf import access_lifetime, settings


def snapshot() -> dict[str, Any]:
    """The signing key's id and algorithm, and whether revocations can be looked up. Asks Redis once."""
    key = keys.signing_key()
    return {
        "key_id": key.id,
        "algorithm": key.algorithm,
        "access_lifetime_seconds": access_lifetime().total_seconds(),
        "fail_closed": settings.FAIL_CLOSED,
        "revocations_known": _revocations_known(),
    }


def _revocations_known() -> bool:
    try:
        return bool(client(Purpose.REQUEST, settings.REDIS_URL).exists(revocation.epoch_key(revocation.EVERYONE)))
    except RedisError:
        return False
