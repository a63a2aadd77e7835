"""From plain values to what traces the service."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sukkal.traces.spans import Spans


class CannotTrace(Exception):
    """Traces are asked for and cannot be had; the text is a sentence for the operator."""


def open_spans(*, exporting: bool, hmac_keys: Sequence[str], connection_string: str | None) -> "Spans":
    """Trace what OpenTelemetry samples if `exporting`, and what is signed with one of the keys.

    To be called in the process that serves. Raises CannotTrace.
    """
    try:
        from sukkal.traces import export, spans
    except ImportError as exc:
        raise CannotTrace(_missing("OpenTelemetry", "otel", exc)) from exc
    origin = reporter = None
    if connection_string is not None:
        try:
            from sukkal.traces.osprofiler import Reporter, Signed, open_driver

            driver = open_driver(connection_string)
        except ImportError as exc:
            raise CannotTrace(_missing("OSProfiler", "osprofiler", exc)) from exc
        except ValueError as exc:
            raise CannotTrace(f"OSProfiler cannot keep traces there: {exc}") from exc
        origin, reporter = Signed(hmac_keys), Reporter(driver)
    try:
        provider = export.provider(exporting=exporting, osprofiler=reporter)
    except export.NoExporter as exc:
        raise CannotTrace(f"Traces cannot be exported: {exc}") from exc
    return spans.Spans(provider, origin)


def _missing(what: str, extra: str, exc: ImportError) -> str:
    return f"{what} is not installed ({exc}): pip install 'sukkal[{extra}]'."
