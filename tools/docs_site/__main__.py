"""Build the site into build/docs, with Sphinx in an environment of its own; any broken link fails.

python -m tools.docs_site
"""

import shutil
import subprocess
import sys
from pathlib import Path

from tools.docs_site.assembly import Assembly
from tools.docs_site.llms import llms
from tools.docs_site.pages import ROOT, pages
from tools.environments import environment

REQUIREMENTS = ROOT / "requirements" / "docs.txt"
FOLDER = ROOT / "build" / "sphinx"
SITE = ROOT / "build" / "docs"


def main() -> None:
    """Build; exit as Sphinx does, with 1 when it had a warning."""
    python = environment(REQUIREMENTS, FOLDER / "environment")
    sys.exit(build(python, site=SITE, work=FOLDER))


def build(python: Path, *, site: Path, work: Path, root: Path = ROOT) -> int:
    """Render the pages of a repository; returns Sphinx's exit code."""
    assembled = work / "pages"
    for stale in (assembled, site):
        shutil.rmtree(stale, ignore_errors=True)
    Assembly(assembled, root).write()
    strict = ("--fail-on-warning", "--keep-going", "--quiet", "--fresh-env")
    settings = ("--conf-dir", Path(__file__).parent, "--doctree-dir", work / "doctrees")
    command = (python, "-m", "sphinx", *strict, *settings, assembled, site)
    code = subprocess.run(command, check=False).returncode
    if code == 0:
        _add_markdown(site, root)
    return code


def _add_markdown(site: Path, root: Path) -> None:
    """The pages as they were written, for programs, and the list of them."""
    for page in pages(root):
        if (root / page).is_file():
            target = site / page
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / page, target)
    (site / "llms.txt").write_text(llms(root, root), encoding="utf-8")


if __name__ == "__main__":
    main()
