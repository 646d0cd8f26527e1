"""Saliency of texts: sums that hold, words that are emptied one by one, and how it is shown."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lamina.cli.view_files import write_view
from lamina.core.errors import UsageError
from lamina.explain.subjects import subject_of
from lamina.explain.token_saliency import OfVectors, word_vectors
from lamina.explain.views import Subject, show_view
from lamina.models.factory import create_model
from lamina.tasks.pipeline import Pipeline
from unit.explain.view_case import pixels
from unit.tasks.text_case import WORDS, PairNet, review_data, reviews, text_job

TEXTS = ["the plot was lovely and the actors were fine", "it was awful", "dull <b>story</b>"]


class Curved(nn.Module):
    """Not linear in the word vectors, and each word matters through the others."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 5)
        self.mix = nn.Linear(5, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, tokens: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        total = (self.words(tokens) * attention_mask.unsqueeze(-1)).sum(dim=1)
        out: torch.Tensor = self.head(torch.tanh(self.mix(total)))
        return out


def curved() -> Subject:
    torch.manual_seed(0)
    ids = torch.randint(2, 20, (3, 6))
    mask = torch.arange(6) < torch.tensor([[6], [3], [1]])
    return Subject(Curved().double(), name="curved", inputs={"input_ids": ids, "attention_mask": mask})


@pytest.fixture(scope="module")
def trained() -> Pipeline:
    job = text_job(review_data())
    job.trainer(None).fit()
    return job.pipeline()


def test_integrated_gradients_sum_to_what_they_explain() -> None:
    shown = show_view("saliency", curved(), method="integrated-gradients", steps=256)
    for row, values in zip(shown.document["inputs"], shown.arrays["integrated-gradients"], strict=True):
        found = row["methods"]["integrated-gradients"]
        assert found["sum"] == pytest.approx(values.sum())
        assert abs(found["completeness_gap"]) < 1e-4 * max(1.0, abs(found["to_explain"]))
        assert abs(found["to_explain"]) > 1e-3


def test_occlusion_is_the_fall_when_a_word_is_emptied() -> None:
    subject = curved()
    shown = show_view("saliency", subject, method="occlusion", target="1")
    assert isinstance(subject.inputs, dict)
    for place in range(6):
        emptied = copy.deepcopy(subject.model)
        ids = subject.inputs["input_ids"].clone()
        ids[:, place] = 0
        emptied.words.weight.data[0] = 0.0  # type: ignore[union-attr,operator]
        with torch.no_grad():
            before = subject.model(subject.inputs["input_ids"], subject.inputs["attention_mask"])
            after = emptied(ids, subject.inputs["attention_mask"])
        fall = (before - after)[:, 1] * subject.inputs["attention_mask"][:, place]
        np.testing.assert_allclose(shown.arrays["occlusion"][:, place], fall.numpy(), atol=1e-12)


def test_gradient_times_vector_is_the_slope_towards_no_word() -> None:
    subject = curved()
    shown = show_view("saliency", subject, method="gradient", target="2")
    of_vectors, vectors = word_vectors(subject.model, subject.inputs)  # type: ignore[arg-type]
    step = 1e-6
    for place in range(6):
        nearer = vectors.clone()
        nearer[:, :, place] *= 1 - step
        with torch.no_grad():
            slope = (of_vectors(vectors) - of_vectors(nearer))[:, 2] / step
        np.testing.assert_allclose(shown.arrays["gradient"][:, place], slope.numpy(), atol=1e-6)


def test_the_model_as_a_function_of_its_vectors_is_the_model_and_leaves_it_alone() -> None:
    subject = curved()
    assert isinstance(subject.inputs, dict)
    of_vectors, vectors = word_vectors(subject.model, subject.inputs)
    assert isinstance(of_vectors, OfVectors)
    assert vectors.shape == (3, 5, 6)
    plain = subject.model(*subject.inputs.values())
    torch.testing.assert_close(of_vectors(vectors), plain)
    assert not torch.allclose(of_vectors(vectors * 2), plain)
    torch.testing.assert_close(subject.model(*subject.inputs.values()), plain)


def test_the_telling_words_stand_out(trained: Pipeline) -> None:
    shown = show_view("saliency", subject_of(trained, inputs=TEXTS[:2]))
    assert shown.document["methods"].keys() == {"gradient", "integrated-gradients", "occlusion"}
    assert shown.document["left_out"].keys() == {"smoothgrad", "grad-cam"}
    telling = {word for words in WORDS.values() for word in words}
    for row, text in zip(shown.document["inputs"], TEXTS, strict=False):
        assert len(row["words"]) == len(text.split())
        for method in shown.document["methods"]:
            assert max(row["words"], key=lambda word, m=method: word[m])["word"] in telling
    assert shown.arrays["occlusion"].shape == (2, 9)
    assert not shown.arrays["occlusion"][1, 3:].any()


def test_the_page_holds_the_text_and_no_markup_of_it(trained: Pipeline, tmp_path: Path) -> None:
    shown = show_view("saliency", subject_of(trained, inputs=["lovely <script>alert(1)</script>"]))
    shown.document["inputs"][0]["words"][0]["word"] = "<script>"
    write_view(tmp_path / "saliency.html", shown, title="saliency", summary="words")
    page = (tmp_path / "saliency.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "integrated gradients" in page
    assert pixels(shown.figure).shape[1] > 600


def test_methods_for_pictures_and_models_without_a_table_are_refused() -> None:
    with pytest.raises(UsageError, match=r"grad-cam says nothing of texts") as caught:
        show_view("saliency", curved(), method="grad-cam")
    assert "occlusion" in caught.value.mend

    class Counts(nn.Module):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return tokens.float().sum(dim=1, keepdim=True).repeat(1, 2)

    with pytest.raises(UsageError, match="Counts has no table of word vectors"):
        show_view("saliency", Subject(Counts(), inputs={"input_ids": torch.ones(1, 3, dtype=torch.int64)}))


def test_without_a_tokenizer_words_are_their_numbers_and_long_texts_are_cut_in_the_picture() -> None:
    model = create_model("textcnn", vocab_size=9, embedding_size=4, num_maps=2)
    ids = torch.arange(400).remainder(9).view(1, 400)
    shown = show_view("saliency", Subject(model, inputs={"input_ids": ids}), method="gradient")
    assert [word["word"] for word in shown.document["inputs"][0]["words"][:3]] == ["0", "1", "2"]
    high = pixels(shown.figure).shape[0]
    assert high < 400
    assert shown.page is not None
    assert shown.page().count("<span") == 400


def test_a_pair_is_explained_as_one_text() -> None:
    torch.manual_seed(0)
    ids = torch.randint(2, 9, (1, 5))
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids, dtype=torch.bool),
        "token_type_ids": torch.tensor([[0, 0, 1, 1, 1]]),
    }
    shown = show_view("saliency", Subject(PairNet(9), inputs=inputs), method="occlusion")
    assert not shown.arrays["occlusion"][0, :2].any()  # this network reads the second text alone
    assert shown.arrays["occlusion"][0, 2:].all()


def test_the_embedding_of_texts_does_not_see_padding(trained: Pipeline) -> None:
    pipeline = copy.deepcopy(trained)
    pipeline.model.embedding.weight.data[0] = 10.0  # type: ignore[union-attr,operator]
    columns = reviews(12, seed=5)
    found = show_view("embedding", subject_of(pipeline, columns=columns), method="pca").arrays["features"]
    tokens = pipeline.preprocessing.encode(columns).ragged["tokens"]  # type: ignore[attr-defined]
    model = pipeline.model
    for row, features in enumerate(found):
        alone = model.pool(model.features(tokens.row(row).long().unsqueeze(0)))  # type: ignore[operator]
        np.testing.assert_allclose(features, alone[0].detach().numpy(), rtol=1e-4, atol=1e-5)
