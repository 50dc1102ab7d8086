"""Double entry: constants, bounds and small decisions of ``theory`` computed a second time, or on cases done by hand.

Each guards against the falsehood that a factor, a sign, a term or a boundary case of the formula is another one.
"""

from __future__ import annotations

import hashlib
import math
import pickle
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from scipy.special import gammainc
from scipy.stats import chi2, norm

from theory import (
    L2,
    AssumptionError,
    BallQueries,
    CounterGradient,
    CounterGradientLocal,
    CubeQueries,
    EmpiricalQueries,
    GaussianQueries,
    LeastSquares,
    Logistic,
    Multinomial,
    Problem,
    RademacherQueries,
    ShapeError,
    SmoothL2,
    SolverError,
    SphereQueries,
    SquaredL2,
    UserDataset,
    contract_violations,
    dynamics,
    gradient_pac_constants,
    guaranteed_error,
    honest_answers,
    honest_dataset,
    impossibility,
    learners,
    pac_lemmas,
    paper_constants,
    poisoning,
    rational,
    refute_byzantine,
    reported_model_from_gradient,
    sample_size,
    sequential,
    sphere,
)
from theory.arrays import Array, as_array
from theory.attacks import View
from theory.concentration import (
    Spectrum,
    candidate_radii,
    chernoff_exponent,
    gram_bounds,
    largest_gram_factor,
    least_gram_factor,
    noise_bound,
    trace_bound,
    truncated_second_moment,
)
from theory.expectation import averaged, expectation_error
from theory.losses import local_gradient
from theory.pac_constants import PacConstants, UserBounds, event_probability, least_mean_projection, reference_loss
from theory.poisoning import Demand
from theory.reach import OutOfReachError, displacement_bound, distance_behind, distance_to_reach

U = 2.0**-53


def approx(expected: Any, *, rel: float = 1e-6, abs: float = 0.0) -> Any:  # noqa: A002
    """Relative to what is expected, however small: pytest adds 1e-12, which is more than most bounds on rounding."""
    return pytest.approx(expected, rel=rel, abs=abs)


def rounding_of(n: float) -> float:
    return n * U / (1.0 - n * U)


# ------------------------------------------------------------------------------------------------------------- sphere


def test_the_relative_error_of_many_roundings() -> None:
    assert sphere.gamma(1.0) == U / (1.0 - U)
    assert sphere.gamma(2.0**52) == 1.0
    assert sphere.gamma(0.0) == 0.0


def test_no_bound_is_claimed_below_data_that_overflow() -> None:
    with np.errstate(over="ignore"):
        assert sphere._certified_low(np.array([[1e308, 0.0], [0.0, 1e308]]), np.zeros(2), 0.0, 0.0) == -math.inf
    # A value above the minimum is proved by no shift.
    assert sphere._certified_low(np.diag([1.0, 2.0]), np.zeros(2), 1.0, 5.0) < -1e-3 or math.isinf(
        sphere._certified_low(np.diag([1.0, 2.0]), np.zeros(2), 1.0, 5.0)
    )


# ----------------------------------------------------------------------------------------------------------- rational


def test_integers_of_floats_have_the_least_shift() -> None:
    def found(values: list[float]) -> tuple[list[int], int]:
        n, k = rational.integers(np.array(values))
        return n.tolist(), k

    assert found([0.0, 0.0]) == ([0, 0], 0)
    assert found([0.0, 0.25, 3.0]) == ([0, 1, 12], 2)
    assert found([4.0, 8.0]) == ([4, 8], 0)
    assert found([2.0**-60, 1.0]) == ([1, 2**60], 60)
    assert found([2.0**70]) == ([2**70], 0)
    assert found([-0.75]) == ([-3], 2)
    assert found([]) == ([], 0)
    # The least and the largest float.
    assert found([-(2.0**-1074), 1.0]) == ([-1, 2**1074], 1074)
    assert found([float.fromhex("0x1.fffffffffffffp+1023")]) == ([(2**53 - 1) << 971], 0)


def test_powers_are_enclosed_as_narrowly_as_promised() -> None:
    for base, exponent in [
        (2, Fraction(1, 2)),
        (10, Fraction(7, 3)),
        (3, Fraction(-5, 4)),
        (7, Fraction(1, 2048)),
        (10**300 + 1, Fraction(99, 7)),
        (10**100 + 1, Fraction(10**6, 7**6)),
    ]:
        found = rational.power(base, exponent)
        q = exponent.denominator
        if q < 100:
            assert found.low**q < Fraction(base) ** exponent.numerator < found.high**q
        middle = (found.low + found.high) / 2
        # The error is 10^-80 of the value, and nothing else that counts.
        assert (found.high - found.low) / middle / 2 == approx(Fraction(1, 10**80), rel=1e-6)
        # The value that it is about has ten digits more, as far as roundings of the exponent p·ln(base) leave them:
        # of p, of ln(base) and of their product by half a unit in the 90th digit each, and of the power once.
        with mp.workdps(200):
            exact = mp.mpf(base) ** (mp.mpf(exponent.numerator) / q)
            error = abs(mp.mpf(middle.numerator) / middle.denominator / exact - 1)
            roundings = 1.5 * abs(float(exponent) * math.log(base)) + 0.5
            assert error <= roundings * mp.mpf(10) ** -89
    tiny = rational.power(10, Fraction(-4001, 2))
    assert tiny.low < 0 < tiny.high
    assert float((tiny.high - tiny.low) / 2 * 10**1000) == approx(1.0, rel=1e-6)


def test_powers_that_are_rational_are_exact_up_to_the_largest_root() -> None:
    def exact(base: int, exponent: Fraction) -> Fraction:
        found = rational.power(base, exponent)
        assert found.low == found.high
        return found.low

    assert exact(2**1024, Fraction(3, 1024)) == 8
    assert exact(27, Fraction(-2, 3)) == Fraction(1, 9)
    assert exact(0, Fraction(1, 2)) == 0
    assert exact(0, Fraction(0)) == 1
    assert exact(1, Fraction(-7, 5)) == 1
    # Exponents that are floats: the denominator of 0.1 is 2^55, and a power of 2 so high does not fit in any memory.
    assert exact(1, Fraction(0.1)) == 1
    assert exact(0, Fraction(0.1)) == 0
    assert exact(5, Fraction(-2)) == Fraction(1, 25)
    # Beyond the largest root an enclosure is given, not a search.
    wide = rational.power(2**1025, Fraction(1, 1025))
    assert wide.low < 2 < wide.high
    for negative in (Fraction(-1, 2), Fraction(-3), Fraction(-0.1)):
        with pytest.raises(ZeroDivisionError):
            rational.power(0, negative)


def test_integer_roots_are_the_largest_that_fit() -> None:
    for value in [0, 1, 2, 3, 7, 8, 9, 26, 27, 10**30, 10**30 - 1, 2**64, 2**64 - 1]:
        for order in (1, 2, 3, 5, 64):
            root = rational._integer_root(value, order)
            assert root**order <= value < (root + 1) ** order


def test_square_roots_are_exact_or_enclosed_to_300_bits() -> None:
    def exact(value: Fraction) -> Fraction:
        found = rational.square_root(value)
        assert found.low == found.high
        return found.low

    assert exact(Fraction(0)) == 0
    assert exact(Fraction(16, 25)) == Fraction(4, 5)
    # A square above or below only, or neither; 2 and 4 where twice and the square agree.
    for value in [
        Fraction(4, 3),
        Fraction(3, 4),
        Fraction(2),
        Fraction(2, 5),
        Fraction(10**40 + 1),
        Fraction(1, 10**300 + 7),
    ]:
        found = rational.square_root(value)
        assert found.low**2 < value < found.high**2
        assert (found.high - found.low) * 2**298 < found.high
        # And no more are computed, but where the integers themselves have more.
        assert found.high <= (found.high - found.low) * (2**301 if value.denominator < 10**300 else 2**499)
    huge = Fraction(10**400 + 1)
    found = rational.square_root(huge)
    assert found.high - found.low == 1


def test_the_exact_quadratic_model_without_data() -> None:
    H, g = rational.least_squares_model(np.zeros((0, 2)), np.zeros(0), np.array([1.5, -2.0]), 0.25)
    assert H.tolist() == [[Fraction(1, 2), 0], [0, Fraction(1, 2)]]
    assert g.tolist() == [Fraction(3, 4), -1]
    assert rational.Enclosure(Fraction(1), Fraction(2)).scaled(Fraction(3)) == rational.Enclosure(
        Fraction(3), Fraction(6)
    )


def test_semidefiniteness_by_fraction_free_elimination(rng: np.random.Generator) -> None:
    def decided(rows: Any) -> bool:
        return rational.is_positive_semidefinite(np.array([[Fraction(x) for x in row] for row in rows], dtype=object))

    assert rational.is_positive_semidefinite(np.zeros((0, 0), dtype=object))
    assert decided([[Fraction(1, 3), Fraction(1, 7)], [Fraction(1, 7), Fraction(3, 49)]])
    assert not decided([[Fraction(1, 3), Fraction(1, 7)], [Fraction(1, 7), Fraction(3, 50)]])
    assert not decided([[1, 0, 0], [0, 0, 1], [0, 1, 5]])
    assert decided([[1, 0, 0], [0, 0, 0], [0, 0, 5]])
    assert not decided([[1, 0, 0], [0, 0, 0], [0, 0, -1]])
    for rank in (1, 2, 3, 4):
        half = rng.integers(-3, 4, (4, rank))
        gram = half @ half.T
        assert decided(gram.tolist())
        lower = gram.astype(object)
        # Less than semidefinite along the last null direction or eigenvector: one diagonal entry lowered.
        lower[3, 3] = Fraction(int(gram[3, 3])) - Fraction(int(np.sum(half**2)) + 1)
        assert decided(lower.tolist()) is False


# ------------------------------------------------------------------------------------------------------ concentration


def test_gram_factors_solve_chernoff_s_equation() -> None:
    for n, eigenvalue, bound, dim, delta in [(500, 0.7, 1.6, 3, 0.05), (90, 2.0, 2.0, 1, 0.3), (40, 1.0, 1.5, 7, 0.9)]:
        needed = math.log(dim / delta) * bound**2 / (n * eigenvalue)
        low = least_gram_factor(n, eigenvalue, bound, dim, delta)
        high = largest_gram_factor(n, eigenvalue, bound, dim, delta)
        assert chernoff_exponent(low - 1.0) == approx(needed, rel=1e-9)
        assert chernoff_exponent(high - 1.0) == approx(needed, rel=1e-9)
        assert 0.0 < low < 1.0 < high
    # Few data: nothing is known from below, and a bound far above n λ_max from above.
    assert least_gram_factor(2, 1.0, 2.0, 3, 0.1) == 0.0
    far = largest_gram_factor(2, 1.0, 2.0, 3, 0.001)
    assert chernoff_exponent(far - 1.0) == approx(math.log(3000.0) * 2.0, rel=1e-9)
    assert least_gram_factor(0, 1.0, 1.0, 1, 0.1) == 0.0
    assert largest_gram_factor(0, 1.0, 1.0, 1, 0.1) == math.inf
    # needed = 1 exactly: k(-1) = 1, so the factor would be 0.
    assert least_gram_factor(1, 1.0, 1.0, 1, math.exp(-1.0)) == approx(0.0, abs=1e-12)
    assert chernoff_exponent(1.0) == approx(2.0 * math.log(2.0) - 1.0, rel=1e-15)
    assert chernoff_exponent(-0.5) == approx(0.5 * math.log(0.5) + 0.5, rel=1e-15)


