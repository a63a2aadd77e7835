"""The floors, and how results are shown: for people, as Markdown, as JSON."""

from dataclasses import asdict, dataclass
from typing import Any

from scenarios import SHALLOW, Result, Scale

_WORKERS = 2
_STEPS = ("post", "claim", "delete")

Rows = list[tuple[str, ...]]
Machine = dict[str, str | int | float]


@dataclass(frozen=True)
class Floor:
    """What a figure must reach (`at_least`) or not pass."""

    result: str  # name of the result
    figure: str  # key among its figures
    bound: float
    at_least: bool
    what: str
    form: str  # how the numbers are written

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


_PART, _RATE, _SIZE, _TIME = "{:.0%}", "{:,.0f}", "{:.0f} MB", "{:.2f} s"

FLOORS = (
    Floor("posts-32", "ratio", 0.40, True, "posts, 32 connections: part of echo's rate", _PART),
    Floor("posts-32", "rate", 10_000, True, "posts, 32 connections: per second", _RATE),
    Floor("posts-32", "p99_ms", 10, False, "posts, 32 connections: p99", "{:.1f} ms"),
    Floor("posts-128", "ratio", 0.50, True, "posts, 128 connections: part of echo's rate", _PART),
    Floor("posts-128", "rate", 10_000, True, "posts, 128 connections: per second", _RATE),
    Floor("posts-relaxed-32", "ratio", 0.60, True, "relaxed, 32 connections: part of echo's rate", _PART),
    Floor("posts-relaxed-128", "ratio", 0.60, True, "relaxed, 128 connections: part of echo's rate", _PART),
    Floor("list-32", "ratio", 0.70, True, "list of 10: part of echo's rate", _PART),
    Floor("get-32", "ratio", 0.70, True, "get of one: part of echo's rate", _PART),
    Floor("cycle-32", "message_rate", 20_000, True, "post, claim, delete 10: messages per second", _RATE),
    *(
        Floor(f"delivery-{script}", figure, bound, False, f"{what}: {figure[:3]} until delivery", "{:.1f} ms")
        for script, what in (("long-poll", "waiting list"), ("socket", "WebSocket subscription"))
        for figure, bound in (("p50_ms", 2), ("p99_ms", 10))
    ),
    Floor("pipelined", "message_rate", 40_000, True, "pipelined posts of 20: messages per second", _RATE),
    Floor("waiters", "kb_each", 40, False, "memory of each idle waiter", "{:.1f} KB"),
    Floor("waiters", "cores", 0.02, False, "cores kept busy by idle waiters", "{:.3f}"),
    Floor("wake-all", "all_ms", 250, False, "one post wakes 1,000 waiting lists", "{:.0f} ms"),
    Floor("webhooks-rate", "rate", 2_000, True, "webhooks: deliveries per second", _RATE),
    Floor("webhooks-hanging", "ratio", 2, False, "webhooks: p99 of the others when 20 of 100 hang", "{:.2f}"),
    Floor("webhooks-post", "ratio", 2, False, "post with 10 receivers: time against a plain one", "{:.2f}"),
    Floor("webhooks-pending", "mb", 100, False, "memory of 100,000 deliveries to try again", _SIZE),
    Floor("webhooks-pending", "cores", 0.01, False, "cores kept busy by them", "{:.3f}"),
    Floor(
        "depth", "cost_ratio", 1.5, False, "claim of 10, large backlog: cost against a small one", "{:.2f}"
    ),
    Floor("redis-posts", "rate", 8_000, True, "Redis, everysec: posts per second", _RATE),
    Floor("redis-posts", "p99_ms", 20, False, "Redis, everysec: posts, p99", "{:.1f} ms"),
    Floor("redis-posts-always", "rate", 5_000, True, "Redis, always: posts per second", _RATE),
    Floor("redis-posts-always", "p99_ms", 20, False, "Redis, always: posts, p99", "{:.1f} ms"),
    Floor(
        "redis-depth", "cost_ratio", 1.5, False, "Redis: claim of 10, large backlog against small", "{:.2f}"
    ),
    Floor(
        "redis-memory", "overhead", 2.5, False, "Redis: memory for each byte of a message of 1 KB", "{:.2f}"
    ),
    Floor("memory-messages", "rss", 150, False, "resident memory, stored messages", _SIZE),
    Floor("memory-queues", "rss", 150, False, "resident memory, queues", _SIZE),
    Floor("startup-empty", "seconds", 1.0, False, "ready after start, empty store", _TIME),
    Floor("startup-full", "seconds", 2.0, False, "ready after start, stored messages", _TIME),
)


