"""Newton with conjugate gradients, paths, streams and batches: all must land where ``minimize`` lands.

Each comparison has a planted falsehood beside it, which the same comparison refuses.
"""

from __future__ import annotations

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from solvers import (
    Status,
    UserBlock,
    certify,
    gaussian_statistics,
    joint,
    large,
    local,
    local_minima,
    minimize,
    minimize_least_squares_batch,
    minimize_logistic_batch,
    minimize_path,
    minimize_stream,
    parquet_users,
    with_counts,
)
from solvers import streaming as streaming_module
from solvers.springs import BentSprings
from solvers.streaming import refine
from theory import (
    L2,
    AssumptionError,
    GaussianQueries,
    LeastSquares,
    Logistic,
    Multinomial,
    Problem,
    ShapeError,
    SmoothL2,
    SolverError,
    SquaredL2,
    UserDataset,
    honest_dataset,
)


def users_of(loss, rng, *, sizes=(12, 0, 30, 7), dim=4):
    P = dim * loss.n_outputs
    return [honest_dataset(GaussianQueries(dim), rng.standard_normal(P), n, loss, rng) for n in sizes]


def distance(a, b) -> float:
    return float(np.hypot(np.linalg.norm(a.rho - b.rho), np.linalg.norm(a.thetas - b.thetas)))


def agree(a, b) -> bool:
    """Two minima agree if they differ by no more than their certificates allow together."""
    return distance(a, b) <= a.certificate.distance_bound + b.certificate.distance_bound


# ----------------------------------------------------------------------------------------------------- newton_cg


@pytest.mark.parametrize("view", ["plain", "pinned", "tilted"])
def test_newton_cg_lands_where_dense_newton_lands(view):
    rng = np.random.default_rng(3)
    problem = Problem(users_of(Multinomial(3), rng), Multinomial(3), SquaredL2(1.0), 0.05)
    if view == "pinned":
        problem = problem.pin(0, rng.standard_normal(12))
    if view == "tilted":
        problem = problem.tilt(0, 0.1 * rng.standard_normal(12))
    dense, large_scale = minimize(problem, method="newton"), minimize(problem, method="newton_cg")
    assert agree(dense, large_scale)
    # The minimum for another ν is told apart.
    other = minimize(problem.with_regularizer(SquaredL2(1.0), 0.05 + 1e-9), method="newton_cg")
    assert not agree(dense, other)


def bent_problem(reg, view):
    """Users with few and many data, and one with none; the view pins user 0 or lets it report a gradient."""
    rng = np.random.default_rng(3)
    problem = Problem(users_of(Multinomial(3), rng), Multinomial(3), reg, 0.05)
    if view == "tilted":
        return problem.tilt(0, 0.4 * reg.lam * rng.standard_normal(12) / np.sqrt(12.0))
    if view == "pinned":
        return problem.pin(0, rng.standard_normal(12))
    # So near to where ρ would be that ℓ2 puts ρ on it.
    return problem.pin(0, minimize(problem).rho + 0.03) if view == "pinned nearby" else problem


@pytest.mark.parametrize("view", ["plain", "pinned", "pinned nearby", "tilted"])
@pytest.mark.parametrize(
    "reg", [SmoothL2(0.5), SmoothL2(30.0), L2(0.2), L2(2.0), L2(5.0), L2(50.0)], ids=lambda reg: f"{reg.name}-{reg.lam}"
)
def test_newton_cg_serves_every_regularizer(reg, view):
    problem = bent_problem(reg, view)
    exact, found = minimize(problem, method="newton"), minimize(problem, method="newton_cg")
    assert found.status is exact.status
    assert found.stats["relative_residual"] <= 1e-11
    # The same users are tied to the last bit, and ρ is on the pinned model where it belongs there.
    np.testing.assert_array_equal((found.thetas == found.rho).all(axis=1), (exact.thetas == exact.rho).all(axis=1))
    assert distance(exact, found) <= 1e-9
    # The minimum for another λ is told apart (where all users are tied, λ does not matter).
    other = minimize(problem.with_regularizer(type(reg)(1.001 * reg.lam), 0.05), method="newton_cg")
    assert exact.stats["n_tied"] >= problem.free.sum() or distance(exact, other) > 1e-8


def test_the_problems_above_have_every_kind_of_tie():
    """Only the user without data is tied, some are, all are; ρ is on the pinned model, and is not."""
    found = [minimize(bent_problem(L2(lam), view)) for lam in (0.2, 2.0, 50.0) for view in ("plain", "pinned nearby")]
    assert {1, 2, 4} <= {solution.stats["n_tied"] for solution in found}
    on_pin = {np.array_equal(solution.rho, solution.problem.pinned[0]) for solution in found[1::2]}
    assert on_pin == {True, False}


@pytest.mark.parametrize("lam", [0.2, 50.0])
def test_a_wrong_guess_of_the_ties_is_refused(lam):
    """The start claims that all users are tied where few are, or none where all are."""
    problem = bent_problem(L2(lam), "plain")
    exact = minimize(problem, method="newton")
    away = np.random.default_rng(0).standard_normal(exact.thetas.shape)
    wrong = np.tile(exact.rho, (4, 1)) if lam < 1.0 else exact.rho + away
    assert ((wrong == exact.rho).all(axis=1) != (exact.thetas == exact.rho).all(axis=1)).any()
    found = minimize(problem, method="newton_cg", start=(exact.rho, wrong))
    assert distance(exact, found) <= 1e-9
    # The right ties are kept, and what they give is the minimum.
    assert minimize(problem, method="newton_cg", start=(exact.rho, exact.thetas)).stats["iterations"] <= 3


