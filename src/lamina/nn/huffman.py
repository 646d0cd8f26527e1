"""Huffman trees: the shortest binary codes for words of known frequency.

Paper: Huffman (1952), "A Method for the Construction of Minimum-Redundancy Codes", doi:10.1109/JRPROC.1952.273898; as the output layer of a
language model: Morin, Bengio (2005), "Hierarchical Probabilistic Neural Network Language Model", and Mikolov et al. (2013), arXiv:1310.4546.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Paths", "huffman_paths"]


class Paths(NamedTuple):
    """The way from the root to each word.

    Attributes:
        bounds: int64 (V + 1,): word w goes by nodes[bounds[w] : bounds[w + 1]]; by none where it has no frequency.
        nodes: int32, inner nodes from 0, the root first.
        turns: int8, at each node: 0 towards the left child, 1 towards the right one.
    """

    bounds: NDArray[np.int64]
    nodes: NDArray[np.int32]
    turns: NDArray[np.int8]

    def of(self, word: int) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        """Nodes and turns of one word."""
        part = slice(int(self.bounds[word]), int(self.bounds[word + 1]))
        return self.nodes[part], self.turns[part]


def huffman_paths(counts: NDArray[np.int64]) -> Paths:
    """The tree of words with these counts (V,); words that never occur are not in it.

    Among equal counts the one made first is merged first, so that the tree is a function of the counts. With n words there are n - 1
    inner nodes; the root is number 0, and nodes near it have small numbers.

    Example:
        >>> paths = huffman_paths(np.array([5, 2, 1]))
        >>> [paths.of(word)[1].tolist() for word in range(3)]
        [[1], [0, 1], [0, 0]]
    """
    words = np.flatnonzero(counts > 0)
    lengths = np.zeros(len(counts), np.int64)
    if len(words) < 2:
        return Paths(np.zeros(len(counts) + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.int8))
    # Entries are leaves 0 … n - 1, then inner nodes in the order of their making; the last one made is the root.
    size = len(words)
    heap = [(int(count), place) for place, count in enumerate(counts[words])]
    heapq.heapify(heap)
    parent = np.zeros(2 * size - 1, np.int64)
    turn = np.zeros(2 * size - 1, np.int8)
    for made in range(size, 2 * size - 1):
        (least, left), (second, right) = heapq.heappop(heap), heapq.heappop(heap)
        parent[left], parent[right], turn[right] = made, made, 1
        heapq.heappush(heap, (least + second, made))
    root = 2 * size - 2
    found: dict[int, tuple[list[int], list[int]]] = {}
    for place, word in enumerate(words.tolist()):
        nodes, turns, entry = list[int](), list[int](), place
        while entry != root:
            turns.append(int(turn[entry]))
            entry = int(parent[entry])
            nodes.append(root - entry)
        found[word] = (nodes[::-1], turns[::-1])
        lengths[word] = len(nodes)
    bounds = np.concatenate([np.zeros(1, np.int64), lengths.cumsum()])
    ordered = [found[word] for word in words.tolist()]
    return Paths(
        bounds,
        np.array([node for nodes, _ in ordered for node in nodes], np.int32),
        np.array([step for _, turns in ordered for step in turns], np.int8),
    )
