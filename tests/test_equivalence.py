"""Theorem 1 end to end: gradient → model → data → gradient, certified, and broken on purpose.

``pytest -k equivalence`` selects all of this file.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import solvers.chain as chain
import solvers.class_poison as class_poison
import theory.attacks
from proofs_checks.generators import LOSSES, REGULARIZERS, edge_biased_problem, random_problem
from solvers import (
    certify,
    federated_descent,
    honest_gradient,
    local_minima,
    minimize,
    poison,
    poison_by_sampling,
    reach,
    reported_model,
    round_trip,
)
from solvers.chain import with_counts, with_data
from theory import (
    L2,
    AssumptionError,
    ConstantGradient,
    CounterGradient,
    CounterGradientLocal,
    Demand,
    LeastSquares,
    Logistic,
    ModelAttack,
    Multinomial,
    OutOfReachError,
    Problem,
    ShapeError,
    SmoothL2,
    SolverError,
    SphereQueries,
    SquaredL2,
    UserDataset,
    admissible_step,
    boundary_error,
    least_points,
    missing_gradient,
    reported_model_from_gradient,
    smoothness,
)
from theory.reach import distance_behind
from theory.regularizers import norms

PAIRS = [(loss, reg) for loss in LOSSES for reg in REGULARIZERS]
IDS = [f"{loss.name}-{reg.name}" for loss, reg in PAIRS]


def reachable_target(problem: Problem, s: int, rng: np.random.Generator, size: float = 2.0) -> np.ndarray:
    base = minimize(problem.without(s)).rho
    step = rng.standard_normal(problem.dim).reshape(problem.loss.n_outputs, -1)
    step = (step - step.mean(axis=0) if problem.loss.n_outputs > 1 else step).ravel()
    while not isinstance(problem.reg, SquaredL2) and (
        norms(honest_gradient(problem, s, base + size * step)) > 0.8 * problem.reg.lam
    ):
        size *= 0.6
    return base + size * step


# ------------------------------------------------------------------------------------------------ the round trip


@pytest.mark.parametrize(("loss", "reg_type"), PAIRS, ids=IDS)
def test_equivalence_round_trip(loss: Any, reg_type: Any, rng: np.random.Generator) -> None:
    """Gradient attack, model attack and data land on the same ρ*, within the sum of their certificates."""
    # Plain ℓ2 in one dimension has a test of its own: there a constant report does not determine ρ.
    for n_users, dim in ((4, 2), (4, 3) if reg_type is L2 else (3, 1)):
        problem = random_problem(rng, loss, reg_type, n_users=n_users, dim=dim)
        target = reachable_target(problem, 1, rng)
        trip = round_trip(problem, 1, target)
        assert trip.disagreement <= trip.bound <= 1e-9
        for rho in (trip.rho, *trip.rhos.values()):
            assert norms(rho - target) <= 1e-9
        assert set(trip.rhos) == {"gradient", "model", "data"}
        if loss.n_outputs > 1:
            assert set(trip.data.A.tolist()) <= {0.0, 1.0, 2.0}


def test_equivalence_where_a_gradient_does_not_determine_the_model() -> None:
    """ℓ2, d = 1: between two honest models e is flat; a constant report keeps any ρ there, a model and data one."""
    users = [UserDataset.empty(1), UserDataset([[9.0]], [-45.0]), UserDataset([[9.0]], [45.0])]
    problem = Problem(users, LeastSquares(), L2(1.0), 0.1)
    trip = round_trip(problem, 0, [1.0])
    assert trip.errors["gradient"] == math.inf
    assert trip.errors["model"] + trip.errors["data"] < 1e-9
    assert abs(trip.rhos["model"][0] - 1.0) + abs(trip.rhos["data"][0] - 1.0) < 1e-9
    assert trip.rhos["gradient"][0] == pytest.approx(0.0, abs=1e-6)  # the middle of the segment, by symmetry


def test_equivalence_with_noise_free_corners(rng: np.random.Generator) -> None:
    """Duplicated users, collinear queries, empty users, N = 2: the arrows do not presume general position."""
    Q = np.outer([1.0, -2.0, 0.5], [1.0, 1.0])
    line = UserDataset(Q, [1.0, 0.0, -1.0])
    for users in ([line] * 3, [UserDataset.empty(2)] * 3, [line, line]):
        for reg_type in REGULARIZERS:
            problem = Problem(users, LeastSquares(), reg_type(1.0), 0.2)
            trip = round_trip(problem, 0, reachable_target(problem, 0, rng, size=0.5))
            assert trip.disagreement <= trip.bound <= 1e-9


def broken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Break one arrow: a sign or a factor 2 of any of the three, or the ν of the demand."""
    right_model, right_of = chain.reported_model_from_gradient, Demand.of
    if name == "sign":
        monkeypatch.setattr(chain, "reported_model_from_gradient", lambda r, g, reg, **k: right_model(r, -g, reg, **k))
    elif name == "factor 2":
        monkeypatch.setattr(
            chain, "reported_model_from_gradient", lambda r, g, reg, **k: right_model(r, 0.5 * g, reg, **k)
        )
    elif name == "dropped nu":
        monkeypatch.setattr(Demand, "of", classmethod(lambda cls, F, model, nu: right_of(F, model, 0.0)))
    elif name == "sign of the data":
        monkeypatch.setattr(Demand, "of", classmethod(lambda cls, F, model, nu: right_of(-F, model, nu)))
    elif name == "factor 2 of the data":
        monkeypatch.setattr(Demand, "of", classmethod(lambda cls, F, model, nu: right_of(2.0 * F, model, nu)))
    elif name in ("gradient", "sign of the gradient"):
        right, factor = theory.attacks.CounterGradient.report, 0.5 if name == "gradient" else -1.0
        monkeypatch.setattr(theory.attacks.CounterGradient, "report", lambda self, view: factor * right(self, view))
    else:
        raise ValueError(name)


