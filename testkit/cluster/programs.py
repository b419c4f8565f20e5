"""What is built from which module: one Go module per family, since each wants its own versions of what they share."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

MODULES = Path(__file__).parent / "modules"

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager")
NODE = (*CONTROL_PLANE, "kube-scheduler", "kubelet", "kube-proxy", "coredns", "kwok")
KIND_NODE = (*CONTROL_PLANE, "kube-scheduler", "kubelet", "kubeadm", "kube-proxy", "coredns", "crictl")
"""In the image of kind's nodes, where no registry has one."""
SETS: Mapping[str, tuple[str, ...]] = {
    "control-plane": CONTROL_PLANE,
    "node": NODE,
    "kind": ("kind",),
    "kind-node": ("kind", *KIND_NODE),
    "kstatus": ("kstatus",),
    "all": tuple(dict.fromkeys((*NODE, *KIND_NODE, "kind", "kstatus"))),
}

BUILD_DATE = "1970-01-01T00:00:00Z"
COMMIT = "0" * 40
"""Date and commit are fixed: the same module files and the same Go give the same binaries, byte for byte."""


@dataclass(frozen=True)
class Family:
    """One Go module and the programs that come out of it."""

    name: str
    module: str
    """Module whose version the programs have."""
    packages: Mapping[str, str]
    """Main package of each program."""
    tags: str = ""
    version_packages: tuple[str, ...] = field(default=())
    """Packages whose version variables are stamped, as Kubernetes' own build does."""

    @property
    def folder(self) -> Path:
        """Where go.mod lies."""
        return MODULES / self.name

    @cached_property
    def version(self) -> str:
        """Version of the module in go.mod, for example v1.36.3."""
        found = re.search(rf"^(?:require|\t)\s*{re.escape(self.module)} (v\S+)", self.text, re.MULTILINE)
        assert found is not None, f"{self.folder}/go.mod does not require {self.module}"
        return found[1]

    @cached_property
    def text(self) -> str:
        """Content of go.mod."""
        return (self.folder / "go.mod").read_text()

    @property
    def go(self) -> str:
        """The oldest Go that go.mod takes, for example 1.26.0."""
        found = re.search(r"^go (\S+)$", self.text, re.MULTILINE)
        assert found is not None, f"{self.folder}/go.mod names no version of Go"
        return found[1]

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags of `go build`."""
        stamps = [stamp for package in self.version_packages for stamp in _stamps(package, self.version)]
        tags = (f"-tags={self.tags}",) if self.tags else ()
        return ("-trimpath", "-buildvcs=false", *tags, f"-ldflags={' '.join(['-s -w', *stamps])}")


def _stamps(package: str, version: str) -> list[str]:
    """A wrong or missing version breaks feature gates, node status and clients that parse the server's version."""
    major, minor, _ = version.removeprefix("v").split(".", 2)
    values = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": COMMIT,
        "buildDate": BUILD_DATE,
    }
    return [f"-X {package}.{name}={value}" for name, value in values.items()]


def _kubernetes(program: str) -> str:
    return f"k8s.io/kubernetes/cmd/{program}"


FAMILIES = (
    Family(name="etcd", module="go.etcd.io/etcd/server/v3", packages={"etcd": "go.etcd.io/etcd/server/v3"}),
    Family(
        name="kubernetes",
        module="k8s.io/kubernetes",
        packages={
            program: _kubernetes(program)
            for program in (
                *("kube-apiserver", "kube-controller-manager", "kube-scheduler"),
                *("kubelet", "kubeadm", "kube-proxy"),
            )
        },
        tags="selinux,notest,grpcnotrace",
        version_packages=("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"),
    ),
    Family(name="kwok", module="sigs.k8s.io/kwok", packages={"kwok": "sigs.k8s.io/kwok/cmd/kwok"}),
    Family(name="coredns", module="github.com/coredns/coredns", packages={"coredns": "."}),
    Family(name="kind", module="sigs.k8s.io/kind", packages={"kind": "sigs.k8s.io/kind"}),
    Family(
        name="crictl",
        module="sigs.k8s.io/cri-tools",
        packages={"crictl": "sigs.k8s.io/cri-tools/cmd/crictl"},
    ),
    Family(name="kstatus", module="sigs.k8s.io/cli-utils", packages={"kstatus": "."}),
)


def family_of(program: str) -> Family:
    """The family a program comes from."""
    return next(family for family in FAMILIES if program in family.packages)
