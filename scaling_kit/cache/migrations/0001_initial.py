from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="PendingBump",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("tags", models.TextField()),
                ("created_at", models.DateTimeField(db_default=Now())),
            ],
            options={
                "db_table": "scaling_kit_cache_outbox",
            },
        ),
    ]
