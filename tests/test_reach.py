"""What attackers can force: the set {‖F(ρ)‖ <= fλ} from inside and outside, its extent, and its explicit radius."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from proofs_checks.generators import LOSSES, random_problem
from solvers import counter_gradient_limit, honest_gradient, minimize, poison, reach
from theory import (
    L2,
    AssumptionError,
    LeastSquares,
    Logistic,
    OutOfReachError,
    Problem,
    ShapeError,
    SmoothL2,
    SquaredL2,
    UserDataset,
    attack_force,
    displacement_bound,
    is_reachable,
)
from theory.reach import distance_behind
from theory.regularizers import norms

BOUNDED = [L2, SmoothL2]


def attacked(problem: Problem, models: np.ndarray) -> np.ndarray:
    """ρ* when attackers in the place of user 0 report ``models`` (f, P)."""
    extended = Problem(
        [*problem.users, *[UserDataset.empty(problem.query_dim)] * (len(models) - 1)],
        problem.loss, problem.reg, problem.nu,
    )  # fmt: skip
    for n, model in zip([0, *range(problem.n_users, extended.n_users)], models, strict=True):
        extended = extended.pin(n, model)
    return minimize(extended).rho


@pytest.mark.parametrize("reg_type", BOUNDED, ids=lambda reg: reg.name)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("f", [1, 2])
def test_no_attack_leaves_the_reach(f: int, loss: Any, reg_type: Any, rng: np.random.Generator) -> None:
    """Whatever models f attackers report, ‖F(ρ*)‖ <= fλ; with 0.9 fλ it is refuted."""
    largest = 0.0
    problem = random_problem(rng, loss, reg_type, n_users=5, dim=2)
    center = minimize(problem.without(0)).rho
    radius = reach(problem, 0, center, n_attackers=f).worst_bound
    assert radius < math.inf
    for scale in (0.1, 1.0, 10.0, 100.0, 1000.0):
        # Far away models are the strongest; they stand together, as attackers do.
        models = scale * rng.standard_normal((1, problem.dim)) + rng.standard_normal((f, problem.dim))
        rho = attacked(problem, models)
        size = norms(honest_gradient(problem, 0, rho)) / (f * problem.reg.lam)
        assert size <= 1 + 1e-9
        assert norms(rho - center) <= radius
        largest = max(largest, size)
    assert largest > 0.9


@pytest.mark.parametrize("reg_type", BOUNDED, ids=lambda reg: reg.name)
def test_everything_within_the_reach_is_forced(reg_type: Any, rng: np.random.Generator) -> None:
    """Models found on a ray at 99 % of the extent are forced by data; at 101 % they are refused."""
    for loss in (LeastSquares(), Logistic()):
        problem = random_problem(rng, loss, reg_type, n_users=5, dim=2)
        far = minimize(problem.without(0)).rho + 30 * rng.standard_normal(problem.dim)
        found = reach(problem, 0, far)
        assert not found.forced
        assert found.margin < 0
        u = (far - found.honest_model) / norms(far - found.honest_model)
        inside, outside = found.honest_model + 0.99 * found.extent * u, found.honest_model + 1.01 * found.extent * u
        assert norms(honest_gradient(problem, 0, found.honest_model + found.extent * u)) == pytest.approx(1, rel=1e-9)
        assert reach(problem, 0, inside).forced
        assert poison(problem, 0, inside).distance_bound < 1e-8
        with pytest.raises(OutOfReachError):
            poison(problem, 0, outside)
        assert found.extent <= found.extent_bound <= found.worst_bound


@pytest.mark.parametrize("reg_type", BOUNDED, ids=lambda reg: reg.name)
def test_a_target_out_of_reach_names_margin_and_nearest(reg_type: Any, rng: np.random.Generator) -> None:
    problem = random_problem(rng, LeastSquares(), reg_type, n_users=5, dim=2)
    target = 20 * rng.standard_normal(2)
    with pytest.raises(OutOfReachError, match="margin") as caught:
        poison(problem, 0, target)
    error = caught.value
    assert isinstance(error, AssumptionError)
    size = norms(honest_gradient(problem, 0, target))
    assert error.margin == pytest.approx(1.0 - size)
    assert norms(honest_gradient(problem, 0, error.nearest)) <= 1 + 1e-9
    # It is at least as close as the limit of CGA, and as everything on a fine ring of models that can be forced.
    assert norms(error.nearest - target) <= norms(counter_gradient_limit(problem, 0, target).rho - target) + 1e-9
    models = 1e3 * np.column_stack([np.cos(angle := np.linspace(0, 2 * np.pi, 60)), np.sin(angle)])
    ring = [minimize(problem.pin(0, model)).rho for model in models]
    # (found by an optimizer on a set with kinks: to a relative 1e-4).
    assert norms(error.nearest - target) <= min(norms(rho - target) for rho in ring) * (1 + 1e-4)
    almost = error.nearest + 1e-4 * (minimize(problem.without(0)).rho - error.nearest)
    assert poison(problem, 0, almost).distance_bound < 1e-6
    import pickle

    again = pickle.loads(pickle.dumps(error))
    assert again.margin == error.margin
    assert np.array_equal(again.nearest, error.nearest)
    assert str(again) == str(error)


def test_squared_l2_has_no_limit(rng: np.random.Generator) -> None:
    problem = random_problem(rng, LeastSquares(), SquaredL2, n_users=4, dim=2)
    found = reach(problem, 0, 1e6 * np.ones(2))
    assert found.forced
    assert found.margin == found.extent == found.worst_bound == math.inf


@pytest.mark.parametrize("reg_type", BOUNDED, ids=lambda reg: reg.name)
def test_half_of_the_users_force_everything(reg_type: Any, rng: np.random.Generator) -> None:
    """f >= H attackers against H honest users reach any model; f = H - 1 do not."""
    problem = random_problem(rng, LeastSquares(), reg_type, n_users=4, dim=2)
    target = np.array([1e4, -2e4])
    found = reach(problem, 0, target, n_attackers=3)
    assert found.forced
    assert found.extent == math.inf
    fewer = reach(problem, 0, target, n_attackers=2)
    assert not fewer.forced
    assert fewer.extent < math.inf
    if reg_type is L2:
        assert norms(attacked(problem, np.tile(target, (4, 1))) - target) < 1e-6
        assert norms(attacked(problem, np.tile(target, (2, 1))) - target) > 1e3


def test_one_dimension_by_hand() -> None:
    """Three honest users with data 0, ν = 0.1: F(ρ) = 3·1.2ρ while tied (|1.2ρ| <= λ): extent λ/3.6."""
    for f, lam in ((1, 0.5), (2, 0.5), (1, 4.0)):
        problem = Problem([UserDataset([[1.0]], [0.0])] * 4, LeastSquares(), L2(lam), nu=0.1)
        found = reach(problem, 0, [50.0], n_attackers=f)
        assert found.extent == pytest.approx(f * lam / 3.6, rel=1e-9)
        assert found.nearest == pytest.approx([f * lam / 3.6], rel=1e-6)
        # The radius: e(ρ⁰) = Σ L_n(0) = 0, μ = 1.2: 3λ²/2.4/((3 - f)λ).
        assert found.worst_bound == pytest.approx(3 * lam / 2.4 / (3 - f))


def test_the_radius_is_no_empty_bound() -> None:
    """The explicit radius is within a factor 2 of what is forced here, so it is no empty bound."""
    problem = Problem([UserDataset.empty(1)] * 3, LeastSquares(), L2(1.0), nu=0.5)  # L_n = θ²/2: F = 2ρ up to 2λ
    found = reach(problem, 0, [9.0])
    assert found.extent == pytest.approx(0.5)
    assert found.worst_bound == pytest.approx(1.0)
    assert displacement_bound(1.0, 1, 0.0, np.ones(2), np.zeros(2)) == pytest.approx(1.0)
    assert displacement_bound(1.0, 2, 0.0, np.ones(2), np.zeros(2)) == math.inf
    assert displacement_bound(1.0, 1, 0.0, np.array([1.0, 0.0]), np.zeros(2)) == math.inf


def test_no_model_in_the_cone_behind_a_pull_can_be_forced() -> None:
    """By brute force: a linear F(ρ) = M(ρ - c) is monotone, and ‖F‖ > fλ all around θ† as far as is said."""
    rng = np.random.default_rng(4)
    angle = np.linspace(0.0, 2.0 * np.pi, 400)
    n_cones = 0
    for trial in range(60):
        # A symmetric part >= 0 and, in half of them, a turn: a monotone F need not be a gradient.
        root = rng.standard_normal((2, 2))
        M = root @ root.T + trial % 2 * rng.standard_normal() * np.array([[0.0, 1.0], [-1.0, 0.0]])
        y, c, offset, force = rng.standard_normal(2), rng.standard_normal(2), 3 * rng.standard_normal(2), rng.random()
        distance = distance_behind(M @ (y - c), offset, force)
        circle = np.column_stack([np.cos(angle), np.sin(angle)])
        inside = y + offset + np.outer(np.linspace(0.0, 1.0, 40), distance * circle.ravel()).reshape(-1, 2)
        assert norms((inside - c) @ M.T).min() >= force * (1 - 1e-12)
        n_cones += distance > 0
    assert n_cones > 10


def test_the_cone_behind_a_pull_in_numbers() -> None:
    """F = (0, 5), fλ = 3: sin β = 4/5, cos β = 3/5; 10 along and 5 across is 10·4/5 - 5·3/5 = 5 within the cone."""
    for side in (5.0, -5.0):
        assert distance_behind(np.array([0.0, 5.0]), np.array([side, 10.0]), 3.0) == pytest.approx(5.0, rel=1e-14)
    # That is attained: F(ρ) = (0, 5) + 0.4(ρ_2, -ρ_1) is monotone, and has the norm 3 at (8, 6), 5 away from (5, 10).
    assert math.hypot(0.4 * 6.0, 5.0 - 0.4 * 8.0) == pytest.approx(3.0, rel=1e-14)
    # At right angles and behind the apex there is no cone; straight behind the angle is π to the last bit.
    for offset in ([5.0, 0.0], [0.0, -10.0], [-7.0, -1.0]):
        assert distance_behind(np.array([0.0, 5.0]), np.array(offset), 3.0) == 0.0
    straight = np.array([0.1, 0.2, 0.3])
    assert distance_behind(7.0 * straight, -3.0 * straight, 0.5) == 0.0
    assert distance_behind(np.zeros(2), np.ones(2), 0.0) == 0.0
    # A NaN says nothing, and sizes whose products leave the range of floats are sizes.
    assert distance_behind(np.array([math.nan, 1.0]), np.ones(2), 0.5) == 0.0
    for scale in (1e-200, 1e200):
        found = distance_behind(scale * np.array([0.0, 5.0]), scale * np.array([5.0, 10.0]), scale * 3.0)
        assert found == pytest.approx(5.0 * scale, rel=1e-14)


def test_a_target_out_of_reach_says_why() -> None:
    """The statement, the value and the mend of an AssumptionError, which the sentence is made of."""
    error = OutOfReachError("reach", "‖F‖ = 3", "aim nearer", -2.0, np.array([1.0, 2.0]))
    assert (error.statement, error.value, error.mend) == ("reach", "‖F‖ = 3", "aim nearer")
    assert str(error) == "reach: found ‖F‖ = 3; aim nearer"
    assert error.distance_at_least == 0.0
    assert not error.nearest.flags.writeable


def test_the_boundary_belongs_to_l2_alone() -> None:
    assert is_reachable(2.0, L2(1.0), 2)
    assert not is_reachable(2.0, SmoothL2(1.0), 2)
    assert not is_reachable(math.nan, L2(1.0))
    assert attack_force(SmoothL2(0.3), 2) == pytest.approx(0.6)
    assert attack_force(L2(0.3)) == 0.3
    # One attacker, unless said otherwise: twice the force of one is not to be had.
    assert is_reachable(0.3, L2(0.3))
    assert not is_reachable(0.4, L2(0.3))
    assert is_reachable(math.inf, SquaredL2(1.0))
    with pytest.raises(ShapeError, match="n_attackers"):
        attack_force(L2(1.0), 0)


def test_bad_input_is_named(rng: np.random.Generator) -> None:
    problem = random_problem(rng, LeastSquares(), L2, n_users=3, dim=2)
    with pytest.raises(ShapeError, match="n_attackers"):
        reach(problem, 0, [1.0, 1.0], n_attackers=0)
    with pytest.raises(ShapeError, match="s: expected"):
        reach(problem, -1, [1.0, 1.0])
    with pytest.raises(ShapeError, match="target"):
        reach(problem, 0, [1.0])

    class Own:
        name, lam = "own", 1.0

        def value(self, rho: Any, theta: Any) -> Any:
            return np.sum((rho - theta) ** 4, axis=-1)

        def gradient(self, rho: Any, theta: Any) -> Any:
            return 4 * (rho - theta) ** 3

        def project(self, g: Any) -> Any:
            return g

    with pytest.raises(AssumptionError, match="own"):
        attack_force(Own())
