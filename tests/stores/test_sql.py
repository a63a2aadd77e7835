"""What is the databases' own in that store: races, migrations, lost connections, servers that do not sync."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sql_servers import IN_URI, KINDS, PASSWORD, SHARED, USER, SqlServer, started
from sqlalchemy.ext.asyncio import AsyncConnection

from sukkal.errors import StoreUnavailable
from sukkal.stores.contract import ControlBackend, Documents, Form, Shelf, Trait
from sukkal.stores.registry import inspect, open_control
from sukkal.stores.sql import SqlBackend, migrate
from sukkal.stores.sql.schema import COUNTERS, NEWEST, counter_of, metadata

from .samples import NOW

SHELF = Shelf("queue", "acme")
QUICK = "timeout=1&connect_timeout=1"
PATIENT = "timeout=30&connect_timeout=30"

each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest) -> str:
    """The URI of an empty database, on a server that other tests use too."""
    return SHARED.server(request.param).new_database()


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[SqlServer]:
    """A server that this test alone may stop."""
    with started(request.param) as server:
        yield server


@asynccontextmanager
async def opened(uri: str, options: str = PATIENT, *, durable: bool = True) -> AsyncIterator[ControlBackend]:
    backend = await open_control(f"{uri}?{options}", durable=durable)
    try:
        yield backend
    finally:
        await backend.close()


def asked(uri: str, *statements: str) -> str:
    """What the server's own client answers about a database."""
    scheme, name = uri.partition(":")[0], uri.rpartition("/")[2]
    kind = "postgresql" if scheme == "postgresql" else "mariadb"
    return SHARED.server(kind).sql(*statements, database=name).strip()


async def put(documents: Documents, name: str, value: bytes = b"{}", **options: Any) -> int:
    version = await documents.put(SHELF, name, value, expect=None, **{"now": NOW, **options})
    assert version is not None
    return version


async def unavailable(call: Callable[[], Awaitable[object]], *, within: float) -> str:
    """The words of the refusal, which comes in time."""
    async with asyncio.timeout(within):
        with pytest.raises(StoreUnavailable) as caught:
            await call()
    return str(caught.value)


