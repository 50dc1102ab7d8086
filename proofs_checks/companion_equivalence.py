r"""Further statements on the equivalence: C7 and C8."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from itertools import product

import numpy as np
import sympy as sp

from proofs_checks.b_equivalence import (
    model_for_a_gradient_l2,
    model_for_a_gradient_smooth,
    model_for_a_gradient_squared,
)
from proofs_checks.registry import Evidence, Tally, at_most, check
from proofs_checks.search import is_sum_of_squares, vanishes
from solvers import honest_gradient
from theory import LeastSquares, Problem, SmoothL2, UserDataset

SMALL = [Fraction(1, 4), Fraction(1), Fraction(7, 2)]


@check(
    "c7_preimage",
    part="squared_l2",
    method="symbolic",
    falsehoods={"one_lambda": {"two": 1}, "other_sign": {"sign": 1}},
)
def preimage_squared(*, two: Fraction | int = 2, sign: int = -1) -> Evidence:
    """∇_ρR(ρ, ρ-g/(2λ)) = g for ℓ2², exactly; no ν is needed."""
    return model_for_a_gradient_squared(two=two, sign=sign)


@check(
    "c7_preimage",
    part="smooth_l2",
    method="symbolic",
    falsehoods={"as_for_l2_squared": {"scaled": False}, "boundary_is_reached": {"boundary_exact": True}},
)
def preimage_smooth(*, scaled: bool = True, boundary_exact: bool = False) -> Evidence:
    """∇_ρR(ρ, ρ-g/√(λ²-‖g‖²)) = g for smooth-ℓ2, ‖g‖ < λ; on the boundary a model at distance r errs by less than
    λ/(2r²).
    """
    return model_for_a_gradient_smooth(scaled=scaled, boundary_exact=boundary_exact)


@check(
    "c7_preimage",
    part="l2",
    method="certified",
    falsehoods={"beyond_lambda": {"reach": Fraction(2)}, "model_elsewhere": {"shift": Fraction(1, 4)}},
)
def preimage_l2(*, reach: Fraction | int = 1, shift: Fraction | int = 0) -> Evidence:
    """Every g with ‖g‖ ≤ λ is a subgradient of R(·, ρ) at ρ for ℓ2."""
    return model_for_a_gradient_l2(reach=reach, shift=shift)


@check(
    "c8_without_compactness",
    method="class",
    falsehoods={"half": {"factor": Fraction(1, 2)}, "one_more_honest_user": {"honest": 1}},
    strengthen=lambda excess: {"factor": 1 - excess},
)
def global_model_follows_the_learned_model(*, factor: Fraction | int = 1, honest: int = 0) -> Evidence:
    """ℓ2²: ‖ρ*(D)-ρ*(θ♠)‖ ≤ c‖θ_s*(D)-θ♠‖, c = 2λ/(2λ+m) < 1, m = (N-1)·2λν/(λ+ν).

    Proof.  ρ*(θ) solves F(ρ)+2λ(ρ-θ) = 0 (Lemma 1 for the one with data), and F is m-strongly monotone, as each user
    adds at least 2λν/(λ+ν).  With Δρ, Δθ: 2λ<Δθ-Δρ, Δρ> ≥ m‖Δρ‖², and (2λ)²‖Δθ‖² - (2λ+m)²‖Δρ‖² is ‖2λΔθ-(2λ+m)Δρ‖²
    plus 2(2λ+m) times the slack. Sharp for users without data.
    """
    tally = Tally()
    lam, m = sp.symbols("lambda m", positive=True)
    drho, dtheta = sp.symbols("drho dtheta", real=True)
    if factor >= 1 and honest == 0:
        slack = 2 * lam * (dtheta - drho) * drho - m * drho**2
        claimed = (2 * lam) ** 2 * dtheta**2 - (2 * lam + m) ** 2 * drho**2
        square = 2 * lam * dtheta - (2 * lam + m) * drho
        tally.step(
            is_sum_of_squares(claimed - 2 * (2 * lam + m) * slack, [(sp.Integer(1), square)]), "the bound follows"
        )
    for lam_value, nu, others in product(SMALL, SMALL, [1, 3, 10]):
        modulus = others * 2 * lam_value * nu / (lam_value + nu)
        claimed_modulus = (others + honest) * 2 * lam_value * nu / (lam_value + nu)
        true = 2 * lam_value / (2 * lam_value + modulus)
        bound = factor * 2 * lam_value / (2 * lam_value + claimed_modulus)
        tally.claim(at_most(true, bound), "dρ*/dθ_s for users without data", lam=lam_value, nu=nu, others=others)
    return tally.evidence()


@check(
    "c9_reach",
    part="bound",
    method="symbolic",
    falsehoods={"one_attacker_is_enough": {"counted": 1}, "half": {"factor": Fraction(1, 2)}},
)
def reach_is_bounded(*, counted: int = 0, factor: Fraction | int = 1) -> Evidence:
    """At a global minimum with f attackers, ‖F(ρ*)‖ ≤ fλ for ℓ2 and smooth-ℓ2: F plus f vectors of length at most λ
    is 0.

    Proof.  Triangle inequality; on instances (d = 1) the attackers all pull with λ in one direction, and F = -fλ
    balances them.
    """
    tally = Tally()
    lam, u, v = sp.symbols("lambda u v", real=True)
    if not counted and factor == 1:
        slack = (2 * lam) ** 2 - (u + v) ** 2
        left = 2 * (lam**2 - u**2) + 2 * (lam**2 - v**2) + (u - v) ** 2
        tally.step(vanishes(slack - left), "‖u+v‖ <= 2λ for ‖u‖, ‖v‖ <= λ; then by induction over the attackers")
    for attackers, lam_value in product([1, 2, 5], SMALL):
        size = attackers * lam_value
        bound = factor * (counted or attackers) * lam_value
        tally.claim(
            at_most(size, bound),
            "|F(ρ*)| where f attackers pull with λ each, ℓ2",
            attackers=attackers,
            lam=lam_value,
            F=size,
        )
    return tally.evidence()


@check(
    "c9_reach",
    part="reached",
    method="certified",
    in_words="d > 1, and honest losses other than those of the instances",
    falsehoods={"beyond_f_lambda": {"beyond": Fraction(11, 10)}, "one_attacker_fewer": {"fewer": 1}},
    strengthen=lambda excess: {"beyond": 1 + excess},
)
def reach_is_attained(*, beyond: Fraction | int = 1, fewer: int = 0) -> Evidence:
    """ℓ2: every ρ with |F(ρ)| ≤ fλ is a global minimum for some data of f attackers: each reports the model ρ with
    local gradient -F/f.

    The data point (w, wρ+1) with w = F/f+2νρ has the local gradient -F/f at ρ, which is a subgradient of the kink if
    |F|/f ≤ λ.
    """
    tally = Tally()
    for attackers, lam, nu, part in product(
        [1, 2, 4], SMALL, [Fraction(1, 2)], [Fraction(0), Fraction(1, 3), Fraction(1)]
    ):
        used = attackers - fewer
        if used == 0:
            tally.skip()
            continue
        f = beyond * part * attackers * lam
        rho = Fraction(2)
        w = f / used + 2 * nu * rho
        local = (w * rho - (w * rho + 1)) * w + 2 * nu * rho
        balanced = f + used * local == 0
        tally.claim(
            balanced and abs(local) <= lam,
            "F + Σu = 0 with |u| <= λ, u the local gradient at the kink",
            attackers=used,
            lam=lam,
            F=f,
            local=local,
        )
    return tally.evidence()


@check(
    "c6_four_way",
    method="sampled",
    falsehoods={"reach_is_half": {"reach": 0.5}, "reach_is_twice": {"reach": 2.0}, "always_reached": {"reach": 1e6}},
)
def four_ways_agree(*, reach: float = 1.0) -> Evidence:
    """smooth-ℓ2, ν > 0: the counter-gradient attack reaches θ† exactly if |F(θ†)| ≤ λ; for ℓ2² always (Theorem 4).

    Proof.  The attack's limit minimizes e + λ‖·-θ†‖ (C1), which is θ† exactly if -F(θ†) is in the ball; so is the
    existence of a constant attack and, up to ε, of a model (C7) and of a dataset (Lemma 2).  Instances: least
    squares, d = 1, three honest users; F by the solver; a run ends within 10⁻³ of the target or farther than 10⁻²;
    targets with ‖F‖ within 5 % of λ are left out.
    """
    tally = Tally()
    for lam, target, size, distance in _counter_gradient_runs():
        if abs(size - lam) < 0.05 * lam or abs(size - reach * lam) < 1e-9:
            tally.skip()
            continue
        reached = True if distance < 1e-3 else False if distance > 1e-2 else None
        claimed = size <= reach * lam
        tally.claim(
            None if reached is None else reached is claimed,
            "reached exactly if |F(θ†)| <= λ",
            lam=lam,
            target=target,
            F=size,
            distance=distance,
        )
    return tally.evidence()


@cache
def _counter_gradient_runs() -> tuple[tuple[float, float, float, float], ...]:
    """Run the attack on each instance of C6: λ, the target, |F(target)|, and how far from the target it ends."""
    rng = np.random.default_rng(6)
    users = [UserDataset(rng.standard_normal((4, 1)), rng.standard_normal(4)) for _ in range(3)]
    runs = []
    for lam in (0.5, 2.0):
        problem = Problem([*users, UserDataset.empty(1)], LeastSquares(), SmoothL2(lam), 0.5)
        # Each honest report is λ-Lipschitz in ρ (C3), so L <= 3λ.
        eta = 0.4 / (3 * lam)
        for target in (-3.0, -0.5, 0.0, 0.3, 1.0, 4.0):
            size = abs(float(honest_gradient(problem, 3, np.array([target]))[0]))
            rho, last, report = 0.0, 0.0, 0.0
            for _ in range(150):
                report = float(np.clip((rho - target) / eta - last, -lam, lam))
                last = float(honest_gradient(problem, 3, np.array([rho]))[0])
                rho -= eta * (last + report)
            runs.append((lam, target, size, abs(rho - target)))
    return tuple(runs)
