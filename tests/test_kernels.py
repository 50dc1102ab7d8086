"""Each compiled kernel against the NumPy expression that it stands for, corner cases included.

A parity check is a function of the twin that it compares with, so that every check is also run with wrong twins (a
factor, a sign, a transposed block, a term left out) and must refuse each of them.  Tolerances are the standard bounds
for inner products, Cholesky and symmetric eigenproblems, with the magnitudes of the case at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import scipy.optimize

from solvers import _kernels as kernels
from theory import L2, LeastSquares, Logistic, Loss, Multinomial, Problem, SmoothL2, SquaredL2, UserDataset
from theory.arrays import Array
from theory.losses import local_gradient, local_hessian, local_loss, margins

EPS = float(np.finfo(np.float64).eps)
UNTOUCHED = 7.25  # what stands in rows that a kernel must leave alone


@dataclass(frozen=True)
class Case:
    """Users of a problem, models for them, and the range of users that a kernel is asked for."""

    problem: Problem
    thetas: Array
    first: int
    last: int

    @property
    def args(self) -> tuple[Array, np.ndarray, np.ndarray]:
        stack = self.problem.stack
        return stack.Q, stack.start, stack.stop

    @property
    def labels(self) -> Array:
        return self.problem.stack.labels

    @property
    def n_outputs(self) -> int:
        return self.problem.loss.n_outputs

    @property
    def rows(self) -> int:
        return self.problem.stack.Q.shape[0]

    @property
    def users(self) -> range:
        return range(self.first, self.last)

    def slice(self, n: int) -> slice:
        return slice(int(self.problem.stack.start[n]), int(self.problem.stack.stop[n]))


def build(
    sizes: list[int],
    d: int,
    loss: Loss,
    *,
    view: Callable[[Problem], Problem] = lambda p: p,
    users: tuple[int, int] | None = None,
) -> Case:
    rng = np.random.default_rng([17, *sizes, d, loss.n_outputs])
    members = []
    for size in sizes:
        Q = rng.standard_normal((size, d)) * np.logspace(0, 1, d)
        if isinstance(loss, LeastSquares):
            A = 3.0 * rng.standard_normal(size)
        elif isinstance(loss, Logistic):
            A = rng.choice([-1.0, 1.0], size)
        else:
            A = rng.dirichlet(np.ones(loss.n_outputs), size) if size else np.zeros(0)
        members.append(UserDataset(Q, A))
    problem = view(Problem(members, loss, SquaredL2(1.0), 0.3))
    thetas = rng.standard_normal((problem.n_users, problem.dim))
    for s, model in problem.pinned.items():
        thetas[s] = model
    first, last = users or (0, problem.n_users)
    return Case(problem, thetas, first, last)


def drop_and_pin(problem: Problem) -> Problem:
    """Rows of users 0 and 2 stay in the block, but nobody holds them any more."""
    return problem.without(0).pin(1, np.ones(problem.dim))


BLOCK = 256  # the kernels' chunk is at least touched and crossed by these sizes

SHAPES: dict[str, Callable[[Loss], Case]] = {
    "plain": lambda loss: build([5, 3, 8], 3, loss),
    "no_rows": lambda loss: build([0, 0], 3, loss),
    "an_empty_user": lambda loss: build([4, 0, 5], 2, loss),
    "one_user": lambda loss: build([6], 3, loss),
    "one_parameter": lambda loss: build([4, 3], 1, loss),
    "one_row": lambda loss: build([1, 1], 4, loss),
    "unused_rows": lambda loss: build([3, 4, 5, 2], 3, loss, view=drop_and_pin),
    "some_users": lambda loss: build([3, 4, 5, 2], 3, loss, users=(1, 3)),
    "nobody": lambda loss: build([3, 4], 3, loss, users=(1, 1)),
    "block_edges": lambda loss: build([BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3], 2, loss),
}
ONE_OUTPUT = [LeastSquares(), Logistic()]
MANY_OUTPUTS = [Multinomial(2), Multinomial(4)]


def name_of(loss: Loss) -> str:
    return f"{loss.name}{loss.n_outputs}"


def close(found: Array, expected: Array, bound: Any) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    excess = np.abs(found - expected) - bound
    assert np.all(excess <= 0), f"differs by up to {np.abs(found - expected).max()} with {np.max(bound)} allowed"


def inner(n: int, size: Any) -> Any:
    """The rounding of sums of n products whose absolute values sum to ``size``, in two orders of summation."""
    return 2 * (n + 4) * EPS * size + np.finfo(np.float64).tiny


def lower(M: Array) -> Array:
    return np.tril(M)


def symmetric(M: Array) -> Array:
    return np.tril(M) + np.tril(M, -1).T


# Compiled code lets a σ that runs off to infinity overflow in silence, as NumPy does when it is told to.
silent = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")


def refuses(parity: Callable[..., None], *args: Any, **wrong: Any) -> None:
    with pytest.raises(AssertionError):
        parity(*args, **wrong)


# ---------------------------------------------------------------------------------------------------------------
# BLAS and LAPACK
# ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "size"), [(0, 3), (1, 1), (1, 5), (7, 1), (40, 6)])
@pytest.mark.parametrize("alpha", [1.0, -0.5])
def test_gram_add_is_alpha_xtx_added_to_the_lower_triangle(rows: int, size: int, alpha: float) -> None:
    rng = np.random.default_rng([rows, size])
    X, C = rng.standard_normal((rows, size)), rng.standard_normal((size, size))
    before = C.copy()
    kernels.gram_add(X, alpha, C)
    bound = inner(rows, np.abs(X).T @ np.abs(X) + np.abs(before))
    close(lower(C), lower(before + alpha * (X.T @ X)), lower(bound))
    if rows:
        with pytest.raises(AssertionError):
            close(lower(C), lower(before + 1.001 * alpha * (X.T @ X)), lower(bound))


@pytest.mark.parametrize("size", [1, 2, 9])
def test_symmetric_times_reads_the_lower_triangle_alone(size: int) -> None:
    rng = np.random.default_rng(size)
    H, x, out = rng.standard_normal((size, size)), rng.standard_normal(size), np.full(size, np.nan)
    kernels.symmetric_times(H, x, out)
    close(out, symmetric(H) @ x, inner(size, np.abs(symmetric(H)) @ np.abs(x)))
    if size > 1:
        with pytest.raises(AssertionError):
            close(out, H @ x, inner(size, np.abs(H) @ np.abs(x)))


def positive_definite(size: int, condition: float = 100.0) -> Array:
    rng = np.random.default_rng(size)
    V = np.linalg.qr(rng.standard_normal((size, size)))[0]
    return (V * np.geomspace(1.0, condition, size)) @ V.T


@pytest.mark.parametrize("size", [1, 2, 9, 33])
def test_cholesky_solves_and_inverts_and_reads_the_lower_triangle_alone(size: int) -> None:
    K = symmetric(positive_definite(size))
    top, cond = np.linalg.norm(K, 2), np.linalg.cond(K)
    L = np.tril(K) + np.triu(np.full_like(K, UNTOUCHED), 1)
    assert kernels.cholesky(L) == 0
    factor = np.tril(L)
    # |ΔK| <= γ_{n+1} |L||Lᵀ|, whose norm is at most n‖K‖ (Higham, Theorem 10.3).
    close(factor @ factor.T, K, 2 * (size + 1) * size * EPS * top)
    b = np.random.default_rng(0).standard_normal(size)
    x = b.copy()
    kernels.cholesky_solve(L, x)
    assert np.linalg.norm(K @ x - b) <= (3 * size + 1) * size * EPS * top * np.linalg.norm(x) * 2
    W = L.copy()
    assert kernels.cholesky_inverse(W) == 0
    residual = np.linalg.norm(K @ symmetric(W) - np.eye(size), 2)
    assert residual <= 4 * (3 * size + 1) * size * EPS * cond
    # A factor read from the wrong triangle, or used once instead of twice, is seen.
    assert not np.linalg.norm(K @ np.linalg.solve(factor, b) - b) <= 1e-6 or size == 1


@pytest.mark.parametrize(
    "K",
    [np.zeros((1, 1)), np.diag([1.0, -1.0]), np.array([[1.0, 2.0], [2.0, 1.0]])],
    ids=["zero", "negative", "indefinite"],
)
def test_cholesky_says_when_a_matrix_is_not_positive_definite(K: Array) -> None:
    assert kernels.cholesky(K.copy()) == 1
    assert kernels.cholesky(np.eye(len(K))) == 0


@pytest.mark.parametrize("size", [1, 2, 7, 30])
@pytest.mark.parametrize("kind", ["spread", "repeated", "zero"])
def test_eigenbasis_rows_are_orthonormal_eigenvectors(size: int, kind: str) -> None:
    K = {"spread": positive_definite(size), "repeated": 2.0 * np.eye(size), "zero": np.zeros((size, size))}[kind]
    K = symmetric(K)
    V = np.tril(K) + np.triu(np.full_like(K, UNTOUCHED), 1)
    values, work, iwork = np.empty(size), np.empty(1 + 6 * size + 2 * size**2), np.empty(3 + 5 * size, dtype=np.int32)
    assert kernels.eigenbasis_rows(V, values, work, iwork) == 0
    close(V @ V.T, np.eye(size), 16 * size * EPS)
    close((V.T * values) @ V, K, 16 * size * EPS * np.linalg.norm(K, 2))
    assert np.all(np.diff(values) >= 0)
    if kind == "spread" and size > 2:  # two eigenvectors can stand in a symmetric matrix
        with pytest.raises(AssertionError):  # columns for rows
            close((V * values) @ V.T, K, 16 * size * EPS * np.linalg.norm(K, 2))


# ---------------------------------------------------------------------------------------------------------------
# Margins, gradients, Hessians
# ---------------------------------------------------------------------------------------------------------------


def parity_margins(case: Case, factor: float = 1.0, transposed: bool = False) -> None:
    K, d = case.n_outputs, case.problem.query_dim
    out = np.full((case.rows, K), UNTOUCHED)
    assert kernels.margins(*case.args, case.thetas, out, case.first, case.last) == 0
    expected, bound = np.full((case.rows, K), UNTOUCHED), np.zeros((case.rows, K))
    for n in case.users:
        W = case.thetas[n].reshape(d, K) if transposed else case.thetas[n].reshape(K, d).T
        Q = case.args[0][case.slice(n)]
        expected[case.slice(n)] = factor * (Q @ W)
        bound[case.slice(n)] = inner(d, np.abs(Q) @ np.abs(W))
    close(out, expected, bound)


def parity_pull_back(case: Case, factor: float = 1.0, transposed: bool = False) -> None:
    K, P = case.n_outputs, case.problem.dim
    slopes = np.random.default_rng(3).standard_normal((case.rows, K))
    out = np.full((case.problem.n_users, P), UNTOUCHED)
    assert kernels.pull_back(*case.args, slopes, out, case.first, case.last) == 0
    expected, bound = np.full_like(out, UNTOUCHED), np.zeros_like(out)
    for n in case.users:
        Q, slope = case.args[0][case.slice(n)], slopes[case.slice(n)]
        expected[n] = factor * (Q.T @ slope if transposed else slope.T @ Q).ravel()
        bound[n] = inner(len(Q), (np.abs(slope).T @ np.abs(Q)).ravel())
    close(out, expected, bound)


def parity_least_squares_gradients(case: Case, nu_factor: float = 1.0, factor: float = 1.0) -> None:
    problem = case.problem
    out = np.full((problem.n_users, problem.dim), UNTOUCHED)
    Q, start, stop = case.args
    status = kernels.least_squares_gradients(
        Q, case.labels, start, stop, case.thetas, 2.0 * problem.nu, out, case.first, case.last
    )
    assert status == 0
    expected, bound = np.full_like(out, UNTOUCHED), np.zeros_like(out)
    for n in case.users:
        theta, (rows, a) = case.thetas[n], problem.stack.user(n)
        expected[n] = factor * local_gradient(theta, rows, a, problem.loss, nu_factor * problem.nu)
        size = np.abs(rows).T @ (np.abs(rows) @ np.abs(theta) + np.abs(a)) + 2 * problem.nu * np.abs(theta)
        bound[n] = inner(len(rows) + theta.size, size)
    close(out, expected, bound)


def hessian_bound(rows: Array, weights: Array, K: int) -> Array:
    size = np.einsum("i,ia,ib->ab", weights, np.abs(rows), np.abs(rows), optimize=True)
    return inner(2 * len(rows) + 8, np.kron(np.ones((K, K)), size))


def parity_weighted_gram(case: Case, factor: float = 1.0, powers: float = 1.0) -> None:
    problem, Q = case.problem, case.args[0]
    m = np.zeros(case.rows)
    for n in range(problem.n_users):
        m[case.slice(n)] = Q[case.slice(n)] @ case.thetas[n]
    weights = problem.loss.d2phi(m, case.labels)
    H = np.full((problem.n_users, problem.dim, problem.dim), UNTOUCHED)
    assert kernels.weighted_gram(*case.args, weights, H, case.first, case.last) == 0
    for n in range(problem.n_users):
        if n not in case.users:
            assert np.all(H[n] == UNTOUCHED)
            continue
        rows, a = problem.stack.user(n)
        expected = factor * local_hessian(case.thetas[n], rows, a, problem.loss, 0.0)
        if powers != 1.0:
            expected = (rows.T * weights[case.slice(n)] ** powers) @ rows
        close(lower(H[n]), lower(expected), lower(hessian_bound(rows, weights[case.slice(n)], 1)))


def parity_multinomial_hessian(case: Case, outer: float = 1.0, swapped: bool = False, mass_factor: float = 1.0) -> None:
    problem, Q, d = case.problem, case.args[0], case.problem.query_dim
    K, P = case.n_outputs, case.problem.dim
    m = np.zeros((case.rows, K))
    for n in range(problem.n_users):
        m[case.slice(n)] = Q[case.slice(n)] @ case.thetas[n].reshape(K, d).T
    p = np.exp(m - m.max(axis=1, keepdims=True, initial=-np.inf))
    p /= p.sum(axis=1, keepdims=True)
    # A mass other than 1 (label probabilities that do not sum to 1) tells √mass from mass.
    mass = np.linspace(0.5, 2.0, case.rows)
    H = np.full((problem.n_users, P, P), UNTOUCHED)
    assert kernels.multinomial_hessian(*case.args, p, mass, H, case.first, case.last) == 0
    for n in range(problem.n_users):
        if n not in case.users:
            assert np.all(H[n] == UNTOUCHED)
            continue
        rows = Q[case.slice(n)]
        q, weight = p[case.slice(n)], mass[case.slice(n)] ** mass_factor
        curvature = weight[:, None, None] * (np.eye(K)[None] * q[:, None, :] - outer * q[:, :, None] * q[:, None, :])
        order = "ikl,ia,ib->akbl" if swapped else "ikl,ia,ib->kalb"
        expected = np.einsum(order, curvature, rows, rows, optimize=True).reshape(P, P)
        close(lower(H[n]), lower(expected), lower(hessian_bound(rows, 2.0 * mass[case.slice(n)], K)))


def parity_logistic_terms(
    case: Case, order: int = 2, factor: float = 1.0, shift_factor: float = 1.0, curvature: float = 1.0
) -> None:
    problem, (Q, start, stop) = case.problem, case.args
    N, P = problem.n_users, problem.dim
    values, gradients = np.full(N, UNTOUCHED), np.full((N, P), UNTOUCHED)
    H = np.full((N, P, P), UNTOUCHED)
    status = kernels.logistic_terms(
        Q, case.labels, start, stop, case.thetas, 2.0 * problem.nu, order, values, gradients, H, case.first, case.last
    )
    assert status == 0
    for n in range(N):
        if n not in case.users:
            assert values[n] == UNTOUCHED
            assert np.all(gradients[n] == UNTOUCHED)
        if n not in case.users or abs(order) < 2:
            assert np.all(H[n] == UNTOUCHED)
        if n not in case.users:
            continue
        theta, (rows, a) = case.thetas[n], problem.stack.user(n)
        size = np.abs(rows) @ np.abs(theta)
        close(
            values[n],
            factor * local_loss(theta, rows, a, problem.loss, 0.0),
            inner(len(rows) + P + 8, size.sum() + len(rows)),
        )
        expected = factor * local_gradient(theta, rows, a, problem.loss, shift_factor * problem.nu)
        # σ changes by at most a quarter of the rounding of the margin.
        bound = np.abs(rows).T @ (1.0 + 0.25 * size) + 2 * problem.nu * np.abs(theta)
        close(gradients[n], expected, inner(len(rows) + P + 8, bound))
        if abs(order) == 2:
            weights = curvature * problem.loss.d2phi(rows @ theta, a)
            single = 1.0 if order == 2 else np.finfo(np.float32).eps / EPS
            slack = single * hessian_bound(rows, weights, 1) + inner(
                P + 8, np.einsum("i,ia,ib->ab", size * weights, abs(rows), abs(rows))
            )
            close(lower(H[n]), lower(curvature * local_hessian(theta, rows, a, problem.loss, 0.0)), lower(slack))


def parity_softmax_terms(case: Case, unit: float = 1.0, factor: float = 1.0, transposed: bool = False) -> None:
    """Queries unit·X, in whole numbers of bytes where ``unit`` is not 1."""
    problem, loss, (Q, start, stop) = case.problem, case.problem.loss, case.args
    N, K, d = problem.n_users, case.n_outputs, problem.query_dim
    X = Q if unit == 1.0 else np.clip(np.rint(np.abs(Q) * 50.0), 0, 255).astype(np.uint8)
    models = np.ascontiguousarray(case.thetas.reshape(N, K, d))
    p, values = np.full((case.rows, K), UNTOUCHED, dtype=np.float32), np.full(N, UNTOUCHED)
    gradients = np.full((N, K, d), UNTOUCHED)
    status = kernels.softmax_terms(
        X, unit, case.labels, start, stop, np.arange(N), models, p, values, gradients, case.first, case.last
    )
    assert status == 0
    for n in range(N):
        if n not in case.users:
            assert values[n] == UNTOUCHED
            assert np.all(gradients[n] == UNTOUCHED)
            continue
        rows, a = unit * X[case.slice(n)], case.labels[case.slice(n)]
        theta = case.thetas[n]
        m, size = margins(theta, rows, K), np.abs(rows) @ np.abs(theta.reshape(K, d).T)
        value = factor * local_loss(theta, rows, a, loss, 0.0)
        close(values[n], value, inner(len(rows) + d + K + 8, size.sum() + len(rows)))
        expected = (factor * local_gradient(theta, rows, a, loss, 0.0)).reshape(K, d)
        expected = expected.reshape(d, K).T if transposed else expected
        bound = np.abs(rows).sum(axis=0) * (1.0 + (size.max() if size.size else 0.0))
        close(gradients[n], expected, inner(len(rows) + d + K + 8, bound))
        single = float(np.finfo(np.float32).eps)
        soft = np.exp(m - m.max(axis=1, keepdims=True, initial=-np.inf))
        close(
            p[case.slice(n)],
            soft / soft.sum(axis=1, keepdims=True),
            single + inner(d + K + 8, 1.0 + size.sum(axis=1, keepdims=True)),
        )


def parity_softmax_hessian_times(case: Case, unit: float = 1.0, outer: float = 1.0, heavier: float = 1.0) -> None:
    problem, (Q, start, stop) = case.problem, case.args
    N, K, d = problem.n_users, case.n_outputs, problem.query_dim
    X = Q if unit == 1.0 else np.clip(np.rint(np.abs(Q) * 50.0), 0, 255).astype(np.uint8)
    rng = np.random.default_rng(4)
    p = rng.dirichlet(np.ones(K), case.rows).astype(np.float32)
    V = rng.standard_normal((N, K, d)).astype(np.float32)
    out = np.full((N, K, d), UNTOUCHED, dtype=np.float32)
    mass = rng.integers(0, 4, case.rows).astype(np.float32)
    users = np.arange(N)
    assert kernels.softmax_hessian_times(X, unit, mass, p, start, stop, users, V, out, case.first, case.last) == 0
    for n in range(N):
        if n not in case.users:
            assert np.all(out[n] == UNTOUCHED)
            continue
        rows, q = unit * X[case.slice(n)].astype(np.float64), p[case.slice(n)].astype(np.float64)
        T = rows @ V[n].astype(np.float64).T
        weight = heavier * mass[case.slice(n), None].astype(np.float64)
        C = weight * q * (T - outer * (q * T).sum(axis=1, keepdims=True))
        size = np.abs(rows).T @ (np.abs(rows) @ np.abs(V[n].astype(np.float64)).T)
        single = float(np.finfo(np.float32).eps)
        # Masses are at most 3, and margins relative to the likeliest class at most twice as large.
        close(out[n], C.T @ rows, 16 * (len(rows) + d + K + 4) * single * (size.T + size.max(initial=0.0)) + 1e-30)


def parity_least_squares_normal(case: Case, factor: float = 1.0, sign: float = 1.0) -> None:
    problem, (Q, start, stop) = case.problem, case.args
    H = np.full((problem.n_users, problem.dim, problem.dim), UNTOUCHED)
    b = np.full((problem.n_users, problem.dim), UNTOUCHED)
    assert kernels.least_squares_normal(Q, case.labels, start, stop, H, b, case.first, case.last) == 0
    for n in range(problem.n_users):
        if n not in case.users:
            assert np.all(H[n] == UNTOUCHED)
            assert np.all(b[n] == UNTOUCHED)
            continue
        rows, a = problem.stack.user(n)
        expected = factor * local_hessian(case.thetas[n], rows, a, problem.loss, 0.0)
        close(lower(H[n]), lower(expected), lower(hessian_bound(rows, np.ones(len(rows)), 1)))
        at_zero = sign * local_gradient(np.zeros(problem.dim), rows, a, problem.loss, 0.0)
        close(b[n], -at_zero, inner(len(rows), np.abs(rows).T @ np.abs(a)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("loss", ONE_OUTPUT + MANY_OUTPUTS, ids=name_of)
def test_margins(shape: str, loss: Loss) -> None:
    parity_margins(SHAPES[shape](loss))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("loss", ONE_OUTPUT + MANY_OUTPUTS, ids=name_of)
def test_pull_back(shape: str, loss: Loss) -> None:
    parity_pull_back(SHAPES[shape](loss))


@pytest.mark.parametrize("shape", SHAPES)
def test_least_squares_gradients(shape: str) -> None:
    parity_least_squares_gradients(SHAPES[shape](LeastSquares()))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("loss", ONE_OUTPUT, ids=name_of)
def test_weighted_gram(shape: str, loss: Loss) -> None:
    parity_weighted_gram(SHAPES[shape](loss))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("loss", MANY_OUTPUTS, ids=name_of)
def test_multinomial_hessian(shape: str, loss: Loss) -> None:
    parity_multinomial_hessian(SHAPES[shape](loss))


@pytest.mark.parametrize("shape", SHAPES)
def test_least_squares_normal(shape: str) -> None:
    parity_least_squares_normal(SHAPES[shape](LeastSquares()))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", [1, 2, -2])
def test_logistic_terms(shape: str, order: int) -> None:
    parity_logistic_terms(SHAPES[shape](Logistic()), order)


def test_logistic_terms_of_extreme_margins() -> None:
    """|m| up to 1e4: nothing overflows, and the loss of a wrong answer is its margin."""
    Q = np.array([[1e4], [-1e4], [40.0], [-40.0], [0.0]])
    problem = Problem([UserDataset(Q, np.ones(5))], Logistic(), SquaredL2(1.0), 0.3)
    parity_logistic_terms(Case(problem, np.ones((1, 1)), 0, 1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("loss", MANY_OUTPUTS, ids=name_of)
@pytest.mark.parametrize("unit", [1.0, 1.0 / 255.0, 1.0 / 16.0])
def test_softmax_terms_and_hessian_times(shape: str, loss: Loss, unit: float) -> None:
    parity_softmax_terms(SHAPES[shape](loss), unit)
    parity_softmax_hessian_times(SHAPES[shape](loss), unit)


def test_curvature_of_decided_rows_is_not_lost_in_rounding() -> None:
    """With p = 1 - 1e-10 the curvature is 1e-10 of the margins: rounding them to single precision would drown it."""
    rng = np.random.default_rng(7)
    X = rng.standard_normal((40, 6))
    p = np.full((40, 3), 0.5e-10)
    p[:, 1] = 1.0 - 1e-10
    V = rng.standard_normal((1, 3, 6))
    out, ranges = np.empty((1, 3, 6), dtype=np.float32), (np.array([0]), np.array([40]), np.array([0]))
    mass, single = np.ones(40, dtype=np.float32), V.astype(np.float32)
    kernels.softmax_hessian_times(X, 1.0, mass, p.astype(np.float32), *ranges, single, out, 0, 1)
    T = X @ V[0].T
    exact = ((p * T - p * (p * T).sum(axis=1, keepdims=True)).T @ X)[None]
    assert np.abs(out - exact).max() <= 1e-4 * np.abs(exact).max()
    # Without the reference class, that of the likeliest class is lost whole:
    q = p.astype(np.float32)
    t = (X.astype(np.float32) @ single[0].T).astype(np.float32)
    naive = (q * (t - (q * t).sum(axis=1, keepdims=True))).T @ X
    assert np.abs(naive[None] - exact).max() > 0.9 * np.abs(exact).max()


def test_a_user_cut_into_ranges_gives_the_same_sums() -> None:
    case = SHAPES["plain"](Multinomial(4))
    (Q, start, stop), K, d = case.args, case.n_outputs, case.problem.query_dim
    models = np.ascontiguousarray(case.thetas.reshape(-1, K, d))
    n = int(np.argmax(stop - start))
    middle = (int(start[n]) + int(stop[n])) // 2
    totals = []
    for a, b in (([start[n]], [stop[n]]), ([start[n], middle], [middle, stop[n]])):
        values, gradients = np.zeros(len(a)), np.zeros((len(a), K, d))
        p = np.zeros((case.rows, K), dtype=np.float32)
        owner = np.full(len(a), n)
        kernels.softmax_terms(
            Q, 1.0, case.labels, np.array(a), np.array(b), owner, models, p, values, gradients, 0, len(a)
        )
        totals.append((values.sum(), gradients.sum(axis=0), p))
    for whole, parts in zip(*totals, strict=True):
        np.testing.assert_allclose(parts, whole, rtol=1e-12, atol=1e-12)
    assert middle > start[n]
    assert np.abs(totals[0][1]).max() > 0.1


def test_wrong_twins_of_the_data_kernels_are_refused() -> None:
    plain, classes = SHAPES["plain"](Logistic()), SHAPES["plain"](Multinomial(4))
    linear = SHAPES["plain"](LeastSquares())
    slight = 1.0 + 1e-12
    for parity in (parity_margins, parity_pull_back):
        refuses(parity, plain, factor=slight)
        refuses(parity, classes, transposed=True)
    refuses(parity_least_squares_gradients, linear, nu_factor=0.5)  # ν for 2ν
    refuses(parity_least_squares_gradients, linear, factor=slight)
    refuses(parity_weighted_gram, plain, factor=slight)
    refuses(parity_weighted_gram, plain, powers=0.5)  # √w for w
    refuses(parity_multinomial_hessian, classes, outer=slight)
    refuses(parity_multinomial_hessian, classes, outer=0.0)  # the diagonal alone
    refuses(parity_multinomial_hessian, classes, swapped=True)
    refuses(parity_multinomial_hessian, classes, mass_factor=0.5)
    refuses(parity_logistic_terms, plain, factor=slight)
    refuses(parity_logistic_terms, plain, shift_factor=0.5)
    refuses(parity_logistic_terms, plain, curvature=slight)
    refuses(parity_logistic_terms, plain, order=-2, curvature=1.0 + 1e-4)
    refuses(parity_softmax_terms, classes, factor=slight)
    refuses(parity_softmax_terms, classes, transposed=True)
    refuses(parity_softmax_hessian_times, classes, outer=0.999)
    refuses(parity_softmax_hessian_times, classes, heavier=1.001)
    refuses(parity_least_squares_normal, linear, factor=2.0)  # the gradient of (m - a)²
    refuses(parity_least_squares_normal, linear, sign=-1.0)


# ---------------------------------------------------------------------------------------------------------------
# ℓ2²: factors and back substitution
# ---------------------------------------------------------------------------------------------------------------


def factors_one_by_one(L: Array, users: range) -> dict[int, Array]:
    return {n: np.tril(L[n]) for n in users}


def factors_of_batches(L: Array, users: range) -> dict[int, Array]:
    """Users are interleaved, and 1/L_jj stands on the diagonal."""
    out = {}
    for n in users:
        factor = np.tril(L[n // kernels.LANES, :, :, n % kernels.LANES])
        np.fill_diagonal(factor, 1.0 / np.diag(factor))
        out[n] = factor
    return out


def check_factors(
    case: Case, factors: dict[int, Array], b: Array, sums: tuple[Array, Array], shift: float, wrong_shift: float = 1.0
) -> None:
    problem, size = case.problem, case.problem.dim
    inverse, solved = np.zeros((size, size)), np.zeros(size)
    slack_inverse, slack_solved = 0.0, 0.0
    for n in case.users:
        rows, a = problem.stack.user(n)
        hessian = local_hessian(np.zeros(size), rows, a, LeastSquares(), 0.0)
        K, right = hessian + wrong_shift * shift * np.eye(size), rows.T @ a
        rounding = 4 * (len(rows) + (size + 4) ** 2) * EPS
        close(factors[n] @ factors[n].T, K, rounding * np.linalg.norm(K, 2))
        close(b[n], right, inner(len(rows), np.abs(rows).T @ np.abs(a)))
        inverse += np.linalg.inv(K)
        solved += np.linalg.solve(K, right)
        slack = rounding * np.linalg.cond(K) * np.linalg.norm(np.linalg.inv(K), 2)
        slack_inverse += slack
        slack_solved += slack * np.linalg.norm(np.abs(rows).T @ np.abs(a))
    close(lower(sums[0]), lower(inverse), slack_inverse)
    close(sums[1], solved, slack_solved)


SHIFT = 0.7


def parity_least_squares_factor(case: Case, **wrong: float) -> None:
    problem, (Q, start, stop) = case.problem, case.args
    N, size = problem.n_users, problem.dim
    L, b = np.full((N, size, size), UNTOUCHED), np.full((N, size), UNTOUCHED)
    sums = np.zeros((size, size)), np.zeros(size)
    status = kernels.least_squares_factor(Q, case.labels, start, stop, SHIFT, L, b, *sums, case.first, case.last)
    assert status == 0
    check_factors(case, factors_one_by_one(L, case.users), b, sums, SHIFT, **wrong)
    for n in set(range(N)) - set(case.users):
        assert np.all(L[n] == UNTOUCHED)


def parity_least_squares_factor_small(case: Case, **wrong: float) -> None:
    problem, (Q, start, stop) = case.problem, case.args
    size, batches = problem.dim, -(-problem.n_users // kernels.LANES)
    L, b = np.full((batches, size, size, kernels.LANES), UNTOUCHED), np.full((problem.n_users, size), UNTOUCHED)
    sums = np.zeros((size, size)), np.zeros(size)
    status = kernels.least_squares_factor_small(Q, case.labels, start, stop, SHIFT, L, b, *sums, case.first, case.last)
    assert status == 0
    check_factors(case, factors_of_batches(L, case.users), b, sums, SHIFT, **wrong)


def hessians_of(case: Case) -> tuple[Array, Array]:
    """Lower triangles (what is above is never read) and right-hand sides."""
    problem, size = case.problem, case.problem.dim
    H = np.full((problem.n_users, size, size), UNTOUCHED)
    b = np.full((problem.n_users, size), UNTOUCHED)
    for n in case.users:
        rows, a = problem.stack.user(n)
        hessian = local_hessian(np.zeros(size), rows, a, LeastSquares(), 0.0)
        H[n] = np.tril(hessian) + np.triu(np.full((size, size), UNTOUCHED), 1)
        b[n] = rows.T @ a
    return H, b


def parity_quadratic_factor(case: Case, **wrong: float) -> None:
    size = case.problem.dim
    (L, b), sums = hessians_of(case), (np.zeros((size, size)), np.zeros(size))
    assert kernels.quadratic_factor(SHIFT, L, b, *sums, case.first, case.last) == 0
    check_factors(case, factors_one_by_one(L, case.users), b, sums, SHIFT, **wrong)


def parity_quadratic_factor_small(case: Case, **wrong: float) -> None:
    size, batches = case.problem.dim, -(-case.problem.n_users // kernels.LANES)
    (H, b), sums = hessians_of(case), (np.zeros((size, size)), np.zeros(size))
    L = np.full((batches, size, size, kernels.LANES), UNTOUCHED)
    assert kernels.quadratic_factor_small(H, SHIFT, L, b, *sums, case.first, case.last) == 0
    check_factors(case, factors_of_batches(L, case.users), b, sums, SHIFT, **wrong)


FACTORS = {
    "least_squares_factor": parity_least_squares_factor,
    "least_squares_factor_small": parity_least_squares_factor_small,
    "quadratic_factor": parity_quadratic_factor,
    "quadratic_factor_small": parity_quadratic_factor_small,
}
LANES, SMALL = kernels.LANES, kernels.SMALL
# Batches that are full, nearly full, and just begun; a range that starts with the second batch.
BATCHES: dict[str, Callable[[Loss], Case]] = {
    "full": lambda loss: build([4] * LANES, 3, loss),
    "nearly_full": lambda loss: build([4] * (LANES - 1), 3, loss),
    "just_begun": lambda loss: build([4, 0, 2] * LANES + [5], 2, loss),
    "second_on": lambda loss: build([4] * (2 * LANES + 3), 2, loss, users=(LANES, 2 * LANES + 3)),
}


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "some_users"] + ["some_users"])
@pytest.mark.parametrize("kernel", FACTORS)
def test_factors(kernel: str, shape: str) -> None:
    case = SHAPES[shape](LeastSquares())
    if kernel.endswith("small") and case.first % LANES:
        case = Case(case.problem, case.thetas, 0, case.last)  # a range starts with a batch
    FACTORS[kernel](case)


@pytest.mark.parametrize("shape", BATCHES)
@pytest.mark.parametrize("kernel", FACTORS)
def test_factors_of_many_users(kernel: str, shape: str) -> None:
    FACTORS[kernel](BATCHES[shape](LeastSquares()))


@pytest.mark.parametrize("kernel", FACTORS)
def test_wrong_twins_of_the_factors_are_refused(kernel: str) -> None:
    refuses(FACTORS[kernel], SHAPES["plain"](LeastSquares()), wrong_shift=0.5)
    refuses(FACTORS[kernel], BATCHES["just_begun"](LeastSquares()), wrong_shift=1 + 1e-9)


def test_factors_name_the_user_whose_matrix_is_not_positive_definite() -> None:
    b, sums = np.zeros((3, 2)), (np.zeros((2, 2)), np.zeros(2))
    L = np.array([np.eye(2), np.eye(2), -np.eye(2)])
    assert kernels.quadratic_factor(0.5, L, b, *sums, 0, 3) == 3
    L = np.array([np.eye(2), np.diag([1.0, -0.5]), np.eye(2)])
    assert kernels.quadratic_factor(0.5, L, b, *sums, 0, 3) == 2
    case = SHAPES["no_rows"](LeastSquares())
    Q, start, stop = case.args
    L, b, sums = np.zeros((2, 3, 3)), np.zeros((2, 3)), (np.zeros((3, 3)), np.zeros(3))
    assert kernels.least_squares_factor(Q, case.labels, start, stop, 0.0, L, b, *sums, 0, 2) == 1


def test_factors_of_batches_name_the_batch_that_is_not_positive_definite() -> None:
    for bad in (0, LANES - 1, LANES, LANES + 2):
        H, b = np.array([np.eye(2)] * (LANES + 3)), np.zeros((LANES + 3, 2))
        H[bad] = np.diag([1.0, -3.0])
        L, sums = np.empty((2, 2, 2, LANES)), (np.zeros((2, 2)), np.zeros(2))
        assert kernels.quadratic_factor_small(H, 0.5, L, b, *sums, 0, LANES + 3) == LANES * (bad // LANES) + 1


def batches_of(L: Array) -> Array:
    """Factors (N, P, P) interleaved as the batched kernels leave them."""
    n, size, _ = L.shape
    out = np.zeros((-(-n // LANES), size, size, LANES))
    for k in range(n):
        out[k // LANES, :, :, k % LANES] = L[k]
        np.fill_diagonal(out[k // LANES, :, :, k % LANES], 1.0 / np.diag(L[k]))
    return out


@pytest.mark.parametrize("size", [1, 4, 20])
@pytest.mark.parametrize("n_users", [3, LANES, LANES + 2])
@pytest.mark.parametrize("batched", [False, True])
def test_back_substitute(size: int, n_users: int, batched: bool) -> None:
    rng = np.random.default_rng([size, n_users])
    K = np.array([symmetric(positive_definite(size)) * c for c in np.geomspace(0.1, 3.0, n_users)])
    L = np.array([np.linalg.cholesky(M) for M in K])
    b, pull = rng.standard_normal((n_users, size)), rng.standard_normal(size)
    thetas, total = np.full((n_users, size), UNTOUCHED), np.full(size, 2.0)
    first = 0 if batched else 1
    if batched:
        assert kernels.back_substitute_small(batches_of(L), b, pull, thetas, total, 0, n_users) == 0
    else:
        assert kernels.back_substitute(L, b, pull, thetas, total, 1, n_users) == 0
        assert np.all(thetas[0] == UNTOUCHED)
    for n in range(first, n_users):
        bound = 4 * (3 * size + 1) * size * EPS * np.linalg.norm(K[n], 2) * np.linalg.norm(thetas[n])
        assert np.linalg.norm(K[n] @ thetas[n] - (b[n] + pull)) <= bound
        assert not np.linalg.norm(K[n] @ thetas[n] - (b[n] + 1.001 * pull)) <= bound
    moved = thetas[first:]
    close(total, 2.0 + moved.sum(axis=0), inner(n_users, 2.0 + np.abs(moved).sum(axis=0)))


# ---------------------------------------------------------------------------------------------------------------
# Eigenbases, the secular equation, partial minima
# ---------------------------------------------------------------------------------------------------------------


def test_eigenbases_clip_negative_eigenvalues_and_shift() -> None:
    H = np.array([np.diag([2.0, -1e-17]), np.array([[2.0, 1.0], [1.0, 2.0]]), np.full((2, 2), UNTOUCHED)])
    original, beta = H.copy(), np.full((3, 2), UNTOUCHED)
    assert kernels.eigenbases(H, beta, 0.25, 0, 2) == 0
    close(beta[:2], np.array([[0.25, 2.25], [1.25, 3.25]]), 32 * EPS)
    assert beta[0, 0] >= 0.25  # never below the shift
    close((H[1].T * (beta[1] - 0.25)) @ H[1], original[1], 64 * EPS)
    assert np.all(H[2] == UNTOUCHED)
    assert np.all(beta[2] == UNTOUCHED)


def secular_in_mpmath(beta: Array, g: Array, lam: float, one: int) -> mp.mpf:
    """The root σ of ‖(g_i/(1 + β_i σ), one/σ)‖ = λ, with 40 digits, by bisection on log σ."""

    def excess(sigma: mp.mpf) -> mp.mpf:
        total = (one / sigma) ** 2 if one else mp.mpf(0)
        total += mp.fsum(
            (mp.mpf(x) / (1 + mp.mpf(c) * sigma)) ** 2 for x, c in zip(g.tolist(), beta.tolist(), strict=True)
        )
        return mp.sqrt(total) - mp.mpf(lam)

    low, high = mp.mpf(10) ** -12, mp.mpf(10) ** 14
    assert excess(low) > 0 > excess(high)
    for _ in range(200):
        middle = mp.sqrt(low * high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return low


SECULAR = {
    "plain": ([1.0, 2.0, 5.0], [1.0, -3.0, 2.0], 0.7),
    "one": ([2.0], [5.0], 1.0),
    "flat_direction": ([0.0, 3.0], [0.3, 5.0], 1.0),
    "spread": ([1e-8, 1.0, 1e8], [1e-3, 1.0, 1e6], 0.01),
    "barely_untied": ([1.0, 2.0], [1.0, 0.0], 1.0 - 1e-9),
    "tiny_force": ([1.0, 2.0], [1e-3, 1e-4], 1e-6),
}


@pytest.mark.parametrize("name", SECULAR)
@pytest.mark.parametrize("kind", [kernels.L2, kernels.SMOOTH_L2])
def test_secular_finds_the_stiffness_to_rounding(name: str, kind: int) -> None:
    beta, g, lam = (np.array(x, dtype=float) for x in SECULAR[name])
    one = 1 if kind == kernels.SMOOTH_L2 else 0
    found = kernels._secular(beta, g, float(lam), kind)
    with mp.workdps(40):
        sigma = secular_in_mpmath(beta, g, float(lam), one)
        # Relative change of ‖·‖ per relative change of σ: rounding of ‖·‖ moves σ by its inverse.
        terms = [
            (mp.mpf(x) / (1 + mp.mpf(c) * sigma)) ** 2 * c * sigma / (1 + c * sigma)
            for x, c in zip(g, beta, strict=True)
        ]
        elasticity = float((mp.fsum(terms) + (one / sigma) ** 2) / mp.mpf(float(lam)) ** 2)
        error = float(abs(mp.mpf(found) / sigma - 1))
    # On top of the rounding of ‖·‖ comes that of 1 + βσ, and the stop at an excess of 2.3e-16.
    allowed = 2 * (beta.size + 6) * EPS / elasticity
    assert error <= allowed
    assert not abs(2.0 * found / float(sigma) - 1.0) <= allowed  # λ/2 for λ, say


def test_secular_of_squared_l2_is_twice_lambda() -> None:
    assert kernels._secular(np.ones(2), np.ones(2), 0.3, kernels.SQUARED_L2) == 1.0 / (2.0 * 0.3)


@silent
def test_secular_refuses_a_model_that_falls_for_ever() -> None:
    flat, force = np.zeros(2), np.array([2.0, 0.0])
    assert not np.isfinite(kernels._secular(flat, force, 1.0, kernels.L2))
    assert not np.isfinite(kernels._secular(flat, force, 1.0, kernels.SMOOTH_L2))
    assert np.isfinite(kernels._secular(flat, 0.25 * force, 1.0, kernels.SMOOTH_L2))


@dataclass(frozen=True)
class Quadratics:
    """Local models in their eigenbases, and the point ρ at which they are eliminated."""

    V: Array
    beta: Array
    center: Array
    slope: Array
    rho: Array

    @property
    def B(self) -> Array:
        return np.einsum("nia,ni,nib->nab", self.V, self.beta, self.V)

    def forces(self) -> Array:
        """∇q_n(ρ)."""
        return np.einsum("nab,nb->na", self.B, self.rho - self.center) + self.slope


def quadratics(size: int, kind: str) -> Quadratics:
    rng = np.random.default_rng([size, len(kind)])
    n = 4
    V = np.array([np.linalg.qr(rng.standard_normal((size, size)))[0] for _ in range(n)])
    beta = rng.uniform(0.5, 3.0, (n, size))
    if kind == "singular" and size > 1:
        beta[:, 0] = 0.0
    center, slope = rng.standard_normal((n, size)), rng.standard_normal((n, size))
    rho = rng.standard_normal(size)
    if kind == "singular" and size > 1:
        # A model that is flat along V_0 must not fall along it faster than λ.
        slope -= np.einsum("na,na->n", slope, V[:, 0])[:, None] * V[:, 0]
    if kind == "at_rest":
        center[:], slope[:] = rho, 0.0
    return Quadratics(V, beta, center, slope, rho)


def minimum_of_one(B: Array, center: Array, slope: Array, rho: Array, reg: Any) -> tuple[Array, Array, bool]:
    """θ and pull of one user by bisection on the stiffness s; whether it is tied to ρ."""
    force = B @ (rho - center) + slope
    if isinstance(reg, SquaredL2):
        K = B + 2 * reg.lam * np.eye(rho.size)
        theta = np.linalg.solve(K, B @ center - slope + 2 * reg.lam * rho)
        return theta, 2 * reg.lam * (rho - theta), False
    if isinstance(reg, L2) and np.linalg.norm(force) <= reg.lam:
        return rho, force, True
    values, vectors = np.linalg.eigh(B)
    values, along = np.maximum(values, 0.0), vectors.T @ force

    def excess(log_s: float) -> float:
        s = np.exp(log_s)
        length = np.linalg.norm(along / (values + s))
        return float(np.log(s * (length if isinstance(reg, L2) else np.hypot(1.0, length)) / reg.lam))

    s = np.exp(scipy.optimize.brentq(excess, -30.0, 30.0, xtol=1e-15, rtol=4 * EPS))
    z = vectors @ (along / (values + s))
    return rho - z, s * z, False


def regularizer_hessian(reg: Any, z: Array) -> Array:
    identity = np.eye(z.size)
    if isinstance(reg, SquaredL2):
        return 2 * reg.lam * identity
    root = np.linalg.norm(z) if isinstance(reg, L2) else np.hypot(1.0, np.linalg.norm(z))
    return reg.lam / root * (identity - np.outer(z, z) / root**2)


KIND = {SquaredL2: kernels.SQUARED_L2, L2: kernels.L2, SmoothL2: kernels.SMOOTH_L2}


@dataclass
class Reduced:
    thetas: Array
    pulls: Array
    value: Array
    gradient: Array
    hessian: Array
    negative: Array


def through_factors(
    q: Quadratics, reg: Any, order: int, out: Reduced, users: tuple[int, int], guess: float = 0.0
) -> int:
    """The kernel that takes lower triangles H and a shift, B = H + shift·I, and guesses of σ."""
    shift = 0.2 if float(q.beta.min()) >= 0.2 else 0.0
    H = np.tril(q.B - shift * np.eye(q.rho.size)) + np.triu(np.full(q.B.shape, UNTOUCHED), 1)
    sigmas = np.full(len(q.beta), guess)
    return kernels.partial_minima(
        H, shift, q.center, q.slope, q.rho, reg.lam, KIND[type(reg)], order, sigmas, out.thetas, out.pulls,
        out.value, out.gradient, out.hessian, out.negative, *users,
    )  # fmt: skip


def through_batches(
    q: Quadratics, reg: Any, order: int, out: Reduced, users: tuple[int, int], guess: float = 0.0
) -> int:
    """The same for LANES users at a time; here the range must start with a batch, so others are left out by hand."""
    first, last = users
    shift = 0.2 if float(q.beta.min()) >= 0.2 else 0.0
    H = np.tril(q.B - shift * np.eye(q.rho.size)) + np.triu(np.full(q.B.shape, UNTOUCHED), 1)
    thetas, pulls = out.thetas[first:last].copy(), out.pulls[first:last].copy()
    status = kernels.partial_minima_small(
        H[first:last].copy(), shift, q.center[first:last].copy(), q.slope[first:last].copy(), q.rho, reg.lam,
        KIND[type(reg)], order, np.full(last - first, guess), thetas, pulls,
        out.value, out.gradient, out.hessian, out.negative, 0, last - first,
    )  # fmt: skip
    out.thetas[first:last], out.pulls[first:last] = thetas, pulls
    return status


def through_eigenbases(q: Quadratics, reg: Any, order: int, out: Reduced, users: tuple[int, int]) -> int:
    return kernels.partial_minima_eigen(
        q.V, q.beta, q.center, q.slope, q.rho, reg.lam, KIND[type(reg)], order, out.thetas, out.pulls,
        out.value, out.gradient, out.hessian, out.negative, *users,
    )  # fmt: skip


Route = Callable[..., int]
ROUTES: dict[str, Route] = {
    "factors": through_factors,
    "batches": through_batches,
    "eigenbases": through_eigenbases,
}
every_route = pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)


def nothing(q: Quadratics) -> Reduced:
    n, size = q.beta.shape
    unset = np.full((n, size), UNTOUCHED)
    return Reduced(unset, unset.copy(), np.zeros(1), np.zeros(size), np.zeros((size, size)), np.zeros((size, size)))


def partial_minima(route: Route, q: Quadratics, reg: Any, order: int = 2, users: tuple[int, int] = (0, 4)) -> Reduced:
    out = nothing(q)
    assert route(q, reg, order, out, users) == 0
    return out


def parity_partial_minima(
    route: Route,
    q: Quadratics,
    reg: Any,
    *,
    lam_factor: float = 1.0,
    value_of_reg: float = 1.0,
    curvature: float = 1.0,
    sign: float = 1.0,
) -> None:
    out = partial_minima(route, q, reg)
    twin_reg = type(reg)(lam_factor * reg.lam)
    size, B = q.rho.size, q.B
    hessian, value, gradient = np.zeros((size, size)), 0.0, np.zeros(size)
    scale = 1.0
    for n in range(4):
        theta, pull, tied = minimum_of_one(B[n], q.center[n], q.slope[n], q.rho, twin_reg)
        stiffness = reg.lam / max(float(np.linalg.norm(q.rho - theta)), 1.0) if not tied else reg.lam
        condition = (np.linalg.norm(B[n], 2) + stiffness) / (np.linalg.eigvalsh(B[n])[0] + stiffness)
        # The eigenbasis, the solve and the bisection each lose at most size·κ roundings of the data's magnitude.
        scale = float(np.abs(q.rho).sum() + np.abs(q.center[n]).sum() + np.abs(q.slope[n]).sum() + np.linalg.norm(pull))
        tolerance = 64 * size * condition * EPS * scale * max(1.0, float(np.linalg.norm(B[n], 2)))
        close(out.thetas[n], theta, tolerance)
        close(out.pulls[n], sign * pull, tolerance * max(1.0, stiffness))
        assert not tied or np.array_equal(out.thetas[n], q.rho)
        delta = theta - q.center[n]
        value += q.slope[n] @ delta + 0.5 * delta @ B[n] @ delta + value_of_reg * float(twin_reg.value(q.rho, theta))
        gradient += pull
        if tied:
            hessian += B[n]
        elif np.any(q.rho != theta) or not isinstance(reg, L2):
            R = regularizer_hessian(twin_reg, q.rho - theta)
            R = curvature * R + (1 - curvature) * twin_reg.lam * np.eye(size)
            hessian += R - R @ np.linalg.pinv(B[n] + R) @ R
    tolerance = 4 * tolerance * (1.0 + reg.lam) * max(1.0, scale)
    close(out.value, np.array([value]), tolerance)
    close(out.gradient, gradient, tolerance)
    # The parallel sum R - R(B + R)⁻¹R cancels: it is accurate to rounding of R alone.
    slack = tolerance + 64 * size * EPS * 4 * reg.lam * 10
    if route is not through_eigenbases:
        # Their factor belongs to a σ whose ‖·‖ is within 1e-9 of λ; only a Newton step is made of the Hessian.
        slack += 1e-8 * np.linalg.norm(hessian, 2)
    close(symmetric(out.hessian) - symmetric(out.negative), hessian, slack)


REGS = [SquaredL2(0.8), L2(0.8), SmoothL2(0.8), L2(30.0), SmoothL2(30.0), L2(0.05)]


@every_route
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("kind", ["plain", "singular", "at_rest"])
@pytest.mark.parametrize("reg", REGS, ids=repr)
def test_partial_minima(route: Route, size: int, kind: str, reg: Any) -> None:
    parity_partial_minima(route, quadratics(size, kind), reg)


@every_route
def test_wrong_twins_of_the_partial_minima_are_refused(route: Route) -> None:
    q = quadratics(3, "plain")
    for reg in (SquaredL2(0.8), L2(0.8), SmoothL2(0.8)):
        refuses(parity_partial_minima, route, q, reg, lam_factor=2.0)
        refuses(parity_partial_minima, route, q, reg, lam_factor=1.0 + 1e-9)
        refuses(parity_partial_minima, route, q, reg, value_of_reg=0.5)
        refuses(parity_partial_minima, route, q, reg, sign=-1.0)
    for reg in (L2(0.8), SmoothL2(0.8)):
        refuses(parity_partial_minima, route, q, reg, curvature=0.5)  # without its negative part


@every_route
@pytest.mark.parametrize("reg", REGS, ids=repr)
def test_the_hessian_of_the_partial_minima_is_the_derivative_of_their_gradient(route: Route, reg: Any) -> None:
    q = quadratics(3, "plain")
    out, h = partial_minima(route, q, reg), 1e-5
    columns = []
    for e in np.eye(3):
        ahead = partial_minima(route, Quadratics(q.V, q.beta, q.center, q.slope, q.rho + h * e), reg, order=0)
        behind = partial_minima(route, Quadratics(q.V, q.beta, q.center, q.slope, q.rho - h * e), reg, order=0)
        columns.append((ahead.gradient - behind.gradient) / (2 * h))
    # The error is h²/6 times third derivatives of the gradient, which are of the order λ/|z|³ with |z| > 0.1 here.
    close(symmetric(out.hessian) - symmetric(out.negative), np.array(columns), 1e3 * reg.lam * h**2 + 1e-9)
    assert np.linalg.eigvalsh(symmetric(out.negative))[0] >= -64 * EPS  # the majorizer lies above
    if np.abs(out.negative).max() > 1e-3:
        with pytest.raises(AssertionError):
            close(symmetric(out.hessian), np.array(columns), 1e3 * reg.lam * h**2 + 1e-9)


@every_route
def test_partial_minima_of_order_zero_leave_the_hessian_and_other_users_alone(route: Route) -> None:
    q = quadratics(3, "plain")
    out = partial_minima(route, q, SmoothL2(1.0), order=0, users=(1, 3))
    full = partial_minima(route, q, SmoothL2(1.0))
    assert not out.hessian.any()
    assert not out.negative.any()
    assert np.array_equal(out.thetas[1:3], full.thetas[1:3])
    assert np.all(out.thetas[[0, 3]] == UNTOUCHED)
    assert np.all(out.pulls[[0, 3]] == UNTOUCHED)


@pytest.mark.parametrize("route", [through_factors, through_batches])
@pytest.mark.parametrize("reg", [L2(0.8), SmoothL2(0.8)], ids=repr)
@pytest.mark.parametrize("guess", [1e-6, 0.1, 1.0, 10.0, 1e4])
def test_partial_minima_do_not_depend_on_the_guess(route: Route, reg: Any, guess: float) -> None:
    q = quadratics(3, "plain")
    cold, warm = nothing(q), nothing(q)
    assert route(q, reg, 2, cold, (0, 4)) == 0
    assert route(q, reg, 2, warm, (0, 4), guess) == 0
    # Both are within rounding of the root; models, forces and curvatures here are of order 1 to 10.
    for name in ("thetas", "pulls", "value", "gradient"):
        close(getattr(warm, name), getattr(cold, name), 1e3 * EPS)


@every_route
def test_a_force_of_exactly_lambda_ties_and_a_little_more_does_not(route: Route) -> None:
    rho = np.array([0.3, -0.7])
    q = Quadratics(np.eye(2)[None], np.ones((1, 2)), rho[None], np.array([[3.0, 4.0]]), rho)
    assert np.array_equal(partial_minima(route, q, L2(5.0), users=(0, 1)).thetas[0], rho)
    assert not np.array_equal(partial_minima(route, q, L2(5.0 * (1 - 1e-12)), users=(0, 1)).thetas[0], rho)


@silent
@every_route
@pytest.mark.parametrize("reg", [L2(1.0), SmoothL2(1.0)], ids=repr)
def test_partial_minima_name_the_user_whose_model_falls_for_ever(route: Route, reg: Any) -> None:
    V, beta = np.array([np.eye(2)] * 2), np.array([[1.0, 1.0], [0.0, 0.0]])
    q = Quadratics(V, beta, np.zeros((2, 2)), np.array([[0.0, 0.0], [2.0, 0.0]]), np.zeros(2))
    # A batched kernel names the first user of the batch.
    assert route(q, reg, 2, nothing(q), (0, 2)) == (1 if route is through_batches else 2)
    assert route(q, type(reg)(2.5), 2, nothing(q), (0, 2)) == 0


@pytest.mark.parametrize("reg", [SquaredL2(0.8), L2(0.8), SmoothL2(0.8), L2(12.0)], ids=repr)
@pytest.mark.parametrize("users", [(0, 2 * LANES + 3), (LANES, 2 * LANES + 3), (LANES, 2 * LANES)])
def test_batches_of_partial_minima_are_those_of_each_user(reg: Any, users: tuple[int, int]) -> None:
    """More users than one batch, some of them tied, and a range that starts with a later batch."""
    rng, n, size = np.random.default_rng(8), 2 * LANES + 3, 3
    X = rng.standard_normal((n, 5, size))
    H, center = np.einsum("nia,nib->nab", X, X), rng.standard_normal((n, size))
    slope, rho = rng.standard_normal((n, size)), rng.standard_normal(size)
    results = []
    for kernel in (kernels.partial_minima, kernels.partial_minima_small):
        out = Reduced(
            np.full((n, size), UNTOUCHED), np.full((n, size), UNTOUCHED), np.zeros(1), np.zeros(size),
            np.zeros((size, size)), np.zeros((size, size)),
        )  # fmt: skip
        status = kernel(
            H, 0.2, center, slope, rho, reg.lam, KIND[type(reg)], 2, np.zeros(n), out.thetas, out.pulls,
            out.value, out.gradient, out.hessian, out.negative, *users,
        )  # fmt: skip
        assert status == 0
        results.append(out)
    single, batched = results
    tied = (single.thetas == rho).all(axis=1)
    assert np.array_equal((batched.thetas == rho).all(axis=1), tied)
    assert tied.any() == (reg == L2(12.0))
    assert not tied.all()
    # Matrices of condition below 1e3 and vectors of order 10; the Hessians stop within 1e-9 of the root.
    for name, slack in (("thetas", 1e4), ("pulls", 1e4), ("value", 1e5), ("gradient", 1e5)):
        close(getattr(batched, name), getattr(single, name), slack * EPS)
    close(lower(batched.hessian), lower(single.hessian), 1e-6)
    close(lower(batched.negative), lower(single.negative), 1e-6)


# ---------------------------------------------------------------------------------------------------------------
# Whole minimizations
# ---------------------------------------------------------------------------------------------------------------


def residual_of_local_problem(case: Case, n: int, theta: Array, pull: Array, rho: Array, reg: Any) -> float:
    problem = case.problem
    gradient = local_gradient(theta, *problem.stack.user(n), problem.loss, problem.nu)
    force = np.asarray(reg.gradient(rho, theta))
    if isinstance(reg, L2) and np.array_equal(theta, rho):
        force = reg.project(gradient)
    return float(np.linalg.norm(gradient - pull) + np.linalg.norm(force - pull))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("loss", [Logistic(), Multinomial(3)], ids=name_of)
@pytest.mark.parametrize("reg", [SquaredL2(0.8), L2(0.8), SmoothL2(0.8), L2(100.0)], ids=repr)
def test_followed_minima_are_stationary(shape: str, loss: Loss, reg: Any) -> None:
    case = SHAPES[shape](loss)
    (Q, start, stop), problem = case.args, case.problem
    labels = np.ascontiguousarray(case.labels.reshape(case.rows, case.n_outputs))
    rho = np.random.default_rng(2).standard_normal(problem.dim)
    thetas, pulls = case.thetas.copy(), np.full_like(case.thetas, UNTOUCHED)
    sigmas = np.zeros(problem.n_users)
    status = kernels.followed_minima(
        Q,
        labels,
        start,
        stop,
        2 * problem.nu,
        rho,
        reg.lam,
        KIND[type(reg)],
        thetas,
        pulls,
        sigmas,
        case.first,
        case.last,
    )
    assert status == 0
    for n in range(problem.n_users):
        if n not in case.users:
            assert np.array_equal(thetas[n], case.thetas[n])
            assert np.all(pulls[n] == UNTOUCHED)
            continue
        forces = max(reg.lam, float(np.linalg.norm(local_gradient(rho, *problem.stack.user(n), loss, problem.nu))))
        assert residual_of_local_problem(case, n, thetas[n], pulls[n], rho, reg) <= 1e-11 * forces
        # Half of the regularizer, or another ρ, is refused.
        weaker = type(reg)(0.5 * reg.lam)
        if forces > 1.0 and not (isinstance(reg, L2) and np.array_equal(thetas[n], rho)):
            assert not residual_of_local_problem(case, n, thetas[n], pulls[n], rho, weaker) <= 1e-11 * forces


def sufficient_statistics(problems: list[Problem]) -> tuple[Array, Array]:
    G = [[u.Q.T @ u.Q for u in p.users] for p in problems]
    return np.array(G), np.array([[u.Q.T @ u.A for u in p.users] for p in problems])


def small_problems(count: int, loss: Loss, reg: Any) -> list[Problem]:
    rng = np.random.default_rng(count)
    out = []
    for _ in range(count):
        users = []
        for size in (5, 7, 4):
            Q = rng.standard_normal((size, 2))
            A = rng.standard_normal(size) * 3.0 if isinstance(loss, LeastSquares) else rng.choice([-1.0, 1.0], size)
            users.append(UserDataset(Q, A))
        out.append(Problem(users, loss, reg, 0.3))
    return out


def relative_gradient(problem: Problem, rho: Array, thetas: Array) -> float:
    def size(point: tuple[Array, Array]) -> float:
        outer, inner_part = problem.gradient(*point)
        tied = (point[1] == point[0]).all(axis=1) & isinstance(problem.reg, L2)
        for n in np.flatnonzero(tied):
            subgradient = problem.reg.project(inner_part[n])
            inner_part[n] -= subgradient
            outer = outer + subgradient
        return float(np.hypot(np.linalg.norm(outer), np.linalg.norm(inner_part)))

    return size((rho, thetas)) / size((np.zeros_like(rho), 1e-300 * np.ones_like(thetas)))


@pytest.mark.parametrize("reg", [SquaredL2(0.8), L2(0.8), SmoothL2(0.8), L2(1e3)], ids=repr)
@pytest.mark.parametrize("count", [1, LANES, LANES + 3])
def test_batches_of_least_squares_problems(reg: Any, count: int) -> None:
    problems = small_problems(count, LeastSquares(), reg)
    G, b = sufficient_statistics(problems)
    rho, thetas = np.full((count, 2), UNTOUCHED), np.full((count, 3, 2), UNTOUCHED)
    converged = np.zeros(count, dtype=bool)
    if isinstance(reg, SquaredL2):
        assert kernels.squared_l2_batch(G, b, 2 * (0.3 + reg.lam), reg.lam, rho, thetas, 0, count) == 0
    else:
        arguments = (G, b, 0.6, reg.lam, KIND[type(reg)], 1e-14, rho, thetas, converged)
        assert kernels.regularized_batch(*arguments, 0, count) == 0
        assert converged.all()
    for r, problem in enumerate(problems):
        assert relative_gradient(problem, rho[r], thetas[r]) <= 1e-12
        other = Problem(problem.users, problem.loss, type(reg)(reg.lam * (1 + 1e-9)), 0.3)
        assert isinstance(reg, L2) or not relative_gradient(other, rho[r], thetas[r]) <= 1e-12


def solved_batch(G: Array, b: Array, shift: float, reg: Any) -> tuple[Array, Array, Array]:
    R, N, d = b.shape
    rho, thetas, converged = np.empty((R, d)), np.empty((R, N, d)), np.zeros(R, dtype=bool)
    assert kernels.regularized_batch(G, b, shift, reg.lam, KIND[type(reg)], 1e-13, rho, thetas, converged, 0, R) == 0
    return rho, thetas, converged


@pytest.mark.parametrize(
    ("reg", "N", "d"),
    [
        (SmoothL2(1e-6), 3, 2),
        (SmoothL2(1e6), 3, 2),
        (SmoothL2(2.0), LANES + 1, 1),
        (SmoothL2(2.0), 3, SMALL + 1),
        (L2(2.0), 5, 3),
        (L2(0.5), 5, 3),
        (L2(6.0), 4, 10),
    ],
    ids=repr,
)
def test_corners_of_batches_of_least_squares_problems(reg: Any, N: int, d: int) -> None:
    """Among them users without data, users who agree, and outliers that call for the majorizer's step."""
    rng, R = np.random.default_rng(N + d), LANES + 2
    Q, A = rng.standard_normal((R, N, d + 2, d)), rng.standard_normal((R, N, d + 2))
    Q[1::5, 0] = 0.0
    A[2] = Q[2] @ np.ones(d)
    A[3, 0] *= 1e4
    G, b = np.einsum("rnki,rnkj->rnij", Q, Q), np.einsum("rnki,rnk->rni", Q, A)
    rho, thetas, converged = solved_batch(G, b, 0.02, reg)
    assert converged.all()

    def residual(r: int, reg: Any) -> float:
        """Of the gradient, where the tied users' pulls are their own gradients; relative to the forces."""
        slopes = np.einsum("nij,nj->ni", G[r], thetas[r]) + 0.02 * thetas[r] - b[r]
        tied = (thetas[r] == rho[r]).all(axis=1) & isinstance(reg, L2)
        pulls = np.array(
            [reg.gradient(rho[r], t) if not s else np.zeros(d) for t, s in zip(thetas[r], tied, strict=True)]
        )
        pulls[tied] = slopes[tied]
        assert np.all(np.linalg.norm(pulls[tied], axis=1) <= reg.lam * (1 + 1e-12))
        unit = np.linalg.norm(pulls, axis=1).sum() + 1e-3 * np.linalg.norm(b[r], axis=1).sum()
        return float(np.hypot(np.linalg.norm(pulls.sum(axis=0)), np.linalg.norm(slopes - pulls)) / unit)

    for r in range(R):
        bound = 1e-11 * max(1.0, 1e-3 * reg.lam)  # a force λ(ρ - θ) is known to the rounding of ρ, times λ
        assert residual(r, reg) <= bound
        wrong = type(reg)(reg.lam * (1 + 1e-4))
        if 1e-3 <= reg.lam <= 1e3 and not (thetas[r] == rho[r]).all() and np.abs(thetas[r] - rho[r]).max() > 1e-3:
            assert not residual(r, wrong) <= bound


