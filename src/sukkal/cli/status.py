"""`sukkal status`: how a running service is, for people."""

import json
import os
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import click

from sukkal import config

TIMEOUT = 5.0
PROJECT = "sukkal-status"


class Line(NamedTuple):
    name: str
    text: str
    well: bool = True


@click.command()
@click.option("--url", help="Where the service is. [default: as the settings have it]")
@click.option("--admin-url", help="Where its admin port is. [default: as the settings have it]")
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    help=f"TOML file of settings. [default: the one named by {config.FILE_VARIABLE}, if any]",
)
def status(url: str | None, admin_url: str | None, file: Path | None) -> None:
    """Tell how a running service is.

    Whether it answers and reaches its store; how each basic operation does, where admin_mode is on; what it
    has done, where there is an admin port.

    Exit status: 0 when all is well, 1 when something is not, 2 for a bad setting.
    """
    if url is None:
        try:
            settings = config.load(file, os.environ, {})
        except config.BadSetting as exc:
            click.echo(f"sukkal: {exc}", err=True)
            sys.exit(2)
        url = _url(settings.host, settings.port)
        if admin_url is None and settings.admin_port:
            admin_url = _url(settings.admin_host, settings.admin_port)
    lines = list(_of_service(url.rstrip("/")))
    if admin_url is not None and lines[0].well:
        lines += _of_operators(admin_url.rstrip("/"))
    click.echo(f"Sukkal at {url}")
    for line in lines:
        click.echo(f"  {line.name:<12}{'' if line.well else 'NOT WELL: '}{line.text}")
    sys.exit(0 if all(line.well for line in lines) else 1)


def _url(host: str, port: int) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - all addresses, so this one too
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Answer(NamedTuple):
    status: int
    body: bytes
    seconds: float


def _ask(url: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Raises OSError when there is no answer."""
    request = urllib.request.Request(url, headers=dict(headers or {}))  # noqa: S310 - the operator names it
    begun = perf_counter()
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            return Answer(answer.status, answer.read(), perf_counter() - begun)
    except urllib.error.HTTPError as refused:
        return Answer(refused.code, refused.read(), perf_counter() - begun)


def _of_service(url: str) -> Iterator[Line]:
    identity = {"Client-ID": str(uuid.uuid4()), "X-Project-Id": PROJECT}
    try:
        ping = _ask(f"{url}/v2/ping", identity)
    except (OSError, ValueError) as exc:
        yield Line("service", f"no answer: {getattr(exc, 'reason', exc)}", well=False)
        return
    yield Line("service", f"answers in {ping.seconds * 1000:.1f} ms")
    if ping.status == 401:
        yield Line("store", "not known: the service asks who you are")
        return
    if ping.status != 204:
        yield Line("store", f"cannot be reached (ping answers {ping.status})", well=False)
        return
    yield Line("store", "reachable")
    health = _ask(f"{url}/v2/health", {**identity, "X-Roles": "admin"})
    if health.status == 404:
        yield Line("operations", "not shown: admin_mode is off")
    elif health.status != 200:
        yield Line("operations", f"not known: health answers {health.status}", well=False)
    else:
        document = json.loads(health.body)
        if "catalog_reachable" in document:
            yield from _of_pools(document)
        else:
            yield from _of_health(document)


def _of_pools(document: dict[str, Any]) -> Iterator[Line]:
    well = document.pop("catalog_reachable")
    yield Line("records", "reachable" if well else "cannot be read", well=well)
    for name, pool in sorted(document.items()):
        if not pool["storage_reachable"]:
            yield Line(f"pool {name}", "cannot be reached", well=False)
            continue
        told = {line.name: line for line in _of_health(pool)}
        texts = [f"{key}: {line.text}" for key, line in told.items()]
        yield Line(f"pool {name}", "; ".join(texts), well=told["operations"].well)


def _of_health(document: dict[str, Any]) -> Iterator[Line]:
    failed = [
        f"{name} (ref {done['ref']})"
        for name, done in document["operation_status"].items()
        if not done["succeeded"]
    ]
    slowest = max(done["seconds"] for done in document["operation_status"].values())
    text = ", ".join(failed) + " failed" if failed else f"all work, the slowest in {slowest * 1000:.1f} ms"
    yield Line("operations", text, well=not failed)
    volume = document["message_volume"]
    if volume is not None:
        yield Line("messages", f"{volume['free']} free, {volume['claimed']} claimed")
    yield Line("durability", "full" if document["durable"] else "relaxed: a crash may lose the last writes")


def _of_operators(url: str) -> Iterator[Line]:
    try:
        ready, metrics = _ask(f"{url}/readyz"), _ask(f"{url}/metrics")
    except (OSError, ValueError) as exc:
        yield Line("admin", f"no answer from {url}: {getattr(exc, 'reason', exc)}", well=False)
        return
    if ready.status == 200:
        yield Line("ready", "yes")
    else:
        yield Line("ready", ready.body.decode(errors="replace").strip(), well=False)
    from prometheus_client.parser import text_string_to_metric_families  # slow to import

    values: dict[str, float] = {}
    queues: list[tuple[float, str]] = []
    for family in text_string_to_metric_families(metrics.body.decode()):
        for sample in family.samples:
            values[sample.name] = values.get(sample.name, 0.0) + sample.value
            if sample.name == "sukkal_queue_messages" and sample.labels["state"] == "free":
                queues.append((sample.value, f"{sample.labels['project']}/{sample.labels['queue']}"))

    def whole(name: str) -> str:
        return f"{values.get(name, 0):.0f}"

    yield Line("requests", f"{whole('sukkal_requests_total')}, {whole('sukkal_waiters')} waiting now")
    yield Line(
        "since start",
        f"{whole('sukkal_messages_posted_total')} messages posted, "
        f"{whole('sukkal_messages_claimed_total')} claimed, "
        f"{whole('sukkal_messages_deleted_total')} deleted, "
        f"{whole('sukkal_messages_dead_lettered_total')} dead-lettered",
    )
    yield Line("memory", f"{values.get('process_resident_memory_bytes', 0) / 2**20:.0f} MiB")
    for free, name in sorted(queues, reverse=True)[:5]:
        yield Line("queue", f"{name}: {free:.0f} free")
