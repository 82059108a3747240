"""Markup in which every text is escaped: what a run says can get into a page as text only."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any

from rlrun.plain import printable


class Html(str):
    """Markup that goes into a page as it is. Made by ``tag`` and ``join``, and from our own files."""

    __slots__ = ()


_EMPTY = frozenset({"br", "img", "input", "link", "meta"})  # elements without an end tag


def tag(name: str, attributes: Mapping[str, Any] | None = None, *children: object) -> Html:
    """An element. An attribute that is True has no value, one that is None or False is left out; children but Html are text."""
    texts = [
        key if value is True else f'{key}="{value if isinstance(value, Html) else html.escape(printable(value))}"'
        for key, value in (attributes or {}).items()
        if value is not None and value is not False
    ]
    start = f"<{' '.join([name, *texts])}>"
    return Html(start) if name in _EMPTY else Html(f"{start}{join(*children)}</{name}>")


def join(*children: object) -> Html:
    """Children one after the other. Those that are no Html are text, without what could hide or reorder it; None is nothing."""
    return Html(
        "".join(
            child if isinstance(child, Html) else html.escape(printable(child))
            for child in children
            if child is not None
        )
    )


def data(identifier: str, value: Any) -> Html:
    """``value`` as JSON that the page's script finds by its id; no text in it can end the element, or begin another."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII: no line separator of any alphabet
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Html(f'<script type="application/json" id="{identifier}">{text}</script>')


def shown_value(value: Any) -> str:
    """A setting as it is typed: ``true``, ``[64,64]``, ``0.001``; ``-`` for one that is not set."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{','.join('null' if each is None else shown_value(each) for each in value)}]"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{value:.1f}" if abs(value) < 1e5 else f"{value:.0f}"
    return printable(value)


def shown_number(value: Any, digits: int = 1) -> str:
    """``1,234.5``, or ``-`` for what is no number."""
    if (
        isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300
    ):  # nan is not below, either
        return "-"
    return f"{value:,.{digits}f}" if abs(value) < 1e15 else f"{value:.4g}"


def shown_seconds(value: Any) -> str:
    """``1 h 02 min``, ``3 min 20 s``, ``4.2 s``."""
    if shown_number(value) == "-" or value < 0:
        return "-"
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes} min {seconds:02d} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60:02d} min"
