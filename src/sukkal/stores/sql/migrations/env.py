"""Run by Alembic: with the connection it is called with, or none to write the SQL for somebody to run."""

from alembic import context

from sukkal.stores.sql.schema import SCHEMA_TABLE, metadata

connection = context.config.attributes.get("connection")
if connection is not None:
    context.configure(connection=connection, target_metadata=metadata, version_table=SCHEMA_TABLE)
else:
    context.configure(
        dialect_name=context.config.attributes["dialect"],
        target_metadata=metadata,
        version_table=SCHEMA_TABLE,
        literal_binds=True,
    )
with context.begin_transaction():
    context.run_migrations()
