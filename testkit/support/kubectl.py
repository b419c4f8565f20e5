"""kubectl, run as a user runs it."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tools.fetch_kubectl import kubectl

DEADLINE = 60.0
"""Seconds for one command."""


def run_kubectl(
    kubeconfig: Path, *arguments: str, stdin: dict[str, Any] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run kubectl with a kubeconfig, and a manifest at its standard input; a failure is for the caller to see."""
    return subprocess.run(
        [kubectl(), *arguments],
        env={**os.environ, "KUBECONFIG": str(kubeconfig), "KUBECACHEDIR": str(kubeconfig.parent / "kubectl-cache")},
        input=None if stdin is None else json.dumps(stdin),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


def kubectl_says(kubeconfig: Path, *arguments: str, stdin: dict[str, Any] | None = None) -> str:
    """What kubectl prints.

    Raises:
        AssertionError: it failed; ends with what it complained about.
    """
    done = run_kubectl(kubeconfig, *arguments, stdin=stdin)
    assert done.returncode == 0, f"kubectl {' '.join(arguments)} ended with {done.returncode}: {done.stderr}"
    return done.stdout
