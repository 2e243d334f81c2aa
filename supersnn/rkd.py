"""Relational knowledge distillation as published: Park et al. 2019, "Relational knowledge distillation".

    RKD-D = mean over pairs   of l(ψ_D(s_i, s_j), ψ_D(t_i, t_j))          ψ_D = ‖x_i - x_j‖ / mean of all pairs
    RKD-A = mean over triplets of l(ψ_A(s_i, s_j, s_k), ψ_A(t_i, t_j, t_k))  ψ_A = cosine of the angle at x_j
    l = smooth L1 with β = 1, and the published loss is 25 · RKD-D + 50 · RKD-A

`relations.distance` is ψ_D; `angle` is ψ_A. With `loss.relation: {kind: rkd, difference: smooth_l1, weight: 25}` the
term is theirs, but for the means, which are over pairs and triplets of distinct samples here, and over all B² and B³
there: where two samples of a triplet are the same both sides agree, so that theirs is smaller by (B - 1)/B and
(B - 1)(B - 2)/B².
"""

from torch import Tensor

from supersnn.relations import safe_rsqrt

ANGLE_SHARE = 2.0
"""The angle term's weight in the kind `rkd`, for a weight of 1 of the distance term."""


def angle(vectors: Tensor) -> Tensor:
    """Return the cosines [B, B, B] of vectors [B, D]: at [j, i, k] that of the angle at j between i and k.

    From the products of all pairs, because the differences of all pairs would be [B, B, D]. Where i or k equals j the
    cosine is 0, without gradient.
    """
    rows = vectors - vectors.mean(0)
    products = rows @ rows.T
    squares = products.diagonal()
    # at [j, i, k]: (x_i - x_j) · (x_k - x_j)
    inner = products.unsqueeze(0) - products.unsqueeze(2) - products.unsqueeze(1) + squares[:, None, None]
    lengths = inner.diagonal(dim1=1, dim2=2)  # at [j, i]: the squared distance of i from j
    sums = squares[:, None] + squares
    inverse = safe_rsqrt(lengths, 1e-6 * sums.detach() + 1e-12 * squares.detach().mean())
    return inner * inverse.unsqueeze(2) * inverse.unsqueeze(1)
