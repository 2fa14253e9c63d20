"""What is wrong with a document, in words: the field as the document has it, the rule, and the value.

pydantic finds the faults; this tells them. Of several, a misspelt field comes first, with the field that was
meant, since the others often follow from it. Where a value may be of several kinds, the faults of the kind
that it is nearest to are told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

_MOST_VALUE = 80
_QUOTED = re.compile(r"'([^']*)'")

Keys = tuple[str | int, ...]


@dataclass(frozen=True)
class Fault:
    """The first thing to mend in a document: the keys that lead to it, and a sentence about it."""

    keys: Keys
    message: str


def first_fault(error: ValidationError, kind: Any = None, document: Any = None) -> Fault:
    """What to tell of an error of validating ``document`` as ``kind`` (a model, or a union of models)."""
    found = _of_nearest_kinds([dict(one) for one in error.errors(include_url=False)], document)
    known = {id(one): _fields_at(kind, one["loc"][:-1]) for one in found}
    misspelt = {id(one): guess for one in found if (guess := _meant(one, known[id(one)]))}
    chosen = next((one for one in found if id(one) in misspelt), found[0])
    keys = _keys_in(document, chosen)
    field = ".".join(map(str, keys)) or "the document"
    guess = misspelt.get(id(chosen))
    consequences = [
        one for one in found if one["type"] == "missing" and one["loc"] == (*chosen["loc"][:-1], guess)
    ]
    more = len(found) - 1 - len(consequences)
    rest = f" (and {more} more)" if more else ""
    if chosen["type"] == "extra_forbidden":
        hint = f": did you mean '{guess}'?" if guess else _listing(known[id(chosen)])
        return Fault(keys, f"'{field}' is not a known field{hint}{rest}".rstrip("."))
    return Fault(keys, f"{_sentence(field, chosen)}{rest}")


def _listing(known: Sequence[str]) -> str:
    return f"; the known ones are: {', '.join(known)}" if known else ""


def _meant(fault: Mapping[str, Any], known: Sequence[str]) -> str | None:
    """The field that a misspelt one was to be."""
    if fault["type"] != "extra_forbidden":
        return None
    written = str(fault["loc"][-1])
    plain = {name.replace("_", ""): name for name in known}
    same = plain.get(written.lower().replace("_", "").replace("-", "").replace(" ", ""))
    return same or next(iter(get_close_matches(written.lower(), known, n=1)), None)


def _of_nearest_kinds(found: list[dict[str, Any]], document: Any) -> list[dict[str, Any]]:
    """Without the faults of kinds that a value was tried as and is further from than from another.

    pydantic puts the name of a kind where the document has no key: of faults under one place with several
    such names, those of the name with the fewest stay.
    """
    tried: dict[Keys, dict[str | int, list[dict[str, Any]]]] = {}
    for fault in found if document is not None else ():
        split = _first_name_of_a_kind(document, fault)
        if split is not None:
            place, name = fault["loc"][:split], fault["loc"][split]
            tried.setdefault(place, {}).setdefault(name, []).append(fault)
    dropped: set[int] = set()
    for kinds in tried.values():
        if len(kinds) > 1:
            nearest = min(kinds, key=lambda name: (_distance(kinds[name]), list(kinds).index(name)))
            dropped |= {id(one) for name, faults in kinds.items() if name != nearest for one in faults}
    return [fault for fault in found if id(fault) not in dropped]


def _distance(faults: list[dict[str, Any]]) -> int:
    """How far a value is from a kind: one that is no mapping at all is no near miss of a kind with fields."""
    shape = ("model_type", "model_attributes_type", "dict_type", "tuple_type", "list_type")
    return sum(len(faults) + 10 if fault["type"] in shape else 1 for fault in faults)


def _first_name_of_a_kind(document: Any, fault: Mapping[str, Any]) -> int | None:
    node = document
    loc = fault["loc"]
    for index, key in enumerate(loc):
        if _has(node, key):
            node = _item(node, key)
        elif index < len(loc) - 1 or fault["type"] != "missing":
            return index
    return None


def _keys_in(document: Any, fault: Mapping[str, Any]) -> Keys:
    """The keys of a fault without the names of kinds that pydantic puts between them."""
    if document is None:
        return tuple(fault["loc"])
    node, keys = document, []
    for index, key in enumerate(fault["loc"]):
        if _has(node, key):
            keys.append(key)
            node = _item(node, key)
        elif index == len(fault["loc"]) - 1 and fault["type"] == "missing":
            keys.append(key)
    return tuple(keys)


def _has(node: Any, key: str | int) -> bool:
    if isinstance(node, Mapping):
        return key in node or str(key) in node
    return isinstance(node, list | tuple) and isinstance(key, int) and 0 <= key < len(node)


def _item(node: Any, key: Any) -> Any:
    if isinstance(node, Mapping):
        return node[key] if key in node else node[str(key)]
    return node[key]


def _fields_at(kind: Any, keys: Sequence[str | int]) -> list[str]:
    """The fields that a place of a document may have."""
    models = _models(kind)
    for key in keys:
        if isinstance(key, int):
            continue
        named = [model for model in models if model.__name__ == key or _tag(model) == key]
        fields = [model.model_fields[key].annotation for model in models if key in model.model_fields]
        if named or fields:
            models = named or [inner for annotation in fields for inner in _models(annotation)]
    return list(dict.fromkeys(name for model in models for name in model.model_fields))


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _tag(model: type[BaseModel]) -> str | None:
    """The word that tells a model from others of a union, where its field ``kind`` has one."""
    field = model.model_fields.get("kind")
    words = get_args(field.annotation) if field is not None else ()
    return words[0] if len(words) == 1 else None


def _sentence(field: str, fault: Mapping[str, Any]) -> str:
    kind, context, value = fault["type"], fault.get("ctx", {}), fault["input"]
    if kind == "missing":
        return f"'{field}' is missing"
    if kind in ("value_error", "assertion_error"):
        return f"'{field}': {context.get('error', fault['msg'])}".rstrip(".")
    guess = get_close_matches(str(value), _QUOTED.findall(context.get("expected", "")), n=1)
    hint = f": did you mean '{guess[0]}'?" if kind == "literal_error" and guess else ""
    rule = _RULES.get(kind)
    words = rule(context) if rule is not None else fault["msg"].removeprefix("Input should ").strip()
    return f"'{field}' must {words}, but is {_shown(value)}{hint}"


def _shown(value: Any) -> str:
    """A value as the document has it, cut where it is long."""
    if value is None:
        return "empty"
    if isinstance(value, str):
        return repr(value)[:_MOST_VALUE]
    try:
        return json.dumps(value, ensure_ascii=False, default=str)[:_MOST_VALUE]
    except (TypeError, ValueError):
        return repr(value)[:_MOST_VALUE]


def _count(name: str, word: str) -> Callable[[Mapping[str, Any]], str]:
    def rule(context: Mapping[str, Any]) -> str:
        number = context[name]
        return f"have {word} {number} value{'' if number == 1 else 's'}"

    return rule


def _bound(name: str, words: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda context: f"be {words} {context[name]}"


_RULES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), lambda _: "be a whole number"),
    "int_parsing_size": lambda _: "be a smaller number",
    **dict.fromkeys(("float_type", "float_parsing"), lambda _: "be a number"),
    "finite_number": lambda _: "be a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), lambda _: "be true or false"),
    "string_type": lambda _: "be text",
    "string_too_short": lambda context: f"have at least {context['min_length']} characters",
    "string_too_long": lambda context: f"have at most {context['max_length']} characters",
    "string_pattern_mismatch": lambda context: f"have the form {context['pattern']}",
    **dict.fromkeys(("literal_error", "enum"), lambda context: f"be {context['expected']}"),
    "greater_than": _bound("gt", "greater than"),
    "greater_than_equal": _bound("ge", "greater than or equal to"),
    "less_than": _bound("lt", "less than"),
    "less_than_equal": _bound("le", "less than or equal to"),
    "too_short": _count("min_length", "at least"),
    "too_long": _count("max_length", "at most"),
    **dict.fromkeys(
        ("model_type", "model_attributes_type", "dict_type"), lambda _: "be a mapping of names to values"
    ),
    **dict.fromkeys(("tuple_type", "list_type", "set_type"), lambda _: "be a list"),
    "union_tag_invalid": lambda context: f"have a {context['discriminator']} of {context['expected_tags']}",
    "union_tag_not_found": lambda context: f"have the field {context['discriminator']}",
    "none_required": lambda _: "be empty",
}
