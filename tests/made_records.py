"""Made-up records of a report's models, as the verbs of ``measure`` would have written them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from agesearch.ages import BINS
from agesearch.deploy.reported.records import (
    COUNTERFACTUAL,
    ROBUSTNESS,
    SPEED,
    STRIP,
    TEST,
    VALIDATION,
    Compared,
    Records,
    Reported,
    ReportedData,
    ReportedModel,
    Role,
)
from agesearch.measure.counterfactual.records import Counterfactuals, ModelShifts, Shift, ToldChange
from agesearch.measure.decisions.rates import Rate
from agesearch.measure.evaluate import DatasetFacts, Evaluation, ModelScores
from agesearch.measure.intervals import Estimate, Persons
from agesearch.measure.robustness.protocol import set_named
from agesearch.measure.robustness.record import MeasuredModel, Robustness
from agesearch.measure.robustness.scores import Scorecard, Tally
from agesearch.measure.robustness.strip import LEVELS, Strip, StripCell, StripFace
from agesearch.measure.scores import KindScores, Slice
from agesearch.measure.speed.comparison import Best, SpeedComparison, SpeedRatio
from agesearch.measure.speed.footprint import FootprintRow
from agesearch.measure.speed.gate import Gate
from agesearch.measure.speed.rows import SpeedRow
from agesearch.metrics import BIAS_YEARS, CS5, MAE_YEARS
from agesearch.models.runtimes.engines import Engine
from agesearch.specs import CropSpec

MACHINE = "Test CPU, 2 cores"
_MADE: dict[str, Any] = {"hardware": MACHINE, "versions": {}, "created": "2026-01-02"}
_ORT, _OV, _INT8 = Engine("onnxruntime", "fp32"), Engine("openvino", "fp32"), Engine("openvino", "int8")


def made_model(name: str, role: Role, trial: int | None = None) -> ReportedModel:
    """A model of a report; its digest is made of its name."""
    return ReportedModel(
        name=name,
        role=role,
        trial=trial,
        model_digest=f"digest-of-{name}",
        arch="lcnet_050",
        input_size=64,
        parameters=900_000,
        licences={name: "MIT"} if role == "foreign" else {},
    )


def made_records(models: Sequence[ReportedModel], *, reasons: dict[str, str] | None = None) -> Records:
    """All records but decisions; errors rise and times fall in the order of ``models``."""
    names = [model.name for model in models]
    reported = Reported(
        models=tuple(models),
        data=ReportedData(
            name="faces", content_digest="d" * 16, licence="CC0", label_kind="real", counts={"test": 60}
        ),
        split="test",
        reasons=reasons or {},
        created="2026-01-02",
    )
    found = {
        SPEED: made_speed(names),
        VALIDATION: made_compared(names),
        TEST: made_compared(names),
        ROBUSTNESS: made_robustness(names[:3]),
        COUNTERFACTUAL: made_counterfactual(names[:2]),
        STRIP: made_strip(names[:3]),
    }
    return Records(reported, {name: record for name, record in found.items() if name not in reported.reasons})


def made_speed(names: Sequence[str]) -> SpeedComparison:
    """Three engines; int8 is the fastest, and only the first model is known to answer as well on it."""
    rows, best = [], []
    for place, name in enumerate(names):
        for engine, ms in ((_ORT, 2.0), (_OV, 1.5), (_INT8, 1.0)):
            rows.append(
                SpeedRow(
                    model=name,
                    arch="lcnet_050",
                    input_size=64,
                    **engine._asdict(),
                    threads=1,
                    batch=1,
                    calls=50,
                    latency_ms_p50=ms * 4.0**place,
                    latency_ms_p95=ms * 4.2**place,
                    images_per_s=100.0,
                    hardware=MACHINE,
                    versions={},
                )
            )
        stands = _INT8 if place == 0 else _OV
        ms = (1.0 if place == 0 else 1.5) * 4.0**place
        best.append(
            Best(
                model=name,
                threads=1,
                batch=1,
                **stands._asdict(),
                latency_ms_p50=ms,
                fp32_ms=1.5 * 4.0**place,
                answers="as good",
            )
        )
    ratios = [
        SpeedRatio(
            faster=one.model,
            slower=other.model,
            threads=1,
            batch=1,
            times=other.latency_ms_p50 / one.latency_ms_p50,
            low=0.9 * other.latency_ms_p50 / one.latency_ms_p50,
            high=1.1 * other.latency_ms_p50 / one.latency_ms_p50,
        )
        for place, one in enumerate(best)
        for other in best[place + 1 :]
    ]
    return SpeedComparison(
        hardware=MACHINE,
        rounds=10,
        rows=tuple(rows),
        best=tuple(best),
        ratios=tuple(ratios),
        steps={},
        footprints=tuple(
            FootprintRow(
                model=row.model, **row.engine._asdict(), file_bytes=3_610_000, session_bytes=18_400_000
            )
            for row in rows
        ),
        gates={names[0]: (Gate(**_INT8._asdict(), max_drop_years=0.1, holds=True, hardware=MACHINE),)},
        left_out=(),
        notes=(),
        created="2026-01-02",
    )


def made_compared(names: Sequence[str]) -> Compared:
    """Each model is off by 5 years and a little more than the one before; the second is the reference."""
    models = tuple(
        ModelScores(
            name=name,
            path=name,
            model_digest=f"digest-of-{name}",
            arch="lcnet_050",
            input_size=64,
            parameters=900_000,
            kinds=(_kind(5.0 + 0.3 * place),),
        )
        for place, name in enumerate(names)
    )
    evaluation = Evaluation(
        protocol="standard",
        about="",
        turns=1,
        dataset=DatasetFacts(
            path="faces", name="faces", content_digest="d" * 16, label_kind="real", crop=CropSpec()
        ),
        faces=60,
        left_out={},
        models=models,
        runtime="onnx",
        threads=1,
        **_MADE,
    )
    reference = names[min(1, len(names) - 1)]
    against = {name: Estimate(-0.3, -0.8, 0.2, 60, 60) for name in names if name != reference}
    return Compared(evaluation=evaluation, reference=reference, against=against)


def _kind(error: float) -> KindScores:
    def scores(more: float, faces: int) -> dict[str, Estimate]:
        mae = error + more
        return {
            MAE_YEARS: Estimate(mae, mae - 0.7, mae + 0.7, faces, faces),
            CS5: Estimate(0.5, 0.4, 0.6, faces, faces),
            BIAS_YEARS: Estimate(0.4, -0.2, 1.0, faces, faces),
        }

    slices = [
        Slice(by="age", name=f"{first}-{first + 9}", scores=scores(first / 40, 12))
        for first in range(20, 80, 10)
    ]
    slices += [Slice(by="sex", name=name, scores=scores(0.1, 30)) for name in ("female", "male")]
    return KindScores(
        kind="real", headline=MAE_YEARS, resampled="faces", scores=scores(0, 60), slices=tuple(slices)
    )


def made_robustness(names: Sequence[str]) -> Robustness:
    """The first model loses least."""
    of, draw = set_named("hendrycks"), np.random.default_rng(0)
    levels = of.levels(("gaussian_noise", "motion_blur", "fog", "pixelate"), (1, 3, 5))
    severity = np.array([level.severity for level in levels])[:, None, None]
    slope = 0.2 * (1 + np.arange(len(names)))[None, :, None]
    tally = Tally(Persons.each(60), len(levels), len(names))
    wrong = 5.0 + severity * slope + draw.uniform(0, 1, (len(levels), len(names), 60))
    tally.add(np.arange(60), range(len(levels)), wrong)
    card = Scorecard(tally, of, levels, list(names), names[-1])
    return Robustness(
        set=of.name,
        about=of.about,
        severities=(1, 3, 5),
        averaged=of.averaged(card.corruptions),
        dataset="faces",
        data_digest="d" * 16,
        label_kind="real",
        split="test",
        faces=60,
        persons=60,
        side_px=112,
        reference=names[-1],
        models=tuple(
            MeasuredModel(
                name=name, model_digest=f"digest-of-{name}", arch="lcnet_050", input_size=64, parameters=9
            )
            for name in names
        ),
        scores=tuple(card.scores()),
        rows=tuple(card.rows()),
        seconds=1.0,
        **_MADE,
    )


def made_counterfactual(names: Sequence[str]) -> Counterfactuals:
    """Glasses make older, a smile does nothing known."""
    changes = {"glasses": (1.5, 1.0, 2.0), "smile": (0.1, -0.3, 0.5)}

    def rate(value: float, low: float, high: float) -> Rate:
        return Rate(faces=60, estimate=Estimate(value, low, high, 60, 60))

    def shift(name: str) -> Shift:
        share = rate(0.1, 0.05, 0.2)
        years = rate(*changes[name])
        return Shift(
            change=name,
            shift_years=years,
            minors_shift_years=Rate(faces=3),
            moved_years=rate(1.6, 1.2, 2.0),
            conversion=share,
            refusal=share,
        )

    return Counterfactuals(
        legal_age=18.0,
        challenge_age=18.0,
        persons=60,
        minors=30,
        min_persons=20,
        seed=0,
        size=112,
        recipe=1,
        pictures=180,
        pixels_digest="p" * 16,
        changes=tuple(ToldChange(name=name, of="appearance", about=name) for name in changes),
        models=tuple(
            ModelShifts(
                name=name,
                path=name,
                model_digest=f"digest-of-{name}",
                bias_years=rate(0.0, -1.0, 1.0),
                mae_years=rate(6.0, 5.0, 7.0),
                minors_pass=rate(0.2, 0.1, 0.3),
                shifts=tuple(map(shift, changes)),
            )
            for name in names
        ),
        seconds=1.0,
        **_MADE,
    )


def made_strip(names: Sequence[str], sources: Sequence[str] = ("drawn", "private")) -> Strip:
    """One face of each source, as grey squares."""
    grey = np.full((96, 96, 3), 128, dtype=np.uint8)
    image = base64.urlsafe_b64encode(bytes(cv2.imencode(".jpg", grey)[1])).decode("ascii")
    faces = tuple(
        StripFace(
            sample_id=source,
            source=source,
            age=40.0 + place,
            cells=tuple(
                StripCell(
                    corruption=level.corruption,
                    severity=level.severity,
                    image=image,
                    answers=tuple(min(BINS - 1.0, 38.0 + 2 * number) for number in range(len(names))),
                )
                for level in LEVELS
            ),
        )
        for place, source in enumerate(sources)
    )
    digests = tuple(f"digest-of-{name}" for name in names)
    return Strip(
        models=tuple(names), digests=digests, split="test", data_digest="d" * 16, faces=faces, created="2026"
    )
