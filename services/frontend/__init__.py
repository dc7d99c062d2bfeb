"""The doors: gRPC and the AWS Lambda HTTP API."""
