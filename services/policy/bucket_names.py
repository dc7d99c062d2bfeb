"""Names of buckets as S3 takes them. Pure."""

import re

from services.policy.rules import RuleBroken

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def check_bucket_name(field_name: str, bucket: str) -> None:
    """Pass for 3 to 63 characters of [a-z0-9.-] as S3 takes them. RuleBroken."""
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise RuleBroken(
            field_name,
            f"{bucket[:80]!r} is no bucket name: 3 to 63 characters of a-z 0-9 . -, a letter or digit at both ends",
        )