# For plain ℓ2 the reported model is ρ whatever the gradient is: there is no sign and no factor to break.
BREAKS = [
    (name, reg_type)
    for name in (
        "sign",
        "factor 2",
        "dropped nu",
        "sign of the data",
        "factor 2 of the data",
        "gradient",
        "sign of the gradient",
    )
    for reg_type in REGULARIZERS
    if not (reg_type is L2 and name in ("sign", "factor 2"))
]


BROKEN = [(loss, *pair) for loss in (LeastSquares(), Logistic()) for pair in BREAKS]
BROKEN += [(Multinomial(3), name, reg_type) for name, reg_type in BREAKS if reg_type is SquaredL2]


@pytest.mark.parametrize(
    ("loss", "name", "reg_type"), BROKEN, ids=[f"{loss.name}-{name}-{reg.name}" for loss, name, reg in BROKEN]
)
def test_equivalence_fails_when_an_arrow_is_broken(
    name: str, loss: Any, reg_type: Any, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    problem = random_problem(rng, loss, reg_type, n_users=4, dim=2, nu=0.3)
    target = reachable_target(problem, 1, rng)
    broken(name, monkeypatch)
    try:
        trip = round_trip(problem, 1, target)
    except (SolverError, AssumptionError):
        return  # refused: the attack does not come to rest, or the data do not exist
    rhos = [trip.rho, *trip.rhos.values()]
    reaches = max(norms(rho - target) for rho in rhos) <= 1e-9
    # The certificates see it: the three do not claim to be close to each other, and they are not.
    assert not (reaches and trip.bound <= 1e-9)
    assert max(norms(rho - target) for rho in rhos) > 1e-3
    if "gradient" not in name:
        assert trip.bound > 1e-3


# ------------------------------------------------------------------------------- Lemma 1 and the reverse direction


@pytest.mark.parametrize(("loss", "reg_type"), PAIRS, ids=IDS)
def test_equivalence_from_data_to_model_to_gradient(loss: Any, reg_type: Any, rng: np.random.Generator) -> None:
    """Any data → the model attack with θ_s*(D) (Lemma 1) → converging gradient attacks with the same limit."""
    problem = random_problem(rng, loss, reg_type, n_users=4, dim=2, lam=2.0, nu=0.5)
    solution = minimize(problem)
    bound = solution.certificate.distance_bound
    model = solution.thetas[2]
    attacked = minimize(problem.pin(2, model))
    assert norms(attacked.rho - solution.rho) <= 1e-9 + 10 * (bound + attacked.certificate.distance_bound)
    others = np.delete(solution.thetas, 2, axis=0)
    assert norms(np.delete(attacked.thetas, 2, axis=0) - others).max() <= 1e-9 + 10 * bound
    # The report of user s at the minimum is a constant gradient attack (converging), and its limit is ρ*.
    g = -honest_gradient(problem, 2, solution.rho)
    step = 1.5 * admissible_step(smoothness(problem, 2))
    run = federated_descent(problem, eta=step, n_rounds=20_000, attack=ConstantGradient(g), s=2, stop=1e-15)
    assert run.ignored == 0
    assert norms(run.final - solution.rho) <= 1e-9
    # So is the honest report of the model, where R is smooth (its step counts the attacker's own curvature too).
    if reg_type is not L2:
        rate = 1.0 / (smoothness(problem, 2) + 2 * problem.reg.lam)

        def limit(reported: np.ndarray) -> np.ndarray:
            attack = ModelAttack(reported, problem.reg)
            return federated_descent(problem, eta=rate, n_rounds=20_000, attack=attack, s=2, stop=1e-15).final

        assert norms(limit(model) - solution.rho) <= 1e-9
        assert norms(limit(model + 0.1) - solution.rho) > 1e-4


def test_equivalence_of_edge_cases(rng: np.random.Generator) -> None:
    """Lemma 1 on problems biased to the edges: λ and ν over six decades, empty users, zero and equal queries."""
    tested = 0
    for _ in range(60):
        loss, reg_type = PAIRS[int(rng.integers(len(PAIRS)))]
        problem = edge_biased_problem(rng, loss, reg_type)
        if problem.n_users < 2 or problem.pinned or reg_type is L2:
            continue
        solution = minimize(problem)
        s = int(rng.integers(problem.n_users))
        attacked = minimize(problem.pin(s, solution.thetas[s]))
        bound = solution.certificate.distance_bound + attacked.certificate.distance_bound
        # θ_s* is known to its own bound, and ρ* of Loss_s moves by less than the model does.
        assert norms(attacked.rho - solution.rho) <= 3 * bound + 1e-13 * (1 + norms(solution.rho))
        tested += 1
    assert tested >= 15


def test_equivalence_sampled_data(rng: np.random.Generator) -> None:
    """Theorem 1 as it is stated: for every ε some dataset of honest-looking answers is within ε."""
    problem = random_problem(rng, LeastSquares(), SquaredL2, n_users=3, dim=2, lam=0.3)
    target = np.array([1.0, -2.0])
    for epsilon, n in ((0.1, 2_000), (0.01, 500_000)):
        attack = poison_by_sampling(problem, 0, target, n, queries=SphereQueries(2), rng=rng, noise=0.1)
        assert attack.distance_to_target <= attack.distance_bound <= epsilon


# ------------------------------------------------------------------------------------------------------- Lemma 3


@pytest.mark.parametrize("reg", [SquaredL2(0.7), SmoothL2(0.7), L2(0.7)], ids=lambda reg: reg.name)
def test_equivalence_lemma_3_preimages(reg: Any, rng: np.random.Generator) -> None:
    for size in (0.0, 1e-9, 0.3, 0.699, 0.7 * (1 - 1e-12)):
        rho, g = rng.standard_normal(3), rng.standard_normal(3)
        g *= size / norms(g)
        model = reported_model_from_gradient(rho, g, reg)
        if isinstance(reg, L2):
            assert np.array_equal(model, rho)
            continue
        # Near the boundary the model is far away, and its report is known to eps‖g‖(1 + ‖z‖²) only.
        far = 1 + norms(rho - model)
        assert norms(reg.gradient(rho, model) - g) <= 1e-15 * far * 10
        if size >= 0.3:
            assert norms(reg.gradient(rho, reported_model_from_gradient(rho, -g, reg)) - g) > 0.1  # sign
            assert norms(reg.gradient(rho, rho + 2 * (model - rho)) - g) > 1e-13  # factor 2


def test_equivalence_on_the_boundary_of_smooth_l2(rng: np.random.Generator) -> None:
    """‖g‖ = λ: gradients force θ†, no model does; models at distance r miss by exactly the error that is said."""
    problem = random_problem(rng, LeastSquares(), SmoothL2, n_users=4, dim=2)
    base = minimize(problem.without(0)).rho
    u = np.array([0.6, 0.8])
    low, high = 0.0, 50.0
    for _ in range(200):
        t = 0.5 * (low + high)
        low, high = (t, high) if norms(honest_gradient(problem, 0, base + t * u)) < problem.reg.lam else (low, t)
    target = base + high * u
    F = honest_gradient(problem, 0, target)
    g = -F * (problem.reg.lam / norms(F))
    while norms(g) < problem.reg.lam:  # rounding must not make it an inner point, which far models report
        g = g * (1.0 + np.finfo(np.float64).eps)
    assert norms(F) == pytest.approx(problem.reg.lam, rel=1e-12)
    # The gradient attack: it stays where it is.
    run = federated_descent(problem, eta=0.05, n_rounds=500, attack=ConstantGradient(g), s=0, rho0=target)
    assert norms(run.final - target) <= 1e-9
    with pytest.raises(AssumptionError, match="pass the distance"):
        reported_model(problem, 0, target, g)
    errors = []
    for r in (3.0, 30.0, 300.0):
        attack = reported_model(problem, 0, target, g, distance=r)
        assert norms(attack.model - target) == pytest.approx(r)
        assert norms(problem.reg.gradient(target, attack.model) - g) == pytest.approx(attack.gradient_error, rel=1e-6)
        assert attack.gradient_error == pytest.approx(boundary_error(1.0, r))
        # Unavoidable: no other model within r reports anything closer to g.
        others = target + r * rng.random((500, 1)) * (z := rng.standard_normal((500, 2))) / norms(z)[:, None]
        assert norms(problem.reg.gradient(target, others) - g).min() >= attack.gradient_error
        errors.append(norms(minimize(problem.pin(0, attack.model)).rho - target))
        assert errors[-1] <= attack.distance_bound
    assert errors[0] > errors[1] > errors[2] > 0
    assert errors[2] < 1e-3 * errors[0]


# ------------------------------------------------------------------------------ where a hypothesis is missing


def test_equivalence_needs_the_true_gradient_at_the_kink() -> None:
    """ℓ2: if tied users report 0 (a subgradient of R) instead of ∇L_n(ρ), gradients stop where data cannot hold ρ*."""
    users = [UserDataset.empty(1), UserDataset([[1.0]], [0.0]), UserDataset([[1.0]], [0.0])]
    problem = Problem(users, LeastSquares(), L2(1.0), 0.0)
    rho = np.array([0.9])
    thetas, reports = local_minima(problem.without(0), rho)
    assert np.array_equal(thetas, [[0.9], [0.9]])  # tied: |∇L_n| = 0.9 < λ
    printed = problem.reg.gradient(rho, thetas)
    assert np.array_equal(printed, np.zeros((2, 1)))  # "converged" with g_s = 0 under the printed report
    assert reports.sum() == pytest.approx(1.8)  # but the loss pulls with 1.8 > λ
    assert np.abs(reports - printed).min() > 0.5
    with pytest.raises(AssumptionError, match="margin"):
        poison(problem, 0, rho)
    stays = minimize(problem.pin(0, rho)).rho
    assert norms(stays - rho) > 0.3


def test_equivalence_needs_local_pac_for_classes(rng: np.random.Generator) -> None:
    """K classes with ν > 0: gradients force any target, labels only those of class mean 0 (no local PAC*)."""
    problem = random_problem(rng, Multinomial(3), SquaredL2, n_users=3, dim=1)
    target = np.array([1.0, 1.0, 1.0])
    step = 0.05 * admissible_step(smoothness(problem, 0))
    run = federated_descent(
        problem, eta=step, n_rounds=500, attack=CounterGradient(target, problem.reg), s=0, stop=1e-15
    )
    assert norms(run.final - target) < 1e-12
    with pytest.raises(AssumptionError, match="mean 0 over the classes"):
        poison(problem, 0, target)
    for _ in range(5):  # and indeed no data whatever give a ρ* with a class mean
        data = UserDataset(5 * rng.standard_normal((20, 1)), rng.integers(0, 3, 20))
        assert abs(minimize(with_data(problem, 0, data)).rho.mean()) < 1e-9


def test_equivalence_needs_more_than_convexity_to_converge() -> None:
    """ν = 0 and no data: e is flat.  Reports 1/t converge (to 0), but ρ^t = -Σ η/t does not: Prop. 1 fails."""
    problem = Problem([UserDataset.empty(1)] * 3, LeastSquares(), SquaredL2(1.0), 0.0)

    class Harmonic:
        name, needs_gradient_steps = "harmonic", False

        def report(self, view: Any) -> np.ndarray:
            return np.array([1.0 / (view.round + 1)])

    run = federated_descent(problem, eta=1.0, n_rounds=4000, attack=Harmonic(), s=0)
    assert run.reports[-2, 0] == pytest.approx(1 / 4000)
    for t in (10, 100, 1000):
        # Four times as many rounds always add ln 4 again.
        assert run.rho[t, 0] - run.rho[4 * t, 0] == pytest.approx(math.log(4), rel=0.05)
    held = Problem([UserDataset.empty(1)] * 3, LeastSquares(), SquaredL2(1.0), 0.1)
    run = federated_descent(held, eta=1.0, n_rounds=4000, attack=Harmonic(), s=0)
    assert abs(run.final[0]) < 5e-3  # with ν > 0 it converges


def test_equivalence_needs_a_minimum() -> None:
    """N = 2, ℓ2: the honest pull λ equals the attacker's: ρ* of the data is a set, and limits depend on the start."""
    problem = Problem([UserDataset.empty(1), UserDataset([[1.0]], [0.0])], LeastSquares(), L2(0.5), 0.0)
    ends = [
        federated_descent(problem, eta=0.1, n_rounds=200, attack=ConstantGradient([-0.5]), s=0, rho0=[start]).final[0]
        for start in (2.0, 5.0)
    ]
    assert ends == pytest.approx([2.0, 5.0])
    solution = minimize(with_data(problem, 0, UserDataset([[1.0]], [9.0])), throw=False)
    assert not math.isfinite(solution.certificate.distance_bound) or solution.minimizers is not None


def test_equivalence_refuses_an_unfinished_attack(rng: np.random.Generator) -> None:
    problem = random_problem(rng, LeastSquares(), SquaredL2, n_users=3, dim=2)
    with pytest.raises(SolverError, match="did not come to rest"):
        round_trip(problem, 0, [1.0, 2.0], n_rounds=3)
    wild = 3 * admissible_step(smoothness(problem, 0)) * 10
    with pytest.raises(SolverError, match=r"did not come to rest.*known to converge"):
        round_trip(problem, 0, [1.0, 2.0], eta=wild)


def test_equivalence_refuses_a_regularizer_without_a_gradient_set() -> None:
    class NoSet:
        name = "no set"

        def value(self, rho: Any, thetas: Any) -> Any:
            return 0.0

        def gradient(self, rho: Any, thetas: Any) -> Any:
            return 0.0 * rho

    for make in (
        lambda: CounterGradient([1.0], NoSet()),
        lambda: ModelAttack([1.0], NoSet()),
        lambda: CounterGradientLocal([1.0], NoSet(), 3),
        lambda: CounterGradient([1.0], SquaredL2),
        lambda: Problem([UserDataset([[1.0]], [0.0])], LeastSquares(), NoSet(), 0.1),
    ):
        with pytest.raises(ShapeError, match=r"reg: expected .*project"):
            make()


# -------------------------------------------------------------------------------------- few points, each many times


def test_equivalence_of_points_that_are_counted(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points that are counted are the same data as points that are written out, and every one is in the budget."""
    problem = random_problem(rng, Multinomial(3), SquaredL2, n_users=5, dim=3, nu=0.2)
    target = reachable_target(problem, 1, rng)
    plain, counted = poison(problem, 1, target), poison(problem, 1, target, counted=True)
    assert plain.n_points == counted.n_points == counted.counts.sum() > counted.data.n_data
    assert plain.data.n_data == plain.n_points
    assert set(counted.data.A.tolist()) <= {0.0, 1.0, 2.0}
    points, counts = plain.distinct()
    order = np.lexsort(counted.data.Q.T[::-1])
    assert np.array_equal(points.Q, counted.data.Q[order])
    assert np.array_equal(counts, counted.counts[order])
    bound = plain.solution.certificate.distance_bound + counted.solution.certificate.distance_bound
    assert norms(plain.solution.rho - counted.solution.rho) <= bound < 1e-9
    for attack in (plain, counted):
        assert attack.distance_to_target <= 1e-9
        assert attack.distance_bound <= 1e-9
    # The certificate of the counted problem is that of the written one, also away from the minimum.
    rho, thetas = rng.standard_normal(problem.dim), rng.standard_normal((5, problem.dim))
    bounds = [certify(attack.problem, rho, thetas).distance_bound for attack in (plain, counted)]
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-9)
    # Planted: each point counted once.
    once = with_counts(problem, 1, counted.data, np.ones(counted.data.n_data, dtype=int))
    assert norms(minimize(once).rho - target) > 1e-2
    # The route without Hessians: the same minimum, and a wrong θ♠ does not pass for one.
    monkeypatch.setattr(chain.large, "is_large", lambda problem: True)
    large = poison(problem, 1, target, counted=True)
    assert large.solution.stats["method"] == "newton_cg"
    assert large.distance_to_target <= 1e-9
    far = large.reported_model + 0.1 * rng.standard_normal(problem.dim)
    try:
        wrong = chain._solution_with_counts(large.problem, 1, large.data, large.counts, far)
    except SolverError as error:
        wrong = error.solution
        assert wrong.certificate.distance_bound > 1e-6
    assert norms(wrong.rho - target) <= wrong.certificate.distance_bound + 1e-9


def test_equivalence_local_minimum_of_few_points_outside_their_span(rng: np.random.Generator) -> None:
    """θ_s*(ρ) of two points in six dimensions, counted, is that of the points written out."""
    problem = random_problem(rng, Multinomial(3), SquaredL2, n_users=2, dim=6, nu=0.2)
    points, counts = UserDataset(rng.standard_normal((2, 6)), [0.0, 2.0]), np.array([3, 5])
    rho = rng.standard_normal(problem.dim)
    written = with_data(problem, 0, UserDataset(np.repeat(points.Q, counts, axis=0), np.repeat(points.A, counts)))
    theta = chain._local_minimum_with_counts(problem, rho, points, counts)
    assert norms(theta - local_minima(written, rho)[0][0]) <= 1e-9


def test_equivalence_refuses_counts_that_are_none(rng: np.random.Generator) -> None:
    problem = random_problem(rng, Multinomial(3), SquaredL2, n_users=3, dim=2)
    points = UserDataset([[1.0, 0.0], [0.0, 1.0]], [0.0, 2.0])
    for counts in ([1], [1, 0], [[1, 1]], [1, math.nan]):
        with pytest.raises(ShapeError, match="counts"):
            with_counts(problem, 0, points, np.array(counts))
    linear = random_problem(rng, LeastSquares(), SquaredL2, n_users=3, dim=2)
    with pytest.raises(AssumptionError, match="counts"):
        with_counts(linear, 0, points, np.array([1, 1]))
    with pytest.raises(AssumptionError, match="counted"):
        poison(linear, 0, [1.0, 1.0], counted=True)


def class_demand(rng: np.random.Generator, K: int, dim: int, size: float) -> Demand:
    W, other = rng.standard_normal((2, K, dim))
    W -= W.mean(axis=0)
    model = W + 0.5 * (other - other.mean(axis=0))
    return Demand.of(size * W.ravel(), model.ravel(), nu=0.0)


@pytest.mark.parametrize(("K", "dim", "excess"), [(2, 3, 1.0), (3, 4, 1.02), (5, 8, 1.03), (10, 20, 1.04)])
def test_equivalence_class_data_are_exact_and_few(K: int, dim: int, excess: float, rng: np.random.Generator) -> None:
    """Exact data, within a few per cent of the number below which there are none."""
    demand = class_demand(rng, K, dim, 60.0)
    data = class_poison.class_points(demand, K)
    least = least_points(demand, Multinomial(K))
    assert least <= data.n_data <= excess * least + 1
    assert norms(missing_gradient(data, demand, Multinomial(K))) <= 1e-12 * demand.size
    # One group a class, as many of each, costs more: what the optimization is for.
    few = class_poison.class_points(demand, K, extra_rounds=0)
    assert data.n_data <= few.n_data
    if K == 10:
        assert few.n_data > 1.06 * least


def test_equivalence_prices_of_points_are_differentiated(rng: np.random.Generator) -> None:
    core = class_poison._Core(*(rng.standard_normal(shape) for shape in ((4, 3), (4, 3), (3, 3))))
    X, z, labels = rng.standard_normal((3, 3)), rng.standard_normal((4, 3)), np.arange(4)
    _, gradients, bent = core.prices(X, z, labels)
    for j in range(3):
        step = np.zeros_like(z)
        step[:, j] = 1e-6
        up, down = core.prices(X, z + step, labels), core.prices(X, z - step, labels)
        assert (up[0] - down[0]) / 2e-6 == pytest.approx(gradients[:, j], abs=1e-8)
        assert -(up[1] - down[1]) / 2e-6 == pytest.approx(bent[:, :, j], abs=1e-8)


# ----------------------------------------------------------------------------------------- what is nearest in reach


@pytest.mark.parametrize("reg_type", [L2, SmoothL2], ids=lambda reg: reg.name)
@pytest.mark.parametrize("loss", [LeastSquares(), Logistic()], ids=lambda loss: loss.name)
def test_equivalence_nearest_model_of_one_dimension(loss: Any, reg_type: Any, rng: np.random.Generator) -> None:
    """P = 1: what is nearest can be forced, and nothing between it and the target can."""
    for side in (-1.0, 1.0):
        problem = random_problem(rng, loss, reg_type, n_users=5, dim=1)
        target = np.array([side * 40.0])
        with pytest.raises(OutOfReachError, match="the nearest model") as caught:
            poison(problem, 0, target)
        nearest, lam = caught.value.nearest, problem.reg.lam
        assert norms(honest_gradient(problem, 0, nearest)) <= lam * (1 + 1e-9)
        for t in (1e-6, 1e-3, 0.1, 0.5, 0.9):
            assert norms(honest_gradient(problem, 0, nearest + t * (target - nearest))) > lam
        assert caught.value.distance_at_least <= norms(nearest - target) * (1 + 1e-9)
        assert reach(problem, 0, target).nearest == pytest.approx(nearest)


@pytest.mark.parametrize("reg_type", [L2, SmoothL2], ids=lambda reg: reg.name)
def test_equivalence_nothing_nearer_is_in_reach(reg_type: Any, rng: np.random.Generator) -> None:
    """P = 2: no model of a fine grid that can be forced is nearer than what is said to be near, or than the bound."""
    problem = random_problem(rng, Logistic(), reg_type, n_users=5, dim=2)
    target = minimize(problem.without(0)).rho + np.array([6.0, -3.0])
    found = reach(problem, 0, target)
    distance = norms(found.nearest - target)
    assert 0.5 * distance < found.distance_at_least <= distance
    F = chain._sums(problem, 0)
    grid = np.stack(np.meshgrid(*[np.linspace(-1.0, 1.0, 31)] * 2), axis=-1).reshape(-1, 2)
    around = found.nearest + 0.5 * norms(found.nearest - found.honest_model) * grid
    forced = [rho for rho in around if norms(F(rho, 0.0)) <= problem.reg.lam]
    assert len(forced) > 100
    assert len(forced) < len(around) - 100
    assert min(norms(rho - target) for rho in forced) >= distance * (1 - 1e-6)


def test_equivalence_no_model_lies_in_the_cone_behind(rng: np.random.Generator) -> None:
    """Wherever the apex: models that are forced (found by pinning) are never nearer than the bound says."""
    problem = random_problem(rng, Logistic(), SmoothL2, n_users=5, dim=2)
    base = minimize(problem.without(0)).rho
    angles = np.linspace(0.0, 2.0 * np.pi, 200)
    far = 1e3 * np.column_stack([np.cos(angles), np.sin(angles)])
    forced = np.array([minimize(problem.pin(0, model)).rho for model in far])
    tightest = 0.0
    for i in range(0, 200, 5):
        y = base + rng.uniform(1.01, 4.0) * (forced[i] - base)
        F = honest_gradient(problem, 0, y)
        for _ in range(10):
            offset = 10.0 ** rng.uniform(-1, 2) * rng.standard_normal(2) * norms(forced[i] - base)
            bound = distance_behind(F, offset, problem.reg.lam)
            nearest = norms(forced - (y + offset)).min()
            assert bound <= nearest
            tightest = max(tightest, bound / nearest)
    assert tightest > 0.9
    # An apex where the honest users pull with twice the force: the cone has the half-angle 60°.
    assert distance_behind(np.array([4.0, 0.0]), np.array([3.0, 0.0]), 2.0) == pytest.approx(3.0 * math.sqrt(0.75))
    turned = 3.0 * np.array([math.cos(0.5), math.sin(0.5)])
    assert distance_behind(np.array([4.0, 0.0]), turned, 2.0) == pytest.approx(3.0 * math.sin(math.pi / 3 - 0.5))


def test_equivalence_the_bound_on_the_nearest_is_attained() -> None:
    """Equal isotropic users, all tied: F(ρ) = 3(1 + 2ν)ρ, so the ball of radius λ/(3(1 + 2ν)) is in reach."""
    users = [UserDataset.empty(2)] + [UserDataset(np.eye(2), [0.0, 0.0])] * 3
    problem = Problem(users, LeastSquares(), L2(5.0), 0.1)
    target = np.array([2.0, 1.0])
    found = reach(problem, 0, target)
    assert norms(found.nearest) == pytest.approx(5.0 / 3.6, rel=1e-6)
    assert norms(found.nearest - target) == pytest.approx(found.distance_at_least, rel=1e-6)
