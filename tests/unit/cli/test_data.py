"""`lamina data` for people."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.cli.main import main


def test_a_table_is_told_column_by_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        f"{n}.5,{'red' if n % 3 else 'blue'},{'' if n == 4 else n * 100},{'yes' if n % 2 else 'no'}" for n in range(20)
    ]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["size,colour,price,sold", *rows]) + "\n")
    assert main(["data", str(table), "data.label=sold"]) == 0
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "min max mean std missing" in lines
    assert "size 0.5000 19.5000 10.0000 5.7663 0" in lines
    assert any(line.startswith("price ") and " 1900" in line and line.endswith(" 1") for line in lines)
    assert "colour: 2 values: red (13), blue (7)" in lines


def test_a_wide_table_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = ",".join([*(f"c{n}" for n in range(60)), "kind"])
    rows = [",".join([*(f"{row * n * 0.37:.2f}" for n in range(60)), "ab"[row % 2]]) for row in range(30)]
    table = tmp_path / "t.csv"
    table.write_text("\n".join([header, *rows]) + "\n")
    assert main(["data", str(table)]) == 0
    out = capsys.readouterr().out
    assert "  c39 " in out
    assert "  c40 " not in out
    assert "… and 20 more; --json lists them" in out
