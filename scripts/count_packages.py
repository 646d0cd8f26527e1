"""Count what a plain `pip install lamina` installs, and try it: fresh environment, no extras, no checkout on the path.

The wheel is built from a copy of the sources, installed with the lock's versions, every module of the package is imported
and a small training run, so that a core module which needs an extra, or a file missing from the wheel, is found here.
Fails past 50 packages.

    python scripts/count_packages.py [--json]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST = 50
IMPORT_ALL = """
import importlib, pkgutil, lamina
names = [m.name for m in pkgutil.walk_packages(lamina.__path__, "lamina.") if not m.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def count(folder: Path) -> dict[str, object]:
    """Install the core below `folder`; what was installed, how large the wheel is, how many modules import."""
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))

    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    python = str(folder / "env" / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "-qq", "--no-deps", "-w", str(folder / "wheel"), str(source)], check=True)
    wheel = next((folder / "wheel").glob("lamina-*.whl"))
    subprocess.run([*pip, "install", "-qq", "-c", str(ROOT / "requirements.lock"), str(wheel)], check=True)
    listed = subprocess.run([*pip, "list", "--format=json"], check=True, capture_output=True, text=True).stdout
    names = sorted(f"{row['name']} {row['version']}" for row in json.loads(listed) if row["name"] != "pip")
    imported = subprocess.run([python, "-W", "error", "-c", IMPORT_ALL], cwd=folder, capture_output=True, text=True)
    if imported.returncode:
        sys.exit(f"A module does not import with the core alone:\n{imported.stderr}")
    # A training with its report uses every data file of the package: templates, index, sources for the compiler.
    words = ["train", "digits", "--run", "run", "training.epochs=1", "--quiet"]
    subprocess.run([python, "-m", "lamina", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    if not (folder / "run" / "report.html").is_file():
        sys.exit("The installed package trains but writes no report.")
    return {
        "num_packages": len(names),
        "wheel_bytes": wheel.stat().st_size,
        "num_modules": int(imported.stdout),
        "packages": names,
    }


def main() -> None:
    """Print the count; exit status 1 past the most that is allowed."""
    parser = argparse.ArgumentParser(description="Count what the core installs.")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    as_json = parser.parse_args().json
    with tempfile.TemporaryDirectory(prefix="lamina-core-") as folder:
        found = count(Path(folder))
    if as_json:
        print(json.dumps(found))
    else:
        print("\n".join(str(name) for name in found["packages"]))  # type: ignore[attr-defined]
        print(f"{found['num_packages']} packages with Lamina itself (at most {MOST}; pip not counted)")
        print(f"wheel: {found['wheel_bytes']} bytes; {found['num_modules']} modules import with the core alone")
    sys.exit(int(found["num_packages"]) > MOST)  # type: ignore[call-overload]


if __name__ == "__main__":
    main()
