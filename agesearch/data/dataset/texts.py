"""A column of texts by number: some bytes a face, where Python's own strings cost a hundred.

A split, a sex or a person is one of few names, so a face holds its name's number only; ids, of which each
face has its own, lie in one array of bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agesearch.data.dataset.arrays import Strings

Mask = npt.NDArray[np.bool_]
#: The number of the name of each of N faces, -1 where it is unknown.
Numbers = npt.NDArray[np.signedinteger[Any]]
Names = npt.NDArray[np.bytes_]

#: Texts that are made Python's at once.
_AT_ONCE = 65_536


class Texts:
    """N texts (None: unknown), read like an array of objects.

    ``names`` ``[K]`` are the different ones in UTF-8, rising, so that numbers sort as their texts do;
    ``numbers`` ``[N]`` say which each is. Parts taken from a column share its names.
    """

    __slots__ = ("names", "numbers")
    __hash__ = None  # type: ignore[assignment]  # compared element by element, as arrays are

    def __init__(self, names: Names, numbers: Numbers) -> None:
        self.names = names
        self.numbers = numbers.astype(np.min_scalar_type(-max(len(names), 1)), copy=False)

    @classmethod
    def of(cls, texts: Texts | Strings | Sequence[str | None]) -> Texts:
        """A column of these texts."""
        if isinstance(texts, Texts):
            return texts
        maker = TextsMaker()
        maker.add(pa.array(list(texts), pa.string()))
        return maker.made()

    @classmethod
    def joined(cls, parts: Sequence[Texts]) -> Texts:
        """The texts of several columns as one."""
        first = parts[0]
        if all(part.names is first.names for part in parts):
            return cls(first.names, np.concatenate([part.numbers for part in parts]))
        names = np.unique(np.concatenate([part.names for part in parts]))
        numbers = [_renumbered(part.numbers, np.searchsorted(names, part.names)) for part in parts]
        return cls(names, np.concatenate(numbers))

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, where: Any) -> Any:
        """One text, or those at some indices or where a mask is true."""
        found = self.numbers[where]
        return Texts(self.names, found) if isinstance(found, np.ndarray) else self._text(int(found))

    def __iter__(self) -> Iterator[str | None]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self._decoded(start, start + _AT_ONCE)

    def __eq__(self, other: object) -> Mask:  # type: ignore[override]
        """Where the text is the one given."""
        if not isinstance(other, str | None):
            return NotImplemented
        found: Mask = self.numbers == self.number_of(other)
        return found

    def __ne__(self, other: object) -> Mask:  # type: ignore[override]
        same = self.__eq__(other)
        return NotImplemented if same is NotImplemented else ~same

    def tolist(self) -> list[str | None]:
        """All as Python's strings."""
        return list(self)

    def to_arrow(self) -> pa.Array:
        """All as an Arrow array of strings."""
        parts = [
            pa.array(self._decoded(start, start + _AT_ONCE), pa.string())
            for start in range(0, len(self), _AT_ONCE)
        ]
        return pa.concat_arrays(parts) if parts else pa.array([], pa.string())

    def number_of(self, text: str | None) -> int:
        """The number of a text: -1 for None, and -2 for one that is no name of the column."""
        if text is None:
            return -1
        name = text.encode()
        at = int(np.searchsorted(self.names, name))
        return at if at < len(self.names) and bytes(self.names[at]) == name else -2

    def places(self, texts: pa.Array) -> npt.NDArray[np.int64]:
        """The number of each of some texts, -1 where it is no name of the column."""
        wanted = _encoded(texts)
        at = np.minimum(np.searchsorted(self.names, wanted), max(len(self.names) - 1, 0))
        if not len(self.names):
            return np.full(len(wanted), -1, dtype=np.int64)
        return np.where(self.names[at] == wanted, at, -1).astype(np.int64)

    def counts(self) -> dict[str | None, int]:
        """How often each text is there, in the order in which they come first."""
        found, first, count = np.unique(self.numbers, return_index=True, return_counts=True)
        return {self._text(int(found[at])): int(count[at]) for at in np.argsort(first)}

    def renamed(self, rename: Callable[[str | None], str]) -> Texts:
        """Each text under another name, asked for once a text; several may get the same one."""
        present = np.unique(self.numbers)
        named = [rename(self._text(int(number))) for number in present]
        names = np.array(sorted({name.encode() for name in named}), dtype=np.bytes_)
        table = np.full(len(self.names) + 1, -1, dtype=np.int64)
        table[present] = np.searchsorted(names, np.array([name.encode() for name in named], dtype=np.bytes_))
        return Texts(names, table[self.numbers])

    def digest(self) -> str:
        """16 hex digits that name these texts in this order."""
        found = hashlib.sha256()
        for start in range(0, len(self), _AT_ONCE):
            found.update(repr(self._decoded(start, start + _AT_ONCE)).encode())
        return found.hexdigest()[:16]

    def _text(self, number: int) -> str | None:
        return None if number < 0 else bytes(self.names[number]).decode()

    def _decoded(self, start: int, end: int) -> list[str | None]:
        part = self.numbers[start:end]
        if not len(self.names):
            return [None] * len(part)
        texts = np.char.decode(self.names[part], "utf-8").tolist()
        return [None if number < 0 else text for number, text in zip(part.tolist(), texts, strict=True)]


