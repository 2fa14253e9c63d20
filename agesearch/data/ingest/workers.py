"""The workers of an ingest: Ray Data hands them units of work and streams the results back.

Units come back in the order they are finished; what the dataset holds does not depend on it. A worker that
dies (a decoder's segfault, the kernel's out-of-memory killer) costs its unit: that is cut in halves, each
for a fresh process, until the one image that does it is alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from agesearch.cluster.nodes import cpus_now, this_node, without
from agesearch.data.ingest.unseen import LeftOut
from agesearch.data.ingest.work_unit import (
    RESULT_SCHEMA,
    UnitContext,
    crashed,
    failure,
    process_unit,
    stage_results,
)
from agesearch.errors import AgeSearchError, first_line
from agesearch.storage import Location

#: So many images that take their worker down, and it is the machine, not the images.
_MOST_CRASHES = 100
_DIED, _NO_WORK = "the worker died", "the work is not there"
#: Records of a unit that is worked on again: few, so that all nodes that are left get some.
_IN_UNIT_AGAIN = 64


def results(work: list[Location], context: UnitContext, tell: Callable[[str], None]) -> Iterator[pa.Table]:
    """Tables of ``RESULT_SCHEMA``, each record of the files of ``work`` (``WORK_SCHEMA``) once, while Ray
    works on. ``tell`` hears of nodes that are left out, since they do not see what the work needs.

    ``AgeSearchError`` where a worker fails for what is no image's fault, ``InputError`` where no node sees
    what this machine does.
    """
    import ray.exceptions

    left_out = LeftOut(context, tell)
    try:
        left_out.ask(work)
        while work:
            died = []
            for table, unit in _streamed(work, context, left_out):
                if table["error"][0].as_py() == _DIED:
                    died.append(unit)
                else:
                    yield _settled(table, unit.read_table(), left_out)
            for place in died:
                rows = place.read_table()
                for table in _isolated(rows, context, left_out):
                    yield _settled(table, rows, left_out)
            work = left_out.queue(_IN_UNIT_AGAIN)
    except ray.exceptions.RayError as error:
        raise AgeSearchError(f"The ingest failed in Ray: {_cause(error)}") from error


def _settled(table: pa.Table, work: pa.Table, left_out: LeftOut) -> pa.Table:
    """The finished rows of a unit's result; the others of its ``work`` are put to another node."""
    node, fault = table["node"][0].as_py(), table["error"][0].as_py()
    if fault == _NO_WORK:
        left_out.add(work.to_pylist(), node, "it does not see the dataset's folder")
        return table.slice(0, 0).drop_columns(["node"])
    unseen = _checked(table).filter(pc.equal(table["unseen"], True))
    if len(unseen):
        again = work.filter(pc.is_in(work["position"], unseen["position"].combine_chunks()))
        why = f"it cannot read what this machine can: {unseen['detail'][0].as_py()}".rstrip(".")
        left_out.add(again.to_pylist(), node, why)
    return table.filter(pc.not_equal(pc.fill_null(table["unseen"], False), True)).drop_columns(["node"])


def _streamed(
    work: list[Location], context: UnitContext, left_out: LeftOut
) -> Iterator[tuple[pa.Table, Location]]:
    """The results of the units, each with its file; ``_DIED`` for one whose worker died."""
    import ray.data

    units = [{"unit": number, "work": place.uri} for number, place in enumerate(work)]
    # One block a unit: Ray's own Parquet reader would pack many small files into a single task.
    parts = ray.data.from_items(units, override_num_blocks=len(units))
    task: Any = _in_worker  # Ray's type knows no functions with keyword arguments
    cpus = cpus_now()
    outcomes = parts.map_batches(
        task,
        batch_format="pyarrow",
        batch_size=None,
        fn_kwargs={"context": asdict(context)},
        # One worker more than there are cores: between two tasks a worker waits 0.1 to 0.25 s for the driver,
        # a tenth of a small unit's time, and another has the core meanwhile.
        num_cpus=math.floor(1000 * cpus / (cpus + 1)) / 1000,
        **without(left_out.nodes),
    )
    for table in cast(Iterator[pa.Table], outcomes.iter_batches(batch_format="pyarrow", batch_size=None)):
        yield table.drop_columns(["unit"]), work[table["unit"][0].as_py()]


