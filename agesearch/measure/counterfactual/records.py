"""What ``measure counterfactual`` finds, as one record: what ``--json`` prints and pages tell."""

from __future__ import annotations

from agesearch.measure.decisions.rates import Rate
from agesearch.specs import SharedRecord, Spec

#: What rendered faces can tell of a model, and what they cannot; every page that shows figures says it.
CAN_TELL = (
    "The pictures of a person differ in the change alone, which no photographs do: a shift is the model's "
    "answer to that change, and not to other persons, cameras or years. A large one says where to look, and "
    "that pictures of such changes belong into the training and the test."
)
CANNOT_TELL = (
    "These persons are rendered from MakeHuman's head, not photographed: how far a model is off on them says "
    "nothing of its error on photographs, a small shift is no proof of fairness or of safety against fraud, "
    "and real masks, make-up, filters and replayed pictures are not among the changes. Sex and skin tone are "
    "changed in shape and colour only, whatever else goes with them in life."
)


class ToldChange(Spec):
    """A change, what it is ``of`` (appearance, expression, pose, light, camera, person), and in words."""

    name: str
    of: str
    about: str


class Shift(Spec):
    """What a change does to a model's answers, each figure over the persons to whom it applies (``faces`` of
    a ``Rate``: one picture as is and one changed of each).

    ``shift_years``: the answer with the change minus the one as is, of all; ``minors_shift_years`` of those
    below the legal age; ``moved_years``: how far answers move, whichever way; ``conversion``: the share of
    minors whose answer passes only with the change; ``refusal``: that of adults whose answer passes only
    without it.
    """

    change: str
    shift_years: Rate
    minors_shift_years: Rate
    moved_years: Rate
    conversion: Rate
    refusal: Rate


class ModelShifts(Spec):
    """One model: its mean signed and absolute error on the persons as they are, the share of minors that pass
    as they are, and the shift of each change. ``notes`` say what weakens the figures.
    """

    name: str
    path: str
    model_digest: str
    bias_years: Rate
    mae_years: Rate
    minors_pass: Rate
    shifts: tuple[Shift, ...]
    notes: tuple[str, ...] = ()

    def shift(self, change: str) -> Shift:
        """Of one change; a ``KeyError`` where it was not measured."""
        return {shift.change: shift for shift in self.shifts}[change]


class Counterfactuals(SharedRecord):
    """The record of a measurement, whole. ``pixels_digest`` names all pictures: it is the same wherever the
    same persons and changes were rendered. ``recipe`` is the renderer's.
    """

    legal_age: float
    challenge_age: float
    persons: int
    minors: int
    min_persons: int
    seed: int
    size: int
    recipe: int
    pictures: int
    pixels_digest: str
    changes: tuple[ToldChange, ...]
    models: tuple[ModelShifts, ...]
    can_tell: str = CAN_TELL
    cannot_tell: str = CANNOT_TELL
    seconds: float
    hardware: str
    versions: dict[str, str]
    created: str
