"""Self-contained HTML pages: text, tables and figures in one file that needs no network."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path
from string import Template


def as_markdown(content: object) -> str:
    """A name as text of a Markdown page or table: what would be markup is escaped."""
    line = " ".join(str(content).split())
    return re.sub(r"([\\`*<|\[\]$&~]|(?<!\w)_|_(?!\w))", r"\\\1", line)


def text(content: str) -> str:
    """A paragraph."""
    return f"<p>{html.escape(content)}</p>"


def bullets(sentences: Sequence[str]) -> str:
    """A list with a sentence an item."""
    return "<ul>" + "".join(f"<li>{html.escape(s)}</li>" for s in sentences) + "</ul>"


def heading(content: str) -> str:
    return f"<h2>{html.escape(content)}</h2>"


def code(lines: Sequence[str]) -> str:
    """A block of commands or output."""
    return f"<pre>{html.escape(chr(10).join(lines))}</pre>"


def table(
    header: Sequence[str], rows: Sequence[Sequence[object]], *, sortable: bool = False
) -> str:
    """A table; the first column names its row. With ``sortable`` a click on a header sorts by it.

    Numbers are sorted as numbers (``1,200``, ``0.5 (0.4 to 0.6)`` by what they begin with), the
    rest as text.
    """

    def line(cells: Sequence[object], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(str(c))}</{tag}>' for c in cells)}</tr>"

    content = f"<thead>{line(header, 'th')}</thead><tbody>{''.join(line(r, 'td') for r in rows)}"
    kind = " class=sortable" if sortable else ""
    return f'<div class="scroll"><table{kind}>{content}</tbody></table></div>'


def figure(png: Path, caption: Sequence[str]) -> str:
    """An embedded PNG with its caption, a sentence a line, which is its alternative text too."""
    content = Path(png).read_bytes()
    # Figures are drawn at 160 dots per inch; at one scale, so that all have letters of one size.
    width = round(int.from_bytes(content[16:20], "big") * 0.72)
    data = base64.b64encode(content).decode("ascii")
    lines = [html.escape(sentence, quote=True) for sentence in caption]
    return (
        f'<figure><img alt="{" ".join(lines)}" width="{width}" '
        f'src="data:image/png;base64,{data}"><figcaption>{"<br>".join(lines)}</figcaption></figure>'
    )


def page(title: str, lead: str, blocks: Sequence[str]) -> str:
    """The whole document; ``blocks`` are what the other functions of this module return."""
    parts = {"title": html.escape(title), "lead": html.escape(lead), "style": _asset("page.css")}
    parts |= {"blocks": "\n".join(blocks), "script": ""}
    if "class=sortable" in parts["blocks"]:
        parts["script"] = f"<script>\n{_asset('sorting.js')}</script>\n"
    return Template(_asset("page.html")).substitute(parts)


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
