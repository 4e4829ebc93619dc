from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Revocation",
            fields=[
                ("subject", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("epoch", models.BigIntegerField()),
                ("revoked_at", models.DateTimeField(db_index=True)),
            ],
        ),
    ]
