r"""From a reported model to data, with the least number of points (Theorem 5, Appendices K and L, and beyond).

User s wants ρ* = θ†.  Let F = F(θ†) be the honest sum there and θ♠ the model whose report is -F (Lemma 3).  A dataset
makes θ♠ the minimum of user s's own problem, and so (θ†, θ♠) the global minimum, exactly if

.. math:: \nabla\mathcal L_s(θ♠) = -F \iff \sum_i \varphi'(Q_i^Tθ♠, A_i)\,Q_i = -w, \qquad w = F + 2\nu\,θ♠ .

Everything here is about that equation; write m_i = Q_iᵀθ♠ and s = wᵀθ♠.

**Least squares.**  With r_i = A_i - m_i it reads Σ r_iQ_i = w.  Hence Σ r_i m_i = s.

* One point: (c w, c s + 1/c) for every c ≠ 0, and no other, if w ≠ 0.
* With |A_i| <= a and ‖Q_i‖ <= B, n points exist exactly if some R > 0 has

  .. math:: (R + s)^2 \le n a^2 R \quad\text{and}\quad R \ge \|w\|^2/(nB^2),

  and then n equal ones do.  Necessary: put R = Σr_i².  By Cauchy, ‖w‖² = (Σ r_i Q_iᵀw/‖w‖)² <= R·nB² and
  s² <= R Σm_i², so na² >= ΣA_i² = R + 2s + Σm_i² >= (R + s)²/R.  Sufficient: n times (c w, c s + 1/(nc)) with
  c = 1/√(nR).  So no semidefinite program is needed and nothing is lost by rounding: both bounds are met at once.

**Logistic.**  Up to the sign of Q_i all labels are +1 and it reads Σ σ(-m_i) Q_i = w.  With y_i = σ(-m_i) in (0, 1),
m_i = ln((1-y_i)/y_i), and h(y) = y ln((1-y)/y), which is concave (h'' = -1/y - 1/(1-y) - 1/(1-y)² < 0):
Σh(y_i) = s.  Therefore n points with ‖Q_i‖ <= B exist exactly if some y in [‖w‖/(nB), 1) has h(y) >= s/n; then n equal
ones do.  Necessary: y the mean of the y_i (Jensen).  Sufficient: h → -∞ as y → 1, so there is a largest y with
h(y) = s/n; n times (w/(ny), +1).  The maximum of h is W(1/e), so without a bound on queries n >= s/W(1/e).

**K classes.**  W = mat(w) is K × d and the equation is Σ_i (e_{A_i} - p_i)Q_iᵀ = W with p_i = softmax(Θ♠Q_i).  Its left
side has column sums 0.  For label a, <(e_a - p)Qᵀ, Θ♠> = ln p_a + H(p) <= y ln((1-y)(K-1)/y) with y = 1 - p_a (the
entropy is largest if the other classes share y equally), whose maximum is W((K-1)/e).  So n >= s/W((K-1)/e).

Source: Theorem 5, Appendices K, L; C10-C13 of the companion statements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import lambertw, softmax

from theory.arrays import Array, as_count, as_matrix, as_nonnegative, as_positive, as_vector, frozen
from theory.data import Queries, UserDataset
from theory.errors import AssumptionError, ShapeError
from theory.losses import LeastSquares, Logistic, Loss, Multinomial, margins
from theory.regularizers import norms

__all__ = [
    "Demand",
    "class_bound",
    "indifference_queries",
    "least_answer",
    "least_points",
    "linear_points",
    "logistic_points",
    "missing_gradient",
    "one_point",
    "poison_points",
    "printed_point",
]

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Demand:
    r"""What the data of user s must do: Σ φ'(Q_iᵀθ♠, A_i) Q_i = -w at the reported model θ♠.

    Attributes
    ----------
    w : (P,) array
        F(θ†) + 2νθ♠; set to 0 if it is nothing but rounding.
    reported_model : (P,) array
        θ♠.
    work : float
        s = wᵀθ♠, the number that decides how many points are needed.

    Examples
    --------
    >>> Demand.of([1.0, 0.0], [3.0, 4.0], nu=0.5).work
    28.0
    """

    w: Array
    reported_model: Array
    work: float

    @classmethod
    def of(cls, honest_sum: Any, reported_model: Any, nu: float) -> Demand:
        """Return the demand for the honest sum F(θ†) and the reported model."""
        model = as_vector(reported_model, "reported_model")
        F = as_vector(honest_sum, "honest_sum", model.size)
        nu = as_nonnegative(nu, "nu", "thm5_single_point")
        with np.errstate(over="ignore"):
            w = as_vector(F + 2.0 * nu * model, "honest_sum + 2 nu reported_model")
        rounding = 16.0 * _EPS * (norms(F) + 2.0 * nu * norms(model))
        w = frozen(w if norms(w) > rounding else np.zeros_like(w))
        return cls(w, model, float(w @ model))

    @property
    def size(self) -> float:
        """‖w‖."""
        return float(norms(self.w))

    @property
    def least_work(self) -> float:
        """s less its rounding: what must surely be done, so that an exact integer is not rounded up."""
        return self.work - (self.w.size + 8.0) * _EPS * self.size * float(norms(self.reported_model))


def missing_gradient(data: UserDataset, demand: Demand, loss: Loss) -> Array:
    r"""Return :math:`w + \sum_i \varphi'(Q_i^Tθ♠, A_i) Q_i`: what the data leave to be desired; 0 if they are exact."""
    labels = loss.encode(data.A, "data.A")
    slope = loss.dphi(margins(demand.reported_model, data.Q, loss.n_outputs), labels)
    return demand.w + (slope.T @ data.Q).ravel()


# --------------------------------------------------------------------------------------------------------------
# Least squares
# --------------------------------------------------------------------------------------------------------------


def printed_point(honest_sum: Any, reported_model: Any) -> UserDataset:
    r"""Return the point of Appendix K as it is printed: :math:`(g, g^Tθ♠ - 1)` with g the honest sum.

    The gradient of its loss at θ♠ is +g, where -g - 2νθ♠ is needed: the sign is wrong, and ν is left out.  For ν = 0
    the point (g, gᵀθ♠ + 1) does it, which is (c w, c s + 1/c) with c = 1.  Kept for comparison.
    """
    g = as_vector(honest_sum, "honest_sum")
    model = as_vector(reported_model, "reported_model", g.size)
    return UserDataset(g[None], np.array([g @ model - 1.0]))


def one_point(demand: Demand, c: float | None = None) -> UserDataset:
    r"""Return the exact point (c w, c s + 1/c) of least squares; empty if w = 0.

    By default the query has norm 1, or less where c = 1/√s makes it shorter; that one has the least answer, 2√s.

    Source: Theorem 5, C10 (``thm5_single_point``).

    Examples
    --------
    >>> demand = Demand.of([2.0, 0.0], [8.0, 1.0], nu=0.0)          # s = 16
    >>> one_point(demand).Q, one_point(demand).A, one_point(demand, c=1.0).A
    (array([[0.5, 0. ]]), array([8.]), array([17.]))
    """
    if demand.size == 0.0:
        return UserDataset.empty(demand.w.size)
    if c is None:
        c = 1.0 / max(math.sqrt(max(demand.work, 0.0)), demand.size)
    if c == 0.0 or not math.isfinite(c):
        raise AssumptionError("thm5_single_point", f"c = {c}", "c must be finite and not 0")
    return UserDataset(c * demand.w[None], np.array([c * demand.work + 1.0 / c]))


def least_answer(demand: Demand, max_query: float | None = None) -> float:
    r"""Return the infimum of |A| over the exact one-point datasets with ‖Q‖ <= ``max_query`` (least squares).

    |c s + 1/c| over 0 < c <= B/‖w‖: 2√s at c = 1/√s for s > 0, 0 for s <= 0 (attained for s < 0), as far as the bound
    on c allows.

    Source: C10 (``linear_least_answer``).

    Examples
    --------
    >>> least_answer(Demand.of([2.0], [2.0], nu=0.0)), least_answer(Demand.of([2.0], [2.0], nu=0.0), max_query=0.5)
    (4.0, 5.0)
    """
    if demand.size == 0.0:
        return 0.0
    B = math.inf if max_query is None else as_positive(max_query, "max_query", "linear_least_answer")
    largest = B / demand.size
    best = 1.0 / math.sqrt(abs(demand.work)) if demand.work != 0.0 else math.inf
    c = min(best, largest)
    return 0.0 if c == best and demand.work <= 0 else abs(c * demand.work + 1.0 / c)


def _least_linear(demand: Demand, a: float, B: float) -> int:
    r"""Return the least n for which some R > 0 has (R + s)² <= na²R and R >= ‖w‖²/(nB²).

    The first inequality needs na² >= 4s, and its largest solution has √R = (√n a + √(na² - 4s))/2.  So the second one
    reads na + √(n²a² - 4ns) >= 2X, X = ‖w‖/B: na >= 2X, or n(Xa - s) >= X².
    """
    if demand.size == 0.0:
        return 0
    s, X = demand.least_work, demand.size / B
    if a == 0.0:
        # R = -s is then the only solution, and answers nothing but 0.
        return max(1, _ceil(X * X / -demand.work)) if demand.work < 0 else 0
    if math.isinf(a):
        return 1
    first = max(1, _ceil(4.0 * s / (a * a)))  # a², where it overflows, is inf; a**2 would raise
    second = _ceil(2.0 * X / a)
    if X * a > s:
        second = min(second, _ceil(X * X / (X * a - s)))
    return max(first, second)


def _ceil(x: float) -> int:
    """⌈x⌉, where x may exceed an integer by rounding."""
    return math.ceil(x - 8.0 * _EPS * abs(x))


def linear_points(
    demand: Demand, *, n_points: int | None = None, max_answer: float = math.inf, max_query: float = math.inf
) -> UserDataset:
    r"""Return ``n_points`` equal points (default: the least number) that are exact for least squares within the bounds.

    Source: C11 (``linear_bounded_answers``); the proof is in the docstring of this module.

    Examples
    --------
    >>> demand = Demand.of([2.0, 0.0], [8.0, 1.0], nu=0.0)          # s = 16
    >>> data = linear_points(demand, max_answer=4.0)
    >>> data.n_data, bool(np.abs(data.A).max() <= 4.0)
    (4, True)
    """
    if not (max_answer >= 0 and max_query > 0):
        found = f"max_answer = {max_answer}, max_query = {max_query}"
        raise AssumptionError("linear_bounded_answers", found, "answers are bounded by a >= 0, queries by B > 0")
    least = _least_linear(demand, max_answer, max_query)
    if demand.size == 0.0:
        return UserDataset.empty(demand.w.size)
    _require_possible(least, demand, max_answer)
    n = least if n_points is None else as_count(n_points, "n_points", least)
    s, root_n = demand.work, math.sqrt(n)
    # √R lies between the roots of (R + s)² = na²R, whose product is |s|, and above the bound of the queries.
    highest = 0.5 * (root_n * max_answer + math.sqrt(max(n * (max_answer * max_answer) - 4.0 * s, 0.0)))
    lowest = max(abs(s) / highest, demand.size / (root_n * max_query))
    # Queries of norm ‖w‖/(√n √R), 1 if that is possible; answers (R + s)/(√n √R).
    root = min(max(demand.size / root_n, lowest), highest)
    answer = (root + s / root) / root_n
    Q = np.tile(demand.w / (root_n * root), (n, 1))
    return UserDataset(Q, np.full(n, min(max(answer, -max_answer), max_answer)))


def _require_possible(least: int, demand: Demand, max_answer: float) -> None:
    if least == 0:
        raise AssumptionError(
            "linear_bounded_answers",
            f"max_answer = {max_answer:g} with wᵀθ♠ = {demand.work:g} >= 0",
            "answers of 0 cannot hold a model against that work; allow answers > 0",
        )


# --------------------------------------------------------------------------------------------------------------
# Logistic regression
# --------------------------------------------------------------------------------------------------------------


def class_bound(n_classes: int) -> float:
    r"""Return W((K-1)/e), the most that one point contributes to s = wᵀθ♠; K = 2 is binary logistic regression.

    Source: C12, C13 (``logistic_least_points``, ``classes_least_points``).

    Examples
    --------
    >>> round(class_bound(2), 12)
    0.278464542761
    """
    return float(lambertw((as_count(n_classes, "n_classes", 2) - 1) / math.e).real)


def _largest_share(value: float) -> float:
    """Return the largest y in (0, 1) with h(y) = y ln((1-y)/y) = ``value``, or that of the largest h, W(1/e).

    With the margin t = ln((1-y)/y) it reads t/(1 + e^t) = v, that is (v - t) e^(v - t) = -v e^v.  The largest y is the
    smallest t, and v - t = W(-v e^v) on the principal branch of Lambert's function.
    """
    value = min(value, class_bound(2))
    # At the branch point -1/e, where it is -1, SciPy's function is not a number.
    t = value - np.fmax(-1.0, lambertw(-value * math.exp(value)).real)
    return 1.0 / (1.0 + math.exp(t))


def _least_logistic(demand: Demand, B: float) -> int:
    """Return the least n for which n·y_n >= ‖w‖/B, with y_n the largest y that has h(y) = s/n; n·y_n grows with n."""
    if demand.size == 0.0:
        return 0
    least = max(1, _ceil(demand.least_work / class_bound(2)))
    if math.isinf(B):
        return least
    X = demand.size / B * (1.0 - 8.0 * _EPS)

    def enough(n: int) -> bool:
        return n * _largest_share(demand.work / n) >= X

    low = high = least
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def logistic_points(demand: Demand, *, n_points: int | None = None, max_query: float = math.inf) -> UserDataset:
    r"""Return ``n_points`` equal points with label +1 (default: the least number), exact for logistic regression.

    Source: C12 (``logistic_least_points``); the proof is in the docstring of this module.

    Examples
    --------
    >>> demand = Demand.of([2.0, 0.0], [1.0, 1.0], nu=0.0)          # s = 2, W(1/e) = 0.278...
    >>> data = logistic_points(demand)
    >>> data.n_data, float(np.abs(missing_gradient(data, demand, Logistic())).max()) < 1e-14
    (8, True)
    """
    if not max_query > 0:
        raise AssumptionError("logistic_least_points", f"max_query = {max_query}", "it must be > 0")
    least = _least_logistic(demand, max_query)
    if demand.size == 0.0:
        return UserDataset.empty(demand.w.size)
    n = least if n_points is None else as_count(n_points, "n_points", least)
    y = _largest_share(demand.work / n)
    return UserDataset(np.tile(demand.w / (n * y), (n, 1)), np.ones(n))


# --------------------------------------------------------------------------------------------------------------
# Any of them
# --------------------------------------------------------------------------------------------------------------


def least_points(demand: Demand, loss: Loss, *, max_answer: float | None = None, max_query: float | None = None) -> int:
    """Return a number of points below which no dataset is exact; least squares and logistic regression attain it.

    For K classes it is max(1, ⌈s/W((K-1)/e)⌉), whatever the queries.

    Examples
    --------
    >>> least_points(Demand.of([2.0], [1.0], nu=0.0), Logistic())
    8
    """
    a, B = _bounds(loss, max_answer, max_query)
    if isinstance(loss, LeastSquares):
        least = _least_linear(demand, a, B)
        if demand.size > 0.0:
            _require_possible(least, demand, a)
        return least
    if isinstance(loss, Logistic):
        return _least_logistic(demand, B)
    if isinstance(loss, Multinomial):
        return 0 if demand.size == 0.0 else max(1, _ceil(demand.least_work / class_bound(loss.n_classes)))
    raise AssumptionError("thm5_single_point", f"loss {loss.name!r}", "use LeastSquares, Logistic or Multinomial")


def poison_points(
    demand: Demand, loss: Loss, *, max_answer: float | None = None, max_query: float | None = None
) -> UserDataset:
    """Return the least exact dataset of least squares or logistic regression; K classes need :func:`solvers.poison`."""
    a, B = _bounds(loss, max_answer, max_query)
    if isinstance(loss, LeastSquares):
        if math.isinf(a) and math.isinf(B):
            return one_point(demand)
        return linear_points(demand, max_answer=a, max_query=B)
    if isinstance(loss, Logistic):
        return logistic_points(demand, max_query=B)
    raise AssumptionError("thm5_single_point", f"loss {loss.name!r}", "no closed form; use LeastSquares or Logistic")


def _bounds(loss: Loss, max_answer: float | None, max_query: float | None) -> tuple[float, float]:
    if max_answer is not None and not isinstance(loss, LeastSquares):
        raise AssumptionError(
            "linear_bounded_answers", f"max_answer for the loss {loss.name!r}", "labels are given; leave it out"
        )
    B = math.inf if max_query is None else as_positive(max_query, "max_query", "linear_bounded_answers")
    if max_answer is None:
        return math.inf, B
    if not (math.isfinite(max_answer) and max_answer >= 0):
        raise AssumptionError("linear_bounded_answers", f"max_answer = {max_answer}", "it must be finite and >= 0")
    return float(max_answer), B


# --------------------------------------------------------------------------------------------------------------
# Appendix L: queries close to the indifference subspace
# --------------------------------------------------------------------------------------------------------------


def indifference_queries(
    model: Any,
    n_classes: int,
    n_points: int,
    rng: np.random.Generator,
    *,
    queries: Queries,
    noise: float,
    intercept: int | None = None,
) -> tuple[Array, Array]:
    r"""Return queries near the subspace V of equiprobable labels, and their label probabilities (eqs 180-185).

    V = {Q : Qᵀy_a = c_a for a = 1..K-1} with y_a = θ_a - θ_0 and c_a minus the difference of intercepts.  A drawn query
    is projected onto V orthogonally (the paper does it by Gram-Schmidt, which gives the same projection), and Gaussian
    noise of standard deviation ``noise`` is added.

    Parameters
    ----------
    model : (K d,) array_like
        θ_s♠.
    n_classes, n_points : int
    rng : numpy.random.Generator
    queries : Queries
        What is projected; d columns.
    noise : float, > 0
    intercept : int, optional
        The column that is constant 1, which is left alone.

    Returns
    -------
    Q : (n_points, d) array
    probabilities : (n_points, K) array
        softmax of the margins: soft labels, or what hard labels are drawn with.

    Source: Appendix L.1 (``app_l_indifference``).

    Examples
    --------
    >>> from theory.data import GaussianQueries
    >>> rng = np.random.default_rng(0)
    >>> Q, p = indifference_queries(rng.standard_normal(12), 3, 5, rng, queries=GaussianQueries(4), noise=1e-9)
    >>> bool(np.allclose(p, 1 / 3))
    True
    """
    theta = as_vector(model, "model")
    n_classes = as_count(n_classes, "n_classes", 2)
    if theta.size % n_classes:
        raise ShapeError("model", f"a multiple of {n_classes} numbers", f"{theta.size}")
    theta = theta.reshape(n_classes, theta.size // n_classes)
    noise = as_positive(noise, "noise", "app_l_indifference")
    dim = theta.shape[1]
    X = np.array(as_matrix(queries.sample(as_count(n_points, "n_points"), rng), "queries", columns=dim))
    moving = np.ones(dim, dtype=bool)
    offset = np.zeros(n_classes - 1)
    if intercept is not None:
        if not -dim <= intercept < dim:
            raise ShapeError("intercept", f"a column from 0 to {dim - 1}", repr(intercept))
        moving[intercept] = False
        X[:, intercept] = 1.0
        offset = -(theta[1:, intercept] - theta[0, intercept])
    y = theta[1:, moving] - theta[0, moving]
    # The least change that gives the residuals y·X - c the value 0; lstsq tolerates classes that coincide.
    residual = X[:, moving] @ y.T - offset
    X[:, moving] -= np.linalg.lstsq(y, residual.T, rcond=None)[0].T
    X[:, moving] += noise * rng.standard_normal((X.shape[0], int(moving.sum())))
    return frozen(X), frozen(softmax(X @ theta.T, axis=1))
