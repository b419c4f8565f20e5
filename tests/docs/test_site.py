"""Links of the pages lead somewhere, on GitHub and in the site that is made of them."""

import subprocess
from pathlib import Path

import pytest
from tools.docs_site.__main__ import FOLDER, REQUIREMENTS, build
from tools.docs_site.assembly import Assembly
from tools.docs_site.llms import FILE, llms
from tools.docs_site.pages import NAVIGATION, ROOT, anchors, broken, links, pages, summary, title
from tools.environments import is_ready, place

LISTED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
PAGES = [ROOT / name for name in LISTED.splitlines()]

PAGE = """# A `page`: what it is

Opens with a sentence: which says [so](other.md). Then another.

## Twice
## Twice
### `run(x: int) -> str`

[in code](`[no](nowhere.md)`) and

```bash
[no](nowhere.md) # no heading
```
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Every page as a title, and one of them with links."""
    for page in pages(ROOT):
        target = tmp_path / page
        if (ROOT / page).is_dir():
            target.mkdir(parents=True)
            (target / "flow.yaml").write_text("kind: FlowWorker\n")
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(f"# {page.stem}\n\nWhat it is for.\n")
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "all.yaml").write_text("kind: List\n")
    return tmp_path


def write(repository: Path, *targets: str) -> Path:
    """A page with these links."""
    page = repository / "docs" / "concepts.md"
    page.write_text(
        "# Concepts\n\n## Life of a worker\n\n" + " ".join(f"[link]({target})" for target in targets) + "\n"
    )
    return page


GOOD = (
    "kubernetes.md", "../README.md", "../README.md#readme", "#life-of-a-worker", "how-to/retries.md#retries",
    "../deploy/all.yaml", "../examples/kubernetes", "adr/", "https://www.pgflow.dev",
)  # fmt: skip
BROKEN = ("kubernetes.md#no-such-heading", "#nor-here", "missing.md", "../deploy/missing.yaml", "../../outside.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_the_page_leads_to_a_file_or_a_heading(page: Path) -> None:
    assert broken(page) == []


def test_links_to_missing_files_and_headings_are_found(repository: Path) -> None:
    assert broken(write(repository, *GOOD, *BROKEN), repository) == list(BROKEN)


def test_anchors_are_those_of_github_and_code_has_neither_links_nor_headings() -> None:
    assert anchors(PAGE) == ["a-page-what-it-is", "twice", "twice-1", "runx-int---str"]
    assert list(links(PAGE)) == ["other.md"]


def test_a_page_is_listed_with_its_title_and_first_sentence() -> None:
    assert (title(PAGE), summary(PAGE)) == ("A `page`: what it is", "Opens with a sentence.")


def test_every_page_of_the_documentation_is_in_the_site() -> None:
    documentation = {str(page.relative_to(ROOT)) for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert documentation - {str(page) for page in pages()} == set()
    assert [name for names in NAVIGATION.values() for name in names if not (ROOT / name).exists()] == []


def test_the_list_for_language_models_is_up_to_date_and_its_links_lead_to_pages() -> None:
    assert FILE.read_text() == llms(FILE.parent), "run `make generate`"
    assert broken(FILE) == []


def test_the_site_has_pages_for_readmes_and_folders_and_the_files_that_are_linked(
    repository: Path, tmp_path: Path
) -> None:
    write(repository, *GOOD)
    site = tmp_path / "site"
    Assembly(site, repository).write()
    assert "```yaml\nkind: FlowWorker\n```" in (site / "examples" / "kubernetes" / "index.md").read_text()
    assert (site / "deploy" / "all.yaml").read_text() == "kind: List\n"
    assert list(links((site / "docs" / "concepts.md").read_text())) == [
        "kubernetes.md", "../index.md", "../index.md#readme", "#life-of-a-worker", "how-to/retries.md#retries",
        "../deploy/all.yaml", "../examples/kubernetes/index.md", "adr/index.md", "https://www.pgflow.dev",
    ]  # fmt: skip
    assert "\n/docs/concepts\n" in (site / "index.md").read_text()


@pytest.mark.skipif(not is_ready(REQUIREMENTS, FOLDER / "environment"), reason="needs what `make docs` installs")
@pytest.mark.parametrize(("target", "code"), [("how-to/retries.md#retries", 0), ("#nor-here", 1), ("missing.md", 1)])
def test_the_site_is_built_only_when_no_link_is_broken(
    target: str, code: int, repository: Path, tmp_path: Path
) -> None:
    write(repository, target)
    python = place(REQUIREMENTS, FOLDER / "environment") / "bin" / "python"
    assert build(python, site=tmp_path / "html", work=tmp_path / "work", root=repository) == code
    assert (tmp_path / "html" / "llms.txt").exists() == (code == 0)
