from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "scaling_kit.jobs"
    label = "scaling_kit_jobs"
    verbose_name = "Jobs"
    default_auto_field = "django.db.models.BigAutoField"
    leader_duties = "scaling_kit.jobs.upkeep.DUTIES"
    cluster_status = "scaling_kit.jobs.status.snapshot"
    cluster_metrics = "scaling_kit.jobs.metrics.collect"

    def ready(self) -> None:
        from scaling_kit.jobs import checks  # noqa: F401  (importing registers the checks)
