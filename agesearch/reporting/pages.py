"""The Jinja environment of the reports: this package's templates, all escaped, nothing undefined, and no
word of where files lay on the machine that made the report.
"""

from __future__ import annotations

import base64
import re
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from agesearch.provenance import without_places

_THEME = "theme.css"
_NAMED = re.compile(r"--([\w-]+): ([^;]+);")
_USED = re.compile(r"var\(--([\w-]+)\)")


def environment() -> Environment:
    """A fresh environment with the reports' filters."""
    made = Environment(
        loader=PackageLoader("agesearch.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shared,
    )
    made.filters["data_uri"] = _data_uri
    made.filters["in_light"] = _in_light
    made.filters["lines"] = "\n".join
    return made


def _shared(value: Any) -> Any:
    """What a template prints, but for what is markup or a picture already."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.startswith("data:"):
        return value
    return without_places(value)


def _in_light(style: str) -> str:
    """Style with the colours of the light theme in place of their names, which few viewers of SVG know."""
    theme = files("agesearch.reporting").joinpath("templates", _THEME).read_text("utf-8")
    colours = dict(_NAMED.findall(theme.partition("@media")[0]))
    return _USED.sub(lambda found: colours[found[1]], style)


def _data_uri(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"
