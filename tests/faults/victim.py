"""A server that is killed and started again on the same data."""

import contextlib
import logging
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

from server_process import ServerProcess

from .wire import PAGE

log = logging.getLogger(__name__)

LONG = os.environ.get("SUKKAL_LONG") == "1"
SETTINGS = {"max_messages_per_page": str(PAGE), "max_messages_per_claim_or_pop": "100"}


class Victim(ServerProcess):
    def kill(self) -> None:
        """End it at once; it gets no chance to do anything."""
        os.kill(self.pid, signal.SIGKILL)


@contextlib.contextmanager
def victim(directory: Path, *flags: str) -> Iterator[Victim]:
    """A server that is stopped properly at the end, unless it was killed before."""
    server = Victim(directory, *flags, settings=SETTINGS)
    try:
        yield server
    except BaseException:
        server._process.kill()
        server.bury()
        raise
    if server._process.poll() is None:
        server.stop()


def seed() -> int:
    """What random runs start from; the log of one that failed names it, SUKKAL_TEST_SEED repeats it."""
    chosen = int(os.environ.get("SUKKAL_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    log.warning("repeat with SUKKAL_TEST_SEED=%d", chosen)
    return chosen
