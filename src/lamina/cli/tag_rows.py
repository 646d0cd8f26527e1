"""Predictions of taggers as a table: a row per word. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["is_tagged", "tag_rows"]


def is_tagged(predictions: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these predictions are words with tags."""
    return bool(predictions) and isinstance(predictions[0].get("tokens"), list)


def tag_rows(predictions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`input`, `number` of the word from 1, `word`, `tag`, its `probability`, and where tags mark any, the type of the `entity` it is in.

    >>> token = {"word": "Rome", "tag": "B-LOC", "probability": 0.9}
    >>> entity = {"type": "LOC", "text": "Rome", "start": 0, "end": 4}
    >>> tag_rows([{"input": "Rome", "tokens": [token], "entities": [entity]}])
    [{'input': 'Rome', 'number': 1, 'word': 'Rome', 'tag': 'B-LOC', 'probability': 0.9, 'entity': 'LOC'}]
    """
    rows: list[dict[str, Any]] = []
    for prediction in predictions:
        place = 0
        for number, token in enumerate(prediction["tokens"], start=1):
            row = {"input": prediction["input"], "number": number, **token}
            if "entities" in prediction:
                inside = [one["type"] for one in prediction["entities"] if one["start"] <= place < one["end"]]
                row["entity"] = inside[0] if inside else ""
            place += len(token.get("word", "")) + 1
            rows.append(row)
    return rows
