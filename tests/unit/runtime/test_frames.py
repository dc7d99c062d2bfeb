"""The wire to a sandbox: what goes in comes out, whatever the cuts; what does not fit is refused."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.sandbox import frames


@given(st.binary(max_size=300), st.binary(max_size=50), st.integers(1, 40))
def test_frames_survive_any_cut(payload: bytes, arn: bytes, step: int) -> None:
    """Three frames in pieces of any size are the same three frames."""
    frame = frames.pack_invoke(b"i" * 16, 7, arn, b"", b"", payload)
    result = frames.pack_result(b"i" * 16, 1, 2, 3, payload, "E", "m")
    stream = frame + result + frame
    assembler = frames.Assembler()
    found = [one for at in range(0, len(stream), step) for one in assembler.feed(stream[at : at + step])]
    assert found == [frame, result, frame]
    assert frames.parse_invoke(frame).payload == payload and frames.parse_invoke(frame).arn == arn
    parsed = frames.parse_result(result)
    assert parsed.payload == payload and parsed.is_error and parsed.error_type == b"E"


@given(st.binary(max_size=200))
def test_hostile_bytes_are_refused_or_parsed_never_worse(data: bytes) -> None:
    """ValueError is the only way out."""
    try:
        for frame in frames.Assembler(limit=100).feed(data):
            frames.parse_result(frame)
    except ValueError:
        pass


def test_a_frame_over_the_bound_is_refused_before_it_is_there() -> None:
    """Its length alone is enough."""
    with pytest.raises(ValueError, match="over the bound"):
        frames.Assembler().feed(struct.pack("!I", frames.MAX_FRAME_BYTES + 1))


def test_sizes_that_do_not_add_up_are_refused() -> None:
    """One byte too many or too few."""
    frame = frames.pack_result(b"i" * 16, 1, 2, 3, b"{}")
    for broken in (frame + b"x", frame[:-1]):
        with pytest.raises(ValueError, match="add up"):
            frames.parse_result(broken)


def test_a_result_cannot_be_an_error_without_type() -> None:
    """And no success with one."""
    frame = bytearray(frames.pack_result(b"i" * 16, 1, 2, 3, b"{}"))
    frame[21] = 1
    with pytest.raises(ValueError, match="contradicts"):
        frames.parse_result(bytes(frame))
