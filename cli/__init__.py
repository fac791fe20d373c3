"""The `inkqueue` command."""
