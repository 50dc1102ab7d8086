"""The learner with the least constant: it attains the bound of Corollary 2 where claim C21 says so, and never errs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from solvers import Minimax, learners
from theory import AssumptionError, ShapeError, SolverError
from theory.impossibility import diameter, least_constant, two_worlds
from theory.learners import GeometricMedian, Mean


def constant(models: np.ndarray, answer: np.ndarray, F: int) -> float:
    """The largest ‖answer - mean‖/diameter over all sets of N - F users, from scratch."""
    import itertools

    worst = 0.0
    for users in itertools.combinations(range(len(models)), len(models) - F):
        honest = models[list(users)]
        error, spread = float(np.linalg.norm(answer - honest.mean(axis=0))), diameter(honest)
        worst = max(worst, error / spread if spread > 0 else (math.inf if error > 0 else 0.0))
    return worst


def cases(dims, n_cases, seed=0):
    """Models at random, on a grid (ties), or of very different sizes, for all F < N/2 in turn."""
    rng = np.random.default_rng(seed)
    for k in range(n_cases):
        N, d = int(rng.integers(3, 9)), int(rng.choice(dims))
        F = 1 + k % ((N - 1) // 2)
        models = rng.standard_normal((N, d))
        if k % 3 == 1:
            models = np.round(2.0 * models)
        if k % 3 == 2:
            models *= 10.0 ** rng.uniform(-3, 3, (N, 1))
        yield models, F


def test_minimax_attains_the_bound_of_corollary_2_in_the_plane():
    ratios = []
    for models, F in cases((1, 2), 60):
        rule = Minimax(F)
        answer, bound = rule(models), least_constant(F, len(models))
        assert constant(models, answer, F) <= bound * (1.0 + 1e-7)
        assert rule.constant(models, answer) == pytest.approx(constant(models, answer, F), rel=1e-12)
        ratios.append([constant(models, other(models), F) / bound for other in (Mean(), GeometricMedian())])
    # Other rules are above it on the same models, and the bound is met.
    assert np.max(ratios, axis=0).min() > 1.5


@pytest.mark.parametrize("dim", [3, 7])
def test_minimax_attains_it_against_one_attacker_in_every_dimension(dim):
    other = 0.0
    for models, F in cases((dim,), 30, seed=dim):
        bound = least_constant(1, len(models))
        assert constant(models, Minimax(1)(models), 1) <= bound * (1.0 + 1e-7)
        other = max(other, constant(models, GeometricMedian()(models), 1) / bound)
        # With more attackers, the factor that is proved in d dimensions.
        assert constant(models, Minimax(F)(models), F) <= math.sqrt(2 * dim / (dim + 1)) * least_constant(
            F, len(models)
        )
    assert other > 1.3


@pytest.mark.parametrize(("F", "N"), [(1, 3), (2, 5), (3, 8)])
def test_the_two_worlds_are_where_nothing_less_will_do(F, N):
    models = np.array(two_worlds(F, N, 0.0, dim=2)[1])
    assert constant(models, Minimax(F)(models), F) == pytest.approx(least_constant(F, N), rel=1e-9)


def test_no_other_point_has_a_smaller_constant():
    for models, F in cases((1, 2, 3), 20, seed=5):
        rule = Minimax(F)
        answer = rule(models)
        found = scipy.optimize.minimize(
            lambda a, rule=rule, models=models: rule.constant(models, a), answer, method="Nelder-Mead",
            options={"xatol": 1e-10, "fatol": 1e-12},
        )  # fmt: skip
        assert found.fun >= rule.constant(models, answer) * (1.0 - 1e-7)


@given(arrays(np.float64, (5, 2), elements=st.floats(-1e3, 1e3)), st.integers(0, 2))
def test_minimax_never_exceeds_the_bound(models, F):
    if diameter(models) < 1e-6:
        return
    rule = Minimax(F)
    sizes = [diameter(np.delete(models, out, axis=0)) for out in range(5)]
    # (Users that agree to rounding only are users that agree.)
    if F == 2 or min(sizes) > 1e-6 * diameter(models):
        answer = rule(models)
        assert np.isfinite(answer).all()
    if F == 1 and min(sizes) > 1e-6 * diameter(models):
        assert rule.constant(models, answer) <= 0.25 * (1.0 + 1e-6)


def test_users_who_agree_are_believed():
    """Three of five hold one model: if they are the honest ones, no other answer has any constant."""
    models = np.array([[1.0, 2.0], [7.0, 7.0], [1.0, 2.0], [-5.0, 0.0], [1.0, 2.0]])
    assert np.array_equal(Minimax(2)(models), [1.0, 2.0])
    assert Minimax(2).constant(models, np.array([1.0, 2.0])) < math.inf
    assert Minimax(2).constant(models, np.array([1.0, 2.0 + 1e-9])) == math.inf
    assert np.array_equal(Minimax(1)(np.ones((4, 3))), np.ones(3))


def test_a_point_that_is_not_the_best_is_refused(monkeypatch):
    """The minimizer of few sets, moved by 1e-4: no set outside is worse, and still it is not the answer."""
    models = np.random.default_rng(2).standard_normal((6, 2))
    assert np.isfinite(Minimax(2)(models)).all()
    least = learners._least_of_few
    monkeypatch.setattr(learners, "_least_of_few", lambda centers, radii, x: least(centers, radii, x) + 1e-4)
    with pytest.raises(SolverError, match="least constant"):
        Minimax(2)(models)


def test_minimax_follows_shifts_turns_and_scales():
    rng = np.random.default_rng(1)
    models, turn = rng.standard_normal((7, 3)), np.linalg.qr(rng.standard_normal((3, 3)))[0]
    moved = Minimax(2)(1e6 * models @ turn + 5.0)
    np.testing.assert_allclose(moved, 1e6 * Minimax(2)(models) @ turn + 5.0, atol=1e-1, rtol=0)


@pytest.mark.parametrize(
    ("F", "models", "error", "says"),
    [
        (2, np.zeros((4, 1)), AssumptionError, "N > 2F"),
        (10, np.zeros((30, 1)), AssumptionError, "20,000"),
        (-1, np.zeros((4, 1)), ShapeError, "n_attackers"),
        (1, np.zeros(4), ShapeError, "models"),
        (1, np.full((4, 1), np.nan), ShapeError, "models"),
    ],
)
def test_bad_input_of_minimax(F, models, error, says):
    with pytest.raises(error, match=says):
        Minimax(F)(models)
