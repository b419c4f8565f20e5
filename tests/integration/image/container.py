"""Running the image as Kubernetes would under the restricted profile: numeric user, read-only root, no capabilities."""

import json
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol

USER = 65532
_numbers = count(1)


class Container(Protocol):
    """A way to run a command in the image."""

    def command(
        self,
        *arguments: str,
        program: str = "",
        mounts: Mapping[Path, str] = ...,
        volumes: Mapping[Path, str] = ...,
        user: int = USER,
    ) -> list[str]:
        """The command that runs the image's entrypoint, or another program.

        `mounts` are mounted read-only, `volumes` to be written to.
        """
        ...


def image_config(archive: Path) -> dict[str, Any]:
    """The configuration that a docker-archive carries: Config.User, Config.Labels, history and so on."""
    with tarfile.open(archive) as opened:
        (manifest,) = json.loads(_read(opened, "manifest.json"))
        return json.loads(_read(opened, manifest["Config"]))


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    assert member is not None, name
    return member.read()


def run(command: Sequence[str]) -> str:
    """Run to the end; give standard output, and fail with standard error."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineContainer:
    """Runs with docker or podman."""

    engine: str
    tag: str

    def command(
        self,
        *arguments: str,
        program: str = "",
        mounts: Mapping[Path, str] = {},
        volumes: Mapping[Path, str] = {},
        user: int = USER,
    ) -> list[str]:
        """See Container."""
        shared = [f"--volume={source}:{target}:ro" for source, target in mounts.items()]
        shared += [f"--volume={source}:{target}" for source, target in volumes.items()]
        entrypoint = [f"--entrypoint={program}"] if program else []
        return [
            *(self.engine, "run", "--rm", "--read-only", "--tmpfs=/tmp", "--network=host", f"--user={user}:{user}"),
            *("--cap-drop=ALL", "--security-opt=no-new-privileges", *shared, *entrypoint, self.tag, *arguments),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuncContainer:
    """Runs with runc alone, on a root file system that buildah mounted."""

    root: Path
    config: Mapping[str, Any]
    bundles: Path

    def command(
        self,
        *arguments: str,
        program: str = "",
        mounts: Mapping[Path, str] = {},
        volumes: Mapping[Path, str] = {},
        user: int = USER,
    ) -> list[str]:
        """See Container."""
        name = f"flowworker-image-test-{self.bundles.name}-{next(_numbers)}"
        bundle = self.bundles / name
        bundle.mkdir()
        subprocess.run(["runc", "spec", "--bundle", str(bundle)], check=True)
        file = bundle / "config.json"
        spec = json.loads(file.read_text())
        self._restrict(spec, user)
        spec["process"]["args"] = [*([program] if program else self.config["Entrypoint"]), *arguments]
        spec["mounts"] += [
            {"destination": target, "type": "bind", "source": str(source), "options": ["rbind", access]}
            for places, access in ((mounts, "ro"), (volumes, "rw"))
            for source, target in places.items()
        ]
        file.write_text(json.dumps(spec))
        return ["runc", "run", "--bundle", str(bundle), name]

    def _restrict(self, spec: dict[str, Any], user: int) -> None:
        """The image's own settings, no privileges, the host's network, a writable /tmp and nothing else to write to."""
        spec["process"] |= {
            "terminal": False,
            "user": {"uid": user, "gid": user},
            "env": self.config["Env"],
            "cwd": self.config["WorkingDir"],
            "capabilities": {},
            "noNewPrivileges": True,
        }
        spec["root"] = {"path": str(self.root), "readonly": True}
        spec["mounts"] = [mount for mount in spec["mounts"] if mount["type"] not in ("cgroup", "sysfs")]
        spec["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]})
        spec["linux"]["namespaces"] = [space for space in spec["linux"]["namespaces"] if space["type"] != "network"]
