"""Environments that hold the built wheel and exactly what one extra declares, by links to what is installed here."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def build_wheel(folder: Path, source: Path = ROOT) -> Path:
    """The package's wheel, built in `folder`."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def environment(folder: Path, wheel: Path, extra: str) -> Path:
    """A fresh environment with the wheel and what `extra` ("" for the base) declares, and nothing else; its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (metadata,) = packages.glob("mmplane-*.dist-info")
    for found in closure(Distribution.at(metadata), extra):
        for path in found.files or ():
            entry = packages / path.parts[0]
            source = Path(str(found.locate_file(path.parts[0])))
            if path.parts[0] not in ("..", "__pycache__") and not entry.exists():
                entry.symlink_to(source)
    return folder / "bin" / "python"


def closure(root: Distribution, extra: str) -> list[Distribution]:
    """All that the root requires with an extra, and all that those require in turn."""
    found: dict[str, Distribution] = {}
    open_ = [(root, extra)]
    seen: set[tuple[str, str]] = set()
    while open_:
        owner, wanted = open_.pop()
        for line in owner.requires or ():
            requirement = Requirement(line)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": wanted}):
                continue
            name = canonicalize_name(requirement.name)
            try:
                needed = distribution(name) if name != canonicalize_name(root.name) else root
            except PackageNotFoundError as error:
                raise AssertionError(f"{owner.name} needs {line}, which is not installed here") from error
            for each in ["", *requirement.extras]:
                if (name, each) not in seen:
                    seen.add((name, each))
                    open_.append((needed, each))
            if needed is not root:
                found[name] = needed
    return list(found.values())
