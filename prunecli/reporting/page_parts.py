"""The files that HTML pages are made of, and the digests by which a page allows its own scripts and styles."""

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from importlib import resources

from prunecli import __version__

__all__ = ["page_file", "script_digest", "table_page"]


def page_file(name: str) -> str:
    """Return a part of the pages."""
    return (resources.files("prunecli.reporting") / "page" / name).read_text(encoding="utf-8")


def script_digest(text: str) -> str:
    """Return the digest of a script or a style, as a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def table_page(title: str, headings: Iterable[str], rows: Iterable[Sequence[str]], above: Iterable[str] = ()) -> str:
    """Return a page of a title, the lines `above`, and a table, without scripts and without access to the network.

    The first column of the table has names, the others numbers. All texts are escaped.
    """
    style = page_file("page.css")
    policy = f"default-src 'none'; base-uri 'none'; form-action 'none'; style-src '{script_digest(style)}'"
    heading = html.escape(title)
    lines = "".join(f"<p>{html.escape(line)}</p>\n" for line in above)
    head = _cells("th", headings)
    body = "".join(f"<tr>{_cells('td', row)}</tr>\n" for row in rows)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{heading}</title>\n<style>{style}</style>\n</head>\n<body>\n<h1>{heading}</h1>\n{lines}"
        f"<section>\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n</section>\n"
        f'<footer class="dim small">prunecli {__version__}</footer>\n</body>\n</html>\n'
    )


def _cells(tag: str, texts: Iterable[str]) -> str:
    kinds = ("", ' class="number"')
    return "".join(f"<{tag}{kinds[at > 0]}>{html.escape(each)}</{tag}>" for at, each in enumerate(texts))
