"""A tag for every word: what is learned, judged, decided and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lamina.core.errors import ConfigError, DataError, NonFiniteError, ShapeError
from lamina.data.batching import BucketFeed
from lamina.data.columns import ColumnSpec, Data, DataSpec
from lamina.data.preprocessing import Preprocessing
from lamina.data.ragged import Ragged, RaggedColumns
from lamina.models.factory import create_model
from lamina.tasks.base import Context
from lamina.tasks.bundle import Bundle, load_bundle
from lamina.tasks.pipeline import Pipeline
from lamina.tasks.tagging_metrics import TaggingMetrics
from lamina.tasks.token_classification import TokenClassification
from unit.tasks.task_case import make_task, train_a_little

SENTENCES = (
    "Ann/B-PER lives/O in/O New/B-LOC York/I-LOC",
    "Bob/B-PER Smith/I-PER left/O",
    "in/O Rome/B-LOC Ann/B-PER Smith/I-PER sings/O",
    "nobody/O left/O New/B-LOC York/I-LOC in/O May/O",
)
POS = ("Ann/NOUN lives/VERB in/ADP York/NOUN", "Bob/NOUN left/VERB", "in/ADP May/NOUN Ann/NOUN sings/VERB")


def tagged(*sentences: str, tags: tuple[str, ...] | None = None) -> Data:
    """Data of sentences of word/tag."""
    pairs = [[pair.rsplit("/", 1) for pair in sentence.split()] for sentence in sentences]
    names = tags or tuple(sorted({tag for row in pairs for _, tag in row}))
    ragged = {
        "text": Ragged.of_texts("\n".join(word for word, _ in row) for row in pairs),
        "tags": Ragged.of_rows([[names.index(tag) for _, tag in row] for row in pairs]),
    }
    columns = {
        "text": ColumnSpec(role="text", dtype="uint8", shape=(-1,), words=True),
        "tags": ColumnSpec(role="tags", dtype="int64", shape=(-1,), classes=names),
    }
    rows = RaggedColumns({}, ragged=ragged, origin=[f"words.conll:{10 * row}" for row in range(len(pairs))])
    return Data({"train": rows}, DataSpec(columns=columns, num_rows={"train": len(pairs)}))


def pipeline_of(data: Data, *, model: str = "bilstm_crf", steps: dict[str, Any] | None = None, **task: Any) -> Pipeline:
    tokenize = {"name": "tokenize", "kind": "word", "lowercase": True, "characters": 6, **(steps or {})}
    preprocessing = Preprocessing.fit([tokenize], data.splits["train"], data.spec)
    sizes = {"embedding_size": 8, "hidden_size": 8, "char_hidden_size": 6, "char_embedding_size": 5, "dropout": 0.0}
    net = create_model(model, preprocessing.spec, seed=0, **sizes)
    return Pipeline(net.eval(), make_task("token-classification", preprocessing.spec, **task), preprocessing, data.spec)


@pytest.fixture(scope="module")
def learned() -> Pipeline:
    data = tagged(*SENTENCES)
    return train_a_little(pipeline_of(data), data, steps=40, lr=0.03)


def test_sentences_are_learned_and_judged_by_entities(learned: Pipeline) -> None:
    data = tagged(*SENTENCES)
    found = learned.evaluate(data.splits["train"])
    assert found.metrics["f1"] == found.metrics["accuracy"] == 1.0
    assert found.metrics["unknown_words"] == 0
    assert "accuracy_unknown" not in found.metrics
    assert 0 < found.metrics["cross_entropy"] < 0.5
    assert found.num_samples == 4
    assert found.details["scheme"] == "bio"
    assert [row["type"] for row in found.details["per_type"]] == ["LOC", "PER"]
    assert [row["support"] for row in found.details["per_type"]] == [3, 3]


def test_predictions_have_words_tags_and_entities_in_characters(learned: Pipeline) -> None:
    (found,) = learned.predict("Ann  lives in New York")
    assert [token["word"] for token in found["tokens"]] == ["Ann", "lives", "in", "New", "York"]
    assert [token["tag"] for token in found["tokens"]] == ["B-PER", "O", "O", "B-LOC", "I-LOC"]
    assert all(0.3 < token["probability"] <= 1 for token in found["tokens"])
    assert found["entities"] == [
        {"type": "PER", "text": "Ann", "start": 0, "end": 3},
        {"type": "LOC", "text": "New York", "start": 13, "end": 21},
    ]
    assert "Ann lives in New York"[13:21] == "New York"
    several = learned.predict(["Bob left", "in Rome Ann Smith sings"])
    assert [entity["text"] for entity in several[1]["entities"]] == ["Rome", "Ann Smith"]


def test_a_saved_bundle_predicts_the_same(learned: Pipeline, tmp_path: Path) -> None:
    columns = tagged(*SENTENCES).splits["train"]
    bundle = Bundle.from_pipeline(learned, metrics={"valid/f1": 1.0}, examples=columns)
    loaded = load_bundle(bundle.save(tmp_path / "tagger"))
    assert loaded.predict(["Bob Smith left Rome"]) == bundle.predict(["Bob Smith left Rome"])
    assert loaded.labels == learned.task.classes  # type: ignore[attr-defined]
    assert loaded.golden_holds()


def test_tags_match_by_name(learned: Pipeline) -> None:
    other = tagged(*SENTENCES, tags=("O", "I-PER", "B-PER", "I-LOC", "B-LOC"))
    assert learned.evaluate(other.splits["train"], spec=other.spec).metrics["f1"] == 1.0
    strange = tagged("Ann/B-PER sings/O Aida/B-WORK")
    with pytest.raises(DataError, match="B-WORK"):
        learned.evaluate(strange.splits["train"], spec=strange.spec)


def test_unknown_words_are_counted(learned: Pipeline) -> None:
    other = tagged("Zoe/B-PER lives/O in/O Rome/B-LOC", tags=learned.task.classes)  # type: ignore[attr-defined]
    found = learned.evaluate(other.splits["train"])
    assert found.metrics["unknown_words"] == 0.25
    assert found.metrics["accuracy_unknown"] in (0.0, 1.0)
    assert found.details["unknown_words"] == 1
    assert found.details["num_words"] == 4


@pytest.mark.parametrize("model", ["bilstm_crf", "bilstm"])
def test_metrics_and_losses_do_not_depend_on_batches(model: str) -> None:
    data = tagged(*SENTENCES)
    pipeline = pipeline_of(data, model=model)
    columns = data.splits["train"]
    whole, single = (pipeline.evaluate(columns, batch_size=size) for size in (4, 1))
    assert whole.metrics == pytest.approx(single.metrics, abs=1e-5)
    loss = pipeline.task.updates(pipeline.model)[0].loss  # type: ignore[attr-defined]
    parts = [pipeline.preprocessing(columns.batch(rows)) for rows in torch.arange(4).split(1)]
    together = pipeline.preprocessing(columns.batch(torch.arange(4)))
    (total, weight, _) = loss(together, Context(training=True), {})[0].terms["cross_entropy"]
    pieces = [loss(part, Context(training=True), {})[0].terms["cross_entropy"] for part in parts]
    torch.testing.assert_close(total, torch.stack([piece[0] for piece in pieces]).sum())
    assert int(weight) == 19 == sum(int(piece[1]) for piece in pieces)
    assert float(total.detach()) / 19 == pytest.approx(whole.metrics["cross_entropy"], abs=1e-5)


def test_parts_of_speech_are_judged_word_by_word() -> None:
    data = tagged(*POS)
    pipeline = train_a_little(pipeline_of(data, model="bilstm"), data, steps=40, lr=0.03)
    assert pipeline.task.monitor == ("accuracy", "max")
    found = pipeline.evaluate(data.splits["train"])
    assert found.metrics["accuracy"] == found.metrics["f1_macro"] == 1.0
    assert "f1" not in found.metrics
    (one,) = pipeline.predict("Bob sings")
    assert "entities" not in one
    assert [token["tag"] for token in one["tokens"]] == ["NOUN", "VERB"]


@pytest.mark.parametrize("model", ["bilstm_crf", "bilstm"])
def test_decisions_are_proper_sequences_unless_asked_otherwise(model: str) -> None:
    data = tagged(*SENTENCES)
    batch = data.splits["train"].batch(torch.arange(4))
    improper = []
    for constrained in (True, False):
        pipeline = pipeline_of(data, model=model, constrained=constrained)
        with torch.no_grad():  # an untrained model that likes I-PER
            pipeline.model.head.bias[pipeline.task.classes.index("I-PER")] = 3.0  # type: ignore[union-attr,attr-defined]
        prepared = pipeline.preprocessing(batch)
        found = pipeline.task.forward(pipeline.model, prepared, Context())
        tag_set, mask = pipeline.task.tag_set, prepared["attention_mask"]  # type: ignore[attr-defined]
        improper.append(int(tag_set.improper(found["predicted"][mask], mask.sum(1)).sum()))
    assert improper[0] == 0
    assert improper[1] > 0


def test_words_behind_the_cut_of_a_row_count_as_missed() -> None:
    data = tagged(*SENTENCES)
    pipeline = train_a_little(pipeline_of(data, steps={"max_length": 3}), data, steps=40, lr=0.03)
    found = pipeline.evaluate(data.splits["train"])
    assert found.details["num_words"] == 19
    assert found.metrics["accuracy"] <= 12 / 19
    assert found.metrics["recall"] < 1
    (one,) = pipeline.predict("Ann lives in New York")
    assert [token["tag"] for token in one["tokens"]][3:] == [None, None]
    assert [entity["text"] for entity in one["entities"]] == ["Ann"]


def test_words_that_the_mask_leaves_out_have_no_decision() -> None:
    metrics = TaggingMetrics(("a", "b"))
    ones = torch.ones(1, 3, dtype=torch.int64)
    metrics.update(ones, ones, mask=torch.tensor([[True, True, False]]), lengths=torch.tensor([3]))
    assert metrics.finish()["accuracy"] == pytest.approx(2 / 3)
    assert metrics.details()["per_class"][1]["recall"] == pytest.approx(2 / 3)


def test_rows_without_words_change_nothing() -> None:
    data = tagged(*SENTENCES, "", tags=("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))
    pipeline = pipeline_of(data)
    pipeline.task.check_columns(data.splits["train"])
    batch = pipeline.preprocessing(data.splits["train"].batch(torch.arange(5)))
    loss = pipeline.task.updates(pipeline.model)[0].loss  # type: ignore[attr-defined]
    assert int(loss(batch, Context(training=True), {})[0].terms["cross_entropy"][1]) == 19
    assert pipeline.evaluate(data.splits["train"]).details["num_words"] == 19


def test_rows_of_like_length_train_together() -> None:
    data = tagged(*SENTENCES)
    pipeline = pipeline_of(data)
    columns = pipeline.preprocessing.encode(data.splits["train"])
    assert isinstance(pipeline.task.feed(columns, batch_size=2, seed=0, training=True), BucketFeed)
    assert not isinstance(pipeline.task.feed(columns, batch_size=2, seed=0, training=False), BucketFeed)


# --- refused ---------------------------------------------------------------------------------------------------------


def test_a_model_of_other_tags_is_refused() -> None:
    data = tagged(*SENTENCES)
    pipeline = pipeline_of(data)
    spec = pipeline.preprocessing.spec
    pipeline.task.check(spec, pipeline.model)
    vocabulary = {"vocab_size": 40, "char_vocab_size": 40}
    with pytest.raises(ShapeError, match=r"outputs shaped \(2, 16, 3\).*has 5 tags") as caught:
        pipeline.task.check(spec, create_model("bilstm_crf", num_classes=3, **vocabulary))
    assert caught.value.mend.startswith("set model.num_classes=5")
    with pytest.raises(ShapeError, match="knows 7 tokens"):
        pipeline.task.check(spec, create_model("bilstm", num_classes=5, vocab_size=7))


def test_data_without_tags_is_refused() -> None:
    text = ColumnSpec(role="text", dtype="uint8", shape=(-1,))
    with pytest.raises(DataError, match="no tags") as caught:
        make_task("token-classification", DataSpec(columns={"text": text}, num_rows={}))
    assert "CoNLL" in caught.value.mend


def test_wrong_tags_are_refused_with_their_row() -> None:
    data = tagged(*SENTENCES)
    task = make_task("token-classification", data.spec)
    columns = data.splits["train"]
    assert isinstance(columns, RaggedColumns)
    task.check_columns(columns)
    tags = columns.ragged["tags"]
    outside = tags.values.clone()
    outside[6] = 9
    with pytest.raises(DataError, match="Word 2 has the tag 9") as caught:
        task.check_columns(columns.replaced({"tags": Ragged(outside, tags.offsets)}))
    assert caught.value.where == "words.conll:10"
    assert caught.value.accepts.startswith("0 to 4")
    lengths = tags.lengths + torch.tensor([0, 1, -1, 0])
    with pytest.raises(DataError, match="3 words and 4 tags; 2 rows") as caught:
        task.check_columns(columns.replaced({"tags": Ragged.of_lengths(tags.values, lengths)}))
    assert caught.value.where == "words.conll:10"


def test_words_that_become_several_tokens_are_refused() -> None:
    data = tagged("Ann/B-PER lives/O", "a<unk>b/O Ann/B-PER", "<unk>/O Ann/B-PER")
    pipeline = pipeline_of(data)
    with pytest.raises(DataError, match="The 2 words of the row are 4 tokens; 1 rows are such") as caught:
        pipeline.task.check_columns(pipeline.preprocessing.encode(data.splits["train"]))
    assert caught.value.where == "words.conll:10"
    whole = data.splits["train"].take(torch.tensor([0, 2]))
    pipeline.task.check_columns(pipeline.preprocessing.encode(whole))


def test_iob1_is_not_taken_for_bio() -> None:
    data = tagged("Ann/I-PER Smith/I-PER in/O Rome/I-LOC", "Ann/I-PER Bob/B-PER", "Rome/I-LOC Paris/B-LOC")
    with pytest.raises(DataError, match=r"'I-PER' begins an entity; 4 entities begin so, 2 with B") as caught:
        make_task("token-classification", data.spec).check_columns(data.splits["train"])
    assert "task.scheme=iob1" in caught.value.mend
    task = make_task("token-classification", data.spec, scheme="iob1")
    task.check_columns(data.splits["train"])
    assert isinstance(task, TokenClassification)
    assert "iob1" in task.describe_scheme()


@pytest.mark.parametrize("scheme", ["bioes", "io", "bio"])
def test_a_scheme_that_the_tags_are_not_of_is_refused(scheme: str) -> None:
    sentences = SENTENCES if scheme != "bio" else POS
    with pytest.raises(ConfigError, match=f"not of the scheme {scheme}") as caught:
        make_task("token-classification", tagged(*sentences).spec, scheme=scheme)
    assert caught.value.mend.startswith("task.scheme=")


def test_entities_can_be_left_out_of_account() -> None:
    task = make_task("token-classification", tagged(*SENTENCES).spec, scheme="none")
    assert task.monitor == ("accuracy", "max")
    assert isinstance(task, TokenClassification)
    assert "mark no entities" in task.describe_scheme()


def test_a_model_that_gives_nan_is_told() -> None:
    data = tagged(*SENTENCES)
    pipeline = pipeline_of(data)
    nn.init.constant_(pipeline.model.head.bias, float("nan"))  # type: ignore[union-attr,arg-type]
    with pytest.raises(NonFiniteError):
        pipeline.evaluate(data.splits["train"])


def test_metrics_refuse_shapes_that_do_not_fit() -> None:
    metrics = TaggingMetrics(("a", "b"))
    with pytest.raises(ShapeError, match=r"predicted is shaped \(1, 2\)"):
        metrics.update(torch.zeros(1, 2).long(), torch.zeros(1, 3).long(), mask=torch.ones(1, 3).bool())
    with pytest.raises(ShapeError, match="no row"):
        metrics.finish()
    metrics.update(torch.zeros(1, 2).long(), torch.zeros(1, 0).long(), mask=torch.zeros(1, 2).bool())
    with pytest.raises(ShapeError, match="no row has a word"):
        metrics.finish()
