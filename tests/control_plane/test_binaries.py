"""The daemons are built from the versions that the module files name, once, however many ask for them."""

import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from testkit.cluster.binaries import build, content_key, main
from testkit.cluster.control_plane import ROOT
from testkit.cluster.errors import BuildError
from testkit.cluster.programs import FAMILIES, NODE, SETS, Family, family_of

STAND_IN = """#!/bin/sh
if [ "$1" = env ]; then echo {version}; echo linux; echo amd64; exit 0; fi
echo "$@" >> {record}
sleep 0.5
while [ "$1" != -o ]; do shift; done
echo built > "$2"
"""
"""Says what version of Go it is, and builds by writing a word."""


@pytest.mark.parametrize("program", ["kube-apiserver", "kube-controller-manager"])
def test_the_version_is_that_of_the_module_file(programs: Mapping[str, Path], program: str) -> None:
    said = subprocess.run([programs[program], "--version"], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["Kubernetes", family_of(program).version]


def test_etcd_has_the_version_of_the_module_file(programs: Mapping[str, Path]) -> None:
    said = subprocess.run([programs["etcd"], "--version"], capture_output=True, text=True, check=True).stdout
    assert f"etcd Version: {family_of('etcd').version.removeprefix('v')}\n" in said


def test_no_module_is_without_a_version(programs: Mapping[str, Path]) -> None:
    """Kubernetes requires its own parts at v0.0.0; one without a replacement would be built from nowhere."""
    for path in programs.values():
        versions = build_list(path)
        assert len(versions) > 20
        assert [module for module, version in versions.items() if version == "v0.0.0"] == []


def test_every_part_of_kubernetes_has_the_same_version(programs: Mapping[str, Path]) -> None:
    versions = build_list(programs["kube-apiserver"])
    parts = {versions[f"k8s.io/{name}"] for name in ("api", "apimachinery", "apiserver", "client-go", "component-base")}
    assert parts == {family_of("kube-apiserver").version.replace("v1.", "v0.", 1)}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_sums_of_every_module_are_committed(family: Family) -> None:
    assert family.version.startswith("v")
    assert f"{family.module} {family.version} h1:" in (family.folder / "go.sum").read_text()


def test_every_set_can_be_built() -> None:
    assert {program for programs in SETS.values() for program in programs} == {
        program for family in FAMILIES for program in family.packages
    }
    assert set(NODE) < set(SETS["all"])


def test_the_key_knows_what_goes_into_a_binary() -> None:
    key = content_key(family_of("etcd"), "go1.26.8 linux amd64")
    assert key == content_key(family_of("etcd"), "go1.26.8 linux amd64")
    assert key != content_key(family_of("etcd"), "go1.26.9 linux amd64")
    assert key != content_key(family_of("kwok"), "go1.26.8 linux amd64")


def test_without_go_the_error_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BuildError, match=r"not on PATH: install it from https://go\.dev/dl/"):
        build(["etcd"])


def test_a_go_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend_go(monkeypatch, tmp_path, "go1.19.8")
    with pytest.raises(BuildError, match=r"etcd needs Go 1\.26\.0, and the one on PATH is go1\.19\.8"):
        build(["etcd"])


def test_a_build_that_fails_shows_the_words_of_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    go = pretend_go(monkeypatch, tmp_path, "go1.26.8")
    go.write_text(go.read_text().replace("sleep 0.5", "echo no space left on device >&2; exit 1"))
    with pytest.raises(BuildError, match="no space left on device"):
        build(["etcd"])
    assert not list(tmp_path.rglob("etcd"))


def test_two_processes_build_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend_go(monkeypatch, tmp_path, "go1.26.8")
    command = [sys.executable, "-m", "testkit.cluster.binaries", "control-plane"]

    def run(_: int) -> str:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor() as pool:
        first, second = pool.map(run, range(2))
    assert first == second
    assert [Path(line).read_text() for line in first.splitlines()] == ["built\n"] * 3
    assert len((tmp_path / "record").read_text().splitlines()) == 3


def test_the_command_line_shows_the_sets() -> None:
    with pytest.raises(
        SystemExit, match="unknown set 'everything'; there are control-plane, node, kind, kind-node, kstatus, all"
    ):
        main(["everything"])


def pretend_go(monkeypatch: pytest.MonkeyPatch, folder: Path, version: str) -> Path:
    """Put a stand-in for Go on PATH, with a cache of its own; what it was asked to build is in the file `record`."""
    go = folder / "bin" / "go"
    go.parent.mkdir()
    go.write_text(STAND_IN.format(version=version, record=folder / "record"))
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    return go


def build_list(program: Path) -> dict[str, str]:
    """Modules in a binary with the versions that were really used: those of replacements where there are any."""
    listing = subprocess.run(["go", "version", "-m", program], capture_output=True, text=True, check=True).stdout
    versions: dict[str, str] = {}
    last = ""
    for kind, module, version, *_ in (line.split() for line in listing.splitlines() if line.count("\t") >= 3):
        if kind == "dep":
            last = module
        if kind in {"dep", "=>"}:
            versions[last] = version
    return versions
