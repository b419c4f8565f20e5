"""The image of kind's nodes, made without a registry: the system's packages, our own build of Kubernetes, kind's files.

kind's own builder starts from an image of a registry and pulls others. This one puts the same things together by hand:
a small system with systemd, containerd and runc out of the distribution's packages, the files that kind's base image
adds, out of its Go module, the programs, and the images of the control plane, which a service of the node imports when
the node starts. What only needs a network to the outside is left out: kindnet, and the provisioner of volumes.
"""

import hashlib
import io
import json
import platform
import re
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from testkit.cluster import binaries
from testkit.cluster.configuration import PAUSE_IMAGE
from testkit.cluster.errors import BuildError
from testkit.cluster.images import MACHINES, Contents, pause_archive, write_archive
from testkit.cluster.kind import manifests
from testkit.cluster.programs import KIND_NODE, family_of
from tools.build_image.base import EPOCH, OPTIONS
from tools.build_image.commands import run
from tools.build_image.machine import System, system
from tools.cache import cache_folder, locked
from tools.fetch_kubectl import kubectl

PACKAGES = (
    *("usr-is-merged", "bash", "systemd", "util-linux", "mount", "kmod", "procps"),
    *("containerd", "runc", "containernetworking-plugins", "iptables", "iproute2", "ethtool"),
)
HOOKS = tuple(
    f"--customize-hook=rm -f {files}"
    for files in (
        # Nothing starts but what the node needs, as in kind's own image.
        '"$1"/usr/lib/systemd/system/multi-user.target.wants/* "$1"/etc/systemd/system/*.wants/*',
        '"$1"/usr/lib/systemd/system/local-fs.target.wants/* "$1"/usr/lib/systemd/system/basic.target.wants/*',
        '"$1"/usr/lib/systemd/system/sockets.target.wants/*initctl*',
        '"$1"/usr/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service',
        # They would change the machine that the node runs on.
        '"$1"/usr/lib/sysctl.d/*',
    )
)

KIND_FILES = "images/base/files"
"""In kind's module: what its base image has beside packages."""
OTHER_CONFIGURATION = "etc/containerd/"
"""Of those files, what is for another containerd."""

COREDNS = manifests.COREDNS_IMAGE
PROXY = "/usr/local/bin/kube-proxy"
"""Where kubeadm's manifest looks for it; the others are found on PATH."""
MULTI = "/usr/sbin/xtables-nft-multi"
MULTI_NAMES = tuple(f"{family}{what}" for family in ("iptables", "ip6tables") for what in ("", "-save", "-restore"))

CONTAINERD = f"""version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
tolerate_missing_hugepages_controller = true
# A lower score than the parent's needs a capability that a sandbox has not got; without it no pod would start.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/etc/cni/net.d"
conf_template = "/etc/containerd/network.template"
"""

NETWORK = """{
 "cniVersion": "1.0.0", "name": "nodes",
 "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipam": {
   "type": "host-local", "ranges": [[{"subnet": "{{.PodCIDR}}"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}
 ]
}
"""
"""containerd fills it in as soon as the node has its range of addresses."""

IMPORT = """#!/bin/sh
set -e
for archive in /kind/images/*.tar; do
    ctr --namespace=k8s.io images import "$archive"
done
touch /var/lib/images-imported
"""
IMPORTED = """[Unit]
Description=Images of the control plane
Requires=containerd.service
After=containerd.service
Before=kubelet.service
ConditionPathExists=!/var/lib/images-imported

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/kind/bin/import-images
"""
STARTED = ("kubelet", "containerd", "undo-mount-hacks", "node-images")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeImage:
    """An image that docker can load."""

    name: str
    archive: Path
    version: str
    """Of Kubernetes, for example v1.36.3."""


@dataclass(slots=True)
class Layer:
    """A layer that is being put together; folders come before what lies in them."""

    tar: tarfile.TarFile
    _made: set[str] = field(default_factory=set[str])

    def folder(self, name: str, mode: int = 0o755) -> None:
        """A folder with those above it."""
        parent, _, _ = name.rpartition("/")
        if name in self._made or not name:
            return
        self.folder(parent)
        self._made.add(name)
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, mode, EPOCH
        self.tar.addfile(entry)

    def file(self, name: str, content: bytes | str, *, program: bool = False) -> None:
        """A small file."""
        data = content.encode() if isinstance(content, str) else content
        self._add(name, io.BytesIO(data), len(data), program=program)

    def copy(self, name: str, source: Path, *, program: bool = False) -> None:
        """A file of this machine."""
        with source.open("rb") as file:
            self._add(name, file, source.stat().st_size, program=program)

    def link(self, name: str, target: str) -> None:
        """A symbolic link."""
        self.folder(name.rpartition("/")[0])
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname, entry.mtime = tarfile.SYMTYPE, target, EPOCH
        self.tar.addfile(entry)

    def _add(self, name: str, content: "io.BufferedIOBase", size: int, *, program: bool) -> None:
        self.folder(name.rpartition("/")[0])
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.mtime = size, 0o755 if program else 0o644, EPOCH
        self.tar.addfile(entry, content)


