"""A search: what it varies, when it stops trials early, and within which limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from agesearch.documents import Spec, newer
from agesearch.specs.seeds import Seed
from agesearch.specs.training import OrderTrainSpec, TrainSpec

#: What a single-valued field holds.
Scalar = str | int | float | bool


def _off_as_none(value: Any) -> Any:
    return None if value == "off" else value


def _on_or_off(value: Any) -> Any:
    """``on`` is all that a spec has by default."""
    return {} if value is True or value == "on" else _off_as_none(value)


def _as_seeds(value: Any) -> Any:
    """``confirm: 3`` is three seeds."""
    return {"seeds": value} if isinstance(value, int) and not isinstance(value, bool) else _off_as_none(value)


def _listed(value: Any) -> Any:
    return value if isinstance(value, dict | list | tuple | Bounds) else (value,)


def _bounds_or_values(value: Any) -> str:
    return "bounds" if isinstance(value, dict | Bounds) else "values"


class Bounds(Spec):
    """Numbers above one bound, below another, or both; the bounds themselves are out."""

    above: float | None = Field(None, allow_inf_nan=False)
    below: float | None = Field(None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.above is None and self.below is None:
            raise ValueError("give 'above', 'below' or both")
        if self.above is not None and self.below is not None and self.above >= self.below:
            raise ValueError(f"above is {self.above:g}, but must be < below ({self.below:g})")
        return self


#: Fields or dimensions of a trial, and the values that all of them must have; a lone value is a list of one.
Condition = dict[
    str,
    Annotated[
        Annotated[tuple[Scalar, ...], Tag("values")] | Annotated[Bounds, Tag("bounds")],
        Discriminator(_bounds_or_values),
        BeforeValidator(_listed),
    ],
]


def name_of_choice(value: Scalar) -> str:
    """A choice as a key of a YAML mapping is written: ``96``, ``true``, ``softmax``."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _as_value(value: Any) -> Any:
    return {"value": value} if isinstance(value, str | int | float) else value


class Prior(Spec):
    """Where the user believes a dimension's good values to be; how a search uses it:
    ``agesearch.search.sampler.prior``.

    ``value`` is the likeliest one. Along a range the belief is normal around it, with a deviation of a half,
    a quarter or an eighth of the range (its logarithm, where that is searched) at ``low``, ``medium`` or
    ``high`` confidence; of choices it counts twice, four or eight times as much as any other. ``weights``
    give the choices by name, in its place: one that is not named has 1.
    """

    value: Scalar | None = None
    confidence: Literal["low", "medium", "high"] = "medium"
    weights: dict[str, Annotated[float, Field(gt=0.0, allow_inf_nan=False)]] | None = Field(
        None, min_length=1
    )

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if (self.value is None) == (self.weights is None):
            raise ValueError("a prior has either a value or weights")
        return self

    def weigh(self, choices: Sequence[Scalar]) -> list[float]:
        """How much each choice is believed in, the most 1."""
        if self.weights is not None:
            found = [self.weights.get(name_of_choice(choice), 1.0) for choice in choices]
        else:
            favour = {"low": 2.0, "medium": 4.0, "high": 8.0}[self.confidence]
            found = [favour if choice == self.value else 1.0 for choice in choices]
        return [weight / max(found) for weight in found]

    @property
    def deviation(self) -> float:
        """That of the belief along a range, as a share of it."""
        return {"low": 0.5, "medium": 0.25, "high": 0.125}[self.confidence]

    def check_choices(self, choices: Sequence[Scalar]) -> None:
        """A ``ValueError`` where it speaks of what is no choice."""
        known = [name_of_choice(choice) for choice in choices]
        named = [name_of_choice(self.value)] if self.value is not None else list(self.weights or ())
        for name in named:
            if name not in known:
                raise ValueError(f"prior names {name}, but the choices are {', '.join(known)}")


class Conditional(Spec):
    """Something a search varies; where ``when`` does not hold, a trial has no value of it. ``prior`` says
    which values the user believes in.
    """

    when: Condition = Field(default_factory=dict)
    prior: Annotated[Prior | None, BeforeValidator(_as_value)] = newer(None)


