"""A Redis server whose power can be cut: what it has not synced is lost.

A library loaded into the server notes how far each file was synced (`synced.c`). The logs of Redis only grow,
so what is left after a cut is that much, and perhaps a part of the rest. (The operating system writes the
rest too, after half a minute or when memory runs short. That is no promise, and here it does not.)
"""

import contextlib
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from redis_servers import PROGRAM, RedisServer, binary, missing, started

SOURCE = Path(__file__).parent / "synced.c"


def built(directory: Path) -> Path:
    """The library; skips the test where there is no compiler."""
    compiler = shutil.which("cc") or missing("there is no C compiler: apt-get install gcc libc6-dev")
    library = directory / "synced.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", library, SOURCE, "-ldl"]
    subprocess.run(command, check=True)
    return library


class Mains:
    """Where a server gets its power from."""

    def __init__(self, server: RedisServer, notes: Path, *, lying: bool = False) -> None:
        """`lying`: to a disk that says it has synced, and has not."""
        self.server = server
        self._lying = lying
        self.unsynced = 0  # bytes, lost in all cuts
        self._notes = notes

    def cut(self, chance: random.Random) -> None:
        """End the server, and with it what it has not synced; a part of that may stay, torn anywhere."""
        self.server.kill()
        for file in self.server.directory.glob("appendonlydir/*"):
            whole, sure = file.stat().st_size, min(self._synced(file), file.stat().st_size)
            left = sure if chance.random() < 0.5 else chance.randint(sure, whole)
            self.unsynced += whole - left
            with file.open("r+b") as opened:
                opened.truncate(left)

    def restore(self) -> None:
        """Mend the log as the documents say, and start the server."""
        for file in self.server.directory.glob("appendonlydir/*.incr.aof"):
            tool = binary(PROGRAM.replace("-server", "-check-aof"))
            subprocess.run([tool, "--fix", file], input=b"y\n", check=True, stdout=subprocess.DEVNULL)
        self.server.start()

    def _synced(self, file: Path) -> int:
        if self._lying and file.suffixes[-2:] == [".incr", ".aof"]:
            return 0
        note = self._notes / str(file.stat().st_ino)
        return int(note.read_text()) if note.exists() else 0


@contextlib.contextmanager
def on_mains(library: Path, *options: str, milliseconds: int = 0, lying: bool = False) -> Iterator[Mains]:
    """A server for one `with` block, whose disk takes some milliseconds to sync."""
    with tempfile.TemporaryDirectory(prefix="sukkal-synced-") as notes:
        assigned = [f"LD_PRELOAD={library}", f"SYNCED_NOTES={notes}", f"SYNCED_SLOWLY={milliseconds}"]
        # A log that is rewritten is another file, whose name would have to be kept as well.
        log = ("--auto-aof-rewrite-percentage", "0", "--aof-load-truncated", "no")
        with started(*options, *log, program=("env", *assigned, binary())) as server:
            yield Mains(server, Path(notes), lying=lying)
