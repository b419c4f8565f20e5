"""The worker image, built once from a copy of the tree, and a way to run it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration.image.container import Container, EngineContainer, RuncContainer, image_config, run

ROOT = Path(__file__).resolve().parents[3]
CONTEXT = ("LICENSE", "README.md", "pyproject.toml", ".dockerignore", "requirements", "tools", "worker")
TAG = "localhost/flowworker-worker:test"
WITHOUT_ENGINE = ("buildah", "mmdebstrap", "runc")
EPOCH = "1790000000"


@dataclass(frozen=True, slots=True)
class Image:
    """The image under test, built from a copy of the tree that nobody edits meanwhile."""

    source: Path
    engine: str

    @property
    def archive(self) -> Path:
        """The docker-archive that the build left."""
        return ROOT / "build" / "images" / "test" / "flowworker-worker.tar"

    @property
    def config(self) -> dict[str, Any]:
        """Its configuration: User, Env, Labels, Entrypoint, WorkingDir."""
        return image_config(self.archive)["config"]

    def build(self) -> None:
        """Build with the same tool as `make image`; fail with its output."""
        command = [sys.executable, "-m", "tools.build_image", "--engine", self.engine, "--tag", TAG]
        command += ["--output", str(self.archive.parent)]
        done = subprocess.run(
            command,
            check=False,
            cwd=self.source,
            env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stdout[-4000:]


def usable_engine() -> str:
    """What can build and run the image here; skips the test, saying why, when nothing can."""
    for engine in ("docker", "podman"):
        if shutil.which(engine) and subprocess.run([engine, "info"], check=False, capture_output=True).returncode == 0:
            return engine
    absent = [program for program in WITHOUT_ENGINE if shutil.which(program) is None]
    if os.geteuid() != 0 or absent:
        reason = f"{', '.join(absent)} missing" if absent else "not root"
        pytest.skip(
            f"no docker or podman answers, and buildah with runc cannot be used here: {reason} (make setup-image)"
        )
    return "buildah"


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image, built anew on a base that is kept between sessions."""
    engine = usable_engine()
    source = tmp_path_factory.mktemp("source")
    for name in CONTEXT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    made = Image(source, engine)
    made.build()
    return made


@pytest.fixture(scope="session")
def container(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A way to run the archive that was built."""
    if image.engine != "buildah":
        run([image.engine, "load", "--input", str(image.archive)])
        yield EngineContainer(engine=image.engine, tag=TAG)
        return
    name = run(["buildah", "from", "--quiet", f"docker-archive:{image.archive}"]).strip()
    try:
        root = Path(run(["buildah", "mount", name]).strip())
        bundles = tmp_path_factory.mktemp("bundles")
        yield RuncContainer(root=root, config=image.config, bundles=bundles)
        for bundle in bundles.iterdir():
            run(["runc", "delete", "--force", bundle.name])
    finally:
        run(["buildah", "rm", name])
