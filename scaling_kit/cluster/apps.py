from django.apps import AppConfig


class ClusterConfig(AppConfig):
    name = "scaling_kit.cluster"
    label = "scaling_kit_cluster"
    verbose_name = "scaling_kit cluster"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from scaling_kit.cluster import checks  # noqa: F401  (importing registers the checks)