@pytest.mark.parametrize("hub", [None, 1, "fixed"])
@pytest.mark.parametrize("n_models", [3, 9])  # fewer springs than parameters, and more
@pytest.mark.parametrize("eps", [0.0, 0.3, 1.0])
def test_the_hessian_of_springs_is_the_derivative_of_their_forces(eps, n_models, hub):
    rng = np.random.default_rng(0)
    theta, pins, slope = rng.standard_normal((n_models, 5)), rng.standard_normal((2, 5)), 0.3 * rng.standard_normal(5)
    where = rng.standard_normal(5) if hub == "fixed" else hub
    springs = BentSprings(1.5, eps, pins, slope, where)
    V, h = rng.standard_normal((n_models, 5)), 1e-5
    tension = springs.settle(theta, None)
    low, high = (springs.settle(theta + step * V, tension.rho) for step in (-h, h))
    np.testing.assert_allclose(tension.times(V), (high.forces - low.forces) / (2 * h), atol=1e-7)
    # The energy belongs to the forces, with ρ as it reacts.
    assert np.sum(tension.forces * V) == pytest.approx((high.value - low.value) / (2 * h), abs=1e-8)
    if hub is None:
        assert np.linalg.norm(tension.imbalance) <= 1e-13
        # ρ that does not answer is told apart.
        still = BentSprings(1.5, eps, pins, slope, tension.rho).settle(theta, None)
        assert np.abs(still.times(V) - tension.times(V)).max() > 1e-3


def test_two_models_on_a_line_leave_rho_where_it_is():
    """Plain ℓ2 between two models: every point of the segment is best, and nothing there resists."""
    theta = np.array([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0]])
    springs = BentSprings(1.0, 0.0, np.zeros((0, 3)), np.zeros(3))
    tension = springs.settle(theta, np.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(tension.rho, [1.0, 0.0, 0.0], atol=1e-15)
    assert np.isfinite(tension.times(np.ones((2, 3)))).all()
    off_the_line = springs.settle(theta, np.array([1.0, 2.0, -1.0]))
    np.testing.assert_allclose(off_the_line.rho[1:], 0.0, atol=1e-12)


def test_many_parameters_choose_newton_cg_and_fall_back_to_hessians(monkeypatch):
    rng = np.random.default_rng(5)
    problem = Problem(users_of(Multinomial(5), rng, sizes=(40, 60), dim=30), Multinomial(5), SmoothL2(1.0), 0.1)
    found = minimize(problem)
    assert found.stats["method"] == "newton_cg"
    assert minimize(bent_problem(SmoothL2(1.0), "plain")).stats["method"] == "newton"
    newton_cg = large.newton_cg

    def lost(problem, start, products):
        rho, thetas, iterations, scale = newton_cg(problem, start, products)
        return rho + 1e-3, thetas, iterations, scale

    monkeypatch.setattr(large, "newton_cg", lost)
    again = minimize(problem)
    assert again.stats["method"] == "newton"
    assert agree(again, found)
    with pytest.raises(SolverError):  # who asks for a method gets that method
        minimize(problem, method="newton_cg")


@pytest.mark.slow
@pytest.mark.parametrize("reg", [SmoothL2(1.0), L2(1.0), L2(40.0)], ids=lambda reg: f"{reg.name}-{reg.lam}")
def test_problems_whose_hessians_do_not_fit_are_certified(reg):
    """Hessians of 6 users with 2,560 parameters would take 315 MB; a gap of 1e-7 in ρ is refused."""
    rng = np.random.default_rng(2)
    centers = rng.random((8, 320))
    users = []
    for _ in range(6):
        y = rng.integers(0, 8, 500)
        images = np.rint(255.0 * np.clip(centers[y] + 0.6 * rng.standard_normal((500, 320)), 0.0, 1.0)) / 255.0
        users.append(UserDataset(images, y))
    problem = Problem(users, Multinomial(8), reg, 1e-3)
    assert large.is_large(problem)
    found = minimize(problem)
    assert found.stats["method"] == "newton_cg"
    assert found.certificate.distance_bound <= 1e-5
    moved = certify(problem, found.rho + 1e-4, found.thetas)
    assert moved.distance_bound > 1e-4 / 2


def rare_pixels(rng, rows=400, d=12):
    """Images of bytes in which every pixel past the fourth is seen in one class only: nearly separable."""
    y = rng.integers(0, 3, rows)
    X = rng.integers(0, 256, (rows, d)) * (rng.random((rows, d)) < np.r_[np.full(4, 0.9), np.full(d - 4, 0.03)])
    X[:, 4:] *= (np.arange(4, d) % 3 == y[:, None]).astype(X.dtype)
    return [UserDataset(X[part] / 255.0, y[part].astype(float)) for part in np.array_split(np.arange(rows), 4)]


@pytest.mark.parametrize("nu", [1e-3, 1e-8])
def test_newton_cg_reaches_rounding_in_few_steps_with_tiny_nu(nu):
    problem = Problem(rare_pixels(np.random.default_rng(0)), Multinomial(3), SquaredL2(1.0), nu)
    found = minimize(problem, method="newton_cg")
    assert found.stats["relative_residual"] <= 1e-11
    # A Hessian that is four times too large, or without p pᵀ, ends at 1e-9 or 1e-6.  (So small a problem does not
    # show curvature lost in rounding: see test_curvature_of_decided_rows_is_not_lost_in_rounding.)
    assert found.stats["iterations"] <= 80
    assert agree(found, minimize(problem, method="newton"))


def test_systematic_sample_keeps_the_sum():
    rng = np.random.default_rng(1)
    weight = rng.exponential(size=5000) ** 4
    rows, scale = large.systematic_sample(weight, weight, 400)
    assert 399 <= len(rows) <= 401
    assert np.sum(scale**2) == pytest.approx(weight.sum(), rel=5e-3)
    assert np.sum(weight[rows]) < 0.9 * weight.sum()  # the rows by themselves are not the sum
    # A score picks the rows, the sum over any of their functions is still kept.
    value, score = rng.standard_normal(5000) + 2.0, rng.exponential(size=5000)
    rows, scale = large.systematic_sample(np.ones(5000), score, 2500)
    assert np.sum(scale**2 * value[rows]) == pytest.approx(value.sum(), rel=0.1)


@pytest.mark.parametrize(
    "reg", [SquaredL2(1.5), SmoothL2(1.5), L2(1.5), L2(3.0), L2(20.0)], ids=lambda reg: f"{reg.name}-{reg.lam}"
)
def test_large_local_problems_are_solved_without_hessians(monkeypatch, reg):
    rng = np.random.default_rng(9)
    problem = Problem(users_of(Multinomial(3), rng), Multinomial(3), reg, 0.05).pin(2, rng.standard_normal(12))
    rho = rng.standard_normal(12)
    thetas, reports = local_minima(problem, rho)
    monkeypatch.setattr(large, "is_large", lambda problem: True)
    monkeypatch.setattr(local, "data_hessians", None)
    again, again_reports = local_minima(problem, rho)
    np.testing.assert_allclose(again, thetas, rtol=0, atol=1e-10)
    np.testing.assert_allclose(again_reports, reports, rtol=0, atol=1e-9)
    # Tied models are ρ to the last bit, by either route.
    np.testing.assert_array_equal((again == rho).all(axis=1), (thetas == rho).all(axis=1))
    # A smaller λ is told apart, also where all were tied.
    other, _ = local_minima(problem.with_regularizer(type(reg)(0.05 * reg.lam), 0.05), rho)
    assert np.abs(other - thetas).max() > 1e-3


def test_newton_cg_puts_constant_zero_columns_back():
    rng = np.random.default_rng(4)
    users = [UserDataset(np.insert(u.Q, 1, 0.0, axis=1), u.A) for u in users_of(Multinomial(3), rng)]
    problem = Problem(users, Multinomial(3), SquaredL2(1.0), 0.05)
    pinned = problem.pin(2, rng.standard_normal(15))
    for case in (problem, pinned):
        assert agree(minimize(case, method="newton"), minimize(case, method="newton_cg"))
    assert minimize(pinned, method="newton_cg").rho.reshape(3, 5)[:, 1].any()


@pytest.mark.parametrize(
    ("Q", "dtype"),
    [
        (np.array([[0.0, 1.0], [128 / 255, 1.0]]), "uint8"),
        (np.array([[0.0, 1.0], [128.5 / 255, 1.0]]), "float64"),
        (np.array([[-1.0, 1.0]]), "float64"),
        (np.array([[3.0, 255.0]]), "uint8"),
        (np.array([[3.0, 256.0]]), "float64"),
    ],
)
def test_compact_queries_are_exact(Q, dtype):
    found = large.compact(Q)
    assert found.X.dtype == dtype
    scale = 1.0 / round(1.0 / found.unit) if found.unit < 1 else found.unit
    assert np.allclose(found.X * scale, Q[:, found.columns], rtol=2.3e-16, atol=0)


def test_missing_pixel_is_a_certificate_that_no_minimum_exists():
    Q = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.7], [1.0, 0.0], [1.0, 0.0]])
    labels = np.array([0.0, 1.0, 2.0, 2.0, 1.0])
    problem = Problem([UserDataset(Q, labels)], Multinomial(3), SquaredL2(1.0))
    with pytest.raises(SolverError) as caught:
        minimize(problem)
    direction = caught.value.solution.direction
    values = [problem.value(t * direction.rho, t * direction.thetas) for t in (0.0, 1.0, 10.0, 100.0)]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(values)


