"""A base image of our own, for a machine that reaches no registry: the Debian or Ubuntu it runs, with Python.

Made from the distribution's packages by mmdebstrap, which does what debootstrap does and also takes the security
archive and gives the same bytes each time. The result is kept, under a name that says what it was made from, until it
is asked for afresh.
"""

import hashlib
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tools.build_image.commands import absent, install, run
from tools.build_image.engines import Engine, Recipe, build, holds
from tools.build_image.machine import System, system

# What `python:slim` has beside Python, and tini, which the Dockerfiles install where there is apt. usr-is-merged keeps
# out usrmerge, which would bring all of Perl.
RUNTIME_PACKAGES = ("usr-is-merged", "python3", "ca-certificates", "netbase", "tini", "tzdata")
BUILD_PACKAGES = (*RUNTIME_PACKAGES, "python3-pip")

EPOCH = 315532800
"""1980: files of the base are dated no later, so that they depend on the packages alone."""

OPTIONS = (
    "--variant=essential",
    "--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    # The Dockerfile compiles the standard library again, without modification times.
    '--customize-hook=find "$1/usr/lib" -name __pycache__ -prune -exec rm -r {} +',
    # There is no apt inside to use them, and they name the mirror of the machine that built.
    '--customize-hook=rm -f "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*',
)
DOCKERFILE = "FROM scratch\nADD rootfs.tar /\n"


class Bases(NamedTuple):
    """Image names of the base that runs and of the base that builds."""

    runtime: str
    build: str


def make_bases(engine: Engine, folder: Path, *, refresh: bool) -> Bases:
    """Make both bases and give them to the engine.

    Raises:
        BuildError: mmdebstrap is missing or failed, or this is neither Debian nor Ubuntu.
    """
    if absent(["mmdebstrap"]):
        install(["mmdebstrap"])
    here = system()
    folder.mkdir(parents=True, exist_ok=True)
    plans = (("runtime", RUNTIME_PACKAGES), ("build", BUILD_PACKAGES))
    with ThreadPoolExecutor() as threads:
        made = [threads.submit(make_base, engine, here, role, packages, folder, refresh) for role, packages in plans]
        return Bases(*(tag.result() for tag in made))


def make_base(engine: Engine, here: System, role: str, packages: Sequence[str], folder: Path, refresh: bool) -> str:
    """The image name of one base, which the engine has afterwards."""
    key = hashlib.sha256(repr((here, packages, OPTIONS, EPOCH)).encode()).hexdigest()[:12]
    tag = f"localhost/flowworker-base-{role}:{here.suite}-{key}"
    archive = folder / f"base-{here.suite}-{key}.tar"
    if refresh or not archive.exists():
        print(f"making {archive.name} from the packages of {here.suite}", flush=True)
        bootstrap(here, packages, archive)
    elif holds(engine, tag):
        return tag
    load(engine, tag, archive)
    return tag


def bootstrap(here: System, packages: Sequence[str], archive: Path) -> None:
    """Run mmdebstrap; the archive appears only when it is complete."""
    draft = archive.with_suffix(".draft.tar")
    with tempfile.TemporaryDirectory() as folder:
        sources = Path(folder) / "system.list"
        sources.write_text(here.sources)
        run(
            ["mmdebstrap", *OPTIONS, f"--include={','.join(packages)}", here.suite, str(draft), str(sources)],
            environment={"SOURCE_DATE_EPOCH": str(EPOCH)},
            log=archive.with_suffix(".log"),
        )
    draft.replace(archive)


def load(engine: Engine, tag: str, archive: Path) -> None:
    """Turn an archive into an image of one layer."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        context = Path(folder)
        (context / "rootfs.tar").hardlink_to(archive)
        (context / "Dockerfile").write_text(DOCKERFILE)
        build(engine, Recipe(dockerfile=context / "Dockerfile", context=context, tags=[tag], epoch=EPOCH))
