from django.apps import AppConfig


class MediaConfig(AppConfig):
    name = "scaling_kit.media"
    label = "scaling_kit_media"
    verbose_name = "scaling_kit media"
    default_auto_field = "django.db.models.BigAutoField"
    cluster_status = "scaling_kit.media.status.snapshot"

    def ready(self) -> None:
        from scaling_kit.media import checks  # noqa: F401  (importing registers the checks)
