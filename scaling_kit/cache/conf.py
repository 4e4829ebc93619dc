from scaling_kit import conf


class CacheSettings(conf.Settings, prefix="SCALING_KIT_CACHE_"):
    # A Redis of its own may evict (maxmemory-policy volatile-lru); the one of queues must not. Empty: the hall's.
    REDIS_URL: str = ""
    # False computes every response, and still invalidates what other processes have stored.
    ENABLED: bool = True
    # How long an entry may live if nothing it depends on changes.
    TIMEOUT_SECONDS: int = 300
    # Say `X-Cache: hit`, `miss` or `bypass;reason` on responses.
    HEADER: bool = False
    # Tables that are neither observed nor bumped: much written, and in no cached response.
    IGNORED_TABLES: tuple[str, ...] = ("django_session", "django_admin_log")
    # How long others wait for the one who computes an entry before they compute it themselves.
    LEASE_SECONDS: float = 2.0
    # How far a replica may lag behind: what was read within so many seconds of a write is not stored.
    LAG_SECONDS: float = 0.0
    # Path of a function of the request that returns the tenant's primary key, for `vary="tenant"`.
    TENANT: str = ""
    # Memory of each process for a first level of entries; 0: none, Redis is asked every time.
    NEARBY_BYTES: int = 0
    # A larger body is sent, not stored.
    MAX_ENTRY_BYTES: int = 1_000_000
    # Tell readers before each COMMIT, not only after it: nothing stale is left by a writer that was killed in between.
    STRICT: bool = False
    # Twice as long as a database goes on with a COMMIT (or a statement in autocommit) whose writer was killed: then
    # that is not waited for any more.
    MARK_SECONDS: float = 30.0
    # Look for what others have left in the outbox. In strict mode always; else if database triggers write to it.
    OUTBOX: bool = False
    # How often someone looks, of all processes together.
    OUTBOX_SECONDS: float = 5.0


settings = CacheSettings()
