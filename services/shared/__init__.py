"""What every service needs and none owns: clock, ids, settings, errors, telemetry, streams, lifecycle."""
