from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("scaling_kit_cluster", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="Process",
            fields=[
                ("id", models.CharField(max_length=255, primary_key=True, serialize=False)),
            ],
            options={
                "verbose_name_plural": "processes",
                "default_permissions": ("change",),
                "managed": False,
            },
        ),
    ]
