try:
    from django.tasks import task
except ImportError:  # Django < 6.0
    from django_tasks import task


@task()
def sweep(depth: int) -> int:
    return depth
