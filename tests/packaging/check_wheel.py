"""Install the wheel of a folder in a clean environment and look at what came with it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path


def main(folder: str) -> None:
    (wheel,) = Path(folder).glob("*.whl")
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    top = sorted(name for name in names if not name.endswith(".dist-info"))
    if top != ["cubekit", "cubekit_cli"]:
        sys.exit(f"the wheel's top level is {top}")
    with tempfile.TemporaryDirectory() as place:
        venv.create(place, with_pip=False)
        python = Path(place) / "bin" / "python"
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, wheel], check=True)
        done = subprocess.run([python.with_name("cubekit"), "--version"], check=True, capture_output=True, text=True, cwd=place)
        installed = subprocess.run(
            [python, "-c", "import cubekit; print(cubekit.__file__)"], check=True, capture_output=True, text=True, cwd=place
        )
        if place not in installed.stdout:
            sys.exit(f"cubekit was imported from {installed.stdout.strip()}, not from the wheel")
        print(f"{wheel.name}: {', '.join(top)}; {done.stdout.strip()}")


if __name__ == "__main__":
    main(sys.argv[1])
