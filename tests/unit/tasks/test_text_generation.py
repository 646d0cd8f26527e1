"""The language-modelling task: streams with carried state, judging in order, generation, refusals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lamina.core.errors import ConfigError, DataError, InterruptedRunError, LaminaError, ShapeError, UsageError
from lamina.data.batching import StreamFeed
from lamina.data.columns import Columns, ColumnSpec, Data, DataSpec
from lamina.data.preprocessing import Preprocessing
from lamina.data.ragged import Ragged, RaggedColumns
from lamina.models.factory import create_model
from lamina.tasks.base import Context
from lamina.tasks.pipeline import evaluate
from lamina.tasks.text_generation import TextGeneration, TextGenerationConfig
from lamina.train.checkpoints import list_checkpoints, read_checkpoint
from lamina.train.config import TrainingConfig
from lamina.train.trainer import Trainer

WORDS = {"name": "tokenize", "kind": "word", "split": "whitespace", "end": True}
LETTERS = {"name": "tokenize", "kind": "character", "ending": "\n"}
LINES = [f"the {animal} {verb} the {other} ." for animal in ("cat", "dog", "cow") for verb in ("sees", "hears") for other in ("cat", "dog")]  # fmt: skip


def columns_of(lines: list[str]) -> RaggedColumns:
    return RaggedColumns({}, ragged={"text": Ragged.of_texts(lines)})


def prepared(step: dict[str, Any], lines: list[str] = LINES) -> tuple[Data, Preprocessing]:
    splits: dict[str, Columns] = {"train": columns_of(lines), "valid": columns_of(lines[::3])}
    counts = {name: columns.num_rows for name, columns in splits.items()}
    text = ColumnSpec(role="text", dtype="uint8", shape=(-1,))
    spec = DataSpec(columns={"text": text}, num_rows=counts, ordered=True)
    preprocessing = Preprocessing.fit([step], splits["train"], spec)
    encoded = {name: preprocessing.encode(columns) for name, columns in splits.items()}
    return Data(splits=encoded, spec=spec, source="text"), preprocessing


def make_model(preprocessing: Preprocessing, **values: Any) -> nn.Module:
    sizes = {"readout": "each", "embedding_size": 8, "hidden_size": 12, "num_layers": 2}
    return create_model("lstm", preprocessing.spec, seed=0, **{**sizes, **values})


def make_trainer(run: Path | None, *, step: dict[str, Any] = WORDS, dropout: float = 0.2, **training: Any) -> Trainer:
    data, preprocessing = prepared(step, LINES * 6)
    options = {"steps": 20, "batch_size": 4, "clip_norm": 1.0, "tensorboard": False, "log_every": 5}
    return Trainer(
        make_model(preprocessing, dropout=dropout),
        TextGeneration(TextGenerationConfig(length=9), preprocessing.spec),
        data,
        preprocessing=preprocessing,
        optimizer={"name": "adam", "lr": 0.03},
        config=TrainingConfig(**{**options, **training}),
        run_dir=run,
    )


# --- streams ---


def test_streams_of_ragged_rows_are_those_of_their_tokens_in_a_row() -> None:
    tokens = torch.arange(101, dtype=torch.int32)
    ragged = RaggedColumns({}, ragged={"tokens": Ragged.of_lengths(tokens, torch.tensor([40, 0, 61]))})
    plain = StreamFeed(Columns({"tokens": tokens}), batch_size=4, length=10)
    found = StreamFeed(ragged, batch_size=4, length=10)
    assert len(found) == len(plain) == 3
    for number in range(3):
        for name, tensor in plain.batch(0, number).items():
            assert torch.equal(found.batch(0, number)[name], tensor)
    batch = found.batch(0, 2)
    assert batch["tokens"].tolist()[1] == list(range(45, 50))
    assert batch["targets"].tolist()[1] == list(range(46, 51))
    assert batch["tokens_length"].tolist() == [5] * 4


def test_drop_last_leaves_whole_stretches() -> None:
    feed = StreamFeed(Columns({"tokens": torch.arange(101)}), batch_size=4, length=10, drop_last=True)
    assert [feed.batch(0, number)["tokens"].shape for number in range(len(feed))] == [(4, 10), (4, 10)]
    with pytest.raises(ConfigError, match="at least 30"):
        StreamFeed(Columns({"tokens": torch.arange(101)}), batch_size=4, length=30, drop_last=True)


# --- learning ---


def test_gradients_are_those_of_plain_cross_entropy_with_the_state_carried() -> None:
    data, preprocessing = prepared(WORDS)
    model = make_model(preprocessing).double()
    task = TextGeneration(TextGenerationConfig(length=7), preprocessing.spec)
    feed = task.feed(data.splits["train"], batch_size=3, seed=0, training=True)
    state = {name: value.double() for name, value in task.initial_state(model, 3).items()}
    (update,) = task.updates(model)
    theirs = {name: value.clone() for name, value in state.items()}
    for number in range(3):
        batch = preprocessing(feed.batch(0, number))
        losses, state = update.loss(batch, Context(), state)
        ours = torch.autograd.grad(losses.total(), list(model.parameters()))
        hidden, theirs = model.scan(batch["input_ids"], theirs)
        loss = nn.functional.cross_entropy(model.head(hidden).flatten(0, 1), batch["targets"].flatten())
        for mine, other in zip(ours, torch.autograd.grad(loss, list(model.parameters())), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)
        state, theirs = ({name: value.detach() for name, value in one.items()} for one in (state, theirs))


def test_sum_over_time_multiplies_the_gradient_by_the_length() -> None:
    data, preprocessing = prepared(WORDS)
    model = make_model(preprocessing)
    found = {}
    for sums in (False, True):
        task = TextGeneration(TextGenerationConfig(length=7, sum_over_time=sums), preprocessing.spec)
        batch = preprocessing(task.feed(data.splits["train"], batch_size=3, seed=0, training=True).batch(0, 0))
        losses, _ = task.updates(model)[0].loss(batch, Context(), task.initial_state(model, 3))
        found[sums] = (losses.total().item(), losses.means()["cross_entropy"].item())
    assert found[True][0] == pytest.approx(7 * found[False][0])
    assert found[True][1] == found[False][1]


def test_the_state_begins_anew_where_a_stream_does() -> None:
    data, preprocessing = prepared(WORDS)
    model = make_model(preprocessing)
    task = TextGeneration(TextGenerationConfig(length=7), preprocessing.spec)
    batch = preprocessing(task.feed(data.splits["train"], batch_size=3, seed=0, training=True).batch(0, 0))
    (update,) = task.updates(model)
    zeros = task.initial_state(model, 3)
    ones = {name: torch.ones_like(value) for name, value in zeros.items()}
    assert update.loss(batch, Context(), ones)[0].total() == update.loss(batch, Context(), zeros)[0].total()
    batch["start"] = torch.zeros(3, dtype=torch.bool)
    assert update.loss(batch, Context(), ones)[0].total() != update.loss(batch, Context(), zeros)[0].total()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_resumes_bit_for_bit_in_the_middle_of_a_stream(precision: str, tmp_path: Path) -> None:
    expected = make_trainer(tmp_path / "whole", precision=precision).fit()
    stopped = tmp_path / "stopped"
    with pytest.raises(InterruptedRunError):
        make_trainer(stopped, precision=precision).fit(until=13)
    state = read_checkpoint(list_checkpoints(stopped / "checkpoints")[-1]).tensors["state"]
    assert {name: value.dtype for name, value in state.items()} == dict.fromkeys(("hidden", "cell"), torch.float32)
    assert state["hidden"].shape[0] == 4
    assert state["hidden"].abs().sum() > 0
    assert make_trainer(stopped, precision=precision).fit(resume=True).metrics == expected.metrics
    first, second = (
        read_checkpoint(list_checkpoints(run / "checkpoints")[-1]).tensors for run in (tmp_path / "whole", stopped)
    )
    for group, tensors in first.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, second[group][name]), (group, name)


def test_accumulation_is_the_whole_batch() -> None:
    whole, parts = (
        make_trainer(None, accumulation=number, dropout=0.0, precision="fp32", steps=5) for number in (1, 2)
    )
    whole.fit()
    parts.fit()
    for first, second in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


def test_it_learns_the_language() -> None:
    result = make_trainer(None, steps=150, dropout=0.0).fit()
    # Only animals and verbs are uncertain: ln 3 + ln 2 + ln 2 over seven tokens is 0.35 nats.
    assert result.metrics["valid/perplexity"] < 2.0


# --- judging ---


def test_a_split_is_judged_in_order_as_one_stream_whatever_the_stretches() -> None:
    data, preprocessing = prepared(WORDS)
    model = make_model(preprocessing).double().eval()
    columns = data.splits["valid"]
    assert isinstance(columns, RaggedColumns)
    tokens = columns.ragged["tokens"].values.long()
    hidden, _ = model.scan(tokens[None, :-1], {k: v.double() for k, v in model.initial_state(1).items()})
    wanted = nn.functional.cross_entropy(model.head(hidden)[0], tokens[1:]).item()
    for length in (1, 5, 512):
        task = TextGeneration(TextGenerationConfig(judged_length=length), preprocessing.spec)
        found = evaluate(model.float() if length == 0 else model, task, preprocessing, columns)
        assert found.num_samples == len(tokens) - 1
        assert found.metrics["cross_entropy"] == pytest.approx(wanted, rel=1e-6)
        assert found.metrics["perplexity"] == pytest.approx(math.exp(wanted), rel=1e-6)


def test_judging_raw_rows_is_judging_their_tokens() -> None:
    data, preprocessing = prepared(WORDS)
    model, task = make_model(preprocessing), TextGeneration(TextGenerationConfig(), preprocessing.spec)
    encoded = evaluate(model, task, preprocessing, data.splits["valid"]).metrics
    assert evaluate(model, task, preprocessing, data.splits["valid"].raw).metrics == encoded


def test_bits_per_character_count_every_character_and_line_end() -> None:
    lines = ["für", "", "a  b"]
    for step, tokens in ((LETTERS, 10), (WORDS, 6)):
        data, preprocessing = prepared(step, lines)
        task = TextGeneration(TextGenerationConfig(), preprocessing.spec)
        columns = data.splits["train"]
        assert isinstance(columns, RaggedColumns)
        assert len(columns.ragged["tokens"].values) == tokens
        found = evaluate(make_model(preprocessing), task, preprocessing, columns).metrics
        # 3 + 0 + 4 letters and three line ends, whatever the tokens are.
        bits_per_token = found["cross_entropy"] / math.log(2)
        assert found["bits_per_character"] == pytest.approx(bits_per_token * tokens / 10)


def test_rows_by_themselves_say_how_likely_they_are() -> None:
    data, preprocessing = prepared(WORDS)
    task, model = TextGeneration(TextGenerationConfig(), preprocessing.spec), make_model(preprocessing).eval()
    rows = data.splits["train"]
    batch = preprocessing(rows.batch(torch.tensor([0, 1])))
    found = task.decode(task.forward(model, batch, Context()))
    assert isinstance(rows, RaggedColumns)
    tokens = rows.ragged["tokens"].row(0).long()
    hidden, _ = model.scan(tokens[None, :-1], model.initial_state(1))
    wanted = nn.functional.cross_entropy(model.head(hidden)[0], tokens[1:]).item()
    assert found[0]["num_tokens"] == len(tokens) - 1
    assert found[0]["cross_entropy"] == pytest.approx(wanted, rel=1e-5)
    assert found[0]["perplexity"] == pytest.approx(math.exp(wanted), rel=1e-5)


def test_a_row_without_a_second_token_has_no_perplexity() -> None:
    _, preprocessing = prepared({**WORDS, "end": False})
    task, model = TextGeneration(TextGenerationConfig(), preprocessing.spec), make_model(preprocessing).eval()
    rows = preprocessing.encode(columns_of(["cat", ""]))
    found = task.decode(task.forward(model, preprocessing(rows.batch(torch.arange(2))), Context()))
    assert found == [{"perplexity": None, "cross_entropy": None, "num_tokens": 0}] * 2


# --- refusals ---


def test_data_without_tokens_is_refused() -> None:
    spec = DataSpec(columns={"image": ColumnSpec(role="image", dtype="uint8")}, num_rows={})
    with pytest.raises(DataError, match="no tokens"):
        TextGeneration(TextGenerationConfig(), spec)


@pytest.mark.parametrize(
    ("values", "error", "what"),
    [
        ({"num_classes": 5}, ShapeError, "gives outputs shaped"),
        ({"bidirectional": True}, LaminaError, "both directions"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(values: dict[str, Any], error: type[Exception], what: str) -> None:
    _, preprocessing = prepared(WORDS)
    task = TextGeneration(TextGenerationConfig(), preprocessing.spec)
    with pytest.raises(error, match=what):
        task.check(preprocessing.spec, make_model(preprocessing, **values))


def test_a_model_that_does_not_read_piece_by_piece_is_refused() -> None:
    _, preprocessing = prepared(WORDS)
    task = TextGeneration(TextGenerationConfig(), preprocessing.spec)
    with pytest.raises(ShapeError, match="Linear cannot read a text piece by piece"):
        task.check(preprocessing.spec, nn.Linear(2, 2))


def test_tokens_outside_the_vocabulary_are_refused() -> None:
    _, preprocessing = prepared(WORDS)
    task = TextGeneration(TextGenerationConfig(), preprocessing.spec)
    columns = RaggedColumns({}, ragged={"tokens": Ragged.of_rows([[1, 999]], dtype=torch.int32)})
    with pytest.raises(DataError, match="token 999"):
        task.check_columns(columns)


# --- writing ---


class Counter(nn.Module):
    """Says that the next token is the one after the last, whatever the state."""

    def __init__(self, num_tokens: int) -> None:
        super().__init__()
        self.head = nn.Identity()
        self.num_tokens = num_tokens
        self.read: list[list[int]] = []

    def initial_state(self, batch_size: int) -> dict[str, Tensor]:
        return {"seen": torch.zeros(batch_size, 1)}

    def scan(self, input_ids: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        self.read.append(input_ids[0].tolist())
        following = (input_ids + 1) % self.num_tokens
        return 50.0 * nn.functional.one_hot(following, self.num_tokens).float(), {"seen": state["seen"] + 1}


def test_the_prompt_is_read_as_the_begin_of_a_line_and_then_each_new_token() -> None:
    _, preprocessing = prepared(WORDS)
    task = TextGeneration(TextGenerationConfig(), preprocessing.spec)
    assert preprocessing.text is not None
    tokenizer = preprocessing.text.tokenizer
    model = Counter(tokenizer.vocab_size)
    (sample,) = task.generate(model, preprocessing, prompt="the cat\nthe", max_length=3)
    the, cat = tokenizer.number("the"), tokenizer.number("cat")
    assert the is not None
    assert model.read == [[2, the, cat, 2, the], [the + 1], [the + 2]]
    wanted = " ".join(tokenizer.tokens([the + 1, the + 2, the + 3]))
    assert sample == {"prompt": "the cat\nthe", "text": f"the cat\nthe {wanted}", "num_tokens": 3, "unknown": 0}


def test_padding_and_unknown_words_are_never_written() -> None:
    _, preprocessing = prepared(WORDS)
    task, model = TextGeneration(TextGenerationConfig(), preprocessing.spec), make_model(preprocessing)
    with torch.no_grad():
        model.head.bias[:2] += 100.0
    samples = task.generate(model, preprocessing, num=5, prompt="the zebra", max_length=20)
    assert samples[0]["unknown"] == 1
    assert not any("<" in sample["text"] for sample in samples)


def test_line_ends_are_written_as_line_ends() -> None:
    for step in (WORDS, LETTERS):
        _, preprocessing = prepared(step)
        task, model = TextGeneration(TextGenerationConfig(), preprocessing.spec), make_model(preprocessing)
        assert preprocessing.text is not None
        end = preprocessing.text.tokenizer.number("\n" if step is LETTERS else "<eos>")
        with torch.no_grad():
            model.head.bias[end] += 100.0
        assert task.generate(model, preprocessing, prompt="the", max_length=2)[0]["text"].rstrip(" ") == "the\n\n"


def test_samples_are_a_function_of_seed_and_number() -> None:
    _, preprocessing = prepared(LETTERS)
    task, model = TextGeneration(TextGenerationConfig(), preprocessing.spec), make_model(preprocessing)
    three = task.generate(model, preprocessing, num=3, max_length=12, seed=5)
    seventy = task.generate(model, preprocessing, num=70, max_length=12, seed=5)
    assert seventy[:3] == three
    assert len({sample["text"] for sample in seventy}) > 60
    assert task.generate(model, preprocessing, num=3, max_length=12, seed=6) != three
    assert task.generate(model, preprocessing, num=3, max_length=5, seed=5) == [
        {**sample, "text": sample["text"][:5], "num_tokens": 5} for sample in three
    ]


def test_greedy_writes_the_same_for_every_seed() -> None:
    _, preprocessing = prepared(LETTERS)
    task, model = TextGeneration(TextGenerationConfig(), preprocessing.spec), make_model(preprocessing)
    texts = {
        sample["text"]
        for seed in range(3)
        for sample in task.generate(model, preprocessing, num=2, prompt="the", max_length=10, temperature=0, seed=seed)
    }
    assert len(texts) == 1


def test_nothing_to_begin_with_is_refused() -> None:
    _, preprocessing = prepared({**WORDS, "end": False})
    task, model = TextGeneration(TextGenerationConfig(), preprocessing.spec), make_model(preprocessing)
    with pytest.raises(UsageError, match="nothing to begin with"):
        task.generate(model, preprocessing)
    assert task.generate(model, preprocessing, prompt="the", max_length=1)[0]["num_tokens"] == 1


@pytest.mark.parametrize(
    ("options", "key"), [({"temperature": -1}, "temperature"), ({"top_p": 2}, "top_p"), ({"topk": 3}, "topk")]
)
def test_options_out_of_range_are_refused(options: dict[str, Any], key: str) -> None:
    _, preprocessing = prepared(LETTERS)
    task, model = TextGeneration(TextGenerationConfig(), preprocessing.spec), make_model(preprocessing)
    with pytest.raises(ConfigError, match=key):
        task.generate(model, preprocessing, **options)
