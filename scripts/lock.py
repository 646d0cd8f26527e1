"""Write requirements.lock: the exact version of every package that Lamina and its extras can install.

A fresh virtual environment gets the package with the extras `all` and `dev`; what is then there is the lock. The file
holds plain `name==version` lines: no hashes and no addresses, so that any package index or local wheel serves it, and
no local version labels (torch's `+cpu`), so that it fits every build of torch.

    python scripts/lock.py
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
# The version the figures in the documentation were measured with; everything else is the newest that fits.
PINNED = ("torch==2.13.0",)
HEADER = """\
# Every package that Lamina and its extras install, pinned. Written by scripts/lock.py; used as `pip install -c`.
# Python {python}. Builds of torch with CUDA bring libraries of their own besides, which torch itself pins.
"""


def main() -> None:
    """Resolve in a fresh environment and write the lock."""
    with tempfile.TemporaryDirectory(prefix="lamina-lock-") as folder:
        python = Path(folder) / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "-qq", *PINNED, f"{ROOT}[all,dev]"], check=True)
        listed = subprocess.run([*pip, "list", "--format=json"], check=True, capture_output=True, text=True).stdout
    lines = sorted(
        f"{re.sub(r'[-_.]+', '-', row['name']).lower()}=={row['version'].split('+')[0]}"
        for row in json.loads(listed)
        if row["name"] not in ("lamina", "pip")
    )
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    LOCK.write_text(HEADER.format(python=version) + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"wrote {LOCK.name}: {len(lines)} packages")


if __name__ == "__main__":
    main()
