"""The Lambda API but for its invocations: driven from AWS's own service model (ADR 16)."""