def node_image() -> NodeImage:
    """The image, which is made unless the cache has it.

    Raises:
        BuildError: something that it is made of cannot be had.
    """
    programs = binaries.build(KIND_NODE)
    here = system()
    files = _kind_module() / KIND_FILES
    version = family_of("kubelet").version
    parts = [
        *(str(path.parent.name) for path in programs.values()),
        *(str(part) for part in (here.suite, PACKAGES, OPTIONS, HOOKS, EPOCH)),
        *(Path(__file__).read_text(), Path(manifests.__file__).read_text()),
        family_of("kind").version,
        hashlib.sha256(Path(MULTI).read_bytes()).hexdigest(),
    ]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    folder = cache_folder() / "kind"
    image = NodeImage(name=f"localhost/node:{key}", archive=folder / f"node-{key}.tar", version=version)
    with locked(folder / ".lock"):
        if not image.archive.exists():
            root = _root(here, folder)
            _remove_others(folder, "node-*.tar")
            _make(image, root, files, programs)
    return image


def _root(here: System, folder: Path) -> Path:
    """Archive of the system that the nodes run."""
    key = hashlib.sha256(repr((here, PACKAGES, OPTIONS, HOOKS, EPOCH)).encode()).hexdigest()[:12]
    archive = folder / f"root-{here.suite}-{key}.tar"
    if not archive.exists():
        binaries.to_stderr(f"making {archive.name} from the packages of {here.suite}")
        _remove_others(folder, "root-*")
        draft, sources = folder / "draft.tar", folder / "system.list"
        sources.write_text(here.sources)
        run(
            ["mmdebstrap", *OPTIONS, *HOOKS, f"--include={','.join(PACKAGES)}", here.suite, str(draft), str(sources)],
            environment={"SOURCE_DATE_EPOCH": str(EPOCH)},
            log=archive.with_suffix(".log"),
        )
        draft.replace(archive)
    return archive


def _remove_others(folder: Path, pattern: str) -> None:
    """Each is large, and none of an older state is used again."""
    for path in folder.glob(pattern):
        path.unlink()


def _make(image: NodeImage, root: Path, files: Path, programs: Mapping[str, Path]) -> None:
    binaries.to_stderr(f"making the image of kind's nodes, {image.name}")
    layer, draft = image.archive.with_suffix(".layer"), image.archive.with_suffix(".draft")
    images = image.archive.with_suffix(".images")
    images.mkdir(exist_ok=True)
    try:
        with tarfile.open(layer, "w") as tar:
            _fill(Layer(tar), image.version, files, programs, images)
        _write(draft, image.name, [root, layer])
        draft.replace(image.archive)
    finally:
        layer.unlink(missing_ok=True)
        draft.unlink(missing_ok=True)
        for path in images.iterdir():
            path.unlink()
        images.rmdir()


def _fill(layer: Layer, version: str, files: Path, programs: Mapping[str, Path], images: Path) -> None:
    for path in sorted(path for path in files.rglob("*") if path.is_file()):
        name = str(path.relative_to(files))
        if not name.startswith(OTHER_CONFIGURATION):
            layer.copy(name, path, program=name.startswith("usr/local/bin/") or name.endswith(".sh"))
    for program in ("kubelet", "kubeadm", "crictl"):
        layer.copy(f"usr/bin/{program}", programs[program], program=True)
    layer.copy("usr/bin/kubectl", kubectl(), program=True)
    layer.link("usr/local/bin/containerd", "/usr/bin/containerd")
    layer.link("usr/sbin/init", "/usr/lib/systemd/systemd")
    layer.file("kind/version", version)
    layer.file("kind/manifests/default-storage.yaml", manifests.text(Path("/var/local-volumes")))
    layer.file("kind/bin/import-images", IMPORT, program=True)
    for archive in _archives(programs, version, images):
        layer.copy(f"kind/images/{archive.name}", archive)
    layer.file("etc/containerd/config.toml", CONTAINERD)
    layer.file("etc/containerd/network.template", NETWORK)
    layer.file("etc/systemd/journald.conf.d/node.conf", "[Journal]\nReadKMsg=no\n")
    layer.file("etc/systemd/system/node-images.service", IMPORTED)
    # It would register formats with the machine's kernel.
    layer.link("etc/systemd/system/systemd-binfmt.service", "/dev/null")
    for service in STARTED:
        layer.link(f"etc/systemd/system/multi-user.target.wants/{service}.service", f"../{service}.service")
    layer.folder("etc/kubernetes/manifests")
    for path in manifests.volume_folders(Path("/var/local-volumes")):
        layer.folder(str(path).lstrip("/"))


