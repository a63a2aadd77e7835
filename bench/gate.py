"""Fails when a change makes the service slower: `make bench-gate`.

The service of the base commit and that of the working tree run side by side, each idle while the other
answers the same short burst of requests: base, change, change, base, and so on. Neighbours in time saw the
same machine, so it is the ratio within each pair that counts, of processor time and of elapsed time. Servers
are started anew a few times, since a process may be lucky in how its memory lies.

A loss is one when the ratios lie above the threshold beyond chance (a signed-rank test, one-sided), and do so
after every start. One that is meant is named in a commit of the change, by a trailer:

    Slower: post (bodies are checked for …)

With `--instructions` it is the instructions of each request that are compared, as valgrind counts them, which
tells less (nothing of a sleep, or of the disk) but the same on a busy machine as on an idle one: see
instructions.py. So it runs for each change that is checked in.

The base is where the change left the main branch; on it, the commit before the last change to the code.
Nothing is compared, and that is said, when there is no such commit.
"""

import argparse
import math
import os
import re
import shlex
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import instructions
import uvloop
from bursts import BURSTS, Burst, Side, open_side
from servers import Server, ServerFailed, start_sukkal

ROOT = Path(__file__).parents[1]
CHANCE = 0.01
THRESHOLDS = {"CPU": 1.05, "time": 1.10}  # ratios up to which nothing is said
TRUNKS = ("origin/HEAD", "origin/main", "main", "origin/master", "master")


class Skipped(Exception):
    """There is nothing to compare; the text says why."""


# --- measuring ---


@dataclass
class Ratios:
    """Of the change to the base, for one burst and one measure: a list for each start of the servers."""

    starts: list[list[float]] = field(default_factory=list)

    @property
    def all(self) -> list[float]:
        return [ratio for start in self.starts for ratio in start]

    @property
    def median(self) -> float:
        return statistics.median(self.all)

    def chance_above(self, bound: float) -> float:
        return signed_rank([math.log(ratio / bound) for ratio in self.all])

    def is_loss(self, bound: float) -> bool:
        always = all(statistics.median(start) > bound for start in self.starts)
        return always and self.chance_above(bound) < CHANCE


async def measure(
    trees: Sequence[Path], bursts: Sequence[str], *, starts: int, rounds: int
) -> dict[tuple[str, str], Ratios]:
    """Ratios by burst and measure.

    Raises Skipped when the base does not start, ServerFailed when the change does not.
    """
    found = {(name, what): Ratios() for name in bursts for what in THRESHOLDS}
    for number in range(starts):
        with tempfile.TemporaryDirectory(prefix="sukkal-gate-") as folder:
            servers = []
            try:
                try:
                    servers.append(_start(trees[0], Path(folder), "base"))
                except ServerFailed as exc:
                    raise Skipped(f"the base does not run here: {exc}") from exc
                servers.append(_start(trees[1], Path(folder), "change"))
                base, change = [await open_side(server) for server in servers]
                for name in bursts:
                    ratios = await _alternate(base, change, BURSTS[name], rounds)
                    for what, each in ratios.items():
                        found[name, what].starts.append(each)
                _say(f"start {number + 1} of {starts} measured")
                base.close()
                change.close()
            finally:
                for server in servers:
                    server.kill()
    return found


def _start(tree: Path, folder: Path, side: str) -> Server:
    """The service as an embedded store serves it, without syncs: they cost what the disk makes of them."""
    environment = ["env", "PYTHONHASHSEED=0", f"PYTHONPATH={tree / 'src'}"]
    command = shlex.join([*environment, sys.executable, "-m", "sukkal.cli"])
    return start_sukkal(command, folder / side, folder / f"{side}.log", "--durability", "relaxed")


async def _alternate(base: Side, change: Side, burst: Burst, rounds: int) -> dict[str, list[float]]:
    for side in (base, change):  # caches and the like
        await side.burst(burst)
    ratios: dict[str, list[float]] = {what: [] for what in THRESHOLDS}
    for number in range(rounds):
        if number % 2:
            after = await change.burst(burst)
            before = await base.burst(burst)
        else:
            before = await base.burst(burst)
            after = await change.burst(burst)
        for what in THRESHOLDS:
            ratios[what].append(after[what] / before[what])
    return ratios


def signed_rank(values: Sequence[float]) -> float:
    """How likely values around zero lie as much above it (Wilcoxon, one-sided, exact but for ties)."""
    kept = sorted((value for value in values if value), key=abs)
    above = sum(rank for rank, value in enumerate(kept, 1) if value > 0)
    most = len(kept) * (len(kept) + 1) // 2
    ways = [1] + [0] * most  # how many sets of ranks have each sum
    for rank in range(1, len(kept) + 1):
        for total in range(most, rank - 1, -1):
            ways[total] += ways[total - rank]
    return sum(ways[above:]) / 2 ** len(kept)


