"""Lines are written whole, in order, and without waiting for a reader."""

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from flowworker.telemetry.line_writer import STORE, LineWriter, lines_together


@dataclass
class Pipe:
    """A pipe, with a writer of lines at one end."""

    reading: int
    writing: int
    writer: LineWriter
    rest: bytes = b""

    def read(self, lines: int) -> list[str]:
        """So many lines."""
        while self.rest.count(b"\n") < lines:
            chunk = os.read(self.reading, 1 << 16)
            assert chunk, "the pipe ended"
            self.rest += chunk
        *whole, self.rest = self.rest.split(b"\n", lines)
        return [line.decode() for line in whole]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reading, writing = os.pipe()
    yield Pipe(reading, writing, LineWriter(writing, lost=lambda count: f"{count} lost"))
    os.close(writing)
    os.close(reading)


def test_a_reader_that_keeps_up_sees_each_line_at_once_and_no_thread_is_made(pipe: Pipe) -> None:
    before = threading.active_count()
    for number in range(100):
        pipe.writer.write(str(number))
        assert pipe.read(1) == [str(number)]
    assert threading.active_count() == before


def test_lines_that_come_together_are_written_at_the_end_of_their_block_in_order(pipe: Pipe) -> None:
    os.set_blocking(pipe.reading, False)
    with lines_together():
        for number in range(3):
            pipe.writer.write(str(number))
        with pytest.raises(BlockingIOError):
            os.read(pipe.reading, 1)
    assert os.read(pipe.reading, 100) == b"0\n1\n2\n"


def test_lines_together_are_cut_into_writes_that_no_other_process_tears(pipe: Pipe) -> None:
    lines = [f"{number} {'x' * 1000}" for number in range(20)]
    with lines_together():
        for line in lines:
            pipe.writer.write(line)
    assert pipe.read(20) == lines
    assert not pipe.rest


def test_lines_before_an_exception_are_written(pipe: Pipe) -> None:
    def fail() -> None:
        with lines_together():
            pipe.writer.write("before")
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    pipe.writer.write("after")
    assert pipe.read(2) == ["before", "after"]


def test_another_thread_does_not_wait_for_lines_that_come_together(pipe: Pipe) -> None:
    with lines_together():
        pipe.writer.write("of the block")
        other = threading.Thread(target=pipe.writer.write, args=("of the other",))
        other.start()
        other.join(10)
        assert pipe.read(1) == ["of the other"]
    assert pipe.read(1) == ["of the block"]


def test_a_full_pipe_makes_no_caller_wait_and_loses_no_order(pipe: Pipe) -> None:
    lines = [f"{number} {'x' * 1000}" for number in range(500)]
    for line in lines:
        pipe.writer.write(line)
    assert pipe.read(500) == lines
    pipe.writer.flush(10.0)
    pipe.writer.write("after")
    assert pipe.read(1) == ["after"]


def test_what_does_not_fit_the_store_is_counted(pipe: Pipe) -> None:
    line = "x" * 99_999
    for _ in range(STORE // 100_000 + 30):
        pipe.writer.write(line)
    seen: list[str] = []
    while not seen or not seen[-1].endswith(" lost"):
        seen += pipe.read(1)
    dropped = int(seen[-1].split()[0])
    assert len(seen) - 1 + dropped == STORE // 100_000 + 30
    assert dropped > 0


def test_the_end_of_the_process_waits_only_so_long_for_a_reader(pipe: Pipe) -> None:
    for _ in range(200):
        pipe.writer.write("x" * 1000)
    began = time.monotonic()
    pipe.writer.flush(0.2)
    assert 0.2 <= time.monotonic() - began < 10
    pipe.read(200)


def test_a_reader_that_has_gone_is_no_error(pipe: Pipe) -> None:
    os.close(pipe.reading)
    try:
        for _ in range(3):
            pipe.writer.write("x" * 10_000)
            pipe.writer.write("x")
        pipe.writer.flush(10.0)
    finally:
        pipe.reading = os.open(os.devnull, os.O_RDONLY)


def test_a_forked_copy_writes_its_own_lines_and_not_those_that_wait(pipe: Pipe) -> None:
    for _ in range(100):
        pipe.writer.write("original " + "x" * 1000)
    copy = os.fork()
    if copy == 0:
        pipe.writer.write("copy")
        pipe.writer.flush(10.0)
        os._exit(0)
    lines = pipe.read(101)
    assert os.waitpid(copy, 0)[1] == 0
    assert sum(line == "copy" for line in lines) == 1
