"""Alembic migrations of the state database, run by ``iredapi.state.migrate``.

To change a table: edit ``iredapi/state/tables.py`` and write the next file in
``versions`` by hand. On MariaDB every DDL statement commits, so a migration must be able
to run again after it broke half-way. A published file never changes.
"""
