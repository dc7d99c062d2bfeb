"""A picture in memory that is cheap to draw in columns, as a waveform is."""

from __future__ import annotations

from collections.abc import Iterator

Colour = tuple[int, int, int]


def mix(under: Colour, over: Colour, cover: float) -> Colour:
    """Return `under` with `over` laid on it, 0.0 (nothing of it) to 1.0 (all)."""
    return (
        round(under[0] + (over[0] - under[0]) * cover),
        round(under[1] + (over[1] - under[1]) * cover),
        round(under[2] + (over[2] - under[2]) * cover),
    )


class Canvas:
    """Pixels in red, green and blue planes, column after column: a vertical line is one slice a plane."""

    def __init__(self, width: int, height: int, colour: Colour) -> None:
        """Make a canvas of one colour; width and height in pixels."""
        self.width = width
        self.height = height
        self._planes = [bytearray([value]) * (width * height) for value in colour]

    def fill(self, left: int, top: int, width: int, height: int, colour: Colour) -> None:
        """Fill a rectangle, which must lie inside the canvas."""
        for x in range(left, left + width):
            begin = x * self.height + top
            for plane, value in zip(self._planes, colour, strict=True):
                plane[begin : begin + height] = bytes([value]) * height

    def blend(self, x: int, y: int, colour: Colour, cover: float) -> None:
        """Lay `colour` over one pixel, `cover` from 0.0 to 1.0."""
        at = x * self.height + y
        for plane, value in zip(self._planes, colour, strict=True):
            plane[at] = round(plane[at] + (value - plane[at]) * cover)

    def bar(self, x: int, top: float, bottom: float, ramp: tuple[bytes, bytes, bytes], ramp_top: int) -> None:
        """Draw a vertical bar between two heights that need not be whole pixels; its ends are smoothed.

        `ramp` holds the colour for each row, as planes; its first entry belongs to row `ramp_top`.
        """
        first, last = int(top), min(int(bottom), ramp_top + len(ramp[0]) - 1)
        full_begin, full_end = first + 1, last
        if full_end > full_begin:
            begin = x * self.height
            for plane, values in zip(self._planes, ramp, strict=True):
                plane[begin + full_begin : begin + full_end] = values[full_begin - ramp_top : full_end - ramp_top]
        ends = [(first, bottom - top)] if first == last else [(first, first + 1 - top), (last, bottom - last)]
        for y, cover in ends:
            red, green, blue = (values[y - ramp_top] for values in ramp)
            self.blend(x, y, (red, green, blue), max(0.0, min(1.0, cover)))

    def rows(self) -> Iterator[bytes]:
        """Yield the picture's rows from the top, three bytes a pixel."""
        for y in range(self.height):
            row = bytearray(3 * self.width)
            for channel, plane in enumerate(self._planes):
                row[channel::3] = plane[y :: self.height]
            yield bytes(row)
