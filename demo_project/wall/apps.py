from django.apps import AppConfig


class WallConfig(AppConfig):
    name = "demo_project.wall"
    label = "wall"
    verbose_name = "Photo wall"
