"""Rules about files that no linter checks."""

import ast
import re
import subprocess
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "worker" / "flowworker"

SQL = re.compile(
    r"\b(SELECT\b.+\bFROM|INSERT\s+INTO|UPDATE\s+\S+\s+SET|DELETE\s+FROM|CREATE\s+(TABLE|FUNCTION|SCHEMA|INDEX|DATABASE|ROLE)"
    r"|ALTER\s+(TABLE|ROLE)|TRUNCATE\s+\w|DROP\s+(TABLE|SCHEMA|DATABASE))\b",
    re.DOTALL,
)
"""Statements as we write them: in capitals."""

MACHINE_PATHS = re.compile(r"(?<![\w.])/(work|root|home(?!/flowworker\b)|Users|opt/homebrew|mnt|srv)/[\w.-]+")
"""Home directories and work areas; `/home/flowworker` is inside the image."""

REGISTRIES = re.compile(
    r"(pypi\.org|pythonhosted\.org|npmjs\.org|registry\.yarnpkg\.com|docker\.io|ghcr\.io|quay\.io|gcr\.io"
    r"|proxy\.golang\.org|deb\.debian\.org|artifactory|nexus\.)",
    re.IGNORECASE,
)


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "upstream" not in path.parts)


def sources() -> list[Path]:
    others = (path for folder in ("operator", "tools", "examples") for path in (ROOT / folder).rglob("*.py"))
    return [*modules(), *others]


def tracked_files() -> list[Path]:
    """What git tracks or would track: everything that is not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout.decode()
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def strings_of(path: Path) -> list[str]:
    """String constants of a module, without its documentation."""
    tree = ast.parse(text_of(path))
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation
    ]


def test_the_operator_folder_is_no_package() -> None:
    """It would shadow the standard library's `operator` and break Python itself."""
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_no_test_lives_under_the_operator_folder() -> None:
    """pytest would register a module `operator` for it, and later imports of the standard library's would fail."""
    assert not [
        path for path in (ROOT / "operator").rglob("*.py") if re.match(r"test_|conftest|.*_test\.py", path.name)
    ]


def test_sql_stays_in_the_database_folder() -> None:
    elsewhere = [path for path in modules() if path.relative_to(PACKAGE).parts[0] != "database"]
    found = {
        str(path.relative_to(PACKAGE)): statements
        for path in elsewhere
        if (statements := [text for text in strings_of(path) if SQL.search(text)])
    }
    assert found == {}


def test_nothing_in_the_repository_knows_a_particular_machine() -> None:
    here = Path(__file__)
    found = {
        str(path.relative_to(ROOT)): match[0]
        for path in tracked_files()
        if path != here and (match := MACHINE_PATHS.search(text_of(path)))
    }
    assert found == {}


def test_nothing_in_the_repository_names_a_package_registry() -> None:
    """Packages come from wherever the machine's own clients are configured to look."""
    here = Path(__file__)
    found = {
        str(path.relative_to(ROOT)): match[0]
        for path in tracked_files()
        if path != here and (match := REGISTRIES.search(text_of(path)))
    }
    assert found == {}


def module_of(path: Path, root: Path) -> str:
    """The name under which code below `root` imports this module."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> set[str]:
    """Every name that a module imports, wherever in it; what a package offers stands there below the package's name."""
    nodes = list(ast.walk(ast.parse(text_of(path))))
    whole = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module is not None]
    return whole | {f"{node.module}.{alias.name}" for node in froms for alias in node.names}


def circle(imports: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first again at the end; empty where there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return error.args[1]
    return []


FOLDERS: Mapping[str, tuple[Path, set[str]]] = {
    "flowworker": (ROOT / "worker", set()),
    "flowworker_operator": (ROOT / "operator", {"flowworker"}),
    "tools": (ROOT, {"flowworker", "flowworker_operator"}),
    "testkit": (ROOT, {"flowworker", "flowworker_operator", "tools"}),
    "examples": (ROOT, {"flowworker", "tools", "testkit"}),
    "e2e": (ROOT, {"flowworker", "flowworker_operator", "tools", "testkit", "examples"}),
    "tests": (ROOT, {"flowworker", "flowworker_operator", "tools", "testkit", "examples"}),
}
"""Where each top-level package lies, and which of the others it may import."""


@pytest.mark.parametrize("package", FOLDERS)
def test_a_top_level_package_imports_only_those_below_it(package: str) -> None:
    root, below = FOLDERS[package]
    found = {
        str(path.relative_to(ROOT)): sorted(wrong)
        for path in sorted((root / package).rglob("*.py"))
        if (wrong := {name.partition(".")[0] for name in imported(path)} & FOLDERS.keys() - below - {package})
    }
    assert found == {}


@pytest.mark.parametrize("package", FOLDERS)
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    """Not even late, inside of a function; that a package shows what its modules hold is no import of them."""
    root, _ = FOLDERS[package]
    paths = {module_of(path, root): path for path in (root / package).rglob("*.py")}
    known = paths.keys()
    imports = {
        module: {name if name in known else name.rpartition(".")[0] for name in imported(path)} & known - {module}
        for module, path in paths.items()
        if module != package
    }
    assert len(imports) > 5
    assert circle(imports) == []


def test_every_place_to_begin_exists() -> None:
    """The table of `CONTRIBUTING.md` names files from the repository's root or from that of a package."""
    table = text_of(ROOT / "CONTRIBUTING.md").partition("## Where to begin")[2].partition("\n## ")[0]
    named = {name for name in re.findall(r"`([^` ]+)`", table) if "/" in name or name.endswith(".py")}
    roots = (ROOT, PACKAGE, ROOT / "operator" / "flowworker_operator")
    assert len(named) > 20
    assert [name for name in sorted(named) if not any((root / name).exists() for root in roots)] == []


def test_the_rules_above_would_notice(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('"""SELECT 1 FROM documentation"""\nQUERY = "SELECT id FROM tasks"\n')
    assert [text for text in strings_of(module) if SQL.search(text)] == ["SELECT id FROM tasks"]
    assert MACHINE_PATHS.search("see /home/me/project")
    assert not MACHINE_PATHS.search("see docs/home/index")
    assert not MACHINE_PATHS.search("the image's user lives in /home/flowworker")
    assert REGISTRIES.search("FROM quay.io/some/image")
    module.write_text("import e2e.support\ndef late():\n    from tests.chaos import ground\n")
    assert imported(module) == {"e2e.support", "tests.chaos.ground"}
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}
    assert circle({"a": {"b", "c"}, "b": {"c"}}) == []
