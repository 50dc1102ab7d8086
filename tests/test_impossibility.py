"""Corollaries 1 and 2 as programs: every learner fails in one of two worlds, and anyone can check it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from solvers.learners import Personalized
from theory import (
    L2,
    AssumptionError,
    LeastSquares,
    Logistic,
    ShapeError,
    SmoothL2,
    SquaredL2,
    UserDataset,
    honest_answers,
)
from theory.arrays import Array
from theory.impossibility import World, diameter, least_constant, refute_byzantine, two_worlds
from theory.learners import (
    Aggregation,
    CoordinateMedian,
    GeometricMedian,
    Krum,
    Learner,
    Mean,
    MultiKrum,
    Rule,
    TrimmedMean,
)

CASES = [(F, N) for N in range(2, 8) for F in range(1, N)]


def learners(F: int, N: int) -> list[Learner]:
    rules: list[Rule] = [Mean(), CoordinateMedian(), GeometricMedian()]
    if N > 2 * F:
        rules.append(TrimmedMean(F))
    if N >= F + 3:
        rules += [Krum(F), MultiKrum(F)]
    ours = [Personalized(LeastSquares(), reg(0.5), nu=0.01) for reg in (SquaredL2, L2, SmoothL2)]
    # ByzFL's aggregators, and others', are rules: a function of an array.  This one stands for them.
    foreign = Aggregation(lambda models: list(models[0]))
    return [*(Aggregation(rule) for rule in rules), *ours, foreign]


@pytest.mark.parametrize(("F", "N"), CASES)
@pytest.mark.parametrize("dim", [1, 3])
def test_impossibility_every_learner_is_refuted(F: int, N: int, dim: int) -> None:
    bound = least_constant(F, N)
    for C in [0.0, 1e6] if bound == math.inf else [0.0, 0.5 * bound, bound * (1 - 1e-6)]:
        for learner in learners(F, N):
            refutation = refute_byzantine(learner, F, N, C, dim=dim, n_data=6)
            assert refutation.verify(learner)
            assert refutation.forced_error > refutation.allowed[refutation.failing]
            # Whatever a learner answers, it exceeds what is allowed by at least this in one world.
            excess = refutation.forced_error - refutation.allowed[refutation.failing]
            assert excess >= refutation.unavoidable_excess * (1 - 1e-6) > 0


@pytest.mark.parametrize(("F", "N"), CASES)
def test_impossibility_no_answer_satisfies_both_worlds(F: int, N: int) -> None:
    # Not a property of the learners tried: every ρ on a grid fails, at the C that is hardest for the worlds.
    bound = least_constant(F, N)
    C = 1e6 if bound == math.inf else 0.99 * bound
    _, _, first, second, epsilon = two_worlds(F, N, C)
    for rho in np.linspace(-3.0, 3.0, 6001)[:, None]:
        assert any(world.error(rho) > world.allowed(C, epsilon) for world in (first, second))


@pytest.mark.parametrize(("F", "N"), [case for case in CASES if 2 * case[0] < case[1]])
def test_impossibility_planted_larger_constant_is_satisfiable(F: int, N: int) -> None:
    # With C >= F/(N - F) the answer 0 is right in both worlds: the corollary's bound is what the worlds can show.
    _, _, first, second, epsilon = two_worlds(F, N, 0.5 * least_constant(F, N))
    C = least_constant(F, N)
    assert all(world.error(np.zeros(1)) <= world.allowed(C, epsilon) for world in (first, second))
    with pytest.raises(AssumptionError, match="no corollary excludes"):
        refute_byzantine(Aggregation(Mean()), F, N, C)


def test_impossibility_worlds_have_the_sizes_of_the_definition() -> None:
    for F, N in CASES:
        C = 1.0 if 2 * F >= N else 0.0
        _, models, first, second, _ = two_worlds(F, N, C, dim=2, scale=3.0)
        for world in (first, second):
            assert len(set(world.honest)) == N - F
            assert np.array_equal(world.models, models[list(world.honest)])
        if 2 * F < N:
            assert second.mean[0] == pytest.approx(3.0 * F / (N - F))
            assert second.diameter == 3.0
        else:
            assert first.diameter == second.diameter == 0.0


def test_impossibility_verify_refuses_what_was_tampered_with() -> None:
    learner = Aggregation(CoordinateMedian())
    good = refute_byzantine(learner, 1, 4, 0.2)
    assert good.verify()
    first, second = good.worlds
    users = (UserDataset(good.users[0].Q, good.users[0].A + 0.5), *good.users[1:])
    tampered = {
        "another answer": replace(good, rho=good.rho + 0.2),
        "the other world": replace(good, failing=1 - good.failing),
        "data of another model": replace(good, users=users),
        "a larger constant": replace(good, C=0.34),
        "too few honest users": replace(good, worlds=(World(first.honest[:2], first.models[:2]), second)),
        "one user twice": replace(good, worlds=(World((0, 0, 1), first.models), second)),
        "no epsilon": replace(good, epsilon=0.0),
    }
    assert good.failing == 1
    for name, refutation in tampered.items():
        # A larger error in the failing world is still an error: the answer itself is checked by running the learner.
        assert not refutation.verify(learner), name


def test_impossibility_holds_for_logistic_data() -> None:
    rng = np.random.default_rng(3)
    Q = rng.standard_normal((40, 2))

    def honest(model: Array, user: int) -> UserDataset:
        return UserDataset(Q, honest_answers(Q, model, Logistic(), np.random.default_rng(user)))

    learner = Personalized(Logistic(), SquaredL2(1.0), nu=0.1)
    assert refute_byzantine(learner, 1, 3, 0.1, dim=2, honest=honest).verify(learner)


def random_learner(users: Sequence[UserDataset]) -> Array:
    return STATE["rng"].standard_normal(1)


def learner_that_writes(users: Sequence[UserDataset]) -> Array:
    users[0].A[0] = 7.0
    return np.zeros(1)


def learner_that_forces_a_write(users: Sequence[UserDataset]) -> Array:
    A = users[0].A
    while isinstance(A, np.ndarray):
        A.flags.writeable = True
        A[0] += 1.0
        A = A.base
    return np.zeros(1)


def learner_that_pops(users: Any) -> Array:
    users.pop()
    return np.zeros(1)


STATE: dict[str, Any] = {"rng": np.random.default_rng(0)}


@pytest.mark.parametrize(
    ("learner", "error", "says"),
    [
        (lambda users: np.zeros(2), ShapeError, r"shape \(2,\)"),
        (lambda users: 0.0, ShapeError, r"shape \(\)"),
        (lambda users: np.zeros((1, 1)), ShapeError, "shape"),
        (lambda users: np.array([math.nan]), ShapeError, "finite"),
        (lambda users: [math.inf], ShapeError, "finite"),
        (lambda users: None, ShapeError, "dtype"),
        (lambda users: ["a"], ShapeError, "dtype"),
        (lambda users: [[1.0], [1.0, 2.0]], ShapeError, "learner"),
        (random_learner, AssumptionError, "random"),
        (learner_that_writes, AssumptionError, "must not change its input"),
        (learner_that_forces_a_write, AssumptionError, "must not change its input"),
        (learner_that_pops, AssumptionError, "must not change its input"),
        (3, ShapeError, "learner"),
    ],
)
def test_impossibility_bad_learners_are_told_so(learner: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        refute_byzantine(learner, 1, 3, 0.1)


@pytest.mark.parametrize(
    ("F", "N", "C", "error"),
    [
        (3, 3, 0.1, AssumptionError),
        (4, 3, 0.1, AssumptionError),
        (1, 3, -0.1, AssumptionError),
        (1, 3, math.nan, AssumptionError),
        (0, 3, 0.0, AssumptionError),
        (1, 3, 0.5, AssumptionError),
        (-1, 3, 0.1, ShapeError),
        (1.5, 3, 0.1, ShapeError),
        (1, 0, 0.1, ShapeError),
    ],
)
def test_impossibility_bad_numbers_are_refused(F: Any, N: Any, C: float, error: type[Exception]) -> None:
    with pytest.raises(error):
        refute_byzantine(Aggregation(Mean()), F, N, C)


def test_impossibility_a_learner_s_own_error_is_not_swallowed() -> None:
    def broken(users: Sequence[UserDataset]) -> Array:
        raise ValueError("my own bug")

    with pytest.raises(ValueError, match="my own bug"):
        refute_byzantine(broken, 1, 3, 0.1)


# ------------------------------------------------------------------------------------------------------------ the rules


@pytest.mark.parametrize(("F", "N"), [(1, 3), (1, 4), (2, 5), (2, 7), (3, 10)])
def test_trimmed_mean_attains_the_bound_in_one_dimension(F: int, N: int) -> None:
    rng = np.random.default_rng(1)
    bound, rule = least_constant(F, N), TrimmedMean(F)
    worst = 0.0
    for _ in range(2000):
        honest = rng.integers(0, 4, (N - F, 1)) / 3.0
        byzantine = rng.choice([-9.0, 0.0, 1 / 3, 1.0, 9.0], (F, 1))
        error = abs(rule(np.concatenate([honest, byzantine])) - honest.mean(axis=0))[0]
        spread = diameter(honest)
        # C21: the error never exceeds F/(N - F) times the diameter (rounding of means of N numbers up to 9).
        assert error <= bound * spread + 1e-13
        worst = max(worst, error / spread if spread > 0 else 0.0)
    extreme = np.concatenate([np.zeros((F, 1)), np.ones((N - 2 * F, 1)), np.full((F, 1), 9.0)])
    attained = abs(rule(extreme) - extreme[: N - F].mean(axis=0))[0]
    assert attained == pytest.approx(bound, rel=1e-14)
    # Planted falsehood: a constant that is a little smaller is refuted by that example.
    assert attained > 0.999 * bound
    assert worst > 0.0


def test_geometric_median_minimizes_the_sum_of_distances() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        models = rng.integers(-2, 3, (int(rng.integers(1, 8)), int(rng.integers(1, 4)))).astype(float)
        if rng.random() < 0.5:
            models = models + rng.standard_normal(models.shape)
        rho = GeometricMedian()(models)

        def total(x: Array, models: Array = models) -> float:
            return float(np.linalg.norm(models - x, axis=1).sum())

        for size in 10.0 ** rng.uniform(-7, 0.5, 30):
            # The sum of up to 7 distances of size up to 10 is known to 1e-13.
            assert total(rho) <= total(rho + size * rng.standard_normal(rho.size)) + 1e-13


def test_krum_is_the_definition_by_loops() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        N = int(rng.integers(4, 9))
        F = int(rng.integers(0, N - 2))
        models = rng.standard_normal((N, 2))
        scores = []
        for i in range(N):
            distances = sorted(float(np.sum((models[i] - models[j]) ** 2)) for j in range(N) if j != i)
            scores.append(sum(distances[: N - F - 2]))
        order = sorted(range(N), key=lambda i: scores[i])
        assert np.array_equal(Krum(F)(models), models[order[0]])
        assert MultiKrum(F, 2)(models) == pytest.approx(models[order[:2]].mean(axis=0), rel=1e-14)


@pytest.mark.parametrize("rule", [TrimmedMean(2), Krum(2), MultiKrum(2)])
def test_rules_refuse_too_few_users(rule: Rule) -> None:
    with pytest.raises(AssumptionError, match="needs"):
        rule(np.zeros((4, 1)))
