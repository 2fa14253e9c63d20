"""What is deployed on clusters, as the registry of its model keeps it, and as a cluster tells of it.

    registry/NAME/deployments/champion.127.0.0.2-6399.json      written by ``deploy``, deleted by ``undeploy``

A record holds what it takes to deploy the service again where the cluster has lost it. The token is not in
it, nor any sum of it: a registry is read by more people than may use a service.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import Field, ValidationError

from agesearch.deploy.registry import CHAMPION, Registry
from agesearch.errors import InputError, unknown_name
from agesearch.session import LOOPBACK
from agesearch.specs import Spec
from agesearch.storage import Location

_DEPLOYMENTS = "deployments"

#: ``moving``: its process does not answer: its node was lost and another one takes it up, or none has room.
#: ``failing``: it cannot start, which it tries again and again. ``lost``: recorded, and not on the cluster.
State = Literal["starting", "serving", "failing", "ending", "moving", "lost"]


class Deployment(Spec):
    """A service on a cluster: the model, as ``NAME@ALIAS`` or ``NAME:VERSION``, the address by which nodes
    know the cluster, since when (UTC), and the options. Files are those of the node that it runs on.
    """

    model: str
    cluster: str = ""
    since: str = ""
    host: str = LOOPBACK
    port: int = Field(8000, ge=1, le=65535)
    replicas: int = Field(1, ge=1)
    threads: int = Field(1, ge=1)
    keys: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    access_log: str | None = None
    signed_by: str | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.partition("@")[0].partition(":")[0]

    @property
    def cpus(self) -> int:
        """What it holds of a node. A version that takes another one's place shares them while both run."""
        return self.replicas * self.threads


@dataclass(frozen=True)
class DeployedService:
    """A service as the cluster tells of it: the ``version`` that answers, at which ``url`` on which ``node``,
    how many replicas of how many; since when it is deployed, and since when it is where it is. ``why``: what
    it lacks. ``exit_code``: what a command ends with that waits for it.
    """

    name: str
    state: State
    registry: str
    version: str | None = None
    url: str | None = None
    node: str | None = None
    replicas: int = 0
    wanted: int = 0
    since: str = ""
    began: str = ""
    why: str = ""
    exit_code: int = 0

    @property
    def alias(self) -> str | None:
        """The alias that it follows; None where it stays with its version."""
        return self.name.partition("@")[2] or None

    def as_json(self) -> dict[str, Any]:
        """The service as JSON values."""
        found = asdict(self) | {"alias": self.alias}
        del found["exit_code"]
        return found


def write_record(registry: str, deployment: Deployment) -> None:
    """Record what is deployed."""
    _file(registry, deployment).write_json(deployment.model_dump(mode="json"))


def drop_record(registry: str, deployment: Deployment) -> None:
    """Record that it is deployed no longer."""
    _file(registry, deployment).delete()


def recorded(registry: str, cluster: str) -> list[Deployment]:
    """What a registry says is deployed on the cluster of that address, by name."""
    found = []
    for model in Location.of(registry).children():
        for file in (model / _DEPLOYMENTS).children():
            try:
                record = Deployment.model_validate(file.read_json())
            except (OSError, InputError, ValidationError):  # it goes, or is no record
                continue
            if record.cluster == cluster:
                found.append(record)
    return sorted(found, key=lambda record: record.model)


def chosen(reference: str, names: Collection[str]) -> str:
    """Which of the deployed ``names`` a reference means: ``NAME`` alone is its champion's service, or the
    only one of that model. An ``InputError`` lists those that there are.
    """
    name, colon, number = reference.partition(":")
    wanted = f"{name}:{int(number):04d}" if colon and number.isdecimal() else reference
    if wanted in names:
        return wanted
    if "@" not in reference and not colon:
        of_model = sorted(one for one in names if one.replace(":", "@").partition("@")[0] == name)
        if f"{name}@{CHAMPION}" in of_model:
            return f"{name}@{CHAMPION}"
        if len(of_model) == 1:
            return of_model[0]
    if not names:
        raise InputError(f"'{reference[:80]}' is not deployed, nor is anything else.")
    raise unknown_name("deployment", reference[:80], names)


def _file(registry: str, deployment: Deployment) -> Location:
    which = deployment.model.removeprefix(deployment.name)[1:]
    place = deployment.cluster.replace(":", "-").replace("/", "-")
    return Registry(registry).folder(deployment.name) / _DEPLOYMENTS / f"{which}.{place}.json"
