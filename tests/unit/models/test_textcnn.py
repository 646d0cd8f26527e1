"""TextCNN: what its parts give, what padding and empty texts do, what is refused."""

from __future__ import annotations

import pytest
import torch

from lamina.core.errors import ConfigError, DtypeError, ShapeError
from lamina.models.factory import create_model
from lamina.models.textcnn import TextCNN
from lamina.nn.embedding import Embedding


def model(**options: object) -> TextCNN:
    made = create_model("textcnn", seed=0, **{"vocab_size": 30, "embedding_size": 6, "num_maps": 4, **options})
    assert isinstance(made, TextCNN)
    return made.eval()


def tokens(rows: int = 3, length: int = 7) -> torch.Tensor:
    return torch.randint(2, 30, (rows, length), generator=torch.Generator().manual_seed(0))


def test_it_is_the_head_of_the_pooled_features() -> None:
    net, ids = model(), tokens()
    mask = torch.arange(7) < torch.tensor([[7], [4], [1]])
    states = net.features(ids, mask)
    assert states.shape == (3, 7, 12)
    assert bool((states >= 0).all())
    pooled = net.pool(states, mask)
    torch.testing.assert_close(pooled[1], states[1, :4].amax(dim=0))
    torch.testing.assert_close(net(ids, mask), net.head(pooled))
    torch.testing.assert_close(net(ids), net(ids, torch.ones_like(mask)))


def test_every_stage_holds_its_parameters() -> None:
    net = model()
    assert list(net.stages) == ["embedding", "convolutions", "head"]
    for key, _ in net.named_parameters():
        assert sum(key.startswith(prefixes) for prefixes in net.stages.values()) == 1


def test_a_text_shorter_than_every_window_and_one_without_words() -> None:
    net = model(widths=(4, 5))
    assert net(tokens(2, 1)).shape == (2, 2)
    nothing = net(tokens(2, 0))
    torch.testing.assert_close(nothing, net.head.bias.expand(2, 2))
    torch.testing.assert_close(net(tokens(2, 3), torch.zeros(2, 3, dtype=torch.bool)), nothing)


def test_words_are_dropped_whole_and_only_in_training() -> None:
    net = model(word_dropout=0.5, dropout=0.0)
    ids = tokens(1, 200)
    assert torch.equal(net(ids), net(ids))
    vectors = net.train().word_dropout(net.embedding(ids))
    gone = (vectors == 0).all(dim=2)
    assert torch.equal(gone, (vectors == 0).any(dim=2))
    assert 60 < int(gone.sum()) < 140


def test_the_seed_draws_the_vectors_too_whatever_else_the_model_holds() -> None:
    same, wider, other = model(), model(widths=(2, 3, 4, 5)), create_model("textcnn", seed=1, vocab_size=30)
    assert torch.equal(same.embedding.weight, wider.embedding.weight)
    assert not torch.equal(same.embedding.weight[0], other.embedding.weight[0, :6])  # type: ignore[index,union-attr]
    assert Embedding(2000, 50, std=0.3).weight.std().item() == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize(
    ("ids", "mask", "error", "message"),
    [
        (torch.ones(4, dtype=torch.int64), None, ShapeError, r"tokens shaped \(4,\)"),
        (torch.ones(1, 4, 2, dtype=torch.int64), None, ShapeError, r"tokens shaped \(1, 4, 2\)"),
        (torch.ones(1, 4), None, DtypeError, "tokens of float32"),
        (tokens(1, 4), torch.ones(1, 3, dtype=torch.bool), ShapeError, r"a mask shaped \(1, 3\)"),
        (tokens(1, 4), torch.ones(1, 4, dtype=torch.int64), DtypeError, "a mask of int64"),
    ],
)
def test_other_inputs_are_refused(
    ids: torch.Tensor, mask: torch.Tensor | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        model()(ids, mask)


@pytest.mark.parametrize("widths", [(3, 3), (0, 2)])
def test_other_widths_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=f"The widths are {widths[0]}, {widths[1]}") as caught:
        model(widths=widths)
    assert "model.widths" in caught.value.where
