"""YAML documents as frozen data: the base of all specs, their digests, and errors that name file and line.

A document is data: no tags, no code, no key twice, no more than ``MAX_NODES`` values however its anchors
multiply them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, NoReturn, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from agesearch.errors import InputError
from agesearch.provenance import without_places
from agesearch.storage import Location
from agesearch.validation_messages import first_fault

SpecType = TypeVar("SpecType", bound="Spec")

#: A YAML document may be this large: the longest of ours has 10 kB, a study's header with its spec 30.
MAX_YAML_BYTES = 1024 * 1024
#: ... with so many values, those of an anchor counted wherever it is used ...
MAX_NODES = 100_000
#: ... and so deep: pydantic and PyYAML recurse.
MAX_DEPTH = 50


class Spec(BaseModel):
    """Base of all specs: immutable, strict about names, with a digest of its content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Fields that say how a run goes and not what it finds.
    WITHOUT_EFFECT: ClassVar[frozenset[str]] = frozenset()

    def identity(self) -> dict[str, Any]:
        """The JSON form without what does not change results: equal ones ask for the same."""
        return _identity(self, self.model_dump(mode="json"))

    def digest(self) -> str:
        """16 hex digits of the SHA-256 of the canonical ``identity``."""
        return digest_of(self.identity())

    def with_values(self, values: dict[str, Any]) -> Self:
        """A copy with dotted fields replaced, validated anew; an unknown field is an ``InputError``."""
        document: dict[str, Any] = _whole(self)
        for dotted, value in values.items():
            *parents, leaf = dotted.split(".")
            node: Any = document
            for part in parents:
                node = node.get(part) if isinstance(node, dict) else None
            if not isinstance(node, dict) or leaf not in node:
                raise InputError(f"'{dotted}' is not a field of {type(self).__name__}.")
            node[leaf] = value
        return parse_spec(type(self), document, type(self).__name__)


