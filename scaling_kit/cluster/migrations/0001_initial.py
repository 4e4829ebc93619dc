import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="LiveChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(db_index=True, max_length=255)),
                ("old", models.TextField()),
                ("new", models.TextField()),
                ("by", models.CharField(blank=True, max_length=254)),
                (
                    "origin",
                    models.CharField(help_text="The process that made it: what it is, host and pid.", max_length=254),
                ),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "verbose_name": "change of a run-time setting",
                "verbose_name_plural": "changes of run-time settings",
                "default_permissions": ("view",),
            },
        ),
    ]
