"""Padding never changes a result: a text alone or in any batch, with any padding behind or before it."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.models.factory import create_model

TEXTS = st.lists(st.lists(st.integers(0, 29), min_size=1, max_size=9), min_size=1, max_size=5)


@settings(max_examples=30, deadline=None)
@given(
    texts=TEXTS, behind=st.integers(0, 6), before=st.integers(0, 4), filler=st.integers(0, 29), seed=st.integers(0, 3)
)
def test_textcnn(texts: list[list[int]], behind: int, before: int, filler: int, seed: int) -> None:
    model = create_model(
        "textcnn", seed=seed, vocab_size=30, embedding_size=4, num_maps=3, widths=(1, 4, 5), num_classes=3
    )
    model.double().eval()
    width = max(map(len, texts)) + behind + before
    rows, kept = [], []
    for text in texts:
        after = width - before - len(text)
        rows.append([filler] * before + text + [filler] * after)
        kept.append([False] * before + [True] * len(text) + [False] * after)
    with torch.no_grad():
        mask = torch.tensor(kept)
        together = model(torch.tensor(rows), mask)
        states = model.features(torch.tensor(rows), mask)  # type: ignore[operator]
        for row, text in enumerate(texts):
            alone = torch.tensor([text])
            torch.testing.assert_close(together[row : row + 1], model(alone), rtol=1e-10, atol=1e-12)
            own = model.features(alone)  # type: ignore[operator]
            torch.testing.assert_close(states[row][mask[row]], own[0], rtol=1e-10, atol=1e-12)