def test_gaussian_and_bounded_bounds_are_those_of_the_table() -> None:
    n, d, delta = 400, 3, 0.02
    spread = math.sqrt(d) + math.sqrt(2.0 * math.log(1.0 / delta))
    low, high = gram_bounds(GaussianQueries(d), n, delta)
    assert low == approx((20.0 - spread) ** 2, rel=1e-14)
    assert high == approx((20.0 + spread) ** 2, rel=1e-14)
    assert gram_bounds(GaussianQueries(d), 4, delta)[0] == 0.0
    queries = CubeQueries(2, 3.0)
    low, high = gram_bounds(queries, n, delta)
    assert low == approx(least_gram_factor(n, 3.0, 3.0 * math.sqrt(2.0), 2, delta) * n * 3.0, rel=1e-14)
    assert high == approx(largest_gram_factor(n, 3.0, 3.0 * math.sqrt(2.0), 2, delta) * n * 3.0, rel=1e-14)
    x = math.log(1.0 / delta)
    assert trace_bound(GaussianQueries(d), n, delta) == approx(1200 + 2 * math.sqrt(1200 * x) + 2 * x, rel=1e-14)
    assert trace_bound(queries, n, delta) == approx(n * 18.0, rel=1e-14)
    for any_queries in (queries, GaussianQueries(d)):
        part = delta / 3.0
        T = trace_bound(any_queries, n, part)
        L, x = min(gram_bounds(any_queries, n, part)[1], T), math.log(1.0 / part)
        expected = 1.7 * math.sqrt(T + 2.0 * math.sqrt(T * L * x) + 2.0 * L * x)
        assert noise_bound(any_queries, n, 1.7, delta) == approx(expected, rel=1e-14)
    # With few data the bound on λ_max is above the trace, which is then used.
    part, few = 0.1 / 3.0, RademacherQueries(1)
    assert gram_bounds(few, 4, part)[1] > 4.0
    x = math.log(1.0 / part)
    assert noise_bound(few, 4, 1.0, 0.1) == approx(math.sqrt(4.0 + 2.0 * 4.0 * math.sqrt(x) + 8.0 * x), rel=1e-14)

    class Unbounded:
        dim, bound, name = 2, math.inf, "unbounded"

        def sample(self, n: int, rng: np.random.Generator) -> Array:
            return rng.standard_normal((n, 2))

        def second_moment(self) -> Array:
            return np.eye(2)

    with pytest.raises(AssumptionError, match="unbounded"):
        gram_bounds(Unbounded(), n, delta)


def test_truncated_moments_are_exact() -> None:
    # Gaussian: E[Q_1² 1{‖Q‖ <= R}] = P(χ²_{d+2} <= R²).
    for d, R in [(1, 0.7), (3, 2.0), (5, 1.0)]:
        assert truncated_second_moment(GaussianQueries(d), R) == approx(float(chi2(d + 2).cdf(R**2)), rel=1e-12)
        assert truncated_second_moment(GaussianQueries(d), R) == float(gammainc(0.5 * d + 1.0, 0.5 * R * R))
    # In d = 1 the ball is uniform on [-√3, √3]: E[Q² 1{|Q| <= R}] = R³/(3√3).
    assert truncated_second_moment(BallQueries(1), 1.0) == approx(1.0 / (3.0 * math.sqrt(3.0)), rel=1e-14)
    assert truncated_second_moment(BallQueries(2), 1.0) == approx(1.0 / 16.0, rel=1e-14)
    rows = EmpiricalQueries(np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]]))
    assert truncated_second_moment(rows, 2.0) == approx(1.0 / 3.0, rel=1e-14)
    assert truncated_second_moment(rows, 1.5) == 0.0
    assert truncated_second_moment(rows, 5.0) == approx(Spectrum.of(rows).low, rel=1e-14)
    assert truncated_second_moment(CubeQueries(2), 1.0) == 0.0
    assert truncated_second_moment(CubeQueries(2, 3.0), CubeQueries(2, 3.0).bound) == approx(3.0)


def test_radii_that_are_tried() -> None:
    gaussian = candidate_radii(GaussianQueries(7))
    assert gaussian == approx(3.0 * (0.3 + 0.05 * np.arange(55)), rel=1e-12)
    ball = candidate_radii(BallQueries(7))
    assert ball == approx(3.0 * (0.3 + 0.02 * np.arange(36)), rel=1e-12)
    rows = EmpiricalQueries(np.arange(1.0, 22.0)[:, None])
    assert candidate_radii(rows) == approx(1.0 + 20.0 * np.arange(0.1, 1.01, 0.05), rel=1e-12)
    assert candidate_radii(RademacherQueries(4)).tolist() == [2.0]


def test_the_spectrum_of_queries() -> None:
    rows = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    found = Spectrum.of(EmpiricalQueries(rows))
    assert (found.dim, found.low, found.high, found.trace, found.bound) == (2, 0.5, 1.0, 1.5, 2.0)
    # Positive definite up to d units in the last place, relative to the largest eigenvalue.
    for scale in (1e-6, 1.0, 1e6):
        edge = EmpiricalQueries(scale * np.array([[1.0, 0.0], [0.0, 1e-9]]))
        with pytest.raises(AssumptionError, match="positive definite"):
            Spectrum.of(edge)
        assert Spectrum.of(EmpiricalQueries(scale * np.array([[1.0, 0.0], [0.0, 1e-7]]))).low > 0


# -------------------------------------------------------------------------------------------------- constants of PAC*


def slope(m: float, x: float) -> float:
    return float((norm_sigma(m + x) - norm_sigma(m)) / x)


