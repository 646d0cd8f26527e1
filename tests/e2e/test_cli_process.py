"""The program as a process: signals, pipes, closed streams, terminals of other encodings, folders before torch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lamina.core.run import RunFolder

PROGRAM = [sys.executable, "-m", "lamina"]


def run(
    words: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*PROGRAM, *words], capture_output=True, cwd=cwd, env={**os.environ, **(env or {})}, timeout=300
    )


def shell(command: str, *, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A bash line in which `lamina` is this interpreter's."""
    line = f'set -o pipefail; lamina() {{ "{sys.executable}" -m lamina "$@"; }}; {command}'
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=cwd, timeout=300)


def test_module_and_script_are_the_same_program() -> None:
    script = Path(sys.executable).with_name("lamina")
    found = run(["--version"])
    assert found.returncode == 0
    if script.exists():
        assert subprocess.run([str(script), "--version"], capture_output=True).stdout == found.stdout


def test_a_reader_that_leaves_early_is_no_error() -> None:
    found = shell("lamina list --json | head -n 1")
    assert (found.returncode, found.stdout, found.stderr) == (0, "{\n", "")
    found = shell("lamina list | true")
    assert found.returncode == 0
    assert "Traceback" not in found.stderr
    assert "Exception ignored" not in found.stderr


def test_closed_streams() -> None:
    for command in (
        "lamina list >&-",
        "lamina list 2>&- >/dev/null",
        "lamina list <&- >/dev/null",
        "lamina nonsense 2>&- >&-",
    ):
        found = shell(command)
        assert found.returncode == (2 if "nonsense" in command else 0), command
        assert "Traceback" not in found.stderr + found.stdout
    assert json.loads(shell("lamina list tasks --json 2>&-").stdout)["tasks"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_a_failed_job() -> None:
    found = shell("lamina list > /dev/full")
    assert found.returncode == 1
    assert "No space left on device" in found.stderr
    assert "Traceback" not in found.stderr


def test_terminals_without_utf_8() -> None:
    env = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    for words in (["list"], ["show", "sign-cnn"], ["list", "--json"], ["trainn"]):
        found = run(words, env=env)
        assert found.returncode == (2 if words == ["trainn"] else 0)
        assert b"Traceback" not in found.stderr
        (found.stdout + found.stderr).decode("ascii")
    document = json.loads(run(["list", "models", "--json"], env=env).stdout)
    assert document == json.loads(run(["list", "models", "--json"], env={"PYTHONIOENCODING": "utf-8"}).stdout)


def test_no_colours_where_nobody_sees_them() -> None:
    assert b"\x1b" not in run(["nonsense"], env={"TERM": "xterm", "FORCE_COLOR": ""}).stderr


def test_folder_and_recipe_are_there_before_torch_is_loaded(tmp_path: Path) -> None:
    """With a torch that kills the process when it is imported, the run can still be resumed from its folder."""
    (tmp_path / "torch.py").write_text("import os\nos._exit(77)\n")
    for words in (["digits"], ["--data", "iris"]):
        folder = tmp_path / words[-1]
        found = run(["train", *words, "--run", str(folder)], env={"PYTHONPATH": str(tmp_path)})
        assert found.returncode == 77
        recipe, origins = RunFolder.open(folder).recipe()
        assert recipe["data"]["path"] == words[-1]
        assert origins["data.path"] == ("recipe" if words == ["digits"] else "command line")
        assert json.loads((folder / "environment.json").read_text())["command"][:2] == ["lamina", "train"]
    again = run(["train", "--resume", str(tmp_path / "iris"), "--json"])
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["recipe"] == "iris-mlp"
    assert b"from the beginning" in again.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_a_checkpoint_and_130(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "run"
    words = ["train", "iris-mlp", "--run", str(folder), "training.epochs=100000", "training.log_every=1", "--json"]
    process = subprocess.Popen([*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 240
    metrics = folder / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size > 2000):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the training did not begin"
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert b"Traceback" not in err
    assert b"lamina train --resume" in err
    assert json.loads(out)["error"]["type"] == "InterruptedRunError"
    checkpoints = RunFolder.open(folder).checkpoints()
    assert checkpoints
    assert not RunFolder.open(folder).is_finished


def test_an_interrupt_while_loading_is_130_too(tmp_path: Path) -> None:
    """Before the first step there is nothing to keep but the folder; the message says how to begin again."""
    (tmp_path / "torch.py").write_text(
        "import os, signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    )
    folder = tmp_path / "run"
    found = run(["train", "digits", "--run", str(folder)], env={"PYTHONPATH": str(tmp_path)})
    assert found.returncode == 130
    assert b"Traceback" not in found.stderr
    assert f"lamina train --resume {folder}".encode() in found.stderr
    assert (folder / "recipe.yaml").is_file()


def test_a_refused_run_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("label,pixel1\n0,x\n")
    found = run(["train", "mnist-mlp", "--data", "bad.csv", "--run", "run"], cwd=tmp_path)
    assert found.returncode == 2, found.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv"]


def test_quiet_is_quiet_and_json_is_one_document(tmp_path: Path) -> None:
    words = ["train", "xor-mlp", "--run", str(tmp_path / "run"), "training.epochs=1", "--json", "--quiet"]
    found = run(words)
    assert found.returncode == 0, found.stderr
    assert found.stderr == b""
    assert json.loads(found.stdout)["recipe"] == "xor-mlp"
