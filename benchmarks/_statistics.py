"""Intervals and slopes that the benchmarks report."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from theory import ShapeError
from theory.arrays import Array, as_count, as_matrix, as_vector

#: Fewer replicates than this say too little about their own spread for a bootstrap interval.
LEAST_REPLICATES = 10

_CHUNK = 200


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    r"""Return the exact (Clopper-Pearson) interval for a probability.

    The lower end is the p with :math:`P[\mathrm{Bin}(n, p) \ge k] = (1 - level)/2`, the upper end the p with
    :math:`P[\mathrm{Bin}(n, p) \le k] = (1 - level)/2`; they are 0 for k = 0 and 1 for k = n.  The interval covers p
    with probability at least ``level``, for every p and n.

    Examples
    --------
    >>> low, high = clopper_pearson(0, 10)
    >>> low, round(high, 4)
    (0.0, 0.3085)
    """
    n = as_count(trials, "trials", 1)
    k = as_count(successes, "successes")
    if k > n:
        raise ShapeError("successes", f"at most trials = {n}", str(k))
    tail = (1.0 - level) / 2.0
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1.0 - tail))
    return low, high


@dataclass(frozen=True)
class Slope:
    """The exponent of a power law fitted to medians.

    ``low`` and ``high`` are None where there are too few replicates for an interval, and all three where a median is
    not positive (its logarithm does not exist).
    """

    value: float | None
    low: float | None
    high: float | None


def fit_slope(
    sizes: Array, errors: Array, rng: np.random.Generator, *, level: float = 0.95, n_resamples: int = 2000
) -> Slope:
    r"""Fit the slope b of :math:`\log\operatorname{median}(e_{\mathcal I}) = a + b\log\mathcal I`, with its interval.

    Least squares over the sizes.  The interval is the percentile bootstrap over replicates: a replicate is drawn with
    all its sizes, so errors of one replicate may depend on each other (nested samples do).

    Parameters
    ----------
    sizes : (K,) array_like, > 0, K >= 2
    errors : (R, K) array_like
        One row for each replicate.
    rng : numpy.random.Generator
        Draws the bootstrap samples.
    level : float
    n_resamples : int

    Examples
    --------
    >>> sizes = np.array([10.0, 100.0, 1000.0])
    >>> errors = np.tile(3.0 / np.sqrt(sizes), (20, 1))
    >>> round(fit_slope(sizes, errors, np.random.default_rng(0)).value, 12)
    -0.5
    """
    x = np.log(as_vector(sizes, "sizes"))
    values = as_matrix(errors, "errors", columns=x.size)
    if x.size < 2:
        raise ShapeError("sizes", "at least two", str(x.size))
    weights = (x - x.mean()) / np.sum((x - x.mean()) ** 2)

    def slopes(medians: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(medians) @ weights

    value = float(slopes(np.median(values, axis=0)))
    if not math.isfinite(value):
        return Slope(None, None, None)
    n = values.shape[0]
    if n < LEAST_REPLICATES:
        return Slope(value, None, None)
    resampled = np.concatenate(
        [
            slopes(np.median(values[rng.integers(0, n, (min(_CHUNK, n_resamples - start), n))], axis=1))
            for start in range(0, n_resamples, _CHUNK)
        ]
    )
    if not np.isfinite(resampled).all():
        return Slope(value, None, None)
    low, high = np.quantile(resampled, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Slope(value, float(low), float(high))
