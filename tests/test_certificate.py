"""Certificates against the truth: exact rational minima, and minima to 50 digits where they are not rational.

Every comparison with the truth is exact or in 50 digits, so a bound that is too small by one unit in the last place
is a failure.  `test_planted_falsehoods_are_caught` plants errors in the certificate and sees this comparison fail.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from fractions import Fraction

import flint
import mpmath
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from solvers import _kernels as kernels
from solvers import _points as points
from solvers import certificate, minimize
from solvers._enclosures import Balls, Interval, Twofold
from solvers.certificate import certify
from theory import (
    L2,
    AssumptionError,
    CertificateError,
    LeastSquares,
    Logistic,
    Multinomial,
    Problem,
    ShapeError,
    SmoothL2,
    SquaredL2,
    UserDataset,
    honest_answers,
)

MODES = pytest.mark.parametrize("rigorous", [False, True], ids=["float", "balls"])


def random_problem(rng, *, n_users, dim, n_data, loss=None, reg=None, nu=0.1, scale=1.0):
    """Users with honest data of different models; ``n_data`` is one number, or one for each user."""
    loss, reg = loss or LeastSquares(), reg or SquaredL2(1.0)
    users = []
    for size in np.broadcast_to(n_data, n_users):
        Q = scale * rng.standard_normal((size, dim))
        users.append(UserDataset(Q, honest_answers(Q, rng.standard_normal(dim * loss.n_outputs), loss, rng)))
    return Problem(users, loss, reg, nu)


# --------------------------------------------------------------------------------------------------------------
# Exact truth: least squares with ℓ2² in rational numbers
# --------------------------------------------------------------------------------------------------------------


def rational(value):
    return flint.fmpq(*float(value).as_integer_ratio())


def exact(values):
    """A float64 matrix (a vector is a column) as an exact rational matrix."""
    values = np.asarray(values, dtype=float)
    values = values[:, None] if values.ndim == 1 else values
    return flint.fmpq_mat(*values.shape, [rational(v) for v in values.ravel()])


def squared(column):
    """‖column‖², 0 if it is empty."""
    return (column.transpose() * column)[0, 0] if column.nrows() else flint.fmpq(0)


class Quadratic:
    """The loss of least squares with ℓ2² as ½xᵀHx - xᵀh + constant, x = (ρ, θ of the free users), exactly."""

    def __init__(self, problem):
        self.problem, P = problem, problem.dim
        self.users = np.flatnonzero(problem.free)
        size = P * (1 + len(self.users))
        self.H, self.h = flint.fmpq_mat(size, size), flint.fmpq_mat(size, 1)
        c = 2 * rational(problem.reg.lam)
        for j in range(P):
            self.H[j, j] = c * problem.n_users
            self.h[j, 0] = sum(
                (c * rational(model[j]) for model in problem.pinned.values()), -rational(problem.slope[j])
            )
        for i, n in enumerate(self.users):
            Q, A = (exact(part) for part in problem.stack.user(n))
            gram, answers = Q.transpose() * Q, Q.transpose() * A
            for j in range(P):
                row = P * (i + 1) + j
                self.h[row, 0] = answers[j, 0]
                self.H[j, row] = self.H[row, j] = -c
                for k in range(P):
                    self.H[row, P * (i + 1) + k] = gram[j, k] + (c + 2 * rational(problem.nu) if j == k else 0)

    def solve(self):
        """The exact minimizer; None if H is singular."""
        try:
            return self.H.solve(self.h)
        except ZeroDivisionError:
            return None

    @property
    def float_hessian(self):
        return np.array([float(x.p) / float(x.q) for x in self.H.entries()]).reshape(self.H.nrows(), -1)

    def pack(self, rho, thetas):
        return exact(np.concatenate([rho, *thetas[self.users]]))

    def unpack(self, x):
        """Round (ρ, θ) to float64; pinned models fill their rows."""
        x = np.array([float(Fraction(int(value.p), int(value.q))) for value in x.entries()])
        x = x.reshape(-1, self.problem.dim)
        thetas = np.zeros((self.problem.n_users, self.problem.dim))
        thetas[self.users] = x[1:]
        for n, model in self.problem.pinned.items():
            thetas[n] = model
        return x[0], thetas

    def float_solution(self):
        """A float64 solution by a dense solve that knows nothing of the structure."""
        h = np.array([float(Fraction(int(x.p), int(x.q))) for x in self.h.entries()])
        return self.unpack(exact(np.linalg.solve(self.float_hessian, h)))

    def errors(self, rho, thetas, truth):
        """Exact ‖x - x*‖², ‖θ - θ*‖², gap, ‖g‖²."""
        error = self.pack(rho, thetas) - truth
        gradient = self.H * error
        parts = flint.fmpq_mat(error.nrows() - self.problem.dim, 1, error.entries()[self.problem.dim :])
        return squared(error), squared(parts), (error.transpose() * gradient)[0, 0] / 2, squared(gradient)


def uncovered(result, errors):
    """Names of the bounds that the exact errors exceed."""
    distance2, theta2, gap, gradient2 = errors
    found = {
        "distance": (result.distance_bound, distance2, 2),
        "theta": (result.theta_distance_bound, theta2, 2),
        "gap": (result.gap_bound, gap, 1),
        "residual": (result.residual, gradient2, 2),
    }
    return [
        name for name, (bound, true, power) in found.items() if bound < math.inf and rational(bound) ** power < true
    ]


def root(square):
    return math.sqrt(Fraction(int(square.p), int(square.q)))


@functools.lru_cache(maxsize=4)
def solved(n_users, dim, n_data, lam, nu):
    """A problem, its exact quadratic form and its exact minimizer."""
    rng = np.random.default_rng([n_users, dim, n_data])
    problem = random_problem(rng, n_users=n_users, dim=dim, n_data=n_data, reg=SquaredL2(lam), nu=nu)
    quadratic = Quadratic(problem)
    return problem, quadratic, quadratic.solve()


SHAPES = [(1, 1, 3), (2, 1, 2), (3, 5, 20), (3, 10, 50), (10, 10, 15), (3, 20, 60), (10, 20, 30)]


@pytest.mark.parametrize(("lam", "nu"), [(1.0, 0.01), (1e3, 0.0), (1e-3, 1.0)])
@pytest.mark.parametrize(("n_users", "dim", "n_data"), SHAPES)
@MODES
def test_equals_the_error_against_exact_rational_minima(n_users, dim, n_data, lam, nu, rigorous):
    problem, quadratic, truth = solved(n_users, dim, n_data, lam, nu)
    rho, thetas = quadratic.float_solution()
    errors = quadratic.errors(rho, thetas, truth)
    result = certify(problem, rho, thetas, rigorous=rigorous)
    assert uncovered(result, errors) == []
    # The issue asks for a factor 10; one Newton step in double-double leaves less than one in a thousand.
    assert result.distance_bound < 1.001 * root(errors[0])
    assert result.residual < 1.001 * root(errors[3])
    least = np.linalg.eigvalsh(quadratic.float_hessian)[0]
    assert result.modulus <= least * (1 + 1e-9)


def views(problem, rng):
    """The problem with users without data, pinned models and reported gradients."""
    P = problem.dim
    empty = Problem([*problem.users, UserDataset.empty(problem.query_dim)], problem.loss, problem.reg, problem.nu)
    yield "empty user", empty
    yield "pinned", problem.pin(1, 3.0 * rng.standard_normal(P))
    yield "two pinned", empty.pin(0, rng.standard_normal(P)).pin(2, rng.standard_normal(P))
    yield "tilted", empty.tilt(0, 0.2 * rng.standard_normal(P))
    yield "tilted and pinned", empty.tilt(2, 0.2 * rng.standard_normal(P)).pin(0, rng.standard_normal(P))
    yield "duplicated", Problem([problem.users[0]] * 3, problem.loss, problem.reg, problem.nu)


@MODES
@pytest.mark.parametrize("nu", [0.0, 0.3])
def test_equals_the_error_for_every_view_of_a_problem(nu, rigorous):
    rng = np.random.default_rng(5)
    problem = random_problem(rng, n_users=3, dim=3, n_data=[2, 7, 4], reg=SquaredL2(0.7), nu=nu)
    for name, view in views(problem, rng):
        quadratic = Quadratic(view)
        truth = quadratic.solve()
        if truth is None:
            assert (nu, name) == (0.0, "duplicated")
            continue
        rho, thetas = quadratic.unpack(truth)
        errors = quadratic.errors(rho, thetas, truth)
        result = certify(view, rho, thetas, rigorous=rigorous)
        assert uncovered(result, errors) == [], name
        assert result.distance_bound < 1.01 * root(errors[0]), name


def test_all_users_pinned():
    problem = random_problem(np.random.default_rng(3), n_users=2, dim=2, n_data=3)
    problem = problem.pin(0, [0.1, 0.2]).pin(1, [0.4, -0.7])
    quadratic = Quadratic(problem)
    rho, thetas = quadratic.unpack(quadratic.solve())
    result = certify(problem, rho, thetas)
    errors = quadratic.errors(rho, thetas, quadratic.solve())
    assert uncovered(result, errors) == []
    assert result.distance_bound < 1e-15


@MODES
@pytest.mark.parametrize("eps", [1e-14, 1e-9, 1e-3, 1e3])
def test_a_perturbed_solution_is_refused(eps, rigorous):
    """In random directions, and along the eigenvectors of the Hessian, where ‖g‖/μ is tightest and loosest."""
    rng = np.random.default_rng(11)
    problem = random_problem(rng, n_users=3, dim=3, n_data=6, nu=0.0, scale=3.0)
    quadratic = Quadratic(problem)
    truth = quadratic.solve()
    vectors = np.linalg.eigh(quadratic.float_hessian)[1]
    for direction in [*vectors.T, *rng.standard_normal((4, truth.nrows()))]:
        step = eps * direction / np.linalg.norm(direction)
        rho, thetas = quadratic.unpack(truth + exact(step))
        errors = quadratic.errors(rho, thetas, truth)
        assert errors[0] > rational(eps / 2) ** 2
        result = certify(problem, rho, thetas, rigorous=rigorous)
        assert uncovered(result, errors) == []
        with pytest.raises(CertificateError, match="demanded distance"):
            result.require(distance=eps / 2)
        assert result.require(distance=root(errors[0]) * 1.01) is result
        with pytest.raises(CertificateError):
            result.require(gap=root(errors[2] ** 2) * 0.99)


EDGES = [0.0, 1.0, -1.0, 2.0**-30, 1e-8, 1e4, -1e4, 3.0, 1.0 + 2.0**-52, 1 / 3]
NUMBERS = st.one_of(st.sampled_from(EDGES), st.floats(-10, 10, width=32))


@st.composite
def quadratic_problems(draw):
    """Small least-squares problems near the edges: duplicated and collinear queries, empty users, ν = 0, extreme λ."""
    dim, n_users = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    users = []
    for _ in range(n_users):
        n_data = draw(st.integers(0, 4))
        Q = np.array(draw(st.lists(NUMBERS, min_size=n_data * dim, max_size=n_data * dim))).reshape(n_data, dim)
        if n_data > 1 and draw(st.booleans()):
            Q[1] = Q[0] * draw(st.sampled_from([1.0, 2.0, 1.0 + 2.0**-40]))
        users.append(UserDataset(Q, draw(st.lists(NUMBERS, min_size=n_data, max_size=n_data))))
    lam = draw(st.sampled_from([1e-6, 1e-3, 0.5, 1.0, 1e3, 1e6]))
    nu = draw(st.sampled_from([0.0, 0.0, 1e-9, 1e-3, 1.0, 1e4]))
    problem = Problem(users, LeastSquares(), SquaredL2(lam), nu)
    if draw(st.booleans()):
        problem = problem.pin(draw(st.integers(0, n_users - 1)), draw(st.lists(NUMBERS, min_size=dim, max_size=dim)))
    noise = draw(st.sampled_from([0.0, 1e-16, 1e-8, 1.0]))
    return problem, noise, draw(st.integers(0, 2**32 - 1))


@given(quadratic_problems())
def test_covers_the_error_on_edge_cases(case):
    problem, noise, seed = case
    quadratic = Quadratic(problem)
    truth = quadratic.solve()
    assume(truth is not None)
    rng = np.random.default_rng(seed)
    size = max([1.0, *(abs(float(Fraction(int(x.p), int(x.q)))) for x in truth.entries())])
    shift = noise * size * rng.standard_normal(truth.nrows())
    rho, thetas = quadratic.unpack(truth + exact(shift))
    errors = quadratic.errors(rho, thetas, truth)
    for rigorous in (False, True):
        assert uncovered(certify(problem, rho, thetas, rigorous=rigorous), errors) == []


# --------------------------------------------------------------------------------------------------------------
# Truth to 50 digits: every loss and regularizer
# --------------------------------------------------------------------------------------------------------------

DIGITS = 50
NOTHING = mpmath.mpf(10) ** -45


def precise(values):
    """Float64 numbers as an object array of 50-digit numbers."""
    return np.array([mpmath.mpf(float(v)) for v in np.ravel(values)], dtype=object).reshape(np.shape(values))


def length(values):
    return mpmath.sqrt(sum((v * v for v in np.ravel(values)), mpmath.mpf(0)))


def local_terms(problem, n, theta):
    """L_n, its gradient and its Hessian, from the definitions in the paper."""
    (Q, labels), K = problem.stack.user(n), problem.loss.n_outputs
    Q, labels, nu = precise(Q), precise(labels), mpmath.mpf(problem.nu)
    value, gradient, hessian = nu * (theta @ theta), 2 * nu * theta, 2 * nu * precise(np.eye(problem.dim))
    for q, a in zip(Q, labels, strict=True):
        m = theta.reshape(K, -1) @ q
        if type(problem.loss) is LeastSquares:
            phi, slope, bend = (m[0] - a) ** 2 / 2, m - a, precise(np.eye(1))
        elif type(problem.loss) is Logistic:
            p = 1 / (1 + mpmath.exp(a * m[0]))
            phi, slope, bend = mpmath.log(1 + mpmath.exp(-a * m[0])), np.array([-a * p]), np.array([[p * (1 - p)]])
        else:
            powers = np.array([mpmath.exp(x) for x in m])
            p = powers / powers.sum()
            phi = a.sum() * mpmath.log(powers.sum()) - a @ m
            slope, bend = a.sum() * p - a, a.sum() * (np.diag(p) - np.outer(p, p))
        value += phi
        gradient = gradient + np.kron(slope, q)
        hessian = hessian + np.kron(bend, np.outer(q, q))
    return value, gradient, hessian


def regularizer_terms(reg, z):
    lam, eye = mpmath.mpf(reg.lam), precise(np.eye(len(z)))
    if type(reg) is SquaredL2:
        return lam * (z @ z), 2 * lam * z, 2 * lam * eye
    size = mpmath.sqrt((1 if type(reg) is SmoothL2 else 0) + z @ z)
    if size == 0:
        return size, z, 0 * eye
    return lam * size, lam * z / size, lam / size * (eye - np.outer(z, z) / size**2)


class Truth:
    """The minimizer of a small problem to 50 digits, by Newton's method from a float64 solution.

    With plain ℓ2 the models that equal ρ there move with it, and a pinned model that equals ρ holds it; afterwards
    the conditions of a minimum are checked: ‖∇L_t‖ < λ for those models, and enough force of a pinned one.
    """

    def __init__(self, problem, rho, thetas):
        self.problem, lam = problem, problem.reg.lam
        at_rho = np.all(thetas == rho, axis=1) & (type(problem.reg) is L2)
        self.held = bool(np.any(at_rho & ~problem.free))
        self.tied = at_rho & problem.free
        self.moving = np.flatnonzero(problem.free & ~self.tied)
        with mpmath.workdps(DIGITS):
            self.rho, self.thetas = self._newton(precise(rho), precise(thetas))
            self.value = self.loss(self.rho, self.thetas)
            forces = precise(problem.slope)
            for n in range(problem.n_users):
                if self.tied[n]:
                    force = local_terms(problem, n, self.rho)[1]
                    assert length(force) < lam
                else:
                    force = regularizer_terms(problem.reg, self.rho - self.thetas[n])[1]
                forces = forces + force
            assert length(forces) < (lam if self.held else NOTHING)

    def loss(self, rho, thetas):
        total = precise(self.problem.slope) @ rho
        for n in range(self.problem.n_users):
            total += regularizer_terms(self.problem.reg, rho - thetas[n])[0]
            if self.problem.free[n]:
                total += local_terms(self.problem, n, thetas[n])[0]
        return total

    def _newton(self, rho, thetas):
        P = self.problem.dim
        variables = ([] if self.held else [rho]) + [thetas[n] for n in self.moving]
        x = np.concatenate(variables) if variables else np.zeros(0, dtype=object)
        for _ in range(60):
            rho, thetas = self._unpack(x, rho, thetas)
            gradient, hessian = self._derivatives(rho, thetas)
            if self.held:
                gradient, hessian = gradient[P:], hessian[P:, P:]
            if not len(x):
                return rho, thetas
            step = np.array(list(mpmath.lu_solve(mpmath.matrix(hessian.tolist()), mpmath.matrix(gradient.tolist()))))
            x = x - step
            if length(step) < NOTHING * (1 + length(x)):
                return self._unpack(x, rho, thetas)
        raise AssertionError("Newton's method did not converge")

    def _unpack(self, x, rho, thetas):
        parts = x.reshape(-1, self.problem.dim)
        rho = rho if self.held else parts[0]
        thetas = thetas.copy()
        thetas[self.tied] = rho
        thetas[self.moving] = parts[0 if self.held else 1 :]
        return rho, thetas

    def _derivatives(self, rho, thetas):
        P, problem = self.problem.dim, self.problem
        size = P * (1 + len(self.moving))
        gradient, hessian = precise(np.zeros(size)), precise(np.zeros((size, size)))
        top = slice(0, P)
        gradient[top] += precise(problem.slope)
        for n in range(problem.n_users):
            _, pull, bend = regularizer_terms(problem.reg, rho - thetas[n])
            gradient[top] += pull
            hessian[top, top] += bend
            if not problem.free[n]:
                continue
            _, slope, curvature = local_terms(problem, n, thetas[n])
            if self.tied[n]:
                gradient[top] += slope
                hessian[top, top] += curvature
                continue
            i = int(np.searchsorted(self.moving, n)) + 1
            rows = slice(P * i, P * (i + 1))
            gradient[rows] += slope - pull
            hessian[rows, rows] += curvature + bend
            hessian[top, rows] -= bend
            hessian[rows, top] -= bend
        return gradient, hessian

    def errors(self, rho, thetas):
        """‖x - x*‖², ‖θ - θ*‖², gap."""
        with mpmath.workdps(DIGITS):
            apart = precise(rho) - self.rho, precise(thetas) - self.thetas
            theta2 = length(apart[1]) ** 2
            return length(apart[0]) ** 2 + theta2, theta2, self.loss(precise(rho), precise(thetas)) - self.value


def broken(result, errors):
    """Names of the bounds that errors known to 45 digits exceed."""
    with mpmath.workdps(DIGITS):
        found = {
            "distance": (mpmath.mpf(result.distance_bound) ** 2, errors[0]),
            "theta": (mpmath.mpf(result.theta_distance_bound) ** 2, errors[1]),
            "gap": (mpmath.mpf(result.gap_bound), errors[2]),
        }
        return [name for name, (bound, true) in found.items() if bound < true - NOTHING]


LOSSES = [LeastSquares(), Logistic(), Multinomial(2)]
REGULARIZERS = [SquaredL2(0.8), SmoothL2(0.8), L2(0.3), L2(20.0)]


@functools.lru_cache(maxsize=1)
def smooth_and_kinked_cases():
    """(name, problem, truth) for every loss, regularizer and view whose minimizer is a point."""
    cases = []
    for loss in LOSSES:
        for reg in REGULARIZERS:
            rng = np.random.default_rng([LOSSES.index(loss), REGULARIZERS.index(reg)])
            base = random_problem(rng, n_users=3, dim=2, n_data=[5, 3, 4], loss=loss, reg=reg, nu=0.2)
            one = random_problem(rng, n_users=3, dim=1, n_data=4, loss=loss, reg=reg, nu=0.05)
            named = [("all free", base), ("one query", one), *views(base, rng)]
            if type(loss) is Multinomial:
                named = named[:5]
            elif type(reg) is not SquaredL2:
                # Five models in three dimensions seldom have one of them as their geometric median.
                many = random_problem(rng, n_users=5, dim=3, n_data=15, loss=loss, reg=reg, nu=0.05)
                named.append(("five users", many))
            for name, problem in named:
                solution = minimize(problem)
                if solution.minimizers is None and not (type(reg) is L2 and problem.n_users == 2):
                    cases.append((f"{loss.name} {reg} {name}", problem, Truth(problem, solution.rho, solution.thetas)))
    return cases


def neighbours(problem, truth, eps, rng):
    """The truth rounded to float64 and shifted by eps, with and without the ties of the truth."""
    rho = np.array(truth.rho, dtype=float) + eps * rng.standard_normal(problem.dim)
    thetas = np.array(truth.thetas, dtype=float) + eps * rng.standard_normal((problem.n_users, problem.dim))
    if truth.held:
        rho = np.array(truth.rho, dtype=float)
    for keep_ties in (True, False):
        at = thetas.copy()
        for n, model in problem.pinned.items():
            at[n] = model
        if keep_ties:
            at[truth.tied] = rho
        yield rho, at
        if not truth.tied.any():
            return


def test_there_are_cases_of_every_kind():
    cases = smooth_and_kinked_cases()
    assert len(cases) > 60
    assert sum(bool(truth.tied.any()) for _, _, truth in cases) > 10
    assert sum(truth.held for _, _, truth in cases) >= 1
    assert sum(type(p.reg) is L2 and not t.tied.any() and not t.held for _, p, t in cases) >= 3


@MODES
@pytest.mark.parametrize("eps", [0.0, 1e-13, 1e-7, 1e-2, 1.0])
def test_covers_the_error_for_every_loss_and_regularizer(eps, rigorous):
    rng = np.random.default_rng(17)
    # Either mode takes the other half of the cases, in turn with eps, to halve the time.
    half = ([0.0, 1e-13, 1e-7, 1e-2, 1.0].index(eps) + rigorous) % 2
    for name, problem, truth in smooth_and_kinked_cases()[half::2]:
        for rho, thetas in neighbours(problem, truth, eps, rng):
            result = certify(problem, rho, thetas, rigorous=rigorous)
            errors = truth.errors(rho, thetas)
            assert broken(result, errors) == [], (name, result)
            if eps <= 1e-7:
                assert math.isfinite(result.distance_bound), (name, result)
            if eps == 1e-2 and errors[0] > 1e-6:
                with pytest.raises(CertificateError):
                    result.require(distance=float(mpmath.sqrt(errors[0])) / 2)


# --------------------------------------------------------------------------------------------------------------
# Sets of minimizers: plain ℓ2 with two users, and with one parameter
# --------------------------------------------------------------------------------------------------------------


def two_models(problem, thetas):
    """θ* of two users with plain ℓ2 to 50 digits: the minimum of L_1 + L_2 + λ‖θ_1 - θ_2‖, apart."""
    P, users = problem.dim, np.flatnonzero(problem.free)
    thetas = precise(thetas)
    for _ in range(60):
        _, pull, bend = regularizer_terms(problem.reg, thetas[0] - thetas[1])
        signs = {0: 1, 1: -1}
        size = P * len(users)
        gradient, hessian = precise(np.zeros(size)), precise(np.zeros((size, size)))
        for i, n in enumerate(users):
            rows = slice(P * i, P * (i + 1))
            _, slope, curvature = local_terms(problem, n, thetas[n])
            gradient[rows] += slope + signs[n] * pull
            hessian[rows, rows] += curvature
            for j, k in enumerate(users):
                hessian[rows, P * j : P * (j + 1)] += signs[n] * signs[k] * bend
        step = np.array(list(mpmath.lu_solve(mpmath.matrix(hessian.tolist()), mpmath.matrix(gradient.tolist()))))
        thetas[users] -= step.reshape(-1, P)
        if length(step) < NOTHING:
            return thetas
    raise AssertionError("Newton's method did not converge")


def distance_to_segment(rho, ends):
    whole = ends[1] - ends[0]
    t = (rho - ends[0]) @ whole / (whole @ whole)
    return length(rho - ends[0] - min(max(t, mpmath.mpf(0)), mpmath.mpf(1)) * whole)


@MODES
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("pinned", [False, True])
def test_two_users_of_plain_l2(loss, pinned, rigorous):
    """ρ* is the segment between the models: the closest minimizer has θ* and the closest point of it."""
    rng = np.random.default_rng(23)
    problem = random_problem(rng, n_users=2, dim=2, n_data=[6, 9], loss=loss, reg=L2(0.4), nu=0.3)
    if pinned:
        problem = problem.pin(1, 2.0 * rng.standard_normal(problem.dim))
    start = minimize(problem).thetas
    with mpmath.workdps(DIGITS):
        truth = two_models(problem, start)
        assert length(truth[0] - truth[1]) > 0.01
        lowest = regularizer_terms(problem.reg, truth[0] - truth[1])[0]
        lowest += sum(local_terms(problem, n, truth[n])[0] for n in np.flatnonzero(problem.free))
    middle = np.array(truth, dtype=float)
    for eps in (0.0, 1e-12, 1e-4, 0.3):
        for t, off in [
            (0.5, 0.0),
            (0.1, 0.0),
            (0.0, 0.0),
            (1.0, 0.0),
            (0.7, 1e-13),
            (0.7, 1e-3),
            (1.2, 0.0),
            (-1e-9, 0.0),
        ]:
            thetas = middle + eps * rng.standard_normal(middle.shape)
            thetas[~problem.free] = middle[~problem.free]
            rho = (1 - t) * thetas[0] + t * thetas[1] + off * rng.standard_normal(problem.dim)
            if t in (0.0, 1.0):
                rho = thetas[int(t)].copy()
            with mpmath.workdps(DIGITS):
                theta2 = length(precise(thetas) - truth) ** 2
                distance2 = theta2 + distance_to_segment(precise(rho), truth) ** 2
                value = sum(regularizer_terms(problem.reg, precise(rho) - precise(thetas[n]))[0] for n in range(2))
                value += sum(local_terms(problem, n, precise(thetas[n]))[0] for n in np.flatnonzero(problem.free))
            result = certify(problem, rho, thetas, rigorous=rigorous)
            assert broken(result, (distance2, theta2, value - lowest)) == [], (eps, t, off, result)
            # The step D/√b of the dual argument, at most (√2 + 1) times the error of each model.
            if loss.n_outputs == 1 and eps <= 1e-4:
                assert result.distance_bound < 60 * float(mpmath.sqrt(distance2)) + 1e-14, (eps, t, off, result)


def balanced_models(problem, signs):
    """θ_n* with ∇L_n = λ sign_n, for one parameter, to 50 digits."""
    models = []
    for n, sign in enumerate(signs):
        theta = precise([0.0])
        for _ in range(80):
            _, slope, bend = local_terms(problem, n, theta)
            step = (slope - mpmath.mpf(problem.reg.lam) * sign) / bend[0, 0]
            theta = theta - step / max(1, length(step))
        assert length(step) < NOTHING
        models.append(theta[0])
    return np.array(models, dtype=object)


@MODES
@pytest.mark.parametrize("loss", LOSSES[:2], ids=lambda loss: loss.name)
def test_one_parameter_and_plain_l2(loss, rigorous):
    """An even number of models: ρ* is the interval between the two in the middle."""
    rng = np.random.default_rng(29)
    users = []
    for center in (-3.0, -1.0, 1.5, 4.0):
        Q = 1.0 + rng.random((8, 1))
        users.append(UserDataset(Q, center * Q[:, 0]))
    if type(loss) is Logistic:
        labels = [
            -np.ones(8),
            -np.array([1, 1, 1, 1, 1, 1, -1, -1.0]),
            np.array([1, 1, 1, 1, 1, -1, -1, -1.0]),
            np.ones(8),
        ]
        users = [UserDataset(user.Q, label) for user, label in zip(users, labels, strict=True)]
    problem = Problem(users, loss, L2(0.05), nu=0.1)
    with mpmath.workdps(DIGITS):
        truth = balanced_models(problem, [1, 1, -1, -1])
        assert truth[0] < truth[1] < truth[2] < truth[3]
        a, b = truth[1], truth[2]

        def loss_at(rho, thetas):
            kinks = sum(mpmath.mpf(problem.reg.lam) * abs(rho - theta) for theta in thetas)
            return kinks + sum(local_terms(problem, n, thetas[n : n + 1])[0] for n in range(4))

        lowest = loss_at(a, truth)
    low, high = float(a), float(b)
    for eps in (0.0, 1e-13, 1e-6, 1e-2):
        for rho in (0.5 * (low + high), low + 1e-9, high - 1e-14, "left", "right", low - 1e-7, high + 0.3):
            thetas = np.array(truth, dtype=float)[:, None] + eps * rng.standard_normal((4, 1))
            rho = {"left": thetas[1, 0], "right": thetas[2, 0]}.get(rho, rho)
            with mpmath.workdps(DIGITS):
                theta2 = length(precise(thetas)[:, 0] - truth) ** 2
                outside = max(a - mpmath.mpf(rho), mpmath.mpf(rho) - b, mpmath.mpf(0))
                errors = theta2 + outside**2, theta2, loss_at(mpmath.mpf(rho), precise(thetas)[:, 0]) - lowest
            result = certify(problem, [rho], thetas, rigorous=rigorous)
            assert broken(result, errors) == [], (eps, rho, result)
            if eps <= 1e-6 and low <= rho <= high:
                assert math.isfinite(result.distance_bound)
                assert result.kind == "median of one parameter"


@MODES
def test_two_pairs_of_equal_users(rigorous):
    """In two dimensions: each pair acts as one user of twice the loss and the regularizer; ρ* is a segment."""
    rng = np.random.default_rng(31)
    pair = random_problem(rng, n_users=2, dim=2, n_data=8, reg=L2(0.4), nu=0.3)
    order = [0, 1, 0, 1]
    problem = Problem([pair.users[n] for n in order], LeastSquares(), L2(0.4), 0.3)
    with mpmath.workdps(DIGITS):
        truth = two_models(pair, minimize(pair).thetas)[order]
    models = np.array(truth, dtype=float)
    for eps in (0.0, 1e-12, 1e-3):
        for t in (0.0, 0.3, 1.3):
            thetas = models + eps * rng.standard_normal((2, 2))[order]
            rho = (1 - t) * thetas[0] + t * thetas[1] if t else thetas[0]
            with mpmath.workdps(DIGITS):
                theta2 = length(precise(thetas) - truth) ** 2
                distance2 = theta2 + distance_to_segment(precise(rho), truth) ** 2
                at, least = (
                    sum(local_terms(problem, n, rows[n])[0] for n in range(4))
                    + sum(regularizer_terms(problem.reg, center - rows[n])[0] for n in range(4))
                    for rows, center in ((precise(thetas), precise(rho)), (truth, truth[0]))
                )
            result = certify(problem, rho, thetas, rigorous=rigorous)
            assert broken(result, (distance2, theta2, at - least)) == [], (eps, t, result)
            assert result.distance_bound < 60 * float(mpmath.sqrt(distance2)) + 1e-14
    # Equal models of users with different data are no such groups: nothing says that their minima are equal.
    other = Problem(
        [*problem.users[:3], UserDataset(2.0 * pair.users[1].Q, pair.users[1].A)], LeastSquares(), L2(0.4), 0.3
    )
    assert certify(other, 0.7 * models[0] + 0.3 * models[1], models).kind != "segment of two models"
    solution = minimize(problem)
    assert solution.certificate.distance_bound < 1e-12


@MODES
@pytest.mark.parametrize("reg", [SquaredL2(0.5), SmoothL2(0.5), L2(0.5)], ids=str)
def test_features_that_never_act_are_left_out(reg, rigorous):
    """ν = 0 and a feature that is always 0: the closest minimizer has the same coefficient for all models there."""
    rng = np.random.default_rng(37)
    full = random_problem(rng, n_users=3, dim=2, n_data=5, reg=reg, nu=0.0)
    blank = np.array([0, 2])
    users = [UserDataset(np.insert(user.Q, 1, 0.0, axis=1), user.A) for user in full.users]
    problem = Problem(users, LeastSquares(), reg)
    solution = minimize(full)
    truth = Truth(full, solution.rho, solution.thetas)
    rho, thetas = np.zeros(3), np.zeros((3, 3))
    rho[blank], thetas[:, blank] = np.array(truth.rho, dtype=float), np.array(truth.thetas, dtype=float)
    thetas[0, 0] += 1e-6
    result = certify(problem, rho, thetas, rigorous=rigorous)
    assert broken(result, truth.errors(rho[blank], thetas[:, blank])) == []
    assert result.distance_bound < 1e-5
    # A model that is not 0 there is not left out: the loss then pulls on it.
    thetas[1, 1] = 1.0
    assert certify(problem, rho, thetas, rigorous=rigorous).distance_bound == math.inf


# --------------------------------------------------------------------------------------------------------------
# Where nothing is known
# --------------------------------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("reg", REGULARIZERS, ids=str)
def test_flat_directions_have_no_bound(reg, rigorous):
    """ν = 0 and no data in the second coordinate: every shift of all models along it costs nothing."""
    users = [UserDataset([[1.0, 0.0], [2.0, 0.0]], [1.0, a]) for a in (0.0, 1.0, 5.0)]
    problem = Problem(users, LeastSquares(), reg)
    result = certify(problem, [0.5, 1e3], np.full((3, 2), [0.5, 1e3]), rigorous=rigorous)
    assert result.distance_bound == math.inf
    with pytest.raises(CertificateError):
        result.require(distance=1e300)


@MODES
def test_models_without_curvature_of_their_own_are_bounded_by_the_others(rigorous):
    """ν = 0: two rank-deficient users whose queries span together, and one without data."""
    users = [UserDataset([[1.0, 1.0]], [1.0]), UserDataset([[1.0, -2.0]], [3.0]), UserDataset.empty(2)]
    rng = np.random.default_rng(61)
    Q = rng.standard_normal((5, 2, 3))
    apart = [UserDataset(rows, rows @ rng.standard_normal(3) * 5.0) for rows in Q]
    problems = [Problem(users, LeastSquares(), reg) for reg in (SquaredL2(0.5), SmoothL2(0.5))]
    for problem in [*problems, Problem(apart, LeastSquares(), L2(0.3))]:
        solution = minimize(problem)
        truth = Truth(problem, solution.rho, solution.thetas)
        for rho, thetas in neighbours(problem, truth, 1e-6, np.random.default_rng(1)):
            result = certify(problem, rho, thetas, rigorous=rigorous)
            errors = truth.errors(rho, thetas)
            assert broken(result, errors) == []
            assert result.distance_bound < 1.01 * mpmath.sqrt(errors[0])
    # With that last problem all models are apart from ρ, so that the modulus comes from the parallel sums.
    assert not truth.tied.any()


@MODES
@pytest.mark.parametrize("reg", REGULARIZERS, ids=str)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_overflow_refuses(loss, reg, rigorous):
    """Data whose squares overflow give infinite bounds in float64 (balls have no such limit), never NaN."""
    A = [1.0, 1.0]
    users = [UserDataset([[1e200, 1.0], [1e160, -1e180]], A), UserDataset([[1.0, 2.0], [1e308, 0.0]], A)]
    problem = Problem(users, loss, reg, nu=1.0)
    P = problem.dim
    for rho, thetas in [(np.ones(P), np.ones((2, P))), (np.full(P, 1e300), np.full((2, P), -1e308))]:
        result = certify(problem, rho, thetas, rigorous=rigorous)
        bounds = [result.distance_bound, result.theta_distance_bound, result.gap_bound, result.residual]
        assert not any(math.isnan(bound) for bound in bounds)
        if not rigorous:
            assert result.distance_bound == math.inf


def test_nan_in_a_bound_is_refused():
    nan = dataclasses.replace(certify(*solution_of_one_user()), distance_bound=math.nan)
    with pytest.raises(CertificateError):
        nan.require(distance=math.inf)


def solution_of_one_user():
    problem = Problem([UserDataset([[1.0]], [1.0])], LeastSquares(), SquaredL2(1.0), nu=1.0)
    return problem, np.array([1 / 3]), np.array([[1 / 3]])


def test_problems_without_users_or_without_losses():
    problem = Problem([UserDataset([[1.0, 2.0]], [1.0])], LeastSquares(), L2(1.0), 0.1)
    nobody, tilted, nothing = problem.without(0), problem.tilt(0, [0.3, 0.4]), np.zeros((0, 2))
    assert certify(nobody, [3.0, 4.0], nothing).distance_bound == 0.0
    assert certify(tilted, [3.0, 4.0], nothing).distance_bound == math.inf
    assert certify(tilted, [3.0, 4.0], nothing).residual == pytest.approx(0.5)
    for reg in REGULARIZERS:
        idle = Problem([UserDataset.empty(2)] * 3, LeastSquares(), reg)
        assert certify(idle, [1.0, 1.0], np.ones((3, 2))).distance_bound == math.inf
        held = idle.pin(0, [1.0, 1.0])
        assert certify(held, [1.0, 1.0], np.ones((3, 2))).distance_bound < 1e-150
        thetas = np.array([[1.0, 1.0], [1.0, 1.0 + 1e-9], [1.0, 1.0]])
        assert 1e-9 <= certify(held, [1.0, 1.0], thetas).distance_bound < 1e-6


def test_bad_points_are_refused_by_name():
    problem, rho, thetas = solution_of_one_user()
    with pytest.raises(ShapeError, match="rho"):
        certify(problem, [np.nan], thetas)
    with pytest.raises(ShapeError, match="thetas"):
        certify(problem, rho, [[1.0], [2.0]])
    with pytest.raises(AssumptionError, match="reported model"):
        certify(problem.pin(0, [2.0]), rho, thetas)


# --------------------------------------------------------------------------------------------------------------
# The parts: double-double kernels, enclosures, eigenvalues
# --------------------------------------------------------------------------------------------------------------


def exact_gradient(loss, Q, labels, theta):
    """Σ_i Q_i φ'(Q_iᵀθ, a_i) in balls of 600 bits, object array (K, d)."""
    with flint.ctx.workprec(600):
        m = Balls(Q).values @ Balls(theta).values.T if len(Q) else np.zeros((0, len(theta)), dtype=object)
        slopes = points._ball_slopes(loss, m, labels.reshape(len(Q), -1)) if len(Q) else m
        return Balls(np.zeros(theta.shape)).values + (slopes.T @ Balls(Q).values if len(Q) else 0)


