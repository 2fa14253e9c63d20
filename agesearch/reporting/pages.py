"""The Jinja environment of the reports: this package's templates, all escaped, nothing undefined."""

from __future__ import annotations

import base64

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment() -> Environment:
    """A fresh environment with the reports' filters."""
    made = Environment(
        loader=PackageLoader("agesearch.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["data_uri"] = _data_uri
    made.filters["lines"] = "\n".join
    return made


def _data_uri(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"
