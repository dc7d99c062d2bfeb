"""The HTTP load generator against a real socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from loadtest.bench.http_client import HttpLoad, HttpLoadError, invoke_request, whole_response_bytes
from tests.kit.waiting import eventually

ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nx-amzn-RequestId: 1\r\n\r\n"


class Door:
    """Answers every whole request with the same bytes, in pieces of `piece_bytes`."""

    def __init__(self, answer: bytes, piece_bytes: int = 65_536, hang_up_after: int = 1 << 30) -> None:
        self.answer = answer
        self.piece_bytes = piece_bytes
        self.hang_up_after = hang_up_after
        self.connections = self.requests = self.sent_bytes = self.open = self.most_open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            while self.requests < self.hang_up_after:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                self.requests += 1
                self.open += 1
                self.most_open = max(self.most_open, self.open)
                # Every other connection gets its turn before this one answers.
                await asyncio.sleep(0)
                self.open -= 1
                for at in range(0, len(self.answer), self.piece_bytes):
                    piece = self.answer[at : at + self.piece_bytes]
                    self.sent_bytes += len(piece)
                    writer.write(piece)
                    await writer.drain()
                    # The caller gets this piece by itself.
                    await asyncio.sleep(0)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(door: Door) -> AsyncIterator[int]:
    """The port that the door listens on."""
    server = await asyncio.start_server(door.serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_it_sends_as_many_as_asked_over_its_connections() -> None:
    """Exactly so many requests, over kept-alive connections, again and again."""
    door = Door(ACCEPTED)
    async with listening(door) as port:
        async with HttpLoad("127.0.0.1", port, invoke_request("h", "f", b'"x"'), 8) as load:
            await load.send(100)
            assert door.requests == 100
            await load.send(3)
        assert (door.requests, door.connections) == (103, 8)
        assert 1 < door.most_open <= 8


async def test_an_answer_may_come_in_pieces() -> None:
    """One byte at a time, with a body: the next request waits for the last byte."""
    door = Door(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", piece_bytes=1)
    async with listening(door) as port, HttpLoad("127.0.0.1", port, invoke_request("h", "f", b""), 1, b"200") as load:
        for number in range(1, 6):
            await load.send(1)
            assert door.sent_bytes == number * len(door.answer)
        await load.send(20)
    assert door.requests == 25


async def test_another_status_ends_the_run() -> None:
    """A refusal is never counted as an accepted event, and its text is shown."""
    door = Door(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\nno")
    async with listening(door) as port, HttpLoad("127.0.0.1", port, invoke_request("h", "f", b""), 4) as load:
        with pytest.raises(HttpLoadError, match="429 Too Many"):
            await load.send(10)


async def test_a_door_that_hangs_up_ends_the_run() -> None:
    """No answer is invented for what was under way."""
    door = Door(ACCEPTED, hang_up_after=5)
    async with listening(door) as port, HttpLoad("127.0.0.1", port, invoke_request("h", "f", b""), 2) as load:
        with pytest.raises(HttpLoadError, match="hung up"):
            await load.send(50)


async def test_a_connection_lost_between_two_runs_is_told_at_the_next() -> None:
    """An idle connection that the door closed is no broken transport."""
    door = Door(ACCEPTED, hang_up_after=1)
    async with listening(door) as port, HttpLoad("127.0.0.1", port, invoke_request("h", "f", b""), 1) as load:
        await load.send(1)
        await eventually(lambda: load.is_broken)
        with pytest.raises(HttpLoadError, match="hung up"):
            await load.send(1)


def test_what_is_no_response_is_refused() -> None:
    """A response without a length, or a head without end."""
    with pytest.raises(HttpLoadError, match="without length"):
        whole_response_bytes(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n")
    with pytest.raises(HttpLoadError, match="does not end"):
        whole_response_bytes(b"x" * 20_000)
    assert whole_response_bytes(b"HTTP/1.1 200 OK\r\nContent-") == 0
    assert whole_response_bytes(ACCEPTED + ACCEPTED) == len(ACCEPTED)