async def until_available(call: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await call()
            except StoreUnavailable:
                await asyncio.sleep(0.01)
            else:
                return


# Races. Backends of one test share nothing but the database, as processes do.


async def test_no_increment_of_several_processes_is_lost(database: str) -> None:
    async with AsyncExitStack() as stack:
        backends = [await stack.enter_async_context(opened(database)) for _ in range(3)]
        await put(backends[0].documents, "n", b"0")
        outrun = 0

        async def increment(documents: Documents, times: int) -> None:
            nonlocal outrun
            while times:
                found = await documents.get(SHELF, "n", now=NOW)
                assert found is not None
                value = b"%d" % (int(found.value) + 1)
                if await documents.put(SHELF, "n", value, expect=found.version, now=NOW):
                    times -= 1
                else:
                    outrun += 1

        await asyncio.gather(*(increment(backend.documents, 10) for backend in backends for _ in range(4)))
        found = await backends[0].documents.get(SHELF, "n", now=NOW)
        assert found is not None
        assert found.value == b"120"
        assert outrun, "they never met"


async def test_versions_grow_whoever_puts_and_deletes(database: str) -> None:
    """Whatever is put after something else was answered has a higher version, whoever asked."""
    async with AsyncExitStack() as stack:
        backends = [await stack.enter_async_context(opened(database)) for _ in range(3)]
        highest: dict[str, int] = {}
        seen: list[tuple[str, int]] = []

        async def write(documents: Documents, who: int) -> None:
            for turn in range(25):
                name = f"n{(who + turn) % 3}"
                before = highest.get(name, 0)
                match (who + turn) % 4:
                    case 0:
                        await documents.delete(SHELF, name)
                        version = None
                    case 1:
                        version = await documents.put(SHELF, name, b"new", expect=0, now=NOW)
                    case 2:
                        found = await documents.get(SHELF, name, now=NOW)
                        expect = found.version if found else 0
                        version = await documents.put(SHELF, name, b"next", expect=expect, now=NOW)
                    case _:
                        version = await put(documents, name, expires=NOW + turn % 2)
                if version is not None:
                    assert version > before
                    seen.append((name, version))
                    highest[name] = max(version, highest.get(name, 0))

        writers = [write(backend.documents, who) for who, backend in enumerate(backends * 4)]
        await asyncio.gather(*writers)
        assert len(set(seen)) == len(seen) > 50


async def test_one_process_of_many_creates(database: str) -> None:
    async with AsyncExitStack() as stack:
        backends = [await stack.enter_async_context(opened(database)) for _ in range(4)]
        for turn in range(20):
            answers = await asyncio.gather(
                *(
                    backend.documents.put(SHELF, f"q{turn}", b"%d" % number, expect=0, now=NOW)
                    for number, backend in enumerate(backends)
                )
            )
            assert len([answer for answer in answers if answer is not None]) == 1


# Names and values


async def test_names_may_be_any_text(database: str) -> None:
    """Also such as no text column takes: with NULs, with halves of surrogates, of 256 wide characters."""
    odd = [
        "",
        "a",
        "A",
        "a ",
        "a\0",
        "a\0b",
        "\ud800",
        "\uffff",
        "\U0010ffff" * 256,
        "é",
        "e\u0301",
        "ß",
        "ss",
    ]
    shelf = Shelf(f"subscription/{'q' * 64}", "\U0001f600" * 256)
    async with opened(database) as backend:
        for name in odd:
            assert await backend.documents.put(
                shelf, name, name.encode("utf-8", "surrogatepass"), expect=0, now=NOW
            )
        found = await backend.documents.scan(shelf, after="", limit=100, now=NOW)
        ordered = sorted(odd, key=lambda name: name.encode("utf-8", "surrogatepass"))
        assert [each.name for each in found] == ordered[1:], "all that come after the empty name"
        for name in odd:
            each = await backend.documents.get(shelf, name, now=NOW)
            assert each is not None
            assert each.value == name.encode("utf-8", "surrogatepass")


async def test_what_expired_is_deleted_by_those_who_put_what_will(database: str) -> None:
    async with opened(database) as backend:
        for number in range(30):
            await put(backend.documents, f"old{number}", expires=NOW + 60)
        assert asked(database, "SELECT count(*) FROM sukkal_document") == "30"
        for number in range(10):
            await put(backend.documents, f"new{number}", now=NOW + 60, expires=NOW + 120)
        assert asked(database, "SELECT count(*) FROM sukkal_document") == "10"
        assert await backend.documents.count(SHELF, now=NOW + 60) == 10


def test_counter_of_a_name_never_changes() -> None:
    """The versions of stored names would go back."""
    assert [counter_of(b"queue", b"acme", b"orders"), counter_of(b"", b"", b"")] == [37, 63]
    assert COUNTERS == 64


# Forms


async def test_form_is_told_without_changing_anything(database: str) -> None:
    assert await inspect(database) == Form(None, NEWEST)
    assert await inspect(database) == Form(None, NEWEST)
    async with opened(database):
        assert await inspect(database) == Form(NEWEST, NEWEST)


async def test_many_that_start_at_once_make_the_tables_once(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sukkal")
    async with AsyncExitStack() as stack:
        contexts = [stack.enter_async_context(opened(database)) for _ in range(8)]
        backends = await asyncio.gather(*contexts)
        for number, backend in enumerate(backends):
            await put(backend.documents, f"n{number}")
        assert await backends[0].documents.count(SHELF, now=NOW) == 8
    assert caplog.text.count("schema brought from version none to") == 1


async def test_newer_form_is_refused(database: str) -> None:
    async with opened(database):
        pass
    asked(database, "UPDATE sukkal_schema SET version_num = '0099'")
    assert await inspect(database) == Form(99, NEWEST)
    said = await unavailable(lambda: open_control(database), within=30)
    assert said == (
        f"The records have schema version 99, this release knows {NEWEST}: start the release that wrote "
        "them, or a later one."
    )


async def test_migration_that_was_stopped_halfway_is_done_again(database: str) -> None:
    """MySQL keeps what was done before; so may who restores a part of a copy."""
    async with opened(database) as backend:
        version = await put(backend.documents, "kept")
    number = counter_of(b"queue", b"acme", b"kept")
    asked(database, "DROP TABLE sukkal_schema", f"DELETE FROM sukkal_counter WHERE number <> {number}")
    drop = "DROP INDEX sukkal_document_expires"
    asked(database, drop if database.startswith("postgresql") else f"{drop} ON sukkal_document")
    async with opened(database) as backend:
        assert await backend.documents.get(SHELF, "kept", now=NOW) is not None
        assert await put(backend.documents, "kept") > version
    assert asked(database, "SELECT count(*) FROM sukkal_counter") == str(COUNTERS)


async def test_tables_are_as_the_migrations_leave_them(database: str) -> None:
    def differences(connection: Any) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"version_table": "sukkal_schema"})
        return list(compare_metadata(context, metadata))

    async def compare(connection: AsyncConnection) -> list[Any]:
        return await connection.run_sync(differences)

    async with opened(database) as backend:
        assert isinstance(backend, SqlBackend)
        assert await backend._database.call(compare) == []


