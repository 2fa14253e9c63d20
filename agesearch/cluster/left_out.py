"""Nodes that take no part in some work: which, why, and whether any other is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agesearch.cluster.nodes import Node, alive_nodes, unfit
from agesearch.errors import InputError


class LeftOutNodes:
    """The nodes that take no part in ``work`` ("the study"), by Ray's id, with a line for a person each,
    which ``tell`` hears once. ``remedy`` ends the error where no other node is left.
    """

    def __init__(self, work: str, remedy: str, tell: Callable[[str], None] = lambda _: None) -> None:
        self.reasons: dict[str, str] = {}
        self._work, self._remedy, self._tell = work, remedy, tell

    def ask(self, paths: Callable[[], Sequence[str]], folders: Sequence[str] = ()) -> None:
        """Before the work begins: leave out the nodes with CPUs that cannot read all ``paths()`` or write
        into all ``folders``, or have other versions. ``InputError`` where none is left.
        """
        nodes = alive_nodes()
        if len(nodes) < 2:
            return
        for node, why in unfit([node for node in nodes if node.cpus], paths(), folders).items():
            self._add(node.id, str(node), why)
        self._check(nodes)

    def add(self, node: str, why: str) -> bool:
        """Leave a node (by its id) out from now on; whether it took part until now."""
        if node in self.reasons:
            return False
        names = {other.id: str(other) for other in alive_nodes()}
        self._add(node, names.get(node, node), why)
        return True

    def check(self) -> None:
        """An ``InputError`` where no node with CPUs is left."""
        self._check(alive_nodes())

    def cpus(self) -> float:
        """The CPUs of the nodes that are left out and alive."""
        return sum(node.cpus for node in alive_nodes() if node.id in self.reasons) if self.reasons else 0.0

    def _add(self, node: str, name: str, why: str) -> None:
        self.reasons[node] = f"The node {name} takes no part in {self._work}: {why.rstrip('.')}."
        self._tell(self.reasons[node])

    def _check(self, nodes: Sequence[Node]) -> None:
        if self.reasons and all(node.id in self.reasons or not node.cpus for node in nodes):
            lines = " ".join(self.reasons.values())
            raise InputError(f"{lines} No other node with CPUs is left: {self._remedy}")
