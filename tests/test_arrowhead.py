"""Newton's step on the joint system, against the dense Hessian of the whole loss; and the method that takes it."""

from __future__ import annotations

import numpy as np
import pytest

from solvers import _kernels as kernels
from solvers import arrowhead, minimize, newton
from solvers.quadratic import Anchors
from theory import L2, GaussianQueries, Logistic, Multinomial, Problem, SmoothL2, SquaredL2, honest_dataset

REGULARIZERS = [SquaredL2(1.5), L2(2.0), SmoothL2(2.0)]


def spring_hessian(reg, z):
    """Return ∇²R by central differences of ∇R."""
    step, zero = 1e-5, np.zeros_like(z)
    columns = [(reg.gradient(z + e, zero) - reg.gradient(z - e, zero)) / (2 * step) for e in step * np.eye(len(z))]
    return np.array(columns)


@pytest.mark.parametrize("reg", REGULARIZERS, ids=lambda reg: reg.name)
def test_spring_is_the_hessian_of_the_regularizer(reg):
    z = np.array([[0.3, -1.2, 2.0], [5.0, 0.1, 0.0]])
    stiffness, softening = arrowhead.spring(reg, z)
    for n in range(2):
        found = stiffness[n] * np.eye(3) - softening[n] * np.outer(z[n], z[n])
        assert np.abs(found - spring_hessian(reg, z[n])).max() <= 1e-8
        moved = 1.001 * stiffness[n] * np.eye(3) - softening[n] * np.outer(z[n], z[n])
        assert np.abs(moved - spring_hessian(reg, z[n])).max() > 1e-5


def dense_step(H, shift, reg, pins, rho, thetas, tied, outer, inner):
    """Solve the whole system, with the models of tied users replaced by ρ."""
    n, size = thetas.shape
    total = np.zeros(((n + 1) * size,) * 2)
    right = np.zeros((n + 1) * size)
    right[:size] = -outer
    for p in pins:
        total[:size, :size] += spring_hessian(reg, rho - p)
    for k in range(n):
        at = slice((k + 1) * size, (k + 2) * size)
        B = H[k] + shift * np.eye(size)
        if tied[k]:
            total[:size, :size] += B
            right[:size] -= inner[k]
            total[at, at], total[at, :size] = np.eye(size), -np.eye(size)
            continue
        R = spring_hessian(reg, rho - thetas[k])
        total[:size, :size] += R
        total[at, at], total[at, :size] = B + R, -R
        total[:size, at] = -R
        right[at] = -inner[k]
    step = np.linalg.solve(total, right).reshape(n + 1, size)
    return step[0], step[1:]


@pytest.mark.parametrize("reg", REGULARIZERS, ids=lambda reg: reg.name)
@pytest.mark.parametrize("n_pins", [0, 2])
@pytest.mark.parametrize("n", [1, 5])
def test_step_solves_the_joint_system(reg, n_pins, n):
    rng = np.random.default_rng(n)
    size = 4
    factors = rng.standard_normal((n, 9, size))
    H = np.einsum("nia,nib->nab", factors, factors)
    rho, thetas, pins = rng.standard_normal(size), rng.standard_normal((n, size)), rng.standard_normal((n_pins, size))
    outer, inner = rng.standard_normal(size), rng.standard_normal((n, size))
    tied = np.zeros(n, dtype=bool)
    if isinstance(reg, L2) and n > 1:
        tied[1], thetas[1] = True, rho
    anchors = Anchors(pins, np.zeros(size))
    if isinstance(reg, L2) and n + n_pins == 1:  # nothing holds ρ along ρ - θ, where ‖ρ - θ‖ is a line
        with pytest.raises(np.linalg.LinAlgError):
            arrowhead.factor(np.tril(H), 0.3, reg, anchors, rho, thetas, tied)
        return
    expected = dense_step(H, 0.3, reg, pins, rho, thetas, tied, outer, inner)
    system = arrowhead.factor(np.tril(H), 0.3, reg, anchors, rho, thetas, tied)
    found = system.step(outer, inner)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)
    # 0.3 is 2ν: the step for ν in its place is told apart.
    wrong = dense_step(H, 0.15, reg, pins, rho, thetas, tied, outer, inner)
    assert np.abs(found[1] - wrong[1]).max() > 1e-4