@pytest.mark.parametrize("scale", [1e-160, 1e-8, 1.0, 30.0, 1e5, 1e150])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_double_double_gradients_are_within_their_bound(loss, scale):
    """Against 600 bits, with residuals that cancel to the last place; and the bound itself is tiny."""
    rng = np.random.default_rng(41)
    for n_data, dim in [(0, 1), (1, 1), (1, 3), (40, 4)]:
        Q = scale * rng.standard_normal((n_data, dim))
        Q[:, 0] = np.where(rng.random(n_data) < 0.3, 0.0, Q[:, 0])
        thetas = rng.standard_normal((1, loss.n_outputs, dim))
        low = 2.0**-54 * thetas * rng.uniform(-1, 1, thetas.shape)
        labels = loss.encode(honest_answers(Q, thetas.ravel(), loss, rng, noise=0.0), "A") if n_data else np.zeros(0)
        labels = labels.reshape(n_data, loss.n_outputs)
        kind = LOSSES.index(loss)
        high, rest, error = np.zeros(thetas.shape), np.zeros(thetas.shape), np.zeros(1)
        start, stop = np.array([0]), np.array([n_data])
        with np.errstate(all="ignore"):
            status = kernels.data_gradients(Q, labels, start, stop, thetas, low, kind, high, rest, error, 0, 1)
        assert status == 0
        with flint.ctx.workprec(600):
            theta = Balls(thetas[0]).values + Balls(low[0]).values
            m = Balls(Q).values @ theta.T if n_data else np.zeros((0, loss.n_outputs), dtype=object)
            slopes = points._ball_slopes(loss, m, labels) if n_data else m
            true = slopes.T @ Balls(Q).values if n_data else Balls(np.zeros(theta.shape)).values
            missing = Balls((Balls(high[0]).values + Balls(rest[0]).values - true).ravel()[None]).norms()
            size = Balls(true.ravel()[None]).norms()
        assert missing.high[0] <= error[0] + 1e-160
        if scale == 1.0:
            # A residual that cancels entirely leaves the size of its terms, hence the 1.
            assert error[0] <= 1e-22 * (1.0 + size.high[0])