def test_rho_is_found_where_a_reported_gradient_is_nearly_as_strong_as_all_springs():
    """There the forces are nearly parallel: a point far away has a smaller imbalance, and holds Newton's steps."""
    rng = np.random.default_rng(1)
    theta, g = rng.standard_normal((4, 6)), rng.standard_normal(6)
    slope = 4.0 * (1.0 - 3e-5) * g / np.linalg.norm(g)
    for eps in (1e-6, 1.0):
        springs = BentSprings(1.0, eps, np.zeros((0, 6)), slope)
        found = springs.settle(theta, None)
        for guess in (1e5 * g, -1e5 * g, 1e4 * rng.standard_normal(6)):
            again = springs.settle(theta, guess)
            assert np.linalg.norm(again.imbalance) <= 1e-12 * again.scale
            # So little stiffness is left that rounding of the forces moves ρ; halfway there is told apart.
            assert np.linalg.norm(again.rho - found.rho) <= 1e-6 * np.linalg.norm(found.rho)
            halfway = BentSprings(1.0, eps, springs.pins, slope, 0.5 * found.rho).settle(theta, None)
            assert np.linalg.norm(halfway.imbalance) > 1e-12 * halfway.scale


def test_the_energy_of_a_stiff_spring_leaves_the_loss_of_the_data_visible():
    """λε of each spring is a constant: beside 1e9 of it, a change of the loss of two rows would drown in rounding."""
    users = users_of(Multinomial(4), np.random.default_rng(0), sizes=(1, 1))
    users = [UserDataset(1e8 * user.Q, user.A) for user in users]
    problem = Problem(users, Multinomial(4), SmoothL2(6e8), 1e6)
    exact, found = minimize(problem, method="newton"), minimize(problem, method="newton_cg")
    assert found.stats["relative_residual"] <= 1e-11
    assert distance(exact, found) <= 1e-6 * np.linalg.norm(exact.thetas)


