"""A verb that is run within a cluster for its answer: as a short job, whose document is handed back here."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from agesearch.errors import AgeSearchError, InputError
from agesearch.remote.jobs import Job, Jobs
from agesearch.remote.packing import Parcel

#: Where a document may begin in a log, which holds messages besides.
_BEGINS = re.compile(r"^[\[{]", re.MULTILINE)
_ERROR = re.compile(r"^(?:unexpected )?error: (.*)$", re.MULTILINE)


def answer_of(
    cluster: Jobs, verb: Sequence[str], words: Sequence[str], parcel: Parcel | None = None, *, seconds: float
) -> Any:
    """What the verb prints with ``--json``. Its error is raised here, as if it had been run here. A job that
    does not end in ``seconds`` is told to, as where the wait is broken off.
    """
    job = cluster.submit(verb, [*words, "--json"], parcel)
    try:
        job = cluster.wait(job, seconds)
    finally:
        if not job.is_over:
            cluster.end(job)
    if not job.is_over:
        raise AgeSearchError(f"The cluster at {cluster.address} has no answer within {seconds:g} s.")
    log = cluster.log(job)
    if job.state != "SUCCEEDED":
        raise _fault(job, log)
    return document_in(log)


def document_in(log: str) -> Any:
    """The last JSON document of a log that begins a line; an ``AgeSearchError`` where there is none."""
    for found in reversed(list(_BEGINS.finditer(log))):
        try:
            value, end = json.JSONDecoder().raw_decode(log, found.start())
        except json.JSONDecodeError:
            continue
        if log[end : end + 1] in ("", "\n", "\r"):
            return value
    raise AgeSearchError("The job gave no answer; its log has no document.")


def _fault(job: Job, log: str) -> AgeSearchError:
    told = _ERROR.findall(log)
    kind = InputError if job.exit_code == InputError.exit_code else AgeSearchError
    return kind(told[-1].strip() if told else f"The job {job.id} failed: {job.message[:300]}")
