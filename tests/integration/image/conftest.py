"""The images, each built once from a copy of the tree, and a way to run them."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
from tests.integration.image.container import Container, EngineContainer, RuncContainer, image_config, run
from tools.build_image.catalogue import IMAGES

ROOT = Path(__file__).resolve().parents[3]
CONTEXT = (
    *("LICENSE", "README.md", "pyproject.toml", ".dockerignore"),
    *("LICENSES", "requirements", "tools", "worker", "operator", "testkit/images"),
)
TAG = "test"
WITHOUT_ENGINE = ("buildah", "mmdebstrap", "runc")
EPOCH = "1790000000"


@dataclass(frozen=True, slots=True)
class Image:
    """An image under test, built from a copy of the tree that is not edited meanwhile."""

    source: Path
    engine: str
    name: str
    """On the command line of the build."""

    @property
    def tag(self) -> str:
        """Its full name."""
        return IMAGES[self.name].tag(TAG)

    @property
    def archive(self) -> Path:
        """The docker-archive that the build left."""
        return IMAGES[self.name].archive(ROOT / "build" / "images" / "test")

    @property
    def config(self) -> dict[str, Any]:
        """Its configuration: User, Env, Labels, Entrypoint, WorkingDir."""
        return image_config(self.archive)["config"]

    def build(self) -> None:
        """Build every layer anew with the same tool as `make image`; fail with its output."""
        command = [sys.executable, "-m", "tools.build_image", self.name, "--engine", self.engine, "--tag", TAG]
        command += ["--archive", str(self.archive.parent), "--no-cache"]
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

    def digest(self) -> str:
        """Digest of the archive; skips the test where no two builds can give the same one."""
        if self.engine != "buildah":
            pytest.skip(f"proven with buildah; {self.engine} dates the files of its layers itself")
        return hashlib.sha256(self.archive.read_bytes()).hexdigest()

    @contextmanager
    def opened(self, bundles: Path) -> Generator[Container]:
        """A way to run the archive that was built."""
        if self.engine != "buildah":
            run([self.engine, "load", "--input", str(self.archive)])
            yield EngineContainer(engine=self.engine, tag=self.tag)
            return
        name = run(["buildah", "from", "--quiet", f"docker-archive:{self.archive}"]).strip()
        try:
            root = Path(run(["buildah", "mount", name]).strip())
            yield RuncContainer(root=root, config=self.config, bundles=bundles)
            for bundle in bundles.iterdir():
                run(["runc", "delete", "--force", bundle.name])
        finally:
            run(["buildah", "rm", name])


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
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what images are made of."""
    copied = tmp_path_factory.mktemp("source")
    for name in CONTEXT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, copied / name)
    return copied


@pytest.fixture(scope="module")
def image(request: pytest.FixtureRequest, source: Path) -> Image:
    """The image that the module names, built anew on a base that is kept between sessions."""
    module = cast("ModuleType", request.module)  # pyright: ignore[reportUnknownMemberType]
    made = Image(source, usable_engine(), vars(module)["IMAGE"])
    made.build()
    return made


@pytest.fixture(scope="module")
def container(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A way to run it."""
    with image.opened(tmp_path_factory.mktemp("bundles")) as container:
        yield container
