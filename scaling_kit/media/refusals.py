"""Why an upload is refused: the codes that clients see, each with its HTTP status."""

from __future__ import annotations

from rest_framework.exceptions import APIException

REFUSALS = {
    "owner_unknown": (403, "The user of this token no longer exists."),
    "upload_unknown": (404, "You have no upload of this id."),
    "object_missing": (409, "The file has not arrived in the storage yet."),
    "upload_completed": (409, "This upload has been completed before."),
    "upload_failed": (409, "This upload was refused before. Ask for a new one."),
    "upload_expired": (410, "The time for this upload is over. Ask for a new one."),
    "size_mismatch": (422, "The file is not of the size that was declared."),
    "type_mismatch": (422, "The file was not sent with the content type that was declared."),
    "content_mismatch": (422, "The first bytes of the file are not of the declared content type."),
    "storage_unavailable": (503, "The file storage does not answer. Nothing was changed; try again."),
    "database_unavailable": (503, "The database does not answer. Try again."),
}
RETRY_AFTER_SECONDS = 5


class UploadRefusedError(APIException):
    """An upload cannot go on. `code` is one of `REFUSALS`; in a view it becomes the response."""

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        self.status_code, default_detail = REFUSALS[code]
        super().__init__(detail or default_detail, code)
        if self.status_code == 503:
            self.wait = RETRY_AFTER_SECONDS  # DRF makes it the header Retry-After