@pytest.mark.parametrize("reg", [SmoothL2(2.0), L2(8.0)], ids=repr)
def test_problems_side_by_side_need_no_reserve(reg: Any) -> None:
    """Newton's steps alone solve plain problems, with some of the users tied, and one whose users agree."""
    rng = np.random.default_rng(5)
    Q, A = rng.standard_normal((LANES, 5, 6, 3)), 3.0 * rng.standard_normal((LANES, 5, 6))
    A[3] = Q[3] @ np.ones(3)
    G, b = np.einsum("rnki,rnkj->rnij", Q, Q), np.einsum("rnki,rnk->rni", Q, A)
    rho, thetas = np.empty((LANES, 3)), np.empty((LANES, 5, 3))
    converged = np.zeros(LANES, dtype=bool)
    kernels._lanes_regularized(G, b, 0.0, reg.lam, KIND[type(reg)], 1e-13, rho, thetas, converged)
    assert converged.all()
    tied = (thetas == rho[:, None]).all(axis=2).mean()
    assert (0.1 < tied < 0.9) if isinstance(reg, L2) else tied == 0.0


@pytest.mark.parametrize("reg", [SmoothL2(2.0), L2(2.0)], ids=repr)
def test_a_problem_that_is_given_up_leaves_its_batch_alone(reg: Any) -> None:
    """One problem has no minimum (ν = 0, no data); the others are solved, and as if it were not there."""
    rng, R = np.random.default_rng(4), LANES + 2
    Q, A = rng.standard_normal((R, 3, 5, 2)), rng.standard_normal((R, 3, 5))
    G, b = np.einsum("rnki,rnkj->rnij", Q, Q), np.einsum("rnki,rnk->rni", Q, A)
    healthy = solved_batch(G, b, 0.0, reg)
    assert healthy[2].all()
    G[5], b[5] = 0.0, 1.0
    rho, thetas, converged = solved_batch(G, b, 0.0, reg)
    others = np.arange(R) != 5
    assert not converged[5]
    assert converged[others].all()
    close(rho[others], healthy[0][others], 1e-11)
    close(thetas[others], healthy[1][others], 1e-11)


