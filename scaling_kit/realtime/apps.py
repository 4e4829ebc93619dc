from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    name = "scaling_kit.realtime"
    label = "scaling_kit_realtime"
    verbose_name = "Realtime"
    default_auto_field = "django.db.models.BigAutoField"
    cluster_status = "scaling_kit.realtime.status.snapshot"
    cluster_metrics = "scaling_kit.realtime.metrics.collect"

    def ready(self) -> None:
        from scaling_kit.realtime import checks  # noqa: F401  (importing registers the checks)