def norm_sigma(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def test_constants_of_the_paper_are_those_of_its_proofs() -> None:
    queries, K, B, nu = CubeQueries(3, 2.0), 0.4, 1.5, 0.25
    found = paper_constants(queries, Logistic(), K, B=B, nu=nu)
    M, low, C0 = 2.0 * math.sqrt(3.0), 4.0 / 3.0, 2.0 / 3.0
    C = C0 / 4.0
    d_K = norm_sigma(M * K + 1.0) - norm_sigma(M * K)
    g_K = (4.0 / C + K) * M
    c_K = norm_sigma(g_K) * norm_sigma(-g_K)
    assert found.A == approx(min(0.5 * low * c_K, d_K * C / 4.0), rel=1e-12)
    assert (found.B, found.alpha, found.radius) == (1.5 + 2.0 * 0.25 * 0.4, 0.75, math.inf)
    linear = paper_constants(queries, LeastSquares(), K, B=B, nu=nu)
    assert linear.A == approx(0.5 * low, rel=1e-15)
    assert (linear.B, linear.alpha, linear.radius) == (found.B, 0.75, math.inf)
    assert paper_constants(queries, LeastSquares(), K).B == 1.0
    with pytest.raises(AssumptionError, match="bounded support"):
        paper_constants(GaussianQueries(2), Logistic(), K)
    with pytest.raises(AssumptionError, match="loss"):
        paper_constants(queries, Multinomial(3), K)


def test_the_smaller_constant_of_the_paper_is_taken() -> None:
    # Tiny queries of one dimension: e_K is the smaller one; the usual case is c_K λ_min/2.
    tiny = RademacherQueries(1)
    found = paper_constants(tiny, Logistic(), 0.0)
    C = 0.25
    g = 4.0 / C
    assert found.A == approx(0.5 * norm_sigma(g) * norm_sigma(-g), rel=1e-9)
    # Only where λ_min exceeds M by far is d_K C/4 the smaller one: C₀ = λ_min/M = 1e7, g_0 = 16.
    wide = EmpiricalQueries(np.full((1, 1), 1e7))
    assert paper_constants(wide, Logistic(), 0.0).A == approx((norm_sigma(1.0) - 0.5) * 1e7 / 16.0, rel=1e-12)


def test_mean_projections() -> None:
    assert least_mean_projection(GaussianQueries(4)) == approx(math.sqrt(2.0 / math.pi), rel=1e-15)
    # d = 2 on the circle of radius √2: E|cos| = 2/π; d = 3: 1/2.
    assert least_mean_projection(SphereQueries(2)) == approx(math.sqrt(2.0) * 2.0 / math.pi, rel=1e-12)
    assert least_mean_projection(SphereQueries(3)) == approx(math.sqrt(3.0) / 2.0, rel=1e-12)
    # A ball: the mean radius is d/(d+1) of the bound √(d+2).
    assert least_mean_projection(BallQueries(3)) == approx(math.sqrt(5.0) * 0.75 * 0.5, rel=1e-12)
    assert least_mean_projection(BallQueries(1)) == approx(math.sqrt(3.0) / 2.0, rel=1e-12)
    assert least_mean_projection(RademacherQueries(1)) == 1.0
    assert least_mean_projection(RademacherQueries(2)) == math.sqrt(0.5)
    assert least_mean_projection(CubeQueries(5, 3.0)) == 1.0
    rows = EmpiricalQueries(np.array([[2.0, 0.0], [0.0, 1.0]]))
    assert least_mean_projection(rows) == approx(0.5 / 2.0, rel=1e-14)


def test_constants_maximize_over_the_radii() -> None:
    queries, K = BallQueries(2), 0.7
    found = gradient_pac_constants(queries, Logistic(), K, B=2.0, alpha=0.6)
    values = {
        float(R): slope(R * K, R) * (R / 2.0) ** 4 for R in 2.0 * np.linspace(0.3, 1.0, 36)
    }  # M = 2, and the truncated moment is (R/M)^{d+2}
    assert found.A == approx(max(values.values()), rel=1e-10)
    assert found.radius == approx(max(values, key=lambda R: values[R]), rel=1e-12)
    assert (found.B, found.alpha) == (2.0, 0.6)
    default = gradient_pac_constants(CubeQueries(2, 3.0), LeastSquares(), K)
    assert default.A == approx(3.0)
    assert (default.B, default.alpha, default.radius) == (1.0, 0.75, math.inf)


def test_bounds_of_one_user_split_the_probability() -> None:
    queries, n, delta, K, nu = CubeQueries(2, 2.0), 4000, 0.1, 0.5, 0.25
    linear = UserBounds.of(queries, LeastSquares(), n, delta, K, nu, 1.5, 9.0)
    assert linear.noise == approx(noise_bound(queries, n, 1.5, 0.05) + 2.0 * nu * K, rel=1e-14)
    assert linear.gram == approx(gram_bounds(queries, n, 0.05)[0], rel=1e-14)
    assert (linear.radius, linear.norm) == (math.inf, K)
    assert linear.slope(0.3) == linear.gram
    logistic = UserBounds.of(queries, Logistic(), n, delta, K, nu, 1.5, 9.0)
    M = 2.0 * math.sqrt(2.0)
    assert logistic.noise == approx(noise_bound(queries, n, 0.5, 0.05) + 2.0 * nu * K, rel=1e-14)
    assert (logistic.radius, logistic.norm) == (M, K)
    assert logistic.gram == approx(least_gram_factor(n, 4.0 / 3.0, M, 2, 0.05) * n * 4.0 / 3.0, rel=1e-12)
    assert logistic.slope(0.5) == approx(logistic.gram * slope(M * K, M * 0.5), rel=1e-12)
    # Within a radius below the bound: the truncated moment.
    ball = UserBounds.of(BallQueries(2), Logistic(), n, delta, K, nu, 1.5, 1.5)
    assert ball.radius == 1.5
    moment = (1.5 / 2.0) ** 4
    assert ball.gram == approx(least_gram_factor(n, moment, 1.5, 2, 0.05) * n * moment, rel=1e-12)
    # Nothing is known where no mass is within the radius.
    assert UserBounds.of(queries, Logistic(), n, delta, K, nu, 1.5, 1.0).gram == 0.0


def test_the_error_that_bounds_of_a_user_give() -> None:
    linear = UserBounds(gram=50.0, noise=3.0, radius=math.inf, norm=0.0)
    assert linear.error(2.0, 5.0) == approx(5.0 / 60.0, rel=1e-15)
    assert linear.error(200.0, 0.0) == approx(203.0 / 50.0, rel=1e-15)
    logistic = UserBounds(gram=500.0, noise=3.0, radius=2.0, norm=0.5)
    assert logistic.error(2.0, 5.0) < 5.0 / (500.0 * slope(1.0, 2.0) + 10.0)
    # A fixed point of t = (E + G)/(a(t) + 2ν).
    t = logistic.error(2.0, 5.0)
    assert t == approx(5.0 / (500.0 * slope(1.0, 2.0 * t) + 10.0), rel=1e-9)
    assert UserBounds(gram=500.0, noise=3.0, radius=2.0, norm=0.5).error(500.0, 0.0) == math.inf


def test_the_probability_of_the_event_is_the_largest_that_is_proved() -> None:
    queries, constants, n = RademacherQueries(2), PacConstants(0.5, 1.2, 0.75, math.inf), 600
    probability = event_probability(queries, LeastSquares(), n, constants, 0.5, nu=0.1, noise=0.8)
    assert 0.5 < probability < 1.0 - 1e-9

    def proved(delta: float) -> bool:
        user = UserBounds.of(queries, LeastSquares(), n, delta, 0.5, 0.1, 0.8, math.inf)
        return user.slope(1.0) >= 0.5 * n and 1.2 * n**0.75 >= user.noise

    delta = 1.0 - probability
    assert proved(delta * 1.001)
    assert not proved(delta * 0.999)
    assert event_probability(queries, LeastSquares(), 3, constants, 0.5) == 0.0
    # Each of the two conditions alone can be what fails.
    assert event_probability(queries, LeastSquares(), n, PacConstants(1.5, 9.0, 0.75, math.inf), 0.5) == 0.0
    assert event_probability(queries, LeastSquares(), n, PacConstants(0.5, 1e-3, 0.75, math.inf), 0.5) == 0.0
    assert event_probability(queries, LeastSquares(), 10**6, constants, 0.5) == 1.0


def test_the_guaranteed_error_joins_the_bounds_of_all_honest_users() -> None:
    queries, n, delta, nu = RademacherQueries(2), 20_000, 0.1, 0.05
    models = [[1.0, 0.0], [0.0, -0.5]]
    users = [UserBounds.of(queries, LeastSquares(), n, 0.05, K, nu, 0.7, math.inf) for K in (1.0, 0.5)]
    options: dict[str, Any] = {"n_data": n, "delta": delta, "nu": nu, "noise": 0.7}
    found = guaranteed_error(queries, LeastSquares(), L2(3.0), models, **options)
    assert found.force == 3.0
    assert found.curvature == approx(users[0].gram, rel=1e-14)
    assert found.noise == approx(max(user.noise for user in users), rel=1e-14)
    assert found.error == approx(max(user.error(3.0, nu) for user in users), rel=1e-14)
    others = [UserDataset([[1.0, 2.0]], [3.0])]
    squared = guaranteed_error(queries, LeastSquares(), SquaredL2(2.0), models, **options, others=others)
    excess = reference_loss(np.array(models), others, LeastSquares(), SquaredL2(2.0), nu)
    excess += sum(user.noise**2 / (2.0 * user.gram) for user in users)
    assert squared.force == approx(2.0 * math.sqrt(2.0 * excess), rel=1e-12)
    assert guaranteed_error(queries, LeastSquares(), L2(3.0), models, n_data=20, delta=delta).error == math.inf
    for wrong in (0.0, 1.0, 1.5):
        with pytest.raises(AssumptionError, match="delta"):
            guaranteed_error(queries, LeastSquares(), L2(3.0), models, n_data=20, delta=wrong)


def test_the_sample_size_is_the_least_that_is_proved() -> None:
    options: dict[str, Any] = {"delta": 0.2, "nu": 0.1, "noise": 0.5}
    cases: list[tuple[Any, Any, float]] = [(LeastSquares(), L2(0.5), 0.05), (Logistic(), SmoothL2(0.5), 0.5)]
    plain: dict[str, Any] = {"epsilon": 0.5, "delta": 0.2}
    default = sample_size(RademacherQueries(1), LeastSquares(), L2(0.5), [0.5], **plain)
    assert default == sample_size(RademacherQueries(1), LeastSquares(), L2(0.5), [0.5], **plain, nu=0.0, noise=1.0)
    at = guaranteed_error(RademacherQueries(1), LeastSquares(), L2(0.5), [0.5], n_data=default.n_data, delta=0.2)
    assert at == default
    for loss, reg, epsilon in cases:
        found = sample_size(RademacherQueries(1), loss, reg, [0.5], epsilon=epsilon, **options)
        n = found.n_data
        assert found.error <= epsilon
        assert guaranteed_error(RademacherQueries(1), loss, reg, [0.5], n_data=n - 1, **options).error > epsilon


def test_the_reference_loss_on_one_other_user() -> None:
    # ρ₀ = 1, λ·Σ‖ρ₀ - θ_h‖² = 2·(1 + 1); the other user has (θ - 5)²/2 + ν θ².
    models, lam, nu = np.array([[0.0], [2.0]]), 2.0, 0.5
    other = [UserDataset([[1.0]], [5.0])]
    found = reference_loss(models, other, LeastSquares(), SquaredL2(lam), nu)

    def local(t: float) -> float:
        return nu * t * t + 0.5 * (t - 5.0) ** 2

    at, best = (5.0 + 2.0 * lam) / (1.0 + 2.0 * nu + 2.0 * lam), 5.0 / (1.0 + 2.0 * nu)
    expected = local(at) + lam * (1.0 - at) ** 2 - local(best)
    assert found == approx(4.0 + expected * (1.0 + 1e-9), rel=1e-14)
    labelled = [UserDataset([[1.0]], [1.0])]
    found = reference_loss(models, labelled, Logistic(), SquaredL2(lam), nu)
    assert found == approx(4.0 + nu + math.log1p(math.exp(-1.0)), rel=1e-14)
    assert reference_loss(models, other, LeastSquares(), L2(lam), nu) == 0.0
    assert reference_loss(models, [], LeastSquares(), SquaredL2(lam), nu) == 4.0
    with pytest.raises(ShapeError, match=r"others\[0\]"):
        reference_loss(models, [UserDataset([[1.0, 1.0]], [1.0])], LeastSquares(), SquaredL2(lam), nu)


# ------------------------------------------------------------------------------------------------------------- lemmas


def test_both_sides_of_the_lemmas_are_those_printed() -> None:
    Q = np.array([[1.0, 2.0], [0.0, -1.0], [2.0, 0.5]])
    S, Sigma = np.array([[2.0, 1.0], [1.0, 4.0]]), np.diag([1.0, 7.0])
    weyl = pac_lemmas.lemma20(S, Sigma)
    assert weyl.left == approx(1.0 + math.sqrt(5.0), abs=1e-12) or weyl.left == approx(
        max(abs(np.linalg.eigvalsh(S - Sigma)))
    )
    assert weyl.right == approx(abs(3.0 - math.sqrt(2.0) - 1.0), rel=1e-12)
    halved = pac_lemmas.lemma21(Q, Sigma)
    assert halved.left == approx(np.linalg.eigvalsh(Q.T @ Q / 3.0)[0], rel=1e-12)
    assert halved.right == 0.5
    assert halved.slack == halved.left - halved.right
    moments = pac_lemmas.lemma22(Q, 1, [0.5, -1.0], sigma=2.0)
    for k, s in enumerate([0.5, -1.0]):
        mean = math.fsum(math.cosh(s * 2.0 * q) for q in (2.0, -1.0, 0.5)) / 3.0
        assert moments.right[k] == approx(mean, rel=1e-14)
        assert moments.left[k] == approx(math.exp(0.5 * (s * 2.0 * 2.0) ** 2), rel=1e-14)
    noise = pac_lemmas.lemma23(Q, [1.0, -2.0, 0.5], 2.0)
    assert noise.left == approx(2.0 * 3.0**0.75, rel=1e-15)
    assert noise.right == approx(math.hypot(1.0 + 1.0, 2.0 + 2.0 + 0.25), rel=1e-14)
    a, b, bound = 1.5, -0.5, 2.0
    distance = (a - b) * (norm_sigma(a) - norm_sigma(b))
    both = pac_lemmas.lemma24(a, b, bound)
    assert both.left == approx(distance, rel=1e-13)
    assert both.right == approx(norm_sigma(bound) * norm_sigma(-bound) * 4.0, rel=1e-13)
    d_k = norm_sigma(bound + 1.0) - norm_sigma(bound)
    assert pac_lemmas.lemma25(a, b, bound).right == approx(d_k * 2.0 - d_k, rel=1e-13)
    assert pac_lemmas.lemma25(a, b, bound).left == approx(distance, rel=1e-13)
    for far, t in ((a, 2.0), (0.0, 0.5)):
        joint = pac_lemmas.logistic_distance_bound(far, b, bound)
        assert joint.right == approx(d_k * min(t, t * t), rel=1e-13)


def test_bounds_for_all_directions_at_once() -> None:
    Q = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]])
    gram = Q.T @ Q
    one = pac_lemmas.lemma26(Q, [2.0, 0.0])
    assert one.left == approx((3.0 + 1.0 + 0.0) / 3.0, rel=1e-14)
    assert one.right == approx(np.linalg.eigvalsh(gram / 3.0)[0] / 5.0, rel=1e-12)
    every = pac_lemmas.lemma27(Q, 0.25)
    assert every.left == approx(np.linalg.eigvalsh(gram)[0] / 5.0, rel=1e-12)
    assert every.right == approx(0.75, rel=1e-15)
    assert pac_lemmas.lemma26(np.zeros((2, 2)), [1.0, 0.0]).right == 0.0
    assert pac_lemmas.lemma27(np.zeros((2, 2)), 0.0).left == 0.0
    for theta, r in ([1.0, 0.0], 1.0), ([3.0, 4.0], 5.0), ([0.0, 0.5], 0.5):
        found = pac_lemmas.lemma28(Q, theta, [0.0, 0.0], 0.3)
        margins = Q @ np.array(theta)
        left = math.fsum(m * (norm_sigma(m) - 0.5) for m in margins)
        assert found.left == approx(left, rel=1e-12)
        assert found.right == approx(0.3 * 3 * min(r, r * r), rel=1e-14)
    with pytest.raises(AssumptionError, match="u = 0"):
        pac_lemmas.lemma26(Q, [0.0, 0.0])


def test_numbers_of_data_and_radii_of_the_lemmas_of_appendix_g() -> None:
    assert pac_lemmas.lemma5_error(2.0, 3.0, 0.5, 1.0, 100) == approx((3.0 * 10.0 + 1.0) / 200.0, rel=1e-15)
    # ℐ₂ = max{2E/A, (2B/A)²} = max{8, 9}: above it only.
    assert pac_lemmas.lemma5_error(2.0, 3.0, 0.5, 8.0, 9) == math.inf
    assert pac_lemmas.lemma5_error(2.0, 3.0, 0.5, 8.0, 10) < math.inf
    assert pac_lemmas.lemma5_error(2.0, 1.0, 0.5, 9.5, 9) == math.inf
    assert pac_lemmas.lemma5_error(2.0, 1.0, 0.5, 9.5, 10) < math.inf
    least = pac_lemmas.lemma29_least_data
    assert least(2.0, 1.0, 0.5, 30.0, printed=True) == 30.0
    assert least(2.0, 3.0, 0.5, 1.0, printed=True) == 36.0
    assert least(2.0, 1.0, 0.5, 60.0) == approx(64.0, rel=1e-15)
    assert least(2.0, 3.0, 0.75, 1.0, n_honest=4) == approx(12.0**4, rel=1e-14)
    assert least(2.0, 3.0, 0.75, 1.0) == approx(6.0**4, rel=1e-14)
    assert pac_lemmas.lemma29([[1.0, 1.0]], [[4.0, 5.0]]).right.tolist() == [5.0]
    assert pac_lemmas.lemma29([[1.0, 1.0]], [[4.0, 5.0]]).left == 2.0
    # Two honest models at distances 3 and 1 from ρ₀, so within 5 and 3 of it; Δ = 2.
    models, rho = [[3.0, 0.0], [0.0, -1.0]], [0.0, 0.0]
    assert pac_lemmas.lemma30_radius(SquaredL2(0.5), models, 2.0, rho) == approx(2.0 + math.sqrt(19.0 / 0.5))
    assert pac_lemmas.lemma30_radius(L2(0.5), models, 2.0, rho) == approx(2.0 + 6.0 / 0.5)
    S = 0.5 * (math.sqrt(26.0) + math.sqrt(10.0)) + 2.0
    assert pac_lemmas.lemma30_radius(SmoothL2(0.5), models, 2.0, rho) == approx(2.0 + math.sqrt((S / 0.5) ** 2 - 1.0))
    assert pac_lemmas.lemma30_radius(L2(0.5), models, 0.0, [1.0, 0.0]) == approx(2.0 + 2 + 2 + 2 + math.sqrt(2.0))


def test_the_error_of_mean_losses() -> None:
    cases: list[tuple[Any, float]] = [(SquaredL2(0.75), 0.75 * 3.0 / 2.5), (L2(0.4), 0.4), (L2(9.0), 1.5)]
    for reg, expected in cases:
        assert expectation_error(reg, 1.0, -2.0) == approx(expected, rel=1e-15)
    # f = λx/√(1 + x²) with x = 3/2 - f.
    f = expectation_error(SmoothL2(0.8), 1.0, -2.0)
    assert f == approx(0.8 * (1.5 - f) / math.hypot(1.0, 1.5 - f), rel=1e-14)
    data = averaged(UserDataset([[2.0], [4.0], [0.0], [1.0]], [1.0, 2.0, 3.0, 4.0]))
    assert (data.Q.ravel().tolist(), data.A.tolist()) == ([1.0, 2.0, 0.0, 0.5], [0.5, 1.0, 1.5, 2.0])
    assert averaged(UserDataset.empty(2)).n_data == 0


# ---------------------------------------------------------------------------------------------------------- poisoning


def demand(w: list[float], model: list[float]) -> Demand:
    return Demand.of(w, model, nu=0.0)


