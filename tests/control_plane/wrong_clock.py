"""An operator on a machine whose wall clock is an hour ahead."""

import datetime
import sys

import time_machine

from flowworker_operator.__main__ import main

AHEAD = datetime.timedelta(hours=1)

if __name__ == "__main__":
    time_machine.travel(datetime.datetime.now(datetime.UTC) + AHEAD, tick=True).start()
    sys.exit(main())