@dataclass(frozen=True)
class Run:
    """A finished run: what was measured, where, and how long."""

    date: str
    commit: str
    command: str  # as typed
    machine: Machine
    scale: Scale
    results: list[Result]
    failures: dict[str, str]  # scenario to what went wrong

    def judged(self) -> list[tuple[Floor, float, bool]]:
        """Each floor whose figure was measured, with its value and whether it was reached."""
        by_name = {result.name: result.figures for result in self.results}
        pairs = [(floor, by_name[floor.result][floor.figure]) for floor in FLOORS if floor.result in by_name]
        return [(floor, value, floor.met(value)) for floor, value in pairs]

    def passed(self) -> bool:
        errors = sum(result.figures.get("errors", 0) for result in self.results)
        return not self.failures and not errors and all(met for _, _, met in self.judged())


def as_json(run: Run) -> dict[str, Any]:
    floors = [
        {"result": floor.result, "figure": floor.figure, "bound": floor.bound, "value": value, "met": met}
        for floor, value, met in run.judged()
    ]
    return {
        "date": run.date,
        "commit": run.commit,
        "command": run.command,
        "machine": run.machine,
        "scale": asdict(run.scale),
        "floors": floors,
        "failures": run.failures,
        "results": {result.name: asdict(result) for result in run.results},
    }


def as_text(run: Run) -> str:
    """Tables with aligned columns, for a terminal."""
    parts = [f"{title}\n{_aligned(rows)}" for title, rows in _tables(run)]
    parts += [f"FAILED {name}: {why}" for name, why in run.failures.items()]
    return "\n\n".join(parts)


def as_markdown(run: Run) -> str:
    """The same for docs/benchmarks.md, with the command and the machine."""
    parts = [f"Measured {run.date}, commit {run.commit}, with `{run.command}`."]
    parts.append("\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in run.machine.items()))
    for title, (head, *rows) in _tables(run):
        lines = ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]
        parts.append(f"### {title}\n\n" + "\n".join(lines))
    parts += [f"**{name} could not be measured**: {why}" for name, why in run.failures.items()]
    return "\n\n".join(parts)


def _tables(run: Run) -> list[tuple[str, Rows]]:
    rounds = f"{run.scale.rounds} rounds of {run.scale.seconds:g} s"
    tables = [
        (f"Throughput, median of {rounds}", _throughput(run.results)),
        ("Through the whole cycle, per step", _steps(run.results)),
        ("Depth: one claim of 10 at a time", _depth(run.results)),
        ("From post to delivery, 500 messages a second", _delivery(run.results)),
        ("Pipelined over one socket", _pipelined(run.results)),
        ("Many who wait", _waiting(run.results)),
        ("Deliveries to webhooks", _webhooks(run.results)),
        (f"On Redis, {_WORKERS} workers, median of {rounds}", _shared(run.results)),
        ("Many queues on Redis", _many_queues(run.results)),
        ("Memory of the server process", _memory(run.results)),
        ("Start", _startup(run.results)),
        ("Floors", _floors(run)),
    ]
    return [(title, rows) for title, rows in tables if len(rows) > 1]


def _throughput(results: list[Result]) -> Rows:
    head = ("what", "requests/s", "messages/s", "echo/s", "ratio", "p50 ms", "p99 ms", "max ms")
    rows: Rows = [(*head, "CPU µs", "echo CPU µs", "CPU ratio", "others' cores", "errors")]
    for result in results:
        each = result.figures
        if "server_cpu_us" not in each:
            continue
        rows.append(
            (
                result.title,
                f"{each['rate']:,.0f}",
                _maybe(each, "message_rate", "{:,.0f}"),
                _maybe(each, "echo_rate", "{:,.0f}"),
                _maybe(each, "ratio", "{:.0%}"),
                f"{each['p50_ms']:.2f}",
                f"{each['p99_ms']:.2f}",
                f"{each['max_ms']:.1f}",
                f"{each['server_cpu_us']:.1f}",
                _maybe(each, "echo_server_cpu_us", "{:.1f}"),
                _maybe(each, "cpu_ratio", "{:.0%}"),
                f"{each['others_cores']:.2f}",
                f"{each['errors']:.0f}",
            )
        )
    return rows


def _steps(results: list[Result]) -> Rows:
    head = (f"{step} 10 p50 / p99 ms" for step in _STEPS)
    rows: Rows = [("what", *head, "CPU µs per message")]
    for result in results:
        if "claim_p50_ms" not in result.figures:
            continue
        each = result.figures
        steps = (f"{each[f'{step}_p50_ms']:.2f} / {each[f'{step}_p99_ms']:.2f}" for step in _STEPS)
        rows.append((result.title, *steps, f"{each['server_cpu_us_per_message']:.1f}"))
    return rows


