"""`python -m flowworker.cli`: the same as `flowworker`."""

import sys

from flowworker.cli import main

if __name__ == "__main__":
    sys.exit(main())
