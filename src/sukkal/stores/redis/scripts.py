"""The scripts beside this module: one for each verb, sent to a server once and then called by digest."""

import hashlib
from pathlib import Path

from sukkal.stores.redis.layout import Home, bulk, command

_DIRECTORY = Path(__file__).parent


class Script:
    """A script for queues, or for shelves, with the prelude of its kind before it."""

    def __init__(self, directory: Path, name: str, keys: int) -> None:
        text = (directory / "prelude.lua").read_bytes() + (directory / f"{name}.lua").read_bytes()
        digest = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
        self.load = command(b"SCRIPT", b"LOAD", text)
        self._call = bulk((b"EVALSHA", digest, b"%d" % keys))
        self._fixed = 3 + keys + 1  # arguments of the command that are not in `arguments`

    def on(self, home: Home, *arguments: bytes, more: bytes = b"") -> bytes:
        """The command that calls it on a queue or shelf; `more` keys, packed, besides the home's."""
        return b"".join(
            (
                b"*%d\r\n" % (self._fixed + len(arguments)),
                self._call,
                home.keys,
                more,
                home.member,
                bulk(arguments),
            )
        )


def _of_queues(name: str, keys: int = 12) -> Script:
    return Script(_DIRECTORY, name, keys)


def _of_shelves(name: str) -> Script:
    return Script(_DIRECTORY / "shelf", name, 5)


APPEND = _of_queues("append", 14)
PAGE = _of_queues("page")
FETCH = _of_queues("fetch")
CLAIM = _of_queues("claim")
HELD = _of_queues("held")
RENEW = _of_queues("renew")
RELEASE = _of_queues("release")
DELETE = _of_queues("delete")
POP = _of_queues("pop", 13)
END_DELAYS = _of_queues("end_delays")
NEXT_DUE = _of_queues("next_due")
STATS = _of_queues("stats")
PURGE = _of_queues("purge")
MARK = _of_queues("mark", 13)
UNMARK = _of_queues("unmark", 13)
SWEEP = _of_queues("sweep")

PUT_DOCUMENT = _of_shelves("put")
DELETE_DOCUMENT = _of_shelves("delete")
SCAN_DOCUMENTS = _of_shelves("scan")
COUNT_DOCUMENTS = _of_shelves("count")
SWEEP_DOCUMENTS = _of_shelves("sweep")

EVERY = [script for script in list(globals().values()) if isinstance(script, Script)]
