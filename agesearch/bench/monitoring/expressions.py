"""The expressions of a Grafana dashboard and of Prometheus' rules, and the metrics that they name."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agesearch.errors import InputError

DASHBOARD, RULES, CONFIG = "dashboard.json", "rules.yml", "prometheus.yml"

#: What Grafana fills in, as a person who looks at everything for a while would have it.
_FILLED = {"$__rate_interval": "1m", "$__interval": "15s", "$__range": "1h", "$study": ".*"}

#: What is no metric: strings, durations, matchers, and the labels that are grouped and joined by.
_NO_METRICS = re.compile(
    r"\"[^\"]*\"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)"
    r"|\boffset\s+\w+|\b(?:and|or|unless|bool)\b"
)
_NAME = re.compile(r"\b[A-Za-z_:][\w:]*\b(?!\s*\()")


@dataclass(frozen=True)
class Expression:
    """An expression in Prometheus' language, and where it stands: a panel's title, or a rule's name."""

    where: str
    text: str

    @property
    def metrics(self) -> set[str]:
        """The metrics that it names."""
        return set(_NAME.findall(_NO_METRICS.sub(" ", self.text)))


def panels(folder: Path) -> list[Expression]:
    """Those of the dashboard, with its variables filled in."""
    document = _read(folder / DASHBOARD, json.loads)
    return [
        Expression(panel["title"], _filled(target["expr"]))
        for panel in document["panels"]
        for target in panel.get("targets", ())
    ]


def rules(folder: Path) -> list[Expression]:
    """Those of the rules, recorded and alerting."""
    document = _read(folder / RULES, yaml.safe_load)
    return [
        Expression(str(rule.get("record") or rule.get("alert")), rule["expr"])
        for group in document["groups"]
        for rule in group["rules"]
    ]


def _filled(text: str) -> str:
    for name, value in _FILLED.items():
        text = text.replace(name, value)
    return text


def _read(file: Path, parse: Any) -> Any:
    try:
        return parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"'{file}' cannot be read ({error.strerror}): name the folder 'cluster/monitoring' of "
            "agesearch's sources with --files."
        ) from error
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"'{file}' is damaged: {str(error).splitlines()[0]}.") from error