def test_the_demand_of_data_and_its_rounding() -> None:
    found = Demand.of([1.0, -2.0], [0.5, 2.0], nu=0.25)
    assert found.w.tolist() == [1.25, -1.0]
    assert found.work == 0.625 - 2.0
    assert found.size == approx(math.hypot(1.25, 1.0), rel=1e-15)
    eps = 2.0**-52
    model = math.hypot(0.5, 2.0)
    assert found.work - found.least_work == approx(10.0 * eps * found.size * model, rel=0.2)
    # F + 2νθ♠ cancels up to rounding: 16 units in the last place of what is added.
    nearly = 12.0 * eps
    assert Demand.of([-1.0 + nearly, 0.0], [1.0, 0.0], nu=0.5).size == 0.0
    assert Demand.of([-1.0 + 40.0 * eps, 0.0], [1.0, 0.0], nu=0.5).size == 40.0 * eps
    assert Demand.of([-1.0 + 31.0 * eps, 0.0], [1.0, 0.0], nu=0.5).size == 0.0
    assert Demand.of([-1.0 + 33.0 * eps, 0.0], [1.0, 0.0], nu=0.5).size == 33.0 * eps


def test_the_least_answer_in_all_its_cases() -> None:
    assert poisoning.least_answer(demand([0.0], [2.0])) == 0.0
    # s = 4: 2√s at c = 1/2, unless c <= B/‖w‖ is smaller.
    assert poisoning.least_answer(demand([1.0], [4.0])) == 4.0
    assert poisoning.least_answer(demand([1.0], [4.0]), max_query=0.5) == 4.0
    assert poisoning.least_answer(demand([1.0], [4.0]), max_query=0.25) == 5.0
    assert poisoning.least_answer(demand([2.0], [2.0]), max_query=0.5) == 5.0
    # s = -4: 0 at c = 1/2, else |c s + 1/c|; s = 1, where c = 1; s = 0, the infimum 0.
    assert poisoning.least_answer(demand([1.0], [-4.0])) == 0.0
    assert poisoning.least_answer(demand([1.0], [-4.0]), max_query=0.25) == 3.0
    assert poisoning.least_answer(demand([1.0], [1.0])) == 2.0
    assert poisoning.least_answer(demand([1.0], [1.0]), max_query=0.5) == 2.5
    assert poisoning.least_answer(demand([1.0], [0.0])) == 0.0
    assert poisoning.least_answer(demand([1.0], [0.0]), max_query=0.5) == 2.0


def least_by_search(s: float, w: float, a: float, B: float) -> int:
    """The least n for which some R > 0 has (R + s)² <= na²R and R >= w²/(nB²), by the roots of the first."""
    for n in range(1, 400):
        disc = n * n * a**4 - 4.0 * n * a * a * s
        if disc >= -1e-9:
            largest = 0.5 * (n * a * a - 2.0 * s + math.sqrt(max(disc, 0.0)))
            if largest > 0 and largest >= w * w / (n * B * B) - 1e-12:
                return n
    return 0


def test_least_numbers_of_points_agree_with_a_search() -> None:
    rng = np.random.default_rng(6)
    seen = set()
    for _ in range(300):
        w, s = float(rng.integers(1, 9)) / 2.0, float(rng.integers(-12, 13)) / 2.0
        a, B = float(rng.integers(1, 9)) / 2.0, float(rng.choice([0.25, 0.5, 1.0, 3.0, math.inf]))
        d = demand([w], [s / w])
        least = poisoning.least_points(d, LeastSquares(), max_answer=a, max_query=None if math.isinf(B) else B)
        assert least == least_by_search(d.work, w, a, B)
        seen.add(least)
        data = poisoning.linear_points(d, max_answer=a, max_query=B)
        assert data.n_data == least
        assert np.abs(data.A).max() <= a
        assert np.linalg.norm(data.Q, axis=1).max() <= B * (1 + 1e-12)
        assert float(poisoning.missing_gradient(data, d, LeastSquares())[0]) == approx(0.0, abs=1e-9)
        more = poisoning.linear_points(d, n_points=least + 2, max_answer=a, max_query=B)
        assert more.n_data == least + 2
        assert float(poisoning.missing_gradient(more, d, LeastSquares())[0]) == approx(0.0, abs=1e-9)
    assert len(seen) > 15


def test_points_whose_answers_are_all_zero() -> None:
    # R = -s = 4 >= w²/(nB²) = 16/n: four points with query 1; no bound on queries: one.
    d = demand([4.0], [-1.0])
    assert poisoning.least_points(d, LeastSquares(), max_answer=0.0, max_query=1.0) == 4
    assert poisoning.least_points(d, LeastSquares(), max_answer=0.0, max_query=0.5) == 16
    assert poisoning.least_points(d, LeastSquares(), max_answer=0.0) == 1
    weak = demand([1.0], [-0.5])
    assert poisoning.least_points(weak, LeastSquares(), max_answer=0.0, max_query=1.0) == 2
    assert poisoning.least_points(demand([0.0], [1.0]), LeastSquares(), max_answer=0.0) == 0
    for s in (0.0, 0.5):
        with pytest.raises(AssumptionError, match="answers of 0"):
            poisoning.least_points(demand([1.0], [s]), LeastSquares(), max_answer=0.0)
        with pytest.raises(AssumptionError, match="answers of 0"):
            poisoning.linear_points(demand([1.0], [s]), max_answer=0.0)
    # Nothing is demanded: no data, whatever the bounds; a demand of norm 1 is one.
    assert poisoning.linear_points(demand([0.0, 0.0], [1.0, 1.0]), max_answer=0.0).n_data == 0
    assert poisoning.linear_points(demand([1.0], [2.0]), max_answer=9.0).n_data == 1
    with pytest.raises(ShapeError, match="n_points"):
        poisoning.linear_points(demand([4.0], [4.0]), n_points=3, max_answer=4.0)


def test_queries_of_norm_one_where_that_is_possible() -> None:
    d = demand([2.0, 0.0], [8.0, 1.0])
    data = poisoning.linear_points(d, n_points=3, max_answer=40.0)
    assert np.linalg.norm(data.Q, axis=1) == approx(np.ones(3), rel=1e-12)
    assert np.linalg.norm(poisoning.linear_points(d, n_points=9, max_answer=40.0).Q, axis=1) == approx(
        np.full(9, 1.0), rel=1e-12
    )
    one = poisoning.one_point(demand([3.0, 4.0], [0.0, -1.0]))
    assert one.Q == approx(np.array([[0.6, 0.8]]), rel=1e-15)
    assert one.A.tolist() == [approx(5.0 - 0.8)]
    assert poisoning.one_point(demand([0.0, 0.0], [1.0, 1.0])).n_data == 0
    for c in (0.0, math.inf, math.nan):
        with pytest.raises(AssumptionError, match="c must be finite"):
            poisoning.one_point(d, c=c)
    printed = poisoning.printed_point([3.0, 4.0], [1.0, 2.0])
    assert (printed.Q.tolist(), printed.A.tolist()) == ([[3.0, 4.0]], [10.0])


def entropy_share(y: float) -> float:
    return y * math.log((1.0 - y) / y)


def test_the_largest_share_solves_its_equation() -> None:
    top = poisoning.class_bound(2)
    for value in (-15.0, -3.0, -1.0, -0.1, 0.0, 0.1, 0.25, 0.278):
        y = poisoning._largest_share(value)
        assert entropy_share(y) == approx(value, rel=1e-8, abs=1e-12)
        # h falls beyond its maximum at y = W/(1 + W)... the root returned is on that side.
        assert y >= 1.0 / (1.0 + math.exp(1.0 + top)) - 1e-9
        assert entropy_share(min(1.0001 * y, 0.5 + 0.5 * y)) < value
    assert poisoning._largest_share(top) == approx(1.0 / (1.0 + math.exp(1.0 + top)), rel=1e-6)
    # W(x) e^{W(x)} = x.
    for K in (2, 3, 10):
        W = poisoning.class_bound(K)
        assert W * math.exp(W) == approx((K - 1) / math.e, rel=1e-13)


def test_least_numbers_of_labelled_points_agree_with_a_search() -> None:
    rng = np.random.default_rng(9)
    seen = set()
    for _ in range(80):
        w, s = float(rng.uniform(0.3, 4.0)), float(rng.uniform(-4.0, 4.0))
        B = float(rng.choice([0.1, 0.5, 2.0]))
        d = demand([w], [s / w])
        n = 1
        while d.work / n > poisoning.class_bound(2) or n * poisoning._largest_share(d.work / n) < w / B:
            n += 1
        found = poisoning.least_points(d, Logistic(), max_query=B)
        assert found == n
        seen.add(n)
        data = poisoning.logistic_points(d, max_query=B)
        assert data.n_data == n
        assert np.abs(data.Q).max() <= B * (1 + 1e-9)
        assert float(poisoning.missing_gradient(data, d, Logistic())[0]) == approx(0.0, abs=1e-9)
    assert len(seen) > 20
    assert poisoning.least_points(demand([0.0], [1.0]), Logistic(), max_query=0.1) == 0
    assert poisoning.logistic_points(demand([0.0], [1.0])).n_data == 0
    assert poisoning.logistic_points(demand([1.0], [1.0]), n_points=11).n_data == 11
    with pytest.raises(ShapeError, match="n_points"):
        poisoning.logistic_points(demand([1.0], [1.0]), n_points=3)
    # ⌈s/W((K-1)/e)⌉, and one at least.
    for K in (3, 7):
        d = Demand.of([2.0] * K, [1.5] * K, nu=0.0)
        assert poisoning.least_points(d, Multinomial(K)) == math.ceil(3.0 * K / poisoning.class_bound(K))
    assert poisoning.least_points(Demand.of([1.0] * 3, [-1.0] * 3, nu=0.0), Multinomial(3)) == 1
    assert poisoning.least_points(Demand.of([0.0] * 3, [-1.0] * 3, nu=0.0), Multinomial(3)) == 0


def test_the_data_of_a_demand_without_and_with_bounds() -> None:
    d = demand([2.0, 0.0], [8.0, 1.0])
    assert poisoning.poison_points(d, LeastSquares()).A == approx([8.0])
    assert poisoning.poison_points(d, LeastSquares(), max_answer=4.0).n_data == 4
    bounded = poisoning.poison_points(d, LeastSquares(), max_query=0.25)
    assert np.linalg.norm(bounded.Q, axis=1).max() <= 0.25 * (1 + 1e-12)
    assert poisoning.poison_points(demand([2.0, 0.0], [1.0, 1.0]), Logistic()).n_data == 8
    for wrong in (-1.0, math.inf, math.nan):
        with pytest.raises(AssumptionError, match="max_answer"):
            poisoning.poison_points(d, LeastSquares(), max_answer=wrong)
    with pytest.raises(AssumptionError, match="labels are given"):
        poisoning.least_points(d, Logistic(), max_answer=1.0)


def test_queries_near_the_subspace_of_indifference(rng: np.random.Generator) -> None:
    model = rng.standard_normal((3, 4))

    def drawn(noise: float, n: int = 4000, **options: Any) -> tuple[Array, Array]:
        source = np.random.default_rng(1)
        return poisoning.indifference_queries(
            model.ravel(), 3, n, source, queries=GaussianQueries(4), noise=noise, **options
        )

    flat, p = drawn(1e-12)
    assert flat @ (model[1:] - model[0]).T == approx(np.zeros((4000, 2)), abs=1e-9)
    assert p == approx(np.full((4000, 3), 1 / 3), abs=1e-9)
    # The projection is orthogonal: what is taken away lies in the span of the differences.
    raw = np.random.default_rng(1).standard_normal((4000, 4))
    away = raw - flat
    span = np.linalg.lstsq((model[1:] - model[0]).T, away.T, rcond=None)[0]
    assert (model[1:] - model[0]).T @ span == approx(away.T, abs=1e-9)
    noisy, _ = drawn(0.5)
    assert np.std(noisy - flat) == approx(0.5, rel=0.03)
    for column in (0, 3, -1):
        Q, p = drawn(1e-12, n=6, intercept=column)
        assert Q[:, column].tolist() == [1.0] * 6
        assert p == approx(np.full((6, 3), 1 / 3), abs=1e-9)
    for column in (4, -5):
        with pytest.raises(ShapeError, match="intercept"):
            drawn(0.1, n=2, intercept=column)


# ------------------------------------------------------------------------------------------- dynamics, attacks, reach


def two_users(reg: Any, nu: float = 0.5, loss: Any = None) -> Problem:
    users = [UserDataset([[1.0, 0.0], [0.0, 3.0]], [1.0, 1.0]), UserDataset([[2.0, 0.0]], [-1.0]), UserDataset.empty(2)]
    return Problem(users, LeastSquares() if loss is None else loss, reg, nu=nu)


