"""[ray] ``deploy``, ``undeploy`` and ``deployments``, within the cluster: in a process that has joined it.

A service is a named actor (``Supervisor``) that outlives whoever started it. The name lets in one of each.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from agesearch.cluster.nodes import Node, Sight, alive_nodes, ask_each, faults_of, sight_of, without
from agesearch.deploy.registry import CHAMPION
from agesearch.errors import AgeSearchError, ConflictError, InputError, command, first_line
from agesearch.progress import Listener, Progress, silent
from agesearch.provenance import now
from agesearch.serving.access.keys import checked_file
from agesearch.serving.auth import TokenCheck
from agesearch.serving.deployments.records import (
    DeployedService,
    Deployment,
    chosen,
    drop_record,
    recorded,
    write_record,
)
from agesearch.serving.deployments.supervisor import Supervisor
from agesearch.serving.ingress.tls import certificate_of
from agesearch.serving.rollout.models import require_opens, served_models

_SPACE = "agesearch-deployments"
#: Seconds until a service must have started, in which a process that starts on a busy node takes 20; in which
#: one that is asked how it stands must answer; and in which one that is to end has ended.
_START_S, _ANSWER_S, _END_S = 180.0, 5.0, 60.0
_LOOK_S = 0.25
#: Calls that a supervisor takes at once: one that ends it must not wait behind others.
_CALLS = 8


@dataclass(frozen=True)
class _Examined(Sight):
    """What a node found of a service: the model as it is told for good."""

    model: str = ""


def examined(registry: str, wanted: Deployment) -> _Examined:
    """Whether this node could run a service: it sees the model, opens it, and sees all files."""
    versions = sight_of([]).versions
    try:
        (model,) = served_models([wanted.model], registry, wanted.signed_by)
        require_opens(model.first)
        certificate_of(wanted.tls_cert, wanted.tls_key)
        if wanted.keys is not None:
            checked_file(wanted.keys)
    except (AgeSearchError, OSError) as error:
        return _Examined(versions, first_line(error))
    label = f"{model.name}@{model.alias}" if model.alias else f"{model.name}:{model.version}"
    return _Examined(versions, None, label)


def deploy(
    registry: str,
    wanted: Deployment,
    check: TokenCheck,
    *,
    seconds: float = _START_S,
    on_progress: Listener = silent,
) -> tuple[DeployedService, dict[Node, str]]:
    """Start a service, wait until it answers, and record it; the nodes that it will not run on, and why.

    Where it does not start nothing has changed, and an ``AgeSearchError`` says why: ``InputError`` where no
    node could run it, ``ConflictError`` where it is deployed already.
    """
    known = set(_names())
    if known & {wanted.model, f"{wanted.model}@{CHAMPION}"}:
        raise _is_deployed(chosen(wanted.model, known))
    nodes = _large_enough(wanted)
    on_progress(Progress("Looking at the nodes", 0, 1))
    answers = ask_each(nodes, examined, registry, wanted)
    left_out = faults_of(answers)
    models = [answer.model for answer in answers.values() if isinstance(answer, _Examined) and answer.model]
    if len(left_out) == len(nodes) or not models:
        raise _unable(left_out)
    told = wanted.model_copy(update={"model": models[0], "cluster": _cluster(), "since": now()})
    stage = f"Deploying {told.model}"
    on_progress(Progress(stage, 0, 1))
    actor = _started(registry, told, check, left_out)
    try:
        service = _noted(_await_service(actor, told, seconds), told)
    except BaseException:
        _end(actor, told.model)
        raise
    on_progress(Progress(stage, 1, 1))
    return service, left_out


def undeploy(reference: str, registry: str) -> DeployedService:
    """End a service, when it has answered what it has, and forget its record; the service as it was. An
    ``InputError`` lists those that there are.
    """
    found = {service.name: service for service in deployments(registry)}
    service = found[chosen(reference, found)]
    actor = _find(service.name)
    if actor is not None:
        _end(actor, service.name)
    drop_record(service.registry, Deployment(model=service.name, cluster=_cluster()))
    return service


def deployments(registry: str) -> list[DeployedService]:
    """The services of the cluster, and those that the registry says are on it, by name."""
    names = _names()
    asked = {name: actor.describe.remote() for name in names if (actor := _find(name)) is not None}
    recorded_here = {record.model: record for record in recorded(registry, _cluster())}
    services = []
    end = time.monotonic() + _ANSWER_S
    for name, reference in asked.items():
        service = None
        with suppress(AgeSearchError):
            service = _answer(reference, max(0.1, end - time.monotonic()))
        services.append(service or _silent(name, registry, recorded_here.get(name)))
    for name, record in recorded_here.items():
        if name not in asked:
            services.append(_lost(record, registry))
    return sorted(services, key=lambda service: service.name)


def restore(
    registry: str, check: TokenCheck, recorded_for: str | None = None, *, on_progress: Listener = silent
) -> list[DeployedService]:
    """Deploy again what the registry says is on this cluster and is not: its head was lost. ``recorded_for``
    is the address that the head had, where it has another one now.
    """
    here, running = _cluster(), set(_names())
    restored, fault = [], None
    for record in recorded(registry, recorded_for or here):
        try:
            if record.model not in running:
                restored.append(deploy(registry, record, check, on_progress=on_progress)[0])
        except AgeSearchError as error:  # the others come back all the same
            fault = fault or error
            continue
        if record.cluster != here:
            drop_record(registry, record)
    if fault is not None:
        raise fault
    return restored


def _large_enough(wanted: Deployment) -> list[Node]:
    nodes = alive_nodes()
    fitting = [node for node in nodes if node.cpus >= wanted.cpus]
    if not fitting:
        most = max((node.cpus for node in nodes), default=0.0)
        raise InputError(
            f"{wanted.replicas} replicas of {wanted.threads} threads need {wanted.cpus} CPUs of one node, "
            f"and the largest has {most:g}: lower --replicas or --threads."
        )
    return fitting


def _unable(left_out: dict[Node, str]) -> InputError:
    reasons = sorted(set(left_out.values()))
    if len(reasons) == 1:
        return InputError(reasons[0])
    told = "; ".join(f"{node}: {why.rstrip('.')}" for node, why in left_out.items())
    return InputError(f"No node can run it. {told}.")


def _cluster() -> str:
    """The address by which the nodes know their cluster."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


