"""Federated descent and gradient attacks: each formula against brute force, each planted falsehood refuted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from proofs_checks.generators import LOSSES, REGULARIZERS, ambivalent_user, random_problem, random_user
from solvers import _kernels as kernels
from solvers import counter_gradient_limit, federated_descent, honest_gradient, local_minima, minimize
from solvers.quadratic import KINDS
from solvers.trajectory import affine_honest_sum
from theory import (
    L2,
    Adam,
    AssumptionError,
    ConstantGradient,
    CounterGradient,
    CounterGradientLocal,
    GradientStep,
    LeastSquares,
    Logistic,
    ModelAttack,
    Multinomial,
    Problem,
    ShapeError,
    SmoothL2,
    SquaredL2,
    UserDataset,
    View,
    admissible_step,
    contract_violations,
    counter_gradient_local_rate,
    counter_gradient_rate,
    gradient_descent_rate,
    local_step,
    model_attack_contraction,
    reported_model_from_gradient,
    smoothness,
    strong_convexity,
)
from theory.dynamics import is_plausible, local_smoothness
from theory.regularizers import norms

PAIRS = [(loss, reg) for loss in LOSSES for reg in REGULARIZERS]
IDS = [f"{loss.name}-{reg.name}" for loss, reg in PAIRS]


# ------------------------------------------------------------------------------------------------------ the attack


def random_view(rng: np.random.Generator, dim: int) -> View:
    eta, before = rng.uniform(0.05, 0.5, 2)
    return View(3, rng.standard_normal(dim), eta, rng.standard_normal(dim), before, 0.5 * rng.standard_normal(dim))


def objective(view: View, g: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Eq. 7, with the estimate of eq. 6 written out."""
    estimate = (view.previous_rho - view.rho) / view.previous_eta - view.previous_report
    return norms(view.rho - view.eta * (estimate + g) - target)


WRONG_REPORTS = {
    "sign of the estimate": lambda v, t, r: r.project((v.rho - t) / v.eta + v.estimated_honest_sum()),
    "sign of the last report": lambda v, t, r: r.project(
        (v.rho - t) / v.eta - (v.previous_rho - v.rho) / v.previous_eta - v.previous_report
    ),
    "rate of the last round": lambda v, t, r: r.project((v.rho - t) / v.previous_eta - v.estimated_honest_sum()),
    "factor 2": lambda v, t, r: r.project(2 * ((v.rho - t) / v.eta - v.estimated_honest_sum())),
    "no estimate": lambda v, t, r: r.project((v.rho - t) / v.eta),
}


def beaten(view: View, report: np.ndarray, target: np.ndarray, reg: Any, rng: np.random.Generator) -> bool:
    """Whether a plausible gradient is found that is better than ``report`` in eq. 7."""
    best = objective(view, report, target)
    for scale in (10.0, 1.0, 0.1, 1e-2, 1e-3):
        tries = reg.project(report + scale * rng.standard_normal((400, report.size)))
        if objective(view, tries, target).min() < best * (1 - 1e-9):
            return True
    return False


@pytest.mark.parametrize("reg", [SquaredL2(0.7), L2(0.7), SmoothL2(0.7)], ids=lambda reg: reg.name)
def test_cga_solves_eq_7(reg: Any, rng: np.random.Generator) -> None:
    wrong = dict.fromkeys(WRONG_REPORTS, False)
    for dim in (1, 2, 5):
        for _ in range(8):
            view, target = random_view(rng, dim), rng.standard_normal(dim)
            report = CounterGradient(target, reg).report(view)
            assert norms(report) <= reg.lam * (1 + 1e-15) or isinstance(reg, SquaredL2)
            assert not beaten(view, report, target, reg, rng)
            for name, rule in WRONG_REPORTS.items():
                wrong[name] |= beaten(view, rule(view, target, reg), target, reg, rng)
    assert all(wrong.values()), wrong