def test_factor_refuses_what_is_not_positive_definite():
    H = -np.eye(2)[None]
    nobody = Anchors(np.zeros((0, 2)), np.zeros(2))
    with pytest.raises(np.linalg.LinAlgError, match="user 0"):
        arrowhead.factor(H, 0.1, SmoothL2(0.5), nobody, np.zeros(2), np.zeros((1, 2)), np.zeros(1, dtype=bool))


def users_of(loss, rng, n=12, dim=5, size=60):
    P = dim * loss.n_outputs
    return [honest_dataset(GaussianQueries(dim), rng.standard_normal(P) / 2, size, loss, rng) for _ in range(n)]


@pytest.mark.parametrize("loss", [Logistic(), Multinomial(3)], ids=lambda loss: loss.name)
@pytest.mark.parametrize("reg", REGULARIZERS, ids=lambda reg: reg.name)
def test_few_hessians_suffice(loss, reg):
    problem = Problem(users_of(loss, np.random.default_rng(5)), loss, reg, 0.01)
    solution = minimize(problem, method="newton")
    assert solution.stats["relative_residual"] <= 1e-14
    assert solution.stats["iterations"] <= 8


def test_factors_are_reused_and_steps_are_joint(monkeypatch):
    """Without either the answer would be the same, and slower: count the kernels' calls."""
    calls = {"hessians": 0, "factors": 0, "exact": 0}
    terms, factor, exact = newton.data_terms, arrowhead.factor, newton.minimize_models

    def counted_terms(*args, order, **others):
        calls["hessians"] += order == 2
        return terms(*args, order=order, **others)

    def counted_factor(*args):
        calls["factors"] += 1
        return factor(*args)

    def counted_exact(*args, **others):
        calls["exact"] += 1
        return exact(*args, **others)

    monkeypatch.setattr(newton, "data_terms", counted_terms)
    monkeypatch.setattr(newton.arrowhead, "factor", counted_factor)
    monkeypatch.setattr(newton, "minimize_models", counted_exact)
    problem = Problem(users_of(Logistic(), np.random.default_rng(6)), Logistic(), SmoothL2(1.0), 0.01)
    minimize(problem)
    assert calls["exact"] == 0
    assert calls["factors"] <= calls["hessians"] <= 6
    monkeypatch.setattr(newton, "_REUSE_BELOW", 0.0)
    fewer = dict(calls)
    minimize(problem)
    assert calls["hessians"] - fewer["hessians"] > fewer["hessians"]


def test_single_precision_gives_way_where_it_does_not_suffice():
    """An outlier of 1e4 among queries of 1 leaves nothing of the others' curvature in single precision."""
    rng = np.random.default_rng(7)
    users = users_of(Logistic(), rng, n=6)
    Q = users[0].Q.copy()
    Q[0] *= 1e4
    users[0] = type(users[0])(Q, users[0].A)
    for reg in REGULARIZERS:
        solution = minimize(Problem(users, Logistic(), reg, 1e-6))
        assert solution.stats["relative_residual"] <= 1e-12


def test_tied_users_add_their_curvature_and_keep_their_place():
    rng = np.random.default_rng(8)
    H = np.tril(np.einsum("nia,nib->nab", *(2 * [rng.standard_normal((3, 6, 2))])))
    before, S = H.copy(), np.zeros((2, 2))
    tied = np.array([False, True, False])
    status = kernels.arrowhead_factor(H, 0.5, rng.standard_normal((3, 2)), np.ones(3), np.zeros(3), tied, S, 1, 2)
    assert status == 0
    np.testing.assert_array_equal(H, before)
    np.testing.assert_allclose(S, before[1] + 0.5 * np.eye(2), rtol=1e-15)
