"""The pages of the documentation in their order, and what their links lead to."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

FRONT = "README.md"
"""The site's first page."""

NAVIGATION: Mapping[str, Sequence[str]] = {
    "Start": ("docs/README.md", "docs/concepts.md", "docs/kubernetes.md"),
    "How to": (
        *("docs/how-to/define-a-flow.md", "docs/how-to/conditions.md"),
        *("docs/how-to/change-a-flow.md", "docs/how-to/queues.md"),
        *("docs/how-to/run-workers.md", "docs/how-to/deploy.md", "docs/how-to/connect.md"),
        "docs/how-to/find-runs.md",
        *("docs/how-to/retries.md", "docs/how-to/cancel.md"),
        *("docs/how-to/timeouts.md", "docs/how-to/long-tasks.md"),
        *("docs/how-to/processes.md", "docs/how-to/embed-a-worker.md", "docs/how-to/notify.md"),
        *("docs/how-to/observe.md", "docs/how-to/test-flows.md"),
        *("docs/how-to/rights.md", "docs/how-to/upgrade-pgflow.md"),
    ),
    "Kubernetes": (
        *("charts/flowworker/README.md", "examples/kubernetes"),
        *("docs/runbooks.md", "docs/shared-clusters.md"),
    ),
    "Reference": (
        *("docs/reference/flowworker.md", "docs/reference/conditions.md", "docs/reference/library.md"),
        *("docs/reference/types.md", "docs/reference/configuration.md", "docs/reference/metrics.md"),
        *("docs/reference/events.md", "docs/reference/operator-configuration.md"),
        "docs/reference/operator-metrics.md",
    ),
    "Background": (
        *("docs/failure-modes.md", "docs/compatibility.md", "docs/benchmarks.md", "docs/migration.md"),
        *("docs/adr/README.md", "SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md"),
    ),
}
"""Sections of the site, and their pages and folders by their path in the repository."""

BELOW: Mapping[str, str] = {"docs/adr/README.md": "docs/adr/[0-9]*.md"}
"""Pages that stand below another one, as a pattern."""

_CODE = r"(?P<code>^ *```.*?^ *```$|`[^`\n]+`)"
LINK = re.compile(_CODE + r"|(?<=\]\()(?P<target>[^()\s]+)(?=\))", re.MULTILINE | re.DOTALL)
"""Code, in which nothing is a link, or the target of a link."""
_HEADING = re.compile(r"^ *```.*?^ *```$|^#{1,6} (?P<text>[^\n]+)$", re.MULTILINE | re.DOTALL)
_PROSE = re.compile(r"[A-Za-z]|`[^`]|\[")
_SCHEME = re.compile(r"[a-z]+:")
_NO_ANCHOR = re.compile(r"[^\w\- ]")


def pages(root: Path = ROOT) -> Sequence[Path]:
    """All pages, and the folders that are shown as one, from the root of the repository on."""
    named = [FRONT, *(name for section in NAVIGATION.values() for name in section)]
    below = [page.relative_to(root) for pattern in BELOW.values() for page in sorted(root.glob(pattern))]
    return [*map(Path, named), *below]


def links(text: str) -> Iterator[str]:
    """What the links of a page lead to, as it stands there."""
    for found in LINK.finditer(text):
        if target := found["target"]:
            yield target


def is_external(target: str) -> bool:
    """Whether a link leads out of the repository."""
    return _SCHEME.match(target) is not None


def broken(page: Path, root: Path = ROOT) -> Sequence[str]:
    """Links of a page that lead to no file or folder of the repository, or to no heading of a page."""
    text = page.read_text(encoding="utf-8")
    return [target for target in links(text) if not is_external(target) and not _leads_somewhere(page, target, root)]


def anchors(text: str) -> Sequence[str]:
    """What links to the headings of a page end with, made as GitHub makes it."""
    seen = Counter[str]()
    made: list[str] = []
    for found in _HEADING.finditer(text):
        if heading := found["text"]:
            anchor = _NO_ANCHOR.sub("", _without_links(heading).strip().lower()).replace(" ", "-")
            made.append(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
            seen[anchor] += 1
    return made


def title(text: str) -> str:
    """The first heading of a page."""
    return next(found["text"] for found in _HEADING.finditer(text) if found["text"])


def summary(text: str) -> str:
    """The first sentence of the first paragraph of a page."""
    paragraph = next(one for one in text.split("\n\n") if _PROSE.match(one))
    sentence = re.match(r".+?[.:](?=\s|$)", _without_links(" ".join(paragraph.split())))
    return (sentence[0] if sentence else paragraph).rstrip(":.") + "."


def _leads_somewhere(page: Path, target: str, root: Path) -> bool:
    name, _, anchor = target.partition("#")
    place = (page.parent / name).resolve() if name else page
    if not place.is_relative_to(root) or not place.exists():
        return False
    return not anchor or (place.suffix == ".md" and anchor in anchors(place.read_text(encoding="utf-8")))


def _without_links(text: str) -> str:
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text)
