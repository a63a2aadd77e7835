"""The `Prefer` header: what a caller would like, and is not refused for. Source: RFC 7240."""

import re
from functools import lru_cache

# A preference: its name, its value as a token or a quoted text, then parameters, which none of ours has.
_PREFERENCE = re.compile(
    r'\s*([^\s=,;"]+)\s*(?:=\s*([^\s,;"]+|"(?:[^"\\]|\\.)*")\s*)?(?:;(?:[^,"]|"(?:[^"\\]|\\.)*")*)?(?:,|$)',
    re.ASCII,
)


@lru_cache(256)
def preferred_wait(prefer: bytes) -> int | None:
    """The seconds of the first `wait` that is named; None when there is none, or it is no whole number."""
    text = prefer.decode("latin-1")
    place = 0
    while place < len(text):
        found = _PREFERENCE.match(text, place)
        if found is None:  # not a preference: on to the next
            place = text.find(",", place) + 1 or len(text)
            continue
        name, value = found.groups()
        if name.lower() == "wait":
            digits = (value or "").strip('"')
            return int(digits[:9]) if digits.isascii() and digits.isdigit() else None
        place = found.end()
    return None
