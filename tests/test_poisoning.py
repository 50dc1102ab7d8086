"""Data with a given minimum: exact, of least number, within bounds; each claim attacked from both sides."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.optimize
from scipy.special import expit, softmax

from proofs_checks.generators import LOSSES, REGULARIZERS, ambivalent_user, random_problem
from solvers import (
    honest_gradient,
    large,
    local,
    minimize,
    poison,
    poison_by_sampling,
    poison_in_box,
)
from solvers.chain import with_data
from solvers.class_poison import class_points
from theory import (
    L2,
    AssumptionError,
    Demand,
    GaussianQueries,
    LeastSquares,
    Logistic,
    Multinomial,
    Problem,
    ShapeError,
    SmoothL2,
    SphereQueries,
    SquaredL2,
    UserDataset,
    class_bound,
    honest_answers,
    indifference_queries,
    least_answer,
    least_points,
    missing_gradient,
    one_point,
    poison_points,
    reported_model_from_gradient,
)
from theory.losses import local_gradient
from theory.poisoning import _ceil, _largest_share, linear_points, logistic_points, printed_point
from theory.regularizers import norms

PAIRS = [(loss, reg) for loss in LOSSES for reg in REGULARIZERS]
IDS = [f"{loss.name}-{reg.name}" for loss, reg in PAIRS]


def random_demand(rng: np.random.Generator, dim: int, work: float, size: float = 1.0, length: float = 2.0) -> Demand:
    """A demand with ‖w‖ = size and wᵀθ♠ = work."""
    w = rng.standard_normal(dim)
    w *= size / norms(w)
    across = rng.standard_normal(dim)
    across -= (across @ w) * w / size**2
    across *= length / max(norms(across), 1e-300) if dim > 1 else 0.0
    return Demand.of(w, work / size**2 * w + across, nu=0.0)


def centred(theta: np.ndarray, loss: Any) -> np.ndarray:
    """A step whose mean over the classes is 0, which data can force."""
    classes = theta.reshape(loss.n_outputs, -1)
    return (classes - classes.mean(axis=0) if loss.n_outputs > 1 else classes).ravel()


def missing(data: UserDataset, demand: Demand, loss: Any) -> float:
    return float(norms(missing_gradient(data, demand, loss)) / norms(demand.w))


# ---------------------------------------------------------------------------------------------- the adversary


def best_fit(
    loss: Any,
    demand: Demand,
    n: int,
    rng: np.random.Generator,
    *,
    a: float = 1.0,
    B: float = math.inf,
    starts: int = 12,
) -> float:
    """The least relative ‖w + Σ φ' Q‖ over datasets of n points that an optimizer finds, within the bounds.

    Bounds are built in by a change of variables; least squares answers are a tanh(u), labels are tried in turn.
    """
    dim = demand.w.size // loss.n_outputs
    K = loss.n_outputs
    model = demand.reported_model.reshape(K, dim) if K > 1 else demand.reported_model

    def queries(x: np.ndarray) -> np.ndarray:
        V = x.reshape(n, dim)
        if math.isinf(B):
            return V
        length = np.linalg.norm(V, axis=1, keepdims=True) + 1e-300
        return B * np.tanh(length) / length * V

    def residual(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
        if isinstance(loss, LeastSquares):
            Q, A = queries(x[n:]), a * np.tanh(x[:n])
            return demand.w - Q.T @ (A - Q @ model)
        Q = queries(x)
        if isinstance(loss, Logistic):
            return demand.w - Q.T @ (labels * expit(-labels * (Q @ model)))
        return demand.w - ((np.eye(K)[labels] - softmax(Q @ model.T, axis=1)).T @ Q).ravel()

    best = math.inf
    for start in range(starts):
        labels = rng.integers(0, K, n) if K > 1 else np.ones(n)
        size = n * dim + (n if isinstance(loss, LeastSquares) else 0)
        x = rng.standard_normal(size) * 10.0 ** rng.uniform(-0.5, 0.5)
        if start % 2 == 0 and K == 1:  # the shape of the optimum: equal queries along w
            x[-n * dim :] = np.tile(demand.w, n) * rng.uniform(0.3, 3.0) / norms(demand.w)
            x[:n] = np.abs(x[:n]) if isinstance(loss, LeastSquares) else x[:n]
        found = scipy.optimize.least_squares(
            residual, x, args=(labels,), max_nfev=300, xtol=1e-15, ftol=1e-15, gtol=1e-15
        )
        best = min(best, math.sqrt(2 * found.cost) / norms(demand.w))
        if best < 1e-9:
            break
    return best


# ---------------------------------------------------------------------------------------------- the equation


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_the_demand_is_stationarity(loss: Any, rng: np.random.Generator) -> None:
    """missing_gradient = 0 says ∇L_s(θ♠) = -F, ν and all; with ν dropped, or doubled, it does not."""
    nu, F = 0.3, rng.standard_normal(2 * loss.n_outputs)
    model = rng.standard_normal(F.size)
    Q = rng.standard_normal((5, 2))
    A = {"least_squares": rng.standard_normal(5), "logistic": np.array([1, -1, 1, 1, -1.0])}.get(
        loss.name, np.arange(5) % 3
    )
    data = UserDataset(Q, A)
    gradient = local_gradient(model, data.Q, loss.encode(data.A, "A"), loss, nu)
    assert missing_gradient(data, Demand.of(F, model, nu), loss) == pytest.approx(gradient + F, abs=1e-13)
    for wrong in (0.0, nu / 2, 2 * nu):
        assert not np.allclose(missing_gradient(data, Demand.of(F, model, wrong), loss), gradient + F, atol=1e-3)
    assert missing_gradient(UserDataset.empty(2), Demand.of(F, model, nu), loss) == pytest.approx(F + 2 * nu * model)


def test_what_is_nothing_but_rounding_is_no_demand() -> None:
    """16 units in the last place of ‖F‖ + 2ν‖θ♠‖ are rounding, 17 are a demand; a demand of 0 asks for nothing."""
    eps = 2.0**-52
    for units, is_demand in ((16, False), (17, True)):
        demand = Demand.of([1.0 + units * eps], [-(1.0 - units * eps)], nu=0.5)
        assert demand.w.tolist() == [2 * units * eps * is_demand]
    nothing = Demand.of([0.0, 0.0], [3.0, 4.0], nu=0.0)
    for loss in LOSSES[:2]:
        assert least_points(nothing, loss, max_query=0.1) == 0
        assert poison_points(nothing, loss, max_query=0.1).Q.shape == (0, 2)
    assert least_answer(nothing) == least_answer(nothing, max_query=0.5) == 0.0
    assert one_point(nothing).n_data == 0


def test_a_demand_that_is_no_number_is_refused() -> None:
    """Not taken for 0, which no data would meet."""
    for nu in (math.nan, math.inf, -0.1):
        with pytest.raises(AssumptionError, match="nu"):
            Demand.of([1.0], [1.0], nu=nu)
    with pytest.raises(ShapeError, match=r"honest_sum \+ 2 nu reported_model"):
        Demand.of([1.0], [1e300], nu=1e10)


# ---------------------------------------------------------------------------------------------- least squares


def test_the_default_point_has_a_query_of_norm_one_or_the_least_answer() -> None:
    """‖Q‖ = 1 unless c = 1/√s makes it shorter; then the answer is 2√s."""
    for w, model, query, answer in (
        ([0.5], [0.5], 1.0, 0.5 + 0.5),  # s = 1/4, 1/√s = 2 = 1/‖w‖
        ([0.5], [0.25], 1.0, 0.25 + 0.5),
        ([0.5], [8.0], 0.25, 4.0),  # s = 4: c = 1/2
        ([2.0], [-3.0], 1.0, -3.0 + 2.0),
        ([0.0625], [0.0], 1.0, 0.0625),
    ):
        data = one_point(Demand.of(w, model, nu=0.0))
        assert data.Q.tolist() == [[query]]
        assert data.A.tolist() == [answer]


def test_one_point_is_exact_for_every_c(rng: np.random.Generator) -> None:
    """C10, through the solver: N = 2, d = 1 and larger; the printed point, and a point without ν, are refuted."""
    for n_users, dim in ((2, 1), (2, 3), (5, 2)):
        problem = random_problem(rng, LeastSquares(), SquaredL2, n_users=n_users, dim=dim)
        target = 3 * rng.standard_normal(dim)
        F = honest_gradient(problem, 0, target)
        model = reported_model_from_gradient(target, -F, problem.reg)
        demand = Demand.of(F, model, problem.nu)
        for c in (None, 1.0, -0.3, 7.0, 1 / norms(demand.w)):
            solution = minimize(with_data(problem, 0, one_point(demand, c)))
            assert norms(solution.rho - target) <= 1e-9 * max(1.0, norms(target))
        for wrong in (
            printed_point(F, model),
            UserDataset(F[None], [F @ model + 1.0]),  # right sign, ν left out
            one_point(Demand.of(F, reported_model_from_gradient(target, F, problem.reg), problem.nu)),  # sign of g
            one_point(Demand.of(F, target + F / problem.reg.lam, problem.nu)),  # the factor 2 of Proposition 4's proof
            one_point(Demand.of(2 * F, model, problem.nu)),
        ):
            assert norms(minimize(with_data(problem, 0, wrong)).rho - target) > 1e-3
    unit = one_point(demand, 1 / norms(demand.w))
    assert norms(unit.Q[0]) == pytest.approx(1.0)


def test_the_printed_point_is_exact_with_the_other_sign_and_without_nu(rng: np.random.Generator) -> None:
    users = [ambivalent_user(rng, LeastSquares(), rng.standard_normal((4, 2))) for _ in range(3)]
    problem = Problem(users, LeastSquares(), SquaredL2(1.0), nu=0.0)
    target = np.array([3.0, -1.0])
    F = honest_gradient(problem, 0, target)
    model = reported_model_from_gradient(target, -F, problem.reg)
    printed = printed_point(F, model)
    assert norms(minimize(with_data(problem, 0, printed)).rho - target) > 1e-2
    mended = UserDataset(printed.Q, printed.A + 2.0)
    assert norms(minimize(with_data(problem, 0, mended)).rho - target) < 1e-10


@pytest.mark.parametrize("work", [3.0, 0.4, 0.0, -2.0])
def test_the_least_answer_of_one_point(work: float, rng: np.random.Generator) -> None:
    demand = random_demand(rng, 3, work, size=1.7)
    for bound in (None, 0.2, 3.0):
        largest = 1e4 if bound is None else bound / demand.size
        grid = np.geomspace(1e-6, largest, 200_001)
        answers = np.abs(grid * demand.work + 1 / grid)
        least = least_answer(demand, bound)
        assert least <= answers.min() * (1 + 1e-12)
        # The grid comes within a relative 1e-4² of a minimum, and within 1e-4 of a zero.
        assert answers.min() <= least + 1e-3
    assert missing(one_point(demand), demand, LeastSquares()) < 1e-13
    if work > 0:
        assert one_point(demand, 1 / math.sqrt(work)).A[0] == pytest.approx(2 * math.sqrt(work))


LINEAR = [(a, B, work) for a in (1.0, 0.6) for B in (math.inf, 2.0, 0.5) for work in (0.9, 0.1, 0.0, -0.4)]


@pytest.mark.parametrize(("a", "B", "work"), LINEAR)
def test_the_least_number_of_bounded_points(a: float, B: float, work: float, rng: np.random.Generator) -> None:
    """C11, with queries bounded too: that many do it, and the adversary finds nothing with one less."""
    demand = random_demand(rng, 2, work)
    bound = None if math.isinf(B) else B
    least = least_points(demand, LeastSquares(), max_answer=a, max_query=bound)
    data = poison_points(demand, LeastSquares(), max_answer=a, max_query=bound)
    assert data.n_data == least
    assert np.abs(data.A).max() <= a
    assert norms(data.Q).max() <= B * (1 + 1e-12)
    assert missing(data, demand, LeastSquares()) < 1e-12
    more = linear_points(demand, n_points=least + 3, max_answer=a, max_query=B)
    assert more.n_data == least + 3
    assert missing(more, demand, LeastSquares()) < 1e-12
    assert np.abs(more.A).max() <= a
    assert norms(more.Q).max() <= B * (1 + 1e-12)
    if 1 < least <= 8:
        assert best_fit(LeastSquares(), demand, least - 1, rng, a=a, B=B, starts=6) > 1e-3
        # The adversary has the power to find what there is (its tanh reaches a bound that must be met only slowly).
        assert best_fit(LeastSquares(), demand, least, rng, a=a, B=B, starts=30) < 1e-4


def test_bounds_whose_squares_overflow_are_bounds(rng: np.random.Generator) -> None:
    demand = random_demand(rng, 2, 0.5)
    assert least_points(demand, LeastSquares(), max_answer=1e200) == 1
    data = poison_points(demand, LeastSquares(), max_answer=1e200)
    assert data.n_data == 1
    assert missing(data, demand, LeastSquares()) < 1e-12


def test_units_in_the_last_place_do_not_ask_for_another_point() -> None:
    """8 in a number of points, 8 + P in s = wᵀθ♠, and 8 in ‖w‖/B; one more is a point more."""
    eps = 2.0**-52
    assert [_ceil(1.0 + units * eps) for units in (8, 9)] == [1, 2]
    for units, n in ((17, 1), (18, 2)):
        # With a = 2 a point does the work s = 1.
        assert least_points(Demand.of([1.0], [1.0 + units * eps], nu=0.0), LeastSquares(), max_answer=2.0) == n
    for units, n in ((8, 2), (9, 3)):
        # Without work the share is 1/2, and two points of norm 1 do what asks for ‖w‖ = 1.
        assert least_points(Demand.of([1.0 + units * eps], [0.0], nu=0.0), Logistic(), max_query=1.0) == n


def test_bounds_whose_product_is_the_work() -> None:
    """a·‖w‖/B = s = 3/2: by the norm of the queries no number is enough, and na² >= 4s decides: n >= 6/2.25."""
    demand = Demand.of([1.0], [1.5], nu=0.0)
    assert least_points(demand, LeastSquares(), max_answer=demand.least_work, max_query=1.0) == 3
    assert least_points(demand, LeastSquares(), max_answer=1.5, max_query=1.0) == 3


def test_many_points_of_small_queries_by_hand() -> None:
    """Without work n points with ‖Q‖ <= B hold ‖w‖ = nB/2: the least n is ⌈2‖w‖/B⌉, wherever the search passes."""
    for n in (1, 2, 3, 5, 8, 13, 31, 32, 33, 100):
        demand = Demand.of([1.0], [0.0], nu=0.0)
        assert least_points(demand, Logistic(), max_query=2.0 / n) == n
        assert least_points(demand, Logistic(), max_query=2.0 / (n - 0.5)) == n
        assert norms(logistic_points(demand, max_query=2.0 / n).Q) == pytest.approx(np.full(n, 2.0 / n), rel=1e-12)


@pytest.mark.parametrize("bound", [-1.0, 0.0, math.nan])
def test_bounds_that_are_none_are_refused(bound: float) -> None:
    """Rather than taken for no bound."""
    demand = Demand.of([2.0], [2.0], nu=0.0)
    with pytest.raises(AssumptionError, match="max_query"):
        least_answer(demand, max_query=bound)
    with pytest.raises(AssumptionError, match="max_query"):
        linear_points(demand, max_query=bound)
    with pytest.raises(AssumptionError, match="max_query"):
        logistic_points(demand, max_query=bound)
    with pytest.raises(AssumptionError, match="max_answer" if bound != 0.0 else "answers > 0"):
        linear_points(demand, max_answer=bound)


def test_the_bound_of_C11_holds_for_every_dataset(rng: np.random.Generator) -> None:
    """ΣA² >= 4s for the demand that random data meet; with 4.001 it is refuted near the optimum."""
    tightest = math.inf
    for _ in range(300):
        n, dim = int(rng.integers(1, 5)), int(rng.integers(1, 4))
        Q, model = rng.standard_normal((n, dim)), rng.standard_normal(dim)
        A = 2 * (Q @ model) * (1 + 10.0 ** rng.uniform(-6, 0) * rng.standard_normal(n))
        s = float((A - Q @ model) @ (Q @ model))
        assert np.sum(A**2) >= 4 * s * (1 - 1e-12)
        tightest = min(tightest, np.sum(A**2) / s if s > 0 else math.inf)
    assert tightest < 4.001


def test_exact_integers_are_not_rounded_up(rng: np.random.Generator) -> None:
    for n in (1, 3, 7, 50, 10_007):
        demand = random_demand(rng, 2, n * 0.3**2 / 4)
        assert least_points(demand, LeastSquares(), max_answer=0.3) == n
        assert missing(poison_points(demand, LeastSquares(), max_answer=0.3), demand, LeastSquares()) < 1e-12
        demand = random_demand(rng, 2, n * class_bound(2))
        assert least_points(demand, Logistic()) == n
        # At the maximum of t σ(-t) the margin is known to √eps only, but the gradient to eps.
        assert missing(poison_points(demand, Logistic()), demand, Logistic()) < 1e-12


# ---------------------------------------------------------------------------------------------- logistic


def test_the_largest_share_solves_its_equation() -> None:
    """y ln((1-y)/y) = v with y beyond the maximum, up to the maximum itself; for larger v it stays there."""
    top = class_bound(2)
    rng = np.random.default_rng(0)
    near, below = top - 10.0 ** rng.uniform(-17, 0, 300), -(10.0 ** rng.uniform(-20, 1.5, 300))
    for v in [top, *near, 0.0, *below, *(0.1 * 10.0 ** rng.uniform(-20, 0, 100))]:
        y = _largest_share(v)
        # σ(-v/y) = y: to rounding, also at the maximum, where y itself is known to √eps only.
        assert float(expit(-v / y)) == pytest.approx(y, rel=2e-15)
        assert y >= 1.0 / (1.0 + math.exp(1.0 + top)) - 1e-15
    assert _largest_share(0.0) == 0.5
    assert _largest_share(-1e6) == 1.0
    assert _largest_share(2.0 * top) == _largest_share(top)


def test_the_constant_of_a_point() -> None:
    """W((K-1)/e) is the most that a point can contribute, and is attained; 1 % more or less is refuted."""
    for K in (2, 3, 10):
        t = np.linspace(0, 20, 2_000_001)
        values = t * (K - 1) / (K - 1 + np.exp(t))  # all other classes equally likely
        assert class_bound(K) == pytest.approx(values.max(), rel=1e-10)
        rng = np.random.default_rng(K)
        margins = 4 * rng.standard_normal((20_000, K))
        margins[:, 0] += 3 * rng.random(20_000)
        p = softmax(margins, axis=1)
        assert (margins[:, 0] - np.sum(p * margins, axis=1)).max() <= class_bound(K)
    t = np.linspace(-5, 20, 1_000_001)
    assert class_bound(2) == pytest.approx((t * expit(-t)).max(), rel=1e-10)


@pytest.mark.parametrize("B", [math.inf, 1.5, 0.3])
@pytest.mark.parametrize("work", [1.3, 0.2, 0.0, -3.0])
def test_the_least_number_of_logistic_points(B: float, work: float, rng: np.random.Generator) -> None:
    demand = random_demand(rng, 2, work)
    bound = None if math.isinf(B) else B
    data = poison_points(demand, Logistic(), max_query=bound)
    least = least_points(demand, Logistic(), max_query=bound)
    assert data.n_data == least
    assert set(data.A.tolist()) <= {-1.0, 1.0}
    assert norms(data.Q).max() <= B * (1 + 1e-12)
    assert missing(data, demand, Logistic()) < 1e-12
    more = logistic_points(demand, n_points=least + 2, max_query=B)
    assert missing(more, demand, Logistic()) < 1e-12
    assert norms(more.Q).max() <= B * (1 + 1e-12)
    if 1 < least <= 8:
        assert best_fit(Logistic(), demand, least - 1, rng, B=B, starts=6) > 1e-3
        assert best_fit(Logistic(), demand, least, rng, B=B, starts=30) < 1e-6


# ---------------------------------------------------------------------------------------------- K classes


def class_demand(rng: np.random.Generator, K: int, dim: int, scale: float = 1.0) -> Demand:
    W, model = rng.standard_normal((2, K, dim))
    W -= W.mean(axis=0)
    W = scale * (W + model - model.mean(axis=0))
    return Demand.of(W.ravel(), model.ravel(), nu=0.0)


@pytest.mark.parametrize(("K", "dim"), [(2, 1), (2, 3), (3, 1), (3, 2), (3, 4), (4, 2)])
def test_class_points_are_exact_and_hard_labelled(K: int, dim: int, rng: np.random.Generator) -> None:
    for scale in (0.3, 3.0):
        demand = class_demand(rng, K, dim, scale)
        data = class_points(demand, K)
        assert set(data.A.tolist()) <= set(range(K))
        assert missing(data, demand, Multinomial(K)) < 1e-10
        least = least_points(demand, Multinomial(K))
        assert data.n_data >= least
        if K == 2:
            assert data.n_data == least  # two classes: as binary, where the bound is attained


def test_the_class_bound_is_attained_by_isotropic_demands(rng: np.random.Generator) -> None:
    for K, n in ((3, 6), (4, 20), (5, 35)):
        model = rng.standard_normal((K, K + 1))
        U, _, Vt = np.linalg.svd(model - model.mean(axis=0), full_matrices=False)
        U, Vt = U[:, : K - 1], Vt[: K - 1]
        theta = 2.0 * U @ Vt
        W = U @ Vt * (n - 0.3) * class_bound(K) / (2.0 * (K - 1))
        demand = Demand.of(W.ravel(), theta.ravel(), nu=0.0)
        assert least_points(demand, Multinomial(K)) == n
        data = class_points(demand, K)
        # Each class needs a whole number of points.
        assert n <= data.n_data <= n + K - 1
        assert missing(data, demand, Multinomial(K)) < 1e-10


def test_fewer_than_the_class_bound_fail(rng: np.random.Generator) -> None:
    demand = class_demand(rng, 3, 2, 0.8)
    least = least_points(demand, Multinomial(3))
    assert 3 <= least <= 8
    assert best_fit(Multinomial(3), demand, least - 1, rng, starts=12) > 1e-3
    found = class_points(demand, 3).n_data
    assert best_fit(Multinomial(3), demand, found + 1, rng, starts=60) < 1e-6


def test_a_class_sum_is_refused(rng: np.random.Generator) -> None:
    W = rng.standard_normal((3, 2))
    with pytest.raises(AssumptionError, match="subtract the mean"):
        class_points(Demand.of(W.ravel(), rng.standard_normal(6), nu=0.0), 3)
    problem = random_problem(rng, Multinomial(3), SquaredL2, dim=2)
    with pytest.raises(AssumptionError, match="mean over the classes"):
        poison(problem, 0, np.ones(6))


def test_equal_classes_need_one_point_each(rng: np.random.Generator) -> None:
    W = rng.standard_normal((3, 2))
    W -= W.mean(axis=0)
    demand = Demand.of(W.ravel(), np.tile([1.0, 2.0], 3), nu=0.0)
    data = class_points(demand, 3)
    assert missing(data, demand, Multinomial(3)) < 1e-12


# ---------------------------------------------------------------------------------------------- end to end


def reachable_target(problem: Problem, s: int, rng: np.random.Generator, size: float = 2.0) -> np.ndarray:
    """A random target, for K classes of mean 0, close enough to the honest minimum to be forced."""
    base = minimize(problem.without(s), throw=False).rho
    step = rng.standard_normal(problem.dim).reshape(problem.loss.n_outputs, -1)
    step = (step - step.mean(axis=0) if problem.loss.n_outputs > 1 else step).ravel()
    if isinstance(problem.reg, SquaredL2):
        return base + size * step
    while norms(honest_gradient(problem, s, base + size * step)) > 0.8 * problem.reg.lam:
        size *= 0.6
    return base + size * step


@pytest.mark.parametrize(("loss", "reg_type"), PAIRS, ids=IDS)
def test_poison_hits_the_target(loss: Any, reg_type: Any, rng: np.random.Generator) -> None:
    for n_users, dim in ((4, 2), (2, 2)):
        problem = random_problem(rng, loss, reg_type, n_users=n_users, dim=dim)
        s = n_users - 1
        target = reachable_target(problem, s, rng)
        attack = poison(problem, s, target)
        scale = max(1.0, norms(target))
        assert attack.distance_to_target <= 1e-9 * scale
        assert attack.distance_bound <= 1e-9 * scale
        assert attack.n_points >= attack.least_points >= 1
        assert attack.is_least or loss.n_outputs > 1
        assert norms(attack.solution.thetas[s] - attack.reported_model) <= 1e-7 * max(1.0, norms(attack.reported_model))
        points, counts = attack.distinct()
        assert counts.sum() == attack.n_points == np.sum([np.all(attack.data.Q == q, axis=1).sum() for q in points.Q])
        # Nothing is hidden: the data alone, given to a fresh problem, do it.
        users = list(problem.users)
        users[s] = UserDataset(attack.data.Q.copy(), attack.data.A.copy())
        assert norms(minimize(Problem(users, loss, problem.reg, problem.nu)).rho - target) <= 1e-9 * scale
        # And they are needed: without them ρ* is elsewhere.
        assert norms(minimize(with_data(problem, s, UserDataset.empty(dim))).rho - target) > 1e-4


@pytest.mark.parametrize(
    ("loss", "bounds"),
    [(LeastSquares(), {"max_answer": 2.0}), (LeastSquares(), {"max_answer": 2.0, "max_query": 0.7}),
     (LeastSquares(), {"max_query": 0.7}), (Logistic(), {"max_query": 0.7})],
    ids=["answers", "answers and queries", "queries", "logistic queries"],
)  # fmt: skip
def test_poison_within_bounds(loss: Any, bounds: dict[str, float], rng: np.random.Generator) -> None:
    problem = random_problem(rng, loss, SquaredL2, n_users=3, dim=3)
    target = rng.standard_normal(3)
    attack = poison(problem, 0, target, **bounds)
    assert attack.distance_bound <= 1e-9
    assert attack.is_least
    assert np.abs(attack.data.A).max() <= bounds.get("max_answer", math.inf)
    assert norms(attack.data.Q).max() <= bounds.get("max_query", math.inf) * (1 + 1e-12)


def test_corner_cases(rng: np.random.Generator) -> None:
    ls, log = LeastSquares(), Logistic()
    empty = Problem([UserDataset.empty(2)] * 3, ls, SquaredL2(1.0), 0.1)  # nobody has data
    assert poison(empty, 1, [5.0, -2.0]).distance_bound < 1e-10
    nothing = poison(empty, 1, [0.0, 0.0])  # w = 0: no data needed
    assert nothing.n_points == nothing.least_points == 0
    assert nothing.distance_bound < 1e-12
    alone = Problem([UserDataset([[1.0]], [1.0])], log, SquaredL2(1.0), 0.1)  # N = 1
    assert poison(alone, 0, [4.0]).distance_bound < 1e-10
    users = [ambivalent_user(rng, log, rng.standard_normal((5, 2))) for _ in range(3)]
    flat = Problem(users, log, SquaredL2(0.7), 0.0)  # ν = 0
    attack = poison(flat, 0, [1.0, 2.0])
    assert attack.distance_to_target < 1e-8
    pinned = random_problem(rng, ls, SmoothL2, n_users=4, dim=2).pin(2, [1.0, 1.0])
    assert poison(pinned, 0, reachable_target(pinned, 0, rng)).distance_bound < 1e-9
    tilted = random_problem(rng, ls, SquaredL2, n_users=4, dim=2).tilt(3, [3.0, -1.0])
    assert poison(tilted, 0, [1.0, 2.0]).distance_bound < 1e-9
    kink = random_problem(rng, ls, L2, n_users=4, dim=2)
    assert np.array_equal(poison(kink, 0, t := reachable_target(kink, 0, rng)).reported_model, t)


@pytest.mark.parametrize("lam", [1e-3, 1e3])
def test_extreme_regularization(lam: float, rng: np.random.Generator) -> None:
    problem = random_problem(rng, LeastSquares(), SquaredL2, n_users=4, dim=3, lam=lam)
    assert poison(problem, 0, rng.standard_normal(3)).distance_bound <= 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("loss", [LeastSquares(), Logistic()], ids=lambda loss: loss.name)
def test_a_thousand_users(loss: Any, rng: np.random.Generator) -> None:
    problem = random_problem(rng, loss, SquaredL2, n_users=1000, dim=100, n_data=20, lam=1.0, nu=1.0)
    target = rng.standard_normal(100)
    if isinstance(loss, Logistic):
        # Labels are ±1: hundreds of millions are needed to hold a random target against 999 users; refused, and said.
        with pytest.raises(AssumptionError, match=r"\d{3},\d{3},\d{3} points are needed"):
            poison(problem, 0, target)
        target = minimize(problem.without(0)).rho + 1e-3 * target / norms(target)
    attack = poison(problem, 0, target)
    assert attack.distance_to_target <= 1e-8 * max(1.0, norms(target))
    assert attack.distance_bound <= 1e-8 * max(1.0, norms(target))


def test_targets_of_large_problems_are_forced_without_hessians(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    # (A reported model with a class mean would put one into F, which no labels could counter.)
    held = centred(rng.standard_normal(9), Multinomial(3))
    problem = random_problem(rng, Multinomial(3), SquaredL2, n_users=4, dim=3, lam=0.7).pin(2, held)
    monkeypatch.setattr(large, "is_large", lambda problem: True)
    monkeypatch.setattr(local, "data_hessians", None)
    attack = poison(problem, 0, centred(rng.standard_normal(9), Multinomial(3)))
    assert attack.distance_bound < 1e-9


# ---------------------------------------------------------------------------------------------- by sampling


@pytest.mark.parametrize("loss", [LeastSquares(), Logistic()], ids=lambda loss: loss.name)
def test_sampling_converges_and_obeys_the_constant(loss: Any, rng: np.random.Generator) -> None:
    problem = random_problem(rng, loss, SquaredL2, n_users=3, dim=2, lam=0.2, nu=0.2)
    target = reachable_target(problem, 0, rng, size=0.3)
    errors = []
    for n in (200, 5_000, 125_000):
        found = [poison_by_sampling(problem, 0, target, n, queries=GaussianQueries(2), rng=rng) for _ in range(4)]
        assert all(x.distance_to_target <= x.theta_distance_bound for x in found)
        # c < 1 is not idle: the model itself is farther off.
        assert all(x.theta_distance_bound < norms(x.solution.thetas[0] - x.reported_model) + 1e-9 for x in found)
        errors.append(np.mean([x.distance_to_target for x in found]))
    # 25 times the data: five times less error in the limit; a quarter is missed with probability far below 1e-4.
    assert errors[2] < errors[0] / 4
    assert found[0].n_points == 125_000


def test_sampling_against_the_others(rng: np.random.Generator) -> None:
    for reg_type in (L2, SmoothL2):
        problem = random_problem(rng, LeastSquares(), reg_type, n_users=4, dim=2)
        target = reachable_target(problem, 0, rng)
        attack = poison_by_sampling(problem, 0, target, 20_000, queries=SphereQueries(2), rng=rng)
        assert attack.theta_distance_bound is None
        assert attack.distance_to_target < 0.1


# ---------------------------------------------------------------------------------------------- Appendix L


def gram_schmidt_projection(X: np.ndarray, model: np.ndarray, intercepts: np.ndarray) -> np.ndarray:
    """Eqs 180-184 as they are printed."""
    y = model[1:] - model[0]
    c = -(intercepts[1:] - intercepts[0])
    z: list[np.ndarray] = []
    shifted: list[float] = []
    for a in range(len(y)):
        z.append(y[a] - sum((y[a] @ b) * b / (b @ b) for b in z))
        shifted.append(c[a] - sum((y[a] @ b) / (b @ b) * e for b, e in zip(z[:-1], shifted, strict=True)))
    for b, e in zip(z, shifted, strict=True):
        X = X - np.outer(X @ b - e, b) / (b @ b)
    return X


def test_appendix_l_queries(rng: np.random.Generator) -> None:
    class Fixed:
        dim, bound = 6, math.inf

        def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
            return np.column_stack([X, np.ones(n)])

    X = rng.standard_normal((7, 5))
    theta = rng.standard_normal((4, 6))
    Q, p = indifference_queries(theta.ravel(), 4, 7, rng, queries=Fixed(), noise=1e-12, intercept=5)
    assert p == pytest.approx(np.full((7, 4), 0.25), abs=1e-9)
    assert np.array_equal(Q[:, 5], np.ones(7))
    assert Q[:, :5] == pytest.approx(gram_schmidt_projection(X, theta[:, :5], theta[:, 5]), abs=1e-9)
    far, p = indifference_queries(theta.ravel(), 4, 7, rng, queries=Fixed(), noise=0.5, intercept=5)
    assert np.abs(p - 0.25).max() > 0.05
    assert p == pytest.approx(softmax(far @ theta.T, axis=1))


def test_appendix_l_needs_a_matrix_of_models() -> None:
    for size, n_classes, says in ((7, 3, "a multiple of 3 numbers"), (2, 1, "n_classes")):
        with pytest.raises(ShapeError, match=says):
            indifference_queries(
                np.ones(size), n_classes, 2, np.random.default_rng(0), queries=GaussianQueries(2), noise=0.1
            )


# ---------------------------------------------------------------------------------------------- in a box


@pytest.mark.parametrize("loss", [LeastSquares(), Logistic(), Multinomial(3)], ids=lambda loss: loss.name)
def test_images_in_the_box(loss: Any, rng: np.random.Generator) -> None:
    """Appendix L.3, exactly: queries in [0, 1]^d with an intercept that stays 1, and plain labels."""
    queries = [np.column_stack([rng.random((12, 3)), np.ones(12)]) for _ in range(3)]
    users = [UserDataset(Q, honest_answers(Q, rng.standard_normal(4 * loss.n_outputs), loss, rng)) for Q in queries]
    problem = Problem(users, loss, SquaredL2(0.05), 0.1)
    target = minimize(problem.without(0)).rho + 0.3 * centred(rng.standard_normal(problem.dim), loss)
    pool = np.column_stack([rng.random((120, 3)), np.ones(120)])
    attack = poison_in_box(problem, 0, target, pool, low=[0, 0, 0, 1])
    assert attack.distance_bound <= 1e-9
    assert attack.distance_to_target <= 1e-9
    assert attack.data.Q.min() >= 0.0
    assert attack.data.Q.max() <= 1.0
    assert np.array_equal(attack.data.Q[:, 3], np.ones(attack.n_points))
    assert attack.n_points >= attack.least_points
    if loss.n_outputs > 1:
        assert set(attack.data.A.tolist()) <= {0.0, 1.0, 2.0}
    with pytest.raises(ShapeError, match="pool"):
        poison_in_box(problem, 0, target, 2 * pool, low=[0, 0, 0, 1])
    with pytest.raises(AssumptionError, match="cannot counter w"):
        poison_in_box(problem, 0, target, np.tile(pool[:1], (5, 1)), low=[0, 0, 0, 1])
    if loss.name != "least_squares":
        with pytest.raises(AssumptionError, match="max_points = 1"):
            poison_in_box(problem, 0, target, pool, low=[0, 0, 0, 1], max_points=1)


# ---------------------------------------------------------------------------------------------- errors


def test_bad_input_is_named(rng: np.random.Generator) -> None:
    problem = random_problem(rng, LeastSquares(), SquaredL2, n_users=3, dim=2)
    with pytest.raises(ShapeError, match="s: expected an integer from 0 to 2"):
        poison(problem, 3, [1.0, 1.0])
    with pytest.raises(ShapeError, match="target"):
        poison(problem, 0, [1.0])
    with pytest.raises(ShapeError, match="target"):
        poison(problem, 0, [1.0, math.nan])
    with pytest.raises(ShapeError, match="problem"):
        poison(None, 0, [1.0])
    for bad in (-1.0, -1e-9, math.nan, math.inf):
        with pytest.raises(AssumptionError, match="max_answer"):
            poison(problem, 0, [1.0, 1.0], max_answer=bad)
        with pytest.raises(AssumptionError, match="max_query"):
            poison(problem, 0, [1.0, 1.0], max_query=bad)
    with pytest.raises(AssumptionError, match="answers > 0"):
        poison(problem, 0, [9.0, 9.0], max_answer=0.0)
    logistic = random_problem(rng, Logistic(), SquaredL2, n_users=3, dim=2)
    with pytest.raises(AssumptionError, match="labels are given"):
        poison(logistic, 0, [1.0, 1.0], max_answer=1.0)
    classes = random_problem(rng, Multinomial(3), SquaredL2, n_users=3, dim=2)
    with pytest.raises(AssumptionError, match="K classes"):
        poison(classes, 0, np.zeros(6), max_query=1.0)
    with pytest.raises(AssumptionError, match="no closed form"):
        poison_points(Demand.of(np.ones(6), np.ones(6), nu=0.1), Multinomial(3))
    with pytest.raises(AssumptionError, match="‖g‖"):
        reported_model_from_gradient([0.0], [2.0], L2(1.0))
    with pytest.raises(ShapeError, match="n_points"):
        linear_points(random_demand(rng, 2, 5.0), n_points=1, max_answer=1.0)
