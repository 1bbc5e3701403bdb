"""One owner per library or medium: settings, database, journal, secrets, telemetry."""
