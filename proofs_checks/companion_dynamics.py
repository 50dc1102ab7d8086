r"""Further statements on dynamics: C1 to C5.

Vectors are written as scalars where only inner products matter (see
:func:`proofs_checks.search.is_sum_of_squares`), so the identities hold in every dimension.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import sympy as sp

from proofs_checks.registry import Evidence, Tally, at_most, check, less
from proofs_checks.search import attack, is_sum_of_squares, vanishes
from proofs_checks.steps import limit_equation, linear_recursion_vanishes
from proofs_checks.strategies import arguments, rational

SMALL = [Fraction(1, 4), Fraction(1), Fraction(7, 2)]


def _rounds(q: Fraction, before: Fraction, now: Fraction, count: int) -> list[tuple[Fraction, Fraction, Fraction]]:
    """CGA against ℓ2² on F = L·ρ, centred at the target 0: triples (ρ^t, ηF_{t-1}, ηF_t) with q = ηL."""
    found = []
    for _ in range(count):
        found.append((now, q * before, q * now))
        before, now = now, (-q * (now - before)).limit_denominator(10**30)
    return found


def _one_round(tally: Tally) -> None:
    """Verify how a round reads around a minimizer, and what the projection says of z."""
    rho, target, best, eta, f0, f1, f_best, g, other = sp.symbols("rho target best eta F0 F1 F_best g g'", real=True)
    z, h = rho - eta * f0 - eta * g, (rho - target) / eta - f0
    a, b, p = eta * (f0 - f_best), eta * (f1 - f_best), eta * (g + f_best)
    tally.step(vanishes(z - best - ((rho - best) - a - p)), "z-ρ̄ = x-a-p")
    tally.step(vanishes((rho - eta * (f1 + g)) - best - ((rho - best) - b - p)), "ρ^{t+1}-ρ̄ = x-b-p")
    tally.step(vanishes((z - target) - eta * (h - g)), "z-θ† = η(h-g)")
    tally.step(
        vanishes((z - target) * g - (z - target) * other + eta * (h - g) * (other - g)),
        "<z-θ†, g>-<z-θ†, g'> = -η<h-g, g'-g> >= 0 for g' in GRAD: g is in ∂ψ at z-θ†",
    )
    at_z, at_best = sp.symbols("z-target best-target", real=True)
    slacks = ((at_z - at_best) * g) + ((at_best - at_z) * (-f_best))  # ψ(u)-ψ(v)-<g_v, u-v> >= 0, twice
    tally.step(vanishes((g + f_best) * (at_z - at_best) - slacks), "<p, z-ρ̄>/η is the sum of two slacks of ψ")


@check(
    "c1_cga_converges",
    part="lyapunov",
    method="class",
    falsehoods={
        "step_beyond_one_half": {"q": Fraction(51, 100)},
        "without_the_last_term": {"weight": Fraction(0)},
        "without_the_gradient_term": {"gradient_weight": Fraction(0)},
    },
    strengthen=lambda excess: {"q": Fraction(1, 2) * (1 + excess)},
)
def lyapunov_function_decreases(
    *, q: Fraction = Fraction(1, 2), weight: Fraction = Fraction(1, 2), gradient_weight: Fraction = Fraction(1)
) -> Evidence:
    """V_t = ‖ρ^t-ρ̄‖² + η²‖F_{t-1}-F̄‖² + ‖η(F_t-F_{t-1})‖²/(2ηL) does not increase, for all three regularizers and η
    ≤ 1/(2L).

    Setting.  e is convex and F = ∇e is L-Lipschitz (Lemma 13, C3).  ψ is the support function of GRAD, ρ̄ minimizes
    e + ψ(·-θ†), so -F̄ ∈ ∂ψ at ρ̄-θ†.  The report is the projection g of h = (ρ^t-θ†)/η-F_{t-1} on GRAD (Proposition
    2).  Let z = ρ^t-ηF_{t-1}-ηg; then z-θ† = η(h-g), and <h-g, g'-g> ≤ 0 for all g' in GRAD says that g ∈ ∂ψ at z-θ†
    (Moreau: z-θ† is the prox of ηψ), and ρ^{t+1} = z - η(F_t-F_{t-1}).  Write x = ρ^t-ρ̄, a = η(F_{t-1}-F̄), b =
    η(F_t-F̄), c = η(F_{t+1}-F̄), p = η(g+F̄); then z-ρ̄ = x-a-p and x⁺ = x-b-p.
    Proof.  With s = 1/(2ηL) ≥ 1, y = c-b and w = p+a-b,
        V_t - V_{t+1} = 2<p, z-ρ̄> + 2(<b, x>-2s‖b‖²) + (<y, x⁺-x>-2s‖y‖²)
                        + ‖w+y/2‖² + 2‖b+y/2‖² + ‖a-y/2‖² + (s-1)(4‖b‖²+‖b-a‖²+‖y‖²).
    The three brackets are nonnegative: ∂ψ is monotone, and F is 1/L-cocoercive (e is convex and L-smooth).  Nothing is
    asked of a: in the first round, where the attack knows nothing and has 0 for F_{t-1}, the same holds.
    """
    tally = Tally()
    x, a, b, c, p = sp.symbols("x a b c p", real=True)
    s = sp.Symbol("s", positive=True)
    is_claim = weight == Fraction(1, 2) and gradient_weight == 1 and q <= Fraction(1, 2)
    if is_claim:
        _one_round(tally)
        after, y, w = x - b - p, c - b, p + a - b
        drop = (x**2 + a**2 + s * (b - a) ** 2) - (after**2 + b**2 + s * y**2)
        brackets = 2 * p * (x - a - p) + 2 * (b * x - 2 * s * b**2) + (y * (after - x) - 2 * s * y**2)
        squares = (
            (w + y / 2) ** 2 + 2 * (b + y / 2) ** 2 + (a - y / 2) ** 2 + (s - 1) * (4 * b**2 + (b - a) ** 2 + y**2)
        )
        tally.step(vanishes(drop - brackets - squares), "V_t - V_{t+1} is a sum of nonnegative terms")

    def margin(c: Fraction, x: Fraction, last: Fraction, bound: Fraction) -> Fraction:
        # One round in d = 1 with ηF = cρ, c <= q, target and minimizer 0, GRAD = [-bound/η, bound/η]; `last` is the
        # global model before.
        before, now = c * last, c * x
        moved = x - before
        after_x = moved - max(-bound, min(bound, moved)) - (now - before)
        return (x**2 + gradient_weight * before**2 + weight / q * (now - before) ** 2) - (
            after_x**2 + gradient_weight * now**2 + weight / q * (c * after_x - now) ** 2
        )

    number = rational(-9, 9)
    attack(
        tally,
        "V_{t+1} <= V_t against ℓ2 on a quadratic, one round from anywhere",
        arguments(c=rational(0, q), x=number, last=number, bound=rational(0, 100)),
        lambda **drawn: margin(**drawn) >= 0,
        margin,
    )
    for start in [
        (Fraction(1), Fraction(1)),
        (Fraction(1), Fraction(-1)),
        (Fraction(0), Fraction(1)),
        (Fraction(-3), Fraction(2)),
    ]:
        rounds = _rounds(q, *start, 60)
        values = [r**2 + gradient_weight * before**2 + weight / q * (now - before) ** 2 for r, before, now in rounds]
        for t in range(len(values) - 1):
            tally.claim(
                at_most(values[t + 1], values[t] + Fraction(1, 10**25)),
                "V_{t+1} <= V_t against ℓ2² on a quadratic",
                q=q,
                start=list(start),
                t=t,
            )
    return tally.evidence()


@check(
    "c1_cga_converges",
    part="limit",
    method="class",
    modulo=("extreme_value", "opial"),
    falsehoods={
        "reaches_the_target": {"clips": False},
        "long_step": {"q": Fraction(6, 10)},
        "losses_without_a_lower_bound": {"bounded": False},
    },
)
def limit_minimizes_the_tilted_loss(
    *, clips: bool = True, q: Fraction = Fraction(2, 5), bounded: bool = True
) -> Evidence:
    """For convex losses that are nonnegative the limit minimizes e + ψ(·-θ†): it is θ† for ℓ2², and for ℓ2 and
    smooth-ℓ2 it minimizes e + λ‖·-θ†‖, that is F(ρ∞) + u = 0 for some u in λ∂‖·‖ at ρ∞-θ†.

    Proof.  A minimizer exists: e ≥ 0 is continuous, so e+λ‖·-θ†‖ tends to infinity; for ℓ2² ψ is 0 at 0 and infinite
    elsewhere, so it is θ†, and ∂ψ is everything there.  For η < 1/(2L), s = 1/(2ηL) > 1, the decrease of V_t in the
    part `lyapunov` makes the sums of ‖b‖², ‖b-a‖², ‖y‖² and ‖w+y/2‖² finite, as V_t ≥ 0; so a, b, y and w = p+a-b
    vanish, hence p, and z-ρ^t = -(a+p).  ρ^t is bounded, as ‖ρ^t-ρ̄‖² ≤ V_t.  Cluster points of ρ^t and z are the same;
    there F = F̄, as F is continuous and b → 0, and g → -F̄, as p → 0; so -F ∈ ∂ψ, as the graph of ∂ψ is closed.
    ‖ρ^t-ρ̄‖² = V_t minus terms that vanish, so it converges for every solution ρ̄; Opial's lemma ends it.
    The set of solutions does not depend on η or on the start; if it is not one point (it is for ℓ2², and for smooth-ℓ2
    with ν > 0), which of its points is the limit may.  Without a lower bound there need not be a solution: F = -2λ is
    stronger than any report.
    Instances: e = ρ²/2 (F = ρ, L = 1), target θ, bound λ: the limit is θ clipped to [-λ, λ], up to 10⁻⁶ after 300
    rounds.
    """
    tally = Tally()
    if clips and bounded and q < Fraction(1, 2):
        tally.adopt(lyapunov_function_decreases())
        a, b, p, y = sp.symbols("a b p y", real=True)
        w = p + a - b
        tally.step(vanishes(p - ((w + y / 2) - y / 2 - (a - b))), "p = (w+y/2)-y/2-(a-b), which vanishes")
        x = sp.Symbol("x", real=True)
        tally.step(vanishes(((x - a - p) - x) + a + p), "z-ρ^t = -(a+p)")
    for target, lam, start in product(
        [Fraction(1, 2), Fraction(5)], [Fraction(1), Fraction(2)], [Fraction(0), Fraction(-4)]
    ):
        rho, report, last = start, Fraction(0), Fraction(0)
        for _ in range(300):
            wanted = (rho - target) / q - last
            report = max(-lam, min(lam, wanted))
            last = rho if bounded else -2 * lam
            rho = (rho - q * (last + report)).limit_denominator(10**12)
        limit = max(-lam, min(lam, target)) if clips else target
        tally.claim(
            less(abs(rho - limit), Fraction(1, 10**6)),
            "ρ^300 against the predicted limit",
            target=target,
            lam=lam,
            start=start,
            q=q,
            rho=float(rho),
        )
    return tally.evidence()


@check(
    "c2_sharp_step",
    part="convergence",
    method="symbolic",
    falsehoods={"six_tenths": {"q": Fraction(6, 10)}, "one": {"q": Fraction(1)}},
    strengthen=lambda excess: {"q": Fraction(1, 2) + 4 * excess},
)
def converges_below_one_half(*, q: Fraction = Fraction(49, 100)) -> Evidence:
    """ℓ2²: ρ^t → θ† for every schedule with η_tL ≤ q < 1/2, at the rate (q+√(q²+4q))/2 or better; F need only be
    L-Lipschitz, so the losses need not be convex.

    Proof.  For every schedule the report makes ρ^{t+1} = θ† - η_t(F_t-F_{t-1}), so u_t = ‖ρ^{t+1}-ρ^t‖ obeys u_{t+1} ≤
    q(u_t+u_{t-1}).  The rate r solves r² = qr+q, and √(q²+4q) < 2-q puts it below 1.  By induction u_t ≤ C·r^t, and
    r^t vanishes.  At last ‖ρ^{t+1}-θ†‖ = η_t‖F_t-F_{t-1}‖ ≤ q·u_{t-1} vanishes at the same rate.  On a quadratic with
    the eigenvalue L the rate is attained (part `divergence`: -r is a root).
    Instances: F = ±ρ, and of alternating slope; constant and alternating rates.
    """
    tally = Tally()
    k = sp.Symbol("q", positive=True)
    if q < Fraction(1, 2):
        linear_recursion_vanishes(tally, k, k)
    _rounds_of_a_schedule(tally)
    rate = (k + sp.sqrt(k**2 + 4 * k)) / 2
    tally.step(vanishes(rate**2 - k * rate - k), "r = (q+√(q²+4q))/2 solves r² = qr+q")
    tally.step(vanishes((2 - k) ** 2 - (k**2 + 4 * k) - 4 * (1 - 2 * k)), "√(q²+4q) < 2-q exactly if q < 1/2")
    before, now = Fraction(1), Fraction(1)
    for _ in range(2000):
        before, now = now, (q * (now + before)).limit_denominator(10**20)
        if now > 10**6:
            break
    tally.claim(less(now, Fraction(1, 1000)), "u_2000 < 1/1000 where equality holds", q=q, last=float(now))
    for slopes, rates in product([(1, 1), (-1, -1), (1, -1)], [(q, q), (q, q / 10)]):
        # L = 1, target 0: F is linear with one slope for even and one for odd rounds.
        last, now = Fraction(0), Fraction(1)
        for t in range(800):
            report = slopes[t % 2] * now
            last, now = report, (-rates[t % 2] * (report - last)).limit_denominator(10**20)
        tally.claim(less(abs(now), Fraction(1, 100)), "|ρ^800-θ†| < 1/100", slopes=slopes, rates=rates, rho=float(now))
    return tally.evidence()


def _rounds_of_a_schedule(tally: Tally) -> None:
    """Verify the next global model under the attack against ℓ2² for rates that vary, and the difference of two."""
    rho, target, g, f0, f1, f2, eta0, eta1, eta2 = sp.symbols("rho target g F0 F1 F2 eta0 eta1 eta2", positive=True)
    now = rho - eta0 * (f0 + g)
    report = g + (now - target) / eta1 - (rho - now) / eta0
    tally.step(
        vanishes(now - eta1 * (f1 + report) - (target - eta1 * (f1 - f0))), "ρ^{t+1} = θ†-η_t(F_t-F_{t-1}), any rates"
    )
    difference = (target - eta2 * (f2 - f1)) - (target - eta1 * (f1 - f0))
    tally.step(
        vanishes(difference + eta2 * (f2 - f1) - eta1 * (f1 - f0)), "differences: u_{t+1} <= η_{t+1}L·u_t+η_tL·u_{t-1}"
    )


@check(
    "c2_sharp_step",
    part="divergence",
    method="symbolic",
    falsehoods={"diverges_below": {"q": Fraction(49, 100)}, "diverges_at_a_third": {"q": Fraction(1, 3)}},
    strengthen=lambda excess: {"q": Fraction(1, 2) - excess},
)
def diverges_beyond_one_half(*, q: Fraction = Fraction(51, 100)) -> Evidence:
    """ℓ2² on a quadratic with top eigenvalue L: x_{t+1} = -q(x_t-x_{t-1}) has the root -(q+√(q²+4q))/2, beyond -1 for
    q > 1/2.

    Proof.  x is ρ-θ† along the eigenvector, F(θ†) = 0.  (2-q)²-(q²+4q) = 4(1-2q) < 0 for q > 1/2, so √(q²+4q) > 2-q
    and the root is below -1.  At q = 1/2 it is -1.  The first round, with 0 for F_{t-1}, gives x_1 = -qx_0; so the
    share of that root in x_t, (x_1-r'x_0)/(r-r') with the other root r', is rx_0/(r-r'), which is not 0 unless x_0 is:
    the global model runs away for q > 1/2, and oscillates for ever at q = 1/2.  So the threshold 1/(2L) is exact.
    One honest user with d = 1 and a quadratic loss makes such an e.
    """
    tally = Tally()
    k = sp.Symbol("q", positive=True)
    root = -(k + sp.sqrt(k**2 + 4 * k)) / 2
    other = (-k + sp.sqrt(k**2 + 4 * k)) / 2
    tally.step(vanishes(root**2 + k * root - k), "the root solves x² + qx - q = 0")
    tally.step(vanishes(other**2 + k * other - k), "so does the other")
    tally.step(vanishes(sp.simplify(root.subs(k, sp.Rational(1, 2)) + 1)), "it is -1 at q = 1/2")
    tally.step(vanishes((k**2 + 4 * k) - (2 - k) ** 2 - 4 * (2 * k - 1)), "q²+4q > (2-q)² for q > 1/2")
    tally.step(vanishes((-k - other) - root), "x_1-r'x_0 = r·x_0: the root is in every start but θ†")
    # |root| > 1 exactly if q² + 4q > (2-q)², which is rational.
    tally.claim(less((2 - q) ** 2, q * q + 4 * q), "|root| > 1", q=q)
    before, now = Fraction(1), -q
    for _ in range(1200):
        before, now = now, (-q * (now - before)).limit_denominator(10**20)
    tally.claim(less(10, abs(now)), "|x_1200| > 10 from x_0 = 1, by the attack's own first round", q=q, last=float(now))
    return tally.evidence()


@check(
    "c3_data_free_step",
    method="class",
    falsehoods={"half": {"factor": Fraction(1, 2)}, "a_third_of_l_r": {"plain": True, "factor": Fraction(1, 3)}},
    strengthen=lambda excess: {"factor": 1 - excess},
)
def minimized_loss_is_smoother(*, factor: Fraction | int = 1, plain: bool = False) -> Evidence:
    """e_n(ρ) = min_θ L_n(θ)+R_0(ρ-θ) is K-smooth with 1/K = 1/L_n + 1/L_R; so e is smooth with ΣK ≤ (N-1)L_R,
    whatever the data.

    Here L_n is convex with a minimum θ*(ρ) for each ρ, and R_0 is ℓ2² or smooth-ℓ2, L_R = 2λ or λ.  For nonnegative
    losses there is a minimum, as R_0 tends to infinity, and it is unique, as R_0 is strictly convex.
    Proof.  Let h = ∇R_0(ρ-θ*), which is in ∂L_n(θ*).  The two subgradient inequalities add up to e_n(ρ') ≥
    e_n(ρ)+<h, ρ'-ρ>; a Lipschitz choice of subgradients is the gradient, so h = ∇e_n once h is seen to be Lipschitz.
    Both are cocoercive: <Δh, Δθ> ≥ ‖Δh‖²/L_n, <Δh, Δρ-Δθ> ≥ ‖Δh‖²/L_R; add: <Δh, Δρ> ≥ ‖Δh‖²/K.  And K²‖Δρ‖²-‖Δh‖² =
    2K(<Δh, Δρ>-‖Δh‖²/K) + ‖KΔρ-Δh‖².  Where L_n is not smooth, <Δh, Δθ> ≥ 0 is left, and K = L_R.  The Hessian of R_0
    has the eigenvalues 2λ, or λ/√(1+r²) and λ/√(1+r²)³ ≤ λ.  Sharp for quadratics.
    """
    tally = Tally()
    dh, drho, dtheta = sp.symbols("dh drho dtheta", real=True)
    ln, lr = sp.symbols("L_n L_R", positive=True)
    k = 1 / (1 / ln + 1 / lr)
    if factor >= 1 and not plain:
        added = (dh * dtheta - dh**2 / ln) + (dh * (drho - dtheta) - dh**2 / lr)
        tally.step(vanishes(added - (dh * drho - dh**2 / k)), "the two cocoercivities add up")
        tally.step(
            is_sum_of_squares(k**2 * drho**2 - dh**2 - 2 * k * added, [(sp.Integer(1), k * drho - dh)]),
            "and give the Lipschitz bound",
        )
        monotone = dh * dtheta + (dh * (drho - dtheta) - dh**2 / lr)
        tally.step(
            is_sum_of_squares(lr**2 * drho**2 - dh**2 - 2 * lr * monotone, [(sp.Integer(1), lr * drho - dh)]),
            "K = L_R if L_n is only convex",
        )
        tally.step(vanishes(lr - k - lr**2 / (ln + lr)), "K = L_R-L_R²/(L_n+L_R) < L_R, so that ΣK <= (N-1)L_R")
        _envelope_and_curvature(tally)
    positive = rational(Fraction(1, 1000), 1000)
    attack(
        tally,
        "e_n = (ar/(a+r))ρ²/2 for L_n = aθ²/2 + bθ, a <= L_n, R_0 = rz²/2, r <= L_R",
        arguments(a=positive, r=positive, more=rational(0, 9)),
        lambda a, r, more: (
            a * r / (a + r) <= factor * ((r + more) if plain else (a + more) * (r + more) / (a + r + 2 * more))
        ),
    )
    for a, r in product(SMALL, SMALL):
        true = a * r / (a + r)
        bound = r if plain else true
        tally.claim(at_most(true, factor * bound), "e_n = (ar/(a+r))ρ²/2 for L_n = aθ²/2, R_0 = rz²/2", a=a, r=r)
    return tally.evidence()


def _envelope_and_curvature(tally: Tally) -> None:
    h, rho, rho2, theta, theta2, slack_l, slack_r, value_l, value_r = sp.symbols(
        "h rho rho' theta theta' s_L s_R L R", real=True
    )
    there = (value_l + h * (theta2 - theta) + slack_l) + (value_r + h * ((rho2 - theta2) - (rho - theta)) + slack_r)
    tally.step(
        vanishes(there - (value_l + value_r) - h * (rho2 - rho) - slack_l - slack_r), "e_n(ρ') >= e_n(ρ)+<h, ρ'-ρ>"
    )
    lam, r = sp.symbols("lambda r", positive=True)
    smooth = lam * sp.sqrt(1 + r**2)
    across, along = sp.diff(smooth, r) / r, sp.diff(smooth, r, 2)
    tally.step(vanishes(across - lam / sp.sqrt(1 + r**2)), "smooth-ℓ2: the eigenvalue λ/√(1+r²)")
    tally.step(vanishes(sp.simplify(along - lam / sp.sqrt(1 + r**2) ** 3)), "and λ/√(1+r²)³")
    tally.step(bool((sp.sqrt(1 + r**2) ** 2 - 1).is_positive) or None, "which are below λ, as √(1+r²) > 1")
    tally.step(vanishes(sp.diff(lam * r**2, r, 2) - 2 * lam), "ℓ2²: 2λ")


def moduli_add_in_parallel(tally: Tally) -> None:
    """Verify <Δh, Δρ> ≥ μ‖Δρ‖², 1/μ = 1/μ_n+1/μ_R, from <Δh, Δθ> ≥ μ_n‖Δθ‖² and <Δh, Δρ-Δθ> ≥ μ_R‖Δρ-Δθ‖²."""
    mn, mr = sp.symbols("mu_n mu_R", positive=True)
    drho, dtheta = sp.symbols("drho dtheta", real=True)
    mu = mn * mr / (mn + mr)
    left = mn * dtheta**2 + mr * (drho - dtheta) ** 2 - mu * drho**2
    tally.step(
        is_sum_of_squares(left, [(mn + mr, dtheta - mr * drho / (mn + mr))]),
        "moduli add in parallel, as L_n and L_R do",
    )


@check(
    "c4_convergence_exactly_when",
    part="rate",
    method="class",
    falsehoods={
        "faster": {"factor": 2},
        "longer_step": {"share": Fraction(3, 2)},
        "without_the_ridge": {"nu": Fraction(0)},
        "reports_need_not_converge": {"settles": False},
        "at_rates_up_to_three_over_l": {"reach": Fraction(3)},
    },
    strengthen=lambda excess: {"factor": 1 + excess},
)
def rate_of_descent(
    *,
    factor: Fraction | int = 1,
    share: Fraction | int = 1,
    nu: Fraction | int = 1,
    settles: bool = True,
    reach: Fraction = Fraction(19, 10),
) -> Evidence:
    """ν > 0, ℓ2² or smooth-ℓ2, convex losses: if g_t → g and η < 2/L, then ρ^t converges exactly if f = e+gᵀρ has a
    minimizer ρ*, and to it; for η ≤ 2/(L+μ) a round takes the distance from r to (1-ημ)r+η‖g_t-g‖ at most, where f is
    μ-strongly convex.

    Proof.  *Only if*: F(ρ^t)+g_t = (ρ^t-ρ^{t+1})/η → 0, so ∇f vanishes at the limit.  *If*: let x = ρ^t-ρ*, r = ‖x‖.
    For ν > 0 f is μ-strongly convex on the unit ball around ρ*, μ > 0: moduli add in parallel, L_n has 2ν, and R_0 has
    2λ, or λ/√(1+z²)³ on the ball ‖ρ-θ‖ ≤ z, in which ρ-θ_n* stays: 2ν‖Δθ_n*‖ ≤ ‖Δh‖ ≤ L_R‖Δρ‖ (C3).  Along a ray
    from ρ* the slope does not decrease, so <∇f, x> ≥ μ·r·min(1, r).  With 1/L-cocoercivity and c = ημ(2-ηL)/2 ≤ 1/2,
    ‖x-η∇f‖² ≤ r²-2c·r·min(1, r) ≤ (r-c·min(1, r))².  So a round takes r to r-c·min(1, r)+η‖g_t-g‖ at most.  Let 0 < ε <
    1.  Once η‖g_t-g‖ ≤ cε/2, r falls by at least cε/2 a round as long as it is at least ε; then it is below ε, and
    stays there: (1-c)r+cε/2 < ε.
    *Rate*: <∇f, x> ≥ ‖∇f‖²/(L+μ) + Lμ‖x‖²/(L+μ) (cocoercivity of f-μ‖·‖²/2), with multiplier 2η; what remains is
    η(2/(L+μ)-η)(‖∇f‖²-μ²‖x‖²) ≥ 0.  For ℓ2² μ = Σ2λν/(λ+ν) serves everywhere.  For smooth-ℓ2 there is a μ for each ball
    around ρ* only; if f is twice differentiable in it, ∇f = Hx with μ ≤ H ≤ L, and (H-μ)(L-H) ≥ 0 is that inequality.
    For ν = 0 it is false: without data e = 0, and the reports 1/t, which converge, move ρ by -ηΣ1/t for ever, though
    every ρ minimizes f = 0.
    """
    tally = Tally()
    x, g = sp.symbols("x g", real=True)
    eta, smooth, mu = sp.symbols("eta L mu", positive=True)
    if factor == 1 and share <= 1 and nu and settles and reach < 2:
        bracket = g * x - g**2 / (smooth + mu) - smooth * mu * x**2 / (smooth + mu)
        left = (1 - eta * mu) ** 2 * x**2 - (x - eta * g) ** 2 - 2 * eta * bracket
        tally.step(vanishes(left - eta * (2 / (smooth + mu) - eta) * (g**2 - mu**2 * x**2)), "the rate follows")
        h = sp.Symbol("h", positive=True)  # an eigenvalue of H
        between = (h - mu) * (smooth - h) * x**2 - (smooth + mu) * bracket.subs(g, h * x)
        tally.step(vanishes(between), "(H-μ)(L-H) >= 0 is the inequality for ∇f = Hx")
        _convergence_under_vanishing_errors(tally)
        moduli_add_in_parallel(tally)
        _envelope_and_curvature(tally)
        limit_equation(tally)
    # Users without data under ℓ2²: F(ρ) = Lρ, L = Σ2λν/(λ+ν); the reports 1/(t+1) tend to 0.
    for lam, users in product([Fraction(1, 2), Fraction(3)], [1, 4]):
        curvature = users * 2 * lam * nu / (lam + nu)
        eta_value = reach / curvature if curvature else Fraction(1)
        rho, middle = Fraction(1), Fraction(1)
        for t in range(400):
            middle = rho if t == 201 else middle
            rho = rho - eta_value * (
                curvature * rho + Fraction(1, t + 1 if settles else 1) * (-1) ** (t * (not settles))
            )
            rho = rho.limit_denominator(10**12)
        near = Fraction(1, 10) if curvature else Fraction(1, 2)
        tally.claim(
            less(abs(rho - middle), near),
            "|ρ^400-ρ^201| is small",
            lam=lam,
            nu=nu,
            users=users,
            eta=eta_value,
            rho=float(rho),
        )

    def decide(mu: Fraction, more: Fraction, part: Fraction, place: Fraction) -> bool:
        eta_value = share * part * 2 / (2 * mu + more)
        return abs(1 - eta_value * (mu + place * more)) <= abs(1 - factor * eta_value * mu)

    unit = rational(0, 1)
    drawn = arguments(mu=rational(Fraction(1, 1000), 9), more=rational(0, 1000), part=unit, place=unit)
    attack(tally, "one step on f = cx²/2, μ <= c <= L = μ+more, η = part·2/(L+μ)", drawn, decide)
    for mu_value, top, part in product(
        [Fraction(1, 10), Fraction(1)], [Fraction(1), Fraction(4)], [Fraction(1, 2), Fraction(1)]
    ):
        if top < mu_value:
            tally.skip()
            continue
        eta_value = share * part * 2 / (top + mu_value)
        for curvature in (mu_value, top):
            tally.claim(
                at_most(abs(1 - eta_value * curvature), abs(1 - factor * eta_value * mu_value)),
                "one step on f = curvature·x²/2",
                mu=mu_value,
                L=top,
                eta=eta_value,
                curvature=curvature,
            )
    return tally.evidence()


def _convergence_under_vanishing_errors(tally: Tally) -> None:
    """Verify that a round takes the distance r to r-c·min(1, r)+δ at most, and what follows for δ → 0."""
    x, g = sp.symbols("x g", real=True)
    eta, smooth, c, r, more, eps = sp.symbols("eta L c r s epsilon", positive=True)
    cocoercive = g * x - g**2 / smooth
    left = x**2 - eta * (2 - eta * smooth) * g * x - (x - eta * g) ** 2 - eta**2 * smooth * cocoercive
    tally.step(vanishes(left), "‖x-η∇f‖² <= ‖x‖²-η(2-ηL)<∇f, x>")
    q = sp.Symbol("q", positive=True)
    tally.step(vanishes(1 - q * (2 - q) - (1 - q) ** 2), "c = ημ(2-ηL)/2 <= ηL(2-ηL)/2 <= 1/2")
    for least, name in ((r, "r <= 1"), (sp.Integer(1), "r >= 1")):
        tally.step(vanishes((r - c * least) ** 2 - (r**2 - 2 * c * r * least) - (c * least) ** 2), f"the root, {name}")
    far = (1 + more) - (1 + more - c + c * eps / 2)
    tally.step(vanishes(far - c * eps / 2 - c * (1 - eps)), "r >= 1: it falls by at least cε/2 for ε <= 1")
    near = (eps + more) - ((1 - c) * (eps + more) + c * eps / 2)
    tally.step(vanishes(near - c * eps / 2 - c * more), "ε <= r <= 1: it falls by at least cε/2")
    low, spare = sp.symbols("r_0 w", nonnegative=True)
    stays = (low + spare) - ((1 - c) * low + c * (low + spare) / 2)
    tally.step(vanishes(stays - c * (low + spare) / 2 - (1 - c) * spare), "r < ε = r+w: it stays below ε, as c <= 1/2")


@check(
    "c4_convergence_exactly_when",
    part="condition",
    method="symbolic",
    modulo=("extreme_value",),
    falsehoods={"up_to_the_boundary": {"closed": True}, "one_user_more": {"extra": 1}},
)
def minimizer_exists_inside_the_ball(*, closed: bool = False, extra: int = 0) -> Evidence:
    """smooth-ℓ2, ν > 0, N ≥ 2: e + gᵀρ has a minimizer exactly if ‖g‖ < (N-1)λ.  (For ℓ2² it always has: e is strongly
    convex.)

    Proof.  *Only if*: every honest report is shorter than λ, so F+g does not vanish if ‖g‖ ≥ (N-1)λ.  *If*: with
    nonnegative ℓ, e_n(ρ) ≥ min_θ ν‖θ‖²+λ‖ρ-θ‖ ≥ λ‖ρ‖-λ²/(4ν), as ‖ρ-θ‖ ≥ ‖ρ‖-‖θ‖ and νt²-λt ≥ -λ²/(4ν); so
    e+gᵀρ ≥ ((N-1)λ-‖g‖)‖ρ‖ - (N-1)λ²/(4ν) tends to infinity, and a continuous function that does has a minimum.
    Instances: d = 1, k users without data, z = ρ-θ: |F| = kλz/√(1+z²) at ρ = z + λz/(2ν√(1+z²)).
    """
    tally = Tally()
    r = sp.Symbol("z", positive=True)
    pull = r / sp.sqrt(1 + r**2)
    tally.step(bool(sp.limit(pull, r, sp.oo) == 1) or None, "the report tends to λ")
    tally.step(vanishes(1 - pull**2 - 1 / (1 + r**2)), "and stays below it")
    nu, lam, t, others, length, g = sp.symbols("nu lambda t n rho g", positive=True)
    tally.step(vanishes(nu * t**2 - lam * t + lam**2 / (4 * nu) - nu * (t - lam / (2 * nu)) ** 2), "νt²-λt >= -λ²/(4ν)")
    bound = others * (lam * length - lam**2 / (4 * nu)) - g * length
    tally.step(vanishes(bound - (others * lam - g) * length + others * lam**2 / (4 * nu)), "the growth of e+gᵀρ")
    for k, size in product(
        [1, 2, 5], [Fraction(0), Fraction(9, 10), Fraction(1), Fraction(3, 2), Fraction(2), Fraction(5)]
    ):
        claimed = size <= k + extra if closed else size < k + extra
        # kz/√(1+z²) = size has a solution exactly if size < k (λ = 1): z² = size²/(k²-size²).
        exists = size == 0 or k * k - size * size > 0
        tally.claim(claimed == exists, "a minimizer exists as claimed, λ = 1", users=k, g=size, exists=exists)
    return tally.evidence()


@check(
    "c5_local_variant",
    part="convergence",
    method="symbolic",
    falsehoods={
        "threshold_of_the_plain_attack": {"q": Fraction(1, 2)},
        "larger_a": {"a": Fraction(1, 2)},
    },
)
def local_variant_converges(
    *, q: Fraction = Fraction(3, 8) - Fraction(1, 100), a: Fraction = Fraction(1, 4)
) -> Evidence:
    """ℓ2²: ρ^t converges for η < (1-a)/(2L), a = L/(2λ(N-1)), to a ρ∞ at which the mean of the others' models is θ†.

    Proof.  The variant reports what makes ρ^{t+1} = θ† + bF_{t-1} - η(F_t-F_{t-1}), b = 1/(2λ(N-1)); differences of
    two rounds have norm u_{t+1} ≤ qu_t + (q+a)u_{t-1}, q = ηL.  At r = 1 the polynomial r²-qr-(q+a) is 1-2q-a > 0, so
    its positive root r is below 1.  By induction u_t ≤ C·r^t; so from round t on ρ moves by at most Cr^t/(1-r) in all:
    the sequence is Cauchy.  In the limit F_t-F_{t-1} → 0 and ρ∞ = θ†+bF(ρ∞), where ρ-bF(ρ) is the mean of the others'
    models (section 5.4).  With the L of C3, a < 1 always: each of the N-1 terms is below 2λ.
    """
    tally = Tally()
    if 2 * q + a < 1:
        linear_recursion_vanishes(tally, *sp.symbols("q q+a", positive=True))
        r, count = sp.symbols("r m", positive=True)
        partial = (1 - r**count) / (1 - r)
        tally.step(
            vanishes(sp.powsimp(sp.simplify(partial + r**count - partial.subs(count, count + 1)))), "the sum of r^k"
        )
        tally.step(vanishes(1 / (1 - r) - partial - r**count / (1 - r)), "which is at most 1/(1-r)")
        k, share = sp.symbols("q a", positive=True)
        tally.step(vanishes((r**2 - k * r - (k + share)).subs(r, 1) - (1 - 2 * k - share)), "at r = 1: 1-2q-a > 0")
        ln, lam = sp.symbols("L_n lambda", positive=True)
        tally.step(bool(sp.simplify(2 * lam - 1 / (1 / ln + 1 / (2 * lam))).is_positive) or None, "a < 1 with C3")
    target, f0, f1, f2, eta, b = sp.symbols("target F0 F1 F2 eta b", real=True)
    rho = sp.Symbol("rho", real=True)
    report = sp.solve(rho - eta * (f0 + sp.Symbol("g")) - target - b * f0, sp.Symbol("g"))[0]
    after = rho - eta * (f1 + report)
    tally.step(vanishes(after - (target + b * f0 - eta * (f1 - f0))), "the next global model")
    difference = (target + b * f1 - eta * (f2 - f1)) - (target + b * f0 - eta * (f1 - f0))
    tally.step(vanishes(difference + eta * (f2 - f1) - (eta + b) * (f1 - f0)), "differences: η, and η+b")
    before, now = Fraction(1), Fraction(1)
    for _ in range(3000):
        before, now = now, (q * now + (q + a) * before).limit_denominator(10**20)
        if now > 10**6 or now < Fraction(1, 10**4):
            break
    tally.claim(less(now, Fraction(1, 1000)), "u vanishes where equality holds", q=q, a=a, last=float(now))
    # F = Lρ with L = 1 and b = a, by the variant's own first round; the mean of the others' models is (1-a)ρ.
    last, rho = Fraction(0), Fraction(-3)
    for _ in range(2000):
        last, rho = rho, (5 + a * last - q * (rho - last)).limit_denominator(10**20)
    tally.claim(less(abs((1 - a) * rho - 5), Fraction(1, 1000)), "the mean model reaches the target 5", q=q, a=a)
    return tally.evidence()


@check(
    "c5_local_variant",
    part="divergence",
    method="symbolic",
    falsehoods={"diverges_below": {"over": -1}},
    strengthen=lambda excess: {"over": -excess},
)
def local_variant_diverges_beyond(*, over: Fraction | int = 1) -> Evidence:
    """On a quadratic x_{t+1} = -q·x_t + (q+a)x_{t-1} + constant; a root passes -1 exactly at 2q+a = 1: the threshold
    is sharp.

    Proof.  At -1 the polynomial x²+qx-(q+a) is 1-2q-a; if that is negative, there is a root below -1, as the polynomial
    tends to infinity, and if it is 0, -1 is a root.  From almost every start that root takes part.
    """
    tally = Tally()
    x, q, a = sp.symbols("x q a", positive=True)
    polynomial = x**2 + q * x - (q + a)
    tally.step(vanishes(polynomial.subs(x, -x).subs(x, 1) - (1 - 2 * q - a)), "at -1 the polynomial is 1-2q-a")
    root = (q + sp.sqrt(q**2 + 4 * (q + a))) / 2
    tally.step(vanishes(polynomial.subs(x, -root)), "its negative root is -(q+√(q²+4(q+a)))/2")
    tally.step(vanishes(q**2 + 4 * (q + a) - (2 - q) ** 2 - 4 * (2 * q + a - 1)), "which is below -1 if 2q+a > 1")
    for a_value in (Fraction(0), Fraction(1, 4), Fraction(3, 4)):
        q_value = (1 - a_value) / 2 * (1 + Fraction(over, 10))
        tally.claim(less(1 - 2 * q_value - a_value, 0), "a root is below -1", q=q_value, a=a_value)
        before, now = Fraction(0), Fraction(1)
        for _ in range(300):
            before, now = now, (-q_value * now + (q_value + a_value) * before).limit_denominator(10**20)
        tally.claim(less(10, abs(now)), "|x_300| > 10", q=q_value, a=a_value, last=float(now))
    return tally.evidence()
