"""Build the documentation: docs/**/*.md as linked HTML pages in site/, and a reference of everything registered.

Nothing is needed besides the core's own dependencies. Links between pages, to headings and to files of the repository
are checked; a dead one fails the build.

    python scripts/build_docs.py [OUTPUT]
"""

from __future__ import annotations

import html
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from lamina import __version__
from lamina.core import registry

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Lamina</title><style>{style}</style></head>
<body><nav aria-label="Pages"><b><a href="index.html">Lamina {version}</a></b>{links}</nav>
<main>{body}</main></body></html>
"""
STYLE = """
:root{color-scheme:light dark;--bg:#fff;--ink:#1a1f27;--soft:#59636f;--rule:#d5dae1;--card:#f6f7f9;--accent:#0b5cad}
@media(prefers-color-scheme:dark){:root{--bg:#11151b;--ink:#e8ecf1;--soft:#a3adb9;--rule:#343d4a;--card:#1a2029;--accent:#7db8ff}}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.6 system-ui,"Noto Sans CJK SC",sans-serif;display:grid;
grid-template-columns:15rem minmax(0,1fr)}nav{padding:1.2rem;border-right:1px solid var(--rule);display:flex;
flex-direction:column;gap:.3rem;font-size:.95rem}main{max-width:52rem;padding:1.2rem 2rem 4rem}a{color:var(--accent)}
main img{max-width:100%}pre,code{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:.9em}code{background:var(--card);padding:.1em .25em}
pre{background:var(--card);padding:.8rem 1rem;overflow-x:auto}pre code{padding:0}table{border-collapse:collapse;display:block;
overflow-x:auto}th,td{border-bottom:1px solid var(--rule);padding:.3rem .7rem;text-align:left;vertical-align:top}
@media(max-width:48rem){body{display:block}nav{border-right:0;border-bottom:1px solid var(--rule)}}
"""


def anchor(text: str) -> str:
    """A heading's id, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-")


def walk(tokens: list[Token]) -> Iterator[Token]:
    """All tokens, inline ones included."""
    for token in tokens:
        yield token
        yield from walk(token.children or [])


def page_names() -> list[str]:
    """The index, then the pages in the order in which it links to them, then others by name."""
    linked = re.findall(r"\((\w[\w/-]*)\.md\)", (DOCS / "index.md").read_text(encoding="utf-8"))
    order = {name: position for position, name in enumerate(["index", *linked])}
    names = (path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md"))
    return sorted(names, key=lambda name: (order.get(name, len(order)), name))


def file_name(page: str) -> str:
    """Of a page's HTML: all lie in one folder, models/vgg as models-vgg.html."""
    return f"{page.replace('/', '-')}.html"


def convert(text: str, *, where: str, faults: list[str]) -> tuple[str, str]:
    """(title, HTML) of a page; dead links are added to `faults`."""
    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(text)
    title = where
    for position, token in enumerate(tokens):
        if token.type == "heading_open":
            content = tokens[position + 1].content
            token.attrSet("id", anchor(re.sub(r"`|\\*", "", content)))
            title = content if token.tag == "h1" else title
    for token in walk(tokens):
        target = token.attrGet("href")
        if token.type == "link_open" and isinstance(target, str) and not re.match(r"[a-z]+:", target):
            token.attrSet("href", resolve(target, where=where, faults=faults))
        picture = token.attrGet("src")
        if token.type == "image" and isinstance(picture, str) and not (DOCS / picture).is_file():
            faults.append(f"{where}.md shows {picture}, which does not exist")
    return title.replace("`", ""), parser.renderer.render(tokens, parser.options, {})


def resolve(target: str, *, where: str, faults: list[str]) -> str:
    """Where a link leads on the site; links out of docs/ are checked and kept."""
    file, _, fragment = target.partition("#")
    page = DOCS / f"{where}.md"
    path = (page.parent / file).resolve() if file else page
    if not path.exists():
        faults.append(f"{where}.md links to {target}, which does not exist")
    elif fragment and path.suffix == ".md":
        headings = {
            anchor(line.lstrip("# ").replace("`", "")) for line in path.read_text().splitlines() if line[:1] == "#"
        }
        if fragment not in headings:
            faults.append(f"{where}.md links to {target}, which has no such heading")
    if path.is_relative_to(DOCS) and path.suffix == ".md":
        name = file_name(path.relative_to(DOCS).with_suffix("").as_posix())
        return name + (f"#{fragment}" if fragment else "")
    return target


def reference() -> str:
    """A page of everything registered, from the index."""
    parts = ["<h1>Reference</h1><p>Everything that is registered; <code>lamina show NAME</code> prints the same.</p>"]
    for kind in registry.KINDS:
        entries = registry.entries(kind)
        if not entries:
            continue
        parts.append(
            f'<h2 id="{kind}">{kind.capitalize()}</h2><table><tr><th>Name</th><th>What</th><th>Source</th></tr>'
        )
        parts += [
            f"<tr><td><code>{html.escape(entry.name)}</code></td><td>{html.escape(entry.summary)}</td>"
            f"<td>{html.escape(entry.source)}</td></tr>"
            for entry in entries
        ]
        parts.append("</table>")
    return "".join(parts)


def main() -> None:
    """Write the site; exit status 1 when a link is dead."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site"
    output.mkdir(parents=True, exist_ok=True)
    faults: list[str] = []
    pages = {
        name: convert((DOCS / f"{name}.md").read_text(encoding="utf-8"), where=name, faults=faults)
        for name in page_names()
    }
    pages["reference"] = ("Reference", reference())
    links = "".join(
        f'<a href="{file_name(name)}">{html.escape(title)}</a>' for name, (title, _) in pages.items() if name != "index"
    )
    for name, (title, body) in pages.items():
        page = PAGE.format(title=html.escape(title), style=STYLE, version=__version__, links=links, body=body)
        (output / file_name(name)).write_text(page, encoding="utf-8")
    shutil.copytree(DOCS / "pictures", output / "pictures", dirs_exist_ok=True)
    if faults:
        sys.exit("\n".join(faults))
    print(f"wrote {len(pages)} pages to {output}")


if __name__ == "__main__":
    main()
