"""What happens by the clock. The leader of all `runscheduler` processes enqueues it; any worker does it."""

from django.conf import settings

from demo_project.wall.tasks import pick_photo_of_the_minute, sweep_orphans
from scaling_kit.scheduler import every

every(seconds=settings.PHOTO_OF_THE_MINUTE_SECONDS, name="photo-of-the-minute", catch_up="all")(
    pick_photo_of_the_minute
)
every("30 3 * * *", name="sweep-orphans")(sweep_orphans)