def _archives(programs: Mapping[str, Path], version: str, folder: Path) -> Iterator[Path]:
    """Archives of all images that a node starts with, under the names that kubeadm asks for."""
    yield pause_archive(cache_folder() / "images")
    for name in _names(programs["kubeadm"], version):
        program = name.rpartition("/")[2].partition(":")[0]
        if program not in programs or program == "coredns":
            continue
        proxy = program == "kube-proxy"
        place = PROXY.lstrip("/") if proxy else f"bin/{program}"
        contents = Contents(
            name=name,
            files={place: programs[program].read_bytes(), **(_firewall() if proxy else {})},
            entrypoint=[f"/{place}"],
            links={f"bin/{each}": Path(MULTI).name for each in MULTI_NAMES} if proxy else {},
            user="0:0",
        )
        yield _write_image(folder / f"{program}.tar", contents)
    contents = Contents(
        name=COREDNS, files={"bin/coredns": programs["coredns"].read_bytes()}, entrypoint=["/bin/coredns"], user="0:0"
    )
    yield _write_image(folder / "coredns.tar", contents)


def _write_image(path: Path, contents: Contents) -> Path:
    write_archive(path, contents)
    return path


def _names(kubeadm: Path, version: str) -> list[str]:
    """Full names of the control plane's images."""
    asked = [str(kubeadm), "config", "images", "list", f"--kubernetes-version={version}"]
    return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout.split()


def _firewall() -> dict[str, bytes]:
    """This machine's iptables with all that it loads."""
    linked = subprocess.run(["ldd", MULTI], capture_output=True, text=True, check=True, timeout=30).stdout
    libraries = re.findall(r"(?:=> |^\s*)(/\S+) \(", linked, re.MULTILINE)
    (extensions,) = {path.parent for path in Path("/usr/lib").glob("*/xtables/libxt_comment.so")}
    loaded = [Path(library) for library in libraries] + sorted(extensions.glob("*.so"))
    return {f"bin/{Path(MULTI).name}": Path(MULTI).read_bytes()} | {
        str(path).lstrip("/"): path.read_bytes() for path in loaded
    }


def _kind_module() -> Path:
    """Folder with the source of kind, out of Go's module cache."""
    asked = ["go", "mod", "download", "-json", "sigs.k8s.io/kind"]
    done = subprocess.run(asked, cwd=family_of("kind").folder, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise BuildError(f"kind's module cannot be had:\n{done.stderr}{done.stdout}")
    return Path(json.loads(done.stdout)["Dir"])


def _write(target: Path, name: str, layers: Sequence[Path]) -> None:
    """An image of several layers as a docker-archive."""
    configuration = json.dumps(
        {
            "architecture": MACHINES[platform.machine()],
            "os": "linux",
            "config": {
                "Entrypoint": ["/usr/local/bin/entrypoint", "/sbin/init"],
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "container=docker"],
                "StopSignal": "SIGRTMIN+3",
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(layer)}" for layer in layers]},
            "history": [{"created": "1970-01-01T00:00:00Z"} for _ in layers],
        }
    ).encode()
    place = f"{hashlib.sha256(configuration).hexdigest()}.json"
    names = [f"layer-{number}.tar" for number in range(len(layers))]
    manifest = json.dumps([{"Config": place, "RepoTags": [name], "Layers": names}]).encode()
    with tarfile.open(target, "w") as tar:
        archive = Layer(tar)
        for number, layer in enumerate(layers):
            archive.copy(names[number], layer)
        archive.file(place, configuration)
        archive.file("manifest.json", manifest)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