def test_newest_form_is_the_last_migration() -> None:
    revisions = list(ScriptDirectory.from_config(migrate.configuration()).walk_revisions())
    assert [int(each.revision) for each in revisions] == list(range(NEWEST, 0, -1))


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
def test_migrations_can_be_written_out_for_somebody_to_run(
    dialect: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = migrate.configuration()
    config.attributes["dialect"] = dialect
    command.upgrade(config, "head", sql=True)
    written = capsys.readouterr().out
    assert "CREATE TABLE" in written
    assert "INSERT INTO sukkal_schema" in written


# Connections


@each_kind
async def test_wrong_password_is_told_without_showing_anything_of_it(kind: str) -> None:
    server = SHARED.server(kind)
    name = server.new_database().rpartition("/")[2]
    said = await unavailable(lambda: open_control(server.uri(name, password="wr0ng")), within=30)
    assert said.endswith("it refuses the user or the password in the store's URI.")
    assert "wr0ng" not in said
    assert USER not in said


@each_kind
async def test_database_that_does_not_exist_is_told(kind: str) -> None:
    said = await unavailable(lambda: open_control(SHARED.server(kind).uri("tnowhere")), within=30)
    assert "tnowhere" in said
    assert IN_URI not in said
    assert PASSWORD not in said


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_address_where_nobody_listens_is_told(scheme: str) -> None:
    said = await unavailable(lambda: open_control(f"{scheme}://u:secret@127.0.0.1:1/d"), within=10)
    assert "127.0.0.1:1" in said
    assert "secret" not in said


async def test_acknowledged_records_outlive_a_crash_of_the_server(server: SqlServer) -> None:
    async with opened(server.new_database(), QUICK) as backend:
        versions = [await put(backend.documents, f"n{number}") for number in range(20)]
        server.kill()
        for _ in range(3):
            await unavailable(backend.ping, within=3)
            await unavailable(lambda: backend.documents.get(SHELF, "n0", now=NOW), within=3)
            await unavailable(lambda: put(backend.documents, "n0"), within=3)
        server.start()
        await until_available(backend.ping)
        assert await backend.documents.count(SHELF, now=NOW) == 20
        for number, version in enumerate(versions):
            assert await put(backend.documents, f"n{number}") > version


async def test_server_that_was_restarted_meanwhile_is_used_at_once(server: SqlServer) -> None:
    """Nobody gets an error for connections that were lost while nobody used them."""
    async with opened(server.new_database()) as backend:
        await asyncio.gather(*(put(backend.documents, f"n{number}") for number in range(16)))
        await asyncio.to_thread(server.kill)  # beside the event loop, as servers are
        await asyncio.to_thread(server.start)
        found = await asyncio.gather(*(backend.documents.get(SHELF, f"n{n}", now=NOW) for n in range(16)))
        assert None not in found


async def test_server_that_hangs_holds_nobody_up_for_long(server: SqlServer) -> None:
    async with opened(server.new_database(), QUICK) as backend:
        await put(backend.documents, "a")
        with server.stopped():
            calls = [
                unavailable(lambda: backend.documents.get(SHELF, "a", now=NOW), within=8) for _ in range(40)
            ]
            said = await asyncio.gather(*calls)
            assert "did not answer within 1 s" in said[0]
        await until_available(lambda: put(backend.documents, "a"))


async def test_closing_is_not_held_up_by_a_server_that_hangs(server: SqlServer) -> None:
    backend = await open_control(f"{server.new_database()}?{QUICK}")
    with server.stopped():
        hanging = asyncio.create_task(unavailable(lambda: put(backend.documents, "a"), within=8))
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await backend.close()
        await hanging


# What is promised


async def test_databases_are_durable_and_shared_as_they_come(database: str) -> None:
    async with opened(database) as backend:
        assert backend.traits == {Trait.SHARED, Trait.DURABLE}
    async with opened(database, durable=False) as backend:
        assert backend.traits == {Trait.SHARED}


UNSYNCED = [("postgresql", ("-c", "fsync=off")), ("mariadb", ("--innodb-flush-log-at-trx-commit=2",))]
UNSYNCED.append(("mariadb", ("--log-bin=binlog", "--server-id=1", "--sync-binlog=0")))


@pytest.mark.parametrize("kind, options", UNSYNCED)
async def test_server_that_does_not_sync_is_not_durable_and_says_so(
    kind: str, options: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    with started(kind, *options) as server:
        async with opened(server.new_database()) as backend:
            assert backend.traits == {Trait.SHARED}
            await backend.ping()
            assert caplog.text.count("a crash of the machine may lose the last writes. Set ") == 1
            assert f"127.0.0.1:{server.port}" in caplog.text
            assert PASSWORD not in caplog.text


async def test_change_of_how_a_server_syncs_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    with started("mariadb") as server:
        async with opened(server.new_database()) as backend:
            assert Trait.DURABLE in backend.traits
            server.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 0")
            await backend.ping()
            assert Trait.DURABLE not in backend.traits
            assert "innodb_flush_log_at_trx_commit" in caplog.text
            server.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
            await backend.ping()
            assert Trait.DURABLE in backend.traits


async def test_postgresql_is_asked_to_sync_where_its_default_is_not_to() -> None:
    with started("postgresql", "-c", "synchronous_commit=off") as server:
        async with opened(server.new_database()) as backend:
            assert Trait.DURABLE in backend.traits
