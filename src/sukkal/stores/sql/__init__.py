"""Records of queues in an SQL database: PostgreSQL, MySQL or MariaDB. Messages lie elsewhere.

URIs: `uri.py`; tables: `schema.py`; how they change: `migrate.py`. Needs the extra `sukkal[sql]`.
"""

from sukkal.errors import BadStoreURI
from sukkal.stores.contract import ControlBackend, Documents, Form, Trait
from sukkal.stores.sql import migrate
from sukkal.stores.sql.database import Database, Kind
from sukkal.stores.sql.documents import SqlDocuments
from sukkal.stores.sql.mysql import Mysql
from sukkal.stores.sql.postgresql import Postgresql
from sukkal.stores.sql.schema import NEWEST
from sukkal.stores.sql.uri import OPTIONS as OPTIONS
from sukkal.stores.sql.uri import Options, parse
from sukkal.tally import StoreFigures


class SqlBackend:
    def __init__(self, database: Database, *, durable: bool) -> None:
        self._database = database
        self._durable = durable
        self.documents: Documents = SqlDocuments(database)
        self.figures = StoreFigures()

    @property
    def traits(self) -> frozenset[Trait]:
        """What holds now: how a database syncs can be changed while it runs."""
        if self._durable and self._database.syncs:
            return frozenset({Trait.SHARED, Trait.DURABLE})
        return frozenset({Trait.SHARED})

    async def open(self) -> None:
        """Bring the tables to the newest form; raises StoreUnavailable."""
        await migrate.bring_up_to_date(self._database)
        await self.ping()

    async def ping(self) -> None:
        await self._database.ping()
        if self._durable:
            self._database.warn_unless_synced()

    async def close(self) -> None:
        await self._database.close()


def _database(uri: str, *, durable: bool) -> Database:
    options = parse(uri)
    try:
        return Database(options, _kind(options, durable=durable))
    except OSError as exc:
        raise BadStoreURI(
            f"A file that the {options.scheme}: URI names for TLS cannot be used: {exc.strerror or exc}."
        ) from exc


def _kind(options: Options, *, durable: bool) -> Kind:
    return Postgresql(options, durable=durable) if options.scheme == "postgresql" else Mysql(options)


def identity(uri: str) -> str:
    """Raises BadStoreURI."""
    return parse(uri).identity


async def inspect(uri: str) -> Form:
    database = _database(uri, durable=True)
    try:
        return Form(await migrate.stored_version(database), NEWEST)
    finally:
        await database.close()


async def open_backend(uri: str, *, durable: bool = True) -> ControlBackend:
    """Raises BadStoreURI, StoreUnavailable."""
    backend = SqlBackend(_database(uri, durable=durable), durable=durable)
    try:
        await backend.open()
    except BaseException:
        await backend.close()
        raise
    return backend
