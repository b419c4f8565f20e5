"""The images that are built here, and what they are called."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image: its full name is `localhost/NAME:TAG`, its archive `NAME.tar`."""

    name: str
    dockerfile: str
    """Path from the repository's root, which is the build context of all of them."""
    needs: tuple[str, ...] = ()
    """Files that git does not hold and `make setup` brings."""

    def tag(self, version: str) -> str:
        """Full name, as Kubernetes wants it for an image that no registry has."""
        return f"localhost/{self.name}:{version}"

    def archive(self, folder: Path) -> Path:
        """Where its docker-archive is left."""
        return folder / f"{self.name}.tar"


UPSTREAM = "worker/flowworker/database/upstream/manifest.json"

IMAGES = {
    "worker": Image(name="flowworker", dockerfile="worker/Dockerfile", needs=(UPSTREAM,)),
    "operator": Image(name="flowworker-operator", dockerfile="operator/Dockerfile"),
    "postgres": Image(name="postgres", dockerfile="testkit/images/postgres/Dockerfile"),
}
"""By the name they have on the command line."""

EVERYTHING = "all"


def chosen(names: list[str]) -> list[Image]:
    """The images that a command line names; `all` is every one."""
    wanted = list(IMAGES) if EVERYTHING in names else list(dict.fromkeys(names))
    return [IMAGES[name] for name in wanted]
