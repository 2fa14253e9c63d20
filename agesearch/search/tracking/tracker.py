"""What a logger is to a study, and what a study's runs are found by again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from agesearch.search.store.records import StudyHeader, TrialRecord
from agesearch.specs import digest_of


class Tracker(Protocol):
    """Where trials are written to: one run a trial, under one for the study.

    ``open`` may be called again after a failure; it writes those of the ended ``records`` that it lacks;
    ``folder`` is the name of the study's. Any method may raise anything.
    """

    def open(self, header: StudyHeader, folder: str, records: Sequence[TrialRecord]) -> None: ...

    def begin(self, record: TrialRecord, epochs: int) -> None: ...

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None: ...

    def end(self, record: TrialRecord) -> None: ...

    def park(self, record: TrialRecord) -> None: ...

    def close(self, outcome: str) -> None: ...


def study_id(header: StudyHeader) -> str:
    """What a study's runs are found by again, wherever its folder lies now."""
    spec = header.spec.model_dump(mode="json", exclude={"trials"})
    facts = [header.created, header.dataset.content_digest, header.teacher.content_digest, spec]
    return digest_of(facts)
