"""A worker process whose wall clock jumps: a day ahead on SIGUSR1, a day back from the truth on SIGUSR2."""

import datetime
import signal
import sys
import time
from types import FrameType

import time_machine

from flowworker.cli import main

DAY = 86_400.0


def jump(number: int, frame: FrameType | None) -> None:
    """Move every clock of Python that is not monotonic, and say so."""
    del frame
    seconds = DAY if number == signal.SIGUSR1 else -2 * DAY
    now = time.time()
    destination = datetime.datetime.fromtimestamp(now + seconds, tz=datetime.UTC)
    time_machine.travel(destination, tick=True).start()
    print(f'{{"level": "info", "event": "the clock jumped by {time.time() - now:.0f}"}}', file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, jump)
    signal.signal(signal.SIGUSR2, jump)
    sys.exit(main())
