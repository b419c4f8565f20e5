"""The journal of executions is read while workers write it."""

from dataclasses import asdict
from pathlib import Path

import orjson
from testkit.support.journal import BEGIN, JOURNAL, Entry, read

FIRST = Entry(what=BEGIN, execution="e1", owner="run", step="only", index=0, attempt=1, worker="a", pid=1, at=1)


def test_a_line_that_is_being_written_is_left_for_later(tmp_path: Path) -> None:
    assert read(tmp_path) == []
    line = orjson.dumps(asdict(FIRST)) + b"\n"
    for written, whole in ((line[:9], []), (line[:-1], []), (line, [FIRST]), (line + line[:-1], [FIRST])):
        (tmp_path / JOURNAL).write_bytes(written)
        assert read(tmp_path) == whole
