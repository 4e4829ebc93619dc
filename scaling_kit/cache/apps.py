from django.apps import AppConfig
from django.db.models.signals import post_migrate


class CacheConfig(AppConfig):
    name = "scaling_kit.cache"
    label = "scaling_kit_cache"
    verbose_name = "Cached responses"
    default_auto_field = "django.db.models.BigAutoField"
    cluster_status = "scaling_kit.cache.status.snapshot"

    def ready(self) -> None:
        from scaling_kit.cache import checks, observer  # noqa: F401  (importing registers the checks)

        observer.connect()
        post_migrate.connect(observer.forget_everything, sender=self, dispatch_uid="scaling_kit.cache.migrated")
