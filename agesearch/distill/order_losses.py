"""Learning the order of faces by age: losses on sequences, and how well a sequence is sorted. Pure torch.

The first teacher of Zhao 2020 learns the ordinal relation by recovering ordered sequences from shuffled
ones; its loss is not public, so these are three published ways to do that. Shapes: ``scores`` ``[B, L]``
(greater is older), ``ages`` ``[B, L]`` in years, distinct within a sequence; each loss gives one value a
sequence. Adding one is a function and a row of ``ORDER_LOSSES``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from agesearch.errors import unknown_name

#: Row and column normalisations; the paper of Mena takes 10 to 20.
SINKHORN_ROUNDS = 20


def softsort(scores: Tensor, temperature: float) -> Tensor:
    """The relaxed permutation ``[B, L, L]`` that sorts ``scores`` upwards (SoftSort, Prillo 2020).

    ``P = softmax(-|sort(s) 1^T - 1 s^T| / temperature)``: row i is a distribution over which element has rank
    i (from the youngest); at temperature 0 it is the permutation itself.
    """
    return torch.exp(_log_softsort(scores, temperature))


def sinkhorn(scores: Tensor, temperature: float, rounds: int = SINKHORN_ROUNDS) -> Tensor:
    """The doubly stochastic matrix ``[B, L, L]`` of rank i and element j (Gumbel-Sinkhorn, Mena 2018, without
    the noise).

    Sorting is the assignment P that maximises ``sum_ij P_ij i s_j``; its relaxation is the Sinkhorn normal
    form of ``exp(i s_j / temperature)``, ranks i centred. The last step normalises rows.
    """
    return torch.exp(_log_sinkhorn(scores, temperature, rounds))


def softsort_loss(scores: Tensor, ages: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the true element at each rank under ``softsort``, mean over the ranks: ``[B]``."""
    return _cross_entropy(_log_softsort(scores, temperature), ages)


def sinkhorn_loss(scores: Tensor, ages: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the true element at each rank under ``sinkhorn``, mean over the ranks: ``[B]``."""
    return _cross_entropy(_log_sinkhorn(scores, temperature, SINKHORN_ROUNDS), ages)


def listmle_loss(scores: Tensor, ages: Tensor, temperature: float) -> Tensor:
    """Minus the log-likelihood of the true order under Plackett-Luce, oldest first (ListMLE, Xia 2008),
    divided by L: ``[B]``. Scores are divided by the temperature.
    """
    oldest_first = ages.argsort(dim=-1, descending=True)
    ordered = scores.gather(-1, oldest_first) / temperature
    # log sum exp over the elements not taken yet, at each step
    rest = ordered.flip(-1).logcumsumexp(dim=-1).flip(-1)
    return (rest - ordered).mean(dim=-1)


ORDER_LOSSES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "softsort": softsort_loss,
    "sinkhorn": sinkhorn_loss,
    "listmle": listmle_loss,
}


def order_loss(name: str) -> Callable[[Tensor, Tensor, float], Tensor]:
    """A row of the table; an unknown name is an ``InputError`` that lists the known ones."""
    if name not in ORDER_LOSSES:
        raise unknown_name("order loss", name, ORDER_LOSSES)
    return ORDER_LOSSES[name]


def kendall_tau(scores: Tensor, ages: Tensor) -> Tensor:
    """Kendall's tau-a of each sequence in -1..1: ``[B]``; pairs of equal scores count as half wrong."""
    length = scores.shape[-1]
    older, younger = torch.triu_indices(length, length, offset=1, device=scores.device)
    agree = torch.sign(scores[..., older] - scores[..., younger]) * torch.sign(
        ages[..., older] - ages[..., younger]
    )
    return agree.float().mean(dim=-1)


def exact_match(scores: Tensor, ages: Tensor) -> Tensor:
    """1 for each sequence whose scores put every face at its rank, else 0: ``[B]``."""
    by_age = scores.gather(-1, ages.argsort(dim=-1))
    return (by_age.diff(dim=-1) > 0).all(dim=-1).float()


def _log_softsort(scores: Tensor, temperature: float) -> Tensor:
    ordered = scores.sort(dim=-1).values
    distance = (ordered.unsqueeze(-1) - scores.unsqueeze(-2)).abs()
    return torch.log_softmax(-distance / temperature, dim=-1)


def _log_sinkhorn(scores: Tensor, temperature: float, rounds: int) -> Tensor:
    length = scores.shape[-1]
    ranks = torch.arange(length, dtype=scores.dtype, device=scores.device) - (length - 1) / 2
    logs = ranks.unsqueeze(-1) * scores.unsqueeze(-2) / temperature
    for _ in range(rounds):
        logs = logs - logs.logsumexp(dim=-2, keepdim=True)
        logs = logs - logs.logsumexp(dim=-1, keepdim=True)
    return logs


def _cross_entropy(log_permutation: Tensor, ages: Tensor) -> Tensor:
    """Rank i must choose the element with the i-th smallest age."""
    true = ages.argsort(dim=-1).unsqueeze(-1)
    return -log_permutation.gather(-1, true).squeeze(-1).mean(dim=-1)
