"""What early stopping may cost a study, what it has cost, and why nothing is stopped yet."""

from __future__ import annotations

from dataclasses import dataclass

from agesearch.specs import StudySpec


@dataclass(frozen=True)
class LossBudget:
    """Shares of the front's hypervolume: ``most`` may be lost, ``spent`` were expected to be, with the
    ``stopped`` trials. ``waits_for`` says what is needed before any is stopped; empty where nothing is.
    """

    most: float
    spent: float
    stopped: int
    waits_for: str = ""

    @classmethod
    def of(cls, spec: StudySpec, *, complete: int, stopped: int, spent: float) -> LossBudget | None:
        """The budget of a study that stands so; None where it stops none by evidence."""
        rule = spec.stopping
        if rule is None or spec.rungs is not None:
            return None
        waits_for = f"{complete} of {rule.evidence} are complete" if complete < rule.evidence else ""
        return cls(rule.max_loss, spent, stopped, waits_for)

    @property
    def left(self) -> float:
        """What may still be lost."""
        return max(0.0, self.most - self.spent)

    @property
    def words(self) -> str:
        """How it stands, for a person."""
        if self.waits_for and not self.stopped:
            return f"none stopped early yet: {self.waits_for}"
        return f"{self.stopped} stopped early at {self.spent:.2%} of hypervolume, {self.left:.2%} left"

    def as_json(self) -> dict[str, object]:
        """The budget as a JSON object."""
        return {
            "max_loss": self.most,
            "spent": self.spent,
            "left": self.left,
            "stopped": self.stopped,
            "waits_for": self.waits_for or None,
        }
