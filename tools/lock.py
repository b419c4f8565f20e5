"""Resolve the hash-locked requirement files anew from pyproject.toml."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMPILE = (
    *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--upgrade", "--generate-hashes"),
    *("--no-emit-index-url", "--no-header", "--universal", "--python-version", "3.11"),
)
TARGETS = {
    "dev.txt": ("--all-extras", "--group", "dev", "pyproject.toml"),
    "build.txt": ("--group", "build"),
    "operator.txt": ("--extra", "operator", "--extra", "uvloop", "pyproject.toml"),
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
