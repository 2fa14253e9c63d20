"""The aliases of a registry as documents: where one points, every step that it took and why, and the version
that is being tried beside it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from agesearch.documents import newer
from agesearch.errors import InputError
from agesearch.specs import Spec, parse_spec
from agesearch.storage import Location

#: ``canary`` and ``refuse`` (of a canary) leave the alias where it is.
Step = Literal["move", "promote", "canary", "refuse", "rollback"]
_STAYS = ("canary", "refuse")


class Move(Spec):
    """One step of an alias: when (UTC), by whom, from which version (None: it was new, or dropped) to which
    (None: it was dropped; the one that is tried, where the alias stays), of which kind, and why.
    """

    when: str
    who: str
    source: str | None = Field(alias="from")
    target: str | None = Field(alias="to")
    step: Step = newer("move")
    why: str = newer("")

    @property
    def stays(self) -> bool:
        """Whether the alias went on to point where it did."""
        return self.step in _STAYS


class Canary(Spec):
    """A version that is tried on a share (0..1) of the requests to an alias, for at most ``minutes``.

    ``shadow``: it is asked besides the alias's version, and nobody gets its answers.
    """

    version: str
    share: float = Field(gt=0, le=1)
    shadow: bool = False
    minutes: float = Field(60.0, gt=0)
    began: str


class Alias(Spec):
    """``aliases/NAME.json``: the version an alias points to (None: it was dropped), how it came there, oldest
    step first, and what is tried beside it.
    """

    alias: str
    version: str | None
    history: tuple[Move, ...] = ()
    canary: Canary | None = newer(None)

    @property
    def before(self) -> str | None:
        """The version that ``rollback`` goes back to: the one before the last step that was not taken back;
        None where there is none.
        """
        left: list[str | None] = []
        for move in self.history:
            if move.stays:
                continue
            if move.step == "rollback" and left:
                left.pop()
            else:
                left.append(move.source)
        return left[-1] if left else None


def read_aliases(folder: Location) -> tuple[list[Alias], list[str]]:
    """The aliases whose files lie in a folder, and what is wrong with those that cannot be read."""
    found, faults = [], []
    for file in folder.children():
        if file.name.endswith(".json"):
            try:
                found.append(parse_spec(Alias, file.read_json(), f"'{file}'"))
            except (InputError, OSError) as error:
                faults.append(str(error))
    return found, faults
