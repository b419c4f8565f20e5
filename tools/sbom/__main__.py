"""`python -m tools.sbom FILE...`: write the bill of materials of wheels and image archives.

Without files, of a new wheel and of the archives that `make image` left. `--licences` checks the licences of what the
images bring.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tools.build_image.machine import epoch
from tools.sbom.bill import bill
from tools.sbom.image import read_image
from tools.sbom.licences import refused
from tools.sbom.wheel import locked, read_wheel

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("worker.txt", "operator.txt")


def main() -> None:
    """Do as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tools.sbom", description="Write bills of materials (CycloneDX).")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="wheels and image archives")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "sbom", help="folder")
    parser.add_argument("--licences", action="store_true", help="check licences, write nothing")
    options = parser.parse_args()
    if options.licences:
        check_licences(ROOT / "requirements" / name for name in SHIPPED)
        return
    options.output.mkdir(parents=True, exist_ok=True)
    for file in options.files or [build_wheel(ROOT / "dist"), *sorted((ROOT / "build" / "images").glob("*.tar"))]:
        print(f"{file.name}: {write(file, options.output)}", flush=True)


def build_wheel(folder: Path) -> Path:
    """A new wheel of the tree."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return max(folder.glob("*.whl"), key=lambda file: file.stat().st_mtime)


def write(file: Path, folder: Path) -> Path:
    """Write the bill of one file; gives where it is."""
    kind, reader = ("wheel", read_wheel) if file.suffix == ".whl" else ("image", read_image)
    subject, components = reader(file)
    target = folder / f"{subject.name}-{kind}.cdx.json"
    target.write_text(bill(subject, components, epoch(ROOT)))
    return target


def check_licences(requirements: Iterable[Path]) -> None:
    """Exit with 1 and name each package whose licence is unknown or may not be shipped."""
    packages = locked(requirements)
    problems = [
        f"{one.name} {one.version}: {one.licence or 'no known licence'}" for one in packages if refused(one.licence)
    ]
    if problems:
        sys.exit("\n".join(["may not be shipped (tools/sbom/licences.py):", *problems]))
    print(f"{len(packages)} packages have licences that may be shipped")


if __name__ == "__main__":
    main()
