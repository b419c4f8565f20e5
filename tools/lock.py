"""Resolve the hash-locked requirement files anew from pyproject.toml."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMPILE = (
    *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--upgrade", "--generate-hashes"),
    *("--no-emit-index-url", "--no-header", "--universal", "--python-version", "3.11"),
)
OF_THE_SYNCHRONOUS_CLIENT = (
    *("certifi", "charset-normalizer", "durationpy", "oauthlib", "requests", "requests-oauthlib", "websocket-client"),
)
"""What only that half of the package `kubernetes` imports; operator/Dockerfile leaves it out."""

TARGETS = {
    "dev.txt": ("--all-extras", "--group", "dev", "pyproject.toml"),
    "audit.txt": ("--group", "audit"),
    "build.txt": ("--group", "build"),
    "docs.txt": ("--group", "docs"),
    "operator.txt": (
        *("--extra", "operator", "--extra", "uvloop", "pyproject.toml"),
        *(f"--no-emit-package={name}" for name in OF_THE_SYNCHRONOUS_CLIENT),
    ),
    "postgres.txt": ("--group", "postgres"),
    "scan.txt": ("--group", "scan"),
    "worker.txt": ("--extra", "cli", "--extra", "uvloop", "--extra", "otel", "pyproject.toml"),
}


def main() -> None:
    """Write every target; uv prints what cannot be resolved."""
    for name, arguments in TARGETS.items():
        subprocess.run([*COMPILE, *arguments, "--output-file", f"requirements/{name}"], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
