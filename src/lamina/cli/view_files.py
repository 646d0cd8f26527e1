"""What `lamina inspect --output` writes: a picture, a page, the document, or the arrays, by the ending of the name."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamina.core.errors import UsageError

if TYPE_CHECKING:
    from lamina.explain.views import ViewResult

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}img{{max-width:100%;
background:#fff}}pre{{overflow-x:auto;font-size:.85em;background:#8881;padding:1rem}}:root{{color-scheme:light dark}}</style>
</head><body><h1>{title}</h1><p>{summary}</p>
{shown}
<p>{means}</p>
<details><summary>The numbers</summary><pre>{document}</pre></details>
</body></html>
"""
_PICTURE = '<figure style="margin:0"><img alt="{alt}" src="data:image/png;base64,{picture}"></figure>'


def write_view(path: Path, result: ViewResult, *, title: str, summary: str) -> None:
    """Write what a view shows.

    Raises:
        UsageError: Another ending than .png, .html, .json or .npz, or one that the view has nothing for.
        StorageError: The file cannot be written.
    """
    from lamina.cli.output import SCHEMA, render_json
    from lamina.core.files import write_atomic

    text = render_json({"schema": SCHEMA, **result.document}) + "\n"
    has = {
        ".png": result.draws,
        ".html": result.draws,
        ".json": True,
        ".npz": bool(result.arrays),
    }
    known = [ending for ending, there in has.items() if there]
    if not has.get(path.suffix, False):
        what = {
            ".png": "This view draws no picture",
            ".html": "This view draws no picture",
            ".npz": "This view has no arrays",
        }
        raise UsageError(
            f"{what.get(path.suffix, f'--output got {str(path)!r}')}.",
            where="command line of lamina inspect, --output",
            accepts=f"a file name that ends in {' or '.join(known)}",
            mend=f"--output {path.with_suffix(known[0])}",
        )
    if path.suffix == ".png":
        assert result.figure is not None
        write_atomic(path, result.figure)
    elif path.suffix == ".html":
        page = _PAGE.format(
            title=escape(title),
            summary=escape(summary),
            means=escape(str(result.document.get("means", ""))),
            shown=_shown(result, alt=f"{title}: {summary}"),
            document=escape(text),
        )
        write_atomic(path, page.encode())
    elif path.suffix == ".npz":
        import numpy as np

        buffer = io.BytesIO()
        # All arrays are numbers, so nothing is pickled.
        arrays: dict[str, Any] = dict(result.arrays)
        np.savez_compressed(buffer, **arrays)
        write_atomic(path, buffer.getvalue())
    else:
        write_atomic(path, text.encode())


def _shown(result: ViewResult, *, alt: str) -> str:
    """What stands on the page: the view's own HTML, or its picture."""
    if result.page is not None:
        return result.page()
    assert result.figure is not None
    return _PICTURE.format(alt=escape(alt), picture=base64.b64encode(result.figure).decode("ascii"))
