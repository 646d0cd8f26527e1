"""What the repository promises about itself: lock, licence, commands, and what must not be in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import lamina
from helpers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9A-Za-z.]*", pin) for pin in pins), "plain name==version lines only"
    return dict(pin.split("==") for pin in pins)


def declared() -> list[Requirement]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return [Requirement(text) for group in groups for text in group]


def test_the_lock_pins_everything_that_is_declared() -> None:
    pins = locked()
    for wanted in declared():
        if wanted.name == "lamina":
            continue
        assert canonical(wanted.name) in pins, f"{wanted.name} is not in requirements.lock: run `make lock`"
        assert wanted.specifier.contains(pins[canonical(wanted.name)]), f"{wanted} against the lock: run `make lock`"


def test_the_lock_pins_what_the_declared_packages_need() -> None:
    pins = locked()
    for name in list(pins):
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # an extra that is not installed here
        if metadata.version(name).split("+")[0] != pins[name]:
            continue
        for text in needs:
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                assert canonical(need.name) in pins, f"{name} needs {need.name}, which is not locked: run `make lock`"


def test_torch_is_the_version_that_the_figures_were_measured_with() -> None:
    assert locked()["torch"] == "2.13.0"


def test_the_core_does_not_depend_on_extras() -> None:
    core = {Requirement(text).name for text in PROJECT["dependencies"]}
    extras = PROJECT["optional-dependencies"]
    assert {"export", "parquet", "serve", "studio", "text", "tune", "vectors", "all", "dev"} <= set(extras)
    for name in ("pandas", "pyarrow", "onnx", "optuna", "starlette"):
        assert name not in core
    everything = Requirement(extras["all"][0])
    assert everything.extras == set(extras) - {"all", "dev"}


def test_every_file_that_the_package_reads_is_in_the_wheel() -> None:
    package = ROOT / "src" / "lamina"
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    wanted = {path for pattern in settings["package-data"]["lamina"] for path in package.glob(pattern)}
    there = {path for path in tracked() if path.is_relative_to(package) and path.suffix != ".py"}
    assert there <= wanted, "add it to package-data in pyproject.toml"
    assert package / "explain" / "report.html.j2" in there


def test_tables_of_figures_are_those_of_the_results() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "tables.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_version() -> None:
    assert PROJECT["version"] == lamina.__version__
    assert f"## {lamina.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_licence_is_the_whole_text() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_ci_runs_the_commands_that_people_run() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = [line for line in script.read_text(encoding="utf-8").splitlines() if line.startswith("make")]
    assert commands == ["make check", "make test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test", "test-all", "check", "docs", "bench"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_nothing_large_or_executable_by_unpickling_is_tracked() -> None:
    for path in tracked():
        assert path.stat().st_size < 1 << 20, f"{path} is too large for a repository"
        assert path.suffix not in {".pkl", ".pickle", ".pt", ".pth", ".th"}, path


# Reading other people's old files needs a reader that knows the format and runs nothing; these would run it.
FORBIDDEN = re.compile(
    r"\bpickle\.(loads?|Unpickler\()|(?<!safetensors\.)\btorch\.(load|save)\(|\b(?<!\.)(eval|exec)\(|\ballow_pickle=True|\bjoblib\.load|"
    r"\byaml\.(unsafe_load|full_load)\b|\btorch\.manual_seed\("
)
# torch's own layers (an LSTM's dropout) draw from the global generators, whatever we do: the engine seeds and checkpoints them.
ALLOWED = {"src/lamina/train/randomness.py": {"torch.manual_seed("}}


def test_the_library_neither_unpickles_nor_runs_text_nor_seeds_the_global_generator() -> None:
    files = list((ROOT / "src").rglob("*.py"))
    assert len(files) > 50
    for path in files:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found = FORBIDDEN.search(line)
            name = path.relative_to(ROOT).as_posix()
            assert not found or found[0] in ALLOWED.get(name, ()), f"{name}:{number}: {line.strip()}"


@pytest.mark.parametrize(
    "line",
    ["pickle.load(file)", "x = torch.load(p)", "eval(text)", "np.load(f, allow_pickle=True)", "torch.manual_seed(0)"],
)
def test_the_forbidden_is_recognised(line: str) -> None:
    assert FORBIDDEN.search(line)


@pytest.mark.parametrize(
    "line",
    [
        "safetensors.torch.save(tensors)",
        "model.eval()",
        "self.evaluate(x)",
        "torch.Generator().manual_seed(3)",
        "re.exec(1)",
    ],
)
def test_the_harmless_is_not(line: str) -> None:
    assert not FORBIDDEN.search(line)