class SharedRecord(Spec):
    """Base of the records that others will read (a model's manifest, a report's figures): what is written of
    them names files, never where these lay on the machine that made the record.

    In the process that makes it, a record keeps its paths; they are left out wherever it is dumped.
    """

    @model_serializer(mode="wrap")
    def _without_places(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return dict(without_places(handler(self)))


def newer(default: Any, **rules: Any) -> Any:
    """A field that came to a spec later: at its default it is in no dump, so that the documents and digests
    of older specs stay what they were, and it is never in ``repr``.
    """
    return Field(default, exclude_if=lambda value: value == default, repr=False, **rules)


def _identity(spec: Spec, document: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in document.items():
        part = getattr(spec, name, None)
        if name in spec.WITHOUT_EFFECT:
            continue
        found[name] = _identity(part, value) if isinstance(part, Spec) and isinstance(value, dict) else value
    return found


def _whole(value: Any) -> Any:
    """A spec's fields, those too that are in no dump, to be validated again."""
    if isinstance(value, Spec):
        return {name: _whole(part) for name, part in value}
    return {name: _whole(part) for name, part in value.items()} if isinstance(value, dict) else value


def digest_of(value: Any) -> str:
    """16 hex digits of the SHA-256 of a JSON value in canonical form."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()[:16]


def parse_spec(kind: type[SpecType], document: Any, where: str) -> SpecType:
    """A validated spec, or an ``InputError`` that names the field, its value and the rule it breaks."""
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise InputError(f"{where}: {describe_validation(error, kind, document)}") from error


def describe_validation(error: ValidationError, kind: Any = None, document: Any = None) -> str:
    """One line for what is to be mended first in a ``document`` that is no ``kind``: field, rule, value."""
    message = first_fault(error, kind, document).message
    return message if message.endswith("?") else f"{message}."


def load_yaml(where: str) -> Any:
    """The value of a YAML file; an ``InputError`` names the line where it breaks."""
    return Document(where).value


def parse_value(text: str) -> Any:
    """A single YAML value, read as those of documents are; ``InputError`` where it is none."""
    try:
        return yaml.load(text, Loader=_Loader)  # a subclass of the safe loader
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"'{text}' is not a YAML value.") from error


def load_spec(kind: type[SpecType], where: str, text: str | None = None) -> SpecType:
    """A spec from a YAML file, whose ``text`` may be at hand; an ``InputError`` names the file and the
    line.
    """
    return Document(where, text).spec(kind)


class Document:
    """A YAML file: its ``value``, and the line on which each of its keys stands."""

    def __init__(self, where: str, text: str | None = None) -> None:
        self._path = where
        if text is None:
            text = Location.of(where).read_text()
        size = len(text.encode("utf-8"))
        if size > MAX_YAML_BYTES:
            raise InputError(f"'{where}' has {size} bytes, a YAML file may have {MAX_YAML_BYTES}.")
        try:
            loader = _Loader(text)
            self._root = loader.get_single_node()
            self._check(self._root)
            self.value: Any = loader.construct_document(self._root) if self._root is not None else None
        except RecursionError as error:
            raise InputError(f"'{where}' is not valid YAML: it is nested too deeply.") from error
        except yaml.YAMLError as error:
            self._refuse(error, text)

    def spec(self, kind: type[SpecType], value: Any = None) -> SpecType:
        """The document (or ``value`` in its place) as a spec; an ``InputError`` names the line at fault."""
        document = self.value if value is None else value
        try:
            return kind.model_validate(document)
        except ValidationError as error:
            place = self.at(first_fault(error, kind, document).keys)
            raise InputError(f"{place}: {describe_validation(error, kind, document)}") from error

    def at(self, keys: Sequence[str | int]) -> str:
        """``'file' line 12``: the line of the deepest part of ``keys`` that the document has."""
        node, line = self._root, 1
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                found = [(name, value) for name, value in node.value if name.value == str(key)]
                if found:  # a key of its own comes after one that it merges (``<<``)
                    name, node = found[-1]
                    line = name.start_mark.line + 1
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
                node = node.value[key]
                line = node.start_mark.line + 1
        return f"'{self._path}' line {line}"

    def _check(self, root: yaml.Node | None) -> None:
        """Refuse keys that are there twice, and anchors that multiply or contain themselves."""
        sizes: dict[int, int] = {}

        def size(node: yaml.Node, depth: int) -> int:
            if depth > MAX_DEPTH:
                self._fault(node, f"is nested deeper than {MAX_DEPTH} levels, or contains itself")
            if id(node) not in sizes:
                sizes[id(node)] = 1 + sum(size(child, depth + 1) for child in self._children(node))
            if sizes[id(node)] > MAX_NODES:
                self._fault(
                    node, f"holds more than {MAX_NODES} values, counting an anchor wherever it is used"
                )
            return sizes[id(node)]

        if root is not None:
            size(root, 0)

    def _children(self, node: yaml.Node) -> list[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        if not isinstance(node, yaml.MappingNode):
            return []
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._fault(key, "has a list or a mapping for a key")
            if key.value in seen:
                self._fault(key, f"names '{key.value}' a second time")
            seen.add(key.value)
        return [value for _, value in node.value]

    def _fault(self, node: yaml.Node, what: str) -> NoReturn:
        raise InputError(f"'{self._path}' line {node.start_mark.line + 1}: the document {what}.")

    def _refuse(self, error: yaml.YAMLError, text: str) -> NoReturn:
        line: int | str = "?"
        problem = " ".join(str(error).split())
        if isinstance(error, yaml.MarkedYAMLError):
            mark = error.problem_mark or error.context_mark
            line, problem = (mark.line + 1 if mark else "?"), str(error.problem or error.context)
        elif isinstance(error, yaml.reader.ReaderError):
            line = text.count("\n", 0, error.position) + 1
            problem = f"the character #x{error.character:04x} may not stand there"
        raise InputError(f"'{self._path}' is not valid YAML: line {line}: {problem}.") from error


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """What a plain scalar may be, by its first character: PyYAML's table in the words of YAML 1.2."""
    rows = (
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
        ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
        ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
        ("null", r"~|null|Null|NULL", "~nN"),
        ("merge", r"<<", "<"),
    )
    table = {"": [("tag:yaml.org,2002:null", re.compile(r"^$"))]}
    for tag, pattern, firsts in rows:
        for first in firsts:
            table.setdefault(first, []).append((f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$")))
    return table


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the plain values of YAML 1.2 (``off`` is a name, ``1e-3`` a number), whose
    constructors tell their faults by line like all others.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = _resolvers()

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            problem = f"'{node.value!s:.40}' is not what it looks like: {error}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping whose keys are names as they are written, such as ``96`` or ``on``."""
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}
