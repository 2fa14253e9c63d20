"""[ray] Early stopping on Ray Tune: after each epoch the ``TrialManager`` is asked whether the trial goes on.

The rule itself is ``agesearch.search.stopping.rungs.decide``; a trial is judged before Tune lets it train on,
so a stopped one costs no epoch more. Which trials have reached a rung first depends on timing where several
run at once; alone, the same seed stops the same trials.
"""

from __future__ import annotations

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from agesearch.search.run.searcher import NotPickled, StudySearcher


class RungScheduler(NotPickled, FIFOScheduler):
    """Trials run in the order they come and are stopped where the manager says so."""

    def __init__(self, searcher: StudySearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._searcher = searcher

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The first trial that waits for an actor, paused ones last. Tune's own looks through every trial
        that ever ran, at each of its steps.
        """
        live = tune_controller.get_live_trials()
        waiting = [trial for trial in live if trial.status in (Trial.PENDING, Trial.PAUSED)]
        return min(
            waiting, key=lambda trial: (trial.status == Trial.PAUSED, trial.config["number"]), default=None
        )

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """STOP or CONTINUE for a trial that reports an epoch."""
        ends = self._searcher.report(trial.trial_id, result)
        return TrialScheduler.STOP if ends else TrialScheduler.CONTINUE
