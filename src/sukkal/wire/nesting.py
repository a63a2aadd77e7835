"""How deep documents go, and how deep they may."""

from typing import Any

MAX_DEPTH = 200  # levels of arrays and objects

_CONTAINERS = frozenset((dict, list, tuple))

# The first bytes of MessagePack's maps and arrays; the same bytes may stand inside of texts and numbers.
_NO_CONTAINERS = bytes(set(range(256)) - {*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF})


def too_deep(value: Any, openings: int, allowed: int = MAX_DEPTH) -> bool:
    """Whether a value has more levels than allowed. `openings`: at most so many containers are in it."""
    return openings > allowed and _depth(value) > allowed


def json_openings(raw: bytes) -> int:
    return raw.count(b"[") + raw.count(b"{")


def msgpack_openings(raw: bytes) -> int:
    return len(raw.translate(None, _NO_CONTAINERS))


def _depth(value: Any) -> int:
    """How many levels there are. MessagePack has arrays also as keys, which are read as tuples."""
    depth, level = 0, [value]
    # Written for speed: a body may hold a quarter of a million empty arrays.
    while level := [item for item in level if type(item) in _CONTAINERS]:
        depth += 1
        level = [
            item
            for outer in level
            if outer
            for item in ([*outer, *outer.values()] if type(outer) is dict else outer)
        ]
    return depth
