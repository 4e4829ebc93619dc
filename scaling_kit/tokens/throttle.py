"""The limit on attempts to log in: per user name and address, per name, and per address, over all processes."""

from __future__ import annotations

import hashlib
import ipaddress

from rest_framework.request import Request
from rest_framework.settings import api_settings as rest_settings
from rest_framework.throttling import BaseThrottle

from scaling_kit.redis import Purpose, Script, client, key
from scaling_kit.tokens.conf import settings
from scaling_kit.tokens.refusals import Refusal

ADMIT = Script.beside(__file__, "throttle_admit")


def admit(username: str, address: str) -> None:
    """Count an attempt, or raise `Refusal` with the seconds to wait. One script for all limits: none is overrun."""
    limits = {name: limit for name, limit in _limits(username, address).items() if limit > 0}
    wait_ms = ADMIT(
        client(Purpose.REQUEST, settings.REDIS_URL),
        list(limits),
        [round(settings.LOGIN_WINDOW_SECONDS * 1000), *limits.values()],
    )
    if wait_ms:
        raise Refusal("login_throttled", wait_seconds=int(wait_ms) / 1000)


def forget(username: str, address: str) -> None:
    """After a success: forget the attempts on this name from this address."""
    client(Purpose.REQUEST, settings.REDIS_URL).delete(_key("pair", username, address))


def address_of(request: Request) -> str:
    """The client's address; of IPv6 the /64 network, which is what one customer gets.

    Believes X-Forwarded-For only as far as REST_FRAMEWORK's NUM_PROXIES says.
    """
    trusts_proxies = rest_settings.NUM_PROXIES is not None
    address = BaseThrottle().get_ident(request) if trusts_proxies else request.META.get("REMOTE_ADDR")
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return address or ""
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)


def _limits(username: str, address: str) -> dict[str, int]:
    return {
        _key("pair", username, address): settings.LOGIN_ATTEMPTS,
        _key("name", username): settings.LOGIN_ATTEMPTS_PER_NAME,
        _key("address", address): settings.LOGIN_ATTEMPTS_PER_ADDRESS,
    }


def _key(kind: str, *parts: str) -> str:
    """Hashed: names are of any length, and Redis need not know whom somebody tried to be."""
    digest = hashlib.sha256("\0".join(parts).casefold().encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return key("tokens", "attempts", kind, digest)
