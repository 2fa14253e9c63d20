"""How one network is made and trained: a teacher, a student, an order teacher."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from agesearch.ages import ADIENCE_GROUPS, MAX_AGE
from agesearch.documents import Spec, newer
from agesearch.specs.seeds import Seed

#: How much work a kill may cost, by default and in bounds: a week is never.
CHECKPOINT_MINUTES = 10.0
_MINUTES: dict[str, Any] = {"gt": 0.0, "le": 10_080.0}


class ModelSpec(Spec):
    """A network: an architecture of the zoo, its input side in pixels, its head, and where its weights start
    from.

    ``init`` is ``random``, ``pretrained`` (downloaded by timm), ``file`` (``weights``: safetensors, or a
    ``.pth`` state dict read with ``weights_only``; the backbone alone) or ``model`` (``weights``: a model
    folder; the head too, where it is the same; or the document of a foreign teacher whose convolutions are
    the architecture's: its scalar age becomes a softmax head). With ``inherit: best`` a trial of a search
    starts instead from the weights of the best earlier COMPLETE trial of its architecture, where there is
    one. ``pixels`` is the normalisation, which is part of the graph: ``imagenet`` (what timm's weights of
    this architecture, or face-api's, expect) or ``vggface2`` (Greco 2021: the mean colour of VGGFace2
    subtracted, no scaling).

    ``head`` is a row of ``agesearch.models.heads.table.HEADS``. ``groups`` are the age groups in years of the
    head ``groups``, both ends included. ``head_sigma`` in years is the width of the PMF of the head
    ``clipped``, and the width that the head ``gaussian`` starts from where there are no labels. Both have no
    meaning for the other heads. ``dropout`` is the share of features that the head drops while training.
    """

    arch: str
    input_size: int = Field(96, ge=32, le=512)
    init: Literal["random", "pretrained", "file", "model"] = "random"
    weights: str | None = None
    inherit: Literal["none", "best"] = "none"
    pixels: Literal["imagenet", "vggface2"] = "imagenet"
    head: Literal["softmax", "groups", "coral", "corn", "gaussian", "clipped"] = "softmax"
    groups: tuple[tuple[int, int], ...] = Field(ADIENCE_GROUPS, min_length=2)
    head_sigma: float = Field(2.0, ge=0.5, le=20.0)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _weights_with_their_init(self) -> Self:
        if (self.init in ("file", "model")) != (self.weights is not None):
            raise ValueError("weights must be given with init: file or init: model, and only then")
        return self

    @model_validator(mode="after")
    def _groups_ascend(self) -> Self:
        ends = [end for group in self.groups for end in group]
        lows, highs = ends[::2], ends[1::2]
        apart = all(high < low for high, low in zip(highs, lows[1:], strict=False))
        upright = all(low <= high for low, high in self.groups)
        if not (upright and apart and lows[0] >= 0 and highs[-1] <= MAX_AGE):
            raise ValueError(f"groups must be ages in 0..{MAX_AGE} that ascend and share no age")
        return self


class AugmentSpec(Spec):
    """Training-time augmentation; ``strength`` 0 leaves the faces as they are, 1 is the usual amount.

    ``policy`` is a row of ``agesearch.data.images.augment.POLICIES``; ``greco`` at strength 1 is that of
    Greco 2021.

    With ``views`` 0 every epoch draws its changes anew. With K there are K fixed views of each face, and
    epoch e trains on number e mod K: drawn by ``view_seed`` at the size of the stored crop, then resized.
    Teacher and student then see the same pixels (Beyer 2022), and a teacher's answers are computed once for
    all students (Shen & Xing 2022).

    ``mixup`` is the share of batches whose faces are mixed in pairs, pixels and targets alike, by a draw of
    Beta(``mixup_alpha``, ``mixup_alpha``) each (Zhang 2018): ``agesearch.training.faces.mixing``.
    """

    strength: float = Field(1.0, ge=0.0, le=3.0)
    policy: Literal["default", "greco"] = "default"
    views: int = Field(0, ge=0, le=1000)
    view_seed: Seed = 0
    mixup: float = newer(0.0, ge=0.0, le=1.0)
    mixup_alpha: float = newer(0.4, gt=0.0, le=10.0)

    @property
    def fixed_views(self) -> int:
        """How many fixed views there are; 0 where faces are drawn anew, or not changed at all."""
        return self.views if self.strength > 0 else 0


class DistillSpec(Spec):
    """Weights of the named losses (a loss of weight 0 is off), and what they are tuned by.

    Towards labels: ``label`` is the head's own label loss (see ``agesearch.models.heads.table``),
    ``label_sigma`` the width in years of the label distributions that it and others are given; ``mean``:
    absolute error of the expectation (DLDL-v2, Gao 2018); ``mse``: its squared error.

    Towards a teacher's PMF: ``kd``: T^2 KL of the softened PMFs (Hinton 2015); ``dkd``: the same decoupled
    (Zhao 2022) into target and other ages, weighed by ``dkd_alpha`` and ``dkd_beta``, the target being the
    ages within ``dkd_window`` years of the teacher's; ``dist``: one minus Pearson's correlation (Huang 2022),
    of a face's ages weighed by ``dist_between`` and of an age's faces in the batch by ``dist_within``;
    ``cdf``: Wasserstein-1 in years; ``scalar``: squared error to the teacher's expected age (Greco 2021).
    ``temperature`` softens ``kd``, ``dkd`` and ``dist``; ``standardise`` z-scores the logits of student and
    teacher before it does, in ``kd`` and ``dkd`` (Sun 2024).

    ``teacher_bound`` takes those terms back where the teacher's age is further from the label than the
    student's by more than ``teacher_bound_years``: ``drop`` leaves them out, ``weight`` multiplies them by
    (student's error + ``teacher_bound_years``) / teacher's error. Without a label nothing is taken back.

    Towards an order teacher's features (Zhao 2020): ``hint`` (FitNets, Romero 2015) brings the student's
    stage ``hint_stage``, pooled and projected, close to them by ``hint_loss``. A stage is a module of the
    backbone (``blocks.3``, ``layer2``), the last map at a stride (``stride16``), or ``pooled``, what the head
    is given. ``rkd_distance`` and ``rkd_angle`` compare the relations between the faces of a batch (RKD, Park
    2019), with those of the order teacher's features, or of the teacher's cumulative distributions where
    there are none.
    """

    label_sigma: float = Field(2.0, ge=0.1, le=20.0)
    label_weight: float = Field(1.0, ge=0.0)
    mean_weight: float = Field(0.1, ge=0.0)
    mse_weight: float = Field(0.0, ge=0.0)
    kd_weight: float = Field(1.0, ge=0.0)
    dkd_weight: float = Field(0.0, ge=0.0)
    dkd_alpha: float = Field(1.0, ge=0.0)
    dkd_beta: float = Field(8.0, ge=0.0)
    dkd_window: int = Field(2, ge=0, le=50)
    dist_weight: float = Field(0.0, ge=0.0)
    dist_between: float = Field(1.0, ge=0.0)
    dist_within: float = Field(1.0, ge=0.0)
    cdf_weight: float = Field(0.0, ge=0.0)
    scalar_weight: float = Field(0.0, ge=0.0)
    temperature: float = Field(2.0, gt=0.0, le=100.0)
    standardise: bool = False
    teacher_bound: Literal["off", "drop", "weight"] = "off"
    teacher_bound_years: float = Field(2.0, ge=0.0, le=100.0)
    hint_weight: float = Field(0.0, ge=0.0)
    hint_stage: str = "pooled"
    hint_loss: Literal["mse", "cosine"] = "mse"
    rkd_distance_weight: float = Field(0.0, ge=0.0)
    rkd_angle_weight: float = Field(0.0, ge=0.0)


class OptimSpec(Spec):
    """How the weights are learnt: by default AdamW with a warm-up and a cosine decay over the epochs.

    ``optimiser`` and ``schedule`` are rows of the tables in ``agesearch.training.optim``. ``momentum`` is
    that of ``sgd``; ``decay_every`` and ``decay`` are those of ``steps``: the rate is ``learning_rate *
    decay ** floor(epoch / decay_every)``.

    An epoch is a pass over the training faces, or with ``epoch_faces`` the next so many faces of the passes:
    on millions of faces, reports, rungs, validation, schedule and warm-up then come every so many faces.

    ``averaging`` is the decay a step of an exponential moving average of the weights, which is what is
    validated and kept in the place of the last step's weights (0: there is none): see
    ``agesearch.training.steps.averaging``. ``keep`` says which epoch's weights are: those of the ``best``
    on the validation faces, or of the ``last``, where these faces are too few to choose by.
    """

    epochs: int = Field(20, ge=1, le=10_000)
    batch_size: int = Field(32, ge=2, le=8192)
    learning_rate: float = Field(2e-3, gt=0.0, le=10.0)
    weight_decay: float = Field(0.02, ge=0.0, le=10.0)
    warmup_epochs: float = Field(1.0, ge=0.0)
    optimiser: Literal["adamw", "sgd"] = "adamw"
    momentum: float = Field(0.9, ge=0.0, lt=1.0)
    schedule: Literal["cosine", "steps"] = "cosine"
    decay_every: int = Field(20, ge=1)
    decay: float = Field(0.2, gt=0.0, le=1.0)
    epoch_faces: int | None = newer(None, ge=2)
    averaging: float = newer(0.0, ge=0.0, lt=1.0)
    keep: Literal["best", "last"] = newer("best")


class OrderSpec(Spec):
    """What an order teacher learns from: sequences of ``length`` faces, their ages at least ``gap`` years
    apart.

    ``loss`` is a row of ``agesearch.distill.order_losses.ORDER_LOSSES``, ``temperature`` that of its
    relaxation.
    """

    length: int = Field(8, ge=2, le=16)
    gap: float = Field(1.0, ge=0.01, le=50.0)
    loss: str = "softsort"
    temperature: float = Field(1.0, gt=0.0, le=100.0)


class OrderTrainSpec(Spec):
    """All that decides how an order teacher is trained; ``optim.batch_size`` counts the faces of a step.

    ``share_of_faces`` of the training faces, or as many as ``optim.epoch_faces``, are shown in an epoch.
    ``checkpoint_minutes`` is that of
    ``ComputeSpec``.
    """

    WITHOUT_EFFECT = frozenset({"checkpoint_minutes"})

    model: ModelSpec
    optim: OptimSpec = OptimSpec()
    augment: AugmentSpec = AugmentSpec()
    order: OrderSpec = OrderSpec()
    share_of_faces: float = Field(1.0, gt=0.0, le=1.0)
    seed: Seed = 0
    checkpoint_minutes: float = newer(CHECKPOINT_MINUTES, **_MINUTES)


class ComputeSpec(Spec):
    """How the steps of a training are computed.

    ``precision``: ``bfloat16`` computes the network in it by autocast, its head and the losses in float32;
    ``auto`` does so on a GPU. ``compile`` runs the backbone through ``torch.compile``: worth its minute only
    where an epoch takes long. Images are channels-last always. A checkpoint is written after each epoch, and
    within one every ``checkpoint_minutes``: what a kill costs at most, and no part of what is trained.
    """

    WITHOUT_EFFECT = frozenset({"checkpoint_minutes"})

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    checkpoint_minutes: float = newer(CHECKPOINT_MINUTES, **_MINUTES)


class TrainSpec(Spec):
    """All that decides how one network is trained, teacher or student.

    ``share_of_faces`` of the training faces are trained on, the same ones for a seed. Each epoch is validated
    on all validation faces, or on ``val_faces`` of them: the same ones for every trial and seed, with the 95
    % interval of the error over their persons.
    """

    model: ModelSpec
    optim: OptimSpec = OptimSpec()
    augment: AugmentSpec = AugmentSpec()
    distill: DistillSpec = DistillSpec()
    compute: ComputeSpec = ComputeSpec()
    share_of_faces: float = Field(1.0, gt=0.0, le=1.0)
    seed: Seed = 0
    val_faces: int | None = newer(None, ge=2)
