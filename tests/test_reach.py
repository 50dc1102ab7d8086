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


def test_the_boundary_belongs_to_l2_alone() -> None:
    assert is_reachable(2.0, L2(1.0), 2)
    assert not is_reachable(2.0, SmoothL2(1.0), 2)
    assert not is_reachable(math.nan, L2(1.0))
    assert attack_force(SmoothL2(0.3), 2) == pytest.approx(0.6)


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