def _depth(results: list[Result]) -> Rows:
    rows: Rows = [("backlog", "claims/s", "p50 ms", "p99 ms", "max ms", "CPU µs per claim")]
    for result in results:
        if "cost_ratio" not in result.figures:
            continue
        for side, name in (("shallow", f"{SHALLOW:,} messages"), ("deep", result.title)):
            each = {key.removeprefix(f"{side}_"): value for key, value in result.figures.items()}
            latencies = (f"{each[key]:.2f}" for key in ("p50_ms", "p99_ms", "max_ms"))
            rows.append((name, f"{1e3 / each['p50_ms']:,.0f}", *latencies, f"{each['cpu_us']:.0f}"))
    return rows


def _delivery(results: list[Result]) -> Rows:
    rows: Rows = [("to", "p50 ms", "p99 ms", "max ms", "server's cores")]
    for result in results:
        if result.name.startswith("delivery-"):
            each = result.figures
            latencies = (f"{each[key]:.2f}" for key in ("p50_ms", "p99_ms", "max_ms"))
            rows.append((result.title, *latencies, f"{each['cores']:.2f}"))
    return rows


def _pipelined(results: list[Result]) -> Rows:
    rows: Rows = [("what", "messages/s", "CPU µs per message", "server's cores")]
    for result in results:
        if result.name == "pipelined":
            each = result.figures
            rate, cost = f"{each['message_rate']:,.0f}", f"{each['cpu_us']:.1f}"
            rows.append((result.title, rate, cost, f"{each['cores']:.2f}"))
    return rows


def _waiting(results: list[Result]) -> Rows:
    forms = {
        "kb_each": "{:.1f}",
        "kb_connection": "{:.1f}",
        "cores": "{:.3f}",
        "p50_ms": "{:.2f}",
        "p99_ms": "{:.2f}",
        "cpu_us": "{:,.0f}",
    }
    rows: Rows = [("what", "KB each", "of it the connection", "cores", "p50 ms", "p99 ms", "CPU µs per post")]
    for result in results:
        if "waiters" in result.figures:
            rows.append((result.title, *(_maybe(result.figures, key, form) for key, form in forms.items())))
    return rows


def _webhooks(results: list[Result]) -> Rows:
    rows: Rows = [("what", "figures")]
    for result in results:
        if result.name.startswith("webhooks-"):
            figures = (f"{key} {value:,.3g}" for key, value in result.figures.items())
            rows.append((result.title, ", ".join(figures)))
    return rows


def _shared(results: list[Result]) -> Rows:
    head = ("what", "requests/s", "messages/s", "p50 ms", "p99 ms", "max ms")
    rows: Rows = [(*head, "workers' CPU µs", "Redis's CPU µs", "load's cores", "errors")]
    for result in results:
        each = result.figures
        if "redis_us" not in each:
            continue
        rows.append(
            (
                result.title,
                f"{each['rate']:,.0f}",
                f"{each['message_rate']:,.0f}",
                *(f"{each[key]:.2f}" for key in ("p50_ms", "p99_ms")),
                *(f"{each[key]:.1f}" for key in ("max_ms", "service_us", "redis_us")),
                f"{each['load_cores']:.2f}",
                f"{each['errors']:.0f}",
            )
        )
    return rows


def _many_queues(results: list[Result]) -> Rows:
    rows: Rows = [("what", "bytes each", "page of 20, ms", "bytes for each of a message of 1 KB")]
    for result in results:
        if "queue_bytes" in result.figures:
            each = result.figures
            sizes = (f"{each['queue_bytes']:,.0f}", f"{each['page_ms']:.2f}", f"{each['overhead']:.2f}")
            rows.append((result.title, *sizes))
    return rows


def _memory(results: list[Result]) -> Rows:
    rows: Rows = [("with", "MB", "after a rest", "of it own data", "peak", "messages/s while filling")]
    for result in results:
        if "rss" in result.figures:
            keys = ("rss", "settled_rss", "settled_anonymous", "settled_peak")
            sizes = (f"{result.figures[key]:.0f}" for key in keys)
            rows.append((result.title, *sizes, f"{result.figures['message_rate']:,.0f}"))
    return rows


def _startup(results: list[Result]) -> Rows:
    rows: Rows = [("what", "ready after s (median)", "at most s")]
    for result in results:
        if "seconds" in result.figures:
            times = (f"{result.figures[key]:.2f}" for key in ("seconds", "max_seconds"))
            rows.append((result.title, *times))
    return rows


def _floors(run: Run) -> Rows:
    rows: Rows = [("what", "measured", "floor", "")]
    for floor, value, met in run.judged():
        bound = ("≥ " if floor.at_least else "≤ ") + floor.form.format(floor.bound)
        rows.append((floor.what, floor.form.format(value), bound, "ok" if met else "MISS"))
    return rows


def _maybe(figures: dict[str, float], key: str, form: str) -> str:
    return form.format(figures[key]) if key in figures else ""


def _aligned(rows: Rows) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        row[0].ljust(widths[0])
        + "".join("  " + cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    )
