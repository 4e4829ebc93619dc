from django.apps import apps
from django.contrib import admin

if apps.is_installed("django_rq"):
    from scaling_kit.jobs.dashboard import protect

    protect(admin.site)
