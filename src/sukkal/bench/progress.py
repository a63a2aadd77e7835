"""What a run shows while it lasts."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sukkal.bench.report import ms_text
from sukkal.bench.result import TOTAL, Moment

_BARS = "▁▂▃▄▅▆▇█"
_SHOWN = 40  # intervals in the sparkline


class Progress:
    """A table of the last interval, drawn over itself on a terminal; one line an interval elsewhere."""

    def __init__(self, console: Console, seconds: float) -> None:
        self._console = console
        self._seconds = seconds
        self._stage = ""
        self._rates: list[float] = []
        self._moment: Moment | None = None
        self._live = Live(self._shown(), console=console, transient=True, auto_refresh=False)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def told(self, stage: str) -> None:
        self._stage = stage
        self._refresh()

    def moment(self, moment: Moment) -> None:
        self._stage, self._moment = "measuring", moment
        self._rates = [*self._rates, moment.operations[TOTAL].rate][-_SHOWN:]
        if self._console.is_terminal:
            self._refresh()
        else:
            total = moment.operations[TOTAL]
            self._console.print(
                f"{moment.end:8.1f} s {total.rate:12,.1f}/s   p50 {ms_text(total.latency_ms.p50)} ms   "
                f"p99 {ms_text(total.latency_ms.p99)} ms   errors {moment.errors}",
                highlight=False,
            )

    def _refresh(self) -> None:
        if self._console.is_terminal:
            self._live.update(self._shown(), refresh=True)

    def _shown(self) -> Table:
        grid = Table.grid(padding=(0, 2))
        if self._moment is None:
            grid.add_row(Text(f"{self._stage} …"))
            return grid
        most = max(self._rates) or 1.0
        bars = "".join(_BARS[int(rate / most * (len(_BARS) - 1))] for rate in self._rates)
        grid.add_row(
            f"{self._stage} {self._moment.end:.0f} of {self._seconds:g} s", "per s", "p50 ms", "p99", "max"
        )
        for name, sample in sorted(self._moment.operations.items()):
            ms = sample.latency_ms
            grid.add_row(name, f"{sample.rate:,.0f}", ms_text(ms.p50), ms_text(ms.p99), ms_text(ms.max))
        grid.add_row(Text(bars, style="cyan"), "", "", "errors", Text(str(self._moment.errors)))
        return grid
