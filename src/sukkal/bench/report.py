"""A result for people: tables in Markdown, and one page that needs nothing beside itself."""

from collections.abc import Sequence
from html import escape

from sukkal.bench import plots
from sukkal.bench.histogram import Histogram
from sukkal.bench.result import TOTAL, Figures, Result
from sukkal.bench.samples import WHOLE_TURN

Table = tuple[list[str], list[list[str]]]

_BUSY = 0.9  # cores of one process of the load, from where on it is itself what is measured
_KEPT_UP = 0.97  # of the turns that were due; the last may be under way at the end
_MOST_LINES = 5  # in a plot, beyond which lines cannot be told apart
_SHOWN_ERRORS = 10

_PAGE_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}
body{color:#0b0b0b;background:#fcfcfb}h1{font-size:1.5rem;margin-bottom:0}h2{font-size:1.1rem;margin-top:2rem}.sub{color:#6b6a66;margin-top:.2rem}
.tiles{display:flex;flex-wrap:wrap;gap:.75rem;margin:1.2rem 0}
.tile{border:1px solid #e4e3df;border-radius:8px;padding:.6rem 1rem;min-width:7rem}
.tile b{display:block;font-size:1.35rem;font-variant-numeric:tabular-nums}
.tile span{color:#6b6a66;font-size:.85rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;border-bottom:1px solid #e4e3df;text-align:right}
th:first-child,td:first-child{text-align:left}th{color:#6b6a66;font-weight:600}
svg{width:100%;height:auto;display:block;margin:1rem 0}
.warning{border-left:4px solid #c8502b;padding-left:.8rem}
.scroll{overflow-x:auto}
@media(prefers-color-scheme:dark){body{color:#fff;background:#1a1a19}.tile,th,td{border-color:#383835}
.sub,.tile span,th{color:#a9a8a2}}
"""


# --- what is said, in both forms ---


def title(result: Result) -> str:
    return f"{result.load.scenario} on {result.target}"


def described(result: Result) -> str:
    load = result.load
    loop = f"open loop, {load.rate:,g} turns/s" if load.rate is not None else "closed loop"
    parts = [
        result.started,
        f"{result.seconds:,g} s",
        loop,
        _count(load.connections, "connection"),
        _count(load.processes, "process", "processes"),
        f"{_count(load.batch, 'message')} a post",
        f"bodies of {_sizes(load.body_bytes)} bytes",
    ]
    if load.backlog:
        parts.append(f"backlog {load.backlog:,}")
    parts += [_count(load.queues, "queue")] * (load.queues > 1)
    parts += [_count(load.projects, "project")] * (load.projects > 1)
    return " · ".join(parts)


def _sizes(sizes: Sequence[int]) -> str:
    return f"{min(sizes):,}" if len(set(sizes)) == 1 else f"{min(sizes):,} to {max(sizes):,}"


def _count(number: int, noun: str, nouns: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def warnings(result: Result) -> list[str]:
    """What makes the figures worth less than they look."""
    said = []
    if result.load_cores >= _BUSY:
        said.append(
            f"A process of the load kept {result.load_cores:.2f} cores busy: its limit may be what is "
            "measured. Use more processes, or another machine."
        )
    rate = result.load.rate
    if rate is not None and result.turn_rate < _KEPT_UP * rate:
        said.append(f"The server did not keep up: {rate:,g} turns/s were due, {result.turn_rate:,.1f} ended.")
    return said


def headline(result: Result) -> list[tuple[str, str]]:
    """The figures that are looked at first, each with what it is."""
    ms = result.total.latency_ms
    return [
        (f"{result.total.rate:,.0f}", "requests/s"),
        (ms_text(ms.p50), "p50, ms"),
        (ms_text(ms.p99), "p99, ms"),
        (ms_text(ms.max), "max, ms"),
        (f"{result.message_rate:,.0f}", "messages/s"),
        (f"{result.error_count:,}", "errors"),
    ]


def _operations(result: Result) -> Table:
    head = ["operation", "requests", "per s", "mean ms", "p50", "p90", "p99", "p99.9", "max"]
    rows = [_row(name, figures) for name, figures in result.operations.items()]
    return head, [*rows, _row(TOTAL, result.total)]


def _row(name: str, figures: Figures) -> list[str]:
    ms = figures.latency_ms
    times = (ms.mean, ms.p50, ms.p90, ms.p99, ms.p999, ms.max)
    return [name, f"{figures.requests:,}", f"{figures.rate:,.1f}", *map(ms_text, times)]


def _objectives(result: Result) -> Table:
    rows = [[each.text, f"{each.value:,g}", "kept" if each.kept else "BROKEN"] for each in result.slo]
    return ["objective", "measured", ""], rows


def _errors(result: Result) -> Table:
    shown = list(result.errors.items())[:_SHOWN_ERRORS]
    return ["error", "times"], [[what, f"{count:,}"] for what, count in shown]


def ms_text(ms: float) -> str:
    """Three digits that matter."""
    digits = 3 if ms < 1 else 2 if ms < 10 else 1 if ms < 100 else 0
    return f"{ms:,.{digits}f}"


# --- Markdown ---


def markdown(result: Result) -> str:
    parts = [f"## {title(result)}", described(result)]
    parts += [f"**{warning}**" for warning in warnings(result)]
    parts.append(markdown_table(_operations(result)))
    parts.append(
        f"Messages that went all the way: {result.messages:,} ({result.message_rate:,.1f}/s). "
        f"Errors: {result.error_count:,} ({result.error_share:.2%})."
    )
    if result.errors:
        parts.append(markdown_table(_errors(result)))
    if result.slo:
        parts.append(markdown_table(_objectives(result)))
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    head, rows = table
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


# --- the page ---


def pictures(result: Result) -> dict[str, str]:
    """SVG by name: `throughput`, `latency`, `percentiles`."""
    moments = result.intervals
    end = moments[-1].end if moments else 1.0
    time_axis = plots.linear("seconds", end)
    names = _largest(result)
    shown = [TOTAL, *(name for name in names if name != WHOLE_TURN)] if len(names) > 1 else names
    rates = [
        plots.Line(name, [(m.end, m.operations[name].rate) for m in moments if name in m.operations], colour)
        for colour, name in enumerate([TOTAL, *names])
        if name in shown
    ]
    highest = max((rate for line in rates for _, rate in line.points), default=1.0)
    figures = [(m.end, m.operations[TOTAL].latency_ms) for m in moments if m.operations[TOTAL].rate]
    over_time = [
        plots.Line(name, [(end, getattr(ms, name)) for end, ms in figures], colour)
        for colour, name in enumerate(("p50", "p90", "p99", "max"))
    ]
    curves = [
        plots.Line(name, _curve(Histogram(result.operations[name].histogram)), colour)
        for colour, name in enumerate(names, 1)
    ]
    return {
        "throughput": plots.plot(
            "Throughput", time_axis, plots.linear("answers per second", highest * 1.05), rates
        ),
        "latency": plots.plot("Latency over time", time_axis, _ms_axis(over_time), over_time),
        "percentiles": plots.plot(
            "Latency by percentile", plots.percentiles("percent of requests", 99.99), _ms_axis(curves), curves
        ),
    }


def _largest(result: Result) -> list[str]:
    """The operations with the most requests, as many as a plot holds beside their sum."""
    ordered = sorted(result.operations, key=lambda name: -result.operations[name].requests)
    return ordered[: _MOST_LINES - 1]


def _curve(histogram: Histogram) -> list[tuple[float, float]]:
    nines = [round(100 * (1 - 10 ** (-step / 10)), 6) for step in range(41)]
    known = 100 * (1 - 1 / max(len(histogram), 2))  # beyond, there is but the largest sample
    percents = [percent for percent in nines if percent <= known]
    return list(zip(percents, histogram.percentiles(percents), strict=True))


def _ms_axis(lines: Sequence[plots.Line]) -> plots.Axis:
    values = [value for line in lines for _, value in line.points if value > 0] or [1.0]
    return plots.logarithmic("milliseconds", min(values), max(values))


def html(result: Result) -> str:
    """One page: figures, plots, tables, and nothing from elsewhere."""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{escape(title(result))}</title><style>{_PAGE_STYLE}</style></head><body>",
        f'<h1>{escape(title(result))}</h1><p class="sub">{escape(described(result))}</p>',
        *(f'<p class="warning">{escape(warning)}</p>' for warning in warnings(result)),
        '<div class="tiles">',
        *(f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for value, name in headline(result)),
        "</div>",
    ]
    if result.slo:
        parts += ["<h2>Objectives</h2>", _html_table(_objectives(result))]
    parts += pictures(result).values()
    parts += ["<h2>Operations</h2>", _html_table(_operations(result))]
    if result.errors:
        parts += ["<h2>Errors</h2>", _html_table(_errors(result))]
    note = "Times are milliseconds from when a request was due until its answer was read."
    parts.append(f'<p class="sub">{note} sukkal {escape(result.tool)}</p></body></html>')
    return "\n".join(parts)


def _html_table(table: Table) -> str:
    head, rows = table
    header = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{header}</tr>{lines}</table></div>'