def test_constants_of_smoothness_and_convexity_are_those_derived() -> None:
    lam, nu = 0.75, 0.5
    problem = two_users(SquaredL2(lam), nu)
    assert dynamics.local_smoothness(problem) == approx(np.array([1.0 + 9.0, 1.0 + 4.0, 1.0]), rel=1e-14)
    assert dynamics.local_convexity(problem) == approx(np.array([1.0 + 1.0, 1.0, 1.0]), rel=1e-14)
    curvatures: list[tuple[Any, float]] = [(Logistic(), 0.25), (Multinomial(2), 0.5)]
    for loss, curvature in curvatures:
        users = [
            UserDataset([[1.0, 0.0], [0.0, 3.0]], [1.0, 1.0]),
            UserDataset([[2.0, 0.0]], [1.0]),
            UserDataset.empty(2),
        ]
        other = Problem(users, loss, SquaredL2(lam), nu=nu)
        expected = np.array([1.0 + 9.0 * curvature, 1.0 + 4.0 * curvature, 1.0])
        assert dynamics.local_smoothness(other) == approx(expected, rel=1e-14)
        assert dynamics.local_convexity(other).tolist() == [1.0, 1.0, 1.0]

    def parallel(a: float, b: float) -> float:
        return a * b / (a + b) if math.isfinite(a) else b

    assert dynamics.smoothness(problem, 2) == approx(parallel(10.0, 1.5) + parallel(5.0, 1.5), rel=1e-14)
    assert dynamics.smoothness(problem, 0) == approx(parallel(5.0, 1.5) + parallel(1.0, 1.5), rel=1e-14)
    assert dynamics.smoothness(two_users(SmoothL2(lam)), 0) == approx(parallel(5.0, 0.75) + parallel(1.0, 0.75))
    assert dynamics.smoothness(two_users(L2(lam)), 0) == approx(6.0, rel=1e-14)
    assert dynamics.smoothness(problem.pin(1, [0.0, 0.0]), 0) == approx(1.5 + parallel(1.0, 1.5), rel=1e-14)
    assert dynamics.honest_smoothness(Problem(problem.users[:1], LeastSquares(), SquaredL2(lam)).without(0)) == 0.0
    mu = parallel(2.0, 1.5) + parallel(1.0, 1.5)
    assert dynamics.strong_convexity(problem, 2) == approx(mu, rel=1e-14)
    assert dynamics.strong_convexity(problem.pin(0, [0.0, 0.0]), 2) == approx(1.5 + parallel(1.0, 1.5), rel=1e-14)
    assert dynamics.strong_convexity(two_users(SmoothL2(lam)), 2) == 0.0
    assert dynamics.model_attack_contraction(problem, 2) == approx(1.5 / (1.5 + mu), rel=1e-14)
    # Without ν and data a model is not held: 1/(1/0 + ...) is 0.
    assert dynamics.strong_convexity(two_users(SquaredL2(lam), 0.0), 0) == 0.0
    assert (dynamics.regularizer_smoothness(L2(1.0)), dynamics.regularizer_smoothness(SquaredL2(1.5))) == (
        math.inf,
        3.0,
    )


def test_rates_and_steps_are_those_derived() -> None:
    assert dynamics.admissible_step(0.0) == math.inf
    assert dynamics.admissible_step(math.inf) == 0.0
    assert dynamics.admissible_step(4.0) == 0.125
    for q, a in [(0.3, 0.2), (1.0, 0.0), (0.0, 0.5)]:
        r = dynamics.counter_gradient_local_rate(q, a)
        assert r * r == approx(q * r + q + a, rel=1e-13)
        assert r >= 0
    r = dynamics.counter_gradient_rate(0.3)
    assert r * r == approx(0.3 * r + 0.3, rel=1e-13)
    assert dynamics.gradient_descent_rate(0.5, 0.4, 3.0) == approx(0.8, rel=1e-15)
    assert dynamics.gradient_descent_rate(0.5, 0.4, 5.0) == approx(1.5, rel=1e-15)


def test_adam_makes_the_steps_of_its_paper() -> None:
    rule = dynamics.Adam(beta1=0.8, beta2=0.95, epsilon=1e-3)
    state: Any = rule.start(2)
    rho, first, second = np.zeros(2), np.zeros(2), np.zeros(2)
    for t in range(1, 4):
        total = np.array([1.0, -2.0]) * t
        first, second = 0.8 * first + 0.2 * total, 0.95 * second + 0.05 * total**2
        expected = rho - 0.1 * (first / (1 - 0.8**t)) / (np.sqrt(second / (1 - 0.95**t)) + 1e-3)
        rho, state = rule.step(state, rho, total, 0.1)
        assert rho == approx(expected, rel=1e-13)
        assert state[0] == t
    assert (dynamics.Adam().beta1, dynamics.Adam().beta2, dynamics.Adam().epsilon) == (0.9, 0.999, 1e-8)


def test_a_projection_is_plausible_and_a_vector_a_little_longer_is_not() -> None:
    reg = SmoothL2(2.0)
    for P in (1, 2, 50):
        g = np.ones(P) / math.sqrt(P)
        allowed = (0.5 * P + 3.0) * 2.0**-52
        assert dynamics.is_plausible(2.0 * g * (1.0 + 0.8 * allowed), reg)
        assert not dynamics.is_plausible(2.0 * g * (1.0 + 1.3 * allowed + 2.0**-52), reg)
    # The preimage for the closed ball allows the same.
    for P in (1, 2, 50):
        g = np.ones(P) / math.sqrt(P)
        allowed = (0.5 * P + 3.0) * 2.0**-52
        assert L2(2.0).preimage(np.zeros(P), 2.0 * g * (1.0 + 0.8 * allowed)).tolist() == [0.0] * P
        with pytest.raises(AssumptionError, match="project g"):
            L2(2.0).preimage(np.zeros(P), 2.0 * g * (1.0 + 1.3 * allowed + 2.0**-52))


def test_attacks_estimate_and_answer_as_in_the_equations() -> None:
    view = View(3, np.array([1.0, 2.0]), 0.5, np.array([2.0, 0.0]), 0.25, np.array([1.0, -1.0]))
    # (ρ^{t-1} - ρ^t)/η_{t-1} - g_s^{t-1} = (1, -2)/0.25 - (1, -1).
    assert view.estimated_honest_sum().tolist() == [3.0, -7.0]
    assert View(0, np.array([1.0, 2.0]), 0.5).estimated_honest_sum().tolist() == [0.0, 0.0]
    assert CounterGradient([0.5, 1.0], SquaredL2(1.0)).report(view).tolist() == [1.0 - 3.0, 2.0 + 7.0]
    local = CounterGradientLocal([0.5, 1.0], SquaredL2(0.75), 3)
    # 2λ(N - 1) = 3.
    assert local.report(view).tolist() == [(0.5 - 1.0) / 0.5 - 3.0, approx((1.0 + 7.0 / 3.0) / 0.5 + 7.0)]
    with pytest.raises(ShapeError, match="n_users"):
        CounterGradientLocal([0.5], SquaredL2(1.0), 1)


def test_models_at_the_boundary_of_smooth_l2() -> None:
    reg = SmoothL2(5.0)
    # ‖g‖ = λ: at the distance given, against g.
    assert reported_model_from_gradient([1.0, 0.0], [3.0, 4.0], reg, distance=10.0) == approx(np.array([-5.0, -8.0]))
    # Inside, ‖g‖/√(λ² - ‖g‖²) = 3/4 is the exact distance: a smaller one is kept, a larger one is not used.
    assert reported_model_from_gradient([0.0], [3.0], reg, distance=0.5) == approx(np.array([-0.5]))
    assert reported_model_from_gradient([0.0], [3.0], reg, distance=0.75) == approx(np.array([-0.75]))
    assert reported_model_from_gradient([0.0], [3.0], reg, distance=9.0) == approx(np.array([-0.75]))
    with pytest.raises(AssumptionError, match="pass the distance"):
        reported_model_from_gradient([0.0], [5.0], reg)
    with pytest.raises(AssumptionError, match="project g"):
        reported_model_from_gradient([0.0], [5.1], reg, distance=1.0)
    assert reported_model_from_gradient([1.0], [0.5], L2(2.0)).tolist() == [1.0]


