"""Where spans go: to OpenTelemetry's exporters, as the variables OTEL_* say, and to OSProfiler."""

import os
from importlib.metadata import entry_points

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import get_current_span

from sukkal import __version__
from sukkal.traces.spans import OURS

EXPORTERS = "opentelemetry_traces_exporter"  # the group of entry points by which packages offer them
OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


class NoExporter(Exception):
    """The environment names an exporter that is not installed."""


def provider(*, exporting: bool, osprofiler: SpanProcessor | None = None) -> TracerProvider:
    """What makes spans, of this process alone; to be made in the process that uses it.

    When not `exporting`, only what OSProfiler asks for is traced. Raises NoExporter.
    """
    resource = Resource.create({"service.name": "sukkal", "service.version": __version__}).merge(
        OTELResourceDetector().detect()  # what the environment says goes before
    )
    made = TracerProvider(resource=resource, shutdown_on_exit=False)
    if exporting:
        for exporter in _exporters():
            made.add_span_processor(BatchSpanProcessor(exporter))
        made.sampler = _AskedFor(made.sampler)
    else:
        made.sampler = _AskedFor(ParentBased(ALWAYS_OFF, remote_parent_sampled=ALWAYS_OFF))
    if osprofiler is not None:
        made.add_span_processor(osprofiler)
    return made


def _exporters() -> list[SpanExporter]:
    names = os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(",")
    return [_exporter(name.strip()) for name in names if name.strip() not in ("", "none")]


def _exporter(name: str) -> SpanExporter:
    if name == "otlp":
        protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get(
            "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
        )
        name = OTLP.get(protocol, f"otlp with the protocol {protocol}")
    for found in entry_points(group=EXPORTERS, name=name):
        exporter: SpanExporter = found.load()()
        return exporter
    raise NoExporter(f"the environment asks for the exporter {name}, which is not installed here.")


class _AskedFor(Sampler):
    """Whatever OSProfiler asks for, and of the rest what `others` takes."""

    def __init__(self, others: Sampler) -> None:
        self._others = others

    def should_sample(self, parent_context, *args, **options) -> SamplingResult:  # type: ignore[no-untyped-def]
        parent = get_current_span(parent_context).get_span_context()
        sampler = ALWAYS_ON if OURS in parent.trace_state else self._others
        return sampler.should_sample(parent_context, *args, **options)

    def get_description(self) -> str:
        return f"AskedFor({self._others.get_description()})"
