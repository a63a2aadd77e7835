"""Redis over TLS, with real servers and certificates made here."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from certificates import Authority
from redis_servers import DURABLE, RedisServer, binary, free_port, started

from sukkal.errors import StoreUnavailable
from sukkal.model import QueueKey
from sukkal.stores.contract import Trait
from sukkal.stores.registry import open_backend

from .samples import NOW, QUEUE, ids, lease, message, numbered, walk

QUICK = "timeout=5&connect_timeout=5"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours", "Our authority")


@contextmanager
def over_tls(authority: Authority, name: str, *options: str, clients: str = "no") -> Iterator[RedisServer]:
    """A server with a certificate for that name, which also has a plain port to be looked after by.

    `clients` says whether they need a certificate of the same authority.
    """
    certificate, key = authority.sign(name)
    tls = ("--tls-port", str(free_port()), "--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    trust = ("--tls-ca-cert-file", str(authority.certificate), "--tls-auth-clients", clients)
    with started(*DURABLE, *tls, *trust, *options) as server:
        yield server


def uri(server: RedisServer, options: str, host: str = "127.0.0.1") -> str:
    return f"rediss://{host}:{server.option('--tls-port')}/?{QUICK}&{options}"


async def test_store_works_over_tls(authority: Authority) -> None:
    with over_tls(authority, "127.0.0.1") as server:
        writer = await open_backend(uri(server, f"ca={authority.certificate}"))
        reader = await open_backend(uri(server, f"ca={authority.certificate}"))
        try:
            assert Trait.DURABLE in writer.traits
            await writer.messages.append(QUEUE, [message("large", body=b'"' + b"x" * 1_000_000 + b'"')])
            await writer.messages.append(QUEUE, numbered(200))
            assert ids(await walk(reader.messages, limit=50)) == ["large", *ids(numbered(200))]
            assert len(await reader.messages.claim(QUEUE, lease("c1"), limit=20, now=NOW)) == 20
        finally:
            await writer.close()
            await reader.close()


async def refused(uri: str) -> str:
    """Why."""
    with pytest.raises(StoreUnavailable) as caught:
        await open_backend(uri)
    return str(caught.value)


async def test_server_whose_authority_is_not_trusted_is_refused(authority: Authority, tmp_path: Path) -> None:
    others = Authority(tmp_path / "others", "Another authority")
    with over_tls(authority, "127.0.0.1") as server:
        for options in (f"ca={others.certificate}", "timeout=5"):  # the system's do not know ours either
            assert "certificate" in (await refused(uri(server, options))).lower()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.2"])
async def test_server_with_a_certificate_for_another_host_is_refused(authority: Authority, name: str) -> None:
    with over_tls(authority, name) as server:
        assert "not valid for '127.0.0.1'" in await refused(uri(server, f"ca={authority.certificate}"))


async def test_server_is_known_by_its_host_name(authority: Authority) -> None:
    with over_tls(authority, "localhost") as server:
        backend = await open_backend(uri(server, f"ca={authority.certificate}", host="localhost"))
        await backend.ping()
        await backend.close()


async def test_expired_certificate_is_refused(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.sign("127.0.0.1", days=-1)
    with started(
        *("--tls-port", str(free_port()), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)),
        *("--tls-ca-cert-file", str(authority.certificate), "--tls-auth-clients", "no"),
    ) as server:
        assert "expired" in await refused(uri(server, f"ca={authority.certificate}"))


async def test_server_that_asks_for_our_certificate_gets_it(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.sign("sukkal")
    strange, strange_key = Authority(tmp_path / "others", "Another authority").sign("sukkal")
    ours = tmp_path / "both.pem"
    ours.write_bytes(certificate.read_bytes() + key.read_bytes())
    with over_tls(authority, "127.0.0.1", clients="yes") as server:
        for options in (f"cert={certificate}&key={key}", f"cert={ours}"):
            backend = await open_backend(uri(server, f"ca={authority.certificate}&{options}"))
            await backend.messages.append(QUEUE, numbered(1))
            await backend.close()
        for options in ("timeout=5", f"cert={strange}&key={strange_key}"):
            await refused(uri(server, f"ca={authority.certificate}&{options}"))


async def test_file_that_is_not_there_is_named(authority: Authority) -> None:
    with over_tls(authority, "127.0.0.1") as server:
        assert "No such file" in await refused(uri(server, "ca=/nowhere/ca.crt"))


async def test_plain_connections_and_tls_do_not_mix_silently(authority: Authority) -> None:
    with over_tls(authority, "127.0.0.1") as server:
        await refused(f"redis://127.0.0.1:{server.option('--tls-port')}/?{QUICK}")
        await refused(f"rediss://127.0.0.1:{server.port}/?{QUICK}&ca={authority.certificate}")


async def test_sentinels_and_their_group_over_tls(authority: Authority, tmp_path: Path) -> None:
    """Sentinels hand out addresses, so certificates are for those."""
    certificate, key = authority.sign("127.0.0.1")
    with ExitStack() as undo:
        primary = undo.enter_context(over_tls(authority, "127.0.0.1"))
        file = tmp_path / "sentinel.conf"
        file.write_text(
            f"sentinel monitor main 127.0.0.1 {primary.option('--tls-port')} 1\n"
            f"tls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {authority.certificate}\n"
            f"tls-port {(tls := free_port())}\ntls-auth-clients no\ntls-replication yes\n"
        )
        sentinel = RedisServer(tmp_path / "sentinel", program=(binary(), str(file), "--sentinel"))
        undo.callback(sentinel.kill)
        backend = await open_backend(
            f"redis+sentinel://127.0.0.1:{tls}/main?{QUICK}&tls=true&ca={authority.certificate}"
        )
        await backend.messages.append(QueueKey("acme", "safe"), numbered(1))
        await backend.close()
        assert b"acme/safe" in primary.ask("KEYS", "*c:acme/safe")