def test_double_double_exponential_and_sigmoid():
    arguments = np.concatenate([-np.geomspace(1e-300, 690.0, 400), np.linspace(-40, 1e-3, 300), [-0.0, 0.0]])
    with flint.ctx.workprec(300):
        for x in arguments:
            low = x * 2.0**-55
            value = sum(Balls(np.array(kernels.dd_exp(x, low))).values)
            true = (flint.arb(x) + flint.arb(low)).exp()
            assert abs(value - true) < flint.arb(2) ** -85 * true + 1e-320
            for sign in (1.0, -1.0):
                value = sum(Balls(np.array(kernels.dd_expit(sign * x, sign * low))).values)
                true = 1 / (1 + (-sign * (flint.arb(x) + flint.arb(low))).exp())
                assert abs(value - true) < flint.arb(2) ** -84 * true + 1e-320
    assert kernels.dd_expit(-800.0, 0.0) == (0.0, 0.0)
    assert kernels.dd_expit(800.0, 0.0) == (1.0, 0.0)
    assert math.isnan(kernels.dd_expit(math.nan, 0.0)[0])


FLOATS = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 1e-300, -1e300, 5e-324, 1 / 3]), st.floats(allow_nan=False))


@given(FLOATS, FLOATS, FLOATS, FLOATS)
def test_intervals_enclose_exact_arithmetic(a, b, c, d):
    x, y = Interval(min(a, b), max(a, b)), Interval(min(c, d), max(c, d))
    with np.errstate(all="ignore"):
        results = {"+": x + y, "-": x - y, "*": x * y, "/": x / y}
        for p in (a, b):
            for q in (c, d):
                if not math.isfinite(p) or not math.isfinite(q):
                    continue
                p_, q_ = Fraction(p), Fraction(q)
                true = {"+": p_ + q_, "-": p_ - q_, "*": p_ * q_, "/": p_ / q_ if q else None}
                for name, value in true.items():
                    if value is not None:
                        low, high = float(results[name].low), float(results[name].high)
                        assert low == -math.inf or Fraction(low) <= value, name
                        assert high == math.inf or Fraction(high) >= value, name
                root = Interval(abs(p)).sqrt()
                assert Fraction(float(root.low)) ** 2 <= abs(p_)
                assert float(root.high) == math.inf or Fraction(float(root.high)) ** 2 >= abs(p_)


