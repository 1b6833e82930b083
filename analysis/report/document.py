"""The document around a page: its head, its style, its scripts and the policy that allows nothing else."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from analysis.report.html import Html, script, tag

if TYPE_CHECKING:
    from collections.abc import Sequence


class ReportError(RuntimeError):
    """The page cannot be made; the message says what is missing and how to install it."""


def document(title: str, body: Sequence[Html], sources: Sequence[str], *, connect: str = "'none'") -> str:
    """Return a self-contained HTML document.

    Args:
        title: of the window.
        body: what it shows.
        sources: JavaScript that runs at the end of the body; nothing else does.
        connect: where the scripts may read from, in the words of a content security policy.
    """
    scripts = [script(source) for source in sources]
    policy = (
        f"default-src 'none'; script-src {' '.join(digest for _, digest in scripts)}; style-src 'unsafe-inline'; "
        f"img-src data: blob:; connect-src {connect}; base-uri 'none'; form-action 'none'"
    )
    head = [
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", title),
        tag("style", Html(source("page.css"))),
    ]
    whole = tag("html", tag("head", *head), tag("body", *body, *(markup for markup, _ in scripts)), lang="en")
    return f"<!doctype html>\n{whole}\n"


def source(name: str) -> str:
    """A style or script of this folder."""
    return resources.files("analysis.report").joinpath(name).read_text(encoding="utf-8")


def plotly_code() -> str:
    """Return plotly's JavaScript. Raises ReportError where plotly is not installed."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ReportError("a report needs plotly, which is not installed") from error
    return str(get_plotlyjs())
