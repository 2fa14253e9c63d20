"""Relations between the faces of a batch: distances and angles (RKD, Park 2019).

Notation, for a batch of B faces:

    s_i  ``student`` [B, F], the student's features of face i
    t_i  ``teacher`` [B, E], what a teacher makes of the same face: another number of values, another scale
    w_i  ``weight`` [B], what a face counts, 0 where it has no target; a relation counts the product of its
         faces' weights
    h    the Huber loss, quadratic below 1, linear above

Each loss is a scalar without a unit: the weighted mean over all relations inside parts of the batch of at
most ``MAX_FACES`` faces.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

#: Relations are those inside so many faces: the angles of one batch of 512 would take gigabytes.
MAX_FACES = 128

_Relation = Callable[[Tensor, Tensor], Tensor]


def distance_loss(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """``h(|s_i - s_j| / mu_s, |t_i - t_j| / mu_t)`` over all pairs, mu a side's mean distance (RKD-D)."""
    return _compared(_distances, student, teacher, weight)


def angle_loss(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """``h(cos s_ijk, cos t_ijk)`` over all triplets, ijk the angle at j between i and k (RKD-A)."""
    return _compared(_angles, student, teacher, weight)


def _compared(relation: _Relation, student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    loss, counted = student.new_zeros(()), student.new_zeros(())
    for start in range(0, len(student), MAX_FACES):
        part = slice(start, start + MAX_FACES)
        weights = weight[part]
        with torch.no_grad():
            wanted = relation(teacher[part], weights)
            counts = weights * weights.unsqueeze(-1)
            if wanted.ndim == 3:
                counts = counts * weights.view(-1, 1, 1)
        each = smooth_l1_loss(relation(student[part], weights), wanted, reduction="none")
        loss = loss + (counts * each).sum()
        counted = counted + counts.sum()
    return loss / counted.clamp_min(1e-12)


def _distances(points: Tensor, weight: Tensor) -> Tensor:
    """Distances ``[B, B]``, divided by the mean of those that are not 0."""
    squares = _squares(points)
    distances = _root(squares)
    counts = weight * weight.unsqueeze(-1) * (squares > 0)
    mean = (counts * distances).sum() / counts.sum().clamp_min(1e-12)
    return distances / mean.clamp_min(1e-12)


def _angles(points: Tensor, weight: Tensor) -> Tensor:
    """The cosine of the angle at j between i and k: ``[B, B, B]`` as (j, i, k); 0 where two coincide.

    From the inner products ``(x_i - x_j) (x_k - x_j) = g_ik - g_ij - g_jk + g_jj``: the differences
    themselves would take F times the memory.
    """
    inner = _inner(points)
    squares = _squares(points)
    inverse = torch.where(squares > 0, 1 / _root(squares).clamp_min(1e-12), 0.0)
    at = inner.unsqueeze(0) - inner.unsqueeze(2) - inner.unsqueeze(1)
    at = at + inner.diagonal().view(-1, 1, 1)
    return at * inverse.unsqueeze(2) * inverse.unsqueeze(1)


def _inner(points: Tensor) -> Tensor:
    centred = points - points.mean(dim=0)  # differences do not change, and the products lose less
    return centred @ centred.T


def _squares(points: Tensor) -> Tensor:
    """Squared distances ``[B, B]``; what is only the products' rounding is 0."""
    inner = _inner(points)
    own = inner.diagonal()
    sums = own.unsqueeze(0) + own.unsqueeze(1)
    squares = sums - 2 * inner
    return torch.where(squares > 1e-6 * sums, squares, 0.0)


def _root(squares: Tensor) -> Tensor:
    """The square root, with the gradient 0 at 0."""
    safe = torch.where(squares > 0, squares, 1.0)
    return torch.where(squares > 0, safe.sqrt(), 0.0)
