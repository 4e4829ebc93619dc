from django.apps import AppConfig
from django.db.models.signals import post_delete, post_save


class SchedulerConfig(AppConfig):
    name = "scaling_kit.scheduler"
    label = "scaling_kit_scheduler"
    verbose_name = "scaling_kit scheduler"
    default_auto_field = "django.db.models.BigAutoField"
    leader_duties = "scaling_kit.scheduler.ticker.duties"
    cluster_status = "scaling_kit.scheduler.status.snapshot"
    cluster_metrics = "scaling_kit.scheduler.metrics.collect"

    def ready(self) -> None:
        from scaling_kit.scheduler import checks, stored  # noqa: F401  (importing registers the checks)

        post_save.connect(stored.announce, self.get_model("StoredSchedule"), dispatch_uid=self.label)
        post_delete.connect(stored.announce, self.get_model("StoredSchedule"), dispatch_uid=self.label)
