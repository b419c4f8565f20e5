"""Say what is missing before `make setup` trips over it. Runs on any Python 3."""

import sys
from importlib.util import find_spec

NEEDED = (3, 11)

if sys.version_info < NEEDED:
    sys.exit(
        "FlowWorker needs Python {}.{} or newer; {} is {}.{}. Try: make setup PYTHON=python3.13".format(
            *NEEDED, sys.executable, *sys.version_info[:2]
        )
    )
if find_spec("ensurepip") is None:
    sys.exit("This Python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv")
