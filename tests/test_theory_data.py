"""Datasets, query distributions and the honest generators of Theorems 2 and 3.

Each statistical test counts an event whose probability p is known exactly, over n independent draws, and accepts the
counts outside which a right generator falls with probability at most FALSE_ALARM (exact binomial quantiles).  Its power
is computed too: each named falsehood moves the probability to a p' whose counts are accepted with probability at most
1e-6.  The false alarms of this file sum to at most 40 FALSE_ALARM = 4e-5.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, softmax
from scipy.stats import binom, chi2, norm

from theory import (
    CubeQueries,
    EmpiricalQueries,
    GaussianQueries,
    LeastSquares,
    Logistic,
    Multinomial,
    Queries,
    RademacherQueries,
    ShapeError,
    SphereQueries,
    UserDataset,
    honest_answers,
    honest_dataset,
)

EPS = float(np.finfo(np.float64).eps)
FALSE_ALARM = 1e-6
N = 200_000


def is_plausible(count: int, n: int, p: float) -> bool:
    """Whether a binomial count is one that a right generator misses with probability at most FALSE_ALARM."""
    return bool(binom.ppf(FALSE_ALARM / 2, n, p) <= count <= binom.isf(FALSE_ALARM / 2, n, p))


def is_told_apart(p: float, wrong: float, n: int) -> bool:
    """Whether a generator with the probability ``wrong`` is accepted with probability at most 1e-6."""
    low, high = binom.ppf(FALSE_ALARM / 2, n, p), binom.isf(FALSE_ALARM / 2, n, p)
    return bool(binom.cdf(high, n, wrong) - binom.cdf(low - 1, n, wrong) <= 1e-6)


def test_the_exact_test_can_fail() -> None:
    assert is_plausible(100_000, N, 0.5)
    assert not is_plausible(101_500, N, 0.5)
    assert not is_plausible(98_500, N, 0.5)
    assert not is_told_apart(0.5, 0.5001, N)


# Query distributions.

ARCS = float(norm.cdf(0.5))
# name: (queries, event on the rows, its probability, the probabilities under named falsehoods)
EVENTS: dict[str, tuple[Queries, Any, float, dict[str, float]]] = {
    "gaussian: an entry is below 0.5": (
        GaussianQueries(3),
        lambda Q: Q[:, 1] < 0.5,
        ARCS,
        {"standard deviation 1.1": float(norm.cdf(0.5 / 1.1)), "mean 0.05": float(norm.cdf(0.45))},
    ),
    "gaussian: two entries have one sign": (
        GaussianQueries(2),
        lambda Q: Q[:, 0] * Q[:, 1] > 0,
        0.5,
        {"correlation 0.1": 0.5 + math.asin(0.1) / math.pi},
    ),
    "cube: an entry is below a third of the half-width": (
        CubeQueries(3),
        lambda Q: Q[:, 2] < math.sqrt(3.0) / 3.0,
        2.0 / 3.0,
        {"half-width 1": (1.0 + math.sqrt(3.0) / 3.0) / 2.0, "from 0 to the half-width": 1.0 / 3.0},
    ),
    "cube: another half-width": (CubeQueries(1, 0.5), lambda Q: Q[:, 0] > 0.25, 0.25, {"half-width √3": 0.4278}),
    "rademacher: an entry is 1": (RademacherQueries(3), lambda Q: Q[:, 0] == 1.0, 0.5, {"entries 0, 1, 2": 1.0 / 3.0}),
    "rademacher: two entries agree": (
        RademacherQueries(2),
        lambda Q: Q[:, 0] == Q[:, 1],
        0.5,
        {"one sign for the whole row": 1.0},
    ),
    # In three dimensions a coordinate of the sphere is uniform (Archimedes).
    "sphere: a coordinate is above half the radius": (
        SphereQueries(3),
        lambda Q: Q[:, 0] > math.sqrt(3.0) / 2.0,
        0.25,
        {"a normalized cube": 0.2, "radius 1": 0.0},
    ),
    "sphere: in one dimension a sign": (SphereQueries(1), lambda Q: Q[:, 0] > 0, 0.5, {"absolute values": 1.0}),
    "empirical: a row of three": (
        EmpiricalQueries([[1.0], [2.0], [3.0]]),
        lambda Q: Q[:, 0] == 2.0,
        1.0 / 3.0,
        {"the last row is never drawn": 0.5},
    ),
    "successive rows are independent": (
        RademacherQueries(1),
        lambda Q: Q[::2, 0] == Q[1::2, 0],
        0.5,
        {"one row repeated": 1.0},
    ),
}


@pytest.mark.parametrize("name", EVENTS)
def test_queries_follow_their_distribution(name: str, rng: np.random.Generator) -> None:
    queries, event, p, falsehoods = EVENTS[name]
    happened = event(queries.sample(N, rng))
    assert is_plausible(int(np.sum(happened)), happened.size, p)
    for wrong in falsehoods.values():
        assert is_told_apart(p, wrong, happened.size)
        assert not is_plausible(round(wrong * happened.size), happened.size, p)


DISTRIBUTIONS: list[Queries] = [
    GaussianQueries(4),
    CubeQueries(4),
    CubeQueries(2, 0.5),
    RademacherQueries(4),
    SphereQueries(4),
    EmpiricalQueries([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]]),
]


@pytest.mark.parametrize("queries", DISTRIBUTIONS, ids=lambda queries: f"{queries.name}{queries.dim}")
def test_second_moment_is_that_of_the_samples(queries: Queries, rng: np.random.Generator) -> None:
    assert isinstance(queries, Queries)
    Q = queries.sample(N, rng)
    sigma = queries.second_moment()
    assert sigma.shape == (queries.dim, queries.dim)
    for i in range(queries.dim):
        for j in range(i, queries.dim):
            products = Q[:, i] * Q[:, j]
            # Bernstein's inequality: a product is at most ‖Q‖² in size; for Gaussian entries it is sub-exponential
            # with parameters (2, 4).
            size, variance = (4.0, 4.0) if math.isinf(queries.bound) else (queries.bound**2, queries.bound**4)
            log_term = math.log(2.0 / (FALSE_ALARM / 16.0))
            spread = math.sqrt(2.0 * variance * log_term / N) + size * log_term / N
            assert abs(float(np.mean(products)) - sigma[i, j]) <= spread
            # A Σ that is off by a fifth of its largest entry would be seen.
            assert spread < 0.2 * float(sigma.max())


def test_gaussian_lengths_are_chi_square(rng: np.random.Generator) -> None:
    total = float(np.sum(GaussianQueries(5).sample(N, rng) ** 2))
    low, high = chi2.ppf(FALSE_ALARM / 2, 5 * N), chi2.isf(FALSE_ALARM / 2, 5 * N)
    assert low <= total <= high
    # A deviation of 1.01 would be seen: it moves the sum by 2 %, farther than any two accepted sums are apart.
    assert high - low < (1.01**2 - 1.0) * 5 * N


@pytest.mark.parametrize("queries", DISTRIBUTIONS, ids=lambda queries: f"{queries.name}{queries.dim}")
def test_bound_holds_and_is_reached(queries: Queries, rng: np.random.Generator) -> None:
    lengths = np.linalg.norm(queries.sample(N, rng), axis=1)
    if math.isinf(queries.bound):
        # Unbounded: beyond any sphere that a bounded distribution of Σ = I would keep to.
        assert lengths.max() > 2.0 * math.sqrt(queries.dim)
        return
    assert lengths.max() <= queries.bound * (1.0 + 4.0 * EPS)
    assert lengths.max() >= 0.9 * queries.bound


def test_sphere_queries_all_have_one_length(rng: np.random.Generator) -> None:
    lengths = np.linalg.norm(SphereQueries(7).sample(1000, rng), axis=1)
    np.testing.assert_allclose(lengths, math.sqrt(7.0), rtol=8 * EPS)


@pytest.mark.parametrize("queries", DISTRIBUTIONS, ids=lambda queries: f"{queries.name}{queries.dim}")
def test_samples_have_the_asked_shape_and_follow_the_generator(queries: Queries) -> None:
    for n in (0, 1, 5):
        assert queries.sample(n, np.random.default_rng(1)).shape == (n, queries.dim)
    first, again, other = (queries.sample(50, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


# Honest answers.


def test_linear_answers_have_gaussian_noise(rng: np.random.Generator) -> None:
    Q = np.tile([[2.0, -1.0]], (N, 1))
    A = honest_answers(Q, [1.0, 3.0], LeastSquares(), rng, noise=0.3)
    count = int(np.sum(A + 1.0 < 0.15))
    p = float(norm.cdf(0.5))
    assert is_plausible(count, N, p)
    # The variance in place of the deviation, and the other way round, and no scale at all.
    for wrong in (norm.cdf(0.15 / 0.09), norm.cdf(0.15 / math.sqrt(0.3)), norm.cdf(0.15)):
        assert is_told_apart(p, float(wrong), N)
    noise = A + 1.0
    assert is_plausible(int(np.sum(noise[::2] * noise[1::2] > 0)), N // 2, 0.5)


def test_linear_answers_without_noise_are_exact(rng: np.random.Generator) -> None:
    Q = rng.standard_normal((20, 3))
    np.testing.assert_array_equal(
        honest_answers(Q, [1.0, 2.0, 3.0], LeastSquares(), rng, noise=0.0), Q @ [1.0, 2.0, 3.0]
    )


@pytest.mark.parametrize("margin", [-2.0, 0.0, 0.3])
def test_logistic_answers_have_the_probability_of_theorem_3(margin: float, rng: np.random.Generator) -> None:
    A = honest_answers(np.full((N, 1), margin), [1.0], Logistic(), rng)
    assert set(np.unique(A)) <= {-1.0, 1.0}
    p = float(expit(margin))
    assert is_plausible(int(np.sum(A == 1.0)), N, p)
    if margin != 0.0:
        for wrong in (expit(-margin), expit(2.0 * margin), norm.cdf(margin)):
            # The opposite label, labels of ±1/2, and a probit.
            assert is_told_apart(p, float(wrong), N)


def test_logistic_answers_at_extreme_margins_are_sure(rng: np.random.Generator) -> None:
    A = honest_answers([[1e4], [-1e4]], [1.0], Logistic(), rng)
    np.testing.assert_array_equal(A, [1.0, -1.0])


class _Lowest:
    """A generator whose uniform draws are all the least that can be drawn, 0."""

    def random(self, size: Any) -> np.ndarray:
        return np.zeros(size)


def test_an_answer_of_probability_0_is_never_given() -> None:
    # σ(-10⁴) and exp(-10⁴) are 0 in float64; a draw of exactly 0, which may happen, is not below them.
    lowest: Any = _Lowest()
    assert honest_answers([[-1e4], [1e4]], [1.0], Logistic(), lowest).tolist() == [-1.0, 1.0]
    assert honest_answers([[1.0]], [-1e4, 0.0, -1e4], Multinomial(3), lowest).tolist() == [1.0]
    # The last class has what is left.
    assert honest_answers([[1.0]], [-1e4, -1e4, 0.0], Multinomial(3), lowest).tolist() == [2.0]


def test_class_answers_have_softmax_probabilities(rng: np.random.Generator) -> None:
    theta = np.array([0.0, 0.5, -1.0, 0.2])
    A = honest_answers(np.ones((N, 1)), theta, Multinomial(4), rng)
    p = softmax(theta)
    for k in range(4):
        assert is_plausible(int(np.sum(A == k)), N, float(p[k]))
        # Classes that are shifted by one, or uniform, are told apart.
        assert is_told_apart(float(p[k]), float(p[(k + 1) % 4]), N)
        assert is_told_apart(float(p[k]), 0.25, N)
    assert set(np.unique(A)) <= {0.0, 1.0, 2.0, 3.0}


def test_class_answers_read_models_as_rows_of_classes(rng: np.random.Generator) -> None:
    # Class 1 has the second row of the (K, d) matrix; read by columns, class 0 would win.
    theta = np.array([[0.0, 0.0], [100.0, 100.0], [0.0, 0.0]]).ravel()
    np.testing.assert_array_equal(honest_answers([[1.0, 0.5]] * 5, theta, Multinomial(3), rng), np.ones(5))


@pytest.mark.parametrize("loss", [LeastSquares(), Logistic(), Multinomial(3)], ids=lambda loss: loss.name)
@pytest.mark.parametrize("n_data", [0, 1, 6])
def test_honest_datasets_are_reproducible(loss: Any, n_data: int) -> None:
    theta = np.linspace(-1.0, 1.0, 2 * loss.n_outputs)
    first, again = (honest_dataset(GaussianQueries(2), theta, n_data, loss, np.random.default_rng(3)) for _ in range(2))
    assert (first.n_data, first.dim) == (n_data, 2)
    np.testing.assert_array_equal(first.Q, again.Q)
    np.testing.assert_array_equal(first.A, again.A)


def test_drawing_leaves_the_rows_of_a_data_set_alone(rng: np.random.Generator) -> None:
    rows = np.arange(6.0).reshape(3, 2)
    queries = EmpiricalQueries(rows)
    rows[0, 0] = 100.0
    assert queries.rows[0, 0] == 0.0
    honest_dataset(queries, [1.0, 1.0], 10, LeastSquares(), rng)
    np.testing.assert_array_equal(queries.rows, np.arange(6.0).reshape(3, 2))


def test_honest_answers_refuse_another_loss(rng: np.random.Generator) -> None:
    class Other:
        n_outputs = 1

    with pytest.raises(ShapeError, match="loss: expected LeastSquares, Logistic or Multinomial"):
        honest_answers(np.ones((2, 1)), [1.0], Other(), rng)  # type: ignore[arg-type]


# Datasets.


def test_dataset_keeps_its_own_read_only_arrays() -> None:
    Q, A = np.ones((2, 3)), np.zeros(2)
    user = UserDataset(Q, A)
    Q[0, 0], A[0] = 5.0, 5.0
    assert user.Q[0, 0] == 1.0
    assert user.A[0] == 0.0
    for array in (user.Q, user.A):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


def test_dataset_accepts_what_arrays_are_made_of() -> None:
    assert UserDataset([[1, 2], [3, 4]], [True, False]).Q.dtype == np.float64
    assert UserDataset(np.ones((2, 2), dtype=np.float32), np.arange(2)).A.dtype == np.float64
    assert UserDataset(np.asfortranarray(np.ones((4, 3))), np.ones((4, 2))).A.shape == (4, 2)
    assert repr(UserDataset.empty(4)) == "UserDataset(n_data=0, dim=4)"
