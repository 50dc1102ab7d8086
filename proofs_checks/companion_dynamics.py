r"""Further statements on dynamics: C1 to C3.

Vectors are written as scalars where only inner products matter (see
:func:`proofs_checks.search.is_sum_of_squares`), so the identities hold in every dimension.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import sympy as sp

from proofs_checks.registry import Evidence, Tally, at_most, check, less
from proofs_checks.search import attack, is_sum_of_squares, vanishes
from proofs_checks.steps import linear_recursion_vanishes
from proofs_checks.strategies import arguments, rational

SMALL = [Fraction(1, 4), Fraction(1), Fraction(7, 2)]


def _rounds(q: Fraction, before: Fraction, now: Fraction, count: int) -> list[tuple[Fraction, Fraction, Fraction]]:
    """CGA against ℓ2² on F = L·ρ, centred at the target 0: triples (ρ^t, ηF_{t-1}, ηF_t) with q = ηL."""
    found = []
    for _ in range(count):
        found.append((now, q * before, q * now))
        before, now = now, (-q * (now - before)).limit_denominator(10**30)
    return found


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

    Setting.  ψ is the support function of GRAD around the target, ρ̄ minimizes e + ψ(·-θ†), so -F̄ ∈ ∂ψ.  By Moreau's
    identity a round is z = prox_{ηψ}(ρ^t-ηF_{t-1}), ρ^{t+1} = z - η(F_t-F_{t-1}).  Write x = ρ^t-ρ̄, a =
    η(F_{t-1}-F̄), b = η(F_t-F̄), c = η(F_{t+1}-F̄), p for the element of η∂ψ at z plus ηF̄; then z-ρ̄ = x-a-p and x⁺
    = x-b-p.
    Proof.  With s = 1/(2ηL) ≥ 1, y = c-b and w = p+a-b,
        V_t - V_{t+1} = 2<p, z-ρ̄> + 2(<b, x>-2s‖b‖²) + (<y, x⁺-x>-2s‖y‖²)
                        + ‖w+y/2‖² + 2‖b+y/2‖² + ‖a-y/2‖² + (s-1)(4‖b‖²+‖b-a‖²+‖y‖²).
    The three brackets are nonnegative: ∂ψ is monotone, and F is 1/L-cocoercive (e is convex and L-smooth, Lemma 13).
    """
    tally = Tally()
    x, a, b, c, p = sp.symbols("x a b c p", real=True)
    s = sp.Symbol("s", positive=True)
    is_claim = weight == Fraction(1, 2) and gradient_weight == 1 and q <= Fraction(1, 2)
    if is_claim:
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
    falsehoods={"reaches_the_target": {"clips": False}, "long_step": {"q": Fraction(6, 10)}},
)
def limit_minimizes_the_tilted_loss(*, clips: bool = True, q: Fraction = Fraction(2, 5)) -> Evidence:
    """The limit minimizes e + λ‖·-θ†‖ for ℓ2 and smooth-ℓ2: F(ρ∞) + u = 0 for some u in λ∂‖·‖ at ρ∞-θ†, independent
    of η.

    Proof.  A minimizer exists: e ≥ 0 for nonnegative losses, so e+λ‖·-θ†‖ tends to infinity (for ℓ2² only θ† will
    do).  For η < 1/(2L), s = 1/(2ηL) > 1, the decrease of V_t in the part `lyapunov` makes the sums of ‖b‖², ‖b-a‖²,
    ‖y‖² and ‖w+y/2‖² finite; so a, b and w = p+a-b vanish, hence p, and z-ρ^t = -(a+p): cluster points of ρ^t and z are
    the same, and there -F ∈ ∂ψ, as F is continuous and the graph of ∂ψ is closed.  ‖ρ^t-ρ̄‖² = V_t minus terms that
    vanish, so it converges for every solution ρ̄; Opial's lemma ends it.
    Instances: e = ρ²/2 (F = ρ, L = 1), target θ, bound λ: the limit is θ clipped to [-λ, λ], up to 10⁻⁶ after 300
    rounds.
    """
    tally = Tally()
    if clips and q < Fraction(1, 2):
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
            last, rho = rho, (rho - q * (rho + report)).limit_denominator(10**12)
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
    """ℓ2²: u_{t+1} ≤ q(u_t+u_{t-1}) vanishes for every q = ηL < 1/2, at the rate (q+√(q²+4q))/2 or better; no
    convexity is used.

    Proof.  The rate r solves r² = qr+q, and 1-q-q = 1-2q > 0 puts it below 1: at r = 1 the polynomial r²-qr-q is 1-2q
    > 0, and it increases beyond its positive root.  By induction u_t ≤ C·r^t, and r^t vanishes.
    """
    tally = Tally()
    k = sp.Symbol("q", positive=True)
    if q < Fraction(1, 2):
        linear_recursion_vanishes(tally, k, k)
    rate = (k + sp.sqrt(k**2 + 4 * k)) / 2
    tally.step(vanishes(rate**2 - k * rate - k), "r = (q+√(q²+4q))/2 solves r² = qr+q")
    tally.step(vanishes((2 - k) ** 2 - (k**2 + 4 * k) - 4 * (1 - 2 * k)), "√(q²+4q) < 2-q exactly if q < 1/2")
    before, now = Fraction(1), Fraction(1)
    for _ in range(2000):
        before, now = now, (q * (now + before)).limit_denominator(10**20)
        if now > 10**6:
            break
    tally.claim(less(now, Fraction(1, 1000)), "u_2000 < 1/1000 where equality holds", q=q, last=float(now))
    return tally.evidence()


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

    At q = 1/2 the root is -1: the global model oscillates for ever.  So the threshold 1/(2L) is exact.
    """
    tally = Tally()
    k = sp.Symbol("q", positive=True)
    root = -(k + sp.sqrt(k**2 + 4 * k)) / 2
    tally.step(vanishes(root**2 + k * root - k), "the root solves x² + qx - q = 0")
    tally.step(vanishes(sp.simplify(root.subs(k, sp.Rational(1, 2)) + 1)), "it is -1 at q = 1/2")
    # |root| > 1 exactly if q² + 4q > (2-q)², which is rational.
    tally.claim(less((2 - q) ** 2, q * q + 4 * q), "|root| > 1", q=q)
    return tally.evidence()


@check(
    "c3_data_free_step",
    method="class",
    falsehoods={"half": {"factor": Fraction(1, 2)}, "two_l_r_per_user": {"plain": True, "factor": Fraction(1, 3)}},
    strengthen=lambda excess: {"factor": 1 - excess},
)
def minimized_loss_is_smoother(*, factor: Fraction | int = 1, plain: bool = False) -> Evidence:
    """e_n(ρ) = min_θ L_n(θ)+R_0(ρ-θ) is K-smooth with 1/K = 1/L_n + 1/L_R; so e is smooth with ΣK ≤ (N-1)L_R,
    whatever the data.

    Proof.  h = ∇L_n(θ*) = ∇R_0(ρ-θ*) is the gradient of e_n.  Both are cocoercive: <Δh, Δθ> ≥ ‖Δh‖²/L_n, <Δh, Δρ-Δθ>
    ≥ ‖Δh‖²/L_R; add: <Δh, Δρ> ≥ ‖Δh‖²/K.  And K²‖Δρ‖²-‖Δh‖² = 2K(<Δh, Δρ>-‖Δh‖²/K) + ‖KΔρ-Δh‖².  Sharp for quadratics.
    """
    tally = Tally()
    dh, drho, dtheta = sp.symbols("dh drho dtheta", real=True)
    ln, lr = sp.symbols("L_n L_R", positive=True)
    k = 1 / (1 / ln + 1 / lr)
    if factor >= 1:
        added = (dh * dtheta - dh**2 / ln) + (dh * (drho - dtheta) - dh**2 / lr)
        tally.step(vanishes(added - (dh * drho - dh**2 / k)), "the two cocoercivities add up")
        tally.step(
            is_sum_of_squares(k**2 * drho**2 - dh**2 - 2 * k * added, [(sp.Integer(1), k * drho - dh)]),
            "and give the Lipschitz bound",
        )
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


@check(
    "c4_convergence_exactly_when",
    part="rate",
    method="class",
    falsehoods={"faster": {"factor": 2}, "longer_step": {"share": Fraction(3, 2)}},
    strengthen=lambda excess: {"factor": 1 + excess},
)
def rate_of_descent(*, factor: Fraction | int = 1, share: Fraction | int = 1) -> Evidence:
    """‖x-η∇f(x)-x*‖ ≤ (1-ημ)‖x-x*‖ for f μ-strongly convex and L-smooth, η ≤ 2/(L+μ).

    Proof.  <g, x> ≥ ‖g‖²/(L+μ) + Lμ‖x‖²/(L+μ) (x* = 0, cocoercivity of f-μ‖·‖²/2), with multiplier 2η; what remains is
    η(2/(L+μ)-η)(‖g‖²-μ²‖x‖²) ≥ 0.
    """
    tally = Tally()
    x, g = sp.symbols("x g", real=True)
    eta, smooth, mu = sp.symbols("eta L mu", positive=True)
    if factor == 1 and share <= 1:
        bracket = g * x - g**2 / (smooth + mu) - smooth * mu * x**2 / (smooth + mu)
        left = (1 - eta * mu) ** 2 * x**2 - (x - eta * g) ** 2 - 2 * eta * bracket
        tally.step(vanishes(left - eta * (2 / (smooth + mu) - eta) * (g**2 - mu**2 * x**2)), "the rate follows")

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


@check(
    "c4_convergence_exactly_when",
    part="condition",
    method="symbolic",
    modulo=("extreme_value",),
    falsehoods={"up_to_the_boundary": {"closed": True}, "one_user_more": {"extra": 1}},
)
def minimizer_exists_inside_the_ball(*, closed: bool = False, extra: int = 0) -> Evidence:
    """smooth-ℓ2, ν > 0: e + gᵀρ has a minimizer exactly if ‖g‖ < (N-1)λ.

    Proof.  *Only if*: every honest report is shorter than λ, so F+g does not vanish if ‖g‖ ≥ (N-1)λ.  *If*: with
    nonnegative losses e_n(ρ) ≥ min_θ ν‖θ‖²+λ‖ρ-θ‖ ≥ λ‖ρ‖-λ²/(4ν), as νt²-λt ≥ -λ²/(4ν); so e+gᵀρ ≥ ((N-1)λ-‖g‖)‖ρ‖ -
    (N-1)λ²/(4ν) tends to infinity, and a continuous function that does has a minimum.  Instances: d = 1, k users
    without data, z = ρ-θ: |F| = kλz/√(1+z²) at ρ = z + λz/(2ν√(1+z²)).
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
    """u_{t+1} ≤ q·u_t + (q+a)u_{t-1} vanishes for 2q+a < 1, that is η < (1-a)/(2L), a = L/(2λ(N-1)).

    Proof.  The variant reports what makes ρ^{t+1} = θ† + bF_{t-1} - η(F_t-F_{t-1}), b = 1/(2λ(N-1)); differences of
    two rounds have norm u_{t+1} ≤ ηLu_t + (ηL+bL)u_{t-1}.  At r = 1 the polynomial r²-qr-(q+a) is 1-2q-a > 0, so its
    positive root r is below 1.  By induction u_t ≤ C·r^t, and r^t vanishes.
    """
    tally = Tally()
    if 2 * q + a < 1:
        linear_recursion_vanishes(tally, *sp.symbols("q q+a", positive=True))
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
    """
    tally = Tally()
    x, q, a = sp.symbols("x q a", positive=True)
    polynomial = x**2 + q * x - (q + a)
    tally.step(vanishes(polynomial.subs(x, -x).subs(x, 1) - (1 - 2 * q - a)), "at -1 the polynomial is 1-2q-a")
    for a_value in (Fraction(0), Fraction(1, 4), Fraction(3, 4)):
        q_value = (1 - a_value) / 2 * (1 + Fraction(over, 10))
        tally.claim(less(1 - 2 * q_value - a_value, 0), "a root is below -1", q=q_value, a=a_value)
    return tally.evidence()
