"""What light commands import: counted in modules, never in seconds, so that a slow machine changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# What takes long to import. pydantic reads Configs, which `show` describes; the others need none.
HEAVY = ("torch", "numpy", "sklearn", "matplotlib", "PIL", "rich", "safetensors", "jinja2", "scipy", "pandas")
LIGHT = (*HEAVY, "pydantic", "yaml")

_SCRIPT = """
import contextlib, io, json, sys
before = len(sys.modules)
words = json.loads(sys.argv[1])
if words is None:
    import lamina
else:
    from lamina.cli.main import main
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        status = main(words)
    assert status in (0, 2), status
print(json.dumps([len(sys.modules) - before, sorted(sys.modules)]))
"""


def imported(words: list[str] | None) -> tuple[int, set[str]]:
    """How many modules a command line (None: `import lamina`) adds in a fresh interpreter, and all there are then."""
    found = subprocess.run(
        [sys.executable, "-c", _SCRIPT, json.dumps(words)], capture_output=True, text=True, check=True
    )
    count, modules = json.loads(found.stdout)
    return count, set(modules)


@pytest.mark.parametrize(
    ("words", "budget", "without"),
    [
        (None, 60, LIGHT),
        (["--help"], 160, LIGHT),
        (["--version"], 160, LIGHT),
        (["list"], 160, LIGHT),
        (["list", "recipes", "--json"], 160, LIGHT),
        (["train", "--help"], 160, LIGHT),
        (["evaluate", "--help"], 160, LIGHT),
        (["nonsense"], 160, LIGHT),
        (["list", "--nonsense"], 160, LIGHT),
        (["show", "mlp"], 330, HEAVY),
        (["show", "recipe:digits", "--json"], 330, HEAVY),
        (["train"], 330, HEAVY),
        (["train", "digits", "optimizer.lrr=1"], 330, HEAVY),
        (["train", "mnist-mlp"], 330, HEAVY),
        (["train", "--resume", "no-such-run"], 330, HEAVY),
        (["report", "no-such-run"], 330, HEAVY),
        (["verify", "no-such-run"], 330, HEAVY),
        (["inspect", "mpl"], 330, HEAVY),
        (["evaluate", "mlp", "--data", "x"], 330, HEAVY),
        (["predict", "no-such-bundle", "x"], 330, HEAVY),
        (["data", "x", "data.labl=y"], 330, HEAVY),
    ],
    ids=str,
)
def test_budget(words: list[str] | None, budget: int, without: tuple[str, ...]) -> None:
    count, modules = imported(words)
    heavy = sorted(modules.intersection(without))
    assert not heavy, f"imports {', '.join(heavy)}"
    assert count <= budget, f"imports {count} modules"


def test_the_counting_would_see_torch() -> None:
    count, modules = imported(["inspect", "mlp", "--json"])
    assert "torch" in modules
    assert count > 330
