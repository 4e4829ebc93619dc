"""System checks of the tokens room. Ids are stable."""

from __future__ import annotations

from datetime import timedelta
from importlib.util import find_spec
from typing import Any

from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as CheckWarning
from django.utils.module_loading import import_string

from scaling_kit.tokens.conf import access_lifetime, settings, simple_jwt

MIN_SECRET_BYTES = 32  # RFC 7518, section 3.2: as long as the hash
RECIPE = "Use SIMPLE_JWT = scaling_kit.recipes.simple_jwt(signing_key)."


@register("scaling_kit_tokens")
def check_requirements(**_: Any) -> list[CheckMessage]:
    """E001: the extra is not installed."""
    missing = [name for name in ("rest_framework", "rest_framework_simplejwt") if not find_spec(name)]
    hint = "pip install 'scaling-kit[tokens]'"
    message = f"scaling_kit.tokens needs {' and '.join(missing)}."
    return [Error(message, hint=hint, id="scaling_kit_tokens.E001")] if missing else []


@register("scaling_kit_tokens")
def check_signing_key(**_: Any) -> list[CheckMessage]:
    """E002: a secret that can be guessed; E003: a key that does not fit the algorithm."""
    if check_requirements():
        return []
    config = simple_jwt()
    secret = (config.SIGNING_KEY or "").encode()
    if config.ALGORITHM.startswith("HS") and len(secret) < MIN_SECRET_BYTES:
        message = f"SIMPLE_JWT['SIGNING_KEY'] has {len(secret)} bytes: whoever has one token can find it by trying."
        hint = f"Use at least {MIN_SECRET_BYTES} random bytes, the same for every process."
        return [Error(message, hint=hint, id="scaling_kit_tokens.E002")]
    return _check_key_loads()


def _check_key_loads() -> list[CheckMessage]:
    from jwt import PyJWTError

    from scaling_kit.tokens import keys

    try:
        keys.signing_key()
    except (PyJWTError, ValueError, TypeError) as error:
        hint = "ALGORITHM, SIGNING_KEY and VERIFYING_KEY of SIMPLE_JWT must belong together."
        return [Error(f"SIMPLE_JWT has no usable key: {error}", hint=hint, id="scaling_kit_tokens.E003")]
    return []


@register("scaling_kit_tokens")
def check_issuer_and_audience(**_: Any) -> list[CheckMessage]:
    """E004: tokens meant for another service with the same key would be accepted."""
    if check_requirements():
        return []
    missing = [name for name in ("ISSUER", "AUDIENCE") if not getattr(simple_jwt(), name)]
    message = f"SIMPLE_JWT has no {' and no '.join(missing)}: a token made for another service would be accepted."
    return [Error(message, hint=RECIPE, id="scaling_kit_tokens.E004")] if missing else []


@register("scaling_kit_tokens")
def check_access_lifetime(**_: Any) -> list[CheckMessage]:
    """W005: access tokens that outlive what they say."""
    if check_requirements() or access_lifetime() <= timedelta(hours=1):
        return []
    return [
        CheckWarning(
            f"SIMPLE_JWT['ACCESS_TOKEN_LIFETIME'] is {access_lifetime()}: roles and permissions in a token are as old.",
            hint="5 to 10 minutes are usual; clients refresh.",
            id="scaling_kit_tokens.W005",
        )
    ]


@register("scaling_kit_tokens")
def check_claims(**_: Any) -> list[CheckMessage]:
    """E006: the function that makes the claims cannot be imported."""
    if check_requirements():
        return []
    try:
        import_string(settings.CLAIMS)
    except ImportError as error:
        message = f"SCALING_KIT_TOKENS_CLAIMS {settings.CLAIMS!r} cannot be imported: {error}"
        hint = "It is the dotted path of a function that takes a user and returns a dict."
        return [Error(message, hint=hint, id="scaling_kit_tokens.E006")]
    return []
