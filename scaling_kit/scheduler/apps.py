from django.apps import AppConfig


class SchedulerConfig(AppConfig):
    name = "scaling_kit.scheduler"
    label = "scaling_kit_scheduler"
    verbose_name = "scaling_kit scheduler"
    default_auto_field = "django.db.models.BigAutoField"
    leader_duties = "scaling_kit.scheduler.ticker.duties"
    cluster_status = "scaling_kit.scheduler.status.snapshot"

    def ready(self) -> None:
        from scaling_kit.scheduler import checks  # noqa: F401  (importing registers the checks)