@pytest.mark.parametrize("reg", [SquaredL2(1.0), SmoothL2(1.0), L2(50.0)], ids=lambda reg: reg.name)
def test_tiny_nu_does_not_blow_rounding_up_to_a_part_that_all_classes_share(reg):
    problem = Problem(users_of(Multinomial(3), np.random.default_rng(3)), Multinomial(3), reg, 1e-9)
    found = minimize(problem, method="newton_cg")
    assert np.abs(found.thetas.reshape(4, 3, 4).mean(axis=1)).max() <= 1e-13 * np.abs(found.thetas).max()
    assert found.certificate.distance_bound <= 1e-9
    # A pinned model that has such a part gives the others one, also through a start without it.
    pinned = problem.with_regularizer(reg, 1e-3).pin(1, np.arange(12.0))
    exact, again = minimize(pinned, method="newton"), minimize(pinned, method="newton_cg")
    assert np.abs(exact.thetas[0].reshape(3, 4).mean(axis=0)).max() > 1e-3
    assert distance(exact, again) <= 1e-8
    # A start that has such a part loses it.
    plain = problem.with_regularizer(reg, 1e-3)
    shifted = minimize(plain, method="newton_cg", start=(found.rho + 1.0, found.thetas + 1.0))
    assert distance(minimize(plain, method="newton"), shifted) <= 1e-8


@pytest.mark.parametrize("excess", [1e-1, 1e-3, -1e-3, -1e-1])
def test_users_that_are_only_just_tied_are_found(excess):
    """The pull of one user on ρ is near λ: as the kink gets sharper, its model nears ρ late, or stays near it."""
    problem = bent_problem(L2(5.0), "plain")
    low, high = 0.5, 5.0  # beside the user without data, a second one is tied from some λ on
    for _ in range(14):
        middle = 0.5 * (low + high)
        solution = minimize(problem.with_regularizer(L2(middle), 0.05), method="newton")
        low, high = (low, middle) if solution.stats["n_tied"] >= 2 else (middle, high)
    case = problem.with_regularizer(L2((high if excess > 0 else low) * (1.0 + excess)), 0.05)
    exact, found = minimize(case, method="newton"), minimize(case, method="newton_cg")
    assert (exact.stats["n_tied"] >= 2) == (excess > 0)
    assert found.stats["n_tied"] == exact.stats["n_tied"]
    assert distance(exact, found) <= 1e-8


@pytest.mark.parametrize(("seed", "lam"), [(2, 0.2015), (38, 0.1189), (71, 0.0629)])
def test_every_smoothing_moves_the_models(seed, lam):
    """A point that is good enough for one ε is so for the next, if ε alone changes: its lengths would tell nothing."""
    rng = np.random.default_rng(seed)
    users = users_of(Multinomial(3), rng, sizes=(20, 1, 45), dim=3)
    users = [UserDataset(user.Q * (rng.random(len(user.Q)) < 0.5)[:, None], user.A) for user in users]
    problem = Problem(users, Multinomial(3), L2(lam), 4e-5)
    exact, found = minimize(problem, method="newton"), minimize(problem, method="newton_cg")
    assert found.stats["n_tied"] == exact.stats["n_tied"]
    assert distance(exact, found) <= 1e-7


def test_smoothing_ends_where_the_same_ties_leave_only_rounding(monkeypatch):
    problem = bent_problem(L2(2.0), "plain")
    found = minimize(problem, method="newton_cg")
    monkeypatch.setattr(large, "_SETTLED", 0.0)  # out of reach, as with badly scaled data
    again = minimize(problem, method="newton_cg")
    assert distance(found, again) <= 1e-9
    # All ten smoothings would take 112 steps.
    assert found.stats["iterations"] < again.stats["iterations"] <= 60


# (With seed 2 the data of all users are nearly separable: there the method ends within 1e-9 of the gradient, or says
# that it stalled, as rounding has it.)
@pytest.mark.parametrize("seed", [0, 1, 3, 4, 5])
def test_rho_is_right_however_small_lambda_is(seed):
    """At 1e-12 a wrong tie, or a wrong ρ, is wrong by less than what counts as solved beside the data."""
    users = users_of(Multinomial(3), np.random.default_rng(seed), sizes=(20, 5, 1, 40, 30))
    problem = Problem(users, Multinomial(3), L2(1e-12), 1e-6)
    exact, found = minimize(problem, method="newton"), minimize(problem, method="newton_cg")
    assert exact.stats["n_tied"] == found.stats["n_tied"]
    assert distance(exact, found) <= 1e-6


def test_wrong_ties_are_given_up_early():
    """One row per user: the first guess ties too few of them, and its steps run into kinks."""
    rng = np.random.default_rng(4)
    rows, labels = rng.standard_normal((14, 7)), rng.integers(0, 2, 14).astype(float)
    users = [UserDataset(rows[n : n + 1], labels[n : n + 1]) for n in range(14)]
    problem = Problem(users, Multinomial(2), L2(0.1), 1e-4)
    exact, found = minimize(problem, method="newton"), minimize(problem, method="newton_cg")
    assert 0 < exact.stats["n_tied"] == found.stats["n_tied"] < 14
    assert distance(exact, found) <= 1e-8
    assert found.stats["iterations"] <= 60


@pytest.mark.parametrize("reg", [SquaredL2(1e-3), SmoothL2(1e-2)], ids=lambda reg: reg.name)
def test_users_who_differ_by_orders_of_magnitude_get_enough_conjugate_gradients(reg):
    """Points counted up to a million times: one preconditioner for all users leaves much to CG."""
    rng = np.random.default_rng(8)
    users = users_of(Multinomial(3), rng, sizes=(40, 30, 25, 35))
    counts = np.ceil(10.0 ** rng.uniform(0, 6, 40)).astype(int)
    problem = with_counts(Problem(users, Multinomial(3), reg, 1e-4), 0, users[0], counts)
    exact, found = minimize(problem, method="newton"), minimize(problem, method="newton_cg")
    assert found.stats["relative_residual"] <= 1e-11
    assert agree(exact, found)