class Growing:
    """A list of numbers or bytes in one array: thousands of small ones would leave holes in the memory."""

    def __init__(self) -> None:
        self._room: npt.NDArray[Any] | None = None
        self._size = 0

    def add(self, values: npt.NDArray[Any]) -> None:
        """The next ones; they may be wider than those before."""
        end = self._size + len(values)
        if self._room is None:
            self._room = np.empty(max(1024, end), values.dtype)
        dtype = np.promote_types(self._room.dtype, values.dtype)
        if end > len(self._room) or dtype != self._room.dtype:
            grown = np.empty(max(2 * len(self._room), end), dtype)
            grown[: self._size] = self._room[: self._size]
            self._room = grown
        self._room[self._size : end] = values
        self._size = end

    def made(self, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """All of them, as ``dtype`` where there are none; the list is empty from now on."""
        room, self._room = self._room, None
        found = np.empty(0, dtype) if room is None else room[: self._size]
        self._size = 0
        return found


class TextsMaker:
    """Makes a column from batches: each text is kept once, each face as a number."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._numbers = Growing()

    def add(self, texts: pa.Array) -> Self:
        """The next texts."""
        encoded = texts.dictionary_encode()
        known = [self._known.setdefault(name, len(self._known)) for name in encoded.dictionary.to_pylist()]
        table = np.array([*known, -1], dtype=np.int32)
        self._numbers.add(table[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)])
        return self

    def made(self) -> Texts:
        """The column of all that was added."""
        names = _encoded(pa.array(list(self._known), pa.string()))
        return _sorted(names, self._numbers.made(np.int32))


class IdsMaker:
    """Makes a column of which nearly every text is another, such as sample ids."""

    def __init__(self) -> None:
        self._names = Growing()

    def add(self, texts: pa.Array) -> Self:
        """The next ids; none may be unknown."""
        self._names.add(_encoded(texts))
        return self

    def made(self) -> Texts:
        """The column of all that was added."""
        every = self._names.made(np.dtype("S1"))
        order = np.argsort(every, kind="stable")
        names = every[order]
        new = np.append(np.ones(min(1, len(names)), dtype=bool), names[1:] != names[:-1])
        numbers = np.empty(len(every), np.int32)
        numbers[order] = np.cumsum(new, dtype=np.int32) - 1
        return Texts(names if new.all() else names[new], numbers)


def _encoded(texts: pa.Array) -> Names:
    """Texts as UTF-8 of one width, which sort as the texts do."""
    return np.array([text.encode() for text in texts.to_pylist()] or [b""], dtype=np.bytes_)[: len(texts)]


def _sorted(names: Names, numbers: Numbers) -> Texts:
    order = np.argsort(names, kind="stable")
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    return Texts(names[order], _renumbered(numbers, rank))


def _renumbered(numbers: Numbers, to: npt.NDArray[Any]) -> Numbers:
    """Other numbers for the names, of which the unknown one keeps its own."""
    found: Numbers = np.append(to, -1)[numbers]
    return found
