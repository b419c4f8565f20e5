"""Write docs/llms.txt, a list of the pages for language models, or check that it is up to date.

python -m tools.docs_site.llms
"""

import argparse
import posixpath
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.docs_site.pages import FRONT, NAVIGATION, ROOT, summary, title

FILE = ROOT / "docs" / "llms.txt"


def llms(base: Path, root: Path = ROOT) -> str:
    """The list in the form of llmstxt.org, with links that are relative to a folder of the repository."""
    front = (root / FRONT).read_text(encoding="utf-8")
    lines = [f"# {title(front)}", "", f"> {summary(front)}", "", _entry(FRONT, base, root)]
    for section, names in NAVIGATION.items():
        lines += ["", f"## {section}", "", *_entries(names, base, root)]
    return "\n".join([*lines, ""])


def main() -> None:
    """Write, or check, the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when the file is out of date")
    text = llms(FILE.parent)
    if not parser.parse_args().check:
        FILE.write_text(text, encoding="utf-8")
    elif not FILE.exists() or FILE.read_text(encoding="utf-8") != text:
        sys.exit(f"{FILE.relative_to(ROOT)} is out of date; run `make generate`")


def _entries(names: Sequence[str], base: Path, root: Path) -> Iterator[str]:
    yield from (_entry(name, base, root) for name in names if (root / name).is_file())


def _entry(name: str, base: Path, root: Path) -> str:
    text = (root / name).read_text(encoding="utf-8")
    return f"- [{title(text)}]({posixpath.relpath(root / name, base)}): {summary(text)}"


if __name__ == "__main__":
    main()
