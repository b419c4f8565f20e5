"""How a worker or a pool ended."""

from flowworker.errors import DataError, ExitCode, InternalError
from flowworker.runtime.exits import Exit, SlotsExhaustedError, asked_for, caused_by, worst


def test_an_exit_knows_its_code_and_whether_starting_again_helps() -> None:
    assert (asked_for("drained").code, asked_for("drained").permanent) == (ExitCode.DRAINED, True)
    assert (caused_by(RuntimeError("x")).code, caused_by(RuntimeError("x")).permanent) == (ExitCode.INTERNAL, False)
    assert caused_by(InternalError("x")).permanent is False
    assert caused_by(SlotsExhaustedError("x")).permanent
    assert caused_by(DataError("x")).code is ExitCode.DATA
    assert worst([asked_for("a"), caused_by(DataError("b"))]).code is ExitCode.DATA
    assert isinstance(worst([]), Exit)
