"""Every refusal of the API is `{"code": ..., "detail": ...}`, with `fields` where single fields were wrong."""

from typing import Any

from django.db import OperationalError
from redis import RedisError
from rest_framework import status
from rest_framework.response import Response
from rest_framework.views import exception_handler as rest_exception_handler


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    if isinstance(error, OperationalError | RedisError):
        what = "database" if isinstance(error, OperationalError) else "redis"
        body = {"code": f"{what}_unavailable", "detail": f"The {what} cannot be reached. Try again in a moment."}
        return Response(body, status=status.HTTP_503_SERVICE_UNAVAILABLE, headers={"Retry-After": "2"})
    response = rest_exception_handler(error, context)
    if response is not None:
        response.data = _with_code(error, response.data)
    return response


def _with_code(error: Exception, data: Any) -> dict[str, Any]:
    if isinstance(data, dict) and "code" in data:
        return data
    if isinstance(data, dict) and set(data) == {"detail"}:
        return {"code": getattr(data["detail"], "code", getattr(error, "default_code", "error")), **data}
    return {"code": "invalid", "detail": "Some fields are wrong.", "fields": data}
