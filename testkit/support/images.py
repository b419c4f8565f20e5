"""The images of the tests and of the demo, built and given to a cluster."""

import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from testkit.cluster.backend import Backend
from testkit.cluster.errors import ClusterError
from tools.build_image.catalogue import IMAGES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "images" / "e2e"
TAG, NEXT_TAG = "e2e-a", "e2e-b"
TAGS = (TAG, NEXT_TAG, "demo", version("flowworker"))
"""Two for tests that change from one to the other; the demo's also names the test's PostgreSQL; and what the examples
name."""
LOADED = "loaded-images.json"
"""File beside the kubeconfig, which goes with the cluster: what was given to it."""


def build() -> list[Path]:
    """Build all images, each under all tags; gives their archives. What the build says is shown when it fails."""
    tags = [f"--tag={tag}" for tag in TAGS]
    command = [sys.executable, "-m", "tools.build_image", "all", *tags, "--archive", str(FOLDER)]
    done = subprocess.run(command, check=False, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise ClusterError(f"the images cannot be built:\n{done.stdout}")
    return [image.archive(FOLDER) for image in IMAGES.values()]


def load(cluster: Backend, archives: list[Path]) -> None:
    """Give a cluster those images that it has not got already."""
    record = cluster.kubeconfig.parent / LOADED
    known: Mapping[str, str] = json.loads(record.read_text()) if record.exists() else {}
    wanted = {str(archive): identity(archive) for archive in archives}
    for archive in archives:
        if known.get(str(archive)) != wanted[str(archive)]:
            cluster.load_image(archive)
    record.write_text(json.dumps({**known, **wanted}))


def identity(archive: Path) -> str:
    """Of the image in a docker-archive, with its names: changes when anything in it does."""
    with tarfile.open(archive) as opened:
        manifest = opened.extractfile("manifest.json")
        assert manifest is not None
        (image,) = json.load(manifest)
    return f"{image['Config']} {' '.join(image['RepoTags'])}"
