"""`python -m tools.build_image [worker|operator|postgres|all ...]`: build images and leave them as archives.

The Dockerfiles are one and the same everywhere. Where their default base cannot be pulled, a base is made here first.
It and the layers that an engine keeps lie outside the tree, so that a second build takes seconds.
"""

import argparse
import os
import tempfile
import tomllib
from pathlib import Path

from tools.build_image.base import Bases, make_bases
from tools.build_image.catalogue import EVERYTHING, IMAGES, Image, chosen
from tools.build_image.commands import BuildError, install
from tools.build_image.engines import Engine, Recipe, build, builds, choose, has, save
from tools.build_image.machine import cache_folder, default_base, epoch, pip_secrets, revision

ROOT = Path(__file__).resolve().parent.parent.parent
OWN_BASE = "own"
DEFAULT_BASE = default_base(ROOT / IMAGES["worker"].dockerfile)


def main() -> None:
    """Build as the arguments say."""
    options = parse()
    if options.setup:
        setup()
        return
    images = chosen(options.images or ["worker"])
    check(images)
    engine = Engine(options.engine) if options.engine else choose()
    options.archive.mkdir(parents=True, exist_ok=True)
    bases = choose_bases(engine, options.base, refresh=options.refresh_base)
    for image in images:
        make(engine, image, bases, options)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.build_image", description="Build images.")
    names = ", ".join([*IMAGES, EVERYTHING])
    parser.add_argument("images", nargs="*", type=image_name, metavar="IMAGE", help=f"{names}; default: worker")
    parser.add_argument("--engine", choices=[*Engine], help="default: the first of them that answers")
    parser.add_argument(
        "--base", help=f"image with Python, or '{OWN_BASE}' for one made here; default: {DEFAULT_BASE}, else own"
    )
    parser.add_argument("--refresh-base", action="store_true", help="make the own base anew, with today's packages")
    parser.add_argument("--no-cache", action="store_true", help="build every layer anew")
    parser.add_argument(
        "--tag", action="append", help="tag of the images localhost/NAME:TAG, may be repeated; default: the version"
    )
    parser.add_argument("--archive", type=Path, default=ROOT / "build" / "images", help="folder of the archives")
    parser.add_argument("--setup", action="store_true", help="install what building needs here (root), build nothing")
    return parser.parse_args()


def image_name(text: str) -> str:
    """One of the names; argparse's own check of choices fails when none is given."""
    if text not in (*IMAGES, EVERYTHING):
        raise argparse.ArgumentTypeError(f"there is no image {text!r}")
    return text


def setup() -> None:
    """Install what is needed; nothing where an engine builds and has the default base."""
    engines = [engine for engine in (Engine.DOCKER, Engine.PODMAN) if builds(engine)]
    if not engines:
        install(["buildah", "mmdebstrap", "runc"])
    elif not has(engines[0], DEFAULT_BASE):
        install(["mmdebstrap"])


def check(images: list[Image]) -> None:
    """See that the tree has what the images are made of.

    Raises:
        BuildError: The SQL of pgmq and pgflow has not been fetched.
    """
    if any(not (ROOT / file).exists() for image in images for file in image.needs):
        raise BuildError("The SQL of pgmq and pgflow is not here yet: run 'make setup' first.")


def choose_bases(engine: Engine, wanted: str | None, *, refresh: bool) -> Bases:
    """The bases to build on: what was asked for, else the default where it can be had, else our own."""
    if wanted and wanted != OWN_BASE:
        return Bases(runtime=wanted, build=wanted)
    if wanted is None and has(engine, DEFAULT_BASE):
        return Bases(runtime=DEFAULT_BASE, build=DEFAULT_BASE)
    if wanted is None:
        print(f"{DEFAULT_BASE} cannot be pulled here, so the base is made from the system's packages", flush=True)
    return make_bases(engine, cache_folder(), refresh=refresh)


def make(engine: Engine, image: Image, bases: Bases, options: argparse.Namespace) -> None:
    """Build one image and write its archive."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    tags = [image.tag(tag) for tag in options.tag or [version]]
    archive = image.archive(options.archive)
    with tempfile.TemporaryDirectory() as folder:
        recipe = Recipe(
            dockerfile=ROOT / image.dockerfile,
            context=ROOT,
            tags=tags,
            epoch=epoch(ROOT),
            arguments={"BASE": bases.runtime, "BUILD_BASE": bases.build},
            labels={
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.revision": revision(ROOT),
            },
            secrets=pip_secrets(Path(folder)),
            cached=not options.no_cache,
        )
        build(engine, recipe)
    save(engine, tags, archive)
    size = archive.stat().st_size / 1e6
    print(
        f"{' and '.join(tags)} built with {engine} on {bases.runtime}: {os.path.relpath(archive)}, {size:.0f} MB",
        flush=True,
    )


if __name__ == "__main__":
    main()
