"""Alembic's hook: run the migrations on the connection, and in the transaction, that `store.migrate` hands over."""

from alembic import context

from finetune.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
