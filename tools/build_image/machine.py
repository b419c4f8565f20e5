"""What machine and checkout say: apt sources, pip configuration, the commit, the Dockerfile's default base."""

import ast
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tools.build_image.commands import BuildError, output

SYSTEM_LABELS = ("Debian", "Debian-Security", "Ubuntu")
"""Labels of the archives a base is made from; a vendor's extra source is none of them."""

PIP_SETTING = re.compile(r"(?:global|install|:env:)\.(index-url|extra-index-url|trusted-host|proxy|cert)=(.*)")


class System(NamedTuple):
    """The distribution that runs here, as apt knows it."""

    suite: str
    sources: str
    """One-line apt sources, one per line."""


def system() -> System:
    """The distribution's own apt sources, whatever mirror they point to.

    Raises:
        BuildError: This is neither Debian nor Ubuntu.
    """
    shape = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(LABEL)|$(SIGNED_BY)"
    targets = output(["apt-get", "indextargets", "--format", shape, "Created-By: Packages"]) or ""
    return system_from(targets)


def system_from(targets: str) -> System:
    """Read lines of `URI|suite|component|label|keyring`; apt leaves the name of a field without a value."""
    lines: list[str] = []
    suites: list[str] = []
    for uri, suite, component, label, keyring in (line.split("|") for line in targets.splitlines()):
        if label not in SYSTEM_LABELS:
            continue
        signed = f"[signed-by={keyring}] " if keyring.startswith("/") else ""
        line = f"deb {signed}{uri} {suite} {component}"
        if line not in lines:
            lines.append(line)
            suites.append(suite)
    if not lines:
        raise BuildError(
            "No registry is reachable, and apt knows no Debian or Ubuntu archive to make a base from. "
            "Run 'apt-get update' on a Debian or Ubuntu machine, or name a base that is here: --base IMAGE."
        )
    return System(suite=min(suites, key=len), sources="\n".join(lines) + "\n")


def pip_secrets(folder: Path) -> Mapping[str, Path]:
    """Write this machine's pip configuration into a folder, as secrets of a build; {} when pip needs none."""
    listing = output([sys.executable, "-m", "pip", "config", "list"]) or ""
    settings = pip_settings(listing)
    secrets: dict[str, Path] = {}
    certificates = settings.pop("cert", "") or os.environ.get("SSL_CERT_FILE", "")
    if certificates and Path(certificates).is_file():
        secrets["certificates"] = Path(certificates)
        settings["cert"] = "/run/secrets/certificates"
    if settings:
        secrets["pip.conf"] = folder / "pip.conf"
        lines = [f"{name} = {' '.join(value.split())}" for name, value in settings.items()]
        secrets["pip.conf"].write_text("\n".join(["[global]", *lines, ""]))
    return secrets


def pip_settings(listing: str) -> dict[str, str]:
    """The settings a build needs, from the output of `pip config list`; the environment comes last there and wins."""
    found = (PIP_SETTING.fullmatch(line) for line in sorted(listing.splitlines(), key=lambda line: line[:1] == ":"))
    return {match[1]: str(ast.literal_eval(match[2])) for match in found if match}


def cache_folder() -> Path:
    """Where things are kept that take long to make and depend on no checkout."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "flowworker" / "images"


def default_base(dockerfile: Path) -> str:
    """The base that a Dockerfile builds on by default."""
    (base,) = re.findall(r"^ARG BASE=(\S+)$", dockerfile.read_text(), re.MULTILINE)
    return base


def revision(root: Path) -> str:
    """The commit that is checked out, with `-dirty` after it when files differ from it."""
    commit = output(["git", "-C", str(root), "rev-parse", "HEAD"])
    if commit is None:
        return "unknown"
    changed = output(["git", "-C", str(root), "status", "--porcelain"])
    return commit.strip() + ("-dirty" if changed else "")


def epoch(root: Path) -> int:
    """Date of the image in seconds since 1970: `SOURCE_DATE_EPOCH`, else the commit's date."""
    given = os.environ.get("SOURCE_DATE_EPOCH") or output(["git", "-C", str(root), "log", "-1", "--format=%ct"])
    return int(given or 0)
