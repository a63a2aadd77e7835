"""OSProfiler: traces that an OpenStack client asks for, kept where `osprofiler trace show` finds them.

A client names its trace in `X-Trace-Info`, base64 of a JSON object with `base_id` and `parent_id`, both
UUIDs, and proves in `X-Trace-HMAC` that it may ask: the hexadecimal HMAC-SHA1 of the former, with a key that
client and service share. `base_id` becomes the trace's id; a span's id, of 64 bits, the end of a UUID. Each
span is two records, its start and its stop, which one of OSProfiler's drivers keeps.
"""

import base64
import binascii
import hashlib
import hmac
import logging
import queue
import socket
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanContext, SpanKind, StatusCode

from sukkal.traces.spans import OURS, PARENT, sampled

log = logging.getLogger(__name__)

MOST_RECORDS = 10_000  # that wait to be kept; more are dropped
COMPLAIN_SECONDS = 60.0  # at least between two log lines about what was lost
STOPPING = 5.0  # seconds in which what waits is kept before the process ends

_NAMES = {SpanKind.SERVER: "wsgi", SpanKind.CLIENT: "store", SpanKind.PRODUCER: "notify"}  # rest: core


class _Named(msgspec.Struct):
    base_id: uuid.UUID
    parent_id: uuid.UUID | None = None


class Signed:
    """Reads the headers. What is not signed with one of `keys` is as if it was not there."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [key.encode() for key in keys]

    def __call__(self, headers: Mapping[str, str]) -> tuple[SpanContext, dict[str, str]] | None:
        info, given = headers.get("x-trace-info"), headers.get("x-trace-hmac")
        if not info or not given or not self._proven(info.encode(), given.strip().encode()):
            return None
        try:
            named = msgspec.json.decode(base64.urlsafe_b64decode(info), type=_Named)
        except (msgspec.DecodeError, binascii.Error, UnicodeDecodeError):
            return None
        parent = named.parent_id or named.base_id
        if not named.base_id.int:
            return None
        return sampled(named.base_id.int, parent.int & (1 << 64) - 1 or 1), {PARENT: str(parent)}

    def _proven(self, info: bytes, given: bytes) -> bool:
        proven = False
        for key in self._keys:  # all of them, so that the time it takes does not tell which
            proven |= hmac.compare_digest(hmac.new(key, info, hashlib.sha1).hexdigest().encode(), given)
        return proven


class Driver(Protocol):
    def notify(self, info: dict[str, Any]) -> None:
        """Keep a record. It may block, and raise whatever it will."""
        ...


def open_driver(connection_string: str) -> Driver:
    """OSProfiler's own driver; raises ValueError when there is none, or it cannot be used."""
    from oslo_config import cfg
    from osprofiler import exc, opts
    from osprofiler.drivers import base

    conf = cfg.ConfigOpts()  # drivers look into it
    opts.set_defaults(conf)
    try:
        driver: Driver = base.get_driver(connection_string, project="sukkal", service="api", conf=conf)
    except exc.CommandError as error:
        raise ValueError(str(error)) from error
    return driver


class Reporter(SpanProcessor):
    """Has spans of traces that OSProfiler asked for kept by `driver`, in a thread of its own."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._host = socket.gethostname()
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(MOST_RECORDS)
        self._complained = -COMPLAIN_SECONDS
        self._thread = threading.Thread(target=self._keep, name="osprofiler", daemon=True)
        self._thread.start()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if _wanted(span):
            attributes = dict(span.attributes or {})
            self._note(span, "start", span.start_time, _info(span, attributes))

    def on_end(self, span: ReadableSpan) -> None:
        if _wanted(span):
            info: dict[str, Any] = {"span": span.name}
            if span.status.status_code is StatusCode.ERROR:
                info |= {"etype": (span.attributes or {}).get("error.type", "Error")}
                info |= {"message": span.status.description or ""}
            self._note(span, "stop", span.end_time, info)

    def _note(self, span: ReadableSpan, point: str, when: int | None, info: dict[str, Any]) -> None:
        context, parent = span.context, span.parent
        assert context is not None
        named = (span.attributes or {}).get(PARENT)
        record = {
            "name": f"{_NAMES.get(span.kind, 'core')}-{point}",
            "base_id": str(uuid.UUID(int=context.trace_id)),
            "trace_id": str(uuid.UUID(int=context.span_id)),
            "parent_id": named or str(uuid.UUID(int=parent.span_id if parent else context.trace_id)),
            "timestamp": datetime.fromtimestamp((when or 0) / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f"),
            "info": info | {"host": self._host},
        }
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            self._complain("OSProfiler's store is too slow: records are dropped")

    def _keep(self) -> None:
        while (record := self._waiting.get()) is not None:
            try:
                self._driver.notify(record)
            except Exception as exc:  # noqa: BLE001 - drivers raise what their libraries do
                self._complain(f"a record for OSProfiler was lost: {exc}")

    def _complain(self, text: str) -> None:
        now = time.monotonic()
        if now - self._complained >= COMPLAIN_SECONDS:
            self._complained = now
            log.warning("%s", text)

    def shutdown(self) -> None:
        try:
            self._waiting.put(None, timeout=STOPPING)
        except queue.Full:
            return
        self._thread.join(STOPPING)


def _wanted(span: ReadableSpan) -> bool:
    return span.context is not None and OURS in span.context.trace_state


def _info(span: ReadableSpan, attributes: dict[str, Any]) -> dict[str, Any]:
    """What the start of a span tells; of a request what OpenStack's own services tell."""
    attributes.pop(PARENT, None)
    info: dict[str, Any] = {"span": span.name, "attributes": attributes}
    if "http.request.method" in attributes:
        info["request"] = {
            "method": attributes["http.request.method"],
            "path": attributes["url.path"],
            "scheme": attributes["url.scheme"],
        }
    return info
