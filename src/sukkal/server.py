"""Composition root: the one module that knows every part, the settings and the clock."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import structlog
import uvloop

from sukkal.config import BadSetting, Settings, without_credentials
from sukkal.core.cipher import WrongKey
from sukkal.core.clock import SystemClock
from sukkal.core.service import Service
from sukkal.errors import AddressInUse, BadStoreURI
from sukkal.http.app import HttpApp
from sukkal.http.cors import Cors
from sukkal.http.server import Server
from sukkal.http.upgrade import UpgradeOnly
from sukkal.limits import Limits
from sukkal.stores.contract import Backend, Trait
from sukkal.stores.registry import open_backend
from sukkal.wire.identity import ClientIds
from sukkal.ws.app import WebSocketApp
from sukkal.ws.responder import Responder

log = logging.getLogger("sukkal")


def serve(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; the exit status.

    Raises BadSetting for a store that no driver serves, AddressInUse, StoreInUse and StoreUnavailable.
    """
    _set_up_logging(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    listeners = [_listen(settings.host, settings.port)]
    if settings.websocket_port is not None:
        listeners.append(_listen(settings.host, settings.websocket_port, flag="--websocket-port"))
    async with _opened(settings) as backend:
        clock = SystemClock()
        service = Service(
            backend,
            clock=clock,
            limits=settings.limits,
            encryption_key=settings.message_encryption_key,
            compress_above=settings.compress_above,
            delete_with_claim_id=settings.message_delete_with_claim_id,
        )
        try:
            await service.check_key(clock.now())
        except WrongKey as exc:
            raise BadSetting("message_encryption_key", str(exc)) from exc
        client_ids = ClientIds(
            uuid_safe=settings.client_id_uuid_safe == "strict",
            min_length=settings.min_length_client_id,
            max_length=settings.max_length_client_id,
        )
        app = HttpApp(
            service,
            clock=clock.now,
            client_ids=client_ids,
            admin_mode=settings.admin_mode,
            checksums=settings.enable_checksum,
        )
        sockets = WebSocketApp(
            Responder(
                service,
                clock=clock.now,
                client_ids=client_ids,
                admin_mode=settings.admin_mode,
                checksums=settings.enable_checksum,
            ),
            service.subscriptions,
            clock=clock.now,
            address=_address(listeners[-1]),
            origins=settings.allowed_origin,
            most_bytes=_longest_frame(settings.limits),
        )
        server = Server(_wrapped(app, settings, listeners), sockets.connect)
        chores = [
            asyncio.create_task(service.sweep(clock.now)),
            asyncio.create_task(sockets.watch()),
        ]
        try:
            serving = asyncio.create_task(server.serve(listeners))
            await _either(serving, server.ready)
            # What is there now stays: the collector need not look at it again, nor run as often.
            gc.freeze()
            gc.set_threshold(10_000, 20, 50)
            told_to_stop = _signalled()
            _announce(settings, listeners, backend)
            await _either(serving, told_to_stop)
            await _drain(service, app, sockets, server, settings.drain_timeout)
            await serving
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
    log.info("stopped")
    return 0


async def _either(task: asyncio.Task[None], event: asyncio.Event) -> None:
    """Return when the event is set; if the task ends first, as it then should not, raise what ended it."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()


def _signalled() -> asyncio.Event:
    """Set when the process is asked to end."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    return told


async def _drain(
    service: Service, app: HttpApp, sockets: WebSocketApp, server: Server, drain_timeout: float
) -> None:
    """Refuse new requests until those in flight are answered, then let the server end."""
    log.info("stopping: %d requests in flight", app.in_flight + sockets.in_flight)
    app.draining = True
    sockets.drain()
    service.stop_waiting()
    try:
        async with asyncio.timeout(drain_timeout):
            await asyncio.gather(app.drained(), sockets.drained())
    except TimeoutError:
        log.warning(
            "stopping: gave up on %d requests after %g s", app.in_flight + sockets.in_flight, drain_timeout
        )
        sockets.abort()
    server.should_exit = True


def _longest_frame(limits: Limits) -> int:
    """Bytes of a frame: twice what a request may carry, so that one somewhat larger still gets a reply."""
    return max(1 << 20, 2 * max(limits.max_messages_post_size, limits.max_queue_metadata))


def _wrapped(app: HttpApp, settings: Settings, listeners: list[socket.socket]) -> Any:
    """The application, with what the settings put in front of it."""
    wrapped: Any = Cors(app, settings.allowed_origin) if settings.allowed_origin else app
    return UpgradeOnly(wrapped, listeners[1].getsockname()[1]) if len(listeners) > 1 else wrapped


@contextlib.asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Backend]:
    try:
        backend = await open_backend(_store_uri(settings), durable=settings.durability == "full")
    except BadStoreURI as exc:
        raise BadSetting("store", str(exc)) from exc
    try:
        yield backend
    finally:
        await backend.close()


def _store_uri(settings: Settings) -> str:
    """The store's URI; the embedded one lies in the data directory unless its path is given."""
    if settings.store in ("sqlite:", "sqlite://"):
        path = (Path(settings.data_dir).expanduser() / "sukkal.db").absolute()
        return path.as_uri().replace("file:", "sqlite:", 1)
    return settings.store


def _listen(host: str, port: int, *, flag: str = "--port") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise AddressInUse(
            f"Cannot listen on {host}:{port}: {exc.strerror}. "
            f"Stop what uses the port, or choose another with {flag}."
        ) from exc
    return listener


def _announce(settings: Settings, listeners: list[socket.socket], backend: Backend) -> None:
    addresses = [_address(listener) for listener in listeners]
    url = f"http://{addresses[0]}"
    if Trait.DURABLE in backend.traits:
        durability = "full: writes are on disk before they are answered"
    elif settings.store.startswith("memory:"):
        durability = "none: everything is gone when the process ends"
    else:
        durability = "relaxed: a crash may lose the last writes"
    sys.stdout.write(
        f"""Sukkal is serving the Messaging API v2 on {url}
  store       {without_credentials(_store_uri(settings))}
  durability  {durability}
  websocket   ws://{addresses[-1]}
Try it:
  curl -i {url}/v2/queues/hello/messages -H 'Client-ID: 3381af92-2b9e-11e3-b191-71861300734c' \\
    -H 'X-Project-Id: demo' -H 'Content-Type: application/json' -d '{{"messages": [{{"body": "hello"}}]}}'
Stop with Ctrl-C.
"""
    )
    sys.stdout.flush()


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _set_up_logging(settings: Settings) -> None:
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
        if settings.log_format == "console"
        else [
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    logging.getLogger("sukkal.ws.wire").setLevel(logging.WARNING)  # it tells of each connection
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # it tells of each start what we tell
