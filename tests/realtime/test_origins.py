from typing import Any

import pytest
from django.test import override_settings

from scaling_kit.realtime.origins import is_allowed, parse_origin


def scope(origin: str = "", *, host: str = "localhost:8000", scheme: str = "ws", offered: Any = ()) -> dict[str, Any]:
    headers = [(b"host", host.encode()), *([(b"origin", origin.encode())] if origin else [])]
    return {"type": "websocket", "scheme": scheme, "headers": headers, "subprotocols": list(offered)}


@pytest.mark.parametrize(
    ("origin", "host", "scheme", "expected"),
    [
        ("http://localhost:8000", "localhost:8000", "ws", True),
        ("https://localhost", "localhost", "wss", True),
        ("https://localhost:443", "localhost", "wss", True),
        ("http://LOCALHOST:8000", "localhost:8000", "ws", True),
        ("http://localhost:9999", "localhost:8000", "ws", False),
        ("https://localhost:8000", "localhost:8000", "ws", False),
        ("http://evil.example", "localhost:8000", "ws", False),
        ("http://evil.example", "evil.example", "ws", False),  # DNS rebinding: not in ALLOWED_HOSTS
        ("null", "localhost:8000", "ws", False),
        ("http://localhost:8000@evil.example", "localhost:8000", "ws", False),
        ("http://localhost:8000/path", "localhost:8000", "ws", False),
    ],
)
def test_own_origin__only_the_exact_one(origin: str, host: str, scheme: str, expected: bool) -> None:
    assert is_allowed(scope(origin, host=host, scheme=scheme)) is expected


@override_settings(SCALING_KIT_REALTIME_ORIGINS=["https://app.example", "http://localhost:5173"])
@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://app.example", True),
        ("https://app.example:443", True),
        ("http://localhost:5173", True),
        ("http://app.example", False),
        ("https://app.example:9999", False),
        ("https://app.example.evil.example", False),
        ("https://sub.app.example", False),
    ],
)
def test_listed_origin__scheme_host_and_port_must_match(origin: str, expected: bool) -> None:
    assert is_allowed(scope(origin)) is expected


def test_no_origin__only_with_a_token() -> None:
    assert not is_allowed(scope())
    assert not is_allowed(scope(offered=["kit.v1"]))
    assert is_allowed(scope(offered=["kit.v1", "bearer.x"]))


@pytest.mark.parametrize(
    "origin", ["", "*", "app.example", "https://*.example", "https://a:port", "https://a/", "ftp://a"]
)
def test_not_an_origin__none(origin: str) -> None:
    assert parse_origin(origin) is None
