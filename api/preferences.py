"""What a caller would like of an answer: the `Prefer` header."""

from __future__ import annotations

import re

#: Longest wait that is granted, seconds.
MAX_WAIT_S = 60
_WAIT = re.compile(r'\s*wait\s*(?:=\s*"?(\d{1,9})"?)?\s*', re.IGNORECASE)


def preferred_wait_s(prefer: str) -> int | None:
    """Seconds that the caller would wait for the job to end, at most `MAX_WAIT_S`; None if it did not say.

    What cannot be understood is ignored, as the standard wants it.

    Source:
        RFC 7240, sections 2 and 4.3; `wait` alone, for the longest time, is Replicate's.
    """
    for preference in re.split(r"[,;]", prefer):
        wait = _WAIT.fullmatch(preference)
        if wait:
            return min(int(wait[1]), MAX_WAIT_S) if wait[1] else MAX_WAIT_S
    return None
