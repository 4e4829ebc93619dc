"""Schedules that are edited at run time."""

from __future__ import annotations

from django.db import models

from scaling_kit.scheduler.schedule import CATCH_UP, OVERLAP


class StoredSchedule(models.Model):
    """A schedule made at run time; or, with a blank `task`, what is changed of the declared one of that name.

    Of a declared one, whatever is blank stays as declared. Whoever writes the table by other means than `save()` and
    `delete()` calls `stored.announce()`, or waits for half a minute.
    """

    name = models.CharField(max_length=200, unique=True, help_text="What it has run is kept under its name.")
    task = models.CharField(
        max_length=300, blank=True, help_text="Dotted path of a task in an installed app, like shop.tasks.send_report."
    )
    enabled = models.BooleanField(
        null=True, choices=[(None, "As declared"), (True, "Yes"), (False, "No")], default=None, blank=True
    )
    expression = models.CharField(
        "cron expression",
        max_length=200,
        blank=True,
        help_text="minute hour day-of-month month day-of-week, like */5 9-17 * * MON-FRI; or @daily and the like.",
    )
    seconds = models.PositiveIntegerField(
        "every … seconds", null=True, blank=True, help_text="Instead of an expression. Counted from the epoch."
    )
    tz = models.CharField(
        "time zone", max_length=64, blank=True, help_text="Whose clock the expression means, like Europe/Paris."
    )
    args = models.JSONField("arguments", null=True, blank=True, help_text='A JSON list, like ["all", 3].')
    kwargs = models.JSONField("keyword arguments", null=True, blank=True, help_text='JSON, like {"to": "all"}.')
    catch_up = models.CharField(
        max_length=6,
        blank=True,
        choices=[(one, one) for one in CATCH_UP],
        help_text="Of the ticks that nobody was there to run: none, the latest one, or all are run.",
    )
    overlap = models.CharField(
        max_length=5,
        blank=True,
        choices=[(one, one) for one in OVERLAP],
        help_text="What becomes of a tick while the job of the one before waits or runs.",
    )
    grace_seconds = models.FloatField(null=True, blank=True, help_text="A tick later than this is dropped.")
    jitter_seconds = models.FloatField(null=True, blank=True, help_text="Each tick is enqueued so much later at most.")
    note = models.TextField(blank=True, help_text="For people.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]
        verbose_name = "schedule"

    def __str__(self) -> str:
        return self.name