def test_intervals_compare_with_certainty_and_nan_refuses():
    assert Interval(1.0, 2.0) < Interval(3.0)
    assert not Interval(1.0, 3.0) < Interval(3.0)
    unknown = Interval(math.nan)
    assert not unknown < math.inf
    assert not unknown > -math.inf
    with np.errstate(all="ignore"):
        assert not Interval(math.inf) - Interval(math.inf) < 1.0
        assert not Interval(0.0) * Interval(math.inf) < 1.0


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e140])
@pytest.mark.parametrize("one", [0.0, 1.0])
def test_double_double_vectors_are_within_their_bound(one, scale):
    rng = np.random.default_rng(43)
    x, y = scale * rng.standard_normal((2, 6, 5))
    x[0] = y[0] * (1 + 2.0**-50)
    lows = 2.0**-55 * x * rng.uniform(-1, 1, x.shape)
    with flint.ctx.workprec(600):
        for low in (0.0 * lows, lows):
            mine = Twofold.difference(x, y) + Twofold.difference(low, 0.0 * low)
            true = Balls.difference(x, y) + Balls(low)
            pairs = [(mine, true), (mine.over_length(one), true.over_length(one)), (mine.total(), true.total())]
            pairs.append((mine.times(rng.standard_normal(6)), None))
            for value, expected in pairs[:3]:
                missing = (Balls(value.high) + Balls(value.low) - expected).norms()
                assert np.all(missing.high <= value.error + 1e-150)
            assert np.all(mine.over_length(one).error <= 1e-12)
            sizes = mine.norms()
            assert np.all(sizes.low <= true.norms().high)
            assert np.all(sizes.high >= true.norms().low)


