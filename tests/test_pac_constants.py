"""Constants, concentration bounds and sample sizes: exact probabilities where finite, planted errors caught."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from solvers import minimize
from theory import (
    L2,
    AssumptionError,
    BallQueries,
    CubeQueries,
    EmpiricalQueries,
    GaussianQueries,
    LeastSquares,
    Logistic,
    Loss,
    Multinomial,
    Problem,
    Queries,
    RademacherQueries,
    Regularizer,
    ShapeError,
    SmoothL2,
    SphereQueries,
    SquaredL2,
    UserDataset,
    gradient_pac,
    gradient_pac_constants,
    guaranteed_error,
    honest_dataset,
    largest_A,
    paper_constants,
    sample_size,
)
from theory.arrays import Array
from theory.concentration import (
    Spectrum,
    _deviation,
    chernoff_exponent,
    gram_bounds,
    largest_gram_factor,
    least_gram_factor,
    noise_bound,
    trace_bound,
    truncated_second_moment,
)
from theory.expectation import averaged, expectation_error
from theory.pac_constants import (
    PacConstants,
    UserBounds,
    curvature_constant,
    event_probability,
    least_mean_projection,
    reference_loss,
)
from theory.sequential import Outcome, binomial_tail, decide_with_twin, generator_of

QUERIES: list[Queries] = [
    GaussianQueries(3),
    RademacherQueries(3),
    CubeQueries(3),
    SphereQueries(3),
    BallQueries(3),
    EmpiricalQueries(np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 1.0, 1.0], [1.0, 1.0, -1.0]])),
]
NAMES = [queries.name for queries in QUERIES]


# -------------------------------------------------------------------------------------------------------- concentration


def chernoff_failures(shrink: float) -> int:
    """How often an exact binomial tail exceeds δ, when 1 - η is replaced by 1 - shrink·η."""
    failures = 0
    for n in (20, 50, 200):
        for p in (Fraction(1, 4), Fraction(1, 2), Fraction(9, 10)):
            for delta in (0.5, 0.1, 1e-3):
                # Queries 0 and 1 with P(1) = p: the Gram "matrix" is binomial, M = 1 and λ_min = p.
                low = 1.0 - shrink * (1.0 - least_gram_factor(n, float(p), 1.0, 1, delta))
                high = 1.0 + shrink * (largest_gram_factor(n, float(p), 1.0, 1, delta) - 1.0)
                below = 1 - binomial_tail(n, math.ceil(low * n * float(p)), p)
                above = binomial_tail(n, min(n + 1, math.floor(high * n * float(p)) + 1), p)
                failures += (below > delta) + (above > delta)
    return failures


def test_pac_chernoff_factors_have_exact_coverage() -> None:
    assert chernoff_failures(1.0) == 0
    # Planted: deviations 0.6 times as large.
    assert chernoff_failures(0.6) >= 3


def test_pac_noise_bound_has_exact_coverage() -> None:
    def failures(shrink: float) -> int:
        count = 0
        for n in (10, 40, 200):
            for delta in (0.5, 0.1, 1e-2):
                bound = shrink * noise_bound(RademacherQueries(1), n, 1.0, delta)
                # ξ_i Q_i = ±1, so the sum is 2 Bin(n, 1/2) - n.
                k = math.floor((n + bound) / 2.0) + 1
                count += 2 * binomial_tail(n, min(k, n + 1), Fraction(1, 2)) > delta
        return count

    assert failures(1.0) == 0
    assert failures(0.4) >= 1


def test_pac_gaussian_bounds_hold_on_samples() -> None:
    queries, n, delta, n_draws = GaussianQueries(3), 60, 0.05, 400
    rng = generator_of("corollary3_gaussian_bounds")
    low, high = gram_bounds(queries, n, delta)
    trace = trace_bound(queries, n, delta)
    bad = np.zeros(4, dtype=int)
    for _ in range(n_draws):
        Q = queries.sample(n, rng)
        eigenvalues = np.linalg.eigvalsh(Q.T @ Q)
        tight = (math.sqrt(n) - 0.5 * math.sqrt(3.0)) ** 2
        bad += [eigenvalues[0] < low, eigenvalues[-1] > high, np.sum(Q**2) > trace, eigenvalues[0] < tight]
    # P(Bin(400, 0.05) >= 45) < 1e-6 for each of the three; the planted, tighter bound is refuted.
    assert binomial_tail(n_draws, 45, Fraction(1, 20)) < Fraction(1, 10**6)
    assert max(bad[:3]) < 45
    assert bad[3] > 45


def test_pac_chernoff_exponent_is_convex_with_minimum_at_zero() -> None:
    eta = np.linspace(-0.99, 3.0, 300)
    values = np.array([chernoff_exponent(x) for x in eta])
    assert values.min() >= 0.0
    assert np.all(np.diff(values, 2) > 0)
    # k(η) >= η²/2 for η <= 0, and η²/(2 + 2η/3) for η >= 0 (Bernstein); rounding of the terms, which are 6 at most.
    assert np.all(values >= eta**2 / (2.0 + 2.0 * np.maximum(eta, 0.0) / 3.0) - 1e-14)
    # Planted: the lower tail's exponent does not hold for the upper tail.
    assert np.any(values < eta**2 / 2.0 - 1e-14)


def test_pac_deviations_are_exact_to_the_last_bit() -> None:
    # The first η for which k(±η) is what is needed, also where some k(±η) is just that.
    for sign in (1.0, -1.0):
        needed = chernoff_exponent(sign * 0.5)
        eta = _deviation(needed, sign, 1.0)
        assert chernoff_exponent(sign * eta) >= needed > chernoff_exponent(sign * math.nextafter(eta, 0.0))
    # One datum with d/δ = e^1000: k is so large that η is, too.
    far = largest_gram_factor(1, 1.0, 10.0, 1, math.exp(-500.0)) - 1.0
    assert chernoff_exponent(far) == pytest.approx(50_000.0, rel=1e-12)
    # An eigenvalue of 0: nothing is known from below, nor from above.
    assert least_gram_factor(10, 0.0, 1.0, 1, 0.1) == 0.0
    assert largest_gram_factor(10, 0.0, 1.0, 1, 0.1) == math.inf


def test_pac_truncated_moments_are_never_negative() -> None:
    # The three short rows are parallel: λ_min is 0, and rounded it is negative.
    rows = np.array([[0.5, 0.9], [1.0, 1.8], [1.5, 2.7], [9.0, -5.0]])
    rounded = np.linalg.eigvalsh(rows[:3].T @ rows[:3] / 4)[0]
    assert rounded < 0.0 <= truncated_second_moment(EmpiricalQueries(rows), 4.0) < 1e-15


@pytest.mark.parametrize("queries", QUERIES, ids=NAMES)
def test_pac_truncated_moments_agree_with_samples(queries: Queries) -> None:
    rng = generator_of("c18_necessary_and_sufficient")
    Q = queries.sample(40_000, rng)
    for R in (1.2, 1.9, 3.0):
        kept = Q[np.linalg.norm(Q, axis=1) <= R]
        sample = np.linalg.eigvalsh(kept.T @ kept / len(Q))[0]
        exact = truncated_second_moment(queries, R)
        # The entries of QQᵀ are at most R², so their means are known to R²/200 (one σ); six of them.
        assert exact <= sample + 6.0 * 3.0 * R**2 / 200.0
        if isinstance(queries, (GaussianQueries, BallQueries, EmpiricalQueries)):
            assert sample <= exact + 6.0 * 3.0 * R**2 / 200.0


@pytest.mark.parametrize("queries", QUERIES, ids=NAMES)
def test_pac_mean_projection_is_a_lower_bound(queries: Queries) -> None:
    rng = generator_of("lem26_positive_mean")
    Q = queries.sample(40_000, rng)
    u = np.concatenate([rng.standard_normal((100, 3)), np.eye(3), [[1.0, 1.0, 0.0]]])
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    means = np.mean(np.abs(Q @ u.T), axis=0)
    # One σ of the mean is at most √(λ_max)/200.
    spread = 6.0 * math.sqrt(Spectrum.of(queries).high) / 200.0
    assert least_mean_projection(queries) <= means.min() + spread
    if not isinstance(queries, (CubeQueries, EmpiricalQueries)):
        assert least_mean_projection(queries) >= means.min() - spread


# ------------------------------------------------------------------------------------------------------------ constants


@pytest.mark.parametrize("loss", [LeastSquares(), Logistic()], ids=["linear", "logistic"])
@pytest.mark.parametrize("queries", QUERIES, ids=NAMES)
def test_pac_constants_hold_on_large_samples_and_beat_the_paper_s(queries: Queries, loss: Loss) -> None:
    K, B = 1.0, 2.0
    theta = np.array([K, 0.0, 0.0])
    ours = gradient_pac_constants(queries, loss, K, B=B)
    n = 20_000
    data = honest_dataset(queries, theta, n, loss, generator_of("c16_explicit_constant", 1))
    found = gradient_pac(data, theta, loss=loss, nu=0.1, A=ours.A, B=ours.B, alpha=ours.alpha)
    assert found.holds is True
    if math.isfinite(queries.bound) or isinstance(loss, LeastSquares):
        theirs = paper_constants(queries, loss, K, B=B, nu=0.1)
        assert 0.0 < theirs.A < ours.A
        assert theirs.B == pytest.approx(B + 0.2)
    else:
        with pytest.raises(AssumptionError, match="bounded"):
            paper_constants(queries, loss, K)


def test_pac_linear_constant_is_sharp() -> None:
    # A > λ_min(Σ): the event fails for large ℐ whatever B; A < λ_min(Σ): it holds (claim C17).
    queries, theta = RademacherQueries(3), np.array([1.0, 0.0, 0.0])
    data = honest_dataset(queries, theta, 200_000, LeastSquares(), generator_of("c17_sharp_exponent"))
    at: dict[str, Any] = {"loss": LeastSquares(), "nu": 0.0, "B": 1.0, "alpha": 0.6}
    bounds = largest_A(data, theta, **at)
    assert gradient_pac(data, theta, A=0.99, **at).holds is True
    # 200 000^0.6/200 000 = 0.0076 is what B = 1 gains.
    assert gradient_pac(data, theta, A=1.02, **at).holds is False
    assert bounds.low < 1.02


def test_pac_exponent_one_half_fails_with_positive_probability() -> None:
    # ‖p‖ <= B√ℐ has the probability of |N(0, 1)| <= B in d = 1 with Q = ±1, for every ℐ: exactly, at ℐ = 100.
    n = 100
    exact = 1 - 2 * binomial_tail(n, n // 2 + 6, Fraction(1, 2))  # |2k - n| <= 10 = 1·√100
    assert 0.68 < exact < 0.74
    # 2k - n <= 30 < √900·(1 + 1/15): at ℐ = 900 the probability is no closer to 1.
    assert 0.66 < 1 - 2 * binomial_tail(900, 450 + 16, Fraction(1, 2)) < 0.71


@pytest.mark.parametrize("loss", [LeastSquares(), Logistic()], ids=["linear", "logistic"])
def test_pac_event_probability_is_a_lower_bound(loss: Loss) -> None:
    queries, K, n = RademacherQueries(2), 0.5, 400
    A = 0.3 if isinstance(loss, LeastSquares) else 0.05
    constants = PacConstants(A=A, B=1.0, alpha=0.75, radius=math.sqrt(2.0))
    bound = event_probability(queries, loss, n, constants, K)
    assert 0.9 < bound < 1.0
    theta = np.array([K, 0.0])

    def fails(rng: np.random.Generator) -> bool:
        data = honest_dataset(queries, theta, n, loss, rng)
        return gradient_pac(data, theta, loss=loss, nu=0.0, A=A, B=1.0, alpha=0.75).holds is not True

    result, twin = decide_with_twin("lem4_gradient_pac", fails, max(0.05, 1.0 - bound), max_draws=600)
    assert result.outcome is Outcome.ACCEPTED
    assert twin.outcome is Outcome.REFUTED
    assert event_probability(queries, loss, 1, constants, K) == 0.0


def test_pac_event_probability_at_its_corners() -> None:
    at: dict[str, Any] = {"queries": RademacherQueries(2), "loss": LeastSquares(), "K": 0.5}
    constants = PacConstants(A=0.5, B=1.2, alpha=0.75, radius=math.inf)
    # Noise of standard deviation 1 is what is meant where none is named.
    assert event_probability(**at, n=600, constants=constants) == event_probability(
        **at, n=600, constants=constants, noise=1.0
    )
    with pytest.raises(ShapeError, match="n"):
        event_probability(**at, n=0, constants=constants)
    # A = 0 asks for a small gradient alone, of which one datum is enough.
    free = PacConstants(A=0.0, B=30.0, alpha=0.75, radius=math.inf)
    assert event_probability(**at, n=1, constants=free) > 0.9
    # B so small that the gradient is bounded with little or no probability: never with a negative one.
    least = UserBounds.of(RademacherQueries(2), LeastSquares(), 600, 1.0, 0.5, 0.0, 1.0, math.inf).noise / 600**0.75
    found = [
        event_probability(**at, n=600, constants=PacConstants(0.0, least * factor, 0.75, math.inf))
        for factor in (0.9, 1.0 - 1e-9, 1.0 + 1e-9, 1.0 + 1e-3, 1.02)
    ]
    assert found[:2] == [0.0, 0.0]
    assert 0.0 < found[2] < 1e-6 < found[3] < found[4] < 0.5


# --------------------------------------------------------------------------------------------------------- sample sizes


def test_pac_constants_refuse_other_losses_and_regularizers() -> None:
    with pytest.raises(AssumptionError, match="loss"):
        gradient_pac_constants(RademacherQueries(2), Multinomial(3), 1.0)
    other: Any = type("L1", (), {"lam": 1.0, "name": "l1"})()
    with pytest.raises(AssumptionError, match="L1"):
        guaranteed_error(RademacherQueries(2), LeastSquares(), other, [1.0, 0.0], n_data=10**4, delta=0.1)
    with pytest.raises(AssumptionError, match="L1"):
        expectation_error(other, 0.0, 1.0)


def test_pac_error_of_a_user_is_the_root_of_an_increasing_function() -> None:
    # Without data (a + 2ν)t = t for ν = 1/2: t is the pull, and t < 1 must be proved first.
    nothing = UserBounds(gram=0.0, noise=0.25, radius=2.0, norm=0.5)
    assert nothing.error(0.25, 0.5) == 0.5
    assert nothing.error(0.75, 0.5) == math.inf
    assert nothing.error(0.75, math.nextafter(0.5, 1.0)) < 1.0
    # Σδ >= a‖z‖² for ‖z‖ <= 1, where no other bound is named, with a = [σ(3) - σ(1)]/2 per unit of the Gram matrix.
    user = UserBounds(gram=8.0, noise=0.25, radius=2.0, norm=0.5)
    sigma = [1.0 / (1.0 + math.exp(-x)) for x in (1.0, 3.0)]
    assert user.slope() == pytest.approx(4.0 * (sigma[1] - sigma[0]), rel=1e-12)
    assert user.error(user.slope() - 0.25 + 1e-9, 0.0) == math.inf
    assert 0.999 < user.error(user.slope() - 0.25 - 1e-9, 0.0) < 1.0


def test_pac_guaranteed_error_of_users_that_differ() -> None:
    # Norms 1 and 0.3; those of the columns would be 0.6 and 0.85.  All users share the radius that is best for the
    # largest, and each has half of δ.
    models, queries, lam = [[0.6, 0.8], [0.0, 0.3]], GaussianQueries(2), 2.0
    at: dict[str, Any] = {"queries": queries, "loss": Logistic(), "reg": SquaredL2(lam), "theta_honest": models}
    found = guaranteed_error(**at, n_data=400_000, delta=0.1, nu=0.05)
    radius = gradient_pac_constants(queries, Logistic(), 1.0).radius
    assert radius != gradient_pac_constants(queries, Logistic(), 0.3).radius
    users = [UserBounds.of(queries, Logistic(), 400_000, 0.05, K, 0.05, 1.0, radius) for K in (1.0, 0.3)]
    # The mean model is (0.3, 0.55), at squared distance 0.09 + 0.0625 from both.
    excess = 2.0 * lam * 0.1525 + sum(user.noise**2 / (2.0 * user.slope()) for user in users)
    assert found.force == pytest.approx(2.0 * math.sqrt(lam * excess), rel=1e-12)
    assert found.curvature == pytest.approx(users[0].slope(), rel=1e-12)
    assert 0.0 < found.error == max(user.error(found.force, 0.05) for user in users) < 1.0
    # One user of two of whom nothing is known leaves no guarantee: 2ν‖θ†‖ exceeds the slope.
    linear: dict[str, Any] = {"queries": queries, "loss": LeastSquares(), "reg": SquaredL2(lam), "delta": 0.1}
    far = [[1e4, 0.0], [0.0, 0.3]]
    assert guaranteed_error(**linear, theta_honest=far, n_data=1000, nu=0.0).error < math.inf
    assert guaranteed_error(**linear, theta_honest=far, n_data=1000, nu=0.05).error == math.inf
    # Neither slope nor noise: nothing is known.
    assert guaranteed_error(**linear, theta_honest=[0.0, 0.0], n_data=1, noise=0.0).error == math.inf


def test_pac_one_datum_can_suffice() -> None:
    at: dict[str, Any] = {"queries": RademacherQueries(1), "loss": LeastSquares(), "reg": L2(1.0), "noise": 0.0}
    assert sample_size(**at, theta_honest=[0.5], epsilon=1e6, delta=0.99).n_data == 1


def worst_error(
    queries: Queries, loss: Loss, reg: Regularizer, models: Array, sizes: Sequence[int],
    others: Sequence[UserDataset], rng: np.random.Generator,
) -> float:  # fmt: skip
    honest = [honest_dataset(queries, model, n, loss, rng) for model, n in zip(models, sizes, strict=True)]
    solution = minimize(Problem([*honest, *others], loss, reg, nu=0.1))
    return float(np.max(np.linalg.norm(solution.thetas[: len(models)] - models, axis=1)))


MODELS = np.array([[0.5, 0.0], [0.0, -0.5]])


@pytest.mark.parametrize("reg", [SquaredL2(1.0), L2(1.0), SmoothL2(1.0)], ids=["squared_l2", "l2", "smooth_l2"])
@pytest.mark.parametrize("loss", [LeastSquares(), Logistic()], ids=["linear", "logistic"])
def test_pac_sample_size_suffices_with_unequal_data_and_adversaries(loss: Loss, reg: Regularizer) -> None:
    queries = RademacherQueries(2)
    # A large δ takes few draws: δ against 2δ is decided by about a hundred.
    epsilon, delta = (0.2, 0.3) if isinstance(loss, LeastSquares) else (0.5, 0.3)
    answers = -10.0 * np.ones(4) if isinstance(loss, LeastSquares) else -np.ones(4)
    others = [UserDataset(np.tile(np.eye(2), (2, 1)), answers)] * 3
    size = sample_size(queries, loss, reg, MODELS, epsilon=epsilon, delta=delta, nu=0.1, others=others)
    assert size.error <= epsilon

    def fails(rng: np.random.Generator) -> bool:
        n = [size.n_data, int(1.7 * size.n_data)]
        return worst_error(queries, loss, reg, MODELS, n, others, rng) > epsilon

    name = f"c19_sample_size {loss.name} {reg.name}"
    result, twin = decide_with_twin(name, fails, delta, error=1e-6, max_draws=2000)
    assert result.outcome is Outcome.ACCEPTED
    assert twin.outcome is Outcome.REFUTED
    # Planted: a sample size that is a hundredth of it is refuted.
    rng = generator_of(name, 9)
    few = [max(1, size.n_data // 100)] * 2
    errors = [worst_error(queries, loss, reg, MODELS, few, others, rng) for _ in range(20)]
    assert sum(error > epsilon for error in errors) >= 10


def test_pac_sample_size_has_the_claimed_order() -> None:
    for loss in (LeastSquares(), Logistic()):
        for reg in (SquaredL2(1.0), L2(1.0)):
            at: dict[str, Any] = {"queries": RademacherQueries(2), "loss": loss, "reg": reg, "theta_honest": MODELS}
            sizes = [sample_size(**at, epsilon=e, delta=0.1).n_data for e in (1e-2, 1e-3)]
            assert 80 <= sizes[1] / sizes[0] <= 101
            # O(log 1/δ): each factor of 10⁻³ in δ adds the same amount, in the limit.
            steps = np.diff([sample_size(**at, epsilon=1e-2, delta=10.0**-k).n_data for k in (3, 6, 9, 12)])
            assert 0 < steps[2] <= 1.02 * steps[1] <= 1.05 * steps[0]


def test_pac_sample_size_ignores_others_exactly_where_the_force_is_bounded() -> None:
    at: dict[str, Any] = {
        "queries": RademacherQueries(2), "loss": LeastSquares(), "theta_honest": MODELS, "epsilon": 0.1, "delta": 0.1
    }  # fmt: skip
    far = [UserDataset([[1.0, 0.0]], [1e6])]
    for reg in (L2(1.0), SmoothL2(1.0)):
        assert sample_size(**at, reg=reg).n_data == sample_size(**at, reg=reg, others=far).n_data
    # For ℓ2² the data of the others count.
    alone, attacked = (sample_size(**at, reg=SquaredL2(1.0), others=o).n_data for o in ([], far))
    assert attacked > 100 * alone


def test_pac_reference_loss_bounds_the_excess_at_the_minimum() -> None:
    # Δ₀ bounds the loss of the others plus all regularizers at the minimum, for honest models at θ_h†.
    rng = np.random.default_rng(5)
    n_tight = 0
    for _ in range(10):
        others = [UserDataset(rng.standard_normal((3, 2)), 3.0 * rng.standard_normal(3)) for _ in range(2)]
        models, reg, nu = rng.standard_normal((2, 2)), SquaredL2(0.7), 0.1
        problem = Problem([*(UserDataset.empty(2) for _ in models), *others], LeastSquares(), reg, nu=nu)
        pinned = problem.pin(0, models[0]).pin(1, models[1])
        least = 0.0
        for user in others:
            alone = minimize(Problem([user], LeastSquares(), reg, nu=nu))
            least += alone.problem.value(alone.rho, alone.thetas)
        solution = minimize(pinned)
        # A pinned user without data still has its term ν‖θ‖².
        constant = least + nu * float(np.sum(models**2))
        excess = pinned.value(solution.rho, solution.thetas) - constant
        found = reference_loss(models, others, LeastSquares(), reg, nu)
        n_tight += excess > 0.5 * found
        assert excess <= found + 1e-9
    assert n_tight >= 3


@pytest.mark.parametrize("small", [1e-2, 1e-4, 1e-9])
def test_pac_reference_loss_does_not_lose_what_rounding_hides(small: float) -> None:
    # The second query alone is off at ρ₀ = (0, -5): (small·t - 1)²/2 + λ(t + 5)² is at least λ(1 + 5·small)²/(small² +
    # 2λ), and without λ it is 0.  A rank of QᵀQ that is decided in floating point leaves this query out.
    rho, lam = np.array([0.0, -5.0]), 0.75
    others = [UserDataset([[1e6, 0.0], [0.0, small]], [0.0, 1.0])]
    exact = lam * (1.0 + 5.0 * small) ** 2 / (small**2 + 2.0 * lam)
    assert exact <= reference_loss(rho[None], others, LeastSquares(), SquaredL2(lam), 0.0) <= 1.001 * exact
    # The guarantee that rests on it: honest users without noise are pulled all the same.
    queries, reg = RademacherQueries(2), SquaredL2(1.0)
    at: dict[str, Any] = {"n_data": 200, "delta": 0.1, "noise": 0.0, "others": others}
    proved = guaranteed_error(queries, LeastSquares(), reg, np.zeros(2), **at)
    honest = honest_dataset(queries, np.zeros(2), 200, LeastSquares(), np.random.default_rng(0), noise=0.0)
    solution = minimize(Problem([honest, *others], LeastSquares(), reg))
    assert 0.0 < float(np.linalg.norm(solution.thetas[0])) <= proved.error


def test_pac_reference_loss_is_exact_where_queries_are_fewer_than_dimensions() -> None:
    # One query (3, 4) = 5u with answer 1, ρ₀ = (2, 1): (uᵀρ₀·5 - 1)²λ/(25 + 2λ), and inf L = 0.
    models, other = np.array([[2.0, 1.0]]), [UserDataset([[3.0, 4.0]], [1.0])]
    found = reference_loss(models, other, LeastSquares(), SquaredL2(2.0), 0.0)
    assert found == pytest.approx(81.0 * 2.0 / 29.0, rel=2e-9)
    # Without data: ν‖θ‖² against λ‖ρ₀ - θ‖² is νλ/(ν + λ)·‖ρ₀‖².
    for nu, value in [(0.3, 0.3 * 2.0 / 2.3 * 5.0), (0.0, 0.0)]:
        found = reference_loss(models, [UserDataset.empty(2)], LeastSquares(), SquaredL2(2.0), nu)
        assert found == pytest.approx(value, rel=2e-9)
    # Two equal queries whose answers 1 and -1 have no common model: the excess is 0, and no more than inf L is added.
    double = [UserDataset([[1.0, 0.0], [1.0, 0.0]], [1.0, -1.0])]
    assert 0.0 <= reference_loss(np.zeros((1, 2)), double, LeastSquares(), SquaredL2(2.0), 0.0) <= 1.0 + 2e-9


def test_pac_reference_loss_trusts_singular_values_above_a_millionth() -> None:
    # Axes of sizes 1 and s, λ = s²/2, ρ₀ = 0 and answer 1 along the second: λ/(s² + 2λ) = 1/4 where s is trusted, and
    # 1/2 at most where rounding might hide it.
    for s, value in [(1.5e-6, 0.25), (1e-6, 0.5), (0.5e-6, 0.5)]:
        others = [UserDataset([[1.0, 0.0], [0.0, s]], [0.0, 1.0])]
        found = reference_loss(np.zeros((1, 2)), others, LeastSquares(), SquaredL2(0.5 * s * s), 0.0)
        assert value <= found <= value * (1.0 + 2e-9)
    # Nearly parallel queries: the last left singular vector is known to 1e-8 only, and no more is claimed.
    rng = np.random.default_rng(1)
    for _ in range(20):
        first = rng.integers(1, 9, (4, 1)) * 10**8
        Q = np.hstack([first, first + rng.integers(-3, 4, (4, 1))]).astype(float)
        a = rng.integers(-9, 10, 4).astype(float)
        found = reference_loss(np.zeros((1, 2)), [UserDataset(Q, a)], LeastSquares(), SquaredL2(0.5), 0.0)
        assert found >= float(exact_excess(Q, a, Fraction(1, 2)))


def exact_excess(Q: Array, a: Array, lam: Fraction) -> Fraction:
    """min[½‖Qθ - a‖² + λ‖θ‖²] - min ½‖Qθ - a‖² for two columns: half the difference of bᵀH⁻¹b, b = Qᵀa, over both H."""
    q = [[Fraction(float(x)) for x in row] for row in Q]
    b = [sum((row[j] * Fraction(float(x)) for row, x in zip(q, a, strict=True)), Fraction(0)) for j in (0, 1)]
    (h, k), (_, m) = ([sum((row[i] * row[j] for row in q), Fraction(0)) for j in (0, 1)] for i in (0, 1))

    def gain(shift: Fraction) -> Fraction:
        det = (h + shift) * (m + shift) - k * k
        if det == 0:
            return b[0] * b[0] / h  # b is a multiple of the first column of H
        return ((m + shift) * b[0] ** 2 - 2 * k * b[0] * b[1] + (h + shift) * b[1] ** 2) / det

    return (gain(Fraction(0)) - gain(2 * lam)) / 2


def test_pac_sample_sizes_up_to_a_million_millions_are_found() -> None:
    at: dict[str, Any] = {"queries": RademacherQueries(1), "loss": LeastSquares(), "reg": L2(1.0), "delta": 0.1}
    errors = {n: guaranteed_error(**at, theta_honest=[0.0], n_data=n).error for n in (7 * 10**11, 10**12)}
    for n, error in errors.items():
        # Doubling from 1 leaves 2^39 = 5.5·10^11 for more than 10^12.
        found = sample_size(**at, theta_honest=[0.0], epsilon=error)
        assert found.error <= error
        assert 0.99 * n <= found.n_data <= n
    with pytest.raises(AssumptionError, match=r"10\^12"):
        sample_size(**at, theta_honest=[0.0], epsilon=errors[10**12] * (1.0 - 1e-6))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"delta": 0.0}, AssumptionError),
        ({"delta": 1.0}, AssumptionError),
        ({"delta": math.nan}, AssumptionError),
        ({"epsilon": 0.0}, AssumptionError),
        ({"epsilon": 1e-12}, AssumptionError),
        ({"nu": -1.0}, AssumptionError),
        ({"noise": -1.0}, AssumptionError),
        ({"theta_honest": [1.0]}, ShapeError),
        ({"loss": Multinomial(3)}, AssumptionError),
        ({"queries": EmpiricalQueries(np.array([[1.0, 1.0]]))}, AssumptionError),
        ({"others": [UserDataset.empty(3)]}, ShapeError),
    ],
)
def test_pac_sample_size_refuses_bad_input(change: dict[str, Any], error: type[Exception]) -> None:
    arguments: dict[str, Any] = {
        "queries": RademacherQueries(2), "loss": LeastSquares(), "reg": SquaredL2(1.0), "theta_honest": [1.0, 0.0],
        "epsilon": 0.1, "delta": 0.1,
    }  # fmt: skip
    with pytest.raises(error):
        sample_size(**{**arguments, **change})


@pytest.mark.parametrize(
    "change", [{"K": -3.0}, {"nu": -1.0}, {"noise": -1.0}, {"loss": Multinomial(3)}, {"K": math.nan}]
)
def test_pac_event_probability_refuses_bad_input(change: dict[str, Any]) -> None:
    # A negative K would make the slope steeper, a negative ν or noise the gradient smaller than they are.
    arguments: dict[str, Any] = {"loss": Logistic(), "K": 0.5, "nu": 0.0, "noise": 1.0, **change}
    constants = PacConstants(A=0.05, B=1.0, alpha=0.75, radius=math.sqrt(2.0))
    with pytest.raises(AssumptionError, match=next(iter(change))):
        event_probability(RademacherQueries(2), n=400, constants=constants, **arguments)


@pytest.mark.parametrize("queries", [GaussianQueries(1), GaussianQueries(5), BallQueries(2)], ids=["g1", "g5", "b2"])
@pytest.mark.parametrize("K", [0.0, 2.0, 20.0, 100.0])
def test_pac_logistic_constant_is_the_largest_over_all_radii(queries: Queries, K: float) -> None:
    # With radii that do not shrink where K is large, 1 part in 10^18 is left of it at K = 100.
    found = gradient_pac_constants(queries, Logistic(), K).A
    radii = np.geomspace(1e-3, min(queries.bound, 12.0), 800)
    values = [curvature_constant(R, K) * truncated_second_moment(queries, R) for R in radii]
    assert found >= 0.97 * max(values)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 0.3])
def test_pac_constants_refuse_exponents_that_fail(alpha: float) -> None:
    with pytest.raises(AssumptionError, match="alpha"):
        gradient_pac_constants(RademacherQueries(2), LeastSquares(), 1.0, alpha=alpha)


# ---------------------------------------------------------------------------------------- sums, not expectations (C20)


@pytest.mark.parametrize("reg", [SquaredL2(0.7), L2(0.3), L2(9.0), SmoothL2(0.7)])
def test_pac_expectation_losses_keep_an_error_that_sums_remove(reg: Regularizer) -> None:
    honest, other = 1.0, -2.0
    for n in (1, 10, 1000):
        data = UserDataset(np.ones((n, 1)), np.full(n, honest))
        fixed = UserDataset(np.ones((3, 1)), np.full(3, other))
        mean = minimize(Problem([averaged(data), averaged(fixed)], LeastSquares(), reg))
        # Two routes: the theorem's closed form, and the exact minimum.
        assert abs(mean.thetas[0, 0] - honest) == pytest.approx(expectation_error(reg, honest, other), rel=1e-7)
        summed = minimize(Problem([data, averaged(fixed)], LeastSquares(), reg))
        # Planted: for the sum the claim "the error does not fall" is false.  At the minimum ℐ·error = force <= R'.
        assert n * abs(summed.thetas[0, 0] - honest) <= reg.lam * max(1.0, 2.0 * abs(honest - other)) + 1e-9
    assert abs(summed.thetas[0, 0] - honest) < 0.02 * expectation_error(reg, honest, other)


def test_pac_the_error_of_smooth_l2_is_exact_to_the_last_bit() -> None:
    # f = 3/4, x = 3/2 - 3/4: f = λx/√(1 + x²) with √(1 + x²) = λ = 5/4.
    assert expectation_error(SmoothL2(1.25), 2.0, -1.0) == 0.75
    assert expectation_error(SmoothL2(1.25), 2.0, 2.0) == 0.0
    for lam in np.linspace(0.2, 5.0, 25):
        f = expectation_error(SmoothL2(float(lam)), 2.0, -1.0)
        assert f == pytest.approx(lam * (1.5 - f) / math.hypot(1.0, 1.5 - f), rel=1e-14)


def test_pac_guaranteed_error_falls_with_data_and_matches_the_sample_size() -> None:
    reg = SquaredL2(1.0)
    at: dict[str, Any] = {"queries": SphereQueries(2), "loss": Logistic(), "reg": reg, "theta_honest": MODELS}
    errors = [guaranteed_error(**at, n_data=n, delta=0.1).error for n in (10, 10**4, 10**5, 10**6)]
    assert errors[0] == math.inf
    assert errors[1] > errors[2] > errors[3] > 0
    size = sample_size(**at, epsilon=0.2, delta=0.1)
    assert guaranteed_error(**at, n_data=size.n_data, delta=0.1).error <= 0.2
    assert guaranteed_error(**at, n_data=size.n_data - 1, delta=0.1).error > 0.2
