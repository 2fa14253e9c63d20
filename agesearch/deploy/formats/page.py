"""What pages that take pictures are made of: parts they share, and what a browser lets them do."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

_TEMPLATES = Path(__file__).resolve().parents[1] / "templates"


def part(name: str) -> str:
    """A style or a script of ``agesearch/deploy/templates``."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def content_policy(script: str, style: str, more: dict[str, str]) -> str:
    """A Content-Security-Policy: the script and the style that the page holds, and nothing but what ``more``
    allows (its ``script-src`` beside the page's own).
    """
    rules = {
        "default-src": "'none'",
        "script-src": hash_of(script),
        "style-src": hash_of(style),
        "connect-src": "'none'",
        "form-action": "'none'",
        "base-uri": "'none'",
    }
    beside = {"script-src": f"{rules['script-src']} {more.get('script-src', '')}".strip()}
    return "; ".join(f"{name} {rule}" for name, rule in (rules | more | beside).items())


def hash_of(text: str) -> str:
    """How a policy names a script or a style."""
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()
    return f"'sha256-{digest}'"
