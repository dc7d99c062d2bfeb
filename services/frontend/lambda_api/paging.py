"""Marker and MaxItems: pages of lists that are at hand whole, and markers that nobody needs to understand."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from services.frontend.lambda_api.errors import bad_value

T = TypeVar("T")
# AWS answers at most so many, whatever is asked for.
MAX_PAGE = 50
MAX_MARKER_CHARACTERS = 4_096


def page_of(
    items: Sequence[T], key: Callable[[T], str], params: Mapping[str, Any], most: int = MAX_PAGE
) -> tuple[Sequence[T], str | None]:
    """A page of items that stand in order, and the next one's marker, which names the last item before it.

    `key`: what names an item for good. bad_value: the marker's item is gone, or it is no marker.
    """
    start = 0
    marker = params.get("Marker")
    if marker:
        last = read_marker(marker)
        keys = [key(item) for item in items]
        if last not in keys:
            raise bad_value("Marker is not of this list, or what it names is gone: begin again without it")
        start = keys.index(last) + 1
    end = start + size_of(params, most)
    page = items[start:end]
    return page, make_marker(key(page[-1])) if end < len(items) else None


def size_of(params: Mapping[str, Any], most: int = MAX_PAGE) -> int:
    """How many items a page has."""
    return min(params.get("MaxItems") or most, most)


def make_marker(text: str) -> str:
    """A marker that means this text."""
    return base64.urlsafe_b64encode(text.encode()).decode()


def read_marker(marker: str) -> str:
    """What a marker means. bad_value: it is none."""
    try:
        if len(marker) > MAX_MARKER_CHARACTERS:
            raise ValueError
        return base64.b64decode(marker.encode("ascii"), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise bad_value("Marker must be what the page before answered as NextMarker") from None
