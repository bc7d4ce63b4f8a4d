"""The driver layer: SQLAlchemy Core on three async drivers, own pools and statements."""