def test_an_attack_is_tried_in_four_rounds_by_default() -> None:
    seen: list[View] = []

    class Watching:
        name, needs_gradient_steps = "watching", False

        def report(self, view: View) -> Array:
            seen.append(view)
            return np.array([0.5, 0.0])

    def violations(**options: Any) -> list[str]:
        seen.clear()
        return contract_violations(Watching(), dim=2, reg=L2(1.0), rng=np.random.default_rng(0), **options)

    assert violations() == []
    assert [view.round for view in seen] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [view.eta for view in seen[::2]] == [0.1, 0.1, 0.05, approx(0.1 / 3)]
    assert seen[0].previous_rho is None
    for before, after in zip(seen[:-2:2], seen[2::2], strict=True):
        assert after.previous_rho is before.rho
        assert after.previous_eta == before.eta
        assert after.previous_report is not None
        assert after.previous_report.tolist() == [0.5, 0.0]
    assert violations(rounds=1) == []
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("report", "says"),
    [
        (lambda view: np.array([0.5]), "not a finite vector"),
        (lambda view: np.array([0.5, math.nan]), "not a finite vector"),
        (lambda view: np.array([math.nan, math.nan]), "not a finite vector"),
        (lambda view: np.array([3.0, 4.0]), "not plausible"),
        (lambda view: view.previous_rho - view.rho, "TypeError"),
        (lambda view: [][1], "IndexError"),
        (lambda view: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_an_attack_does_wrong_is_named(report: Any, says: str) -> None:
    class Wrong:
        name, needs_gradient_steps = "wrong", False

        def report(self, view: View) -> Array:
            answer: Array = report(view)
            return answer

    found = contract_violations(Wrong(), dim=2, reg=L2(1.0), rng=np.random.default_rng(0), rounds=2)
    assert found
    assert says in found[0]
    assert contract_violations(object(), dim=2, reg=L2(1.0), rng=np.random.default_rng(0)) != []


def test_an_attack_that_remembers_or_meddles_is_named() -> None:
    class Remembering:
        name, needs_gradient_steps, count = "remembering", False, 0

        def report(self, view: View) -> Array:
            self.count += 1
            return np.array([0.001 * self.count])

    class Meddling:
        name, needs_gradient_steps = "meddling", False

        def report(self, view: View) -> Array:
            view.rho.flags.writeable = True
            view.rho[0] = 7.0
            return np.array([0.0])

    def found(attack: Any) -> list[str]:
        return contract_violations(attack, dim=1, reg=L2(1.0), rng=np.random.default_rng(0), rounds=1)

    assert found(Remembering()) == ["round 0: asked twice, it reports differently"]
    assert found(Meddling()) == ["round 0: it changes what it is shown"]


def test_how_far_attackers_reach() -> None:
    found = displacement_bound(2.0, 1, 5.0, np.array([1.0, 4.0, 0.5]), np.array([0.0, 1.0, 2.0]))
    # (5 + [4/2 + 4/8 + 4/1] + 2·3)/((3 - 1)·2)
    assert found == approx((5.0 + 2.0 + 0.5 + 4.0 + 6.0) / 4.0, rel=1e-15)
    assert displacement_bound(2.0, 3, 5.0, np.ones(3), np.zeros(3)) == math.inf
    assert displacement_bound(2.0, 2, 5.0, np.ones(3), np.zeros(3)) < math.inf
    assert displacement_bound(2.0, 1, 5.0, np.array([1.0, 0.0]), np.zeros(2)) == math.inf


# ------------------------------------------------------------------------------ impossibility, learners, sequential


def test_the_two_worlds_in_numbers() -> None:
    # Corollary 2: F = 1 of N = 4, D = 1/3, √ε = s(D² - C²)/(4D).
    _, models, first, second, epsilon = impossibility.two_worlds(1, 4, 0.25, dim=2, scale=3.0)
    assert models.tolist() == [[0.0, 0.0]] * 3 + [[3.0, 0.0]]
    assert (first.honest, second.honest) == ((0, 1, 2), (1, 2, 3))
    assert math.sqrt(epsilon) == approx(3.0 * (1 / 9 - 1 / 16) / (4 / 3), rel=1e-13)
    assert (first.diameter, second.diameter) == (0.0, 3.0)
    assert second.mean.tolist() == [1.0, 0.0]
    assert second.allowed(0.25, epsilon) == approx(math.sqrt(0.75**2 + epsilon), rel=1e-14)
    assert second.error(np.array([4.0, 4.0])) == 5.0
    # Corollary 1: F = 3 of N = 5, so H = 2 honest users; one user prefers 0.
    _, models, first, second, epsilon = impossibility.two_worlds(3, 5, 7.0, scale=2.0)
    assert models.ravel().tolist() == [-2.0, -2.0, 2.0, 2.0, 0.0]
    assert (first.honest, second.honest) == ((0, 1), (2, 3))
    assert epsilon == 1.0
    assert impossibility.two_worlds(2, 4, 0.0)[0] == "cor1_majority"
    assert impossibility.two_worlds(1, 4, 0.0)[0] == "cor2_heterogeneity"
    with pytest.raises(AssumptionError, match="no corollary"):
        impossibility.two_worlds(1, 3, 0.5)


def test_a_refutation_that_is_tampered_with_is_not_verified() -> None:
    from dataclasses import replace

    learner = learners.Aggregation(learners.CoordinateMedian())
    good = refute_byzantine(learner, 1, 4, 0.2)
    assert good.verify()
    assert good.verify(learner)
    assert not good.verify(learners.Aggregation(learners.Mean()))
    first, second = good.worlds
    assert good.errors == (first.error(good.rho), second.error(good.rho))
    assert good.allowed == (first.allowed(0.2, good.epsilon), second.allowed(0.2, good.epsilon))
    assert good.failing_world is second
    assert good.forced_error == good.errors[1]
    gap = float(np.linalg.norm(first.mean - second.mean))
    assert good.unavoidable_excess == approx(0.5 * (gap - good.allowed[0] - good.allowed[1]), rel=1e-14)
    tampered = [
        replace(good, failing=0),
        replace(good, epsilon=0.0),
        replace(good, epsilon=4.0),
        replace(good, n_users=5),
        replace(good, n_attackers=2),
        replace(good, users=(*good.users[:3], good.users[0])),
        replace(good, worlds=(replace(first, honest=(0, 1, 1)), second)),
        replace(good, worlds=(replace(first, honest=(0, 1, 4)), second)),
        replace(good, worlds=(replace(first, honest=(0, 1)), second)),
        replace(good, worlds=(replace(first, models=first.models[:2]), second)),
        replace(good, worlds=(replace(first, models=first.models + 1.0), second)),
        replace(good, worlds=(first, replace(second, models=np.zeros((3, 2))))),
        # ρ in the middle: each world is then broken by what is unavoidable; nearer to the other it fails in another.
        replace(good, rho=np.array([good.rho[0] + 0.3])),
    ]
    assert [other.verify() for other in tampered] == [False] * len(tampered)
    # Users may be honest in any order, and all of them; data of the caller's own are not checked against the models.
    assert replace(good, worlds=(replace(first, honest=(2, 1, 0)), second)).verify()
    own = refute_byzantine(
        lambda users: users[0].A[:1], 1, 4, 0.2, honest=lambda model, user: UserDataset([[2.0]], [1.0])
    )
    assert own.verify()
    assert [user.n_data for user in refute_byzantine(learner, 1, 4, 0.2, dim=2).users] == [100] * 4


def test_learners_may_differ_by_rounding_only() -> None:
    answers = iter([1.0, 1.0 + 1.9e-9, 1.0])
    assert impossibility.run_learner(lambda users: [next(answers)], (UserDataset([[1.0]], [1.0]),)).tolist() == [1.0]
    answers = iter([1.0, 1.0 + 2.1e-9, 1.0])
    with pytest.raises(AssumptionError, match="random or keeps a state"):
        impossibility.run_learner(lambda users: [next(answers)], (UserDataset([[1.0]], [1.0]),))
    # The third run counts, too, and a fourth is not made.
    answers = iter([1.0, 1.0, 2.0])
    with pytest.raises(AssumptionError, match="random or keeps a state"):
        impossibility.run_learner(lambda users: [next(answers)], (UserDataset([[1.0]], [1.0]),))
    answers = iter([1.0, 1.0, 1.0])
    impossibility.run_learner(lambda users: [next(answers)], (UserDataset([[1.0]], [1.0]),))
    assert next(answers, None) is None
    with pytest.raises(ShapeError, match="finite"):
        impossibility.run_learner(lambda users: [1.0, math.nan], (UserDataset([[1.0, 1.0]], [1.0]),))


def test_learners_that_change_their_input_are_refused() -> None:
    def shortened(users: list[UserDataset]) -> list[float]:
        users.pop()
        return [0.0]

    def exchanged(users: list[UserDataset]) -> list[float]:
        users[0] = users[1]
        return [0.0]

    def overwritten(users: list[UserDataset]) -> list[float]:
        users[1].A.flags.writeable = True
        users[1].A[0] = 5.0
        return [0.0]

    def written(users: list[UserDataset]) -> list[float]:
        users[1].A[0] = 5.0
        return [0.0]

    users = (UserDataset([[1.0]], [1.0]), UserDataset([[1.0]], [2.0]))
    wrong: list[Any] = [shortened, exchanged, overwritten, written]
    for learner in wrong:
        with pytest.raises(AssumptionError, match="must not change its input"):
            impossibility.run_learner(learner, users)
    with pytest.raises(ShapeError, match="shape"):
        impossibility.run_learner(lambda users: [[0.0]], users)
    with pytest.raises(ShapeError, match="real numbers"):
        impossibility.run_learner(lambda users: ["a"], users)


def test_aggregation_rules_on_cases_done_by_hand() -> None:
    line = np.array([[0.0], [1.0], [3.0], [4.0], [50.0]])
    assert learners.TrimmedMean(0)(line).tolist() == [11.6]
    assert learners.TrimmedMean(1)(line).tolist() == [approx(8.0 / 3.0)]
    assert learners.TrimmedMean(2)(line).tolist() == [3.0]
    with pytest.raises(AssumptionError, match="N > 2F"):
        learners.TrimmedMean(2)(line[:4])
    # N = 5, F = 1: two neighbours.  Scores 0: 1 + 9; 1: 1 + 4; 3: 1 + 4; 4: 1 + 9: the first of two equals.
    assert learners.Krum(1)(line).tolist() == [1.0]
    assert learners.Krum(2)(line).tolist() == [0.0]
    assert learners.MultiKrum(1)(line).tolist() == [2.0]
    assert learners.MultiKrum(1, 2)(line).tolist() == [2.0]
    assert learners.MultiKrum(1, 3)(line).tolist() == [approx(4.0 / 3.0)]
    with pytest.raises(AssumptionError, match="F \\+ 3"):
        learners.Krum(3)(line)
    plane = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [0.0, 10.0], [6.0, 0.0]])
    assert learners.Krum(1)(plane).tolist() == [3.0, 4.0]


def test_the_geometric_median_is_stationary(rng: np.random.Generator) -> None:
    for n, d in [(4, 2), (5, 3), (7, 2), (6, 4)]:
        points = rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-2, 2)
        found = learners.GeometricMedian()(points)
        z = found - points
        distance = np.linalg.norm(z, axis=1)
        if distance.min() > 1e-9 * distance.max():
            assert np.linalg.norm(np.sum(z / distance[:, None], axis=0)) < 1e-7
    # On a line with an even number, every point between the middle two is a minimum; the mean of the models is taken.
    assert learners.GeometricMedian()(np.array([[0.0], [1.0], [2.0], [9.0]])).tolist() == [1.5]
    assert learners.GeometricMedian()(np.array([[0.0], [1.0], [9.0]])).tolist() == [1.0]
    # The corner of an angle of exactly 120° is a minimum: the pull of the other two has norm 1.
    corner = np.array([[0.0, 0.0], [1.0, 0.0], [-0.5, math.sqrt(3.0) / 2.0]])
    assert learners.GeometricMedian()(corner) == approx(np.zeros(2), abs=1e-9)


def test_seeds_are_the_first_eight_bytes_of_a_digest() -> None:
    digest = hashlib.sha256(b"thm2_linear_local_pac").hexdigest()
    assert sequential.seed_of("thm2_linear_local_pac") == int(digest[:16], 16)


def test_e_values_are_the_integrals_that_they_are_said_to_be() -> None:
    # ∫ p^k (1-p)^{n-k} dπ(p) / δ^k (1-δ)^{n-k} for the Beta(1/2, 1/2) density beyond δ, by a sum over small intervals.
    n, k, delta = 9, 2, 0.3
    edges = np.sin(0.5 * np.pi * np.linspace(0.0, 1.0, 400_001)) ** 2
    p = 0.5 * (edges[1:] + edges[:-1])
    ratio = (p / delta) ** k * ((1.0 - p) / (1.0 - delta)) ** (n - k)
    # In the variable of the sine the Beta(1/2, 1/2) weight is uniform.
    refute, accept = sequential.log_e_values(n, k, delta)
    assert refute == approx(math.log(ratio[p > delta].mean()), abs=1e-4)
    assert accept == approx(math.log(ratio[p < delta].mean()), abs=1e-4)


def test_sequential_verdicts_stop_at_the_threshold() -> None:
    result = sequential.decide(iter([True] * 100), 0.1, error=1e-3, max_draws=100)
    assert result.outcome is sequential.Outcome.REFUTED
    assert (
        result.log_refute >= -math.log(1e-3) > sequential.log_e_values(result.n_draws - 1, result.n_draws - 1, 0.1)[0]
    )
    assert result.n_failures == result.n_draws
    result = sequential.decide(iter([False] * 1000), 0.1, error=1e-3, max_draws=1000)
    assert result.outcome is sequential.Outcome.ACCEPTED
    assert result.log_accept >= -math.log(1e-3) > sequential.log_e_values(result.n_draws - 1, 0, 0.1)[1]
    assert result.n_failures == 0
    short = sequential.decide(iter([False] * 1000), 0.1, error=1e-3, max_draws=result.n_draws - 1)
    assert (short.outcome, short.n_draws) == (sequential.Outcome.UNDECIDED, result.n_draws - 1)
    taken = iter([True, False, True])
    sequential.decide(taken, 0.4, error=1e-3, max_draws=2)
    assert list(taken) == [True]


def test_the_twin_draws_independently_and_fails_twice_as_often() -> None:
    drawn: list[float] = []

    def fails(rng: np.random.Generator) -> bool:
        drawn.append(rng.random())
        return False

    result, twin = sequential.decide_with_twin("example", fails, 0.2, error=1e-3, max_draws=300)
    assert result.outcome is sequential.Outcome.ACCEPTED
    own = sequential.generator_of("example", 0).random(result.n_draws)
    others = sequential.generator_of("example", 1).random(twin.n_draws)
    assert drawn == [*own, *others]
    coins = sequential.generator_of("example", 2).random(twin.n_draws)
    assert twin.n_failures == int(np.sum(coins < 0.4))
    assert twin.outcome is sequential.Outcome.REFUTED
    for wrong in (0.5, 0.7):
        with pytest.raises(AssumptionError, match="2 delta"):
            sequential.decide_with_twin("example", fails, wrong)
    assert sequential.binomial_tail(4, 3, Fraction(1, 3)) == 4 * Fraction(2, 81) + Fraction(1, 81)
    weights = [(0, Fraction(1, 3)), (1, Fraction(2, 3))]
    assert sequential.exact_probability(weights, 2, lambda draws: sum(draws) == 1) == Fraction(4, 9)
    with pytest.raises(AssumptionError, match="sum to 1"):
        sequential.exact_probability(weights[:1], 2, lambda draws: True)


# --------------------------------------------------------------------------------------------------------------- data


def test_queries_have_the_distribution_that_they_state() -> None:
    n = 40_000
    cube = CubeQueries(2, 2.0).sample(n, np.random.default_rng(0))
    # Kolmogorov's distance of the uniform sample, at 1e-6.
    for column in cube.T:
        ranks = (np.sort(column) + 2.0) / 4.0
        assert np.max(np.abs(ranks - np.arange(1, n + 1) / n)) < math.sqrt(math.log(2e6) / (2 * n))
    assert CubeQueries(3).half_width == math.sqrt(3.0)
    assert CubeQueries(4, 2.0).bound == 4.0
    assert CubeQueries(1, 3.0).second_moment().tolist() == [[3.0]]
    radii = np.linalg.norm(BallQueries(3).sample(n, np.random.default_rng(1)), axis=1)
    ranks = np.sort(radii / math.sqrt(5.0)) ** 3
    assert np.max(np.abs(ranks - np.arange(1, n + 1) / n)) < math.sqrt(math.log(2e6) / (2 * n))
    assert np.linalg.norm(SphereQueries(4).sample(9, np.random.default_rng(2)), axis=1) == approx(np.full(9, 2.0))
    assert set(np.unique(RademacherQueries(3).sample(99, np.random.default_rng(3)))) == {-1.0, 1.0}
    assert (RademacherQueries(9).bound, SphereQueries(9).bound, BallQueries(7).bound) == (3.0, 3.0, 3.0)


