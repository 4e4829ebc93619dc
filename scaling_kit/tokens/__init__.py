"""Stateless authentication: tokens that any process verifies without the database, and that can still be revoked."""
