"""A hook of mkdocs: formulas become MathML while the site is built, so that pages load no script from elsewhere."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

# What pymdownx.arithmatex leaves of $...$ and of $$...$$, in its generic form.
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(page_html: str, **kwargs: object) -> str:
    """A page's HTML with MathML in the place of LaTeX.

    :raises latex2mathml.exceptions: a formula is malformed.
    """
    return FORMULA.sub(_mathml, page_html)


def _mathml(found: re.Match[str]) -> str:
    return convert(html.unescape(found[2]), display="block" if found[1] == "div" else "inline")
