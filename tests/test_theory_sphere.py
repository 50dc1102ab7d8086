"""The minimum of a quadratic on the sphere: closed forms by hand, exact rationals, and every size of float64."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from theory import rational, sphere
from theory.arrays import Array
from theory.sphere import SphereMinimum, gamma, lifted, minimize_on_sphere

U = 2.0**-53


def minimum_of(H: Any, g: Any) -> SphereMinimum:
    return minimize_on_sphere(np.array(H, dtype=float), np.array(g, dtype=float))


def test_error_of_n_roundings_is_that_of_higham() -> None:
    # n·u/(1 - n·u): with n = 2^51 it is (1/4)/(3/4), and one rounding errs by a little more than u.
    assert gamma(2.0**51) == pytest.approx(1 / 3, rel=1e-15)
    assert gamma(1) == pytest.approx(U, rel=1e-15, abs=0.0)
    assert gamma(0) == 0.0


@pytest.mark.parametrize("scale", [1e-310, 1e-300, 1e-170, 1e-160, 1.0, 1e150, 1e200, 1e300])
def test_bounds_enclose_the_minimum_at_every_size(scale: float) -> None:
    """Squares underflow below 1e-162 and overflow above 1e154; neither may cost the guarantee, or the minimum."""
    # H = s·diag(0, 1, 2), g = s·(3, 0, 4)/10: exact values by hand at u, and V from the secular equation below.
    H, g = scale * np.diag([0.0, 1.0, 2.0]), scale * np.array([0.3, 0.0, 0.4])
    with np.errstate(all="raise", under="ignore"):
        minimum = minimize_on_sphere(H, g)
    u = rational.fractions(minimum.point)
    value = u.dot(rational.fractions(H).dot(u)) + rational.fractions(g).dot(u)
    # u is a unit vector up to rounding, so that V is at most its value at u.
    assert abs(float(u.dot(u)) - 1.0) <= 4 * U
    assert minimum.low <= value <= minimum.high + 4 * U * scale
    assert minimum.high - minimum.low <= 1e-13 * scale + 1e-299
    # (0.15/s)² + (0.2/(2 + s))² = 1 has its root near 0.15: -s is μ, and V = μ - Σh²/(γ + s) by the stationary point.
    s = -minimum.multiplier / scale
    if scale >= 1e-300:
        assert (0.15 / s) ** 2 + (0.2 / (2.0 + s)) ** 2 == pytest.approx(1.0, rel=1e-14)
        assert float(value) / scale == pytest.approx(-s - 0.15**2 / s - 0.2**2 / (2.0 + s), rel=1e-13)


def test_linear_functions_are_least_opposite_to_their_gradient() -> None:
    for scale in (1e-320, 1e-200, 1.0, 1e200):
        g = scale * np.array([3.0, -4.0])
        minimum = minimum_of(np.zeros((2, 2)), g)
        assert minimum.point == pytest.approx([-0.6, 0.8], rel=1e-3 if scale == 1e-320 else 1e-15)
        length = math.hypot(*g)
        assert minimum.low <= -length <= minimum.high
        assert minimum.multiplier == pytest.approx(-0.5 * length, rel=1e-14)


def test_on_the_line_the_sphere_is_two_points() -> None:
    # d = 1: u = ±1, so V = h - |g|, and μ = h - |g|/2 from (h - μ)u = -g/2.
    for h, g in [(2.0, 3.0), (2.0, -3.0), (-5.0, 0.5), (0.0, 0.0), (7.0, 0.0)]:
        minimum = minimum_of([[h]], [g])
        assert minimum.low <= h - abs(g) <= minimum.high
        assert minimum.high - minimum.low <= 1e-13 * (1.0 + abs(h) + abs(g))
        assert minimum.multiplier == h - abs(g) / 2
        assert minimum.point.tolist() in ([[-1.0]] if g > 0 else [[1.0]] if g < 0 else [[1.0], [-1.0]])


def test_multiplier_and_point_satisfy_the_optimality_conditions() -> None:
    rng = np.random.default_rng(5)
    for d in (1, 2, 3, 8):
        for scale in (0.0, 1e-8, 0.1, 1.0, 30.0):
            H = rng.standard_normal((d, d))
            H, g = H + H.T, scale * rng.standard_normal(d)
            minimum = minimize_on_sphere(H, g)
            residual = (H - minimum.multiplier * np.eye(d)) @ minimum.point + 0.5 * g
            assert np.abs(residual).max() <= 1e-13 * (1.0 + scale) * d
            assert np.linalg.eigvalsh(H)[0] - minimum.multiplier >= -1e-13 * d


@pytest.mark.parametrize("small", [0.0, 1e-100, 1e-20, 1e-9])
def test_close_to_the_hard_case_the_point_stays_on_the_sphere(small: float) -> None:
    # H = diag(0, 1), g = (2·small, 2h): inside the ball for small = 0 and h < 1; V is -h² there, and continuous.
    for h in (0.25, 1.0 - 1e-12, 1.0, 1.0 + 1e-12):
        minimum = minimum_of([[0.0, 0.0], [0.0, 1.0]], [2.0 * small, 2.0 * h])
        least = -h * h if h <= 1.0 else 1.0 - 2.0 * h
        assert minimum.low <= least + 4 * U
        assert minimum.low >= least - 2.0 * small - 1e-13
        assert minimum.high - minimum.low <= 1e-13
        # With ‖u‖ = 1 the first component is what the second leaves.
        assert np.linalg.norm(minimum.point) == pytest.approx(1.0, abs=4 * U)
        assert minimum.point[1] == pytest.approx(-min(h, 1.0), abs=1e-5 if h >= 1 - 1e-9 else 2e-6)


def test_root_of_the_secular_equation_is_exact_where_all_gaps_are_equal() -> None:
    # ‖h‖ = s: (3, 4) → 5, whatever the signs; gaps 2 shift nothing for s, as ‖h‖/(2 + s) = 1 at s = 3.
    assert sphere._secular_root(np.zeros(2), np.array([3.0, -4.0])) == pytest.approx(5.0, rel=4 * U)
    assert sphere._secular_root(np.array([0.0, 2.0, 2.0]), np.array([0.0, 3.0, 4.0])) == pytest.approx(3.0, rel=4 * U)
    # At ‖h/γ‖ = 1 the root is 0, and just beyond it is not: 1 - ε and 1 + ε of (3/5, 4/5).
    gaps = np.array([0.0, 1.0, 1.0])
    assert sphere._secular_root(gaps, np.array([0.0, 0.6, 0.8 - 1e-9])) == 0.0
    assert sphere._secular_root(gaps, np.array([0.0, 0.6, 0.8 + 1e-9])) == pytest.approx(0.8e-9, rel=1e-5, abs=0.0)
    assert sphere._secular_root(np.zeros(1), np.array([0.25])) == 0.25


def test_root_of_the_secular_equation_takes_a_handful_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """1/‖u(s)‖ is linear where all gaps are equal, and Newton's method exact; slower methods find the same root."""
    lengths: list[float] = []
    real = np.linalg.norm

    def norm(u: Array) -> Any:
        lengths.append(float(real(u)))
        return lengths[-1]

    monkeypatch.setattr(np.linalg, "norm", norm)
    sphere._secular_root(np.zeros(16), np.full(16, 2.0))
    assert lengths == [4.0, 1.0]
    lengths.clear()
    sphere._secular_root(np.arange(16.0), np.full(16, 2.0))
    assert len(lengths) <= 8