@pytest.mark.parametrize("n_users", [1, 2])
def test_users_at_one_place_that_are_not_known_to_be_tied(n_users):
    """Springs without length have no stiffness: 0/0 is not what ρ answers."""
    users = users_of(Multinomial(3), np.random.default_rng(6), sizes=(20,)) * n_users
    problem = Problem(users, Multinomial(3), L2(0.5), 0.05)
    models = np.tile(minimize(problem, method="newton").rho, (n_users, 1))
    springs = BentSprings(0.5, 0.0, np.zeros((0, 12)), np.zeros(12))
    tension = springs.settle(models, models[0])
    assert np.array_equal(tension.rho, models[0])
    assert np.isfinite(tension.times(np.ones_like(models))).all()
    found = minimize(problem, method="newton_cg", start=(models[0] + 1e-3, models))
    np.testing.assert_allclose(found.thetas, models, rtol=0, atol=1e-10)


@pytest.mark.parametrize("far", [1.0, 1e4, 1e8])
@pytest.mark.parametrize("reg", [SquaredL2(0.5), SmoothL2(0.03), L2(0.5)], ids=lambda reg: reg.name)
def test_a_start_far_away_costs_little(reg, far):
    """Where all rows are decided, and wrongly, Newton's steps lead nowhere."""
    rng = np.random.default_rng(6)
    problem = Problem(users_of(Multinomial(3), rng), Multinomial(3), reg, 1e-4)
    cold = minimize(problem, method="newton_cg")
    rho, thetas = far * rng.standard_normal(12), far * rng.standard_normal((4, 12))
    for ties in (0, 1, 4):
        thetas[:ties] = rho
        found = minimize(problem, method="newton_cg", start=(rho, thetas))
        assert distance(cold, found) <= 1e-7
        assert found.stats["iterations"] <= cold.stats["iterations"] + 30


def test_too_many_products_with_the_hessian_are_left_to_the_method_with_hessians(monkeypatch):
    rng = np.random.default_rng(5)
    problem = Problem(users_of(Multinomial(5), rng, sizes=(8, 10), dim=30), Multinomial(5), L2(1.0), 1e-1)
    found = minimize(problem)
    assert found.stats["method"] == "newton_cg"
    monkeypatch.setattr(large, "worthwhile", lambda problem: 20.0)
    again = minimize(problem)
    assert again.stats["method"] == "newton"
    assert distance(found, again) <= 1e-7
    monkeypatch.setattr(joint, "newton", lambda *_: (found.rho + 1.0, found.thetas, 1, 1.0))
    assert minimize(problem).stats["method"] == "newton_cg"  # where that fails, it is given all that it wants
    # Who asks for the method is not hurried, nor is it where Hessians are too large.
    assert minimize(problem, method="newton_cg").status is found.status
    monkeypatch.setattr(large, "is_large", lambda problem: True)
    assert minimize(problem).stats["method"] == "newton_cg"


def test_of_attempts_that_stall_the_better_is_returned(monkeypatch):
    rng = np.random.default_rng(5)
    problem = Problem(users_of(Multinomial(5), rng, sizes=(40, 60), dim=30), Multinomial(5), SmoothL2(1.0), 0.1)
    exact = minimize(problem)
    for good, bad in (("newton_cg", "newton"), ("newton", "newton_cg")):
        for name, gap in ((good, 1e-6), (bad, 1e-3)):
            reached = (exact.rho + gap, exact.thetas, 1, 1.0)
            monkeypatch.setattr(large if name == "newton_cg" else joint, name, lambda *_, reached=reached: reached)
        solution = minimize(problem, throw=False)
        assert solution.status is Status.STALLED
        assert solution.stats["method"] == good


@pytest.mark.parametrize("pinned", [False, True])
def test_springs_put_rho_on_a_model_that_holds_it(pinned):
    """With ε = 0: the other three pull by less than λ, so ρ is on the first, to the last bit, and moves with it."""
    rng = np.random.default_rng(0)
    models = 0.1 * rng.standard_normal((1, 5)) + np.vstack([np.zeros(5), 3.0 * rng.standard_normal((3, 5))])
    models[3] = -models[1] - models[2]
    theta, pins = (models[1:], models[:1]) if pinned else (models, np.zeros((0, 5)))
    springs = BentSprings(1.5, 0.0, pins, np.zeros(5))
    tension = springs.settle(theta, rng.standard_normal(5))
    assert np.array_equal(tension.rho, models[0])
    V, h = rng.standard_normal(theta.shape), 1e-5
    low, high = (springs.settle(theta + step * V, tension.rho) for step in (-h, h))
    np.testing.assert_allclose(tension.times(V), (high.forces - low.forces) / (2 * h), atol=1e-7)
    assert np.sum(tension.forces * V) == pytest.approx((high.value - low.value) / (2 * h), abs=1e-8)
    # A weaker spring does not hold it.
    weak = np.concatenate([models[:1], models[1:2] + 0.1 * rng.standard_normal((4, 5)), models[2:]])
    assert not np.array_equal(springs.settle(weak, None).rho, models[0])


# ---------------------------------------------------------------------------------------------------------- path


@pytest.mark.parametrize("loss", [LeastSquares(), Logistic(), Multinomial(3)], ids=lambda loss: loss.name)
def test_path_agrees_with_separate_minimizations(loss):
    rng = np.random.default_rng(5)
    problem = Problem(users_of(loss, rng), loss, SquaredL2(1.0), 0.1)
    settings = [(SquaredL2(1.0), 0.1), (SquaredL2(9.0), 0.2), (SmoothL2(2.0), 0.2), (L2(2.0), 0.2)]
    solutions = list(minimize_path(problem, settings))
    assert [s.problem.reg for s in solutions] == [reg for reg, _ in settings]
    for (reg, nu), solution in zip(settings, solutions, strict=True):
        assert agree(solution, minimize(problem.with_regularizer(reg, nu)))
    # A path that forgot to change λ would be seen.
    assert not agree(solutions[0], minimize(problem.with_regularizer(SquaredL2(9.0), 0.2)))


def test_path_refuses_bad_settings():
    problem = Problem(users_of(LeastSquares(), np.random.default_rng(0)), LeastSquares(), SquaredL2(1.0))
    with pytest.raises(AssumptionError, match="nu"):
        next(minimize_path(problem, [(SquaredL2(1.0), -1.0)]))
    with pytest.raises(ShapeError, match="reg"):
        next(minimize_path(problem, [("ridge", 1.0)]))


