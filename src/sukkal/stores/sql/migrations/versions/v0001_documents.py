"""Records and their counters.

Written so that it can run again where MySQL, which commits each statement by itself, was stopped halfway.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None

COUNTERS = 64


def text(most: int) -> sa.LargeBinary:
    return sa.LargeBinary().with_variant(mysql.VARBINARY(most), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "sukkal_document",
        sa.Column("kind", text(320), primary_key=True),
        sa.Column("project", text(1024), primary_key=True),
        sa.Column("name", text(1024), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column(
            "value", sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb"), nullable=False
        ),
        sa.Column("expires", sa.Double(), nullable=True),
        mysql_engine="InnoDB",
        mysql_row_format="DYNAMIC",
        if_not_exists=True,
    )
    if not _has_index():
        op.create_index("sukkal_document_expires", "sukkal_document", ["expires"])
    op.create_table(
        "sukkal_counter",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        mysql_engine="InnoDB",
        if_not_exists=True,
    )
    numbers = " UNION ALL SELECT ".join(map(str, range(1, COUNTERS)))
    op.execute(
        f"INSERT INTO sukkal_counter SELECT n, 0 FROM (SELECT 0 AS n UNION ALL SELECT {numbers}) AS numbers "
        "WHERE n NOT IN (SELECT number FROM sukkal_counter)"
    )


def _has_index() -> bool:
    context = op.get_context()
    if context.as_sql or context.bind is None:  # SQL is only written; who runs it begins with nothing
        return False
    found = sa.inspect(context.bind).get_indexes("sukkal_document")
    return any(index["name"] == "sukkal_document_expires" for index in found)
