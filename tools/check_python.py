"""Say what is missing before `make setup` trips over it. Runs on any Python 3."""

import sys

NEEDED = (3, 11)

if sys.version_info < NEEDED:
    sys.exit(
        "FlowWorker needs Python %d.%d or newer; %s is %d.%d. Try: make setup PYTHON=python3.13"
        % (*NEEDED, sys.executable, *sys.version_info[:2])
    )
try:
    import ensurepip  # noqa: F401 - only its presence matters
    import venv  # noqa: F401 - only its presence matters
except ImportError:
    sys.exit("This Python has no venv module. On Debian and Ubuntu: apt-get install python3-venv")