def test_users_who_agree_need_no_force() -> None:
    """One user, or users with the same model and exact data: the forces vanish at the minimum."""
    rng = np.random.default_rng(6)
    for N in (1, 4):
        Q = rng.standard_normal((20, N, 6, 3))
        common = rng.standard_normal((20, 3))
        G = np.einsum("rnki,rnkj->rnij", Q, Q)
        b = np.einsum("rnij,rj->rni", G, common)
        for reg in (SmoothL2(3.0), L2(3.0)):
            rho, thetas, converged = solved_batch(G, b, 0.0, reg)
            assert converged.all()
            close(rho, common, 1e-12)
            close(thetas, np.repeat(common[:, None], N, axis=1), 1e-12)
            assert not np.allclose(rho, common * (1 + 1e-9), rtol=0, atol=1e-12)


def test_a_batch_with_a_singular_problem_says_so() -> None:
    """ν = 0 and no data: ρ is free."""
    G, b = np.zeros((1, 2, 1, 1)), np.zeros((1, 2, 1))
    rho, thetas = np.zeros((1, 1)), np.zeros((1, 2, 1))
    assert kernels.squared_l2_batch(G, b, 2.0, 1.0, rho, thetas, 0, 1) == 1
    assert kernels.squared_l2_batch(G + 1.0, b, 2.0, 1.0, rho, thetas, 0, 1) == 0


