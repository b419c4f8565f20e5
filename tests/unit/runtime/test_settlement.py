"""What follows from the database's answers."""

from uuid import uuid4

from tests.unit.telemetry.samples import WORKER

from flowworker.database.records import RunEnd, RunStatus
from flowworker.runtime.execution.failures import MESSAGE_LIMIT
from flowworker.runtime.loops.settlement import Settlement
from flowworker.telemetry.events import Event, RunFailed


def test_the_error_of_a_run_is_cut_and_shows_no_part_of_a_secret() -> None:
    for before in range(MESSAGE_LIMIT - 40, MESSAGE_LIMIT, 8):
        error = "x" * before + " postgresql://app:hunter2@db/main " + "word " * 500_000
        heard: list[Event] = []
        end = RunEnd(run_id=uuid4(), status=RunStatus.FAILED, duration=1.0, error=error)
        Settlement(worker=WORKER, emit=heard.append).of_run(end)
        (event,) = heard
        assert isinstance(event, RunFailed)
        assert len(event.error) <= MESSAGE_LIMIT
        assert "hunter" not in event.error
