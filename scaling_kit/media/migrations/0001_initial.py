import uuid

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Upload",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("key", models.CharField(help_text="Where the object is now.", max_length=1024)),
                (
                    "name",
                    models.CharField(help_text="What the client calls the file. Never part of a key.", max_length=255),
                ),
                ("content_type", models.CharField(max_length=100)),
                ("size", models.BigIntegerField(help_text="Bytes.")),
                (
                    "etag",
                    models.CharField(
                        blank=True, help_text="The version of the object that was looked at.", max_length=100
                    ),
                ),
                ("metadata", models.JSONField(blank=True, default=dict)),
                (
                    "state",
                    models.CharField(
                        choices=[("pending", "Pending"), ("completed", "Completed"), ("failed", "Failed")],
                        default="pending",
                        max_length=10,
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("expires_at", models.DateTimeField()),
                ("completed_at", models.DateTimeField(blank=True, null=True)),
                (
                    "owner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["state", "expires_at"], name="sk_media_upload_state")],
            },
        ),
    ]