def _in_worker(parts: pa.Table, *, context: dict[str, Any]) -> Iterator[pa.Table]:
    """What a Ray task does: the units that its block names."""
    _one_thread()
    for part in parts.to_pylist():
        found = _signed(_first_time(Location.of(part["work"]), UnitContext(**context)))
        yield found.append_column("unit", pa.array([part["unit"]] * len(found), pa.int64()))


def _signed(found: pa.Table) -> pa.Table:
    """A result with the node that it was made on."""
    return found.append_column("node", pa.array([this_node()] * len(found), pa.string()))


def _first_time(place: Location, context: UnitContext) -> pa.Table:
    """The result of a unit that no worker has begun before.

    Ray Data gives the unit of a dead worker to the next, for ever; a mark beside the work tells that one.
    """
    mark = place.parent / f"{place.name}.begun"
    try:
        if not place.exists():
            return failure(_NO_WORK)
        if mark.exists():
            return failure(_DIED)
        mark.write_bytes(b"")
        return process_unit(place.read_table(), context)
    except AgeSearchError as error:
        return failure(str(error))


def _isolated(work: pa.Table, context: UnitContext, left_out: LeftOut) -> Iterator[pa.Table]:
    """The results of a unit that a worker died on."""
    import ray
    from ray.exceptions import RaySystemError, RayTaskError

    # A process of its own for each part, so that none dies of what another left behind.
    options: dict[str, Any] = without(left_out.nodes)
    task = ray.remote(num_cpus=1, max_retries=0, max_calls=1, **options)(_alone)
    half = (len(work) + 1) // 2
    waiting: deque[tuple[pa.Table, int]] = deque((part, 0) for part in _parts(work, half))
    running: dict[Any, tuple[pa.Table, int]] = {}
    crashes = 0
    while waiting or running:
        while waiting and len(running) < cpus_now():
            part, deaths = waiting.popleft()
            running[task.remote(part, asdict(context))] = (part, deaths)
        (ready,), _ = ray.wait(list(running), num_returns=1)
        part, deaths = running.pop(ready)
        try:
            yield ray.get(ready)
        except (RayTaskError, RaySystemError):
            raise
        except ray.exceptions.RayError:  # WorkerCrashedError, OutOfMemoryError, NodeDiedError
            if len(part) > 1:
                waiting.extend((smaller, 0) for smaller in _parts(part, (len(part) + 1) // 2))
            elif deaths == 0:
                waiting.append((part, 1))
            else:
                crashes += 1
                yield _signed(_given_up(part, context, crashes))


def _alone(work: pa.Table, context: dict[str, Any]) -> pa.Table:
    _one_thread()
    return _signed(process_unit(work, UnitContext(**context)))


def _parts(work: pa.Table, size: int) -> list[pa.Table]:
    return [work.slice(start, size).combine_chunks() for start in range(0, len(work), size)]


def _given_up(work: pa.Table, context: UnitContext, crashes: int) -> pa.Table:
    """A record whose worker died twice, as a row of the quarantine."""
    row = work.to_pylist()[0]
    if crashes > _MOST_CRASHES:
        raise AgeSearchError(
            f"{crashes} images of one unit each took their worker down, such as '{row['within']}': that is "
            f"the machine, or the detector, not the images. Look at the memory that is free."
        )
    result = crashed(row)
    stage_results(Location.of(context.staging), f"{row['key'].hex()}.parquet", [result])
    return pa.Table.from_pylist([result], schema=RESULT_SCHEMA)


def _checked(table: pa.Table) -> pa.Table:
    errors = table["error"].drop_null()
    if len(errors):
        raise AgeSearchError(f"The ingest stopped: {errors[0].as_py()}")
    return table


def _one_thread() -> None:
    """A task has one core; more threads would only fight over it."""
    import cv2

    cv2.setNumThreads(1)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(2)


def _cause(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else first_line(error)
