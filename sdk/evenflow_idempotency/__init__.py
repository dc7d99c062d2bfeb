"""A table for AWS Lambda Powertools' idempotency utility, in a bucket of Evenflow instead of in DynamoDB."""

from .sqlite_layer import SqlitePersistenceLayer

__all__ = ["SqlitePersistenceLayer"]
