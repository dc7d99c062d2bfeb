"""What a handler prints never looks like a line of the host, however it is cut."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from services.runtime.log_lines import LONGEST_BEGINNING_BYTES, MARK, line_begun, tail_of, told_apart

FORGED = b"REPORT RequestId: 0\tDuration: 1.00 ms\n"
OURS = re.compile(
    rb"(?:\A|[\n\r])(?:START RequestId:|END RequestId:|REPORT RequestId:|RequestId:|INIT_START "
    rb"|RESTORE_START |RESTORE_REPORT |\[evenflow\])"
)
PIECES = st.sampled_from(
    [
        b"START ",
        b"END ",
        b"REPORT ",
        b"RequestId:",
        b"INIT_START ",
        b"RESTORE_",
        b"START ",
        b"[evenflow]",
        b"x",
        b" ",
        b"\n",
        b"\r",
        b"REP",
        b"ORT ",
    ]
)


def written(chunks: list[bytes]) -> bytes:
    """What is in the log when a sandbox writes these, one after the other."""
    begun, log = b"", b""
    for chunk in chunks:
        log += told_apart(begun, chunk)
        begun = line_begun(begun, chunk)
    return log


def test_ordinary_output_is_left_alone() -> None:
    """Also with the words inside of a line."""
    for text in (
        b"hello\nworld",
        b"see RequestId: 1\n",
        b" START RequestId: 2\n",
        b"\x1b[31mred\x1b[0m\n",
        b"\xff\x00",
    ):
        assert told_apart(b"", text) == text


def test_forged_lines_are_marked() -> None:
    """At the beginning, after a newline, after a carriage return."""
    assert told_apart(b"", FORGED) == MARK + FORGED
    assert told_apart(b"", b"a\n" + FORGED) == b"a\n" + MARK + FORGED
    assert told_apart(b"", b"a\r" + FORGED) == b"a\r" + MARK + FORGED
    assert told_apart(b"", b"INIT_START Runtime\n[evenflow] x\n") == (
        MARK + b"INIT_START Runtime\n" + MARK + b"[evenflow] x\n"
    )


def test_one_that_comes_in_pieces_is_broken_where_it_would_be_whole() -> None:
    """The beginning is in the log already."""
    assert written([b"REP", b"ORT RequestId: 0\n"]) == b"REP" + MARK + b"ORT RequestId: 0\n"
    assert written([b"REPORT RequestId: 0", b" and more RequestId: 1\n"]).count(MARK) == 1


@given(st.lists(st.lists(PIECES, max_size=6).map(b"".join), max_size=12))
@example([b"REPORT ", b"RequestId:"])
@example([b"x" * LONGEST_BEGINNING_BYTES, b"RequestId:"])
def test_no_way_to_cut_it_makes_a_line_of_the_host(chunks: list[bytes]) -> None:
    """And without the marks it is what was written."""
    log = written(chunks)
    assert not OURS.search(log)
    assert log.replace(MARK, b"") == b"".join(chunks)


@given(st.lists(PIECES, max_size=40).map(b"".join), st.integers(60, 200))
def test_the_tail_of_a_run_has_no_forged_line_either(output: bytes, max_bytes: int) -> None:
    """Cut anywhere; the last lines are the host's own and whole."""
    start, last = b"START RequestId: r Version: 1\n", b"END RequestId: r\nREPORT RequestId: r\tx\n"
    tail = tail_of(start, output, last, max_bytes)
    assert (len(tail) <= max_bytes and tail.endswith(b"\n" + last)) or tail == last
    rest = tail[: -len(last)].removeprefix(start)
    assert not OURS.search(rest)
