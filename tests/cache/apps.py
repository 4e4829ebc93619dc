from django.apps import AppConfig


class CacheTestsConfig(AppConfig):
    name = "tests.cache"
    label = "cache_tests"
    default_auto_field = "django.db.models.BigAutoField"
