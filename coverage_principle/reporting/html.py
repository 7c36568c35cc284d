"""Self-contained HTML pages: text, tables and figures in one file that needs no network."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

_CSS = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       max-width: 62rem; margin: 2.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin-bottom: .3rem; }
h2 { font-size: 1.3rem; margin-top: 2.6rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #e4e4e4; text-align: right; }
th:first-child, td:first-child { text-align: left; }
th { background: #f5f6f8; font-weight: 600; }
.scroll { overflow-x: auto; }
figure { margin: 1.4rem 0; }
figure img { max-width: 100%; height: auto; }
figcaption { color: #333; max-width: 52rem; }
pre { background: #f5f6f8; padding: .8rem 1rem; overflow-x: auto; font-size: .85rem; }
.lead { color: #444; }
table.sortable th { cursor: pointer; user-select: none; white-space: nowrap; }
table.sortable th::after { content: " \\2195"; color: #aaa; }
table.sortable th[aria-sort=ascending]::after { content: " \\2191"; color: #000; }
table.sortable th[aria-sort=descending]::after { content: " \\2193"; color: #000; }
"""

# Sorts a table by the clicked column; a second click turns the order around.
_SORTING = """
for (const head of document.querySelectorAll("table.sortable th")) {
  head.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0];
    const column = [...head.parentNode.children].indexOf(head);
    const down = head.getAttribute("aria-sort") === "ascending";
    const key = (row) => row.children[column].textContent.trim();
    const number = (text) => parseFloat(text.replace(/,/g, ""));
    const compare = (a, b) => {
      const [x, y] = [number(key(a)), number(key(b))];
      if (Number.isNaN(x) && Number.isNaN(y)) return key(a).localeCompare(key(b));
      if (Number.isNaN(x)) return 1;
      if (Number.isNaN(y)) return -1;
      return x - y;
    };
    const rows = [...body.rows].sort((a, b) => (down ? -compare(a, b) : compare(a, b)));
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows);
  });
}
"""


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
    head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    kind = " class=sortable" if sortable else ""
    return (
        f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


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
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_CSS}</style></head><body>"
        f'<h1>{html.escape(title)}</h1><p class="lead">{html.escape(lead)}</p>\n'
        + "\n".join(blocks)
        + (f"\n<script>{_SORTING}</script>" if any("class=sortable" in b for b in blocks) else "")
        + "\n</body></html>\n"
    )
