"""The pages laid out for Sphinx, in the folders that they have in the repository, so that links between them work.

Three things differ: a `README.md` is the `index.md` of its folder, a folder without one is a page that shows its files,
and files that pages link to lie beside them.
"""

import posixpath
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.docs_site.pages import BELOW, FRONT, LINK, NAVIGATION, ROOT, is_external, pages

LANGUAGES = {".yaml": "yaml", ".lua": "lua"}


@dataclass(frozen=True, slots=True)
class Assembly:
    """Copies pages from a repository into a folder."""

    folder: Path
    root: Path = ROOT

    def write(self) -> None:
        """Write every page, and the files that they link to."""
        for page in pages(self.root):
            source = self.root / page
            text = self._listing(page) if source.is_dir() else self._text(page)
            target = self.folder / _place(page, folder=source.is_dir())
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text + self._contents(str(page)), encoding="utf-8")

    def _text(self, page: Path) -> str:
        """A page with links that lead to where things are in the site."""

        def lead(target: str) -> str:
            name, hash_sign, anchor = target.partition("#")
            if is_external(target) or not name:
                return target
            return f"{self._lead(page, name)}{hash_sign}{anchor}"

        text = (self.root / page).read_text(encoding="utf-8")
        return LINK.sub(lambda found: lead(found["target"]) if found["target"] else found[0], text)

    def _lead(self, page: Path, name: str) -> str:
        """The link to a file or a folder, which is there then; one that leads nowhere is left for Sphinx to find."""
        path = Path(posixpath.normpath(page.parent / name))
        source = self.root / path
        if source.is_dir() or path.suffix == ".md":
            return posixpath.relpath(_place(path, folder=source.is_dir()), page.parent)
        if source.is_file():
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        return name

    def _listing(self, folder: Path) -> str:
        """A page that shows the files of a folder."""
        lines = [f"# {folder}", ""]
        for file in sorted(path for path in (self.root / folder).iterdir() if path.suffix in LANGUAGES):
            lines += [f"## {file.name}", "", f"```{LANGUAGES[file.suffix]}", file.read_text().rstrip("\n"), "```", ""]
        return "\n".join(lines)

    def _contents(self, page: str) -> str:
        """What stands below a page in the navigation."""
        if page == FRONT:
            return "".join(self._toctree(names, caption) for caption, names in NAVIGATION.items())
        if pattern := BELOW.get(page):
            return self._toctree([str(one.relative_to(self.root)) for one in sorted(self.root.glob(pattern))])
        return ""

    def _toctree(self, names: Sequence[str], caption: str = "") -> str:
        entries = (f"/{_place(Path(name), folder=(self.root / name).is_dir()).with_suffix('')}" for name in names)
        options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
        return "\n".join(["", "```{toctree}", *options, "", *entries, "```", ""])


def _place(path: Path, *, folder: bool) -> Path:
    """Where a page or folder of the repository is in the site."""
    if folder:
        return path / "index.md"
    return path.with_name("index.md") if path.name == "README.md" else path
