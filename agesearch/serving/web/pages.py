"""The pages of the service: one to try it, one that documents its calls. Each is one file that asks for
nothing but the service's own calls.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from fastapi.responses import HTMLResponse

from agesearch.deploy.formats.page import content_policy, part

_RULES = {
    "img-src": "blob: data:",
    "media-src": "mediastream:",
    "connect-src": "'self'",
    "frame-ancestors": "'none'",
}
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}


def try_page() -> HTMLResponse:
    """The page to try the service."""
    return _page("try.html", part("export.css") + _text("try.css"), part("pictures.js") + _text("try.js"))


def docs_page() -> HTMLResponse:
    """The page that documents the calls."""
    return _page("docs.html", part("export.css") + _text("docs.css"), _text("docs.js"))


def _page(name: str, style: str, script: str) -> HTMLResponse:
    whole = _text(name).replace("{{ style }}", style).replace("{{ script }}", script)
    return HTMLResponse(
        whole, headers=_HEADERS | {"Content-Security-Policy": content_policy(script, style, _RULES)}
    )


@cache
def _text(name: str) -> str:
    return (files("agesearch.serving") / "templates" / name).read_text("utf-8")