def test_batches_of_logistic_problems() -> None:
    reg, count = SquaredL2(0.8), LANES + 3
    problems = small_problems(count, Logistic(), reg)
    Q = np.concatenate([p.stack.Q for p in problems])
    labels = np.concatenate([p.stack.labels for p in problems])
    start = np.array([p.stack.start + 16 * r for r, p in enumerate(problems)])
    stop = np.array([p.stack.stop + 16 * r for r, p in enumerate(problems)])
    rho, thetas = np.full((count, 2), UNTOUCHED), np.full((count, 3, 2), UNTOUCHED)
    converged = np.zeros(count, dtype=bool)
    assert kernels.logistic_batch(Q, labels, start, stop, 0.3, reg.lam, 1e-14, rho, thetas, converged, 1, count) == 0
    assert converged[1:].all()
    assert not converged[0]
    assert np.all(rho[0] == UNTOUCHED)
    for r in range(1, count):
        assert relative_gradient(problems[r], rho[r], thetas[r]) <= 1e-12
        other = Problem(problems[r].users, Logistic(), reg, 0.3 * (1 + 1e-9))
        assert not relative_gradient(other, rho[r], thetas[r]) <= 1e-12


def test_the_exponential_that_vectorizes() -> None:
    """e^-|m| within 3 units of 2^-53, for every binary exponent, and 1e-308 where it would be smaller."""
    rng = np.random.default_rng(12)
    halves = (np.arange(1000) + 0.5) * np.log(2.0)  # where the reduced argument is largest
    special = [0.0, -0.0, 708.0]
    m = np.concatenate(
        [rng.uniform(-708, 708, 200), 2.0 ** rng.uniform(-60, 9, 120), halves - 1e-9, halves + 1e-9, special]
    )
    out, whole = np.empty(m.size), np.empty(m.size)
    kernels._exp_negative(m, whole, out)

    def error(twin: Callable[[Any], Any]) -> float:
        exact = [twin(-mp.mpf(abs(float(x)))) for x in m]
        return max(abs(float((mp.mpf(float(y)) - e) / e)) for y, e in zip(out, exact, strict=True))

    assert error(mp.exp) <= 3 * 2.0**-53
    # A Taylor polynomial cut short, and a base that is off in the last digits, are refused.
    assert not error(lambda x: mp.exp(x * (1 + mp.mpf(2) ** -51))) <= 3 * 2.0**-53
    assert not error(lambda x: mp.exp(x) * (1 + mp.mpf(2) ** -50)) <= 3 * 2.0**-53
    beyond = np.array([1e3, np.inf, -np.inf, -1e300])
    kernels._exp_negative(beyond, np.empty(4), out[:4])
    assert np.all((out[:4] > 0.0) & (out[:4] < 1e-307))


