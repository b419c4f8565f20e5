"""A PostgreSQL server with TLS and a certificate of its own."""

import os
import subprocess
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from flowworker.database.local_server import LocalServer, unprivileged_account

TLS_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
"""Of Debian's packages."""


ELLIPTIC = ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
RSA = ("rsa:2048",)


def self_signed(folder: Path, key_kind: Sequence[str] = ELLIPTIC, *, name: str = "localhost") -> tuple[Path, Path]:
    """A certificate for a host or a user of this name, and its key."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", *key_kind, "-nodes", "-days", "1",
         "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    key.chmod(0o600)
    return certificate, key


@contextmanager
def running_tls_server(key_kind: Sequence[str] = ELLIPTIC, **more: str) -> Generator[tuple[LocalServer, Path]]:
    """A server with a certificate of its own for `localhost`, and that certificate."""
    if not TLS_BINARIES:
        pytest.skip("needs Debian's postgresql: the embedded one has no TLS")
    with tempfile.TemporaryDirectory(prefix="flowworker-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        certificate, key = self_signed(folder, key_kind)
        if os.geteuid() == 0:
            account = unprivileged_account()
            os.chown(key, account.pw_uid, account.pw_gid)
        settings = {"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key), **more}
        binaries = TLS_BINARIES[-1]
        with LocalServer(directory=folder / "server", binaries=binaries, settings=settings, trust=True) as server:
            yield server, certificate
