from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="StoredSchedule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(help_text="What it has run is kept under its name.", max_length=200, unique=True),
                ),
                (
                    "task",
                    models.CharField(
                        blank=True,
                        help_text="Dotted path of a task in an installed app, like shop.tasks.send_report.",
                        max_length=300,
                    ),
                ),
                (
                    "enabled",
                    models.BooleanField(
                        blank=True,
                        choices=[(None, "As declared"), (True, "Yes"), (False, "No")],
                        default=None,
                        null=True,
                    ),
                ),
                (
                    "expression",
                    models.CharField(
                        blank=True,
                        help_text="minute hour day-of-month month day-of-week, like */5 9-17 * * MON-FRI; or @daily and the like.",
                        max_length=200,
                        verbose_name="cron expression",
                    ),
                ),
                (
                    "seconds",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Instead of an expression. Counted from the epoch.",
                        null=True,
                        verbose_name="every … seconds",
                    ),
                ),
                (
                    "tz",
                    models.CharField(
                        blank=True,
                        help_text="Whose clock the expression means, like Europe/Paris.",
                        max_length=64,
                        verbose_name="time zone",
                    ),
                ),
                (
                    "args",
                    models.JSONField(
                        blank=True, help_text='A JSON list, like ["all", 3].', null=True, verbose_name="arguments"
                    ),
                ),
                (
                    "kwargs",
                    models.JSONField(
                        blank=True, help_text='JSON, like {"to": "all"}.', null=True, verbose_name="keyword arguments"
                    ),
                ),
                (
                    "catch_up",
                    models.CharField(
                        blank=True,
                        choices=[("skip", "skip"), ("latest", "latest"), ("all", "all")],
                        help_text="Of the ticks that nobody was there to run: none, the latest one, or all are run.",
                        max_length=6,
                    ),
                ),
                (
                    "overlap",
                    models.CharField(
                        blank=True,
                        choices=[("allow", "allow"), ("skip", "skip"), ("hold", "hold")],
                        help_text="What becomes of a tick while the job of the one before waits or runs.",
                        max_length=5,
                    ),
                ),
                (
                    "grace_seconds",
                    models.FloatField(blank=True, help_text="A tick later than this is dropped.", null=True),
                ),
                (
                    "jitter_seconds",
                    models.FloatField(blank=True, help_text="Each tick is enqueued so much later at most.", null=True),
                ),
                ("note", models.TextField(blank=True, help_text="For people.")),
                ("updated_at", models.DateTimeField(auto_now=True)),
            ],
            options={
                "verbose_name": "schedule",
                "ordering": ["name"],
            },
        ),
    ]
