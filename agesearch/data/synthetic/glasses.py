"""Spectacles: two rims, a bridge and temples as lines in space before the eyes."""

from __future__ import annotations

import cv2
import numpy as np

from agesearch.data.synthetic.camera import View
from agesearch.data.synthetic.raster import FloatArray


def spectacles(rng: np.random.Generator, eyes: tuple[FloatArray, FloatArray]) -> list[FloatArray]:
    """Lines [N, 3] of a pair of glasses before two eyeballs, whose vertices [V, 3] are given, unposed."""
    left, right = (ball.mean(axis=0) for ball in eyes)
    radius = float(np.linalg.norm(eyes[0] - left, axis=1).max())
    half = np.array([rng.uniform(1.75, 2.15), rng.uniform(1.15, 1.75)]) * radius
    power = 2 / rng.uniform(2.0, 4.0)  # a superellipse, round to rectangular
    angle = np.linspace(0, 2 * np.pi, 65)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    outline = np.sign(circle) * np.abs(circle) ** power * half
    lines = []
    for centre, side in ((left, 1.0), (right, -1.0)):
        middle = centre + np.array([0.25 * radius * side, -0.2 * radius, 2.1 * radius])
        x, y = outline.T
        rim = middle + np.stack([x, y, -0.12 * np.maximum(x * side, 0)], axis=1)
        hinge = middle + np.array([half[0] * side, 0.45 * half[1], -0.12 * half[0]])
        ear = centre + np.array([3.4 * radius * side, 0.3 * radius, -7.0 * radius])
        lines += [rim, np.linspace(hinge, ear, 40)]
    inner = [lines[0][32], lines[2][0]]
    share = np.linspace(0, 1, 12)[:, None]
    bridge = inner[0] * (1 - share) + inner[1] * share
    bridge[:, 1] += 0.35 * radius * np.sin(np.pi * share[:, 0]) + 0.2 * half[1]
    return [line.astype(np.float32) for line in (*lines, bridge)]


def draw_lines(
    picture: FloatArray,
    nearest: FloatArray,
    view: View,
    lines: list[FloatArray],
    colour: FloatArray,
    width: float,
) -> None:
    """Draw posed lines [N, 3] of ``width`` decimetres into ``picture`` [S * S, 3] where nothing is nearer."""
    side = int(len(picture) ** 0.5)
    mask = np.zeros((side, side), np.uint8)
    thickness = max(1, round(width * view.scale))
    for line in lines:
        screen, depth = view.project(line)
        column, row = np.clip(screen.astype(np.int64), 0, side - 1).T
        shown = depth < nearest[row * side + column] + 0.02
        pixels = np.round(screen * 16).astype(np.int64).tolist()
        for k in np.flatnonzero(shown[1:] & shown[:-1]).tolist():
            cv2.line(mask, pixels[k], pixels[k + 1], 255, thickness, cv2.LINE_AA, 4)
    share = mask.reshape(-1, 1).astype(np.float32) / 255
    picture *= 1 - share
    picture += share * colour