def test_root_of_the_secular_equation_ends_where_numbers_do() -> None:
    # ‖(2^20, 1)‖ exceeds 2^20 by 2^-21: in units of the least number there is, s = 2^20 cannot be moved by that.
    tiny = 2.0**-1074
    assert sphere._secular_root(np.zeros(2), np.array([2.0**20, 1.0]) * tiny) == 2.0**20 * tiny
    gaps = np.array([0.0, 2.0**20, 2.0**20]) * tiny
    assert sphere._secular_root(gaps, np.array([0.0, 2.0**20, 1.0]) * tiny) == 0.0


def test_a_length_that_only_rounding_makes_one_leaves_no_root_of_a_negative_number() -> None:
    # √(1 + 2^-52) is rounded to 1, so that the point counts as inside the ball, and 1 - ‖u‖² is below 0.
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((200, 3))
    directions[:, 0] = 0.0
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    long = [u for u in directions if u @ u > 1.0 and np.linalg.norm(u) == 1.0]
    assert long
    for u in long:
        point = minimum_of(np.diag([0.0, 1.0, 1.0]), -2.0 * u).point
        assert point == pytest.approx(u, abs=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_root_of_the_secular_equation_against_bisection(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gaps = np.sort(10.0 ** rng.uniform(-6, 2, 6))
    gaps -= gaps[0]
    half = rng.standard_normal(6) * 10.0 ** rng.uniform(-6, 2, 6)
    low, high = Fraction(0), Fraction(10**4)
    for _ in range(80):
        s = (low + high) / 2
        longer = sum((Fraction(h) / (Fraction(gap) + s)) ** 2 for gap, h in zip(gaps, half, strict=True)) > 1
        low, high = (s, high) if longer else (low, s)
    assert sphere._secular_root(gaps, half) == pytest.approx(float(low), rel=1e-14)


# --------------------------------------------------------------------------------------------------- certified bounds


def lower_bound(H: Array, g: Array, multiplier: float, value: float) -> float:
    return sphere._certified_low(H, g, multiplier, value)


def test_lower_bound_is_right_whatever_is_guessed_and_loses_no_more_than_it_must() -> None:
    # H = diag(1, 2), g = 0, so V = 1 and M(1, c) = diag(0, 1, 1 - c), which needs η = c - 1 if c > 1.
    H, g = np.diag([1.0, 2.0]), np.zeros(2)
    losses = []
    for excess in 10.0 ** np.linspace(-12, 0, 800):
        low = lower_bound(H, g, 1.0, 1.0 + excess)
        assert low <= 1.0
        losses.append((1.0 + excess - low) / 2.0 / excess)
    # η is at most 16 times too large, and at least what is needed.
    assert 1.0 <= min(losses) <= 1.05
    assert 15.5 <= max(losses) <= 16.01
    # A wrong multiplier costs sharpness, not truth: M(3, c) has H - 3I < 0.
    assert lower_bound(H, g, 3.0, 1.0) <= 1.0
    assert lower_bound(H, g, 3.0, -100.0) <= 1.0


@pytest.mark.parametrize(("h", "g"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, -math.inf)])
def test_what_is_no_number_has_no_bounds(h: float, g: float) -> None:
    with np.errstate(invalid="ignore"):
        minimum = minimum_of([[h, 0.0], [0.0, 1.0]], [0.0, g])
    assert minimum.low == -math.inf
    assert not minimum.high < math.inf
    assert lower_bound(np.array([[h]]), np.zeros(1), 0.0, g) == -math.inf


@pytest.fixture(params=[U, 1e-4])
def unit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """The unit of rounding: also one so large that each term of a bound is seen beside the others."""
    monkeypatch.setattr(sphere, "UNIT", request.param)
    return float(request.param)


@pytest.mark.parametrize(
    ("H", "g", "mu", "c"),
    [
        # The factorization succeeds at once: M is positive definite, at most 1 less on the diagonal.
        ([[3.0, 1.0], [1.0, -1.0]], [0.5, 0.25], -4.0, -8.0),
        ([[3.0, 0.0], [0.0, 1.0]], [0.0, 0.0], 0.5, 0.0),
        ([[0.0, 0.0], [0.0, 0.0]], [0.0, 0.0], 0.0, 0.0),
    ],
)
def test_rounding_of_the_lower_bound_is_the_one_derived(H: Any, g: Any, mu: float, c: float, unit: float) -> None:
    H, n = np.array(H), 3

    def lost(k: int) -> float:
        return k * unit / (1.0 - k * unit)

    # The trace of |M| is at most this, with |μ| and |c| where they do not stand as well.
    size = abs(H[0, 0]) + abs(H[1, 1]) + n * (abs(mu) + abs(c))
    shift = lost(8 * n) * size / n + 1e-300
    error = lost(n + 5) * (size + n * shift) + shift
    expected = c - 2.0 * error - 4.0 * unit * abs(c)
    assert lower_bound(H, np.array(g), mu, c) == pytest.approx(expected, rel=1e-15, abs=0.0)


def test_rounding_of_the_upper_bound_is_the_one_derived(unit: float) -> None:
    # V = 0 at u = (0, -1), without rounding; the column sums of |H| are 1 and 2, and ‖g‖ = 2.
    minimum = minimum_of([[1.0, 0.0], [0.0, 2.0]], [0.0, 2.0])
    n = 3 * 2 + 8
    assert minimum.point.tolist() == [0.0, -1.0]
    assert minimum.high == pytest.approx(n * unit / (1.0 - n * unit) * (2.0 + 2.0), rel=1e-14, abs=0.0)
    # Column sums 3, which an orthogonal basis of eigenvectors does not change to 1 = ‖H - 2I‖_2: V = 1 at (1, -1)/√2.
    minimum = minimum_of([[2.0, 1.0], [1.0, 2.0]], [0.0, 0.0])
    assert minimum.high - 1.0 == pytest.approx(n * unit / (1.0 - n * unit) * 3.0, abs=4 * U)
    assert minimum_of(np.zeros((2, 2)), [0.0, 0.0]).high == 1e-300


def test_matrix_of_the_certificate_is_that_of_the_text() -> None:
    H, g = np.array([[1.0, 2.0], [2.0, 5.0]]), np.array([6.0, 8.0])
    expected = [[1.0 - 7.0, 2.0, 3.0], [2.0, 5.0 - 7.0, 4.0], [3.0, 4.0, 7.0 - 0.5]]
    assert lifted(H, g, 7.0, 0.5).tolist() == expected
