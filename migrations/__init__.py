"""Database schema changes, in order."""
