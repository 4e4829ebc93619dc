"""User files belong to S3: storage, direct upload, signed download."""
