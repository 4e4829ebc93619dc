from __future__ import annotations

from typing import Any

from django.db.models import Count, Q
from django.utils import timezone

from scaling_kit.media.models import Upload


def snapshot() -> dict[str, Any]:
    """Uploads that wait, by the database: the client still sends, gave up, or was refused. One query, on an index."""
    expired = Q(expires_at__lt=timezone.now())
    pending = Q(state=Upload.State.PENDING)
    unfinished = Upload.objects.exclude(state=Upload.State.COMPLETED)
    return unfinished.aggregate(
        pending=Count("pk", filter=pending & ~expired),
        expired=Count("pk", filter=pending & expired),
        failed=Count("pk", filter=Q(state=Upload.State.FAILED)),
    )
