"""The generated index of registered things is current and complete."""

from __future__ import annotations

import json

from lamina.core import registry


def test_the_index_is_current() -> None:
    written = registry.INDEX_FILE.read_text(encoding="utf-8")
    assert written == registry.generate_index(), "run `make index`"


def test_every_indexed_thing_can_be_found_and_says_what_it_is() -> None:
    document = json.loads(registry.INDEX_FILE.read_text(encoding="utf-8"))
    assert set(document) == set(registry.KINDS)
    rows = [(kind, row) for kind, listed in document.items() for row in listed]
    assert len(rows) > 50
    for kind, row in rows:
        assert row["summary"], f"{kind} {row['name']} has no summary"
        found = registry.lookup(kind, row["name"])
        assert (found.module, found.qualname) == (row["module"], row["qualname"])


def test_kinds_that_the_product_promises_are_not_empty() -> None:
    for kind in ("model", "recipe", "task", "dataset", "reader", "augmentation", "optimizer", "schedule", "loss"):
        assert registry.names(kind), kind
    for kind in ("metric", "layer", "activation", "initialiser", "preprocessing", "view"):
        assert registry.names(kind), kind