def test_honest_answers_are_drawn_with_the_probabilities_of_the_model() -> None:
    n, theta = 20_000, np.array([0.8])
    queries = EmpiricalQueries(np.array([[1.0]]))
    labels = honest_dataset(queries, theta, n, Logistic(), np.random.default_rng(0)).A
    share = float(np.mean(labels == 1.0))
    z = float(norm.isf(1e-6))
    p = norm_sigma(0.8)
    assert abs(share - p) < z * math.sqrt(p * (1 - p) / n)
    classes = honest_dataset(queries, [0.0, 1.0, -0.5], n, Multinomial(3), np.random.default_rng(0)).A
    weights = np.exp([0.0, 1.0, -0.5]) / np.sum(np.exp([0.0, 1.0, -0.5]))
    for k, p in enumerate(weights):
        assert abs(float(np.mean(classes == k)) - p) < z * math.sqrt(p * (1 - p) / n)
    answers = honest_dataset(queries, theta, n, LeastSquares(), np.random.default_rng(0), noise=0.5).A
    assert np.mean(answers) == approx(0.8, abs=z * 0.5 / math.sqrt(n))
    assert np.std(answers) == approx(0.5, rel=z / math.sqrt(2 * n))
    exact = honest_dataset(queries, theta, 5, LeastSquares(), np.random.default_rng(0), noise=0.0).A
    assert exact.tolist() == [0.8] * 5


# --------------------------------------------------------------------------------- boundaries of losses and problems


def test_the_first_wrong_answer_is_named() -> None:
    for loss, answers, says in [
        (Multinomial(3), [0.0, 5.0, 1.0, 7.0], "5.0 at index 1"),
        (Multinomial(3), [0.0, 1.0, 1.5], "1.5 at index 2"),
        (Multinomial(3), [0.0, -1.0, 2.0], "-1.0 at index 1"),
        (Multinomial(3), [0.0, 3.0, 2.0], "3.0 at index 1"),
        (Logistic(), [1.0, -1.0, 0.0, 2.0], "0.0 at index 2"),
    ]:
        with pytest.raises(ShapeError, match=says):
            loss.encode(np.array(answers), "A")  # type: ignore[attr-defined]
    for row in ([0.5, 0.6, -0.1], [0.5, 0.5, 1.5e-9], [0.5, 0.5, -1e-300]):
        with pytest.raises(ShapeError, match="at row 1"):
            Multinomial(3).encode(np.array([[0.2, 0.3, 0.5], row]), "A")
    fine = np.array([[0.2, 0.3, 0.5], [0.5, 0.5, 5e-10]])
    assert np.array_equal(Multinomial(3).encode(fine, "A"), fine)


def test_a_vector_of_the_ball_is_left_as_it_is_to_the_last_bit() -> None:
    from theory.regularizers import norms, project_ball

    rng = np.random.default_rng(3)
    for _ in range(50):
        g = rng.standard_normal(3)
        assert project_ball(g, float(norms(g))).tolist() == g.tolist()
        longer = project_ball(g, 0.5 * float(norms(g)))
        assert longer == approx(0.5 * g, rel=1e-14)
    assert project_ball(np.zeros(2), 1.0).tolist() == [0.0, 0.0]
    assert norms(np.array([[3e200, 4e200], [0.0, 0.0], [3e-200, 4e-200]])) == approx(
        np.array([5e200, 0.0, 5e-200]), rel=1e-14
    )


def test_dimensions_of_a_problem_are_integers_even_without_users() -> None:
    problem = Problem([UserDataset([[1.0, 2.0]], [1.0])], Multinomial(3), SquaredL2(1.0))
    for left in (problem, problem.without(0)):
        assert (left.query_dim, left.dim) == (2, 6)
        assert isinstance(left.query_dim, int)


def test_learners_and_corollaries_at_their_boundaries() -> None:
    assert impossibility.two_worlds(1, 2, 0.0)[1].ravel().tolist() == [-1.0, 1.0]
    # As C comes close to F/(N - F), ε falls below the rounding of the learner's error.
    with pytest.raises(AssumptionError, match="within rounding"):
        refute_byzantine(lambda users: [0.0], 1, 6, math.nextafter(1 / 5, 0.0), scale=3.0)
    answers = iter([1e6, 1e6 * (1.0 + 0.9e-9), 1e6])
    assert impossibility.run_learner(lambda users: [next(answers)], (UserDataset([[1.0]], [1.0]),)).tolist() == [1e6]
    with pytest.raises(ShapeError, match="max_draws"):
        sequential.decide(iter([True]), 0.1, error=0.1, max_draws=0)


def test_the_gradient_in_a_pinned_model_is_zero() -> None:
    problem = two_users(SquaredL2(0.75)).pin(1, [3.0, -1.0])
    rho, thetas = np.array([1.0, 2.0]), np.array([[0.5, 0.0], [3.0, -1.0], [1.0, 1.0]])
    in_rho, in_thetas = problem.gradient(rho, thetas)
    assert in_thetas[1].tolist() == [0.0, 0.0]
    # User 2 has no data: 2νθ - 2λ(ρ - θ).
    assert in_thetas[2] == approx(np.array([1.0, 1.0]) - 1.5 * np.array([0.0, 1.0]), rel=1e-14)
    assert in_rho == approx(1.5 * (3.0 * rho - thetas.sum(axis=0)), rel=1e-14)


def test_small_cases_that_the_formulas_decide() -> None:
    assert poisoning.least_answer(demand([1.0], [-0.5])) == 0.0
    with pytest.raises(AssumptionError, match="alpha"):
        pac_lemmas.lemma5_error(1.0, 1.0, 1.0, 1.0, 10)
    n, delta = 100_000, 0.2
    user = UserBounds.of(RademacherQueries(1), Logistic(), n, delta, 0.5, 0.1, 1.0, 1.0)
    found = guaranteed_error(RademacherQueries(1), Logistic(), L2(0.5), [0.5], n_data=n, delta=delta, nu=0.1)
    assert found.curvature == approx(user.slope(1.0), rel=1e-12)
    assert found.error == approx(user.error(0.5, 0.1), rel=1e-12)


def test_more_boundaries_of_formulas() -> None:
    for a, b in ((-3.0, 0.0), (0.0, -3.0)):
        with pytest.raises(AssumptionError, match="at most k"):
            pac_lemmas.lemma24(a, b, 2.0)
    # X = ‖w‖/B = 1 exactly: n(a + 0.1) >= 1 asks for two points.
    assert poisoning.least_points(demand([1.0], [-0.1]), LeastSquares(), max_answer=0.5, max_query=1.0) == 2
    # n equal points that meet the bound on queries exactly are enough.
    for s in (-2.0, -0.5, 0.2, 0.5):
        for n in range(max(1, math.ceil(s / poisoning.class_bound(2))), 8):
            d = demand([1.0], [s])
            B = 1.0 / (n * poisoning._largest_share(s / n))
            assert poisoning.least_points(d, Logistic(), max_query=B) == n
            assert poisoning.least_points(d, Logistic(), max_query=B * (1 - 1e-12)) == n + 1
    # The rounding that is allowed counts the parameters of a model, not the models.
    many = 2.0 * (1.0 + 10.0 * 2.0**-52) * np.ones((50, 1))
    with pytest.raises(AssumptionError, match="project g"):
        L2(2.0).preimage(np.zeros((50, 1)), many)
    # The rest of the unit length may come out below 0 by rounding.
    assert sphere._coordinates(np.array([0.0, 1.0]), np.array([0.0, 2.0 * (1.0 + 1e-15)]), 0.0)[0] == 0.0


@pytest.mark.parametrize("column", [4, -5])
def test_an_intercept_that_is_no_column_is_refused(column: int) -> None:
    with pytest.raises(ShapeError, match="intercept"):
        poisoning.indifference_queries(
            np.arange(12.0), 3, 2, np.random.default_rng(0), queries=GaussianQueries(4), noise=0.1, intercept=column
        )


def test_models_of_several_parameters_are_trimmed_each_for_itself() -> None:
    models = np.array([[0.0, 9.0], [1.0, 5.0], [2.0, 1.0], [50.0, -70.0]])
    assert learners.TrimmedMean(1)(models).tolist() == [1.5, 3.0]
    assert learners.CoordinateMedian()(models).tolist() == [1.5, 3.0]


def test_what_is_known_of_too_few_data() -> None:
    found = guaranteed_error(
        EmpiricalQueries(np.array([[1.0, 0.0], [0.0, 1.0]])),
        Logistic(),
        L2(1.0),
        [[2.0, 0.0], [0.0, 0.0]],
        n_data=80,
        delta=0.1,
    )
    assert (found.error, found.force) == (math.inf, math.inf)
    radius = gradient_pac_constants(EmpiricalQueries(np.eye(2)), Logistic(), 2.0).radius
    slopes = [
        UserBounds.of(EmpiricalQueries(np.eye(2)), Logistic(), 80, 0.05, K, 0.0, 1.0, radius).slope(1.0)
        for K in (2.0, 0.0)
    ]
    assert slopes[0] < slopes[1]
    assert found.curvature == min(slopes)


def test_smallest_dimensions_and_numbers_are_allowed_and_smaller_ones_refused() -> None:
    for make in (GaussianQueries, CubeQueries, RademacherQueries, SphereQueries, BallQueries):
        assert make(1).dim == 1
        with pytest.raises(ShapeError, match="dim"):
            make(0)
    with pytest.raises(ShapeError, match="n_classes"):
        poisoning.class_bound(1)
    with pytest.raises(ShapeError, match="n_data"):
        guaranteed_error(RademacherQueries(1), LeastSquares(), L2(1.0), [1.0], n_data=0, delta=0.1)
    with pytest.raises(AssumptionError, match="alpha"):
        pac_lemmas.lemma29_least_data(1.0, 1.0, 1.0, 1.0)
    assert rational.power(1, Fraction(1, 2048)) == rational.Enclosure(Fraction(1), Fraction(1))
    for K, column in ((2, None), (3, -4), (3, 0)):
        Q, p = poisoning.indifference_queries(
            np.arange(4.0 * K) ** 2,
            K,
            5,
            np.random.default_rng(0),
            queries=GaussianQueries(4),
            noise=1e-12,
            intercept=column,
        )
        assert p == approx(np.full((5, K), 1.0 / K), rel=1e-6)
        assert Q.shape == (5, 4)


def test_names_and_needs_of_the_attacks() -> None:
    attacks: list[tuple[Any, str, bool]] = [
        (CounterGradient([1.0], L2(1.0)), "counter_gradient", True),
        (CounterGradientLocal([1.0], SquaredL2(1.0), 2), "counter_gradient_local", True),
    ]
    for attack, name, needs in attacks:
        assert (attack.name, attack.needs_gradient_steps) == (name, needs)
    result, twin = sequential.decide_with_twin("example", lambda rng: False, 0.4)
    assert (result.error, twin.error) == (1e-6, 1e-6)


def test_more_than_10_12_data_are_not_promised() -> None:
    def size(epsilon: float) -> int:
        return sample_size(RademacherQueries(1), LeastSquares(), L2(1.0), [1.0], epsilon=epsilon, delta=0.1).n_data

    # n ε² is constant for small ε, so this ε asks for 5·10^11 data, and one smaller by √3 for 1.5·10^12.
    epsilon = 1e-4 * math.sqrt(size(1e-4) / 5e11)
    assert 4.5e11 < size(epsilon) < 5.5e11
    with pytest.raises(AssumptionError, match="10\\^12"):
        size(epsilon / math.sqrt(3.0))


def test_the_smallest_curvature_counts_where_an_error_is_guaranteed() -> None:
    queries, models = EmpiricalQueries(np.eye(2)), [[2.0, 0.0], [0.0, 0.0]]
    found = guaranteed_error(queries, Logistic(), L2(0.1), models, n_data=200_000, delta=0.1)
    assert found.error < 1.0
    radius = gradient_pac_constants(queries, Logistic(), 2.0).radius
    users = [UserBounds.of(queries, Logistic(), 200_000, 0.05, K, 0.0, 1.0, radius) for K in (2.0, 0.0)]
    assert found.curvature == users[0].slope(1.0) < users[1].slope(1.0)


def test_the_distance_to_what_can_be_forced() -> None:
    assert distance_to_reach(3.0, 1.0, 4.0) == 0.5
    assert distance_to_reach(1.0, 1.0, 4.0) == 0.0
    # A constant gradient is the same everywhere: no distance follows.
    assert distance_to_reach(3.0, 1.0, 0.0) == 0.0


