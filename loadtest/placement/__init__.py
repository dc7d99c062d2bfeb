"""Where events land: the depths of a real queue's shards under each shard-choice policy, beside what theory expects."""
