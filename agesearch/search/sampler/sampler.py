"""What to try next: Optuna's TPE over as many trials as it can look at in time, without networks too slow or
large.

A proposal is a pure function of the spec, the trial's number, the trials that it is shown, and of what the
model of ``ehvi`` was last fitted to. It is shown a few hundred trials of however many (``search.sight``), so
that time and memory stay bounded. TPE sees copies of them in a study in memory, never the stored one:

- a FAILed configuration is shown as a bad one, although the stored study tells the truth, so that what
  diverges or does not fit is not proposed again and again;
- trials above a limit of the front (``store.front_limits``) carry that as a constraint (Optuna's own handling
  of constraints).

What is known to break a limit before it trains, or was tried before, is not proposed: the sampler is asked
again, after ``REDRAWS`` times about a network drawn among those that fit; then a configuration is taken from
all that were not tried, of a space that has an end of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from agesearch.metrics import or_nan
from agesearch.search.model.error_prior import TABLES, ErrorPrior
from agesearch.search.model.trial_model import Fit, TrialModel
from agesearch.search.sampler.ehvi import EhviSampler, Proposal
from agesearch.search.sampler.judge import Judge
from agesearch.search.sampler.prior import Priors
from agesearch.search.sampler.startup import StartupNetworks
from agesearch.search.space.conditions import endless, holds, stages
from agesearch.search.space.limits import Fitting, Latencies
from agesearch.search.space.space import Params, grid, optuna_distributions
from agesearch.search.store.front_limits import FrontLimits
from agesearch.search.store.optuna_database import without_warnings
from agesearch.search.store.records import State, TrialRecord
from agesearch.specs import StudySpec

#: How often TPE is asked again for a network within the limits.
REDRAWS = 20

#: Random draws from a space without an end, where those of the sampler were all tried.
_TRIES = 1000

_VIEW = "view"


def _never(_: Params) -> bool:
    return False


class StudySampler:
    """Proposes parameters; besides its ``fit``, what it keeps between calls is for speed only."""

    def __init__(
        self, spec: StudySpec, fitting: Fitting, fit: Fit | None = None, error_prior: ErrorPrior = TABLES
    ) -> None:
        self._spec = spec
        self._fitting = fitting
        self._space = optuna_distributions(spec.space)
        self._stages = stages(spec.space)
        self._view = _View(spec, self._space)
        self._priors = Priors(spec)
        self._startup = StartupNetworks(spec) if spec.sampler == "ehvi" else None
        self._modelled: tuple[Latencies, EhviSampler, Judge] | None = None
        self._fit, self._error_prior = fit, error_prior
        self._grid = [point for point in grid(spec) if fitting.fits(point)] if spec.sampler == "grid" else []

    def propose(
        self,
        number: int,
        shown: Sequence[TrialRecord],
        given: Mapping[str, Any] | None = None,
        latencies: Latencies | None = None,
        offered: Sequence[Params] | None = None,
        paused: Sequence[TrialRecord] = (),
        is_tried: Callable[[Params], bool] = _never,
    ) -> Proposal | None:
        """What to run as trial ``number`` after those ``shown`` (by number), or which ``paused`` trial; None
        where all that fits ``is_tried`` and none is paused.

        Parameters ``given`` are taken as they are. ``latencies`` are those of the networks, where they are
        known. Where only some configurations are ``offered``, ``ehvi`` proposes one of those; where none are,
        a paused trial goes on, the first where nothing is known of their worth.
        """
        known = dict(given or {})
        seed = self._seed(number)
        if self._spec.sampler == "ehvi" and latencies and not known:
            modelled = self._modelled_on(latencies)[1].propose(number, shown, seed, offered, paused, is_tried)
            if modelled is not None:
                return modelled
        if offered is None or offered:
            drawn = self._drawn(number, seed, shown, known, bool(latencies), is_tried)
            if drawn is not None:
                return drawn
        first = min(paused, key=lambda record: record.number, default=None)
        return None if first is None else Proposal(first.params, paused=first.number)

    def _drawn(
        self,
        number: int,
        seed: int,
        shown: Sequence[TrialRecord],
        given: Params,
        has_latencies: bool,
        is_tried: Callable[[Params], bool],
    ) -> Proposal | None:
        """A configuration that no model of ours has chosen."""
        if self._grid:
            order = (self._grid[(number + step) % len(self._grid)] for step in range(len(self._grid)))
            return next((Proposal(point) for point in order if given or not is_tried(point)), None)
        sampler, rng = self._sampler(seed, shown, has_latencies), np.random.default_rng(seed)
        for redrawn in range(2 * REDRAWS):
            fitting = self._fitting.drawn(rng) if redrawn > REDRAWS and not self._fitting.is_whole else {}
            believed = self._believed(number, seed, redrawn) if redrawn <= REDRAWS else {}
            params = self._draw(sampler, believed | given | fitting)
            if self._fitting.fits(params) and (given or not is_tried(params)):
                return Proposal(params, min(redrawn, REDRAWS))
        return self._untried(rng, seed, is_tried)

    def _untried(
        self, rng: np.random.Generator, seed: int, is_tried: Callable[[Params], bool]
    ) -> Proposal | None:
        """A random configuration of those that are left: of all of them, where the space has an end."""
        points: Iterable[Params]
        if any(endless(dimension) for dimension in self._spec.space.values()):
            sampler = optuna.samplers.RandomSampler(seed=seed)
            points = (self._draw(sampler, {}) for _ in range(_TRIES))
        else:
            every = grid(self._spec)
            points = (every[index] for index in rng.permutation(len(every)))
        left = (point for point in points if self._fitting.fits(point) and not is_tried(point))
        return next((Proposal(point, REDRAWS) for point in left), None)

    def drawn(self, number: int) -> Params:
        """What trial ``number`` is proposed as while nothing has been learnt, limits aside."""
        if self._grid:
            return self._grid[number % len(self._grid)]
        seed = self._seed(number)
        return self._draw(optuna.samplers.RandomSampler(seed=seed), self._believed(number, seed))

    def _believed(self, number: int, seed: int, redrawn: int = 0) -> Params:
        """What a trial has before anything is learnt: a configuration that the study is to begin with, else
        values by the user's prior, and for ``ehvi`` a network of ``startup``; the random search goes by
        neither.
        """
        if number < len(self._spec.first):
            return {} if redrawn else dict(self._spec.first[number])
        network = self._startup.of(number) if self._startup else {}
        believed = network if self._fitting.fits(network) else {}
        if not self._priors or self._spec.sampler == "random":
            return believed
        if self._spec.sampler == "tpe" and number >= self._spec.startup_trials:
            return believed
        return believed | self._priors.startup(number, np.random.default_rng([seed, redrawn]))

    def _seed(self, number: int) -> int:
        return int(np.random.SeedSequence([self._spec.seed, number]).generate_state(1)[0])

    @property
    def fit(self) -> Fit | None:
        """What the model was fitted to last: another proposer goes on from it as this one would."""
        return self._modelled[1].fit if self._modelled else self._fit

    def judge(self, latencies: Latencies) -> Judge:
        """Who tells whether trials go on, by what the same model tells of them."""
        return self._modelled_on(latencies)[2]

    def _modelled_on(self, latencies: Latencies) -> tuple[Latencies, EhviSampler, Judge]:
        if self._modelled is None or self._modelled[0] is not latencies:
            model = TrialModel(self._spec, self._fitting, latencies, self.fit, self._error_prior)
            self._modelled = latencies, EhviSampler(self._spec, model), Judge(self._spec, model)
        return self._modelled

    def _sampler(
        self, seed: int, shown: Sequence[TrialRecord], has_latencies: bool
    ) -> optuna.samplers.BaseSampler:
        """Random where the study says so and until ``ehvi`` knows enough, else TPE on what it is shown."""
        kind = self._spec.sampler
        if kind == "random" or (kind == "ehvi" and has_latencies):
            return optuna.samplers.RandomSampler(seed=seed)
        self._view.show(shown)
        with without_warnings():
            return optuna.samplers.TPESampler(
                n_startup_trials=self._spec.startup_trials, multivariate=True, constant_liar=True, seed=seed
            )

    def _draw(self, sampler: optuna.samplers.BaseSampler, given: Params) -> Params:
        """Parameters, of them ``given`` as they are: stage by stage, since conditions read earlier ones.

        The dimensions of a stage share their condition, so that TPE models them together, on the trials that
        have them.
        """
        study, asking = self._view.study, self._view.asking
        params: Params = {}
        for names in self._stages:
            if not holds(self._spec, self._spec.space[names[0]], params):
                continue
            asked = {name: self._space[name] for name in names if name not in given}
            many = {name: dist for name, dist in asked.items() if not dist.single()}
            drawn = sampler.sample_relative(study, asking, many)
            for name in names:
                if name in asked and name not in drawn:
                    drawn[name] = sampler.sample_independent(study, asking, name, asked[name])
            params |= {name: given[name] if name in given else drawn[name] for name in names}
        return params


class _View:
    """The study in memory that TPE is shown; its first trial, RUNNING for ever, is the one that asks."""

    def __init__(self, spec: StudySpec, space: Mapping[str, optuna.distributions.BaseDistribution]) -> None:
        self._limits = FrontLimits.of(spec)
        self._space = dict(space)
        self._study_id = 0
        self._reset()

    def show(self, records: Iterable[TrialRecord]) -> None:
        """Show these records, by number, and no others."""
        wanted = {record.number: record for record in records}
        if not self._shown.keys() <= wanted.keys() or self._lies_between(wanted):
            self._reset()
        for number, record in wanted.items():
            if number not in self._shown:
                trial = self._trial(record)
                self._ids[number] = self._storage.create_new_trial(self._study_id, template_trial=trial)
            elif record.state is not self._shown[number]:
                self._end(self._ids[number], self._trial(record))
            self._shown[number] = record.state
        self.study = self._loaded()  # a study remembers the trials that it read first

    def _loaded(self) -> optuna.Study:
        return optuna.load_study(study_name=_VIEW, storage=self._storage)

    def _reset(self) -> None:
        self._storage = optuna.storages.InMemoryStorage()
        with without_warnings():
            optuna.create_study(study_name=_VIEW, storage=self._storage, directions=["minimize", "minimize"])
        self.study = self._loaded()
        self._study_id = self._storage.get_study_id_from_name(_VIEW)
        first = self._storage.create_new_trial(self._study_id)
        self.asking: FrozenTrial = self._storage.get_trial(first)
        self._shown: dict[int, State] = {}
        self._ids: dict[int, int] = {}

    def _lies_between(self, wanted: Mapping[int, TrialRecord]) -> bool:
        """Whether a trial would come after one with a larger number: TPE weighs trials by age."""
        last = max(self._shown, default=-1)
        return any(number < last for number in wanted.keys() - self._shown.keys())

    def _end(self, trial_id: int, trial: FrozenTrial) -> None:
        for key, value in trial.system_attrs.items():
            self._storage.set_trial_system_attr(trial_id, key, value)
        self._storage.set_trial_state_values(trial_id, trial.state, trial.values)

    def _trial(self, record: TrialRecord) -> FrozenTrial:
        space = {name: self._space[name] for name in record.params}
        if not record.state.ended:
            return create_trial(state=TrialState.RUNNING, params=record.params, distributions=space)
        complete = record.state is State.COMPLETE
        over = self._limits.excess(record) if complete and self._limits.highest else None
        return create_trial(
            state=TrialState.COMPLETE if complete else TrialState.PRUNED,
            params=record.params,
            distributions=space,
            values=_objectives(record) if complete else None,
            constraints=over,
        )


def _objectives(record: TrialRecord) -> list[float]:
    return [or_nan(record.val_mae_years), or_nan(record.latency_ms_p50)]
