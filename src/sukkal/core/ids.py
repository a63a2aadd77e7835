"""Identifiers that grow with time (UUID version 7, RFC 9562), as 32 hexadecimal digits."""

import secrets

_VERSION_AND_VARIANT = (7 << 76) | (0b10 << 62)
_RANDOM = (1 << 62) - 1  # the last field


class Mint:
    """Makes ids, each greater than the one before. One for each process."""

    def __init__(self) -> None:
        self._milliseconds = 0
        self._last = 0

    def __call__(self, now: float) -> str:
        milliseconds = int(now * 1000)
        if milliseconds > self._milliseconds:
            self._milliseconds = milliseconds
            # The topmost random bit is left clear: room to count up within the millisecond.
            self._last = (milliseconds << 80) | _VERSION_AND_VARIANT | secrets.randbits(61)
        else:
            self._last += 1
        return self._last.to_bytes(16).hex()


def minted(id_: str) -> float:
    """When an id was made, in seconds since the epoch; long ago for what is none."""
    try:
        return int(id_[:12], 16) / 1000 if is_id(id_) else 0.0
    except ValueError:
        return 0.0


def number_of(id_: str) -> int | None:
    """The number that an id writes out; None for what is no id."""
    try:
        return int(id_, 16) if is_id(id_) else None
    except ValueError:
        return None


def numbered(number: int) -> str:
    """The id that writes out this number."""
    return f"{number:032x}"


def is_id(text: str) -> bool:
    """Whether `text` has the form of an id made here."""
    return len(text) == 32 and text.isascii() and text.isalnum()
