"""Appendix E: the sum over data against the expectation."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import sympy as sp

from proofs_checks.exact import LinearProblem, LinearUser, vector
from proofs_checks.registry import Erratum, Evidence, Tally, at_most, check
from proofs_checks.search import vanishes


@check(
    "claim_sum_beats_expectation",
    method="symbolic",
    printed={"power": 1},
    falsehoods={"norm_not_squared": {"power": 1}, "mean_over_data": {"mean": True}},
    errata=Erratum(
        place="the prior in Appendix E.1",
        repair="The prior is exp(-Σν‖θ_n‖² - ΣR), with the norm squared as in (5).",
        survives="Yes.",
        scan=True,
    ),
)
def loss_is_the_negative_log_posterior(*, power: int = 2, mean: bool = False) -> Evidence:
    """-log of prior times likelihood is ν‖θ‖² + Σ(Qᵀθ-A)²/2 up to a constant, for Gaussian answers of unit variance.

    Proof.  The logarithm of a product is a sum: one datum with margin m = Qᵀθ adds (m-A)²/2+ln(2π)/2, whatever the
    number of data and the dimension.  The logistic loss is -log σ(AQᵀθ) by definition, so the same holds with labels.
    The mean over the data is not of this form.  That with it the weight of a user does not grow with the data is C20.
    """
    tally = Tally()
    nu, theta, q1, q2, a1, a2 = sp.symbols("nu theta q1 q2 A1 A2", real=True)
    prior = sp.exp(-nu * sp.Abs(theta) ** power)
    likelihood = sp.prod([sp.exp(-((q * theta - a) ** 2) / 2) / sp.sqrt(2 * sp.pi) for q, a in ((q1, a1), (q2, a2))])
    data = ((q1 * theta - a1) ** 2 + (q2 * theta - a2) ** 2) / 2
    loss = nu * theta**2 + data / (2 if mean else 1)
    posterior = -sp.expand_log(sp.log(prior), force=True) - sum(
        sp.expand_log(sp.log(factor), force=True) for factor in likelihood.args
    )
    gap = sp.expand(posterior - loss - sp.log(2 * sp.pi))
    if power == 2 and not mean:
        margin, answer = sp.symbols("m A", real=True)
        density = sp.exp(-((margin - answer) ** 2) / 2) / sp.sqrt(2 * sp.pi)
        one = -sp.expand_log(sp.log(density), force=True) - (margin - answer) ** 2 / 2 - sp.log(2 * sp.pi) / 2
        tally.step(vanishes(one), "one datum adds (m-A)²/2+ln(2π)/2")
        tally.step(vanishes(sp.diff(gap, theta).subs(sp.Abs(theta), theta)), "the difference does not depend on θ")
    for t, n in product([2, -3], [sp.Rational(1, 2), 1]):
        values = {theta: t, nu: n, q1: 1, q2: 2, a1: 1, a2: 0}
        at, at_zero = gap.subs(values), gap.subs({**values, theta: 0})
        tally.claim(
            bool(sp.simplify(at - at_zero) == 0),
            "posterior - loss is the same at θ and at 0",
            theta=t,
            nu=n,
            difference=sp.simplify(at - at_zero),
        )
    return tally.evidence()


@check(
    "c20_expectation_fails",
    method="symbolic",
    falsehoods={
        "sums_fail_too": {"mean": False},
        "half_as_far_again": {"floor": Fraction(10)},
        "others_who_agree": {"answer": 0},
    },
    strengthen=lambda excess: {"floor": Fraction(20, 3) * (1 + excess)},
)
def averaged_losses_do_not_recover(
    *, mean: bool = True, floor: Fraction = Fraction(20, 3), answer: int = 10
) -> Evidence:
    """With averaged losses the honest model stays at a fixed distance from θ†, however many data: local PAC* fails.

    Proof.  d = 1, ν ≥ 0, any of the three regularizers; the honest user answers I queries 1 with θ† = 0, without noise,
    and one other user holds one datum (1, 10).  Averaged, the loss does not depend on I, nor does θ*, which is unique
    (local losses are strictly convex).  It is not 0: the two local gradients p = (1+2ν)θ* and p_s = (1+2ν)θ_s*-10 are
    the pulls, which sum to 0 at the best ρ.  If θ* = 0, then p = p_s = 0, so that θ_s* = 10/(1+2ν); but a pull is 0
    only where the model is ρ, for each of the three, so θ_s* = ρ* = θ* = 0.  For ℓ2², θ* = 10λ/((1+2ν)(1+2ν+2λ)).
    And where the others hold ρ = 10, ℓ2² and ν = 0 give θ* = 2λρ/(1+2λ) ≥ 20/3 for λ ≥ 1; summed it is 2λρ/(I+2λ),
    which tends to 0.
    """
    tally = Tally()
    if mean and answer:
        lam_, model, other, global_model = sp.symbols("lambda theta theta_s rho", positive=True)
        nu = sp.Symbol("nu", nonnegative=True)
        joint = (
            model**2 / 2 + (other - 10) ** 2 / 2 + lam_ * ((global_model - model) ** 2 + (global_model - other) ** 2)
        ) + nu * (model**2 + other**2)
        found = sp.solve([sp.diff(joint, v) for v in (model, other, global_model)], [model, other, global_model])
        expected = 10 * lam_ / ((1 + 2 * nu) * (1 + 2 * nu + 2 * lam_))
        tally.step(vanishes(found[model] - expected), "θ* = 10λ/((1+2ν)(1+2ν+2λ)) at the joint minimum, whatever I")
        forces = (1 + 2 * nu) * model + ((1 + 2 * nu) * other - 10)
        tally.step(
            vanishes(forces.subs({model: 0, other: 10 / (1 + 2 * nu)})), "p+p_s = 0 and θ* = 0 give θ_s* = 10/(1+2ν)"
        )
        gap = sp.Symbol("z", positive=True)
        for name, reg in (("ℓ2²", gap**2), ("ℓ2", gap), ("smooth-ℓ2", sp.sqrt(1 + gap**2))):
            tally.step(bool(sp.diff(lam_ * reg, gap).is_positive) or None, f"{name}: the pull is 0 only where z = 0")
    size, lam, rho = sp.symbols("I lambda rho", positive=True)
    theta = sp.Symbol("theta")
    loss = theta**2 / 2 * (1 if mean else size) + lam * (rho - theta) ** 2
    best = sp.solve(sp.diff(loss, theta), theta)[0]
    tally.step(vanishes(sp.diff(best, size)), "θ* does not depend on the number of data")
    for count, lam_value in product([1, 10, 10**6], [1, 5]):
        value = Fraction(str(best.subs({size: count, lam: lam_value, rho: answer})))
        tally.claim(at_most(floor, value), "|θ*-θ†| stays at least 20/3", I=count, lam=lam_value, theta=value)
    for count, pull, nu_value in product([1, 100], [Fraction(1, 3), Fraction(5)], [Fraction(0), Fraction(1, 10)]):
        weight = Fraction(1) if mean else Fraction(count)  # a datum (w, 0) is w² data (1, 0)
        honest, outsider = LinearUser([[weight]], vector([0])), LinearUser([vector([1])], vector([answer]))
        solution = LinearProblem((honest, outsider), pull, nu_value, 1).minimum()
        expected_value = 10 * pull / ((1 + 2 * nu_value) * (1 + 2 * nu_value + 2 * pull))
        tally.claim(
            None if solution is None else solution[1][0][0] == expected_value,
            "θ* = 10λ/((1+2ν)(1+2ν+2λ)), the exact joint minimum",
            I=count,
            lam=pull,
            nu=nu_value,
            theta=None if solution is None else solution[1][0][0],
        )
    return tally.evidence()
