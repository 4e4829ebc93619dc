"""What was revoked, for good: Redis holds a copy that every request reads."""

from __future__ import annotations

from django.db import models


class Revocation(models.Model):
    """Up to when everyone, a user, or a session is revoked: a token that was issued at a lower epoch is void."""

    subject = models.CharField(max_length=255, primary_key=True)
    epoch = models.BigIntegerField()
    revoked_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.subject} below {self.epoch}"
