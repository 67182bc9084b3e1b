"""What Alembic runs for every command: migrations on the connection that `migrating.py` hands in, or as printed SQL.

There is no alembic.ini: `migrating.py` says all that would stand in it.
"""

from alembic import context

from taxiway_serving.ledger.migrating import META

connection = context.config.attributes["connection"]
if context.is_offline_mode():
    context.configure(
        dialect_name=connection.dialect.name,
        target_metadata=META,
        literal_binds=True,
        output_buffer=context.config.output_buffer,
    )
else:
    context.configure(connection=connection, target_metadata=META)
with context.begin_transaction():
    context.run_migrations()