def _names() -> list[str]:
    import ray

    named: Any = ray.util.list_named_actors(all_namespaces=True)
    return sorted(row["name"] for row in named if row["namespace"] == _SPACE)


def _find(name: str) -> Any | None:
    import ray

    try:
        return ray.get_actor(name, namespace=_SPACE)
    except ValueError:
        return None


def _started(registry: str, told: Deployment, check: TokenCheck, left_out: dict[Node, str]) -> Any:
    import ray

    kind: Any = ray.remote(Supervisor)
    options = {
        "name": told.model,
        "namespace": _SPACE,
        "lifetime": "detached",
        "max_restarts": -1,
        "num_cpus": told.cpus,
        "max_concurrency": _CALLS,
        **without({node.id: node.host for node in left_out}),
    }
    try:
        return kind.options(**options).remote(registry, told, check)
    except ValueError as error:
        raise _is_deployed(told.model) from error


def _is_deployed(model: str) -> ConflictError:
    change = command("promote", Deployment(model=model).name, "VERSION")
    return ConflictError(
        f"{model} is deployed on this cluster already. It takes a version that its alias is moved to "
        f"({change}); for other options end it first: {command('undeploy', model)}"
    )


def _await_service(actor: Any, told: Deployment, seconds: float) -> DeployedService:
    """The service once it answers; an ``AgeSearchError`` says why it does not."""
    end = time.monotonic() + seconds
    service = None
    while time.monotonic() < end:
        service = _answer(actor.describe.remote(), _ANSWER_S) or service
        if service is not None and service.state == "serving":
            return service
        if service is not None and service.state == "failing":
            kind = InputError if service.exit_code == InputError.exit_code else AgeSearchError
            raise kind(f"{told.model} is not deployed: {service.why}")
        time.sleep(_LOOK_S)
    why = "it is still starting" if service else f"no node has {told.cpus} CPUs free (a study holds them?)"
    raise AgeSearchError(f"{told.model} is not deployed: {why} after {seconds:g} s.")


def _noted(service: DeployedService, told: Deployment) -> DeployedService:
    """Record a service; one whose registry cannot be written goes on, and says so."""
    try:
        write_record(service.registry, told)
    except (AgeSearchError, OSError) as error:
        why = f"it is on no record, and will not come back after the head's loss: {first_line(error)}"
        return replace(service, why=why)
    return service


def _answer(reference: Any, seconds: float) -> DeployedService | None:
    """What a service tells of itself; None where it does not in that time. One whose process cannot even
    begin is an ``AgeSearchError``.
    """
    import ray

    try:
        found: DeployedService = ray.get(reference, timeout=seconds)
    except (ray.exceptions.GetTimeoutError, ray.exceptions.ActorUnavailableError):
        return None
    except ray.exceptions.RayActorError as error:
        raise AgeSearchError(f"Its process does not start: {first_line(error)}") from error
    return found


def _end(actor: Any, name: str) -> None:
    """End an actor, in order where it answers, and wait until its name is free."""
    import ray

    with suppress(ray.exceptions.RayError):
        ray.get(actor.end.remote(), timeout=_END_S if _is_up(actor) else 0.1)
    ray.kill(actor, no_restart=True)
    end = time.monotonic() + _ANSWER_S
    while name in _names() and time.monotonic() < end:
        time.sleep(_LOOK_S)


def _is_up(actor: Any) -> bool:
    with suppress(AgeSearchError):
        return _answer(actor.describe.remote(), _ANSWER_S) is not None
    return False


def _silent(name: str, registry: str, record: Deployment | None) -> DeployedService:
    why = "it does not answer: its node was lost, or no node has room for it"
    since, wanted = (record.since, record.replicas) if record else ("", 0)
    return DeployedService(name, "moving", registry, since=since, wanted=wanted, why=why)


def _lost(record: Deployment, registry: str) -> DeployedService:
    why = f"the cluster's head was lost: {command('deployments', '--restore')}"
    return DeployedService(
        record.model, "lost", registry, since=record.since, wanted=record.replicas, why=why
    )