# -------------------------------------------------------------------------------------------------------- streams


def stream_users(rng, n=2500):
    return users_of(LeastSquares(), rng, sizes=rng.integers(1, 9, n), dim=3)


def test_stream_agrees_with_the_joint_minimum():
    rng = np.random.default_rng(6)
    users, reg = stream_users(rng), SquaredL2(2.0)
    reads = []

    def source():
        reads.append(1)
        return iter(users)

    streamed = minimize_stream(source, reg, 0.1)
    assert (streamed.n_users, len(reads)) == (len(users), 1)  # one pass for ρ*
    problem = Problem(users, LeastSquares(), reg, 0.1)
    exact = minimize(problem)
    thetas = np.array(list(streamed.thetas()))
    assert len(reads) == 2  # a second one for θ*
    bound = certify(problem, streamed.rho, thetas).distance_bound + exact.certificate.distance_bound
    assert np.hypot(np.linalg.norm(streamed.rho - exact.rho), np.linalg.norm(thetas - exact.thetas)) <= bound
    assert streamed.residual() < 1e-13
    assert refine(streamed).residual() < 1e-13
    # Dropping the last user is seen.
    shorter = minimize_stream(lambda: users[:-1], reg, 0.1)
    assert np.linalg.norm(shorter.rho - exact.rho) > bound


def test_stream_takes_blocks_and_keeps_order():
    users, reg = stream_users(np.random.default_rng(7), 40), SquaredL2(2.0)
    block = UserBlock(
        np.concatenate([u.Q for u in users]), np.concatenate([u.A for u in users]), np.array([u.n_data for u in users])
    )
    one_by_one = minimize_stream(lambda: users, reg, 0.1)
    at_once = minimize_stream(lambda: [users[0], block, users[1]], reg, 0.1)
    together = minimize_stream(lambda: [users[0], *users, users[1]], reg, 0.1)
    assert np.allclose(at_once.rho, together.rho, rtol=0, atol=1e-13)
    assert not np.allclose(at_once.rho, one_by_one.rho, rtol=0, atol=1e-13)
    assert np.allclose(list(at_once.thetas()), list(together.thetas()), rtol=0, atol=1e-12)


def test_stream_memory_does_not_grow_with_users(monkeypatch):
    """At most one block of users is alive at a time: a source that counts them sees it."""
    monkeypatch.setattr(streaming_module, "_BLOCK_USERS", 16)
    alive, most = [0], [0]

    class Counted(UserDataset):
        def __init__(self, Q, A):
            super().__init__(Q, A)
            alive[0] += 1
            most[0] = max(most[0], alive[0])

        def __del__(self):
            alive[0] -= 1

    def source(n):
        rng = np.random.default_rng(0)
        return lambda: (Counted(rng.standard_normal((2, 3)), rng.standard_normal(2)) for _ in range(n))

    minimize_stream(source(1000), SquaredL2(1.0), 0.1)
    assert 16 <= most[0] <= 40


def test_parquet_users_across_batches(tmp_path):
    users = stream_users(np.random.default_rng(8), 300)
    ids = np.repeat(np.arange(300), [u.n_data for u in users])
    Q, A = np.concatenate([u.Q for u in users]), np.concatenate([u.A for u in users])
    table = {"who": ids, "y": A, **{f"x{j}": Q[:, j] for j in range(3)}}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "sorted.parquet")
    source = parquet_users(tmp_path / "sorted.parquet", user="who", target="y", batch_rows=7)
    streamed = minimize_stream(source, SquaredL2(2.0), 0.1)
    exact = minimize_stream(lambda: users, SquaredL2(2.0), 0.1)
    assert streamed.n_users == 300
    assert np.allclose(streamed.rho, exact.rho, rtol=0, atol=1e-13)
    with pytest.raises(ShapeError, match="weight"):
        parquet_users(tmp_path / "sorted.parquet", user="who", target="weight")
    shuffled = np.random.default_rng(0).permutation(len(ids))
    pyarrow.parquet.write_table(pyarrow.table(table).take(shuffled), tmp_path / "mixed.parquet")
    with pytest.raises(ShapeError, match="sorted by user"):
        minimize_stream(parquet_users(tmp_path / "mixed.parquet", user="who", target="y"), SquaredL2(2.0), 0.1)


@pytest.mark.parametrize("user", [UserDataset.empty(2), UserDataset([[1.0, 2.0]], [3.0])], ids=["no data", "one line"])
def test_stream_refuses_minimizers_that_form_a_set(user):
    """With ν = 0 any ρ on an affine set would do: returning one of them as *the* minimum is the falsehood."""
    with pytest.raises(AssumptionError, match="undetermined"):
        minimize_stream(lambda: [user] * 3, SquaredL2(0.7), 0.0)
    assert minimize_stream(lambda: [user] * 3, SquaredL2(0.7), 1e-6).residual() < 1e-12


def test_stream_refuses_bad_input():
    good = UserDataset([[1.0, 2.0]], [1.0])
    with pytest.raises(ShapeError, match="at least one user"):
        minimize_stream(list, SquaredL2(1.0), 0.1)
    with pytest.raises(ShapeError, match="dimension 2"):
        minimize_stream(lambda: [good, UserDataset([[1.0]], [1.0])], SquaredL2(1.0), 0.1)
    with pytest.raises(ShapeError, match="UserDataset"):
        minimize_stream(lambda: [3], SquaredL2(1.0), 0.1)
    with pytest.raises(AssumptionError, match="SquaredL2"):
        minimize_stream(lambda: [good], L2(1.0), 0.1)
    with pytest.raises(ShapeError, match="add up"):
        UserBlock(np.ones((3, 2)), np.ones(3), np.array([1, 1]))
    with pytest.raises(ShapeError, match="finite"):
        UserBlock(np.full((1, 2), np.nan), np.ones(1), np.array([1]))


