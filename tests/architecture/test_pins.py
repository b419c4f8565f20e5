"""What is taken from elsewhere is pinned by its content, workflows ask for few rights, and updates find each pin."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools.audit import arguments, locks

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted([*ROOT.glob("*/Dockerfile"), *ROOT.glob("testkit/images/*/Dockerfile")])
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RENOVATE = json.loads((ROOT / ".github" / "renovate.json").read_text())

SIGNED = ("actions/attest-build-provenance", "actions/attest-sbom")


def jobs(file: Path) -> Mapping[str, Any]:
    return yaml.safe_load(file.read_text())["jobs"]


def steps(job: Mapping[str, Any]) -> Iterator[str]:
    """What each step uses or runs."""
    for step in job["steps"]:
        yield step.get("uses") or step["run"]


def test_all_images_have_one_base_pinned_by_its_digest() -> None:
    bases = {base for file in DOCKERFILES for base in re.findall(r"^ARG BASE=(\S+)$", file.read_text(), re.MULTILINE)}
    assert len(DOCKERFILES) == 3
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+-slim@sha256:[0-9a-f]{64}", bases.pop())


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_dockerfile_builds_on_anything_else(file: Path) -> None:
    sources = re.findall(r"^FROM (\S+)|--from=(\S+)", file.read_text(), re.MULTILINE)
    assert {first or second for first, second in sources} == {"${BUILD_BASE}", "${BASE}", "build"}


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_every_action_is_pinned_by_its_commit_and_says_its_version(file: Path) -> None:
    used = re.findall(r"^\s*(?:- )?uses: (.*)$", file.read_text(), re.MULTILINE)
    assert used
    assert [one for one in used if not re.match(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)] == []


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_has_no_rights_but_those_of_its_jobs_and_each_job_a_deadline(file: Path) -> None:
    assert yaml.safe_load(file.read_text())["permissions"] == {}
    for name, job in jobs(file).items():
        assert {"permissions", "timeout-minutes"} <= job.keys(), name


def test_make_knows_every_target_that_workflows_call() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    runs = [step for file in WORKFLOWS for job in jobs(file).values() for step in steps(job)]
    called = {
        word for run in runs for line in re.findall(r"^make ([a-z0-9 -]+)", run, re.MULTILINE) for word in line.split()
    }
    assert called
    assert called <= targets


def test_a_release_is_published_only_after_all_of_it_is_signed_with_provenance_and_bill() -> None:
    release = jobs(ROOT / ".github" / "workflows" / "release.yml")
    for name in ("build", "image"):
        used = [step.partition("@")[0] for step in steps(release[name])]
        assert set(SIGNED) <= set(used), name
        assert release[name]["permissions"].items() >= {"id-token": "write", "attestations": "write"}.items()
    assert any(step.startswith("cosign sign --yes") for step in steps(release["image"]))
    assert set(release["publish"]["needs"]) == {"build", "image"}
    assert release["release"]["needs"] == "publish"


def test_the_scan_looks_for_advisories_and_licences_on_each_change_and_each_week() -> None:
    file = ROOT / ".github" / "workflows" / "scan.yml"
    assert {"make licences", "make audit"} <= set(steps(jobs(file)["dependencies"]))
    triggers = yaml.safe_load(file.read_text())[True]  # YAML takes `on` for a truth value
    assert {"pull_request", "schedule"} <= triggers.keys()


def test_an_audit_asks_about_every_lock_of_what_runs_here_and_fails_where_it_gets_no_answer() -> None:
    names = {file.name for file in locks()}
    assert {"worker.txt", "operator.txt", "build.txt", "dev.txt", "pgmq.txt", "uv.txt"} <= names
    given = arguments(locks())
    assert "--strict" in given
    assert all(str(file) in given for file in locks())


@pytest.mark.parametrize("manager", RENOVATE["customManagers"], ids=lambda manager: manager["managerFilePatterns"][0])
def test_updates_find_every_pin_that_has_a_pattern_of_its_own(manager: Mapping[str, Any]) -> None:
    (file,) = (re.sub(r"^/\^|\$/$", "", pattern).replace("\\.", ".") for pattern in manager["managerFilePatterns"])
    (pattern,) = (text.replace("(?<", "(?P<") for text in manager["matchStrings"])
    text = (ROOT / file).read_text()
    found = len(re.findall(pattern, text))
    assert found == (text.count("kindest/node:") or 1)


def test_updates_cover_each_kind_of_pin() -> None:
    assert {"dockerfile", "github-actions", "gomod", "custom.regex"} == set(RENOVATE["enabledManagers"])
