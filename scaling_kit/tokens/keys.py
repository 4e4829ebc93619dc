"""The keys that sign and verify. One key today, from SIMPLE_JWT; a keyring later, behind the same three functions.

Every token names its key in the header (`kid`), and the algorithm belongs to the key, never to the token.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jwt
from jwt.algorithms import get_default_algorithms
from jwt.utils import base64url_encode

from scaling_kit.tokens.conf import simple_jwt

# RFC 7638, section 3.2: the members of a public key that its thumbprint is made of.
THUMBPRINT_MEMBERS = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n"), "OKP": ("crv", "kty", "x")}


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key and the one algorithm it is used with."""

    id: str
    algorithm: str
    signing: Any = field(repr=False)
    verifying: Any = field(repr=False)


def signing_key() -> Key:
    """The key new tokens are signed with. Raises `jwt.PyJWTError` or `ValueError` if SIMPLE_JWT has no usable one."""
    config = simple_jwt()
    return _load(config.ALGORITHM, config.SIGNING_KEY or "", config.VERIFYING_KEY or "")


def verifying_key(key_id: object) -> Key | None:
    """The key with this id, or None."""
    key = signing_key()
    return key if key.id == key_id else None


def sign(claims: Mapping[str, Any], *, type_: str) -> str:
    """A signed token with these claims, and `type_` as its `typ`."""
    key = signing_key()
    headers = {"typ": type_, "kid": key.id}
    encoder = simple_jwt().JSON_ENCODER
    return jwt.encode(dict(claims), key.signing, algorithm=key.algorithm, headers=headers, json_encoder=encoder)


@lru_cache(maxsize=8)
def _load(algorithm: str, signing: str, verifying: str) -> Key:
    if algorithm not in get_default_algorithms() or algorithm == "none":
        raise ValueError(f"SIMPLE_JWT['ALGORITHM'] {algorithm!r} is not one this installation can use")
    prepare = get_default_algorithms()[algorithm].prepare_key
    if algorithm.startswith("HS"):
        secret = prepare(signing)
        return Key(id=_secret_id(secret), algorithm=algorithm, signing=secret, verifying=secret)
    public = prepare(verifying)
    return Key(id=_thumbprint(algorithm, public), algorithm=algorithm, signing=prepare(signing), verifying=public)


def _secret_id(secret: bytes) -> str:
    """Names a shared secret without telling more of it than any signature does (RFC 7638, section 7)."""
    digest = hmac.digest(secret, b"scaling_kit.tokens key id", hashlib.sha256)
    return base64url_encode(digest).decode()[:22]


def _thumbprint(algorithm: str, public: Any) -> str:
    """RFC 7638."""
    jwk = get_default_algorithms()[algorithm].to_jwk(public, as_dict=True)
    members = {name: jwk[name] for name in THUMBPRINT_MEMBERS[jwk["kty"]]}
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
    return base64url_encode(hashlib.sha256(canonical).digest()).decode()
