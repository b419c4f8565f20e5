"""The first process of a container hears SIGTERM from its beginning."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal
own = os.getpid()
os.getpid = lambda: {pid}
from flowworker.stop_signals import end_at_sigterm
end_at_sigterm()
os.kill(own, signal.SIGTERM)
"""


@pytest.mark.parametrize(("pid", "code"), [(1, 143), (2, -15)])
def test_only_the_first_process_handles_what_the_kernel_would_not_do_for_it(pid: int, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(pid=pid)], check=False, timeout=30)
    assert done.returncode == code
