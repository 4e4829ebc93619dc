"""Periodic jobs: any number of candidates, one leader, each tick once."""

from scaling_kit.scheduler import schedule
from scaling_kit.scheduler.schedule import every

__all__ = ["every", "schedule"]
