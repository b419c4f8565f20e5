"""Write docs/reference/ from the code, or check that it is up to date."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tools.reference import api_pages, operator_pages, worker_pages

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"

FILES: Mapping[str, Callable[[], str]] = {
    "library.md": api_pages.library,
    "configuration.md": worker_pages.configuration,
    "metrics.md": worker_pages.metrics,
    "events.md": worker_pages.event_list,
    "flowworker.md": operator_pages.flowworker,
    "conditions.md": operator_pages.conditions,
    "operator-configuration.md": operator_pages.configuration,
    "operator-metrics.md": operator_pages.metrics,
}


def outdated() -> list[str]:
    """Names of the files that differ from what the code says."""
    return [name for name, render in FILES.items() if _content(REFERENCE / name) != render()]


def main() -> None:
    """Write, or check, every file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a file is out of date")
    if parser.parse_args().check:
        if differing := outdated():
            sys.exit(f"out of date in {REFERENCE.relative_to(ROOT)}: {', '.join(differing)}; run `make generate`")
        return
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, render in FILES.items():
        (REFERENCE / name).write_text(render(), encoding="utf-8")


def _content(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    main()
