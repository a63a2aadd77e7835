"""How the process logs: one structured line for each event, for people or for machines.

A line that is logged while a request is served tells which, wherever it comes from: who serves it is found in
the frames of the caller, so that nothing has to be noted for requests that nothing is logged of. A context
variable set in each would cost them more than all that is counted.
"""

import logging
import sys
from types import FrameType

import structlog

from sukkal.core.context import Context
from sukkal.operations import Operation

FRAMES = 60  # of the stack that are looked through, from the line outwards


def set_up(form: str, level: str) -> None:
    """Log to standard error from `level` on, as `console` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(form, colors=sys.stderr.isatty()))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("sukkal.ws.wire").setLevel(logging.WARNING)  # it tells of each connection
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # it tells of each start what we tell


def formatter(form: str, *, colors: bool = False) -> logging.Formatter:
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _of_request,
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    without_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    rendering: list[structlog.types.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if form == "json"
        # The formatter it prefers shows the values of variables: passwords, and what users have sent.
        else [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[without_meta, *rendering]
    )


def _of_request(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """The line with what it is told of the request that is served, unless whoever logs has said so."""
    if "request_id" in event:
        return event
    found: Context | None = None
    frame: FrameType | None = sys._getframe()
    for _ in range(FRAMES):
        if frame is None:
            break
        named = frame.f_code.co_varnames  # without making a copy of what they are
        if "ctx" in named or "ctx" in frame.f_code.co_cellvars or "ctx" in frame.f_code.co_freevars:
            ctx, operation = frame.f_locals.get("ctx"), frame.f_locals.get("operation")
            if isinstance(ctx, Context):
                found = found or ctx
                if isinstance(operation, Operation):
                    return {**ctx.about(operation.name), **event}
        frame = frame.f_back
    if found is not None:
        return {**found.about(), **event}
    return event
