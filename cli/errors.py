"""What stops the `inkqueue` command, with a sentence that says what to do."""

from __future__ import annotations

from core.errors import InkqueueError


class CannotStart(InkqueueError):
    """The service cannot be started here."""

    code = "cannot_start"
