"""[ray] One training on several worker processes with Ray Train: DDP, one process a CPU core or a GPU.

A worker that dies is restarted with its whole group, which goes on from the last checkpoint. One
worker trains in the calling process (Ray Train's local mode): processes of its own take half a minute to
start on a laptop.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import psutil

from agesearch.errors import AgeSearchError, InputError, first_line
from agesearch.storage import Location
from agesearch.training.loop import ALONE, Place

#: Restarts of the workers after one of them died.
MAX_RESTARTS = 2

_FAULT = "fault.json"

#: Seconds between two looks at whether the workers are done; signals are heard meanwhile.
_WAIT_S = 0.5


def fit_ddp(
    work: Callable[[Place], None],
    scratch: Location,
    name: str,
    *,
    workers: int,
    gpus_per_worker: float = 0.0,
    callbacks: Sequence[Any] = (),
) -> None:
    """Run ``work`` on every worker, in a process group of torch's where there are several.

    ``scratch`` holds Ray Train's own records of the run ``name`` meanwhile, in a place that all nodes see.
    Raises the workers' own ``AgeSearchError``, or one that says what failed.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    local, fault = workers == 1, scratch / _FAULT
    resources = {"CPU": 1.0} | ({"GPU": gpus_per_worker} if gpus_per_worker else {})
    trainer = TorchTrainer(
        (lambda: work(worker_place())) if local else partial(_guarded, work, fault),
        scaling_config=ScalingConfig(
            num_workers=0 if local else workers,
            use_gpu=not local and gpus_per_worker > 0,
            resources_per_worker=None if local else resources,
        ),
        torch_config=_on_node_interfaces(),
        run_config=RunConfig(
            name=name,
            storage_path=str(scratch),
            failure_config=FailureConfig(max_failures=MAX_RESTARTS),
            callbacks=list(callbacks),
        ),
    )
    try:
        _fit(trainer, local)
        if fault.exists():
            raise _restored(fault.read_json())
    except TrainingFailedError as error:
        raise AgeSearchError(
            f"The training failed on its workers: {_cause(error)}. Run the same command to go on."
        ) from error
    finally:
        scratch.delete()


def interface_of(address: str) -> str | None:
    """The network interface that has an address of this machine; None for one that no interface lists, such
    as 127.0.0.2.
    """
    for name, addresses in psutil.net_if_addrs().items():
        if any(found.address.partition("%")[0] == address for found in addresses):
            return name
    return None


def use_node_interface() -> None:
    """Let Gloo and NCCL talk through the interface whose address Ray knows this node by.

    By themselves they take the address of the host's name, which Debian and Ubuntu write into /etc/hosts as
    127.0.1.1: workers on two machines would each connect to themselves. What the user has set stays.
    """
    interface = interface_of(_node_address())
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)


def _node_address() -> str:
    import ray

    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def _on_node_interfaces() -> Any:
    """Ray Train's setup of torch's process group, after every worker has chosen its interface."""
    from ray.train.torch import TorchConfig

    usual: Any = TorchConfig().backend_cls

    class OnNodeInterfaces(usual):  # type: ignore[misc]
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            worker_group.execute(use_node_interface)
            super().on_start(worker_group, backend_config)

    class Config(TorchConfig):
        @property
        def backend_cls(self) -> Any:
            return OnNodeInterfaces

    return Config()


def check_workers(workers: int, cpus: float) -> None:
    """Refuse fewer workers than one, and more than there are CPUs."""
    if workers < 1:
        raise InputError(f"The number of workers is {workers}, but must be >= 1.")
    if workers > cpus:
        raise InputError(
            f"{workers} workers need {workers} CPUs, but Ray has {cpus:g}: ask for fewer workers."
        )


def worker_place() -> Place:
    """The rank and the device that Ray Train gave this process."""
    import ray.train
    from ray.train.torch import get_device

    context = ray.train.get_context()
    world = context.get_world_size()
    if world == 1:  # local mode reserves no GPU, and takes one where there is one
        return ALONE
    return Place(context.get_world_rank(), world, get_device())


def _fit(trainer: Any, local: bool) -> None:
    """Fit, and hear signals meanwhile. In the main thread Ray Train would take Ctrl-C for itself, and end the
    workers without a checkpoint: so several workers are waited for in a thread of its own.
    """
    if local or threading.current_thread() is not threading.main_thread():
        trainer.fit()
        return
    ended: list[BaseException | None] = []

    def fit() -> None:
        try:
            trainer.fit()
            ended.append(None)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=fit, name="workers", daemon=True)
    thread.start()
    while not ended:
        thread.join(_WAIT_S)
    if ended[0] is not None:
        raise ended[0]


def _guarded(work: Callable[[Place], None], fault: Location) -> None:
    """A worker that keeps errors of ours for the driver: whoever restarts it would only meet them again."""
    place = worker_place()
    try:
        work(place)
    except AgeSearchError as error:
        fault.write_json({"kind": type(error).__name__, "message": str(error)})


def _restored(fault: dict[str, str]) -> AgeSearchError:
    kinds, waiting = dict[str, type[AgeSearchError]](), [AgeSearchError]
    while waiting:
        kind = waiting.pop()
        kinds[kind.__name__] = kind
        waiting += kind.__subclasses__()
    return kinds.get(fault["kind"], AgeSearchError)(fault["message"])


def _cause(error: Any) -> str:
    failures = list(getattr(error, "worker_failures", {}).values())
    return first_line(failures[0] if failures else error)