@pytest.mark.parametrize("least", [1.0, 1e-6, 1e-13, 0.0, -1e-3])
def test_least_eigenvalues_are_proven_and_sharp(least):
    """Integer reflections of a diagonal matrix, whose least eigenvalue is known exactly."""
    rng = np.random.default_rng(47)
    for size in (1, 2, 7):
        values = np.concatenate([[least], 1.0 + rng.integers(0, 5, size - 1)])
        v = rng.integers(-3, 4, size).astype(float)
        v[0] = 1.0
        reflection = exact(np.eye(size)) - exact(np.outer(2 * v, v)) / rational(v @ v)
        A = reflection * exact(np.diag(values)) * reflection.transpose()
        rounded = np.array([float(Fraction(int(x.p), int(x.q))) for x in A.entries()]).reshape(size, size)
        rounding = float(np.linalg.norm(rounded)) * 2.0**-52
        low = points.least_eigenvalues(rounded[None], np.array([rounding]))[0]
        assert low <= least
        assert low >= least - abs(least) / 500 - 1e-12
        with flint.ctx.workprec(192):
            low = points.ball_least_eigenvalue(flint.arb_mat(A))
        assert low <= least
        assert low >= least - abs(least) / 500 - 1e-12
    bad = points.least_eigenvalues(np.full((1, 2, 2), np.nan), np.zeros(1))
    assert bad[0] == -np.inf


