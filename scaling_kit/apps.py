from django.apps import AppConfig


class ScalingKitConfig(AppConfig):
    name = "scaling_kit"
    label = "scaling_kit"
    verbose_name = "scaling_kit"

    def ready(self) -> None:
        from scaling_kit import checks  # noqa: F401  (importing registers the checks)
