from scaling_kit.conf import Settings


class MediaSettings(Settings, prefix="SCALING_KIT_MEDIA_"):
    # The alias in STORAGES that uploads go to.
    STORAGE: str = "default"
    # What the URLs in the database begin with, before the key: "https://media.example.com/". Needed by MediaURLField.
    BASE_URL: str = ""
    # MIME types a client may upload; each must be one that `formats.FORMATS` can recognise by its first bytes.
    ALLOWED_TYPES: tuple[str, ...] = ("image/jpeg", "image/png", "image/gif", "image/webp", "image/avif", "image/heic")
    MAX_BYTES: int = 20 * 1024 * 1024
    # How long after asking a client may send the bytes and complete the upload.
    INTENT_SECONDS: int = 3600
    # `sweep()` leaves alone whatever was given up less than this long ago.
    SWEEP_AFTER_SECONDS: int = 24 * 3600


settings = MediaSettings()
