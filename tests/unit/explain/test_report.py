"""The report: one safe, self-contained page from whatever a run folder holds."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from lamina.core.errors import RunError
from lamina.core.run import RunFolder
from lamina.explain import report_sections as sections
from lamina.explain.report import write_report
from lamina.explain.report_network import first_layer

VALUES: dict[str, Any] = {
    "name": "digits",
    "summary": "A network <b>for</b> digits",
    "seed": 3,
    "task": {"name": "image-classification"},
    "data": {"path": "digits"},
    "model": {"kind": "lenet5"},
    "optimizer": {"name": "adam", "lr": 0.001},
}
ORIGINS = {"name": "recipe", "seed": "command line", "optimizer.name": "default", "optimizer.lr": "file"}
METRICS = {"train/loss": 0.1, "valid/accuracy": 0.9, "test/accuracy": 0.95, "test/cross_entropy": 0.25}
LABELS = ["cat", "<script>alert(1)</script>", "dog"]
MATRIX = [[18, 2, 0], [0, 20, 0], [1, 0, 19]]


def make_run(path: Path, *, finished: bool = True) -> RunFolder:
    run = RunFolder.create(
        path, name="digits", values=VALUES, origins=ORIGINS, command=["lamina", "train", "digits", "seed=3"]
    )
    run.write_environment({"command": ["lamina", "train", "digits", "seed=3"], "torch": "2.13.0"})
    lines = [
        {"step": step, "epoch": step // 4, "split": split, "loss": 1.0 / step, **extra}
        for step in range(4, 41, 4)
        for split, extra in (("train_epoch", {}), ("valid", {"accuracy": 1 - 1 / step}))
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    if finished:
        run.write_result({"epochs": 10, "steps": 40, "seconds": 1.5, "metrics": METRICS})
    return run


def add_details(run: RunFolder) -> None:
    write = {
        "evaluation.json": {"test": {"num_samples": 60, "labels": LABELS, "confusion_matrix": MATRIX}},
        "baselines.json": {
            "split": "test",
            "baselines": [
                {"name": "knn", "title": "3 nearest neighbours", "metrics": {"accuracy": 0.97, "cross_entropy": 0.5}},
                {"name": "linear", "title": "Linear model", "metrics": {"accuracy": 0.8}},
            ],
        },
        "data.json": {
            "reader": "embedded",
            "classes": LABELS,
            "splits": {"train": {"num_rows": 100, "class_counts": {"cat": 40, LABELS[1]: 30, "dog": 30}}},
            "leaks": [{"message": "2 rows stand in train and test"}],
            "faults": [],
        },
        "examples.json": {
            "split": "test",
            "examples": [
                {
                    "true": "cat",
                    "predicted": LABELS[1],
                    "probability": 0.99,
                    "row": 7,
                    "origin": "/home/me/secret/cats/1.png",
                }
            ],
        },
    }
    for name, document in write.items():
        (run.path / name).write_text(json.dumps(document), encoding="utf-8")
    save_file({"image": np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)}, run.path / "examples.safetensors")


class Page(HTMLParser):
    """Checks the nesting and collects what matters."""

    VOID = ("meta", "img", "br", "input", "link", "hr")
    # What SVG closes by itself in our markup.
    SHAPES = ("path", "line", "circle", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.stack, f"not closed: {self.stack}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack, f"</{tag}> closes nothing"
        assert self.stack[-1] == tag, f"</{tag}> closes <{self.stack[-1]}>"
        self.stack.pop()

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def ids(self) -> list[str]:
        return [str(attrs["id"]) for _, attrs in self.tags if "id" in attrs]


@pytest.fixture
def full(tmp_path: Path) -> Page:
    run = make_run(tmp_path / "run")
    add_details(run)
    return Page(write_report(run.path).read_text(encoding="utf-8"))


def test_the_page_shows_what_the_run_has(full: Page) -> None:
    wanted = {"result", "curves", "confusion", "classes", "wrong", "data", "recipe", "reproduce"}
    assert wanted <= set(full.ids())
    for words in (
        "On 60 test rows that it had never seen, the network is right for 95.00 %",
        "3 nearest neighbours does better than the network here: 97.00 % against 95.00 %",
        "On 60 rows such a difference can be chance",
        "Always the most frequent class 33.33 %",
        "2 rows stand in train and test",
        "lamina train digits seed=3",
        "command line",
    ):
        assert words in full.text, words


def test_every_link_and_label_leads_somewhere(full: Page) -> None:
    ids = full.ids()
    assert len(ids) == len(set(ids))
    targets = [attrs["href"] for tag, attrs in full.tags if tag == "a"]
    assert targets
    assert all(str(target)[0] == "#" and str(target)[1:] in ids for target in targets)


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(full: Page) -> None:
    tags = {tag for tag, _ in full.tags}
    assert not tags & {"script", "iframe", "object", "embed", "link", "form"}
    for tag, attrs in full.tags:
        assert not any(name.startswith("on") or name == "style" for name in attrs), (tag, attrs)
        assert "src" not in attrs or str(attrs["src"]).startswith("data:image/png;base64,")
    assert not any("url(" in word or "@import" in word for word in full.words)


def test_the_style_sheet_is_the_one_that_the_policy_allows(tmp_path: Path) -> None:
    page = write_report(make_run(tmp_path / "run").path).read_text(encoding="utf-8")
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page


def test_a_hostile_run_cannot_put_markup_into_the_page(full: Page) -> None:
    assert "<script>alert(1)</script>" in full.text, "shown as text"
    assert "A network <b>for</b> digits" in full.text
    assert "b" not in {tag for tag, attrs in full.tags if attrs.get("class") == "soft"}


def test_tables_and_pictures_are_described(full: Page) -> None:
    tags = [tag for tag, _ in full.tags]
    assert tags.count("caption") == tags.count("table")
    assert all(attrs.get("scope") in ("row", "col") for tag, attrs in full.tags if tag == "th")
    assert all(attrs.get("alt") for tag, attrs in full.tags if tag == "img")
    assert all(attrs.get("aria-label") or attrs.get("aria-hidden") for tag, attrs in full.tags if tag == "svg")


def test_the_way_to_the_data_is_not_told(full: Page) -> None:
    assert "cats/1.png" in full.text
    assert "secret" not in full.text


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", finished=False)
    page = Page(write_report(run.path).read_text(encoding="utf-8"))
    assert "This run is not finished: the last line is of step 40." in page.text
    assert "97.50 %" in page.text, "the last judgement stands for the result"


def test_a_run_that_has_only_a_recipe_gives_a_page(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", name="digits", values=VALUES, origins=ORIGINS)
    page = Page(write_report(run.path).read_text(encoding="utf-8"))
    assert set(page.ids()) == {"content", "recipe", "reproduce"}


def test_values_that_are_not_finite_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with run.metrics_file.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": 44, "epoch": 11, "split": "valid", "loss": math.nan}) + "\n")
    page = Page(write_report(run.path).read_text(encoding="utf-8"))
    assert "the first at step 44" in page.text
    assert "✕" in page.text


def test_what_is_watched_gets_a_chart_and_a_loss_of_one_part_only_one() -> None:
    lines = [
        {"step": step, "epoch": 0, "split": split, "loss": 1 / step, "cross_entropy": 1 / step, **extra}
        for step in (1, 2, 3)
        for split, extra in (("train", {"lr": 0.1}), ("train_epoch", {}))
    ]
    lines += [{"step": s, "epoch": 0, "split": "valid", "accuracy": 0.5, "precision_micro": 0.5} for s in (1, 2)]
    assert [chart["title"] for chart in sections.curves(lines)] == ["Cross entropy", "Accuracy", "Learning rate"]


def test_the_output_can_lie_elsewhere(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    path = write_report(run.path, output=tmp_path / "page.html")
    assert path == tmp_path / "page.html"
    assert path.is_file()
    assert not run.report_file.exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"recipe\.yaml"):
        write_report(tmp_path)


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    add_details(run)
    assert write_report(run.path).read_bytes() == write_report(run.path).read_bytes()


def test_many_classes_become_a_picture() -> None:
    labels = [f"class {i}" for i in range(40)]
    matrix = (np.eye(40, dtype=int) * 5 + np.eye(40, k=1, dtype=int)).tolist()
    found = sections.confusion(matrix, labels, split="test", picture="data:image/png;base64,")
    assert not found["rows"]
    assert "39 of 239 rows are off the diagonal" in found["alt"]
    assert len(found["pairs"]) == 12


def test_confused_pairs_leave_out_what_was_right() -> None:
    found = sections.confusion(MATRIX, LABELS, split="test", picture="")
    assert [row["cells"][:3] for row in found["pairs"]] == [["cat", LABELS[1], 2], ["dog", "cat", 1]]
    assert found["rows"][0]["cells"][0] == {"count": 18, "level": 5, "right": True}


def test_per_class_scores_follow_from_the_matrix() -> None:
    rows = sections.class_table(MATRIX, LABELS, split="test")["rows"]
    assert rows[0]["cells"] == ["cat", 20, "94.7\xa0%", "90.0\xa0%", "92.3\xa0%"]
    never = sections.class_table([[2, 0], [3, 0]], ["a", "b"], split="test")["rows"]
    assert never[1]["cells"] == ["b", 3, "never predicted", "0.0\xa0%", "0.0\xa0%"]


def test_a_better_score_is_larger_or_smaller() -> None:
    baselines = {"split": "test", "baselines": [{"name": "linear", "title": "Linear model", "metrics": {"mae": 2.0}}]}
    found = sections.comparison("Net", {"test/mae": 3.0}, baselines=baselines, matrix=None, num_rows=20)
    assert found is not None
    assert found["notes"] == [
        "Linear model does better than the network here: 2 against 3. "
        "Use the simpler model, or give the network other settings or more data."
    ]


def test_baselines_of_another_split_are_not_compared() -> None:
    baselines = {"split": "valid", "baselines": [{"name": "linear", "title": "Linear", "metrics": {"accuracy": 1.0}}]}
    found = sections.comparison("Net", {"test/accuracy": 0.5}, baselines=baselines, matrix=None, num_rows=20)
    assert found is not None
    assert len(found["rows"]) == 1
    assert found["notes"] == [
        "Baselines were not fitted for this run; `lamina report RUN --baselines` fits and adds them."
    ]


def test_learning_curves_say_whether_more_data_helped() -> None:
    points = [{"rows": 10, "value": 0.5}, {"rows": 20, "value": 0.8}]
    found = sections.learning_curve({"metric": "accuracy", "split": "valid", "points": points})
    assert found is not None
    assert "gained 30.00 points: more data should help" in found["note"]
    small = sections.learning_curve({"metric": "accuracy", "split": "valid", "points": points}, num_rows=20)
    assert small is not None
    assert "which on 20 judged rows can be chance" in small["note"]
    assert sections.learning_curve({"metric": "accuracy", "split": "valid", "points": points[:1]}) is None


def test_kernels_of_a_convolution_are_pictures() -> None:
    model = nn.Sequential(nn.Conv2d(3, 70, 5), nn.Flatten(), nn.Linear(4, 2))
    kernels = first_layer(model, image_shape=(3, 8, 8), classes=("a", "b"), features=())["kernels"]
    assert len(kernels["pictures"]) == 64
    assert "The first 64 of 70 are shown" in kernels["caption"]


def test_a_linear_model_has_a_template_per_class() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    kernels = first_layer(model, image_shape=(1, 4, 4), classes=("a", "b", "c"), features=())["kernels"]
    assert [picture["label"] for picture in kernels["pictures"]] == ["a", "b", "c"]
    assert kernels["title"] == "A template for each class"


def test_a_linear_model_of_a_table_shows_its_weights() -> None:
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.5, -2.0]]))
    weights = first_layer(model, image_shape=None, classes=(), features=("rooms", "age"))["weights"]
    assert [row["cells"] for row in weights["rows"]] == [["rooms", "1.5"], ["age", "−2"]]


def test_a_network_without_weights_shows_none() -> None:
    assert first_layer(nn.ReLU(), image_shape=None, classes=(), features=()) == {}
