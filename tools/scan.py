"""Scan the rendered chart with checkov, and have the PromQL of alerts and dashboard parsed, without any network.

Both need packages that nothing else does, so they live in an environment of their own below build/. Whatever checkov
finds must be explained here, and whatever is explained here must still be found.

python -m tools.scan
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tools.dashboard import expressions
from tools.environments import environment
from tools.fetch_kubectl import helm
from tools.render_manifests import CHART, KUBERNETES, NAMESPACE, RELEASE, ROOT

REQUIREMENTS = ROOT / "requirements" / "scan.txt"
FOLDER = ROOT / "build" / "scan"

VALUES: Mapping[str, dict[str, Any]] = {
    "defaults": {},
    "everything": {
        "replicas": 2,
        "networkPolicy": {"enabled": True},
        "monitoring": {"dashboard": {"enabled": True}},
        "databaseInstall": {"enabled": True, "secret": {"name": "owner"}},
    },
}
"""What is rendered to be scanned, by the name of its file."""

OPERATOR = "Deployment.flowworker-system.flowworker-operator"
TEST = "Pod.flowworker-system.flowworker-test-ready"
INSTALL = "Job.flowworker-system.flowworker-database-install"
OPERATOR_POD = "Pod.flowworker-system.flowworker-operator"
INSTALL_POD = "Pod.flowworker-system.flowworker-database-install"


@dataclass(frozen=True, slots=True)
class Explained:
    """A check that may fail."""

    check: str
    reason: str
    targets: Sequence[str]


EXPLAINED = (
    Explained(
        "CKV_K8S_11", "No CPU limit: throttled, the operator could not renew its Lease.", (OPERATOR, TEST, INSTALL)
    ),
    Explained(
        "CKV_K8S_15", "IfNotPresent: tags of releases do not move; nodes may have no registry.",
        (OPERATOR, TEST, INSTALL),
    ),
    Explained("CKV_K8S_43", "Who pushes an image knows its digest: image.digest.", (OPERATOR, TEST, INSTALL)),
    Explained("CKV_K8S_38", "The operator talks to the API server.", (OPERATOR,)),
    Explained("CKV_K8S_8", "It ends by itself within two minutes.", (TEST,)),
    Explained("CKV_K8S_9", "It serves nothing.", (TEST,)),
    Explained(
        "CKV2_K8S_6", "Off by default: only users know the ports of their databases.", (OPERATOR_POD, TEST, INSTALL_POD)
    ),
)  # fmt: skip

PARSE = "import promql_parser, sys; [promql_parser.parse(line) for line in sys.stdin.read().splitlines()]"


def main() -> None:
    """Scan; exit with 1 and say what is wrong."""
    python = environment(REQUIREMENTS, FOLDER)
    _parse(python, [*_alert_expressions(), *(text.replace("$__rate_interval", "5m") for text in expressions())])
    found = {failure for file in _rendered() for failure in _failures(python, file)}
    expected = {(one.check, target) for one in EXPLAINED for target in one.targets}
    problems = [
        *(f"{check} of {target} is not explained in tools/scan.py" for check, target in sorted(found - expected)),
        *(f"{check} of {target} is explained, but passes" for check, target in sorted(expected - found)),
    ]
    if problems:
        sys.exit("\n".join(problems))
    print(f"the chart is clean but for {len(EXPLAINED)} explained exceptions; {len(list(expressions()))} queries parse")


def _rendered() -> Iterator[Path]:
    """The chart in a file for each set of values."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    place = ("--namespace", NAMESPACE, "--kube-version", KUBERNETES)
    for name, values in VALUES.items():
        command = (helm(), "template", RELEASE, CHART, *place, "--values", "-")
        done = subprocess.run(command, input=json.dumps(values), check=True, capture_output=True, text=True)
        file = FOLDER / f"{name}.yaml"
        file.write_text(done.stdout)
        yield file


def _failures(python: Path, file: Path) -> Iterator[tuple[str, str]]:
    """Check and object of everything that checkov finds."""
    command = (python.parent / "checkov", "--file", file, "--framework", "kubernetes")
    offline = ("--skip-download", "--output", "json", "--soft-fail", "--quiet")
    done = subprocess.run([*command, *offline], check=True, capture_output=True, text=True)
    for failure in json.loads(done.stdout)["results"]["failed_checks"]:
        kind, namespace, name = failure["resource"].split(".")[:3]
        yield failure["check_id"], f"{kind}.{namespace}.{name}"


def _parse(python: Path, queries: list[str]) -> None:
    done = subprocess.run([python, "-c", PARSE], input="\n".join(queries), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"a query of an alert or the dashboard is no PromQL:\n{done.stderr}")


def _alert_expressions() -> Iterator[str]:
    for group in yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


if __name__ == "__main__":
    main()
