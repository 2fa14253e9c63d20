"""The workers of an ingest: Ray Data hands them units of work and streams the results back.

Units come back in the order they are finished; what the dataset holds does not depend on it. A worker that
dies (a decoder's segfault, the kernel's out-of-memory killer) costs its unit: that is cut in halves, each
for a fresh process, until the one image that does it is alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, cast

import pyarrow as pa

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
_DIED = "the worker died"


def results(work: list[Location], context: UnitContext, cpus: int) -> Iterator[pa.Table]:
    """Tables of ``RESULT_SCHEMA``, each record of the files of ``work`` (``WORK_SCHEMA``) once, while Ray
    works on. ``AgeSearchError`` where a worker fails for what is no image's fault.
    """
    import ray.exceptions

    died = []
    try:
        for table in _streamed(work, context, cpus):
            if table["error"][0].as_py() == _DIED:
                died.append(work[table["unit"][0].as_py()])
            else:
                yield _checked(table.drop_columns(["unit"]))
        for place in died:
            yield from _isolated(place.read_table(), context, cpus)
    except ray.exceptions.RayError as error:
        raise AgeSearchError(f"The ingest failed in Ray: {_cause(error)}") from error


def _streamed(work: list[Location], context: UnitContext, cpus: int) -> Iterator[pa.Table]:
    """The results of the units, with the number of each; ``_DIED`` for one whose worker died."""
    import ray.data

    units = [{"unit": number, "work": place.uri} for number, place in enumerate(work)]
    # One block a unit: Ray's own Parquet reader would pack many small files into a single task.
    parts = ray.data.from_items(units, override_num_blocks=len(units))
    task: Any = _in_worker  # Ray's type knows no functions with keyword arguments
    outcomes = parts.map_batches(
        task,
        batch_format="pyarrow",
        batch_size=None,
        fn_kwargs={"context": asdict(context)},
        # One worker more than there are cores: between two tasks a worker waits 0.1 to 0.25 s for the driver,
        # a tenth of a small unit's time, and another has the core meanwhile.
        num_cpus=math.floor(1000 * cpus / (cpus + 1)) / 1000,
    )
    yield from cast(Iterator[pa.Table], outcomes.iter_batches(batch_format="pyarrow", batch_size=None))


def _in_worker(parts: pa.Table, *, context: dict[str, Any]) -> Iterator[pa.Table]:
    """What a Ray task does: the units that its block names."""
    _one_thread()
    for part in parts.to_pylist():
        found = _first_time(Location.of(part["work"]), UnitContext(**context))
        yield found.append_column("unit", pa.array([part["unit"]] * len(found), pa.int64()))


def _first_time(place: Location, context: UnitContext) -> pa.Table:
    """The result of a unit that no worker has begun before.

    Ray Data gives the unit of a dead worker to the next, for ever; a mark beside the work tells that one.
    """
    mark = place.parent / f"{place.name}.begun"
    try:
        if mark.exists():
            return failure(_DIED)
        mark.write_bytes(b"")
        return process_unit(place.read_table(), context)
    except AgeSearchError as error:
        return failure(str(error))


def _isolated(work: pa.Table, context: UnitContext, cpus: int) -> Iterator[pa.Table]:
    """The results of a unit that a worker died on."""
    import ray
    from ray.exceptions import RaySystemError, RayTaskError

    # A process of its own for each part, so that none dies of what another left behind.
    task = ray.remote(num_cpus=1, max_retries=0, max_calls=1)(_alone)
    half = (len(work) + 1) // 2
    waiting: deque[tuple[pa.Table, int]] = deque((part, 0) for part in _parts(work, half))
    running: dict[Any, tuple[pa.Table, int]] = {}
    crashes = 0
    while waiting or running:
        while waiting and len(running) < max(1, cpus):
            part, deaths = waiting.popleft()
            running[task.remote(part, asdict(context))] = (part, deaths)
        (ready,), _ = ray.wait(list(running), num_returns=1)
        part, deaths = running.pop(ready)
        try:
            yield _checked(ray.get(ready))
        except (RayTaskError, RaySystemError):
            raise
        except ray.exceptions.RayError:  # WorkerCrashedError, OutOfMemoryError, NodeDiedError
            if len(part) > 1:
                waiting.extend((smaller, 0) for smaller in _parts(part, (len(part) + 1) // 2))
            elif deaths == 0:
                waiting.append((part, 1))
            else:
                crashes += 1
                yield _given_up(part, context, crashes)


def _alone(work: pa.Table, context: dict[str, Any]) -> pa.Table:
    _one_thread()
    return process_unit(work, UnitContext(**context))


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
