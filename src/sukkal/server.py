"""Composition root: the one module that knows every part, the settings and the clock."""

import asyncio
import contextlib
import gc
import logging
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import uvloop
from msgspec.structs import replace

from sukkal import logs, outside, workers
from sukkal.config import BadSetting, Settings
from sukkal.core.cipher import WrongKey
from sukkal.core.clock import SystemClock
from sukkal.core.ids import Mint
from sukkal.core.journal import Journal, time_store, timed
from sukkal.core.pooling.backends import Site
from sukkal.core.service import Service
from sukkal.core.signing import Signer
from sukkal.core.subscribing.confirmation import Terms, Wording
from sukkal.core.subscribing.rules import Check, Entrust
from sukkal.errors import AddressInUse, BadStoreURI
from sukkal.http.app import HttpApp
from sukkal.http.cors import Cors
from sukkal.http.server import Server
from sukkal.http.upgrade import UpgradeOnly
from sukkal.limits import Limits
from sukkal.model import without_credentials
from sukkal.notify.deliverer import Deliverers
from sukkal.notify.dispatcher import Dispatcher
from sukkal.notify.hosts import Hosts
from sukkal.stores.contract import Backend, ControlBackend, Trait
from sukkal.stores.observed import Begin, Observed, ObservedControl
from sukkal.stores.registry import located, open_backend, open_control
from sukkal.tally import ByProject, Figures
from sukkal.wire.identity import ClientIds
from sukkal.ws.app import WebSocketApp
from sukkal.ws.responder import Responder

if TYPE_CHECKING:
    from sukkal.traces.spans import Spans

log = logging.getLogger("sukkal")

HIGHEST_PORT = 65535
GIVEN_UP_AFTER = 60.0  # seconds a peer may leave what was sent to it unacknowledged, or take nothing more
STOPPING = 10.0  # seconds a worker may take to stop, apart from requests in flight
LAST_DELIVERIES = 5.0  # seconds that deliveries under way may take to end

Result = TypeVar("Result")
Opened = TypeVar("Opened", bound=ControlBackend)


class Stores(NamedTuple):
    """Where messages are kept and where records of queues are; often the same."""

    messages: Backend
    control: ControlBackend

    @property
    def traits(self) -> frozenset[Trait]:
        """What both promise."""
        return self.messages.traits & self.control.traits


