from scaling_kit.conf import Settings


class SchedulerSettings(Settings, prefix="SCALING_KIT_SCHEDULER_"):
    # Where the lease and the watermarks are: the Redis of the queues. Empty: SCALING_KIT_REDIS_URL.
    REDIS_URL: str = ""
    # How long the others wait for a leader that died. It renews at about a third of that.
    LEASE_SECONDS: float = 15.0
    # How many of its last runs a schedule remembers.
    HISTORY_LENGTH: int = 100
    # With catch_up="all": at most so many missed ticks of one schedule are made up for, the latest ones.
    CATCH_UP_LIMIT: int = 100


settings = SchedulerSettings()
