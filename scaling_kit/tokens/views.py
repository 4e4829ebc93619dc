"""Log in, refresh, log out. Every refusal is `{"code": ..., "detail": ...}` with a code of `refusals.REASONS`."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from django.contrib.auth import authenticate
from django.contrib.auth.models import update_last_login
from django.db import InterfaceError, OperationalError, transaction
from django.utils.decorators import method_decorator
from rest_framework import serializers
from rest_framework.exceptions import APIException, ErrorDetail, ParseError, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from scaling_kit.redis import RedisError
from scaling_kit.tokens import grants, sessions, throttle
from scaling_kit.tokens.authentication import StatelessAuthentication
from scaling_kit.tokens.conf import simple_jwt
from scaling_kit.tokens.refusals import Refusal
from scaling_kit.tokens.sessions import RefreshToken

logger = logging.getLogger(__name__)


class Credentials(serializers.Serializer[Any]):
    username = serializers.CharField(max_length=1024)
    password = serializers.CharField(max_length=4096, trim_whitespace=False)


class Renewal(serializers.Serializer[Any]):
    refresh = serializers.CharField(max_length=4096)


class Leave(serializers.Serializer[Any]):
    refresh = serializers.CharField(max_length=4096, required=False)


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class TokenView(APIView):
    """What the views of this room have in common: open to all, never cached, refusals with a code.

    Not atomic even with ATOMIC_REQUESTS: a refusal must not take back the revocation that went with it.
    """

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()

    def handle_exception(self, exc: Exception) -> Response:
        return super().handle_exception(_refusal_of(exc))

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response.headers["Cache-Control"] = "no-store"  # RFC 6749, section 5.1
        return response


class LoginView(TokenView):
    """`{username, password}` → `{access, refresh, expires_in}`."""

    def post(self, request: Request) -> Response:
        credentials = _validated(Credentials, request)
        address = throttle.address_of(request)
        throttle.admit(credentials["username"], address)
        user = authenticate(request, **credentials)
        if user is None:
            logger.info("login_refused address=%s", address)
            raise Refusal("credentials_invalid")
        grant = grants.begin(user)
        throttle.forget(credentials["username"], address)
        if simple_jwt().UPDATE_LAST_LOGIN:
            update_last_login(type(user), user)
        return Response(asdict(grant))


class RefreshView(TokenView):
    """`{refresh}` → a new `{access, refresh, expires_in}`."""

    def post(self, request: Request) -> Response:
        return Response(asdict(grants.renew(_validated(Renewal, request)["refresh"])))


class LogoutView(TokenView):
    """End the session of the refresh token in the body, or else of the access token in the header.

    A refresh token that is no longer good is logged out already: 204, as RFC 7009 wants it.
    """

    def post(self, request: Request) -> Response:
        refresh = _validated(Leave, request).get("refresh")
        session_id = RefreshToken.parse(refresh).session_id if refresh else _access_token(request).session_id
        if not refresh or _exists(refresh):
            grants.end(session_id)
        return Response(status=204)


class LogoutAllView(TokenView):
    """End all sessions of the user whose access token is in the header."""

    def post(self, request: Request) -> Response:
        grants.end_all(_access_token(request).user_id)
        return Response(status=204)


def _validated(serializer_class: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    serializer = serializer_class(data=request.data)
    serializer.is_valid(raise_exception=True)
    validated: dict[str, Any] = serializer.validated_data
    return validated


def _access_token(request: Request) -> Any:
    found = StatelessAuthentication().authenticate(request)
    if found is None:
        raise Refusal("token_missing")
    return found[1]


def _exists(refresh: str) -> bool:
    try:
        sessions.fetch_session(RefreshToken.parse(refresh))
    except Refusal:
        return False
    return True


def _refusal_of(error: Exception) -> Exception:
    if isinstance(error, RedisError):
        logger.warning("redis_unavailable error=%r", error)
        return Refusal("redis_unavailable")
    if isinstance(error, OperationalError | InterfaceError):
        logger.warning("database_unavailable error=%r", error)
        return Refusal("database_unavailable")
    if isinstance(error, ValidationError | ParseError):
        return Refusal("request_invalid", fields=error.detail)
    if isinstance(error, APIException) and isinstance(error.detail, ErrorDetail):
        detail: Any = {"code": error.detail.code, "detail": error.detail}
        error.detail = detail
    return error