def test_every_entry_counts() -> None:
    answers = iter([[1.0, 1.0], [1.0, 2.0], [1.0, 1.0]])
    with pytest.raises(AssumptionError, match="random or keeps a state"):
        impossibility.run_learner(lambda users: next(answers), (UserDataset([[1.0, 0.0]], [1.0]),))
    assert not pac_lemmas.Inequality(np.array([1.0, 0.0]), np.array([0.5, 0.5])).holds
    assert not pac_lemmas.Inequality(np.array([0.0, 1.0]), np.array([0.5, 0.5])).holds
    assert pac_lemmas.Inequality(np.array([0.5, 1.0]), np.array([0.5, 0.5])).holds
    default = pac_lemmas.lemma22([[1.0], [3.0]], 0, [0.5])
    assert default.left.tolist() == [approx(math.exp(0.5 * 1.5**2), rel=1e-14)]
    with pytest.raises(ShapeError, match="n_data"):
        pac_lemmas.lemma5_error(1.0, 1.0, 0.5, 1.0, 0)
    assert pac_lemmas.lemma30_radius(L2(0.5), [[3.0, 4.0]], 0.0, [0.0, 0.0]) == approx(2.0 + 7.0, rel=1e-14)


def test_rounding_is_allowed_to_the_unit() -> None:
    eps = 2.0**-52
    # Two parameters: (1 + 3) units in the last place.
    assert L2(2.0).preimage(np.zeros(2), np.array([2.0 * (1.0 + 4.0 * eps), 0.0])).tolist() == [0.0, 0.0]
    with pytest.raises(AssumptionError, match="project g"):
        L2(2.0).preimage(np.zeros(2), np.array([2.0 * (1.0 + 5.0 * eps), 0.0]))
    # 300 bits of a root are enough, and more are not computed.
    root = rational.square_root(Fraction(2))
    assert root.high < (root.high - root.low) * 2**302


# --------------------------------------------------------------------------------- boundaries and defaults, continued


class _Diagonal:
    """Queries of which only the second moment is asked."""

    dim, bound = 2, 1.0

    def __init__(self, low: float) -> None:
        self.low = low

    def second_moment(self) -> Array:
        return np.diag([1.0, self.low])


def test_a_second_moment_that_may_be_singular_by_rounding_is_refused() -> None:
    # Eigenvalues are known to within d·ε·λ_max: at this number nothing shows that the least one is positive.
    limit = 2.0 * 2.0**-52
    with pytest.raises(AssumptionError, match="positive definite"):
        Spectrum.of(_Diagonal(limit))  # type: ignore[arg-type]
    assert Spectrum.of(_Diagonal(math.nextafter(limit, 1.0))).low > limit  # type: ignore[arg-type]


def test_without_noise_a_bound_of_zero_on_the_gradient_is_enough() -> None:
    # ν = 0 and no noise: p = 0 = B·n^α, and the event is one of the curvature alone.
    queries = RademacherQueries(2)
    for B in (0.0, 1.0):
        constants = PacConstants(0.5, B, 0.75, math.inf)
        assert event_probability(queries, LeastSquares(), 10_000, constants, 0.5, noise=0.0) > 0.999


@pytest.mark.parametrize("n", [256, 300])
def test_an_error_that_is_just_reached_needs_no_more_data(n: int) -> None:
    # n a power of two (where the search for an upper end stops), and not (where bisection does).
    options: dict[str, Any] = {"delta": 0.2, "nu": 0.1, "noise": 0.5}
    arguments: tuple[Any, ...] = (RademacherQueries(1), LeastSquares(), L2(0.5), [0.5])
    error = guaranteed_error(*arguments, n_data=n, **options).error
    assert guaranteed_error(*arguments, n_data=n - 1, **options).error > error
    assert sample_size(*arguments, epsilon=error, **options).n_data == n


def test_the_reference_loss_is_no_less_than_zero_whatever_rounding_does() -> None:
    # Data that the reference answers exactly: the loss and its infimum are zero up to rounding, of either sign.
    differences = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        model, Q = rng.standard_normal(3), rng.standard_normal((5, 3))
        users = [UserDataset(Q, Q @ model)]
        found = reference_loss(model[None], users, LeastSquares(), SquaredL2(1.0), 0.0)
        assert 0.0 <= found < 1e-25
        differences.append(found)
    # In some of them rounding alone would make it negative.
    assert 0.0 in differences


def test_units_in_the_last_place_are_forgiven_up_to_eight() -> None:
    eps = 2.0**-52
    for n in (1, 2, 7, 1000):
        assert poisoning._ceil(n * (1.0 + 6.0 * eps)) == n
        # More is no rounding: one point fewer would be too few.
        assert poisoning._ceil(n * (1.0 + 12.0 * eps)) == n + 1
    assert poisoning._ceil(0.0) == 0
    assert poisoning._ceil(-1.0 - 1e-15) == -1


def test_labelled_points_that_lack_rounding_only_are_enough() -> None:
    eps = 2.0**-52
    w = demand([1.0], [2.0])
    for n in (8, 11, 40):
        # n points hold n·y_n, the largest share, against ‖w‖/B.
        held = n * poisoning._largest_share(w.work / n)
        assert poisoning._least_logistic(w, w.size / (held * (1.0 + 4.0 * eps))) == n
        assert poisoning._least_logistic(w, w.size / (held * (1.0 + 12.0 * eps))) == n + 1


def test_a_loss_of_which_nothing_is_known_needs_no_number_of_points() -> None:
    with pytest.raises(AssumptionError, match="loss 'other'; use LeastSquares, Logistic or Multinomial"):
        poisoning.least_points(demand([1.0], [2.0]), SimpleNamespace(name="other"))  # type: ignore[arg-type]


def test_a_model_out_of_reach_says_how_far_it_is_at_least() -> None:
    error = OutOfReachError("lem3", "value", "mend", -2.0, np.array([1.0]), 0.75)
    copy = pickle.loads(pickle.dumps(error))
    assert [(e.margin, e.nearest.tolist(), e.distance_at_least) for e in (error, copy)] == [(-2.0, [1.0], 0.75)] * 2


def test_the_distance_to_reach_is_attained_by_quadratics_of_every_curvature() -> None:
    # F(ρ) = L(ρ - 6): |F(ρ)| <= 1 exactly for |ρ - 6| <= 1/L, which is 6 - 1/L away from 0.
    for L in (0.25, 0.5, 1.0, 4.0):
        assert distance_to_reach(6.0 * L, 1.0, L) == approx(6.0 - 1.0 / L, rel=1e-14)


def test_nothing_is_known_behind_a_model_that_can_be_forced_or_is_the_target() -> None:
    # ‖F(y)‖ <= fλ: y itself can be forced, and no cone is excluded.  θ† = y: its distance to y is 0.
    assert distance_behind(np.array([0.5, 0.0]), np.array([1.0, 0.0]), 1.0) == 0.0
    assert distance_behind(np.array([1.0, 0.0]), np.array([1.0, 0.0]), 1.0) == 0.0
    assert distance_behind(np.array([2.0, 0.0]), np.array([0.0, 0.0]), 1.0) == 0.0
    # A quarter turn is left without force, wherever θ† lies on the axis.
    assert distance_behind(np.array([2.0, 0.0]), np.array([3.0, 0.0]), 0.0) == approx(3.0, rel=1e-14)


def test_one_draw_may_be_all_and_none_says_nothing() -> None:
    for failure in (False, True):
        found = sequential.decide([failure] * 5, 0.3, error=1e-6, max_draws=1)
        assert (found.outcome, found.n_draws, found.n_failures) == (sequential.Outcome.UNDECIDED, 1, int(failure))
    with pytest.raises(ShapeError, match="max_draws"):
        sequential.decide([True], 0.3, error=1e-6, max_draws=0)
    # The e-value of no data is 1: it speaks for neither side.
    found = sequential.decide([], 0.3, error=1e-6, max_draws=5)
    assert (found.n_draws, found.n_failures, found.outcome) == (0, 0, sequential.Outcome.UNDECIDED)
    assert (found.log_refute, found.log_accept) == (0.0, 0.0)
    assert sequential.log_e_values(0, 0, 0.3) == approx((0.0, 0.0), abs=1e-12)


def test_a_refutation_of_another_learner_is_false_not_nothing() -> None:
    good = refute_byzantine(learners.Aggregation(learners.CoordinateMedian()), 1, 4, 0.2)
    assert good.verify(learners.Aggregation(learners.Mean())) is False
    with pytest.raises(ShapeError, match="dim"):
        impossibility.two_worlds(1, 2, 0.0, dim=0)


def test_the_gradient_of_two_classes_is_that_of_logistic_regression() -> None:
    # With the second class's parameters θ and the first's 0 the margin is that of labels ±1.
    rng = np.random.default_rng(3)
    Q, theta, labels = rng.standard_normal((6, 3)), rng.standard_normal(3), np.array([1, 0, 1, 1, 0, 0])
    loss = Multinomial(2)
    found = local_gradient(np.concatenate([np.zeros(3), theta]), Q, loss.encode(labels, "a"), loss, 0.0)
    signs = 2.0 * labels - 1.0
    expected = np.sum([-s * norm_sigma(-s * float(q @ theta)) * q for s, q in zip(signs, Q, strict=True)], axis=0)
    assert found.shape == (6,)
    assert found[3:] == approx(expected, rel=1e-12)
    assert found[:3] == approx(-expected, rel=1e-12)


def test_a_regularizer_is_replaced_by_regularizers_only() -> None:
    problem = two_users(L2(0.5))
    found = problem.with_regularizer(SquaredL2(0.25), 0.75)
    assert (found.reg, found.nu) == (SquaredL2(0.25), 0.75)
    # A class is no regularizer, though it has all the names.
    for wrong in ("l2", L2):
        with pytest.raises(ShapeError, match="reg: expected an object with name"):
            problem.with_regularizer(wrong, 0.75)  # type: ignore[arg-type]


def test_shapes_are_named_in_words() -> None:
    for ndim, words in enumerate(["a scalar", "a one-dimensional array", "a two-dimensional array"]):
        with pytest.raises(ShapeError, match=words):
            as_array(np.zeros((1,) * (ndim + 1)), "x", ndim)
    with pytest.raises(ShapeError, match="expected a three-dimensional array, found"):
        as_array(0.0, "x", 3)
    with pytest.raises(ShapeError, match="expected an array of 4 dimensions, found"):
        as_array(0.0, "x", 4)


def test_honest_answers_err_by_one_unless_told_otherwise() -> None:
    Q, model = np.ones((4000, 1)), [2.0]
    found = honest_answers(Q, model, LeastSquares(), np.random.default_rng(1))
    data = honest_dataset(RademacherQueries(1), [0.0], 4000, LeastSquares(), np.random.default_rng(2))
    # The variance of 4000 standard normal errors is 1 within 5·√(2/4000).
    for errors in (found - 2.0, data.A):
        assert float(np.mean(errors**2)) == approx(1.0, rel=0.12)


def test_errors_say_what_they_were_told_and_survive_a_copy() -> None:
    # The best point of a solver is no part of the message; arguments by name are kept like others.
    assert str(SolverError("no minimum", np.zeros(2))) == "no minimum"
    error = AssumptionError(statement="thm5", value="x = 1", mend="take x = 2")
    shape = ShapeError(argument="Q", expected="a matrix", found="7")
    assert str(pickle.loads(pickle.dumps(shape))) == str(shape) == "Q: expected a matrix, found 7"
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.statement, copy.value, copy.mend) == ("thm5", "x = 1", "take x = 2")
    assert str(copy) == str(error) == "thm5: found x = 1; take x = 2"


def test_the_geometric_median_halves_steps_that_are_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    # Newton's full step overshoots here.  Halved, it converges in a few steps; averaging alone takes dozens.
    monkeypatch.setattr(learners, "_MAX_ITERATIONS", 12)
    for points in (
        [[0.009, 0.066], [0.157, 0.511], [3.564, 13.749], [-6.071, 2.051], [0.054, -0.173]],
        [[0.412, -0.322], [-0.191, -0.53], [4.742, 4.567], [0.165, 0.169], [-2.264, -1.37]],
    ):
        models = np.array(points)
        z = learners.GeometricMedian()(models) - models
        assert np.linalg.norm(np.sum(z / np.linalg.norm(z, axis=1)[:, None], axis=0)) < 1e-7


@pytest.mark.parametrize("max_query", [None, 0.25])
def test_one_point_is_enough_where_answers_may_be_any(max_query: float | None) -> None:
    # One query c·w with the answer (s + 1/c²)·c is exact for every c > 0, so that no bound on queries asks for more.
    for s in (-3.0, 0.0, 3.0):
        d = demand([1.5], [s / 1.5])
        assert poisoning.least_points(d, LeastSquares(), max_query=max_query) == 1
        c = 0.25 / 1.5
        data = UserDataset([[c * 1.5]], [c * s + 1.0 / c])
        assert float(poisoning.missing_gradient(data, d, LeastSquares())[0]) == approx(0.0, abs=1e-12)
