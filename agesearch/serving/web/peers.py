"""The other models and versions of a service, as one replica knows them."""

from __future__ import annotations

from agesearch.serving.rollout.state import ServedVersion, ServiceState, StateReader
from agesearch.serving.schema import ModelSummary, Refusal


class Peers:
    """Of the replica of one model; alone without a ``reader``."""

    def __init__(self, own: ModelSummary, reader: StateReader | None) -> None:
        self._own = own
        self.reader = reader

    def require(self, name: str | None) -> None:
        """Refuse (404) a request to a model that this replica is not; None asks for any."""
        if name is None or name == self._own.name:
            return
        names = [self._own.name] if self.reader is None else self.reader.names()
        raise Refusal(
            404,
            "no_such_model",
            "No model of that name answers this call: name in the path or the query one of "
            f"{', '.join(names)}.",
        )

    def summaries(self) -> list[ModelSummary]:
        """The versions that answer in the service."""
        return [self._own] if self.reader is None else self.reader.summaries()

    def state(self) -> ServiceState:
        """What the service serves."""
        return ServiceState() if self.reader is None else self.reader.state()

    def replicas(self, served: ServedVersion) -> int:
        """How many replicas of a version answer."""
        return 0 if self.reader is None else len(self.reader.sockets(served))
