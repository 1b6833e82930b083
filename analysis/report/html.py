"""HTML that is safe by default: all text is escaped but `Html`."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from typing import Any


class Html(str):
    """Markup; every other string is escaped when it is put into a tag."""

    __slots__ = ()


def tag(name: str, *children: Any, **attributes: Any) -> Html:
    """`<name attributes>children</name>`; `class_` and `data_group` become class and data-group.

    Children that are not Html are escaped, lists are joined, None and False are left out. An attribute that is True
    has no value.
    """
    text = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    return Html(f"<{name}{text}>{''.join(map(_child, children))}</{name}>")


def json_block(name: str, data: Any) -> Html:
    """Data for a script, in a block that no browser executes and no text can close."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Html(f'<script type="application/json" id="{name}">{text}</script>')


def script(source: str) -> tuple[Html, str]:
    """A script element, and its hash for the content security policy.

    Raises:
        ValueError: the source would close its own element.
    """
    if "</script" in source.lower() or "<!--" in source:
        raise ValueError("a script contains '</script' or '<!--', which would close it")
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return Html(f"<script>{source}</script>"), f"'sha256-{digest}'"


def _attribute(key: str, value: Any) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'


def _child(child: Any) -> str:
    if child is None or child is False:
        return ""
    if isinstance(child, Html):
        return child
    return "".join(map(_child, child)) if isinstance(child, list | tuple) else html.escape(str(child))