def test_proposition_2_is_the_clipped_h(rng: np.random.Generator) -> None:
    for _ in range(20):
        view, target, lam = random_view(rng, 3), 3 * rng.standard_normal(3), rng.uniform(0.1, 3)
        h = view.previous_report + (view.rho - target) / view.eta - (view.previous_rho - view.rho) / view.previous_eta
        assert CounterGradient(target, SquaredL2(lam)).report(view) == pytest.approx(h, rel=1e-12, abs=1e-12)
        clipped = h * min(1.0, lam / np.linalg.norm(h))
        assert CounterGradient(target, L2(lam)).report(view) == pytest.approx(clipped, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(("loss", "reg_type"), PAIRS, ids=IDS)
def test_the_estimate_is_the_last_honest_sum(loss: Any, reg_type: Any, rng: np.random.Generator) -> None:
    problem = random_problem(rng, loss, reg_type, n_users=3, dim=2)
    seen = []

    @dataclass(frozen=True)
    class Spy:
        inner: Any
        name = "spy"
        needs_gradient_steps = True

        def report(self, view: View) -> np.ndarray:
            seen.append(view.estimated_honest_sum())
            return self.inner.report(view)

    attack = Spy(CounterGradient(rng.standard_normal(problem.dim), problem.reg))
    run = federated_descent(problem, eta=[0.05, 0.02, 0.03, 0.01, 0.04], n_rounds=5, attack=attack, s=1)
    assert np.array_equal(seen[0], np.zeros(problem.dim))
    # The subtraction of two models of size ‖ρ‖ is right to eps‖ρ‖/η.
    tolerance = 1e-14 * (1 + np.abs(run.rho).max()) / 0.01 + 1e-13 * np.abs(run.honest_sums[:-1]).max()
    for t in range(1, 5):
        assert norms(seen[t] - run.honest_sums[t - 1]) <= tolerance
        assert norms(seen[t] - run.honest_sums[t]) > 100 * tolerance


def test_a_regularizer_without_a_gradient_set_is_refused_at_once() -> None:
    """Not in the first round: a class, and an object without ``project``."""
    for reg in (SquaredL2, object(), None):
        for make in (
            lambda reg: CounterGradient([1.0], reg),
            lambda reg: CounterGradientLocal([1.0], reg, 2),
            lambda reg: ModelAttack([1.0], reg),
        ):
            with pytest.raises(ShapeError, match="reg: expected a regularizer"):
                make(reg)


def test_a_report_is_plausible_up_to_the_rounding_of_a_projection() -> None:
    """P/2 + 3 units in the last place of ‖g‖: 3 for P = 1, not 4."""
    for units, plausible in ((3, True), (4, False)):
        assert is_plausible(np.array([2.0 * (1.0 + units * 2.0**-52)]), L2(2.0)) is plausible
    for units, plausible in ((8, True), (9, False)):
        g = np.zeros(11)
        g[3] = -2.0 * (1.0 + units * 2.0**-52)
        assert is_plausible(g, SmoothL2(2.0)) is plausible


def test_a_model_near_the_boundary_is_no_farther_than_asked_or_needed() -> None:
    """‖g‖ = 3 of λ = 5: the exact model is 3/4 away; less is kept, and more is not used, however much more."""
    reg = SmoothL2(5.0)
    for distance, expected in ((0.0, 0.0), (0.5, 0.5), (0.8, 0.75), (2.0, 0.75), (100.0, 0.75)):
        found = reported_model_from_gradient([1.0], [3.0], reg, distance=distance)
        assert found == pytest.approx(np.array([1.0 - expected]), abs=1e-15)
    with pytest.raises(AssumptionError, match="'quartic'"):
        reported_model_from_gradient([1.0], [3.0], Quartic())
    # A distance of another sign would report the opposite of g.
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(AssumptionError, match="distance"):
            reported_model_from_gradient([1.0], [3.0], reg, distance=bad)


# -------------------------------------------------------------------------------------------------- the transition


@pytest.mark.parametrize(("loss", "reg_type"), PAIRS, ids=IDS)
def test_each_round_is_the_papers(loss: Any, reg_type: Any, rng: np.random.Generator) -> None:
    problem = random_problem(rng, loss, reg_type, n_users=4, dim=2)
    rates = rng.uniform(0.01, 0.1, 6)
    target = rng.standard_normal(problem.dim)
    run = federated_descent(problem, eta=rates, n_rounds=6, attack=CounterGradient(target, problem.reg), s=2)
    assert run.rho.shape == (7, problem.dim)
    for t in range(6):
        F = honest_gradient(problem, 2, run.rho[t])
        scale = 1e-9 * max(1.0, norms(F))  # local_minima solves to 1e-10
        assert norms(run.honest_sums[t] - F) <= scale
        step = run.rho[t] - rates[t] * (F + run.reports[t])
        assert norms(run.rho[t + 1] - step) <= rates[t] * scale
        # The server takes the sum; with the mean of the reports the model would be elsewhere.
        mean = run.rho[t] - rates[t] * (F + run.reports[t]) / problem.n_users
        assert norms(run.rho[t + 1] - mean) > 1e-6


def test_honest_descent_finds_the_minimum(rng: np.random.Generator) -> None:
    problem = random_problem(rng, Logistic(), SquaredL2, n_users=3, dim=2)
    run = federated_descent(problem, eta=0.15, n_rounds=4000, stop=1e-15)
    solution = minimize(problem)
    assert norms(run.final - solution.rho) <= 1e-12 + solution.certificate.distance_bound
    assert np.isnan(run.reports).all()
    assert run.thetas == pytest.approx(solution.thetas, abs=1e-10)


@pytest.mark.parametrize("lam", [1e-3, 1.0, 1e4])
def test_affine_sum_is_the_gradient_of_e(lam: float, rng: np.random.Generator) -> None:
    users = [random_user(rng, LeastSquares(), n, 3) for n in (0, 1, 8)]
    problem = Problem(users, LeastSquares(), SquaredL2(lam), 0.1).pin(0, rng.standard_normal(3))
    F = affine_honest_sum(problem)

    def e(rho: np.ndarray) -> float:
        return problem.value(rho, local_minima(problem, rho)[0])

    rho = rng.standard_normal(3)
    differences = [(e(rho + 1e-4 * u) - e(rho - 1e-4 * u)) / 2e-4 for u in np.eye(3)]
    # e is quadratic: the central difference is exact up to the rounding of e.
    assert F(rho) == pytest.approx(np.array(differences), abs=1e-10 * max(1.0, abs(e(rho)) * 10))
    assert F.smoothness() == pytest.approx(np.linalg.eigvalsh(F.M).max())


@pytest.mark.parametrize("reg_type", REGULARIZERS, ids=lambda reg: reg.name)
@pytest.mark.parametrize("loss", [Logistic(), Multinomial(2), Multinomial(4)], ids=["logistic", "two", "four"])
def test_followed_minima_kernel(loss: Any, reg_type: Any, rng: np.random.Generator) -> None:
    """The kernel against ``local_minima``: empty users, duplicated and zero queries, starts near and far, ν = 0."""
    for lam, nu, scale in ((1.0, 0.1, 1.0), (1e-2, 1e-3, 1.0), (50.0, 1.0, 3.0), (1.0, 0.0, 1.0)):
        users = [ambivalent_user(rng, loss, scale * rng.standard_normal((n, 2))) for n in (1, 4, 9)]
        users += [UserDataset.empty(2)] if nu > 0 else []
        users += [ambivalent_user(rng, loss, np.vstack([np.zeros((2, 2)), np.ones((2, 2)), np.eye(2)]))]
        problem = Problem(users, loss, reg_type(lam), nu)
        labels = np.ascontiguousarray(problem.stack.labels.reshape(-1, loss.n_outputs))
        for start in (0.0, 5.0):
            rho = rng.standard_normal(problem.dim)
            expected, reports = local_minima(problem, rho)
            thetas = np.tile(rho, (problem.n_users, 1)) + start * rng.standard_normal((problem.n_users, problem.dim))
            pulls, sigmas = np.zeros_like(thetas), np.zeros(problem.n_users)
            status = kernels.followed_minima(
                problem.stack.Q, labels, problem.stack.start, problem.stack.stop, 2 * nu, rho, lam, KINDS[reg_type],
                thetas, pulls, sigmas, 0, problem.n_users,
            )  # fmt: skip
            if status == 0 and nu >= 0.1 and start == 0.0:
                # A kernel that took ν for 2ν would be seen; so would 2λ for λ (under plain ℓ2 only if nobody is tied).
                doubled = Problem(users, loss, reg_type(lam), 2 * nu), Problem(users, loss, reg_type(2 * lam), nu)
                for wrong in doubled[: 1 if reg_type is L2 else 2]:
                    assert norms(local_minima(wrong, rho)[1] - reports).max() > 1e-5
            if status != 0:
                assert nu == 0.0  # B_n singular: the caller then takes local_minima
                continue
            assert norms(pulls - reports).max() <= 1e-9 * max(lam, norms(reports).max())
            # The gap of a model is at most that of the gradients over the curvature.
            if nu > 0:
                assert norms(thetas - expected).max() <= 1e-9 * max(lam, norms(reports).max()) / (2 * nu)


@pytest.mark.parametrize(("loss", "reg_type"), PAIRS, ids=IDS)
def test_one_local_step_a_round(loss: Any, reg_type: Any, rng: np.random.Generator) -> None:
    problem = random_problem(rng, loss, reg_type, n_users=3, dim=2).pin(1, rng.standard_normal(2 * loss.n_outputs))
    g, rho = 0.1 * rng.standard_normal(problem.dim), rng.standard_normal(problem.dim)
    run = federated_descent(
        problem, eta=0.05, n_rounds=4, attack=ConstantGradient(g), s=0, rho0=rho, local="step", local_eta=0.02
    )
    others = problem.without(0)
    thetas = np.tile(rho, (2, 1))
    thetas[0] = others.pinned[0]
    for t in range(4):
        thetas = local_step(others, rho, thetas, 0.02)
        rho = rho - 0.05 * (others.reg.gradient(rho, thetas).sum(axis=0) + g)
        assert run.rho[t + 1] == pytest.approx(rho, rel=1e-12, abs=1e-13)
    assert run.thetas == pytest.approx(thetas, rel=1e-12, abs=1e-13)
    assert not np.allclose(
        federated_descent(problem, eta=0.05, n_rounds=4, attack=ConstantGradient(g), s=0).rho, run.rho
    )


def test_an_implausible_report_is_ignored_or_projected(rng: np.random.Generator) -> None:
    problem = random_problem(rng, LeastSquares(), L2, n_users=3, dim=2)
    g = np.array([30.0, 40.0])
    ignored = federated_descent(problem, eta=0.01, n_rounds=3, attack=ConstantGradient(g), s=0)
    nothing = federated_descent(problem, eta=0.01, n_rounds=3, attack=ConstantGradient([0.0, 0.0]), s=0)
    assert ignored.ignored == 3
    assert nothing.ignored == 0
    assert np.array_equal(ignored.rho, nothing.rho)
    assert np.array_equal(ignored.reports[:-1], np.zeros((3, 2)))
    projected = federated_descent(problem, eta=0.01, n_rounds=3, attack=ConstantGradient(g), s=0, implausible="project")
    assert projected.reports[0] == pytest.approx([0.6, 0.8])
    assert not np.allclose(projected.rho, nothing.rho)


def test_thinning_stopping_and_divergence(rng: np.random.Generator) -> None:
    problem = random_problem(rng, LeastSquares(), SquaredL2, n_users=3, dim=2)
    attack = CounterGradient([3.0, 1.0], problem.reg)
    full = federated_descent(problem, eta=0.02, n_rounds=50, attack=attack, s=0)
    thin = federated_descent(problem, eta=0.02, n_rounds=50, attack=attack, s=0, keep_every=7)
    assert thin.rounds.tolist() == [0, 7, 14, 21, 28, 35, 42, 49, 50]
    assert np.array_equal(thin.rho, full.rho[thin.rounds])
    assert np.array_equal(thin.reports[:-1], full.reports[thin.rounds[:-1]])
    stopped = federated_descent(problem, eta=0.02, n_rounds=5000, attack=attack, s=0, stop=1e-14)
    assert stopped.rounds[-1] < 200
    assert stopped.distance_to([3.0, 1.0])[-1] < 1e-13
    assert stopped.is_admissible
    wild = federated_descent(problem, eta=20 * full.step_limit, n_rounds=5000, attack=attack, s=0)
    assert wild.diverged
    assert not wild.is_admissible
    assert np.isfinite(wild.rho).all()


def test_a_round_of_least_squares_is_one_product(rng: np.random.Generator) -> None:
    """N = 100, d = 50: F is one d × d product a round, so 10,000 rounds take seconds on any machine."""
    problem = random_problem(rng, LeastSquares(), SquaredL2, n_users=100, dim=50, n_data=60)
    target = rng.standard_normal(50)
    F = affine_honest_sum(problem.without(0))
    assert F.M.shape == (50, 50)
    eta = 0.1 * admissible_step(F.smoothness())
    run = federated_descent(problem, eta=eta, n_rounds=500, attack=CounterGradient(target, problem.reg), s=0)
    assert run.distance_to(target)[-1] <= 1e-11 * norms(target)


@dataclass(frozen=True)
class Huber:
    """A loss of one's own: |m - a| for large residuals, smooth for small ones."""

    name = "huber"
    n_outputs = 1

    def encode(self, A: Any, name: str) -> np.ndarray:
        return np.asarray(A, dtype=float)

    def phi(self, m: np.ndarray, a: np.ndarray) -> np.ndarray:
        return np.hypot(1.0, m - a)

    def dphi(self, m: np.ndarray, a: np.ndarray) -> np.ndarray:
        return (m - a) / np.hypot(1.0, m - a)

    def d2phi(self, m: np.ndarray, a: np.ndarray) -> np.ndarray:
        return np.hypot(1.0, m - a) ** -3


@dataclass(frozen=True)
class Quartic:
    """A regularizer of one's own: ‖ρ - θ‖² + Σ(ρ - θ)⁴/4, whose gradients are all of ℝ^P."""

    name = "quartic"

    def value(self, rho: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return np.sum((rho - theta) ** 2 + (rho - theta) ** 4 / 4, axis=-1)

    def gradient(self, rho: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return 2 * (rho - theta) + (rho - theta) ** 3

    def project(self, g: np.ndarray) -> np.ndarray:
        return np.array(g, dtype=float)


def test_a_loss_and_a_regularizer_of_ones_own(rng: np.random.Generator) -> None:
    users = [random_user(rng, LeastSquares(), 6, 2) for _ in range(3)]
    target = np.array([2.0, -1.0])
    problem = Problem(users, Huber(), SquaredL2(0.5), 0.1)
    attack = CounterGradient(target, problem.reg)
    step = 0.1 * admissible_step(smoothness(problem, 0))  # data-free: 2λ(N - 1)
    assert step == pytest.approx(0.1 / (2 * 2 * 0.5 * 2))
    run = federated_descent(problem, eta=step, n_rounds=60, attack=attack, s=0)
    assert norms(run.final - target) < 1e-12
    assert run.is_admissible
    own = Problem(users, LeastSquares(), Quartic(), 0.1)
    run = federated_descent(
        own, eta=0.01, n_rounds=4000, attack=CounterGradient(target, Quartic()), s=0, local="step", keep_every=100
    )
    assert norms(run.final - target) < 1e-9
    assert not run.is_admissible  # nothing is known of the step
    with pytest.raises(AssumptionError, match="local='step'"):
        federated_descent(own, eta=0.01, n_rounds=4, attack=attack, s=0)


def test_any_schedule_below_the_step_converges(rng: np.random.Generator) -> None:
    """C2: against ℓ2² the rates may vary as they like below 1/(2L); at the same rates without η_{t-1} it fails."""
    problem = quadratic([0.9, 0.5])
    rates = rng.choice([0.02, 0.1, 0.3, 0.49], 600) / 0.9
    target = np.array([2.0, -1.0])
    run = federated_descent(problem, eta=rates, n_rounds=600, attack=CounterGradient(target, problem.reg), s=0)
    assert run.distance_to(target)[-1] < 1e-12

    @dataclass(frozen=True)
    class Forgetful:
        inner: CounterGradient
        name = "forgetful"
        needs_gradient_steps = True

        def report(self, view: View) -> np.ndarray:
            past = (view.previous_rho, view.eta, view.previous_report)
            return self.inner.report(View(view.round, view.rho, view.eta, *past))

    wrong = Forgetful(CounterGradient(target, problem.reg))
    assert federated_descent(problem, eta=rates, n_rounds=600, attack=wrong, s=0).distance_to(target)[-1] > 1e-3


# ------------------------------------------------------------------------------------------------ steps and rates


def quadratic(eigenvalues: list[float], lam: float = 0.5, nu: float = 0.1) -> Problem:
    """One honest user with F of known eigenvalues m: (1/μ + 1/(2λ))⁻¹ with μ = q² + 2ν."""
    m = np.array(eigenvalues)
    mu = 1.0 / (1.0 / m - 1.0 / (2 * lam))
    Q = np.diag(np.sqrt(mu - 2 * nu))
    return Problem([UserDataset.empty(len(m)), UserDataset(Q, np.ones(len(m)))], LeastSquares(), SquaredL2(lam), nu)


def test_the_step_of_cga_is_sharp() -> None:
    """C2: ηL = 0.49 converges, 0.51 does not, at the rate that theory says; 1/3 is not the limit."""
    problem = quadratic([0.9, 0.5])
    assert affine_honest_sum(problem.without(0)).smoothness() == pytest.approx(0.9, rel=1e-12)
    target = np.array([2.0, -1.0])
    for q, rounds in ((1 / 3, 200), (0.49, 400), (0.51, 400)):
        run = federated_descent(problem, eta=q / 0.9, n_rounds=rounds, attack=CounterGradient(target, problem.reg), s=0)
        distance = run.distance_to(target)
        rate = counter_gradient_rate(q)
        late = distance[-1] / distance[rounds // 2]
        if distance[-1] > 1e-12:
            # The worst mode dominates: (rate + other root)^k corrections have died out.
            assert late ** (2 / rounds) == pytest.approx(rate, rel=1e-3)
        assert (distance[-1] < 0.1 * distance[0]) == (q < 0.5)
        assert run.is_admissible == (q < 0.5)
    # Falsehoods: other rates are off by more than the tolerance.
    assert abs(0.49 - counter_gradient_rate(0.49)) > 0.01
    assert abs(math.sqrt(7) / 3 - counter_gradient_rate(1 / 3)) > 0.05  # Appendix H proves √7/3, an upper bound


def test_the_step_of_the_local_variant() -> None:
    """C5: 2ηL + a < 1, and the mean of the local models reaches the target."""
    problem = quadratic([0.9, 0.5])
    a = 0.9 / (2 * 0.5 * 1)
    target = np.array([2.0, -1.0])
    threshold = (1 - a) / (2 * 0.9)
    attack = CounterGradientLocal(target, problem.reg, 2)
    good = federated_descent(problem, eta=0.9 * threshold, n_rounds=6000, attack=attack, s=0)
    bad = federated_descent(problem, eta=1.05 * threshold, n_rounds=6000, attack=attack, s=0)
    assert norms(good.thetas.mean(axis=0) - target) < 1e-9
    assert norms(good.final - target) > 0.1
    assert norms(bad.thetas.mean(axis=0) - target) > 1e3
    q = 0.9 * threshold * 0.9
    changes = norms(np.diff(good.rho, axis=0))
    assert (changes[1000] / changes[500]) ** (1 / 500) == pytest.approx(counter_gradient_local_rate(q, a), rel=1e-3)


def test_constant_reports_converge_below_two_over_L() -> None:
    problem = quadratic([0.9, 0.5])
    g = np.array([0.3, -0.2])
    limit = minimize(problem.tilt(0, g)).rho
    for eta, converges in ((1.9 / 0.9, True), (2.1 / 0.9, False)):
        run = federated_descent(problem, eta=eta, n_rounds=300, attack=ConstantGradient(g), s=0)
        rate = gradient_descent_rate(eta, 0.5, 0.9)
        assert (run.distance_to(limit)[-1] < 1e-6) == converges == (rate < 1)
        late = run.distance_to(limit)[250:270] if not converges else run.distance_to(limit)[60:80]
        assert (late[-1] / late[0]) ** (1 / 19) == pytest.approx(rate, rel=1e-6)


@pytest.mark.parametrize(("loss", "reg_type"), PAIRS, ids=IDS)
def test_smoothness_and_convexity_of_e(loss: Any, reg_type: Any, rng: np.random.Generator) -> None:
    """C3 and the modulus of C8, on pairs of points; near the constants for data that make them sharp."""
    largest, least = 0.0, math.inf
    for trial in range(12):
        lam = 10.0 ** rng.uniform(-1, 3)
        if trial % 3 == 0:  # one direction, answers at the largest curvature
            labels = np.arange(8) % 2
            answers = 2.0 * labels - 1.0 if loss.name == "logistic" else labels
            users = [UserDataset(np.full((8, 1), 3.0), answers)] * 3
            problem = Problem(users, loss, reg_type(lam), 1e-4)
        else:
            problem = random_problem(rng, loss, reg_type, n_users=3, dim=2, lam=lam)
        L, mu = smoothness(problem, 0), strong_convexity(problem, 0)
        for size in (1e-3, 1.0):
            base = size * rng.standard_normal(problem.dim) * (0 if trial % 3 == 0 else 1)
            step = 1e-3 * rng.standard_normal(problem.dim)
            if loss.n_outputs == 3 and trial % 3 == 0:
                step = 1e-3 * np.array([1.0, -1.0, 0.0])
            change = honest_gradient(problem, 0, base + step) - honest_gradient(problem, 0, base)
            largest = max(largest, norms(change) / (L * norms(step)))
            assert norms(change) <= L * norms(step) * (1 + 1e-6)
            if mu > 0:
                least = min(least, float(change @ step) / (mu * float(step @ step)))
                assert float(change @ step) >= mu * float(step @ step) * (1 - 1e-6)
    # Half the constant (a forgotten factor 2) would have been refuted.
    assert largest > 0.55
    if reg_type is SquaredL2 and loss.name == "least_squares":
        assert least < 1.5


def test_short_queries_give_a_small_constant() -> None:
    """2ν + φ''‖Q‖² with ‖Q‖ = 1/2, and 2ν where there is no query but 0, also for a loss without a known φ''."""
    short, zero = UserDataset([[0.0, 0.5]], [1.0]), UserDataset(np.zeros((3, 2)), np.ones(3))
    users = [short, zero, UserDataset.empty(2)]
    assert local_smoothness(Problem(users, LeastSquares(), L2(1.0), nu=0.25)).tolist() == [0.75, 0.5, 0.5]
    assert local_smoothness(Problem(users, Logistic(), L2(1.0), nu=0.25)).tolist() == [0.5625, 0.5, 0.5]
    assert local_smoothness(Problem(users, Huber(), L2(1.0), nu=0.25)).tolist() == [math.inf, 0.5, 0.5]


def test_the_contraction_of_a_model_attack(rng: np.random.Generator) -> None:
    """C8: ρ* moves by at most c < 1 times what the model moves; with a c 2 % smaller it is refuted."""
    closest = 0.0
    for trial in range(30):
        users = [UserDataset(np.eye(2) * rng.uniform(0.1, 2), rng.standard_normal(2))] * 2
        problem = Problem([UserDataset.empty(2), *users], LeastSquares(), SquaredL2(10.0 ** rng.uniform(-1, 1)), 0.1)
        if trial % 2:
            problem = random_problem(rng, Logistic(), SquaredL2, n_users=3, dim=2)
        c = model_attack_contraction(problem, 0)
        a, b = rng.standard_normal((2, 2))
        moved = minimize(problem.pin(0, a)).rho - minimize(problem.pin(0, b)).rho
        assert norms(moved) <= c * norms(a - b) * (1 + 1e-9)
        assert c < 1
        closest = max(closest, norms(moved) / (c * norms(a - b)))
    assert closest > 0.98
    with pytest.raises(AssumptionError, match="regularizer l2"):
        model_attack_contraction(random_problem(rng, Logistic(), L2, n_users=3, dim=2), 0)


# ---------------------------------------------------------------------------------------------- predicted limits


@pytest.mark.parametrize("reg_type", [L2, SmoothL2], ids=lambda reg: reg.name)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_the_limit_of_cga_is_predicted(loss: Any, reg_type: Any, rng: np.random.Generator) -> None:
    """C1: against ℓ2 and smooth-ℓ2 the run ends where one convex problem says, whatever the step and start."""
    problem = random_problem(rng, loss, reg_type, n_users=5, dim=2, lam=2.0, nu=0.3)
    target = 20.0 * rng.standard_normal(problem.dim)
    limit = counter_gradient_limit(problem, 0, target)
    assert not limit.reaches_target
    assert limit.distance_bound < 1e-9
    assert norms(limit.gradient) == pytest.approx(problem.reg.lam, rel=1e-9)
    assert norms(limit.gradient + honest_gradient(problem, 0, limit.rho)) < 1e-9
    step = admissible_step(smoothness(problem, 0))
    for fraction, start in ((0.95, np.zeros(problem.dim)), (0.5, target)):
        run = federated_descent(
            problem,
            eta=fraction * step,
            n_rounds=20_000,
            attack=CounterGradient(target, problem.reg),
            s=0,
            rho0=start,
            stop=1e-13,
            keep_every=100,
        )
        assert norms(run.final - limit.rho) <= 1e-8 * max(1.0, norms(limit.rho))
    # A limit predicted with twice the force (a factor 2 in ψ), or with none, is somewhere else.
    doubled = counter_gradient_limit(Problem(problem.users, loss, reg_type(4.0), 0.3), 0, target).rho
    assert norms(doubled - limit.rho) > 1e-3
    assert norms(minimize(problem.without(0)).rho - limit.rho) > 1e-3


@pytest.mark.parametrize("reg_type", REGULARIZERS, ids=lambda reg: reg.name)
def test_a_target_within_reach_is_the_limit(reg_type: Any, rng: np.random.Generator) -> None:
    problem = random_problem(rng, LeastSquares(), reg_type, n_users=4, dim=2)
    target = minimize(problem.without(0)).rho + 0.02
    assert norms(honest_gradient(problem, 0, target)) < problem.reg.lam
    limit = counter_gradient_limit(problem, 0, target)
    assert limit.reaches_target
    assert np.array_equal(limit.rho, target)


# ------------------------------------------------------------------------------------------------------- contract


class Good:
    name = "good"
    needs_gradient_steps = False

    def report(self, view: View) -> np.ndarray:
        return 0.5 * view.rho / (1 + norms(view.rho))


def test_an_attack_of_ones_own_meets_the_contract(rng: np.random.Generator) -> None:
    assert contract_violations(Good(), dim=3, reg=L2(1.0), rng=rng) == []
    for attack in (
        CounterGradient([1.0, 2.0, 3.0], L2(1.0)),
        ModelAttack([1.0, 2.0, 3.0], L2(1.0)),
        ConstantGradient([0.1, 0.2, 0.3]),
    ):
        assert contract_violations(attack, dim=3, reg=L2(1.0), rng=rng) == []
    assert contract_violations(CounterGradientLocal([1.0], SquaredL2(1.0), 3), dim=1, reg=SquaredL2(1.0), rng=rng) == []
    problem = random_problem(rng, LeastSquares(), L2, n_users=3, dim=3)
    assert federated_descent(problem, eta=0.01, n_rounds=3, attack=Good(), s=0).ignored == 0


def mutates(self: Any, view: View) -> np.ndarray:
    view.rho.flags.writeable = True
    view.rho[0] = 0.0
    return np.zeros(3)


BAD_REPORTS = {
    "not a finite vector": lambda self, view: np.zeros(2),
    "finite vector": lambda self, view: np.full(3, np.nan),
    "differently": lambda self, view: 0.1 * np.random.default_rng(id(view)).standard_normal(3),
    "not plausible": lambda self, view: np.full(3, 9.0),
    "of shape (3,): report": lambda self, view: [[0.0], [0.0, 0.0], [0.0]],
    "found dtype": lambda self, view: ["a", "b", "c"],
    "fails with TypeError": lambda self, view: np.zeros(3) - view.previous_report,
    "changes what it is shown": mutates,
}


@pytest.mark.parametrize("complaint", BAD_REPORTS)
def test_a_breach_of_the_contract_is_named(complaint: str, rng: np.random.Generator) -> None:
    bad = type("Bad", (Good,), {"report": BAD_REPORTS[complaint]})()
    found = contract_violations(bad, dim=3, reg=L2(1.0), rng=rng)
    assert any(complaint in line for line in found), found


def test_an_object_that_is_no_attack_is_named(rng: np.random.Generator) -> None:
    assert "lacks" in contract_violations(object(), dim=3, reg=L2(1.0), rng=rng)[0]


# --------------------------------------------------------------------------------------------------------- errors


def test_cga_against_another_server_is_refused(rng: np.random.Generator) -> None:
    problem = random_problem(rng, LeastSquares(), SquaredL2, n_users=3, dim=2)
    cga = CounterGradient([1.0, 1.0], problem.reg)
    with pytest.raises(AssumptionError, match="plain gradient steps only"):
        federated_descent(problem, eta=0.1, n_rounds=2, attack=cga, s=0, server=Adam())
    run = federated_descent(problem, eta=0.1, n_rounds=2, attack=ConstantGradient([0.1, 0.1]), s=0, server=Adam())
    plain = federated_descent(problem, eta=0.1, n_rounds=2, attack=ConstantGradient([0.1, 0.1]), s=0)
    assert np.abs(run.rho[1]) == pytest.approx(0.1, rel=1e-6)  # Adam's first step has the length of the rate
    assert not np.allclose(run.rho, plain.rho)
    # A model attack presumes no rule of the server either: it only reports a model, as honest users do.
    models = ModelAttack([1.0, 1.0], problem.reg)
    assert federated_descent(problem, eta=0.1, n_rounds=2, attack=models, s=0, server=Adam()).ignored == 0
    explicit = federated_descent(problem, eta=0.1, n_rounds=2, attack=cga, s=0, server=GradientStep())
    assert np.array_equal(explicit.rho, federated_descent(problem, eta=0.1, n_rounds=2, attack=cga, s=0).rho)


LIST_REPORT = type("Bad", (Good,), {"report": lambda self, view: [1.0]})()

BAD_CALLS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "attacker out of range": ({"s": 3}, ShapeError, "s: expected an integer from 0 to 2"),
    "no attacker": ({"s": None}, ShapeError, "index of the attacker"),
    "attacker without attack": ({"attack": None}, ShapeError, "attack"),
    "a class for an attack": ({"attack": CounterGradient}, ShapeError, "attack"),
    "target of the wrong size": ({"attack": CounterGradient([1.0], SquaredL2(1.0))}, ShapeError, "attack.target"),
    "rate 0": ({"eta": 0.0}, AssumptionError, "eta"),
    "rate NaN": ({"eta": math.nan}, AssumptionError, "eta"),
    "too few rates": ({"eta": [0.1]}, ShapeError, "a rate for each of 2 rounds"),
    "a negative rate": ({"eta": [0.1, -0.1]}, AssumptionError, "rate"),
    "rounds": ({"n_rounds": -1}, ShapeError, "n_rounds"),
    "local": ({"local": "newton"}, ShapeError, "local"),
    "local rate": ({"local_eta": 0.1}, ShapeError, "local_eta"),
    "implausible": ({"implausible": "clip"}, ShapeError, "implausible"),
    "start": ({"rho0": [1.0]}, ShapeError, "rho0"),
    "server": ({"server": "adam"}, ShapeError, "server"),
    "report of the wrong shape": (
        {"attack": LIST_REPORT},
        ShapeError,
        "report",
    ),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_calls_name_the_argument(name: str, rng: np.random.Generator) -> None:
    problem = random_problem(rng, LeastSquares(), SquaredL2, n_users=3, dim=2)
    good = {"eta": 0.1, "n_rounds": 2, "attack": CounterGradient([1.0, 1.0], problem.reg), "s": 0}
    federated_descent(problem, **good)
    change, error, text = BAD_CALLS[name]
    with pytest.raises(error, match=text):
        federated_descent(problem, **{**good, **change})


def test_the_local_variant_needs_squared_l2() -> None:
    with pytest.raises(AssumptionError, match="ℓ2²"):
        CounterGradientLocal([1.0], L2(1.0), 3)
