"""The HTML of the page: every text that enters it is escaped here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

_STYLE = files("curvae.report").joinpath("page.css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class PageSection:
    """A part of the page: either its HTML or, in one line, why it is left out."""

    slug: str
    title: str
    html: str = ""
    absent: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell of a table: a number stands right."""

    text: str
    number: bool = False


def paragraph(text: str) -> str:
    return f"<p>{marked(text)}</p>"


def marked(text: str) -> str:
    """Escaped; what stands between backticks is code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if number % 2 else piece for number, piece in enumerate(pieces))


def figure_tag(source: str, alt: str, caption: str, kind: str = "") -> str:
    """An image, a data URI, with its alternative text and a caption; of kind "", "wide" or "wide pixels"."""
    image = f'<img src="{source}" alt="{escape(alt)}">'
    return f'<figure class="{kind}">{image}<figcaption>{marked(caption)}</figcaption></figure>'


def grid(figures: Sequence[str]) -> str:
    return f'<div class="figures">{"".join(figures)}</div>'


def facts(pairs: Mapping[str, str]) -> str:
    """Short facts side by side."""
    items = (f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in pairs.items())
    return f'<dl class="facts">{"".join(items)}</dl>'


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]], kind: str = "") -> str:
    """A table that scrolls in a box of its own where the screen is narrow.

    Of kind "described", the third of its three columns goes below the others there.
    """
    numbers = [cell.number for cell in rows[0]] if rows else [False] * len(header)
    head = "".join(f"<th{_right(right)}>{escape(name)}</th>" for name, right in zip(header, numbers, strict=True))
    body = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
    top = f"<thead><tr>{head}</tr></thead>" if header else ""
    return f'<div class="scroll"><table class="{kind}">{top}<tbody>{body}</tbody></table></div>'


def _cell(cell: Cell) -> str:
    return f"<td{_right(cell.number)}>{marked(cell.text)}</td>"


def _right(right: bool) -> str:
    return ' class="number"' if right else ""


def settings(summary: str, content: Mapping[str, Any]) -> str:
    """Names and values of any depth, folded away."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="long">{escape(text)}</td></tr>'
        for name, text in name_value_pairs(content)
    )
    inner = f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>'
    return f"<details><summary>{escape(summary)}</summary>{inner}</details>" if rows else ""


def name_value_pairs(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested names and values as ``(name.name, text)``.

    >>> name_value_pairs({"a": {"b": 1, "c": [2, 3]}, "d": None})
    [('a.b', '1'), ('a.c', '2, 3'), ('d', 'none')]
    """
    pairs: list[tuple[str, str]] = []
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            pairs += name_value_pairs(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            pairs.append((f"{prefix}{name}", ", ".join(str(item) for item in value)))
        else:
            pairs.append((f"{prefix}{name}", "none" if value is None else str(value)))
    return pairs


def warning_list(texts: Sequence[str]) -> str:
    if not texts:
        return '<p class="none">None.</p>'
    return f'<ul class="warnings">{"".join(f"<li>{marked(text)}</li>" for text in texts)}</ul>'


def page(title: str, lead: str, headline: str, verdict: str, sections: Sequence[PageSection], foot: str) -> str:
    """The whole page: title, a line below it, the number to remember, what it means, the sections, a last line."""
    links = "".join(f'<li><a href="#{part.slug}">{escape(part.title)}</a></li>' for part in sections if part.html)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1>{escape(title)}</h1><p class="lead">{marked(lead)}</p>\n'
        f'<div class="verdict"><strong>{escape(headline)}</strong><p>{marked(verdict)}</p></div>\n'
        f'<nav aria-label="Contents"><ul>{links}</ul></nav></header>\n'
        f"<main>\n{_body(sections)}</main>\n"
        f"<footer>{escape(foot)}</footer>\n</body>\n</html>\n"
    )


def _body(sections: Sequence[PageSection]) -> str:
    """The sections in order; those left out for one reason share one line, where the first of them would stand."""
    left_out: dict[str, list[str]] = {}
    for part in sections:
        if not part.html:
            left_out.setdefault(part.absent, []).append(part.title)
    pieces = []
    for part in sections:
        if part.html:
            pieces.append(f'<section id="{part.slug}"><h2>{escape(part.title)}</h2>\n{part.html}\n</section>\n')
        elif titles := left_out.pop(part.absent, None):
            names = escape(", ".join(titles))
            pieces.append(f'<p class="absent"><b>{names}</b> left out: {marked(part.absent)}</p>\n')
    return "".join(pieces)
