r"""With expectations in place of sums, local PAC* learning fails (Appendix E.1; claim C20).

Let the local loss be the mean :math:`\nu\|\theta\|^2 + \mathbb E_{x\sim\mathcal D_n}[\ell(\theta, x)]` over the data
of user n, as in Appendix E, instead of the sum (eq. 5).

**Theorem.**  With it, personalized least squares is not locally PAC* learning, for any of the three regularizers.

**Proof.**  Take d = 1, N = 2, ν = 0, queries ±1 and answers without noise (parameter 0).  The mean loss of the honest
user with model a is (θ - a)²/2 *for every number of data*, and let the other user's fixed data give (θ - b)²/2.  With
s = θ₁ + θ₂ and D = θ₁ - θ₂, the two local losses are (s - a - b)²/4 + (D - (a - b))²/4, and a best ρ is the middle
for every convex even regularizer r(ρ - θ), so D minimizes (D - D₀)²/4 + 2r(D/2), D₀ = a - b.  Hence

.. math:: \theta_1^* - a = -\tfrac12(D_0 - D) = -r'(D/2),

which is the same for every ℐ and not 0 for a ≠ b.  So for ε below |r'(D/2)| no number of data suffices.  (With the sum
the loss of user 1 is ℐ(θ - a)²/2, and the error falls like 1/ℐ.)  ∎

Source: Appendix E.1 (``c20_expectation_fails``).
"""

from __future__ import annotations

import math

from theory.arrays import as_array
from theory.data import UserDataset
from theory.errors import AssumptionError
from theory.regularizers import L2, Regularizer, SmoothL2, SquaredL2


def averaged(data: UserDataset) -> UserDataset:
    """Return data whose summed least squares loss is the mean loss of ``data``: both scaled by 1/√ℐ.

    Examples
    --------
    >>> averaged(UserDataset([[2.0]] * 4, [1.0] * 4)).Q.ravel()
    array([1., 1., 1., 1.])
    """
    if data.n_data == 0:
        return data
    scale = 1.0 / math.sqrt(data.n_data)
    return UserDataset(scale * data.Q, scale * data.A)


def expectation_error(reg: Regularizer, honest: float, other: float) -> float:
    r"""Return |θ₁* - a| of the theorem, the error that no number of data removes.

    ℓ2²: λ|a - b|/(1 + 2λ).  ℓ2: min(λ, |a - b|/2).  smooth-ℓ2: the root f of f = λx/√(1 + x²), x = |a - b|/2 - f.

    Parameters
    ----------
    reg : SquaredL2, L2 or SmoothL2
    honest, other : float
        a and b.

    Examples
    --------
    >>> expectation_error(SquaredL2(0.5), 0.0, 1.0), expectation_error(L2(0.2), 0.0, 1.0)
    (0.25, 0.2)
    """
    half = 0.5 * abs(float(as_array(honest, "honest", 0)) - float(as_array(other, "other", 0)))
    if isinstance(reg, SquaredL2):
        return reg.lam * 2.0 * half / (1.0 + 2.0 * reg.lam)
    if isinstance(reg, L2):
        return min(reg.lam, half)
    if isinstance(reg, SmoothL2):
        low, high = 0.0, half
        while low < (f := 0.5 * (low + high)) < high:
            # f - r'(half - f) increases in f.
            is_too_small = f < reg.lam * (half - f) / math.hypot(1.0, half - f)
            low, high = (f, high) if is_too_small else (low, f)
        return high
    raise AssumptionError("c20_expectation_fails", f"regularizer {reg!r}", "use SquaredL2, L2 or SmoothL2")
