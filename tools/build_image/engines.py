"""docker, podman and buildah, as far as building an image needs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import assert_never

from tools.build_image.archives import rename
from tools.build_image.commands import BuildError, absent, missing, output, run

FIRST_WITHOUT_BUILDKIT = 23
"""Version of docker's client since which BuildKit is a component of its own."""


class Engine(StrEnum):
    """A program that builds images."""

    DOCKER = "docker"
    PODMAN = "podman"
    BUILDAH = "buildah"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One image to build."""

    dockerfile: Path
    context: Path
    tags: Sequence[str]
    """Its full names."""
    epoch: int
    """Seconds since 1970 that the image and its files are dated with."""
    arguments: Mapping[str, str] = field(default_factory=dict[str, str])
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    secrets: Mapping[str, Path] = field(default_factory=dict[str, Path])
    cached: bool = True
    """Layers of earlier builds may be used; they keep the date they were built with."""


def answers(engine: Engine) -> bool:
    """Whether the engine is installed and, where it has a daemon, the daemon answers."""
    match engine:
        case Engine.DOCKER | Engine.PODMAN:
            return output([engine, "info"]) is not None
        case Engine.BUILDAH:
            return not absent([engine])
        case _:
            assert_never(engine)


def builds(engine: Engine) -> bool:
    """Whether the engine answers and can build our Dockerfiles, which want secrets that no layer keeps.

    With docker that is BuildKit: older clients have it built in, newer ones as the component buildx, which
    distributions pack apart.
    """
    if engine is not Engine.DOCKER:
        return answers(engine)
    version = (output([engine, "version", "--format", "{{.Client.Version}}"]) or "").partition(".")[0]
    if not answers(engine) or not version.isdigit():
        return False
    return int(version) < FIRST_WITHOUT_BUILDKIT or output([engine, "buildx", "version"]) is not None


def choose() -> Engine:
    """The first engine that builds.

    Raises:
        BuildError: There is none.
    """
    for engine in Engine:
        if builds(engine):
            return engine
    if answers(Engine.DOCKER):
        raise BuildError(
            "docker has no BuildKit here: install its component buildx (Debian: apt-get install docker-buildx; "
            f"Ubuntu: docker-buildx), or another builder: {missing([Engine.BUILDAH])}"
        )
    raise BuildError(f"no docker or podman answers, and {missing([Engine.BUILDAH])}")


def holds(engine: Engine, image: str) -> bool:
    """Whether the engine has the image."""
    inspect = {
        Engine.DOCKER: [engine, "image", "inspect", image],
        Engine.PODMAN: [engine, "image", "inspect", image],
        Engine.BUILDAH: [engine, "inspect", "--type", "image", image],
    }[engine]
    return output(inspect) is not None


def has(engine: Engine, image: str) -> bool:
    """Whether the engine has the image or can pull it."""
    return holds(engine, image) or output([engine, "pull", image], deadline=300.0) is not None


def build(engine: Engine, recipe: Recipe) -> None:
    """Build an image into the engine's own store."""
    # Clients that have BuildKit built in use it when they are asked to; the others do anyway.
    environment = {"DOCKER_BUILDKIT": "1"} if engine is Engine.DOCKER else {}
    run([engine, "build", *flags(engine, recipe), str(recipe.context)], environment=environment)


def flags(engine: Engine, recipe: Recipe) -> list[str]:
    """The arguments of the engine's `build`, without the context."""
    common = ["--file", str(recipe.dockerfile)]
    for tag in recipe.tags:
        common += ["--tag", tag]
    for name, value in recipe.arguments.items():
        common += ["--build-arg", f"{name}={value}"]
    # Labels are flags and no arguments: to buildah's cache, a label whose argument has changed is still the same.
    for name, value in recipe.labels.items():
        common += ["--label", f"{name}={value}"]
    for name, path in recipe.secrets.items():
        common += ["--secret", f"id={name},src={path}"]
    if not recipe.cached:
        common += ["--no-cache"]
    match engine:
        case Engine.DOCKER:
            return [*common, "--build-arg", f"SOURCE_DATE_EPOCH={recipe.epoch}"]
        case Engine.PODMAN | Engine.BUILDAH:
            # The machine's own network: a bridge needs firewall rules that a container or a CI job may not set.
            return [*common, "--layers", "--timestamp", str(recipe.epoch), "--network", "host", "--quiet"]
        case _:
            assert_never(engine)


def save(engine: Engine, tags: Sequence[str], archive: Path) -> None:
    """Write an image under all its names as a docker-archive, which docker, containerd and kind read."""
    draft = archive.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    match engine:
        case Engine.DOCKER:
            run([engine, "save", "--output", str(draft), *tags])
        case Engine.PODMAN:
            run([engine, "save", "--quiet", "--format", "docker-archive", "--output", str(draft), *tags])
        case Engine.BUILDAH:
            run([engine, "push", "--quiet", tags[0], f"docker-archive:{draft}:{tags[0]}"])
            if len(tags) > 1:
                rename(draft, tags)
        case _:
            assert_never(engine)
    draft.replace(archive)
