"""Signed download URLs that stay the same for a while, so that browsers and proxies can cache what they point to.

Signature Version 4 covers the time of signing. Rounded down to a window, it makes every process sign the same URL
for the same object, until the next window begins.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from botocore.auth import SIGV4_TIMESTAMP, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest

WINDOW_SECONDS = 300

# Arguments of GetObject that S3 takes from the query string of a URL.
_OVERRIDES = {
    "ResponseCacheControl": "response-cache-control",
    "ResponseContentDisposition": "response-content-disposition",
    "ResponseContentType": "response-content-type",
    "VersionId": "versionId",
}


class _WindowAuth(S3SigV4QueryAuth):
    def __init__(self, credentials: Any, region: str, *, signed_at: datetime, expires: int) -> None:
        super().__init__(credentials, "s3", region, expires=expires)
        self._signed_at = signed_at

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        request.context["timestamp"] = self._signed_at.strftime(SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)  # type: ignore[misc]  # not in botocore's stubs


def signed_get(
    bucket_url: str, key: str, *, credentials: Any, region: str, expires: int, now: float, parameters: dict[str, str]
) -> str:
    """A GET URL valid for at least `expires` seconds from `now`, and at most `WINDOW_SECONDS` longer.

    Raises `KeyError` for a parameter that is not an override of a response header.
    """
    signed_at = datetime.fromtimestamp(now - now % WINDOW_SECONDS, UTC)
    request = AWSRequest(
        method="GET",
        url=bucket_url + quote(key, safe="/~"),
        params={_OVERRIDES[name]: value for name, value in parameters.items()},
    )
    _WindowAuth(credentials, region, signed_at=signed_at, expires=expires + WINDOW_SECONDS).add_auth(request)
    return str(request.url)