class Choices(Conditional):
    """A parameter that takes one of a list of values."""

    choices: tuple[Scalar, ...] = Field(min_length=1)

    def takes(self, value: Any) -> bool:
        """Whether a trial may have this value."""
        return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in self.choices)

    @model_validator(mode="after")
    def _prior_among_them(self) -> Self:
        if self.prior is not None:
            self.prior.check_choices(self.choices)
        return self


class Range(Conditional):
    """A number between ``low`` and ``high``, both included; on a log scale, whole or in steps if said."""

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    log: bool = False
    step: float | None = Field(None, gt=0.0, allow_inf_nan=False)
    integer: bool = False

    def takes(self, value: Any) -> bool:
        """Whether a trial may have this value: a number within the range, on its steps where it has some."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if not self.low <= value <= self.high:
            return False
        step = self.step or (1.0 if self.integer else None)
        away = 0.0 if step is None else (value - self.low) / step
        return abs(away - round(away)) < 1e-9

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low is {self.low:g}, but must be <= high ({self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low:g}, but must be > 0 on a log scale")
        if self.log and self.step is not None:
            raise ValueError("step and log exclude each other")
        return self

    @model_validator(mode="after")
    def _prior_within(self) -> Self:
        if self.prior is None:
            return self
        value = self.prior.value
        if self.prior.weights is not None or isinstance(value, str | bool):
            raise ValueError("the prior of a range is a number, or a value with its confidence")
        if value is not None and not self.low <= value <= self.high:
            raise ValueError(
                f"prior is {value:g}, but must be from low to high ({self.low:g} to {self.high:g})"
            )
        return self


class Variants(Conditional):
    """Named settings, one of which a trial takes: each gives values to several fields at once, or to none."""

    variants: dict[str, dict[str, Scalar | None]] = Field(min_length=1)

    def takes(self, value: Any) -> bool:
        """Whether a trial may have this variant."""
        return value in self.variants

    @model_validator(mode="after")
    def _prior_among_them(self) -> Self:
        if self.prior is not None:
            self.prior.check_choices(tuple(self.variants))
        return self


class TeacherPlace(Spec):
    """A teacher that is there (a model folder, or the YAML of a foreign teacher), and the file of its
    calibration, by which its ages are corrected (``agesearch calibrate --out``).
    """

    path: str
    calibration: str | None = None


class TeachersSpec(Spec):
    """The teachers of a study: specs of those to train for it, or the paths of those that are there.

    ``age`` gives age distributions (a model folder or the YAML of a foreign teacher, with a calibration:
    ``{path, calibration}``), ``order`` features that sort faces by age (Zhao 2020).
    """

    age: TrainSpec | TeacherPlace | str | None = None
    order: OrderTrainSpec | str | None = None


class RungSpec(Spec):
    """When a search stops trials early: see ``agesearch.search.stopping.rungs``.

    Trials are judged after ``first_epoch``, ``first_epoch * eta``, ``first_epoch * eta^2``... epochs, once
    ``evidence`` trials have trained their whole budget. ``margin`` is the probability with which one more
    trial gains no more than it is granted: near 1 few are stopped, and hardly ever a late bloomer. A trial
    that only passes ``margin``, not the smaller ``pause_margin``, is paused: it goes on once that is worth
    more than a new trial. ``off`` pauses none, as do samplers other than ``ehvi``: they cannot tell.

    With ``unit: faces`` they are judged after ``first_faces``, ``first_faces * eta``... faces instead: at the
    end of the epoch of ``optim.epoch_faces`` faces in which these are reached.
    """

    eta: float = Field(2.0, gt=1.0, le=10.0)
    first_epoch: int = Field(3, ge=1)
    margin: float = Field(0.95, ge=0.5, lt=1.0)
    evidence: int = Field(4, ge=2)
    pause_margin: Annotated[float | None, BeforeValidator(_off_as_none)] = Field(0.7, ge=0.5, lt=1.0)
    unit: Literal["epochs", "faces"] = newer("epochs")
    first_faces: int | None = newer(None, ge=1)

    @model_validator(mode="after")
    def _first_rung_in_its_unit(self) -> Self:
        if self.unit == "faces" and self.first_faces is None:
            raise ValueError(
                "unit is faces, so first_faces must say after how many of them the first rung is"
            )
        if self.unit == "epochs" and self.first_faces is not None:
            raise ValueError("first_faces is given, but counts with unit: faces only")
        return self


class StoppingSpec(Spec):
    """How trials are stopped and paused by what the study's own COMPLETE curves tell: see
    ``agesearch.search.sampler.judge``.

    ``max_loss`` is the hypervolume that all stopped trials together are expected to have cost, as a share of
    that of the front. ``evidence`` COMPLETE trials are needed before any is stopped or paused. The startup
    trials train to their end, and of all others the share ``controls``, drawn by the seed, whatever is
    expected of them, so that what is learnt is not of survivors alone.
    """

    max_loss: float = Field(0.01, gt=0.0, le=0.5)
    evidence: int = Field(6, ge=3)
    controls: float = Field(0.05, ge=0.0, le=1.0)


class ConfirmSpec(Spec):
    """New trainings of a front's candidates when the search is over: each with ``seeds`` other seeds. The
    candidates are at most so many: the members of the front, those nearest to its knee first, then trials
    that are behind it by no more than noise.
    """

    seeds: int = Field(ge=1, le=100)
    candidates: int = Field(6, ge=2, le=100)


class LatencySpec(Spec):
    """What latencies are measured on: ``runtime`` and ``precision`` are one or several, and a network's
    latency is that of its fastest pair (``agesearch.models.runtimes.engines``), for one face on ``threads``
    threads. Pairs that the machine does not have are left out.
    """

    runtime: Annotated[tuple[Literal["onnxruntime", "openvino", "cuda"], ...], BeforeValidator(_listed)] = (
        Field(("onnxruntime",), min_length=1)
    )
    precision: Annotated[tuple[Literal["fp32", "bf16", "int8"], ...], BeforeValidator(_listed)] = Field(
        ("fp32",), min_length=1
    )
    threads: int = Field(1, ge=1, le=256)


class RobustnessSpec(Spec):
    """The corrupted faces that ``max_mae_c_years`` is about: the same ``faces`` of the validation split for
    all trials, under each of the ``corruptions`` (Hendrycks & Dietterich 2019) at each of the ``severities``.
    """

    faces: int = Field(100, ge=10, le=10_000)
    corruptions: tuple[str, ...] = Field(
        ("gaussian_noise", "motion_blur", "brightness", "pixelate", "jpeg_compression"), min_length=1
    )
    severities: tuple[Annotated[int, Field(ge=1, le=5)], ...] = Field((3,), min_length=1)


class ShiftsSpec(Spec):
    """The rendered persons that ``max_shift_years`` is about, and the ``changes`` of them that should not
    move an answer (``agesearch measure counterfactual``).
    """

    persons: int = Field(20, ge=5, le=2_000)
    seed: Seed = 0
    changes: tuple[str, ...] = Field(
        ("glasses", "makeup", "smile", "turned", "side_light", "dim_light", "darker_skin", "paler_skin"),
        min_length=1,
    )


class StudySpec(Spec):
    """A search: the student every trial starts from, and the fields of it that are searched.

    ``trials`` counts configurations; objectives are ``val_mae_years`` and ``latency_ms_p50``. ``weights``
    maps an architecture to what its trials start from (a weights file, a model folder, or the document of a
    foreign teacher); the other architectures start as ``student.model`` says. Trials are stopped early by
    what the study's own curves tell (``stopping``: ``on`` where neither it nor ``rungs`` are given, ``off``,
    or as ``StoppingSpec`` has it), or at fixed ``rungs`` (``off``, ``on``, or as ``RungSpec`` has it), not
    both. ``teachers`` are trained before the first trial. ``sampler`` is ``ehvi`` (expected hypervolume
    improvement, with latencies known), ``tpe``, ``random``, or ``grid``: every combination once, in the order
    of the file.

    Networks above ``max_latency_ms``, ``max_params``, ``max_bytes`` (of the network's file, in the precision
    of its latency) or ``max_memory_mb`` (10^6 bytes that a session takes at its peak, for one face on one
    thread) are known before they train, and never do. Above ``max_mae_years`` a trial is not on the front,
    and the sampler is told; so above ``max_mae_c_years``, its error on a few corrupted validation faces
    (``robustness``), and above ``max_shift_years``, the largest of the mean moves of its answers by changes
    of rendered persons (``counterfactual``): a trial that has trained to its end is measured on them. And so
    above ``max_worst_decade_mae_years``, its error on the validation faces of the decade of age where it is
    largest, of those with ten faces (``agesearch.measure.accuracy``), which is known of every trial.

    ``latency`` says on which runtimes and in which precisions; what is faster than fp32 only by answering
    worse is put back when the front is measured. ``confirm`` trains the front's candidates again with other
    seeds, and picks by their means. ``keep: front`` removes the weights of trials that are clearly behind it.
    ``charge`` says what a trial's gain is weighed against: its ``epochs``, or the ``seconds`` that they are
    learnt to take.

    ``first`` are configurations that the first trials have; what one does not say is drawn. ``grid`` tries
    all of the space, in its own order.
    """

    WITHOUT_EFFECT = frozenset({"keep"})

    description: str = ""
    seed: Seed = 0
    trials: int = Field(20, ge=1, le=1_000_000)
    startup_trials: int = Field(8, ge=1)
    sampler: Literal["ehvi", "tpe", "random", "grid"] = "ehvi"
    rungs: Annotated[RungSpec | None, BeforeValidator(_on_or_off)] = None
    stopping: Annotated[StoppingSpec | None, BeforeValidator(_on_or_off)] = newer(None)
    latency: LatencySpec = newer(LatencySpec())
    max_latency_ms: float | None = Field(None, gt=0.0)
    max_params: int | None = Field(None, gt=0)
    max_bytes: int | None = newer(None, gt=0)
    max_memory_mb: float | None = newer(None, gt=0.0)
    max_mae_years: float | None = Field(None, gt=0.0)
    max_mae_c_years: float | None = newer(None, gt=0.0, allow_inf_nan=False)
    robustness: RobustnessSpec = newer(RobustnessSpec())
    max_shift_years: float | None = newer(None, gt=0.0, allow_inf_nan=False)
    counterfactual: ShiftsSpec = newer(ShiftsSpec())
    max_worst_decade_mae_years: float | None = newer(None, gt=0.0, allow_inf_nan=False)
    confirm: Annotated[ConfirmSpec | None, BeforeValidator(_as_seeds)] = newer(None)
    keep: Literal["all", "front"] = newer("all")
    charge: Literal["epochs", "seconds"] = newer("epochs")
    teachers: TeachersSpec = TeachersSpec()
    student: TrainSpec
    weights: dict[str, str] = Field(default_factory=dict)
    space: dict[str, Choices | Range | Variants] = Field(min_length=1)
    first: tuple[dict[str, Scalar], ...] = newer(())

    @model_validator(mode="before")
    @classmethod
    def _stops_by_default(cls, document: Any) -> Any:
        """Documents of studies always say how ``rungs`` are: those of before there was ``stopping`` have
        none.
        """
        if isinstance(document, dict) and not {"rungs", "stopping"} & document.keys():
            return document | {"stopping": "on"}
        return document

    @model_validator(mode="after")
    def _stops_by_one_rule(self) -> Self:
        if self.rungs is not None and self.stopping is not None:
            raise ValueError(
                "rungs and stopping are both on, but trials are stopped by one of them: give one"
            )
        return self

    @model_validator(mode="after")
    def _first_within_the_space(self) -> Self:
        for number, values in enumerate(self.first):
            for name, value in values.items():
                if name not in self.space:
                    raise ValueError(f"first[{number}] has '{name}', which is no dimension of the space")
                if not self.space[name].takes(value):
                    raise ValueError(f"first[{number}] has {name}: {value}, which the space does not take")
        return self
