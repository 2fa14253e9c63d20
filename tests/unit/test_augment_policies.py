"""What the policies of augmentation draw: ranges to their ends, probabilities, and what becomes of pixels."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from agesearch.data.images.augment import Draws, default_policy
from agesearch.data.images.transforms import Changes, changed

SIZE = 100
DRAWN = 6000


class _Ends(Draws):
    """Draws the low (0) or the high (1) end of every range, and says yes or no to every chance."""

    def __init__(self, end: int, yes: bool, kind: int = 0) -> None:
        super().__init__(0, 0, "")
        self._end, self._yes, self._kind = end, yes, kind

    def between(self, low: float, high: float) -> float:
        return (low, high)[self._end]

    def whole(self, low: int, high: int) -> int:
        return self._kind if (low, high) == (0, 2) else (low, high)[self._end]

    def chance(self, probability: float) -> bool:
        return self._yes


@pytest.fixture(scope="module")
def drawn() -> list[Changes]:
    return [default_policy(1.0, SIZE, Draws(0, 0, str(index))) for index in range(DRAWN)]


@pytest.mark.parametrize(
    ("strength", "probabilities"),
    [
        (1.0, {"light": 0.8, "hue_saturation": 0.2, "gamma": 0.2, "worse": 0.1, "hole": 0.2}),
        (0.5, {"light": 0.4, "hue_saturation": 0.1, "gamma": 0.1, "worse": 0.05, "hole": 0.1}),
        (3.0, {"light": 0.8, "hue_saturation": 0.2, "gamma": 0.2, "worse": 0.2, "hole": 0.4}),
    ],
)
def test_each_change_is_as_likely_as_the_policy_says(
    strength: float, probabilities: dict[str, float]
) -> None:
    every = [default_policy(strength, SIZE, Draws(1, 0, str(index))) for index in range(DRAWN)]
    kinds = {
        kind: np.mean([getattr(c, kind) is not None for c in every]) for kind in ("blur", "noise", "jpeg")
    }
    found = {name: np.mean([getattr(c, name) is not None for c in every]) for name in Changes._fields}
    found["worse"] = sum(kinds.values())
    for name, probability in probabilities.items():
        assert found[name] == pytest.approx(probability, abs=_four_sigma(probability)), name
    for kind, share in kinds.items():  # one of the three, equally often
        assert share == pytest.approx(
            probabilities["worse"] / 3, abs=_four_sigma(probabilities["worse"] / 3)
        ), kind
    assert all(sum(part is not None for part in (c.blur, c.noise, c.jpeg)) <= 1 for c in every)
    assert found["warp"] == pytest.approx(0.95, abs=_four_sigma(0.95))  # 0.9, or else a flip alone


def test_half_of_the_faces_are_mirrored(drawn: list[Changes]) -> None:
    mirrored = [c.warp is not None and c.warp[0] < 0 for c in drawn]
    assert np.mean(mirrored) == pytest.approx(0.5, abs=_four_sigma(0.5))
    alone = [c for c in drawn if c.warp is not None and c.warp[1:5:2] == (0.0, 0.0)]
    assert {c.warp for c in alone} == {(-1.0, 0.0, SIZE - 1.0, 0.0, 1.0, 0.0)}


@pytest.mark.parametrize(
    ("low", "high", "value"),
    [
        (0.75, 1.25, lambda c: c.light and c.light[0]),
        (-0.25 * 255, 0.25 * 255, lambda c: c.light and c.light[1]),
        (-5, 5, lambda c: c.hue_saturation and c.hue_saturation[0]),
        (-20, 20, lambda c: c.hue_saturation and c.hue_saturation[1]),
        (0.8, 1.25, lambda c: c.gamma),
        (0.5, 3.0, lambda c: c.blur and c.blur[0]),
        (0.01 * 255, 0.05 * 255, lambda c: c.noise and c.noise[0]),
        (40, 90, lambda c: c.jpeg),
        (10, 29.9, lambda c: c.hole and c.hole[2] - c.hole[0]),
        (10, 29.9, lambda c: c.hole and c.hole[3] - c.hole[1]),
    ],
)
def test_values_lie_evenly_between_their_ends(
    drawn: list[Changes], low: float, high: float, value: Callable[[Changes], float | None]
) -> None:
    found = np.array([v for c in drawn if (v := value(c)) is not None], dtype=float)
    width = high - low
    assert low <= found.min() <= low + 0.05 * width
    assert high - 0.05 * width <= found.max() <= high
    sigma = width / np.sqrt(12 * len(found))
    assert found.mean() == pytest.approx((low + high) / 2, abs=4 * sigma + 0.5 * (width == 19.9))
    assert found.std() == pytest.approx(width / np.sqrt(12), rel=4 / np.sqrt(2 * len(found)))


def test_a_blur_is_three_or_five_wide_and_holes_stay_inside(drawn: list[Changes]) -> None:
    widths = [c.blur[1] for c in drawn if c.blur is not None]
    assert set(widths) == {3, 5}
    assert np.mean(np.array(widths) == 3) == pytest.approx(1 / 3, abs=4 * np.sqrt(2 / 9 / len(widths)))
    holes = np.array([c.hole for c in drawn if c.hole is not None])
    assert holes.min() == 0
    assert holes.max() == SIZE


@pytest.mark.parametrize("end", [0, 1])
@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_the_one_map_is_flip_scale_rotation_shear_and_shift_about_the_centre(
    end: int, strength: float
) -> None:
    sign = 2 * end - 1
    large = 1 + 0.1 * strength
    scale = (1 / large, large)[end]
    turn, lean = np.radians(sign * 10 * strength), np.tan(np.radians(sign * 3 * strength))
    shift = sign * int(0.05 * strength * SIZE)
    centre = (SIZE - 1) / 2
    expected = (
        _shift(centre + shift)
        @ np.array([[1, lean, 0], [lean, 1, 0], [0, 0, 1]])
        @ np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        @ np.diag([scale, scale, 1])
        @ np.diag([-1, 1, 1])
        @ _shift(-centre)
    )
    found = default_policy(strength, SIZE, _Ends(end, yes=True)).warp
    np.testing.assert_allclose(np.reshape(found, (2, 3)), expected[:2], atol=1e-9)
    assert default_policy(strength, SIZE, _Ends(end, yes=False)) == Changes()


def test_a_normal_is_clipped_at_two_sigma() -> None:
    values = np.array([Draws(0, 0, str(index)).normal(3.0) for index in range(DRAWN)])
    assert np.abs(values).max() == 6.0
    assert np.mean(np.abs(values) == 6.0) == pytest.approx(0.0455, abs=_four_sigma(0.0455))
    assert values.mean() == pytest.approx(0.0, abs=4 * 3 / np.sqrt(DRAWN))
    assert np.mean(np.abs(values) < 3.0) == pytest.approx(0.6827, abs=_four_sigma(0.68))


def test_pixels_follow_what_was_drawn() -> None:
    """Light, grey kept grey, gamma, a JPEG's red, noise and a hole, each on a face of one colour."""

    def one(level: tuple[int, int, int], **changes: object) -> npt.NDArray[np.uint8]:
        face = np.full((48, 48, 3), level, dtype=np.uint8)
        return changed(face, Changes(**changes))  # type: ignore[arg-type]

    assert np.unique(one((100, 100, 100), light=(1.5, -20.0))).tolist() == [130]
    assert np.unique(one((200, 200, 200), light=(2.0, 0.0))).tolist() == [255]
    assert np.unique(one((90, 90, 90), hue_saturation=(5.0, 20.0))).tolist() == [90]
    assert np.unique(one((64, 64, 64), gamma=2.0)).tolist() == [16]
    assert np.unique(one((64, 64, 64), light=(2.0, 0.0), gamma=2.0)).tolist() == [64]
    red = one((220, 40, 30), jpeg=90).mean(axis=(0, 1))
    np.testing.assert_allclose(red, (220, 40, 30), atol=3)
    noise = one((128, 128, 128), noise=(10.0, 5)).astype(float) - 128
    assert noise.std() == pytest.approx(10.0, rel=0.05)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.1
    hole = one((0, 0, 0), hole=(4, 6, 14, 26))
    assert (hole[6:26, 4:14] == 127).all()
    assert (hole == 127).sum() == 20 * 10 * 3
    spot = np.zeros((9, 9, 3), np.uint8)
    spot[4, 4] = 255
    assert changed(spot, Changes(blur=(1.0, 3)))[4, 3:6, 0].tolist() == [32, 52, 32]


def _shift(by: float) -> npt.NDArray[np.float64]:
    return np.array([[1, 0, by], [0, 1, by], [0, 0, 1.0]])


def _four_sigma(probability: float) -> float:
    return 4 * float(np.sqrt(probability * (1 - probability) / DRAWN))
