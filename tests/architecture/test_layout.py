"""Rules about files that no linter checks."""

import ast
import re
import subprocess
from pathlib import Path

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


def imported(path: Path) -> set[str]:
    """The first names of what a module imports."""
    nodes = list(ast.walk(ast.parse(text_of(path))))
    whole = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    parts = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module is not None}
    return {name.partition(".")[0] for name in whole | parts}


def test_what_tests_share_is_in_the_testkit_which_knows_none_of_them() -> None:
    found = {
        str(path.relative_to(ROOT)): sorted(wrong)
        for folder in ("testkit", "tests", "e2e", "examples", "tools", "worker", "operator")
        for path in (ROOT / folder).rglob("*.py")
        if (wrong := (imported(path) & {"tests", "e2e"}) - {folder})
    }
    assert found == {}


def test_every_place_to_begin_exists() -> None:
    """The table of `CONTRIBUTING.md` names files from the repository's root or from that of a package."""
    table = text_of(ROOT / "CONTRIBUTING.md").partition("## Where to begin")[2].partition("\n\nOne test")[0]
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
    module.write_text("import e2e.support\nfrom tests.chaos import ground\n")
    assert imported(module) == {"e2e", "tests"}
