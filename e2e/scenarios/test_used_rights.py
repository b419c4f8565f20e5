"""After all scenarios: what the operator has asked the API server for, by its audit log. The name makes it the last."""

import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.support.release import DEPLOYMENT, NAMESPACE
from e2e.support.stage import Stage
from testkit.cluster.backend import Backend
from testkit.support.rights import DECISION, granted, requested, rules

AUDIT_LOG = "audit.log"
USER = f"system:serviceaccount:{NAMESPACE}:{DEPLOYMENT}"
BINDINGS = frozenset({"clusterrolebindings", "rolebindings"})

Entry = dict[str, Any]


def test_the_operator_has_asked_for_nothing_that_is_not_granted(stage: Stage) -> None:
    entries = [*while_bound(audit_log(stage.cluster))]
    used = requested(entries, refused=False)
    assert used, f"{USER} has asked for nothing"
    refused = [entry for entry in entries if entry["annotations"][DECISION] == "forbid"]
    why = [(entry["requestReceivedTimestamp"], entry["requestURI"], entry["annotations"]) for entry in refused]
    assert requested(entries, refused=True) == set(), why
    assert used <= granted(rules())
    print(f"granted and not used here: {sorted(granted(rules()) - used)}")


def audit_log(cluster: Backend) -> list[Entry]:
    """All requests; skips the test on a cluster that keeps no audit log."""
    with tempfile.TemporaryDirectory() as folder:
        cluster.export_logs(Path(folder))
        log = Path(folder) / AUDIT_LOG
        if not log.exists():
            pytest.skip(f"the cluster ({cluster.name}) keeps no audit log")
        return [json.loads(line) for line in log.read_text().splitlines()]


def while_bound(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The operator's requests, without those after its roles were taken away, as an uninstall does."""
    bound = True
    for entry in entries:
        about: Entry = entry.get("objectRef", {})
        if about.get("resource") in BINDINGS and about.get("name", "").startswith(DEPLOYMENT):
            bound = bound if entry["verb"] == "get" else entry["verb"] != "delete"
        if bound and entry["user"]["username"] == USER:
            yield entry
