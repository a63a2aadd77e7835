"""Measures Sukkal against the floors it promises: `python bench/run.py [SCENARIO …] [--quick]`.

Servers and load generator are processes of their own on this machine, spoken to over real sockets. Progress
goes to standard error, the tables to standard output, everything measured to a JSON file. See scenarios.py
for what each figure means.
"""

import argparse
import datetime
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import machine
import report
import scenarios
import shared
from scenarios import FAILURES, QUICK, Bench, Result, Scale
from servers import sukkal_command

_HERE = Path(__file__).parent
SCENARIOS = scenarios.SCENARIOS | shared.SCENARIOS


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="sukkal-bench-", dir=options.data_dir) as folder:
        run = _measure(options, Path(folder))
    options.json.write_text(json.dumps(report.as_json(run), indent=1) + "\n")
    print((report.as_markdown if options.markdown else report.as_text)(run))
    if run.failures:
        return 1
    return 1 if options.gate and not run.passed() else 0


def _measure(options: argparse.Namespace, folder: Path) -> report.Run:
    say, scale = _voice(), _scale(options)
    if machine.filesystem(folder) == "tmpfs":
        say("warning: the data lies in memory, where a sync is free; name a place on a disk with --data-dir")
    about = machine.describe(folder)
    say(", ".join(f"{name} {value}" for name, value in about.items()))
    bench = Bench(options.sukkal, folder, scale, say)
    with bench.servers:
        results, failures = _scenarios(bench, [name for name in SCENARIOS if name in options.scenarios])
    return report.Run(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        commit=machine.commit(),
        command=shlex.join(["python", "bench/run.py", *_shown(sys.argv[1:])]),
        machine=about,
        scale=scale,
        results=results,
        failures=failures,
    )


def _scenarios(bench: Bench, names: list[str]) -> tuple[list[Result], dict[str, str]]:
    """Run them one after the other. One that fails is noted, and the others still run."""
    results: list[Result] = []
    failures: dict[str, str] = {}
    for name in names:
        try:
            results.extend(SCENARIOS[name](bench))
        except FAILURES as exc:
            failures[name] = str(exc)
            bench.say(f"FAILED {name}: {exc}")
        except KeyboardInterrupt:
            failures[name] = "interrupted"
            break
    return results, failures


def _voice() -> Callable[[str], None]:
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {text}", file=sys.stderr, flush=True)

    return say


def _scale(options: argparse.Namespace) -> Scale:
    """The chosen scale, with what was asked for by itself."""
    names = ("rounds", "seconds", "messages", "in_flight", "queues")
    chosen = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return replace(QUICK if options.quick else Scale(), **chosen)


def _shown(arguments: list[str]) -> list[str]:
    """The arguments for the record, without those that name places on this machine."""
    private = ("--json", "--data-dir", "--sukkal")
    kept, skip = [], False
    for argument in arguments:
        if not skip and not argument.startswith(private):
            kept.append(argument)
        skip = argument in private
    return kept


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description="Measure Sukkal against the floors it promises.")
    options.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help=f"{', '.join(SCENARIOS)}; default: all"
    )
    options.add_argument("--quick", action="store_true", help="short rounds and a tenth of the sizes")
    options.add_argument("--gate", action="store_true", help="exit with 1 when a floor is missed")
    options.add_argument("--markdown", action="store_true", help="print Markdown for docs/benchmarks.md")
    options.add_argument(
        "--json", type=Path, default=_HERE / "results.json", help="where to save all figures"
    )
    options.add_argument(
        "--data-dir", type=Path, help="where the stores go; default: the temporary directory"
    )
    options.add_argument("--sukkal", default=sukkal_command(), help="the command to measure")
    options.add_argument("--rounds", type=int)
    options.add_argument("--seconds", type=float, help="measured time of each run")
    options.add_argument("--messages", type=int, help="size of the large backlog")
    options.add_argument("--in-flight", type=int, help="how many of it are under claims")
    options.add_argument("--queues", type=int, help="how many queues, for memory")
    chosen = options.parse_args()
    if unknown := set(chosen.scenarios) - set(SCENARIOS):
        options.error(f"unknown scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    chosen.scenarios = chosen.scenarios or list(SCENARIOS)
    return chosen


if __name__ == "__main__":
    sys.exit(main())
