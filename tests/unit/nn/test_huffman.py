"""Huffman trees: shortest codes, and a function of the counts."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.nn.huffman import huffman_paths
from lamina.nn.word2vec_kernel import alias_table


def code(paths: object, word: int) -> str:
    return "".join(map(str, paths.of(word)[1].tolist()))  # type: ignore[attr-defined]


def test_a_tree_by_hand() -> None:
    """5, 9, 12, 13, 16, 45: the example of textbooks, 224 bits in all."""
    counts = np.array([5, 9, 12, 13, 16, 45])
    paths = huffman_paths(counts)
    codes = [code(paths, word) for word in range(6)]
    assert codes == ["1100", "1101", "100", "101", "111", "0"]
    assert sum(len(one) * int(count) for one, count in zip(codes, counts, strict=True)) == 224


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=2, max_size=40))
def test_codes_are_prefix_free_and_complete(counts: list[int]) -> None:
    paths = huffman_paths(np.array(counts))
    used = [word for word, count in enumerate(counts) if count]
    assert all(paths.bounds[word] == paths.bounds[word + 1] for word in range(len(counts)) if word not in used)
    if len(used) < 2:
        assert len(paths.nodes) == 0
        return
    codes = [code(paths, word) for word in used]
    assert len(set(codes)) == len(codes)
    assert not any(a != b and b.startswith(a) for a in codes for b in codes)
    assert sum(2.0 ** -len(one) for one in codes) == 1.0
    nodes = {}
    for word in used:
        found, turns = paths.of(word)
        assert found[0] == 0, "the root is the first"
        for place, node in enumerate(found.tolist()):
            prefix = tuple(turns[:place].tolist())
            assert nodes.setdefault(node, prefix) == prefix, "a node is where its turns lead"
    assert set(nodes) == set(range(len(used) - 1))


def test_frequent_words_have_short_codes() -> None:
    counts = np.arange(1, 200) ** 2
    paths = huffman_paths(counts)
    lengths = np.diff(paths.bounds)
    assert (np.diff(lengths) <= 0).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=50).filter(lambda values: sum(values) > 1e-3))
def test_alias_tables_hold_the_distribution(weights: list[float]) -> None:
    table = alias_table(np.array(weights))
    held = np.zeros(len(weights))
    for place, (threshold, other) in enumerate(zip(table.threshold, table.other, strict=True)):
        held[place] += threshold / len(weights)
        held[other] += (1 - threshold) / len(weights)
    np.testing.assert_allclose(held, np.array(weights) / np.sum(weights), atol=2e-7)