# --------------------------------------------------------------------------------------------------------- batches


def statistics(rng, R, N, d, noise=1.0):
    parts = [gaussian_statistics([3 + 7 * n], rng.standard_normal(d), R, rng, noise=noise) for n in range(N)]
    return np.stack([p[0][:, 0] for p in parts], axis=1), np.stack([p[1][:, 0] for p in parts], axis=1)


@pytest.mark.parametrize("reg", [SquaredL2(1.5), SmoothL2(6.0), L2(6.0)], ids=lambda reg: reg.name)
@pytest.mark.parametrize(("R", "N", "d"), [(1, 1, 1), (17, 3, 4), (33, 2, 2)])
def test_batch_agrees_with_separate_minimizations(reg, R, N, d):
    gram, moments = statistics(np.random.default_rng(9), R, N, d)
    batch = minimize_least_squares_batch(gram, moments, reg, 0.05)
    for r in {0, R // 2, R - 1}:
        # Data with these statistics: QᵀQ = gram by an eigendecomposition, QᵀA = moments because b ∈ range.
        users = []
        for G, b in zip(gram[r], moments[r], strict=True):
            values, vectors = np.linalg.eigh(G)
            keep = values > 1e-9 * values.max()
            Q = np.sqrt(values[keep])[:, None] * vectors.T[keep]
            users.append(UserDataset(Q, (vectors.T[keep] @ b) / np.sqrt(values[keep])))
        alone = minimize(Problem(users, LeastSquares(), reg, 0.05))
        if alone.minimizers is None:
            assert np.allclose(batch.rho[r], alone.rho, rtol=0, atol=1e-9)
        assert np.allclose(batch.thetas[r], alone.thetas, rtol=0, atol=1e-9)
        # The neighbouring problem's answer is refused by the same comparison.
        if R > 1:
            assert not np.allclose(batch.thetas[(r + 1) % R], alone.thetas, rtol=0, atol=1e-9)


def test_logistic_batch_agrees_with_separate_minimizations():
    rng = np.random.default_rng(10)
    Q = rng.standard_normal((200, 3))
    labels = np.where(rng.random(200) < 0.5, 1.0, -1.0)
    start = np.array([[0, 50], [50, 60], [0, 0]])
    stop = np.array([[50, 80], [60, 200], [10, 0]])
    batch = minimize_logistic_batch(Q, labels, start, stop, SquaredL2(0.7), 0.05)
    for r in range(3):
        users = [UserDataset(Q[a:b], labels[a:b]) for a, b in zip(start[r], stop[r], strict=True)]
        alone = minimize(Problem(users, Logistic(), SquaredL2(0.7), 0.05))
        assert np.allclose(batch.thetas[r], alone.thetas, rtol=0, atol=1e-10)
        assert not np.allclose(batch.thetas[(r + 1) % 3], alone.thetas, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("lam", "scale"), [(0.7, 1.0), (1e6, 1.0), (1e-6, 1.0), (0.7, 30.0)])
def test_large_logistic_batches_from_a_guess_of_some_rows(lam, scale):
    """Sorted labels and a period of the thinning in the data: the guess is bad, the answer is not."""
    rng = np.random.default_rng(13)
    Q = scale * rng.standard_normal((1100, 3))
    Q[::4] *= 0.01
    labels = np.sort(np.where(rng.random(1100) < 0.5, 1.0, -1.0))
    start, stop = np.array([[0, 300, 1097], [400, 0, 7]]), np.array([[300, 1100, 1100], [700, 1100, 7]])
    batch = minimize_logistic_batch(Q, labels, start, stop, SquaredL2(lam), 0.05)
    for r in range(2):
        users = [UserDataset(Q[a:b], labels[a:b]) for a, b in zip(start[r], stop[r], strict=True)]
        alone = minimize(Problem(users, Logistic(), SquaredL2(lam), 0.05))
        assert np.allclose(batch.thetas[r], alone.thetas, rtol=0, atol=1e-10)
        assert np.allclose(batch.rho[r], alone.rho, rtol=0, atol=1e-10)
        assert not np.allclose(batch.thetas[1 - r], alone.thetas, rtol=0, atol=1e-10)


def test_batches_with_a_median_at_one_of_the_models(monkeypatch):
    """Plain ℓ2 where ρ* is one of the preferred models, which Newton steps jump over: the general solver finds it."""
    rng, centers = np.random.default_rng(15), np.array([[0.0, 0.0], [1.0, 0.0], [-0.6, 0.8], [-0.5, -0.9]])
    G = np.broadcast_to(np.eye(2), (40, 4, 2, 2)).copy()
    b = centers + 0.3 * rng.standard_normal((40, 4, 2))
    reg, alone = L2(0.01), []
    batch = minimize_least_squares_batch(G, b, reg)
    for rho, thetas, answers in zip(batch.rho, batch.thetas, b, strict=True):
        tied = (thetas == rho).all(axis=1)
        pulls = np.where(tied[:, None], thetas - answers, 0.0)
        pulls[~tied] = reg.gradient(rho, thetas[~tied])
        assert np.linalg.norm(pulls, axis=1).max() <= reg.lam * (1 + 1e-12)
        assert np.linalg.norm(pulls.sum(axis=0)) <= 1e-10 * reg.lam
        assert np.abs(thetas - answers - pulls).max() <= 1e-14
        assert not np.linalg.norm((pulls * [[1.0], [1.0], [1.0], [1 + 1e-6]]).sum(axis=0)) <= 1e-10 * reg.lam
        alone.append(tied.any())
    assert 10 <= np.sum(alone) < 40
    monkeypatch.setattr("solvers.batch._solve_alone", lambda *_: False)
    with pytest.raises(SolverError, match="not solved"):
        minimize_least_squares_batch(G, b, reg)


@pytest.mark.parametrize("reg", [SquaredL2(1.5), SmoothL2(6.0), L2(6.0)], ids=lambda reg: reg.name)
def test_batches_do_not_depend_on_the_number_of_threads(monkeypatch, reg):
    monkeypatch.setattr("solvers._parallel._SERIAL_FLOPS", 0.0)
    gram, moments = statistics(np.random.default_rng(14), 50, 3, 3)
    moments[7, 0] *= 1e5  # one that needs more work than its neighbours
    answers = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("EQUIPOISE_NUM_THREADS", threads)
        answers.append(minimize_least_squares_batch(gram, moments, reg, 0.05).thetas)
    assert np.array_equal(answers[0], answers[1])
    assert np.array_equal(answers[0], answers[2])
    # The order of the users changes the rounding, which the comparison sees.
    other = minimize_least_squares_batch(gram[:, ::-1], moments[:, ::-1], reg, 0.05).thetas[:, ::-1]
    assert not np.array_equal(answers[0], other)


def test_gaussian_statistics_have_the_law_of_drawn_data():
    """Means and variances of G and b for nested sizes, each within 6 standard errors (false alarms below 1e-6)."""
    rng, theta, R, sizes = np.random.default_rng(11), np.array([1.0, -2.0]), 20_000, (1, 5)
    gram, moments = gaussian_statistics(sizes, theta, R, rng, noise=0.5)
    Q = rng.standard_normal((R, 5, 2))
    b = np.einsum("rid,ri->rd", Q, Q @ theta + 0.5 * rng.standard_normal((R, 5)))
    drawn = [np.einsum("rid,rie->rde", Q[:, :n], Q[:, :n]) for n in sizes]
    pairs = [(gram[:, k], drawn[k]) for k in range(2)] + [
        (moments[:, 1], b),
        (gram[:, 0] * gram[:, 1], drawn[0] * drawn[1]),
    ]
    for ours, theirs in pairs:
        for power in (1, 2):
            x, y = ours**power, theirs**power
            error = np.sqrt((x.var(axis=0) + y.var(axis=0)) / R)
            assert np.all(np.abs(x.mean(axis=0) - y.mean(axis=0)) <= 6 * error)
    wrong = gaussian_statistics(sizes, theta, R, rng, noise=0.6)[1][:, 1]  # the planted falsehood: another noise
    spread = np.sqrt((wrong.var(axis=0) ** 2 + b.var(axis=0) ** 2) * 2 / R)
    assert np.any(np.abs(wrong.var(axis=0) - b.var(axis=0)) > 0.5 * spread)


def test_batches_refuse_bad_input():
    gram, moments = np.ones((1, 2, 1, 1)), np.ones((1, 2, 1))
    with pytest.raises(ShapeError, match="moments"):
        minimize_least_squares_batch(gram, moments[:, :1], SquaredL2(1.0))
    with pytest.raises(AssumptionError, match="nu"):
        minimize_least_squares_batch(gram, moments, SquaredL2(1.0), -0.1)
    with pytest.raises(SolverError, match="singular"):
        minimize_least_squares_batch(np.zeros((1, 2, 1, 1)), moments, SquaredL2(1.0), 0.0)
    flat = np.broadcast_to(np.diag([1.0, 0.0]), (1, 2, 2, 2))  # all models can move together along the second axis
    for reg in (SmoothL2(1.0), L2(1.0)):
        with pytest.raises(SolverError, match="not solved"):
            minimize_least_squares_batch(flat, np.array([[[1.0, 0.0], [3.0, 0.0]]]), reg, 0.0)
        assert minimize_least_squares_batch(flat, np.array([[[1.0, 0.0], [3.0, 0.0]]]), reg, 1e-3).rho.shape == (1, 2)
    with pytest.raises(ShapeError, match="labels"):
        minimize_logistic_batch(np.ones((2, 1)), [1.0, 0.0], [[0]], [[2]], SquaredL2(1.0), 0.1)
    with pytest.raises(ShapeError, match="start"):
        minimize_logistic_batch(np.ones((2, 1)), [1.0, -1.0], [[0]], [[3]], SquaredL2(1.0), 0.1)
    with pytest.raises(AssumptionError, match="nu"):
        minimize_logistic_batch(np.ones((2, 1)), [1.0, -1.0], [[0]], [[2]], SquaredL2(1.0), 0.0)
    with pytest.raises(ShapeError, match="sizes"):
        gaussian_statistics([5, 3], [1.0], 2, np.random.default_rng(0))


def test_a_reported_gradient_as_strong_as_the_regularizer_leaves_a_ray():
    users = [UserDataset([[1.0]], [5.0]), UserDataset.empty(1)]
    problem = Problem(users, LeastSquares(), L2(1.0), 0.5).tilt(1, [1.0])
    solution = minimize(problem)
    assert solution.minimizers is not None
    assert solution.minimizers.kind == "ray"
    outward = solution.minimizers.basis[0]
    values = [problem.value(solution.rho + t * outward, solution.thetas) for t in (0.0, 1.0, 10.0)]
    assert values == [8.5, 8.5, 8.5]
    assert problem.value(solution.rho - 0.1 * outward, solution.thetas) > 8.5  # the other way it is no minimum
    # A slightly weaker gradient has a single minimizer.
    assert minimize(Problem(users, LeastSquares(), L2(1.0), 0.5).tilt(1, [0.999])).minimizers is None


@pytest.mark.parametrize(("lam", "scale"), [(1.0, 10.0), (1e-3, 1e6), (1e-12, 1.0), (1e-300, 1.0)])
def test_a_wrong_tie_is_not_taken_for_rounding(lam, scale):
    """A wrong tie leaves a force of about λ, λ/scale of the gradient at 0: what is accepted must be below it."""
    accepted = large._below_lambda(1e-11, lam, scale)
    assert accepted <= 1e-11
    assert accepted <= 1e-3 * lam / scale or accepted == 2e-16  # nothing is below rounding