def serve(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; the exit status.

    Raises BadSetting for a store that no driver serves, AddressInUse, StoreInUse and StoreUnavailable.
    """
    logs.set_up(settings.log_format, settings.log_level)
    for shortcoming in outside.shortcomings(settings):
        log.warning("%s", shortcoming)
    if settings.workers > 1:
        return _serve_by_workers(settings)
    listeners = _listeners(settings)
    admin = _admin_listeners(settings)
    _run(_serve(settings, listeners, admin, lambda traits: _announce(settings, listeners, admin, traits)))
    return 0


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _serve_by_workers(settings: Settings) -> int:
    """The same with several processes, which take the connections to one port in turns."""
    traits = _run(_look_at_stores(settings))
    for listener in (*_listeners(settings), *_admin_listeners(settings)):  # does anybody else use them?
        listener.close()
    # Held here without listening, so that the ports stay the same when all workers are replaced.
    held = _listeners(settings, shared=True)
    held_admin = _admin_listeners(settings, shared=True)
    ports = [listener.getsockname()[1] for listener in held]
    fixed = replace(
        settings, port=ports[0], websocket_port=ports[1] if settings.websocket_port is not None else None
    )

    def work(ready: Callable[[], None], place: int) -> None:
        gone = workers.supervisor_gone()
        # One worker only listens on each of these: what it tells is its own.
        admin = [
            _listen(settings.admin_host, listener.getsockname()[1], shared=True)
            for listener in held_admin[place : place + 1]
        ]
        _run(_serve(fixed, _listeners(fixed, shared=True), admin, lambda _: ready(), gone))

    return workers.run(
        settings.workers,
        work,
        ready=lambda: _announce(settings, held, held_admin, traits),
        patience=settings.drain_timeout + STOPPING,
    )


async def _look_at_stores(settings: Settings) -> frozenset[Trait]:
    """What the stores promise; raises as `serve` does when they cannot be used, or not by several."""
    async with _opened(settings) as stores:
        for backend, uri in ((stores.messages, settings.store), (stores.control, settings.control_store)):
            if Trait.SHARED not in backend.traits:
                raise BadSetting(
                    "workers",
                    f"workers is {settings.workers}, but one process only can use the store "
                    f"{without_credentials(resolved(settings, uri or settings.store))}: leave workers at 1, "
                    "or name a store that can be shared, such as redis://localhost.",
                )
        clock = SystemClock()
        service, _ = _delivering(settings, stores, clock)
        await _check_key(service, clock)
        return stores.traits


async def _serve(
    settings: Settings,
    listeners: list[socket.socket],
    admin_listeners: list[socket.socket],
    ready: Callable[[frozenset[Trait]], None],
    supervisor_gone: int | None = None,
) -> None:
    """Serve until a signal, or until something can be read from the file descriptor `supervisor_gone`.

    Operators are served too, until the end, if there is a listener for them.
    """
    async with _opened(settings) as stores, _tracing(settings) as spans:
        clock = SystemClock()
        service, dispatcher = _delivering(settings, stores, clock, spans)
        await _check_key(service, clock)
        app, sockets = _transports(settings, service, clock, listeners, spans)
        server = Server(_wrapped(app, settings, listeners, spans), sockets.connect)
        chores = [
            asyncio.create_task(service.sweep(clock.now)),
            asyncio.create_task(sockets.watch()),
            asyncio.create_task(service.figures.watch()),
        ]
        dispatcher.start()
        try:
            serving = asyncio.create_task(server.serve(listeners))
            await _either(serving, server.ready)
            if admin_listeners:
                admin = Server(_admin(settings, stores, service, app, sockets, server, dispatcher, clock))
                chores.append(asyncio.create_task(_serve_operators(admin, admin_listeners)))
                await _either(chores[-1], admin.ready)
            # What is there now stays: the collector need not look at it again, nor run as often.
            gc.freeze()
            gc.set_threshold(10_000, 20, 50)
            told_to_stop = _told_to_stop(supervisor_gone)
            ready(stores.traits)
            await _either(serving, told_to_stop)
            await _drain(service, app, sockets, server, settings.drain_timeout)
            await serving
        finally:
            await dispatcher.stop(LAST_DELIVERIES)
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
            await service.close()
    log.info("stopped")


async def _serve_operators(server: Server, listeners: list[socket.socket]) -> None:
    """Serve for as long as the task lives."""
    serving = asyncio.create_task(server.serve(listeners))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise


def _admin(
    settings: Settings,
    stores: Stores,
    service: Service,
    app: HttpApp,
    sockets: WebSocketApp,
    server: Server,
    dispatcher: Dispatcher,
    clock: SystemClock,
) -> Any:
    """The application for operators."""
    from sukkal.admin.app import AdminApp  # slow to import
    from sukkal.admin.metrics import Exposition, Moment

    def look() -> Moment:
        return Moment(
            waiters=service.waiters,
            in_flight=app.in_flight + sockets.in_flight,
            connections=len(server.server_state.connections),
            sockets=len(sockets.connections),
            deliveries=dispatcher.open,
        )

    figures = {"messages": stores.messages.figures}
    if stores.control is not stores.messages:
        figures["control"] = stores.control.figures
    exposition = Exposition(
        service.figures,
        figures,
        look=look,
        busiest=service.busiest,
        pending=service.deliveries.pending,
        queues=settings.metrics_queues,
        clock=clock.now,
    )
    return AdminApp(
        exposition,
        ping=service.ping,
        stats=service.stats,
        clock=clock.now,
        stopping=lambda: app.draining,
    )


def _delivering(
    settings: Settings, stores: Stores, clock: SystemClock, spans: "Spans | None" = None
) -> tuple[Service, Dispatcher]:
    """The service, and what brings its notifications to subscribers outside.

    Raises BadSetting for what deliverers cannot use.
    """
    checks: dict[str, Check] = {}
    entrusts: dict[str, Entrust] = {}
    service = _service(settings, stores, clock, checks, entrusts, spans)
    made = outside.deliverers(settings, service.forward, clock)
    entrusts |= outside.entrusts(made)
    if spans is not None:
        from sukkal.traces.deliveries import traced  # slow to import, and an extra

        made = traced(made, spans)
    checks |= {scheme: deliverer.check for scheme, deliverer in made.items()}
    return service, _dispatcher(settings, service, made, clock)


def _service(
    settings: Settings,
    stores: Stores,
    clock: SystemClock,
    subscriber_checks: Mapping[str, Check],
    entrusts: Mapping[str, Entrust],
    spans: "Spans | None" = None,
) -> Service:
    observers: list[Begin] = [time_store] if settings.slow_request else []
    if spans is not None:
        observers.append(spans.store)
    for begin in observers:
        stores = _observed(stores, begin)
    figures = Figures(ByProject([_class_of_projects(one) for one in settings.metrics_project_classes]))
    service = Service(
        stores.messages,
        control=stores.control,
        clock=clock,
        limits=settings.limits,
        encryption_key=settings.message_encryption_key,
        compress_above=settings.compress_above,
        delete_with_claim_id=settings.message_delete_with_claim_id,
        opener=PoolStores(settings, observers, figures) if settings.pooling else None,
        carrier=spans,
        figures=figures,
        signer=Signer(settings.signed_url_secret_key, max_ttl=settings.signed_url_max_ttl),
        terms=_terms(settings),
        subscriber_types=settings.subscriber_types,
        subscriber_checks=subscriber_checks,
        entrusts=entrusts,
    )
    stores.messages.figures.messages = figures.messages
    if settings.slow_request:
        service.wrap_calls(timed)
    if spans is not None:
        service.wrap_calls(spans.operations)
    return service


def _dispatcher(
    settings: Settings, service: Service, deliverers: Deliverers, clock: SystemClock
) -> Dispatcher:
    return Dispatcher(
        service.deliveries,
        service.recipients,
        deliverers,
        Hosts(per_host=settings.max_deliveries_per_host, per_project=settings.max_deliveries_per_project),
        clock,
        Mint(),
        service.figures,
    )


def _class_of_projects(setting: str) -> tuple[str, str]:
    name, _, pattern = setting.partition("=")
    return name, pattern


def _observed(stores: Stores, begin: Begin) -> Stores:
    messages = Observed(stores.messages, begin)
    control = messages if stores.control is stores.messages else ObservedControl(stores.control, begin)
    return Stores(messages, control)


@contextlib.asynccontextmanager
async def _tracing(settings: Settings) -> AsyncIterator["Spans | None"]:
    """What traces the service, if it is to be traced; what it knows in the end is told before this ends."""
    if not settings.traces and not settings.osprofiler_hmac_keys:
        yield None
        return
    from sukkal.traces.opened import CannotTrace, open_spans  # slow to import, and an extra

    try:
        spans = open_spans(
            exporting=settings.traces,
            hmac_keys=settings.osprofiler_hmac_keys,
            connection_string=settings.osprofiler_connection_string,
        )
    except CannotTrace as exc:
        key = "traces" if settings.traces else "osprofiler_connection_string"
        raise BadSetting(key, str(exc)) from exc
    try:
        yield spans
    finally:
        await asyncio.to_thread(spans.close)


def _terms(settings: Settings) -> Terms:
    def wording(name: str) -> Wording:
        return Wording(
            *(getattr(settings, f"{name}_confirmation_email_{part}") for part in Wording.__struct_fields__)
        )

    return Terms(
        required=settings.require_confirmation,
        page=settings.external_confirmation_url,
        endpoint=settings.public_endpoint,
        websocket_endpoint=settings.public_websocket_endpoint,
        subscribed=wording("subscription"),
        unsubscribed=wording("unsubscribe"),
    )


async def _check_key(service: Service, clock: SystemClock) -> None:
    try:
        await service.check_key(clock.now())
    except WrongKey as exc:
        raise BadSetting("message_encryption_key", str(exc)) from exc


def _transports(
    settings: Settings,
    service: Service,
    clock: SystemClock,
    listeners: list[socket.socket],
    spans: "Spans | None",
) -> tuple[HttpApp, WebSocketApp]:
    client_ids = ClientIds(
        uuid_safe=settings.client_id_uuid_safe == "strict",
        min_length=settings.min_length_client_id,
        max_length=settings.max_length_client_id,
    )
    journal = Journal(slow_after=settings.slow_request, sample=settings.access_log_sample)
    app = HttpApp(
        service,
        clock=clock.now,
        client_ids=client_ids,
        admin_mode=settings.admin_mode,
        checksums=settings.enable_checksum,
        journal=journal,
    )
    responder = Responder(
        service,
        clock=clock.now,
        client_ids=client_ids,
        admin_mode=settings.admin_mode,
        checksums=settings.enable_checksum,
        journal=journal,
    )
    if spans is not None:
        responder.wrap_answers(spans.websocket)
    sockets = WebSocketApp(
        responder,
        service.subscriptions,
        clock=clock.now,
        address=_address(listeners[-1]),
        origins=settings.allowed_origin,
        most_bytes=_longest_frame(settings.limits),
    )
    return app, sockets


async def _either(task: asyncio.Task[None], event: asyncio.Event) -> None:
    """Return when the event is set; if the task ends first, as it then should not, raise what ended it."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()


def _told_to_stop(supervisor_gone: int | None) -> asyncio.Event:
    """Set when the process is asked to end, or has lost who would ask."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in workers.SIGNALS:
        loop.add_signal_handler(number, told.set)
    if supervisor_gone is not None:
        loop.add_reader(supervisor_gone, told.set)
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


def _wrapped(app: HttpApp, settings: Settings, listeners: list[socket.socket], spans: "Spans | None") -> Any:
    """The application, with what the settings put in front of it."""
    wrapped: Any = app if spans is None else spans.http(app)
    if settings.allowed_origin:
        wrapped = Cors(wrapped, settings.allowed_origin)
    return UpgradeOnly(wrapped, listeners[1].getsockname()[1]) if len(listeners) > 1 else wrapped


@contextlib.asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Stores]:
    durable = settings.durability == "full"
    async with contextlib.AsyncExitStack() as opened:

        async def opening(key: str, opener: Callable[..., Awaitable[Opened]], uri: str) -> Opened:
            try:
                backend = await opener(uri, durable=durable)
            except BadStoreURI as exc:
                raise BadSetting(key, f"{key}: {exc}") from exc
            opened.push_async_callback(backend.close)
            return backend

        messages = await opening("store", open_backend, _store_uri(settings))
        if settings.control_store in (None, settings.store):
            yield Stores(messages, messages)
        else:
            uri = resolved(settings, settings.control_store)
            yield Stores(messages, await opening("control_store", open_control, uri))


def _store_uri(settings: Settings) -> str:
    return resolved(settings, settings.store)


def resolved(settings: Settings, store: str) -> str:
    """A store's URI; the embedded one lies in the data directory unless its path is given."""
    if store in ("sqlite:", "sqlite://"):
        path = (Path(settings.data_dir).expanduser() / "sukkal.db").absolute()
        return path.as_uri().replace("file:", "sqlite:", 1)
    return store


class PoolStores:
    """Opens the stores of pools, see `Opener`, as the service's own are opened."""

    def __init__(self, settings: Settings, observers: Sequence[Begin], figures: Figures) -> None:
        """`observers` are told of each call, see `Observed`; what expires is counted in `figures`."""
        self._settings = settings
        self._observers = observers
        self._figures = figures
        self._own = {
            located(resolved(settings, uri))[1]: name
            for name, uri in (("control_store", settings.control_store), ("store", settings.store))
            if uri is not None
        }

    def site(self, uri: str, options: Mapping[str, Any]) -> Site:
        site = Site(*located(resolved(self._settings, uri), options))
        if site.identity in self._own:
            raise BadStoreURI(
                f"The setting {self._own[site.identity]} names this store already, where the records of "
                "pools and queues are kept. A pool needs one of its own."
            )
        return site

    async def open(self, site: Site) -> Backend:
        backend = await open_backend(site.uri, durable=self._settings.durability == "full")
        if self._settings.workers > 1 and Trait.SHARED not in backend.traits:
            await backend.close()
            raise BadStoreURI(
                f"The service runs in {self._settings.workers} processes, and one process only can use this "
                "store. Name one that can be shared, such as redis://localhost."
            )
        backend.figures.messages = self._figures.messages
        for begin in self._observers:
            backend = Observed(backend, begin)
        return backend


def _listeners(settings: Settings, *, shared: bool = False) -> list[socket.socket]:
    """Sockets bound to the ports to serve; `shared` ones can be bound by each worker."""
    listeners = [_listen(settings.host, settings.port, shared=shared)]
    if settings.websocket_port is not None:
        listeners.append(
            _listen(settings.host, settings.websocket_port, flag="--websocket-port", shared=shared)
        )
    return listeners


def _admin_listeners(settings: Settings, *, shared: bool = False) -> list[socket.socket]:
    """A socket for each worker's own port for operators; none when there is none."""
    if settings.admin_port is None:
        return []
    if settings.admin_port + settings.workers - 1 > HIGHEST_PORT:
        raise BadSetting(
            "admin_port",
            f"admin_port is {settings.admin_port}: {settings.workers} workers, each with a port of its own "
            f"from there on, would need ports above {HIGHEST_PORT}.",
        )
    return [
        _listen(
            settings.admin_host,
            settings.admin_port and settings.admin_port + place,
            flag="--admin-port",
            shared=shared,
        )
        for place in range(settings.workers)
    ]


def _listen(host: str, port: int, *, flag: str = "--port", shared: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # connections inherit it; elsewhere they last until TCP gives up
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(GIVEN_UP_AFTER * 1000))
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise AddressInUse(
            f"Cannot listen on {host}:{port}: {exc.strerror}. "
            f"Stop what uses the port, or choose another with {flag}."
        ) from exc
    return listener


def _announce(
    settings: Settings,
    listeners: list[socket.socket],
    admin_listeners: list[socket.socket],
    traits: frozenset[Trait],
) -> None:
    addresses = [_address(listener) for listener in listeners]
    url = f"http://{addresses[0]}"
    if Trait.DURABLE in traits:
        durability = "full: writes are on disk before they are answered"
    elif settings.store.startswith("memory:"):
        durability = "none: everything is gone when the process ends"
    else:
        durability = "relaxed: a crash may lose the last writes"
    sys.stdout.write(
        f"""Sukkal is serving the Messaging API v2 on {url}
  store       {without_credentials(_store_uri(settings))}
{_further(settings)}  durability  {durability}
  websocket   ws://{addresses[-1]}
{_for_operators(admin_listeners)}Try it:
  curl -i {url}/v2/queues/hello/messages -H 'Client-ID: 3381af92-2b9e-11e3-b191-71861300734c' \\
    -H 'X-Project-Id: demo' -H 'Content-Type: application/json' -d '{{"messages": [{{"body": "hello"}}]}}'
Stop with Ctrl-C.
"""
    )
    sys.stdout.flush()


def _for_operators(listeners: list[socket.socket]) -> str:
    urls = ", ".join(f"http://{_address(listener)}" for listener in listeners)
    return f"  admin       {urls}\n" if urls else ""


def _further(settings: Settings) -> str:
    """Lines about what is not as it is by default."""
    lines = []
    if settings.control_store is not None:
        lines.append(f"  control     {without_credentials(resolved(settings, settings.control_store))}\n")
    if settings.workers > 1:
        lines.append(f"  workers     {settings.workers}\n")
    return "".join(lines)


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
