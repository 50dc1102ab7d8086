"""Corollaries 1 and 2 as programs: every learner fails in one of two worlds, and anyone can check it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.optimize

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
from theory.impossibility import World, diameter, least_constant, refute_byzantine, run_learner, two_worlds
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
    _smooth_median,
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


def test_impossibility_worlds_lie_on_the_first_axis() -> None:
    # Corollary 1: the two halves at -s and s, one user between them if N is odd; Corollary 2: at 0 and s.
    _, models, first, second, _ = two_worlds(3, 5, 0.0, dim=3, scale=2.0)
    assert models.tolist() == [[-2.0, 0.0, 0.0]] * 2 + [[2.0, 0.0, 0.0]] * 2 + [[0.0, 0.0, 0.0]]
    assert (first.mean.tolist(), second.mean.tolist()) == ([-2.0, 0.0, 0.0], [2.0, 0.0, 0.0])
    _, models, first, second, _ = two_worlds(1, 3, 0.0, dim=3, scale=2.0)
    assert models.tolist() == [[0.0, 0.0, 0.0]] * 2 + [[2.0, 0.0, 0.0]]
    assert (first.mean.tolist(), second.mean.tolist()) == ([0.0, 0.0, 0.0], [1.0, 0.0, 0.0])


def test_impossibility_verify_names_the_world_with_the_larger_excess() -> None:
    # An answer far from both worlds breaks (4) in both; by 2s more in the one that is farther.
    far = refute_byzantine(lambda users: np.array([9.0]), 2, 4, 0.0)
    assert (far.failing, far.verify()) == (0, True)
    assert far.errors == (10.0, 8.0)
    assert min(far.errors) - max(far.allowed) > far.unavoidable_excess
    assert not replace(far, failing=1).verify()


def test_impossibility_balls_that_touch_are_no_refutation() -> None:
    # √ε = s: the answer 0 is on the boundary of both balls, and (4) holds in both worlds.
    good = refute_byzantine(lambda users: np.zeros(1), 2, 4, 0.0)
    touching = replace(good, epsilon=1.0)
    assert (touching.unavoidable_excess, touching.errors, touching.allowed) == (0.0, (1.0, 1.0), (1.0, 1.0))
    assert good.verify()
    assert not touching.verify()


def test_impossibility_all_users_may_be_honest_if_their_data_fit_two_worlds() -> None:
    good = refute_byzantine(
        lambda users: np.zeros(1), 2, 4, 0.0, honest=lambda model, user: UserDataset([[2.0]], [1.0])
    )
    worlds = World((0, 1, 2, 3), np.full((4, 1), -1.0)), World((0, 1, 2, 3), np.full((4, 1), 1.0))
    assert replace(good, n_attackers=0, worlds=worlds).verify()
    assert not replace(good, n_attackers=1, worlds=worlds).verify()


def test_impossibility_data_may_have_other_columns_than_the_models() -> None:
    # The learner's answer has the size of the models, whatever the queries have.
    def honest(model: Array, user: int) -> UserDataset:
        return UserDataset([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]], [model[0], model[0]])

    def learner(users: Sequence[UserDataset]) -> Array:
        return np.median([user.A[:1] for user in users], axis=0)

    refutation = refute_byzantine(learner, 1, 3, 0.1, honest=honest)
    assert refutation.rho.shape == (1,)
    assert refutation.verify(learner)
    assert not refutation.verify(lambda users: np.ones(1))


@pytest.mark.parametrize("scale", [1e-170, 1e170])
def test_impossibility_an_epsilon_that_is_no_number_is_refused(scale: float) -> None:
    # With ε = 0 nothing would be refuted, and with ε = ∞ nothing could be.
    for F, N in ((1, 3), (2, 4)):
        with pytest.raises(AssumptionError, match="scale"):
            refute_byzantine(Aggregation(Mean()), F, N, 0.1, scale=scale)


def test_impossibility_an_answer_is_as_long_as_the_first_user_s_queries() -> None:
    users = (UserDataset([[1.0, 0.0]], [1.0]), UserDataset([[1.0, 0.0, 0.0]], [1.0]))
    assert run_learner(lambda users: np.zeros(2), users).shape == (2,)
    assert run_learner(lambda users: np.zeros(3), users, 3).shape == (3,)
    with pytest.raises(ShapeError, match=r"shape \(2,\)"):
        run_learner(lambda users: np.zeros(3), users)


def test_impossibility_small_numbers_are_allowed() -> None:
    assert least_constant(0, 1) == 0.0
    refutation = refute_byzantine(Aggregation(Mean()), 1, 3, 0.1, n_data=1)
    assert [user.n_data for user in refutation.users] == [1, 1, 1]
    with pytest.raises(ShapeError, match=r"honest\(model, 0\): expected a UserDataset, found float"):
        refute_byzantine(Aggregation(Mean()), 1, 3, 0.1, honest=lambda model, user: 0.0)
    with pytest.raises(ShapeError, match="n_data"):
        refute_byzantine(Aggregation(Mean()), 1, 3, 0.1, n_data=0)


@pytest.mark.parametrize(
    ("answers", "is_refused"),
    [
        ([1.0, 2.0, 2.0], True),
        ([1.0, 0.0, 1.0], True),
        ([1.1e-9, 0.0, 0.0], True),
        ([1.0e-9, 0.0, 0.0], False),
        ([1.0, 1.0 + 1.5e-9, 1.0 + 3e-9], True),
        ([1.0, 1.0 + 3e-9, 1.0 + 1.5e-9], True),
        ([1.0 + 1.5e-9, 1.0, 1.0 + 3e-9], False),
        ([1.0, 1.0 + 1e-9, 1.0 + 1.5e-9], False),
    ],
)
def test_impossibility_all_answers_are_compared_with_the_first(answers: list[float], is_refused: bool) -> None:
    given = iter(answers)
    users = (UserDataset([[1.0]], [1.0]),)
    if is_refused:
        with pytest.raises(AssumptionError, match="random or keeps a state"):
            run_learner(lambda users: [next(given)], users)
    else:
        assert run_learner(lambda users: [next(given)], users).tolist() == answers[:1]


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


def test_geometric_median_of_models_whose_mean_is_one_of_them() -> None:
    # The mean, 0, is a model, and the best of all models.  It is no minimum: the others pull with (1 - 1 - √2, 0).
    # On the axis the slope of the sum is -1 - 1 + 1 + 2u/√(u² + 100) with u = x + 10, which is 0 at u = 10/√3.
    models = np.array([[0.0, 0.0], [30.0, 0.0], [-10.0, 10.0], [-10.0, 0.0], [-10.0, -10.0]])
    totals = [np.linalg.norm(models - model, axis=1).sum() for model in models]
    assert models.mean(axis=0).tolist() == [0.0, 0.0]
    assert np.argmin(totals) == 0
    for turn in (np.eye(2), np.array([[0.6, -0.8], [0.8, 0.6]])):
        found = GeometricMedian()(models @ turn.T)
        assert found == pytest.approx(turn @ [-10.0 + 10.0 / math.sqrt(3.0), 0.0], abs=1e-7)


def test_geometric_median_first_leaves_the_best_model_downwards(monkeypatch: pytest.MonkeyPatch) -> None:
    # Vardi and Zhang (2000), by loops: from the model y of weight η to y + (1 - η/r)(T - y), where T is the mean of the
    # others with weights w/d and r the norm of the sum of their weighted unit vectors.  It lies below every model.
    from theory import learners as module

    monkeypatch.setattr(module, "_MAX_ITERATIONS", 0)
    rng, n_tried = np.random.default_rng(5), 0
    while n_tried < 20:
        distinct = rng.standard_normal((6, 2)) * 10.0 ** rng.uniform(-1, 1, (6, 1))
        weights = rng.integers(1, 3, 6)
        models = np.repeat(distinct, weights, axis=0)
        total = [float(np.linalg.norm(models - y, axis=1).sum()) for y in distinct]
        k = int(np.argmin(total))
        mean, pull, share = np.zeros(2), np.zeros(2), 0.0
        for j in range(6):
            if j != k:
                d = math.dist(distinct[j], distinct[k])
                mean += weights[j] * distinct[j] / d
                pull += weights[j] * (distinct[j] - distinct[k]) / d
                share += weights[j] / d
        r = math.hypot(*pull)
        if r > 1.01 * weights[k]:
            n_tried += 1
            found = GeometricMedian()(models)
            expected = distinct[k] + (1.0 - weights[k] / r) * (mean / share - distinct[k])
            assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)
            assert np.linalg.norm(models - found, axis=1).sum() < total[k]


def test_geometric_median_stops_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    # Steps that no longer descend are not made: without a limit on their number it would run forever.
    from theory import learners as module

    monkeypatch.setattr(module, "_MAX_ITERATIONS", 10**15)
    rng = np.random.default_rng(2)
    for _ in range(20):
        models = rng.standard_normal((5, 2))
        z = GeometricMedian()(models) - models
        away = z[np.linalg.norm(z, axis=1) > 0]
        pull = np.linalg.norm(np.sum(away / np.linalg.norm(away, axis=1)[:, None], axis=0))
        assert pull < 1e-6 + len(models) - len(away)


def test_geometric_median_does_not_start_from_a_model_whose_step_ends_at_another() -> None:
    # From y = (-h, 0), the worst model, the first step can end at the model 0 exactly, which is no minimum.
    others = np.array([[0.0, 0.0], [4.0, 1.0], [4.0, -1.0], [4.0, 3.0], [4.0, -3.0]])

    def end(h: float) -> float:
        d = np.hypot(others[:, 0] + h, others[:, 1])
        r = np.sum((others[:, 0] + h) / d)
        return float(-h + (1.0 - 1.0 / r) * r / np.sum(1.0 / d))

    h = scipy.optimize.brentq(end, 5.0, 50.0, xtol=1e-15, rtol=1e-15)
    models = np.vstack([others, [[-h, 0.0]]])
    x = scipy.optimize.brentq(lambda x: np.sum((x - models[:, 0]) / np.hypot(x - models[:, 0], models[:, 1])), 1.0, 4.0)
    assert GeometricMedian()(models) == pytest.approx(np.array([x, 0.0]), abs=1e-6)


def test_geometric_median_on_a_slanted_line_is_the_mean_of_the_middle_two() -> None:
    # Whatever rounding says about four unit vectors that cancel.
    rng = np.random.default_rng(0)
    for _ in range(100):
        direction, t = rng.standard_normal(3), np.sort(rng.standard_normal(6))
        assert GeometricMedian()(t[:, None] * direction) == pytest.approx((t[2] + t[3]) / 2 * direction, rel=1e-12)


def test_geometric_median_that_is_a_model_to_rounding_is_that_model() -> None:
    # Three unit vectors and a weight of just what they pull with: no step, and no division by the distance 0.
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.6, 0.8], [0.0, 2.0]])
    weight = float(np.linalg.norm([1.6, 1.8]))
    found = _smooth_median(points, np.array([weight, 1.0, 1.0, 1.0]))
    assert found == pytest.approx(np.zeros(2), abs=1e-12)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_geometric_median_of_models_whose_squares_are_out_of_range(scale: float) -> None:
    # The corners of a square: the center.
    corners = scale * np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert GeometricMedian()(corners) / scale == pytest.approx(np.array([0.5, 0.5]), abs=1e-7)


@pytest.mark.parametrize(
    "rule", [Mean(), CoordinateMedian(), GeometricMedian(), TrimmedMean(1), Krum(1), MultiKrum(1)], ids=lambda r: r.name
)
def test_rules_refuse_models_that_are_no_numbers(rule: Rule) -> None:
    models = np.arange(10.0).reshape(5, 2)
    rule(models)
    models[3, 1] = math.nan
    for bad in (models, models[:, 0]):
        with pytest.raises(ShapeError, match="models"):
            rule(bad)


def test_means_of_models_by_hand() -> None:
    models = np.array([[0.0, 3.0], [1.0, 3.0], [5.0, -9.0]])
    assert Mean()(models).tolist() == [2.0, -1.0]
    assert CoordinateMedian()(models).tolist() == [1.0, 3.0]
    assert TrimmedMean(1)(models).tolist() == [1.0, 3.0]


def test_multi_krum_keeps_one_model_at_least() -> None:
    models = np.array([[0.0], [0.0], [3.0], [9.0]])
    assert MultiKrum(1, 1)(models).tolist() == [0.0]
    with pytest.raises(ShapeError, match="n_kept"):
        MultiKrum(1, 0)(models)


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
