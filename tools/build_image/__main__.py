"""`python -m tools.build_image`: build the worker image and leave it as an archive under build/images/.

The Dockerfile is one and the same everywhere. Where its default base cannot be pulled, a base is made here first.
"""

import argparse
import hashlib
import os
import tempfile
import tomllib
from pathlib import Path

from tools.build_image.base import Bases, make_bases
from tools.build_image.commands import BuildError, install
from tools.build_image.engines import Engine, Recipe, answers, build, choose, has, save
from tools.build_image.machine import default_base, epoch, pip_secrets, revision

ROOT = Path(__file__).resolve().parent.parent.parent
DOCKERFILE = ROOT / "worker" / "Dockerfile"
OWN_BASE = "own"
DEFAULT_BASE = default_base(DOCKERFILE)
UPSTREAM = ROOT / "worker" / "flowworker" / "database" / "upstream" / "manifest.json"


def main() -> None:
    """Build as the arguments say."""
    options = parse()
    if options.setup:
        setup()
        return
    if not UPSTREAM.exists():
        raise BuildError("The SQL of pgmq and pgflow is not here yet: run 'make setup' first.")
    engine = Engine(options.engine) if options.engine else choose()
    options.output.mkdir(parents=True, exist_ok=True)
    bases = choose_bases(engine, options.base, options.output, refresh=options.refresh_base)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    tag = options.tag or f"localhost/flowworker-worker:{version}"
    archive = options.output / "flowworker-worker.tar"
    with tempfile.TemporaryDirectory() as folder:
        build(engine, recipe(tag, bases, version, Path(folder)))
    save(engine, tag, archive)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    print(f"{tag} built with {engine} on {bases.runtime}")
    print(f"{os.path.relpath(archive)}: {archive.stat().st_size / 1e6:.0f} MB, sha256 {digest}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.build_image", description="Build the worker image.")
    parser.add_argument("--engine", choices=[*Engine], help="default: the first of them that answers")
    parser.add_argument(
        "--base", help=f"image with Python, or '{OWN_BASE}' for one made here; default: {DEFAULT_BASE}, else own"
    )
    parser.add_argument("--refresh-base", action="store_true", help="make the own base anew, with today's packages")
    parser.add_argument("--tag", help="full name of the image; default: localhost/flowworker-worker:VERSION")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "images", help="folder of the archive")
    parser.add_argument("--setup", action="store_true", help="install what building needs here (root), build nothing")
    return parser.parse_args()


def setup() -> None:
    """Install what is needed; nothing where an engine answers and has the default base."""
    engines = [engine for engine in (Engine.DOCKER, Engine.PODMAN) if answers(engine)]
    if not engines:
        install(["buildah", "mmdebstrap", "runc"])
    elif not has(engines[0], DEFAULT_BASE):
        install(["mmdebstrap"])


def choose_bases(engine: Engine, wanted: str | None, folder: Path, *, refresh: bool) -> Bases:
    """The bases to build on: what was asked for, else the default where it can be had, else our own."""
    if wanted and wanted != OWN_BASE:
        return Bases(runtime=wanted, build=wanted)
    if wanted is None and has(engine, DEFAULT_BASE):
        return Bases(runtime=DEFAULT_BASE, build=DEFAULT_BASE)
    if wanted is None:
        print(f"{DEFAULT_BASE} cannot be pulled here, so the base is made from the system's packages", flush=True)
    return make_bases(engine, folder, refresh=refresh)


def recipe(tag: str, bases: Bases, version: str, folder: Path) -> Recipe:
    """How the worker image is built."""
    return Recipe(
        dockerfile=DOCKERFILE,
        context=ROOT,
        tag=tag,
        epoch=epoch(ROOT),
        arguments={
            "BASE": bases.runtime,
            "BUILD_BASE": bases.build,
            "VERSION": version,
            "REVISION": revision(ROOT),
        },
        secrets=pip_secrets(folder),
    )


if __name__ == "__main__":
    main()
