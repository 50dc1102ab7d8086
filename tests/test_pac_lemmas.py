"""Lemmas 20-30: attacked near equality, and a slightly stronger constant is refuted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from solvers import minimize
from theory import (
    L2,
    AssumptionError,
    LeastSquares,
    Problem,
    RademacherQueries,
    ShapeError,
    SmoothL2,
    SquaredL2,
    UserDataset,
    gradient_pac,
    honest_dataset,
)
from theory.pac_constants import curvature_constant
from theory.pac_lemmas import (
    lemma5_error,
    lemma20,
    lemma21,
    lemma22,
    lemma23,
    lemma24,
    lemma25,
    lemma26,
    lemma27,
    lemma28,
    lemma29,
    lemma29_least_data,
    lemma30_radius,
    logistic_distance,
    logistic_distance_bound,
)
from theory.sequential import generator_of


def hard_pairs(rng: np.random.Generator, k: float, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """b in [-k, k] near its ends, a near b ± 1, b and far away."""
    b = np.concatenate([rng.uniform(-k, k, n), k * (1 - 10 ** rng.uniform(-12, 0, n)), [k, -k] * 4])
    steps = np.concatenate(
        [rng.choice([-1, 1], b.size - 8) * 10 ** rng.uniform(-6, 2, b.size - 8), [1, -1, 1e-9, -1e-9, 1, -1, 50, -50]]
    )
    near = rng.random(b.size) < 0.3
    steps[near] = np.sign(steps[near]) * (1 + 1e-6 * rng.standard_normal(near.sum()))
    return b + steps, b


# Δ is computed to 40 units in the last place; near equality that is all that can be asked.
RELATIVE = 1e-13


@pytest.mark.parametrize("k", [0.1, 1.0, 5.0])
def test_pac_lemma25_and_its_sharp_form(k: float) -> None:
    a, b = hard_pairs(np.random.default_rng(0), k)
    weak, sharp = lemma25(a, b, k), logistic_distance_bound(a, b, k)
    assert np.all(weak.slack >= -RELATIVE * np.abs(a - b))
    assert np.all(sharp.slack >= -RELATIVE * np.asarray(sharp.right))
    # The sharp form implies Lemma 25, and its constant is best possible: 1e-9 more is refuted.
    assert np.all(np.asarray(sharp.right) >= np.asarray(weak.right) - 1e-15)
    assert np.any(np.asarray(sharp.left) < (1 + 1e-9) * np.asarray(sharp.right))


@pytest.mark.parametrize("k", [0.1, 1.0, 5.0])
def test_pac_lemma24_constant_is_best_possible(k: float) -> None:
    rng = np.random.default_rng(1)
    b = rng.choice([-1, 1], 3000) * k * (1 - 10 ** rng.uniform(-9, 0, 3000))
    a = np.clip(b + rng.choice([-1, 1], 3000) * 10 ** rng.uniform(-9, 1, 3000), -k, k)
    found = lemma24(a, b, k)
    assert np.all(found.slack >= -RELATIVE * np.asarray(found.right))
    limit = lemma24([k], [k - 1e-7], k)
    assert limit.left[0] < (1 + 1e-6) * limit.right[0]
    with pytest.raises(AssumptionError, match="at most k"):
        lemma24([k * 1.01], [0.0], k)


def test_pac_lemma25_printed_bound_with_b_outside_is_refused_and_false() -> None:
    # Without |b| <= k the constant d_k is too large: the hypothesis is used.
    k, b = 1.0, 8.0
    d_k = expit(k + 1) - expit(k)
    assert float(logistic_distance(b + 3.0, b)) < d_k * 3.0 - d_k
    with pytest.raises(AssumptionError, match="at most k"):
        lemma25([b + 3.0], [b], k)


def test_pac_lemma20_weyl_and_a_smaller_norm_is_refuted() -> None:
    rng = np.random.default_rng(2)
    n_tight = 0
    for _ in range(200):
        d = int(rng.integers(1, 5))
        S, X = (x @ x.T for x in rng.standard_normal((2, d, d)))
        if rng.random() < 0.3:
            X = S + 0.5 * np.eye(d)
        found = lemma20(S, X)
        assert found.slack >= -1e-13 * (np.abs(S).sum() + np.abs(X).sum())
        n_tight += found.right > 0.999 * found.left
    assert n_tight >= 20


def test_pac_lemma21_23_on_large_honest_data_and_their_falsehoods() -> None:
    rng = generator_of("lem21_smallest_eigenvalue")
    Q = RademacherQueries(3).sample(4000, rng)
    assert lemma21(Q, np.eye(3)).holds
    assert not lemma21(Q, 2.2 * np.eye(3)).holds
    xi = rng.standard_normal(4000)
    assert lemma23(Q, xi, 0.5).holds
    # Noise that depends on the queries is not of mean zero: the lemma's independence is used.
    assert not lemma23(Q, Q[:, 0], 0.5).holds


def test_pac_lemma22_moment_bound_is_tight_and_a_smaller_one_is_refuted() -> None:
    s = np.linspace(-5.0, 5.0, 101)
    assert lemma22(np.array([[1.0], [3.0], [0.5]]), 0, s, sigma=0.7).holds
    single = lemma22(np.array([[3.0]]), 0, np.array([1e-2]))
    # exp(x²/2) against cosh(x): equal to third order, so an exponent 1 % smaller is refuted.
    assert single.right[0] > math.exp(0.99 * math.log(single.left[0]))


def test_pac_lemma26_27_bounds_are_below_every_direction() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        n, d = int(rng.integers(1, 8)), int(rng.integers(1, 4))
        Q = rng.integers(-2, 3, (n, d)).astype(float)
        certified = lemma27(Q, 0.0).left
        for u in (*rng.standard_normal((30, d)), *np.eye(d)):
            direction = u / np.linalg.norm(u)
            assert lemma26(Q, u).slack >= -1e-14
            # An eigenvalue of 0 may come out below 0; a bound below 0 would say that |Qᵀu| can be.
            assert lemma26(Q, u).right >= 0.0
            assert certified <= float(np.sum(np.abs(Q @ direction))) + 1e-12
        assert lemma27(Q, 0.0).holds
        spans = np.linalg.matrix_rank(Q) == d
        assert (certified > 1e-9) == spans
    # Tight for orthogonal queries of one length in d = 1; a constant above it is refuted.
    assert lemma27(np.array([[2.0], [-2.0]]), 2.0).holds
    assert not lemma27(np.array([[2.0], [-2.0]]), 2.0 + 1e-9).holds


def test_pac_hoeffding_of_equation_121_as_printed_is_false() -> None:
    # Values 0 and M with probability 1/2 (d = 1): |X - E X| >= M/2 always.
    M, t = 10.0, 5.0
    exact = 1.0
    assert exact > 2.0 * math.exp(-2.0 * t**2 / M)
    assert exact <= 2.0 * math.exp(-2.0 * t**2 / M**2)


def test_pac_lemma28_with_the_explicit_constant() -> None:
    rng = np.random.default_rng(4)
    tightest = math.inf
    for _ in range(300):
        n, d = int(rng.integers(1, 6)), int(rng.integers(1, 3))
        Q = rng.standard_normal((n, d)) * 10 ** rng.uniform(-1, 0.5)
        theta = rng.standard_normal(d)
        M = float(np.max(np.linalg.norm(Q, axis=1)))
        least = max(0.0, float(np.linalg.eigvalsh(Q.T @ Q / n)[0]))
        A = curvature_constant(M, float(np.linalg.norm(theta))) * least
        z = rng.standard_normal(d)
        z *= 10 ** rng.uniform(-2, 1) / np.linalg.norm(z)
        found = lemma28(Q, theta + z, theta, A)
        assert found.slack >= -1e-12 * (1.0 + found.right)
        if found.right > 1e-6:
            tightest = min(tightest, found.left / found.right)
    # Equality for one query with θ† and z along it, ‖z‖ = 1: a constant 1e-9 larger is refuted.
    equal = lemma28([[2.0]], [1.5], [0.5], curvature_constant(2.0, 0.5) * 4.0)
    assert abs(equal.slack) <= 1e-14
    assert not lemma28([[2.0]], [1.5], [0.5], curvature_constant(2.0, 0.5) * 4.0 * (1 + 1e-9)).holds
    assert tightest < 3.0


def test_pac_lemma29_repaired_size_bounds_the_models_at_the_minimum() -> None:
    rng = generator_of("lem29_local_models_bounded")
    models = np.array([[1.0, 0.0], [-1.0, 1.0]])
    others = [UserDataset(np.eye(2), [30.0, -30.0])]
    reg, nu, A, B, alpha = SquaredL2(1.0), 0.1, 0.5, 1.0, 0.75
    L0 = float(np.sum(models**2)) * (1 + nu) + 900.0
    n = math.ceil(lemma29_least_data(A, B, alpha, L0, n_honest=2)) + 1
    honest = [honest_dataset(RademacherQueries(2), model, n, LeastSquares(), rng) for model in models]
    # The event of the lemma's proof holds for these data.
    for data, model in zip(honest, models, strict=True):
        assert gradient_pac(data, model, loss=LeastSquares(), nu=nu, A=A, B=B, alpha=alpha).holds is True
    solution = minimize(Problem([*honest, *others], LeastSquares(), reg, nu=nu))
    assert lemma29(solution.thetas[:2], models).holds
    # Without data the others pull the models away by more than 2: the bound on ℐ is used.
    none = minimize(Problem([UserDataset.empty(2)] * 2 + others * 5, LeastSquares(), reg, nu=nu))
    assert not lemma29(none.thetas[:2], models).holds
    assert lemma29_least_data(A, B, alpha, L0, 2) > lemma29_least_data(A, B, alpha, L0, 1, printed=True)


def test_pac_lemma29_honest_losses_fall_below_their_values_at_the_preferred_models() -> None:
    # The step of eq. 160 that is repaired: L_h(θ) >= L_h(θ_h†) is false, by up to ‖∇L_h(θ_h†)‖²/(2 λ_min).
    rng = generator_of("lem29_eq160")
    data = honest_dataset(RademacherQueries(2), [1.0, 0.0], 500, LeastSquares(), rng)
    problem = Problem([data], LeastSquares(), SquaredL2(1.0))
    at = np.array([[1.0, 0.0]])
    best = minimize(problem)
    assert problem.value(best.rho, best.thetas) < problem.value(at[0], at) - 0.1


@pytest.mark.parametrize("reg", [SquaredL2(0.7), L2(0.7), SmoothL2(0.7)], ids=["squared_l2", "l2", "smooth_l2"])
def test_pac_lemma30_radius_contains_the_global_model(reg: Any) -> None:
    rng = generator_of("lem30_global_model_bounded")
    models = rng.standard_normal((2, 2))
    others = [UserDataset(rng.standard_normal((4, 2)), 5.0 * rng.standard_normal(4)) for _ in range(3)]
    center = models.mean(axis=0)
    # θ_n⁰ = ρ₀, and inf L_n >= 0.
    excess = sum(
        0.5 * float(np.sum((user.Q @ center - user.A) ** 2)) + float(reg.value(center, center)) for user in others
    )
    honest = [honest_dataset(RademacherQueries(2), model, 300, LeastSquares(), rng) for model in models]
    solution = minimize(Problem([*honest, *others], LeastSquares(), reg))
    assert lemma29(solution.thetas[:2], models).holds
    radius = lemma30_radius(reg, models, excess, center)
    distances = np.linalg.norm(solution.rho - models, axis=1)
    assert np.all(distances <= radius)


def test_pac_lemma5_error_bounds_the_distance_at_the_minimum() -> None:
    rng = generator_of("lem5_local_pac")
    model, reg, nu, alpha, B = np.array([0.6, -0.2]), L2(2.0), 0.0, 0.6, 1.0
    n_bound = 0
    for n in (10, 100, 1000, 10_000):
        data = honest_dataset(RademacherQueries(2), model, n, LeastSquares(), rng)
        A = gradient_pac(data, model, loss=LeastSquares(), nu=nu, A=0.0, B=B, alpha=alpha).best_A
        if A <= 0:
            continue
        solution = minimize(Problem([data, UserDataset(np.eye(2), [50.0, 50.0])], LeastSquares(), reg, nu=nu))
        error = float(np.linalg.norm(solution.thetas[0] - model))
        # E = λ for ℓ2.  Planted: without the force the bound fails for few data, so E is used.
        bound = lemma5_error(A, B, alpha, reg.lam, n)
        assert error <= bound
        n_bound += math.isfinite(bound)
    assert n_bound >= 2
    assert lemma5_error(1.0, 1.0, 0.5, 1.0, 4) == math.inf


# ------------------------------------------------------------------------------------------------------------- corners


def test_pac_lemmas_that_need_more_data_than_a_float_can_count_say_infinity() -> None:
    # (2B/A)^{1/(1-α)} = (2·10^10)^100 is far beyond 10^308; Python's power of floats raises there.
    assert lemma5_error(1.0, 1e10, 0.99, 0.0, 10**6) == math.inf
    for printed in (True, False):
        assert lemma29_least_data(1.0, 1e10, 0.99, 1.0, printed=printed) == math.inf
    # S/λ = 10^200, whose square is not needed: √((S/λ)² - 1) = S/λ to the last bit.
    assert lemma30_radius(SmoothL2(1.0), [[0.0]], 1e200, [0.0]) == pytest.approx(1e200, rel=1e-15)


def test_pac_lemmas_are_about_matrices_with_entries() -> None:
    # Means over no query are NaN, and a largest entry of none is an error of NumPy that names no argument.
    for none in (np.zeros((0, 2)), np.zeros((2, 0))):
        for lemma in (
            lambda Q: lemma20(Q, Q),
            lambda Q: lemma21(Q, np.eye(2)),
            lambda Q: lemma22(Q, 0, [1.0]),
            lambda Q: lemma26(Q, [1.0, 0.0]),
            lambda Q: lemma27(Q, 1.0),
        ):
            with pytest.raises(ShapeError, match="expected at least one row and one column"):
                lemma(none)
        with pytest.raises(ShapeError, match="theta_honest: expected at least one row and one column"):
            lemma30_radius(SmoothL2(1.0), none, 0.0, np.zeros(none.shape[1]))
    # Of no noise there is no sum: 0 >= 0.
    assert lemma23(np.zeros((0, 2)), [], 1.0).slack == 0.0


def test_pac_lemma20_21_refuse_matrices_without_real_eigenvalues() -> None:
    # One triangle of this one is that of 0, but its norm is 1.
    lopsided = np.array([[0.0, 1.0], [0.0, 0.0]])
    for refused in (lopsided, lopsided.T, np.array([[1.0, 2e-9], [0.0, 1.0]])):
        with pytest.raises(ShapeError, match="S: expected a symmetric matrix"):
            lemma20(refused, np.eye(2))
        with pytest.raises(ShapeError, match="Sigma: expected a symmetric matrix"):
            lemma20(np.eye(2), refused)
        with pytest.raises(ShapeError, match="Sigma: expected a symmetric matrix"):
            lemma21(np.eye(2), refused)
    with pytest.raises(ShapeError, match=r"S: expected .* of shape \(2, 2\)"):
        lemma20(np.ones((2, 3)), np.eye(2))
    # Rounding, of the size of the largest entry, is no asymmetry.
    rounded = -np.array([[1000.0, 500.0, 0.0], [500.0 + 1e-8, 1000.0, 0.0], [0.0, 0.0, 1.0]])
    assert lemma20(rounded, np.zeros((3, 3))).left == pytest.approx(1500.0)


def test_pac_lemmas_take_absolute_values_and_columns() -> None:
    # Weyl's inequality bounds the difference of the smallest eigenvalues in either order.
    for S, Sigma in ((np.diag([1.0, 2.0]), np.diag([4.0, 2.5])), (np.diag([4.0, 2.5]), np.diag([1.0, 2.0]))):
        assert lemma20(S, Sigma).right == 1.5
    # Δ(a, b) - and so each bound on it - is the same for (a, b) and (-a, -b), and for a on either side of b = 0.
    for bound in (lemma24, lemma25, logistic_distance_bound):
        for a, b in ((0.5, -1.0), (2.0, 0.0), (-0.25, 0.5)):
            one, other = bound(a, b, 2.0), bound(-a, -b, 2.0)
            assert (one.left, one.right) == pytest.approx((other.left, other.right), rel=1e-13)
    # Queries shorter than 1 have a largest length, too: here each direction sees one of them.
    short = lemma26(0.25 * np.eye(2), [1.0, 0.0])
    assert (short.left, short.right) == (0.125, 0.125)
    assert lemma27(0.25 * np.eye(2), 0.0).left == 0.25
    # The largest entry of a column is the largest in absolute value; s may be of any shape.
    column, s = np.array([[-3.0], [1.0]]), np.array([[0.5, -1.0], [2.0, 0.0]])
    found = lemma22(column, 0, s, sigma=0.5)
    assert found.left == pytest.approx(np.exp(0.5 * (1.5 * s) ** 2), rel=1e-14)
    assert found.right == pytest.approx((np.cosh(1.5 * s) + np.cosh(0.5 * s)) / 2.0, rel=1e-14)
    assert lemma22(column, 0, 2.0).right == pytest.approx((math.cosh(6.0) + math.cosh(2.0)) / 2.0, rel=1e-14)
    # A column is asked for, not a row.
    with pytest.raises(ShapeError, match="j: expected an integer from 0 to 1"):
        lemma22(np.ones((3, 2)), 2, [1.0])
    assert lemma22(np.ones((1, 2)), 1, [0.0]).slack.tolist() == [0.0]


def test_pac_lemmas_refuse_what_they_are_not_about() -> None:
    # One argument of several that is larger than k is one too many.
    for lemma in (lemma24, lemma25):
        with pytest.raises(AssumptionError, match=r"\|b\| = 3\.0"):
            lemma([0.0, 0.0], [0.5, 3.0], 1.0)
    with pytest.raises(ShapeError, match="n_honest: expected an integer >= 1"):
        lemma29_least_data(1.0, 1.0, 0.5, 1.0, n_honest=0)
    # One datum is enough where ℐ₂ = 2E/A = 1/2.
    assert lemma5_error(1.0, 0.0, 0.5, 0.25, 1) == 0.25

    class Huber:
        name = "huber"

        def value(self, rho: np.ndarray, theta: np.ndarray) -> Any:
            return np.linalg.norm(rho - theta)

        gradient = project = value

    with pytest.raises(AssumptionError, match=r"found regularizer .*Huber.*; use SquaredL2, L2 or SmoothL2"):
        lemma30_radius(Huber(), [[0.0]], 0.0, [0.0])
