"""The `Accept` header: in which medium a caller wants its answers. Source: RFC 9110, 12.5.1."""

import re
from functools import lru_cache

from sukkal.http.content import MSGPACK_NAMES
from sukkal.wire.media import JSON, MSGPACK, Medium

_NAMES = {JSON: (JSON.name,), MSGPACK: MSGPACK_NAMES}
_ANY = ("application/*", "*/*")  # ranges that match both, the more specific first

_WEIGHT = re.compile(r"q\s*=\s*([01](?:\.\d*)?)")


@lru_cache(256)
def chosen(accept: bytes) -> Medium | None:
    """The medium that a header likes best; None when it admits none.

    Of two that it likes equally it is the one that is named more specifically, else JSON.
    """
    weights = _weights(accept.decode("latin-1").lower())
    if not weights:
        return JSON
    ranked = [(*_rank(weights, names), medium is JSON, medium) for medium, names in _NAMES.items()]
    weight, _, _, medium = max(ranked, key=lambda entry: entry[:3])
    return medium if weight else None


def _weights(accept: str) -> dict[str, float]:
    """How much each range is liked, from 0 to 1; empty for an empty header."""
    weights = {}
    for media_range in accept.split(","):
        name, *parameters = (part.strip() for part in media_range.split(";"))
        if name:
            given = [match[1] for parameter in parameters if (match := _WEIGHT.fullmatch(parameter))]
            weights[name] = min(1.0, float(given[0])) if given else 1.0
    return weights


def _rank(weights: dict[str, float], names: tuple[str, ...]) -> tuple[float, int]:
    """The weight of the most specific range that matches, and how specific it is."""
    exact = [weights[name] for name in names if name in weights]
    if exact:
        return max(exact), len(_ANY)
    for position, name in enumerate(_ANY):
        if name in weights:
            return weights[name], len(_ANY) - 1 - position
    return 0.0, 0
