"""How many instructions a request takes, as valgrind counts them.

Each service runs under `valgrind --tool=cachegrind`, once for nothing but its start and once for a burst
more; the difference, over the turns of the burst, is what a turn takes. Base and change run at the same
time, so that what comes by the clock, such as timers, comes to both alike.

A machine's load moves these figures by less than a percent, where it moves seconds by tens. What is above the
bound is counted once more, and must be so again.
"""

import compileall
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvloop
from bursts import BURSTS, Burst, open_side
from servers import ServerFailed, start_sukkal

BOUND = 1.03  # ratio up to which nothing is said
PATIENCE = 240.0  # seconds for a start; valgrind takes some thirty times as long
_TOTAL = re.compile(r"I\s+refs:\s+([\d,]+)")


class CannotCount(Exception):
    """The text says why."""


def measure(
    trees: Sequence[Path], bursts: Sequence[str], *, say: Callable[[str], None]
) -> dict[str, tuple[float, float]]:
    """Instructions of a turn of each burst, in the base and in the change. Raises CannotCount."""
    if shutil.which("valgrind") is None:
        raise CannotCount("valgrind is not installed: apt-get install valgrind")
    for tree in trees:
        compileall.compile_dir(tree / "src", quiet=1)  # else the first start would take more
    found: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory(prefix="sukkal-count-") as folder, ThreadPoolExecutor(2) as both:

        def totals(burst: Burst | None) -> tuple[int, int]:
            places = [Path(tempfile.mkdtemp(dir=folder)) for _ in trees]
            base, change = both.map(_total, trees, places, [burst] * 2)
            return base, change

        idle = totals(None)
        say("starts counted")
        for name in bursts:
            for _ in range(2):
                busy = totals(BURSTS[name])
                base, change = ((busy[side] - idle[side]) / BURSTS[name].turns for side in range(2))
                if name not in found or change / base < found[name][1] / found[name][0]:
                    found[name] = base, change
                if change / base <= BOUND:
                    break
            say(f"{name} counted")
    return found


def _total(tree: Path, folder: Path, burst: Burst | None) -> int:
    """Instructions of a service from its start to its end."""
    environment = ["env", "PYTHONHASHSEED=0", f"PYTHONPATH={tree / 'src'}"]
    valgrind = ["valgrind", "--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={folder / 'out'}"]
    command = shlex.join([*environment, *valgrind, sys.executable, "-m", "sukkal.cli"])
    log = folder / "log"
    try:
        server = start_sukkal(command, folder / "data", log, "--durability", "relaxed", patience=PATIENCE)
    except ServerFailed as exc:
        raise CannotCount(f"the service does not run under valgrind: {exc}") from exc
    with server:

        async def ask() -> None:
            side = await open_side(server, connections=1)
            if burst is not None:
                await side.burst(burst)
            side.close()

        uvloop.run(ask())
    told = _TOTAL.search(log.read_text(errors="replace"))
    if told is None:
        raise CannotCount(f"valgrind told no total:\n{server.last_words()}")
    return int(told[1].replace(",", ""))
