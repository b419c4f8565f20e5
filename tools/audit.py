"""Ask PyPI for advisories about everything that is locked; what is known and harmless here must say why.

python -m tools.audit
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tools.environments import environment

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
FOLDER = ROOT / "build" / "audit"

HARMLESS: Mapping[str, str] = {}
"""Advisories that do not concern us, by identifier, with the reason and the date it was judged."""

ELSEWHERE = frozenset({"audit.txt", "docs.txt", "scan.txt"})
"""Locks of programs that only ever read files of this repository, in environments of their own."""


def main() -> None:
    """Audit; exit as pip-audit does, with 1 when something was found."""
    python = environment(REQUIREMENTS / "audit.txt", FOLDER)
    done = subprocess.run([python.parent / "pip-audit", *arguments(locks())], check=False)
    sys.exit(done.returncode)


def locks() -> list[Path]:
    """The locks whose packages are installed where our code runs or is built."""
    return [file for file in sorted(REQUIREMENTS.glob("*.txt")) if file.name not in ELSEWHERE]


def arguments(files: list[Path]) -> list[str]:
    """What pip-audit is called with: nothing is installed or resolved, and what cannot be asked about is a failure."""
    made = ["--strict", "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    for file in files:
        made += ["--requirement", str(file)]
    for advisory in HARMLESS:
        made += ["--ignore-vuln", advisory]
    return made


if __name__ == "__main__":
    main()
