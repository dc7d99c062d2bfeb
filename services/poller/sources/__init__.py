"""Event sources: buckets whose new objects become S3 events, SQS queues in batches, schedules."""