def test_the_modulus_is_the_least_eigenvalue_of_the_arrow_matrix():
    """Scalar users with any curvatures: the secular root against eigenvalues of the (N+1) × (N+1) matrix."""
    rng = np.random.default_rng(53)
    for _ in range(200):
        n = int(rng.integers(1, 6))
        b, c = 10.0 ** rng.uniform(-6, 3, n), 10.0 ** rng.uniform(-6, 3, n)
        M = np.diag(np.concatenate([[c.sum()], b + c]))
        M[0, 1:] = M[1:, 0] = -c
        s = float(np.sum(b * c / (b + c)))
        root = certificate._secular_root(s, 1.0, (c / (b + c))[:, None], (b + c)[:, None])
        least = np.linalg.eigvalsh(M)[0]
        # The eigenvalue routine errs by a few units in the last place of the largest.
        assert root <= least + 1e-14 * np.abs(M).max()
        assert root >= least * (1 - 1e-6) - 1e-14 * np.abs(M).max()
    assert certificate._secular_root(0.0, 1.0, np.ones((1, 1)), np.ones((1, 1))) == 0.0
    assert certificate._secular_root(np.nan, 1.0, np.ones((1, 1)), np.ones((1, 1))) == 0.0


# --------------------------------------------------------------------------------------------------------------
# The comparison with the truth can fail: planted falsehoods
# --------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def known_points():
    """(problem, ρ, θ, check, errors): points near and far from known minima, of every kind of argument."""
    found = []
    for n_users, nu in [(1, 0.0), (3, 0.2)]:
        rng = np.random.default_rng(n_users)
        problem = random_problem(rng, n_users=n_users, dim=3, n_data=8, nu=nu)
        quadratic = Quadratic(problem)
        truth = quadratic.solve()
        near = [quadratic.float_solution()]
        for direction in np.linalg.eigh(quadratic.float_hessian)[1].T:
            near += [quadratic.unpack(truth + exact(eps * direction)) for eps in (1e-15, 1e-3)]
        found += [(problem, *point, uncovered, quadratic.errors(*point, truth)) for point in near]
    rng = np.random.default_rng(59)
    few = [
        case for case in smooth_and_kinked_cases() if type(case[1].loss) is not Multinomial and "five" not in case[0]
    ]
    for _, problem, truth in few[::2]:
        near = [point for eps in (0.0, 0.3) for point in neighbours(problem, truth, eps, rng)]
        if type(problem.reg) is L2 and problem.free.all():
            # Models at ρ that should not be there.
            rho = np.array(truth.rho, dtype=float)
            near.append((rho, np.tile(rho, (problem.n_users, 1))))
        found += [(problem, *point, broken, truth.errors(*point)) for point in near]
    # Smooth-ℓ2 curves far less at its minimum, 20 away, than at 0.
    problem = Problem([UserDataset([[0.3]], [10.0]), UserDataset.empty(1)], LeastSquares(), SmoothL2(1.0)).pin(1, [0.0])
    truth = Truth(problem, np.array([11.0]), np.array([[22.0], [0.0]]))
    point = np.zeros(1), np.zeros((2, 1))
    return [*found, (problem, *point, broken, truth.errors(*point))]


