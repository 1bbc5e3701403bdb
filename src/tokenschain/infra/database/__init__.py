"""SQLite and PostgreSQL: engine, tables, transfer."""