@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize(("rows", "d"), [(0, 2), (1, 1), (63, 3), (64, 2), (65, 10), (3000, 1), (130, SMALL + 1)])
def test_logistic_sums_over_interleaved_rows(rows: int, d: int, step: int) -> None:
    rng = np.random.default_rng(rows)
    Q, labels, theta = rng.standard_normal((rows + 2, d)), rng.choice([-1.0, 1.0], rows + 2), rng.standard_normal(d)
    X = np.full((rows // kernels._ROWS + 1, d, kernels._ROWS), np.nan)
    count = kernels._interleave(Q, labels, 1, rows + 1, step, X)
    used = np.arange(1, rows + 1, step)
    assert count == -(-used.size // kernels._ROWS)
    weights, sums, scratch = np.empty((count, 64)), np.empty((d, LANES)), np.empty((6, kernels._ROWS))
    gradient, H = np.empty(d), np.zeros((d, d))
    value = kernels._logistic_sums(X[:count], used.size, theta, weights, sums, tuple(scratch), gradient)
    kernels._interleaved_gram(X[:count], weights, np.empty((d, d, LANES)), scratch[0], H)
    size = kernels._size_at_zero(X[:count], np.array([0, count]), np.array([3.0]), sums)
    loss = Logistic()

    def agrees(used: Array, theta: Array) -> bool:
        data = UserDataset(Q[used], labels[used])
        slack = 8 * EPS * (used.size + d) * (1 + np.abs(Q[used]).sum(axis=1).max(initial=0.0)) ** 2
        hessian = local_hessian(theta, data.Q, data.A, loss, 0.0) if used.size else np.zeros((d, d))
        slope = local_gradient(theta, data.Q, data.A, loss, 0.0) if used.size else np.zeros(d)
        return bool(
            abs(value - local_loss(theta, data.Q, data.A, loss, 0.0)) <= slack
            and np.all(np.abs(gradient - slope) <= slack)
            and np.all(np.abs(np.tril(H - hessian)) <= slack)
            and abs(size - 1.5 * np.linalg.norm(labels[used] @ Q[used])) <= 3 * slack
        )

    assert agrees(used, theta)
    if rows > 0:
        assert not agrees(used[:-1], theta)  # the last row is left out
        assert not agrees(np.append(used, 0), theta)  # a row of another user
        assert not agrees(used, theta * (1 + 1e-9) + 1e-9)


def test_rows_that_count_twice() -> None:
    """``repeats`` is the same as data that stand there twice, in the answer and in the number of steps."""
    rng = np.random.default_rng(16)
    Q, labels = rng.standard_normal((40, 2)), rng.choice([-1.0, 1.0], 40)
    answers = []
    for times in (1, 2):
        X = np.empty((4, 2, kernels._ROWS))
        rows = np.tile(np.arange(40), times)
        heads = np.array([0, 1, 2 if times == 1 else 3])
        kernels._interleave(Q, labels, 0, 40, 1, X[:1])
        kernels._interleave(Q[rows], labels[rows], 0, 40 * times, 1, X[1:])
        filled, repeats = np.array([40, 40 * times]), np.array([1.0, 2.0 / times])
        rho, thetas = np.zeros(2), np.zeros((2, 2))
        assert kernels._logistic_newton(X[: heads[-1]], heads, filled, repeats, 0.3, 0.8, 1e-13, rho, thetas)
        answers.append(thetas)
    close(answers[0], answers[1], 1e-15)
    assert not np.abs(answers[0][0] - answers[0][1]).max() <= 1e-15


def test_a_loss_near_zero_keeps_its_digits() -> None:
    """All margins large: ln(1 + e^-m) is e^-m, far below the rounding of 1."""
    X = np.ones((1, 1, kernels._ROWS))
    gradient, scratch = np.empty(1), np.empty((6, kernels._ROWS))
    value = kernels._logistic_sums(
        X, 3, np.array([50.0]), np.empty((1, 64)), np.empty((1, LANES)), tuple(scratch), gradient
    )
    assert abs(value / (3 * np.exp(-50.0)) - 1.0) <= 1e-14
    assert not abs(3 * (np.log(1.0 + np.exp(-50.0))) / (3 * np.exp(-50.0)) - 1.0) <= 1e-14  # the naive sum is refused


@pytest.mark.parametrize(
    ("N", "d", "rows", "nu", "lam"),
    [
        (1, 1, 5, 0.1, 1.0),  # one user, one parameter
        (2, 3, 0, 0.1, 1.0),  # a user without data
        (LANES + 2, 2, 4, 0.1, 1.0),  # more users than lanes
        (2, SMALL + 2, 40, 0.1, 1.0),  # LAPACK takes over
        (2, 2, 300, 0.1, 1.0),  # thinned for the first guess
        (3, 2, 9, 1e-9, 1e-3),  # nearly separable: tiny gradients, many steps
        (3, 2, 9, 0.1, 1e-9),
        (3, 2, 9, 1e3, 1e-3),
    ],
)
def test_corners_of_batches_of_logistic_problems(N: int, d: int, rows: int, nu: float, lam: float) -> None:
    rng = np.random.default_rng(N + d)
    Q, labels = rng.standard_normal((rows + 20, d)), rng.choice([-1.0, 1.0], rows + 20)
    start, stop = np.zeros((1, N), dtype=np.int64), np.full((1, N), rows, dtype=np.int64)
    stop[0, -1] = rows + 20
    rho, thetas, converged = np.empty((1, d)), np.empty((1, N, d)), np.zeros(1, dtype=bool)
    kernels.logistic_batch(Q, labels, start, stop, nu, lam, 1e-13, rho, thetas, converged, 0, 1)
    assert converged[0]
    users = [UserDataset(Q[a:z], labels[a:z]) for a, z in zip(start[0], stop[0], strict=True)]
    assert relative_gradient(Problem(users, Logistic(), SquaredL2(lam), nu), rho[0], thetas[0]) <= 2e-13
    other = UserDataset(Q[1 : rows + 20], labels[1 : rows + 20])
    wrong = Problem([*users[:-1], other], Logistic(), SquaredL2(lam), nu)
    assert not relative_gradient(wrong, rho[0], thetas[0]) <= 2e-13


def test_strong_springs_are_solved_up_to_the_rounding_of_the_models() -> None:
    """λ = 1e10: the gradient cannot become small, its sum over all models can, and the models are one."""
    rng = np.random.default_rng(3)
    Q, labels = rng.standard_normal((30, 2)), rng.choice([-1.0, 1.0], 30)
    start, stop = np.array([[0, 10, 20]]), np.array([[10, 20, 30]])
    rho, thetas, converged = np.empty((1, 2)), np.empty((1, 3, 2)), np.zeros(1, dtype=bool)
    kernels.logistic_batch(Q, labels, start, stop, 0.1, 1e10, 1e-13, rho, thetas, converged, 0, 1)
    assert converged[0]
    assert np.abs(thetas[0] - rho[0]).max() <= 1e-8

    def joint_gradient(nu: float) -> float:
        parts = [
            local_gradient(t, Q[a:z], labels[a:z], Logistic(), nu)
            for t, a, z in zip(thetas[0], start[0], stop[0], strict=True)
        ]
        return float(np.linalg.norm(np.sum(parts, axis=0)))

    assert joint_gradient(0.1) <= 1e-12
    assert not joint_gradient(0.1 * (1 + 1e-9)) <= 1e-12
