"""Tables, as the newest migration leaves them.

    sukkal_document   the records: one row each, by kind, project and name
    sukkal_counter    64 numbers; a record's version is the next of the one its place falls to
    sukkal_schema     which migration was the last, kept by Alembic

Texts are stored as their UTF-8 bytes. So they are compared and ordered byte by byte in every database, with
their case, trailing spaces, accents and NULs, whatever its character sets and collations are; SQL shows them
by convert_from(name, 'UTF8') in PostgreSQL, CONVERT(name USING utf8mb4) in MySQL.

A counter only ever grows, and a put holds its row until it has committed: versions of a name grow in the
order of its puts, also over a deletion, which leaves no trace of its own. Which counter a name falls to
(`counter_of`) must never change, nor their number, or versions might go back.

To change the form: add a module to `migrations/versions/`, numbered on from the last, which brings the
tables from there to what is written here, and raise NEWEST; releases that know fewer numbers then refuse to
open the store.
"""

from zlib import crc32

from sqlalchemy import BigInteger, Column, Double, Index, Integer, LargeBinary, MetaData, Table
from sqlalchemy.dialects import mysql

SCHEMA_TABLE = "sukkal_schema"
NEWEST = 1  # the last of the migrations
COUNTERS = 64

KIND_BYTES = 320
TEXT_BYTES = 1024  # 256 characters of four bytes; with the kind, as much as an index of either database takes

metadata = MetaData()


def _text(most: int) -> LargeBinary:
    return LargeBinary().with_variant(mysql.VARBINARY(most), "mysql", "mariadb")


document = Table(
    "sukkal_document",
    metadata,
    Column("kind", _text(KIND_BYTES), primary_key=True),
    Column("project", _text(TEXT_BYTES), primary_key=True),
    Column("name", _text(TEXT_BYTES), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("value", LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb"), nullable=False),
    Column("expires", Double(), nullable=True),  # s since epoch; gone from then on, or never
    Index("sukkal_document_expires", "expires"),
    mysql_engine="InnoDB",
    mysql_row_format="DYNAMIC",
)

counter = Table(
    "sukkal_counter",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("value", BigInteger, nullable=False),
    mysql_engine="InnoDB",
)


def counter_of(kind: bytes, project: bytes, name: bytes) -> int:
    return crc32(b"\0".join((kind, project, name))) % COUNTERS