def misses():
    """How many of the points the certificate, as it is now, does not cover."""
    return sum(bool(check(certify(*point), errors)) for *point, check, errors in known_points())


def scaled(function, factor):
    return lambda *arguments: function(*arguments) * factor


def without_newton(patch):
    patch.setattr(certificate, "_newton_step", lambda *arguments: None)


def modulus_too_large(patch):
    without_newton(patch)
    patch.setattr(certificate, "_secular_root", scaled(certificate._secular_root, 1.02))


def pull_of_twice_the_curvature(patch):
    without_newton(patch)
    honest = certificate._stiffness

    def doubled(point, radius):
        stiffness = honest(point, radius)
        return dataclasses.replace(stiffness, across=2 * stiffness.across, along=2 * stiffness.along)

    patch.setattr(certificate, "_stiffness", doubled)


def curvature_of_the_center_for_the_ball(patch):
    honest = certificate._modulus
    patch.setattr(certificate, "_modulus", lambda point, curvature, radius, tied: honest(point, curvature, 0.0, tied))


def no_ball_condition(patch):
    patch.setattr(Interval, "__lt__", lambda self, other: np.ones(np.shape(self.high), dtype=bool))


def gradient_without_nu(patch):
    patch.setattr(points.FloatPoint, "gradients", property(lambda self: self._data_gradients()))


def pull_of_the_wrong_sign(patch):
    honest = certificate._pulls
    patch.setattr(certificate, "_pulls", lambda point: -honest(point))


def float64_gradients_as_if_exact(patch):
    honest = points.FloatPoint._data_gradients

    def rounded(point):
        values = [
            point.problem.stack.user(n)[0].T @ (point.problem.loss.dphi(point.problem.stack.user(n)[0] @ theta, labels))
            for n, theta in enumerate(point.thetas)
            for labels in [point.problem.stack.user(n)[1]]
        ]
        return Twofold(np.array(values)) if point.problem.loss.n_outputs == 1 else honest(point)

    patch.setattr(points.FloatPoint, "_data_gradients", rounded)


def newton_step_without_its_rest(patch):
    honest = certificate._gradient

    def vanishing(point, tied):
        gradient = honest(point, tied)
        return dataclasses.replace(gradient, size=Interval(0.0)) if np.any(point.thetas_low) else gradient

    patch.setattr(certificate, "_gradient", vanishing)


