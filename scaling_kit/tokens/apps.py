from django.apps import AppConfig


class TokensConfig(AppConfig):
    name = "scaling_kit.tokens"
    label = "scaling_kit_tokens"
    verbose_name = "scaling_kit tokens"
    default_auto_field = "django.db.models.BigAutoField"
    cluster_status = "scaling_kit.tokens.status.snapshot"

    def ready(self) -> None:
        from scaling_kit.tokens import checks

        if not checks.check_requirements():
            from scaling_kit.tokens import signals  # noqa: F401  (importing connects the receivers)