# --- what is compared with what ---


def _git(*arguments: str) -> bytes:
    """What git says; Skipped when it fails."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)
    except OSError as exc:
        raise Skipped(f"git does not run: {exc}") from exc
    if done.returncode:
        raise Skipped(done.stderr.decode(errors="replace").strip() or f"git {arguments[-1]}: nothing there")
    return done.stdout


def _revision(name: str) -> str:
    return _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").decode().strip()


def base_of_the_change() -> str:
    """Where the working tree left the main branch; on it, the commit before the last change to the code.

    Raises Skipped.
    """
    head = _revision("HEAD")
    for trunk in TRUNKS:
        try:
            base = _git("merge-base", "HEAD", _revision(trunk)).decode().strip()
        except Skipped:
            continue
        if base != head:
            return base
        break
    if _git("status", "--porcelain", "--", "src"):
        return head
    try:
        last = _git("rev-list", "-1", "--first-parent", "HEAD", "--", "src").decode().strip()
        return _revision(f"{last or 'HEAD'}^")
    except Skipped:
        raise Skipped("this commit has none before it here") from None


def unpack(revision: str, folder: Path) -> Path:
    """The code of a commit. Raises Skipped when it is that of the working tree."""
    if not _git("diff", "--stat", revision, "--", "src") and not _git("status", "--porcelain", "--", "src"):
        raise Skipped(f"the code is that of {revision[:9]}")
    with tarfile.open(fileobj=BytesIO(_git("archive", revision, "src"))) as archive:
        archive.extractall(folder, filter="data")
    return folder


def accepted(revision: str) -> set[str]:
    """What commits since then say is slower, and meant to be."""
    said = _git("log", "--format=%(trailers:key=Slower,valueonly)", f"{revision}..HEAD").decode()
    return {name for line in said.splitlines() for name in re.findall(r"[\w-]+", line.partition("(")[0])}


# --- the verdict ---


def judge(found: dict[tuple[str, str], Ratios], meant: set[str]) -> bool:
    """Print the table; whether nothing was lost."""
    kept = True
    print("| requests | measure | change / base | chance to exceed | bound | |\n|---|---|---|---|---|---|")
    for (name, what), ratios in found.items():
        bound = THRESHOLDS[what]
        lost = ratios.is_loss(bound)
        verdict = "" if not lost else "slower, as meant" if name in meant else "SLOWER"
        kept = kept and verdict != "SLOWER"
        chance = ratios.chance_above(bound)
        print(f"| {name} | {what} | {ratios.median:.3f} | {chance:.2g} | {bound:.2f} | {verdict} |")
    return kept


def judge_counts(found: Mapping[str, tuple[float, float]], meant: set[str]) -> bool:
    """The same for instructions."""
    kept = True
    print("| requests | base | change | change / base | bound | |\n|---|---|---|---|---|---|")
    for name, (base, change) in found.items():
        lost = change / base > instructions.BOUND
        verdict = "" if not lost else "slower, as meant" if name in meant else "SLOWER"
        kept = kept and verdict != "SLOWER"
        row = f"| {name} | {base / 1e3:,.1f} k | {change / 1e3:,.1f} k | {change / base:.3f} "
        print(f"{row}| {instructions.BOUND:.2f} | {verdict} |")
    return kept


def _say(what: str) -> None:
    print(f"bench-gate: {what}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        description="Compares the speed of the working tree with that of a base."
    )
    options.add_argument("--base", default=os.environ.get("BASE"), help="commit to compare with")
    options.add_argument("--trees", nargs=2, type=Path, metavar=("BASE", "CHANGE"), help="folders instead")
    options.add_argument("--starts", type=int, default=4, help="of the servers")
    options.add_argument("--rounds", type=int, default=12, help="pairs of bursts after each start")
    options.add_argument("--bursts", nargs="+", choices=BURSTS, default=list(BURSTS))
    options.add_argument("--instructions", action="store_true", help="count them instead of seconds")
    return options.parse_args()


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="sukkal-base-") as folder:
        meant: set[str] = set()
        try:
            if options.trees:
                trees = options.trees
            else:
                revision = _revision(options.base) if options.base else base_of_the_change()
                trees, meant = [unpack(revision, Path(folder)), ROOT], accepted(revision)
                _say(f"comparing with {revision[:9]}")
            if options.instructions:
                counted = instructions.measure(trees, options.bursts, say=_say)
                return 0 if judge_counts(counted, meant) else 1
            work = measure(trees, options.bursts, starts=options.starts, rounds=options.rounds)
            found = uvloop.run(work)
        except (Skipped, instructions.CannotCount) as exc:
            _say(f"nothing to compare: {exc}.")
            return 0
    return 0 if judge(found, meant) else 1


if __name__ == "__main__":
    sys.exit(main())