def every_tie_has_slack(patch):
    patch.setattr(certificate, "_all_have_slack", lambda *arguments: True)


def dual_argument_without_half(patch):
    honest = certificate._dual_bounds

    def smaller(point, curvature, lacks, excess, kind, rho):
        return honest(point, curvature, 0.6 * lacks, 0.6 * excess, kind, rho)

    patch.setattr(certificate, "_dual_bounds", smaller)


def gap_of_an_eighth(patch):
    honest = certificate._from_modulus

    def smaller(size, modulus, kind):
        bounds = honest(size, modulus, kind)
        return dataclasses.replace(bounds, gap=bounds.gap / 2)

    without_newton(patch)
    patch.setattr(certificate, "_from_modulus", smaller)


FALSEHOODS = [
    modulus_too_large,
    pull_of_twice_the_curvature,
    curvature_of_the_center_for_the_ball,
    no_ball_condition,
    gradient_without_nu,
    pull_of_the_wrong_sign,
    float64_gradients_as_if_exact,
    newton_step_without_its_rest,
    every_tie_has_slack,
    dual_argument_without_half,
    gap_of_an_eighth,
]


def test_the_certificate_as_it_stands_covers_every_point(monkeypatch):
    assert len(known_points()) > 80
    assert misses() == 0
    without_newton(monkeypatch)
    assert misses() == 0


@pytest.mark.parametrize("falsehood", FALSEHOODS, ids=lambda falsehood: falsehood.__name__)
def test_planted_falsehoods_are_caught(falsehood, monkeypatch):
    falsehood(monkeypatch)
    assert misses() > 0


# --------------------------------------------------------------------------------------------------------------
# The two modes, losses and regularizers of one's own, and the solver's own points
# --------------------------------------------------------------------------------------------------------------


def test_both_modes_agree():
    """Balls and float64 bound the same quantities: equal up to the bounds on the rounding of float64."""
    for name, problem, truth in smooth_and_kinked_cases():
        rho, thetas = np.array(truth.rho, dtype=float), np.array(truth.thetas, dtype=float)
        fast, sure = certify(problem, rho, thetas), certify(problem, rho, thetas, rigorous=True)
        assert (fast.rigorous, sure.rigorous) == (False, True)
        assert fast.kind == sure.kind
        # Weights of the logistic loss are lowered by 1e-9, Gram matrices and sigmoids by their rounding.
        for bound in ("distance_bound", "gap_bound", "residual", "modulus"):
            a, b = getattr(fast, bound), getattr(sure, bound)
            assert abs(a - b) <= 1e-2 * b + 1e-300, (name, bound)


class Absolute:
    """A loss of one's own: √(1 + (m - a)²), which is convex."""

    name, n_outputs = "pseudo_huber", 1

    def encode(self, A, name):
        return LeastSquares().encode(A, name)

    def phi(self, m, a):
        return np.hypot(1.0, m - a)

    def dphi(self, m, a):
        return (m - a) / np.hypot(1.0, m - a)

    def d2phi(self, m, a):
        return np.hypot(1.0, m - a) ** -3


@pytest.mark.parametrize("reg", REGULARIZERS, ids=str)
def test_a_loss_of_ones_own_is_bounded_by_nu(reg):
    rng = np.random.default_rng(67)
    users = [UserDataset(rng.standard_normal((6, 2)), rng.standard_normal(6)) for _ in range(3)]
    problem = Problem(users, Absolute(), reg, nu=0.2)
    solution = minimize(problem)
    result = certify(problem, solution.rho, solution.thetas)
    assert "own loss taken as convex" in result.kind
    if type(reg) is L2:
        # The slope of an unknown loss may vary at any rate, so ties cannot be seen to persist near ρ.
        assert result.theta_distance_bound < 1e-5
    else:
        assert result.distance_bound < 1e-12
    moved = certify(problem, solution.rho + 1e-3, solution.thetas)
    assert moved.distance_bound > 1e-3
    with pytest.raises(CertificateError, match="pseudo_huber"):
        certify(problem, solution.rho, solution.thetas, rigorous=True)


class Quartic:
    """A regularizer of one's own: ‖z‖⁴."""

    name = "quartic"

    def value(self, rho, theta):
        return np.sum((rho - theta) ** 2, axis=-1) ** 2

    def gradient(self, rho, theta):
        return 4.0 * np.sum((rho - theta) ** 2, axis=-1, keepdims=True) * (rho - theta)

    def project(self, g):
        return np.array(g)


class Halved(SquaredL2):
    """A subclass is not the regularizer that it derives from."""

    def value(self, rho, theta):
        return 0.5 * super().value(rho, theta)

    def gradient(self, rho, theta):
        return 0.5 * super().gradient(rho, theta)


@pytest.mark.parametrize("reg", [Quartic(), Halved(1.0)], ids=lambda reg: type(reg).__name__)
def test_a_regularizer_of_ones_own_has_a_residual_only(reg):
    problem = Problem([UserDataset([[1.0]], [2.0])], LeastSquares(), reg, nu=1.0)
    result = certify(problem, [0.5], [[0.0]])
    assert result.distance_bound == result.gap_bound == result.theta_distance_bound == math.inf
    pull = float(reg.gradient(np.array([0.5]), np.array([0.0]))[0])
    assert result.residual == pytest.approx(math.hypot(pull, -2.0 - pull), rel=1e-14)
    with pytest.raises(CertificateError, match=reg.name):
        certify(problem, [0.5], [[0.0]], rigorous=True)


@pytest.mark.parametrize("reg", [SquaredL2(1.0), SmoothL2(1.0), L2(1.0), L2(60.0)], ids=str)
@pytest.mark.parametrize("loss", [LeastSquares(), Logistic(), Multinomial(3)], ids=lambda loss: loss.name)
def test_solutions_are_certified_close_to_rounding(loss, reg):
    """With outliers of 1e4, a user without data and a duplicated one."""
    rng = np.random.default_rng(71)
    base = random_problem(rng, n_users=6, dim=4, n_data=25, loss=loss, reg=reg, nu=0.05)
    Q = base.users[0].Q.copy()
    Q[0] *= 1e4
    outlier = UserDataset(Q, honest_answers(Q, rng.standard_normal(base.dim), loss, rng))
    users = [*base.users, base.users[1], UserDataset.empty(4), outlier]
    problem = Problem(users, loss, reg, 0.05)
    solution = minimize(problem)
    result = solution.certificate
    size = math.sqrt(float(np.sum(solution.thetas**2) + np.sum(solution.rho**2)))
    assert result.distance_bound <= 1e-10 * (1.0 + size), result
    assert result.require(distance=1e-10 * (1.0 + size)) is result


@pytest.mark.slow
@pytest.mark.parametrize("reg", [SquaredL2(1.0), SmoothL2(1.0), L2(1.0), L2(50.0)], ids=str)
@pytest.mark.parametrize("loss", [LeastSquares(), Logistic()], ids=lambda loss: loss.name)
def test_ten_thousand_users(loss, reg):
    problem = random_problem(
        np.random.default_rng(73), n_users=10_000, dim=20, n_data=50, loss=loss, reg=reg, nu=0.1, scale=1.0
    )
    solution = minimize(problem)
    assert solution.certificate.distance_bound < 1e-11
    shifted = certify(problem, solution.rho + 1e-6, solution.thetas)
    assert shifted.distance_bound >= 1e-6
