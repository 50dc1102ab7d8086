r"""Appendix C: the global model converges under a converging gradient attack.

Vectors are written as scalars where only inner products matter (see
:func:`proofs_checks.search.is_sum_of_squares`).  Iterations on instances are exact.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import sympy as sp

from proofs_checks.registry import Erratum, Evidence, Tally, at_most, both, check, less
from proofs_checks.search import attack, rationals, vanishes
from proofs_checks.steps import powers_vanish
from proofs_checks.strategies import arguments, rational

ETA, L, MU = sp.symbols("eta L mu", positive=True)
X, Y, STAR, ZETA, G = sp.symbols("x y x_* zeta G", real=True)
Q = [Fraction(1, 100), Fraction(1, 4), Fraction(1, 2), Fraction(99, 100), Fraction(1)]


@check(
    "lem16_descent",
    method="class",
    equations=(59, 60, 61, 62, 63),
    falsehoods={
        "no_gain": {"gain": Fraction(3, 4)},
        "twice_the_step": {"longest": 2},
        "error_with_the_other_sign": {"sign": -1},
        "without_smoothness": {"flattest": -3, "steepest": 3},
    },
    unneeded={"convexity": {"flattest": -1}},
    strengthen=lambda excess: {"gain": Fraction(1, 2) * (1 + excess)},
)
def descent_with_an_error(
    *,
    gain: Fraction = Fraction(1, 2),
    longest: Fraction | int = 1,
    sign: int = 1,
    flattest: int = 0,
    steepest: int = 1,
) -> Evidence:
    """f(ρ-ηG) - f(ρ) ≤ -(η/2)‖G‖² + ηζᵀG for G = ∇f(ρ)+ζ, f L-smooth and η ≤ 1/L.  Convexity is not needed.

    Proof.  The L-smooth upper bound at ρ-ηG is -ηGᵀ(G-ζ) + (L/2)η²‖G‖², and the claimed bound exceeds it by
    (η/2)(1-ηL)‖G‖².
    """
    tally = Tally()
    if gain <= Fraction(1, 2) and longest <= 1 and sign == 1:
        bound = -sp.Rational(gain) * ETA * G**2 + ETA * ZETA * G
        upper = -ETA * G * (G - ZETA) + L / 2 * ETA**2 * G**2
        left = sp.Rational(Fraction(1, 2) - gain) * ETA * G**2 + ETA / 2 * (1 - ETA * L) * G**2
        tally.step(vanishes(bound - upper - left), "(62) to (63): (η/2)(1-ηL)‖G‖² >= 0 remains")
    # f = Lx²/2, where the smooth upper bound is an equality.
    for smooth, q, (x, zeta) in product([Fraction(1, 3), Fraction(5)], Q, rationals(0, 8, 2)):
        eta = longest * q / smooth
        step = smooth * x + zeta
        change = smooth * ((x - eta * step) ** 2 - x**2) / 2
        bound = -gain * eta * step**2 + sign * eta * zeta * step
        tally.claim(at_most(change, bound), "f(x-ηG)-f(x) for f = Lx²/2", L=smooth, eta=eta, x=x, zeta=zeta)

    def decide(c: Fraction, eta: Fraction, x: Fraction, zeta: Fraction) -> bool:
        return margin(c, eta, x, zeta) >= 0

    def margin(c: Fraction, eta: Fraction, x: Fraction, zeta: Fraction) -> Fraction:
        step = c * x + zeta
        return -gain * eta * step**2 + sign * eta * zeta * step - c * ((x - eta * step) ** 2 - x**2) / 2

    # L = 1; f = cx²/2 with curvatures from `flattest` to `steepest`.
    for c, eta, (x, zeta) in product([flattest, steepest], [Fraction(1, 2), Fraction(1)], rationals(1, 8, 2)):
        tally.claim(decide(Fraction(c), longest * eta, x, zeta), "f(x-ηG)-f(x) for f = cx²/2, L = 1", c=c, eta=eta, x=x)
    drawn = arguments(c=rational(flattest, steepest), eta=rational(0, longest), x=rational(), zeta=rational())
    attack(tally, "f(x-ηG)-f(x) for f = cx²/2, L = 1", drawn, decide, margin)
    return tally.evidence()


@check(
    "lem17_bounded_loss",
    part="proof_64",
    method="class",
    equations=(64,),
    printed={"power": 2},
    falsehoods={"twice_the_slope": {"factor": 2}, "squared": {"power": 2, "factor": 1}},
    errata=Erratum(
        place="(64)",
        repair="At distance 1 Cauchy-Schwarz bounds ‖∇‖, not ‖∇‖², from below by (ρ1-ρ*)ᵀ∇; so replace √μ1 by μ1 from "
        "there on.",
        survives="Yes: the thresholds change, the bound on the loss stays.",
    ),
    strengthen=lambda excess: {"factor": 1 + excess},
)
def gradient_on_the_unit_sphere(*, power: int = 1, factor: Fraction | int = 1) -> Evidence:
    """‖∇f(ρ1)‖ ≥ (ρ1-ρ*)ᵀ∇f(ρ1) ≥ μ for ‖ρ1-ρ*‖ = 1 and f μ-strongly convex.

    Proof.  ‖∇‖² - (uᵀ∇)² = ‖∇ - (uᵀ∇)u‖² for a unit vector u; and uᵀ∇ ≥ μ‖u‖² by strong convexity and ∇f(ρ*) = 0.
    """
    tally = Tally()
    if power == 1 and factor <= 1:
        g1, g2, angle = sp.symbols("g_1 g_2 a", real=True)
        along = g1 * sp.cos(angle) + g2 * sp.sin(angle)
        across = g1 * sp.sin(angle) - g2 * sp.cos(angle)
        tally.step(
            vanishes(sp.simplify(g1**2 + g2**2 - along**2 - across**2)), "Cauchy-Schwarz in the plane of u and ∇"
        )
    for curvature in [Fraction(1, 16), Fraction(1, 4), Fraction(1), Fraction(4)]:
        tally.claim(
            at_most(factor * curvature, curvature**power), "‖∇f(1)‖^p >= μ for f = μx²/2", mu=curvature, p=power
        )
    return tally.evidence()


def gradient_beyond_the_sphere() -> Evidence:
    """Return the step from the unit sphere outwards: along the ray uᵀ∇f does not decrease, so it stays at least μ."""
    tally = Tally()
    gain, spare = sp.symbols("gain s", nonnegative=True)
    far = MU + spare + gain
    tally.step(vanishes(far - MU - spare - gain), "uᵀ∇f(ρ) = uᵀ∇f(ρ1) + gain >= μ beyond the unit sphere")
    return tally.evidence()


@check(
    "lem17_bounded_loss",
    part="proof_68",
    method="symbolic",
    equations=(65, 66, 67, 68),
    falsehoods={"double_the_decrease": {"numerator": 6}, "larger_error": {"error": Fraction(1, 2)}},
    strengthen=lambda excess: {"numerator": 3 * (1 + excess)},
)
def decrease_outside_the_ball(*, numerator: Fraction | int = 3, error: Fraction = Fraction(1, 4)) -> Evidence:
    """‖ζ‖ ≤ m/4 and ‖G‖ ≥ 3m/4 give -(η/2)‖G‖² + ηζᵀG ≤ -(3η/32)m²; the printed m is √μ1, the repaired one μ1.

    Proof.  With ‖G‖ = 3m/4+a and ‖ζ‖ = m/4-b, a, b ≥ 0: -(η/2)‖G‖(‖G‖-2‖ζ‖) + (3η/32)m² = -(η/2)(am + a² + 3bm/2 +
    2ab).
    """
    tally = Tally()
    a, b, m = sp.symbols("a b m", nonnegative=True)
    length, bound = sp.Rational(3, 4) * m + a, m / 4 - b
    left = ETA / 2 * length * (length - 2 * bound) - 3 * ETA / 32 * m**2
    if numerator == 3 and error == Fraction(1, 4):
        tally.step(vanishes(left - ETA / 2 * (a * m + a**2 + 3 * b * m / 2 + 2 * a * b)), "(66) to (68)")
    for m_value, extra in product([Fraction(1, 2), Fraction(3)], [Fraction(0), Fraction(1)]):
        g, zeta = Fraction(3, 4) * m_value + extra, error * m_value
        change = -g * (g - 2 * zeta) / 2
        tally.claim(at_most(change, -numerator * m_value**2 / 32), "η = 1, ζ parallel to G", m=m_value, G=g, zeta=zeta)

    def margin(m: Fraction, more: Fraction, part: Fraction) -> Fraction:
        g = Fraction(3, 4) * m + more
        return g * (g - 2 * part * error * m) / 2 - numerator * m**2 / 32

    attack(
        tally,
        "-(η/2)‖G‖²+ηζᵀG, η = 1, ‖G‖ = 3m/4+more, ζᵀG = part·‖ζ‖‖G‖",
        arguments(m=rational(Fraction(1, 1000), 9), more=rational(0, 1000), part=rational(-1, 1)),
        lambda **drawn: margin(**drawn) >= 0,
        margin,
    )
    return tally.evidence()


@check(
    "lem17_bounded_loss",
    part="proof_70",
    method="symbolic",
    equations=(69, 70, 71),
    printed={"from_next": True},
    falsehoods={"smaller_ball": {"factor": Fraction(1, 2)}, "next_on_the_right": {"from_next": True}},
    errata=Erratum(
        place="(70)",
        repair="On its right-hand side ρ^{t+1} should read ρ^t.",
        survives="Yes: the chain then gives the ball of (71).",
        scan=True,
    ),
)
def one_step_from_inside_the_ball(*, from_next: bool = False, factor: Fraction | int = 1) -> Evidence:
    """‖ρ^t-ρ*‖ < 1 gives ‖ρ^{t+1}-ρ*‖ ≤ ‖ρ^t-ρ*‖ + η(L+e) ≤ 1 + η(L+e), where e bounds the error.

    As printed the middle term has ρ^{t+1}, which makes the second inequality say ‖ρ^{t+1}-ρ*‖ ≤ 1.
    Proof.  Triangle inequality, with ‖∇f(ρ^t)‖ ≤ L‖ρ^t-ρ*‖ < L.
    """
    tally = Tally()
    d, g, e = sp.symbols("d g e", nonnegative=True)
    tally.step(vanishes((d + ETA * (L + e)) - (d + ETA * (g + e)) - ETA * (L - g)), "what remains is η(L-‖∇‖) >= 0")
    # f = Lx²/2 with η = 1/L: x = 9/10, error -e, so x' = e/L.
    for smooth, error in product([Fraction(1), Fraction(4)], [Fraction(1, 4), Fraction(9)]):
        x = Fraction(9, 10)
        after = abs(x - (smooth * x - error) / smooth)
        middle = after if from_next else x
        step = (smooth + error) / smooth
        tally.claim(
            both(at_most(after, middle + factor * step), at_most(middle, 1), at_most(after, 1 + factor * step)),
            "middle term of (70) at most 1",
            L=smooth,
            e=error,
            x=x,
            next=after,
        )
    if factor < 1:
        x, smooth, error = Fraction(9, 10), Fraction(1), Fraction(10)
        after = abs(x - 2 * (smooth * x - error) / smooth)
        tally.claim(at_most(after, 1 + factor * 2 * (smooth + error)), "η = 2/L", x=x, next=after)
    return tally.evidence()


@check(
    "lem18_bounded_models",
    part="proof_73",
    method="class",
    equations=(72, 73),
    printed={"around": "iterate"},
    falsehoods={"double_slope": {"slope": 1}, "around_the_iterate": {"around": "iterate"}},
    errata=Erratum(
        place="(72)",
        repair="The sphere is ‖ρ-ρ*‖ = 1, around the minimizer and not around ρ^t; M_2 is the M of Lemma 17.",
        survives="Yes.",
        scan=True,
    ),
    strengthen=lambda excess: {"slope": Fraction(1, 2) * (1 + excess)},
)
def growth_outside_the_unit_ball(*, slope: Fraction | int = Fraction(1, 2), around: str = "minimizer") -> Evidence:
    """f(ρ) ≥ f(ρ*) + (μ/2)‖ρ-ρ*‖ wherever ‖ρ-ρ*‖ ≥ 1, for f convex, μ-strongly convex on the unit ball around ρ*.

    Proof.  On the sphere f ≥ f* + μ/2.  Beyond it, at distance r, convexity along the ray says
    f(sphere) ≤ (1-1/r)f* + f(ρ)/r, hence f(ρ) - f* ≥ r(f(sphere)-f*) ≥ rμ/2.
    """
    tally = Tally()
    r, sphere, least, value = sp.symbols("r f_1 f_* f", positive=True)
    if slope <= Fraction(1, 2) and around == "minimizer":
        chord = (1 - 1 / r) * least + value / r - sphere
        tally.step(vanishes((value - least) - r * (sphere - least) - r * chord), "the chord bounds f(ρ)-f* from below")
    # Huber: μx²/2 up to 1, then μ(|x|-1/2): the least growth that convexity allows.
    for mu, far, centre in product(
        [Fraction(1, 3), Fraction(2)], [Fraction(1), Fraction(5, 4), Fraction(9)], [Fraction(0), Fraction(1)]
    ):
        if around == "minimizer" and centre != 0:
            tally.skip()
            continue
        # (72) about an iterate at `centre`: the point at distance 1 from it may be the minimizer itself.
        point = far if around == "minimizer" else centre - 1
        distance = abs(point)
        growth = mu * distance**2 / 2 if distance <= 1 else mu * (distance - Fraction(1, 2))
        if around == "minimizer":
            tally.claim(at_most(slope * mu * distance, growth), "f(ρ)-f* for Huber's f", mu=mu, rho=point)
        else:
            tally.claim(
                at_most(mu / 2, growth), "(72): f(ρ)-f* >= μ/2 where ‖ρ-ρ^t‖ = 1", mu=mu, rho=point, iterate=centre
            )
    return tally.evidence()


def _step_of_huber(x: Fraction, slope: Fraction) -> Fraction:
    """Return f'(x) for Huber's f: x²/2 up to |x| = 1, slope ±1 beyond, times ``slope``."""
    return slope * max(Fraction(-1), min(Fraction(1), x))


@check(
    "lem17_bounded_loss",
    method="class",
    printed={"has_minimizer": False},
    falsehoods={
        "errors_need_not_vanish": {"error": Fraction(2)},
        "step_beyond_two_over_l": {"reach": Fraction(3)},
        "without_a_minimizer": {"has_minimizer": False},
    },
    errata=Erratum(
        place="Lemma 17",
        repair="Suppose that the limiting loss has a minimizer ρ* (see Lemma 15), which the proof takes for granted.",
        survives="Yes, where a minimizer exists. Else (N = 2, smooth-ℓ2, d ≥ 2) reports of length λ that turn slowly "
        "enough towards their limit send ρ so far aside that the loss grows beyond every bound.",
    ),
)
def loss_stays_bounded(
    *, error: Fraction = Fraction(1, 4), reach: Fraction | int = 1, has_minimizer: bool = True
) -> Evidence:
    """f(ρ^t) ≤ M for all t, for η ≤ 1/L and errors that fall below μ/4, if f has a minimizer ρ*.

    Proof.  Outside the unit ball around ρ* the loss decreases, by (64) as repaired and (65)-(68); from inside it a step
    reaches at most the ball of (71), of radius r = 1+η(L+e), on which the loss is at most f*+Lr²/2.  So, from the
    round T on in which errors are small, f(ρ^t) ≤ M := max(f(ρ^T), f*+Lr²/2) by induction; before T there are finitely
    many values.

    Without a minimizer: N = 2, smooth-ℓ2, d = 2, λ = ν = 1, no data, limit g∞ = -(1, 0).  Report -u with a unit vector
    u for many rounds: e(ρ) ≥ ‖ρ‖-c falls to no minimum, so that ‖ρ‖ grows beyond all bounds, while ‖ρ‖-uᵀρ stays
    bounded, as e(ρ)-uᵀρ does not increase.  So f = e-ρ_1 grows like (1-u_1)‖ρ‖.  Go on until f > k, then take a u that
    is nearer to (1, 0), for k = 1, 2, ...: the reports converge, f is unbounded.  Instances: f on the ray of u.
    """
    tally = Tally()
    if not has_minimizer:
        for (first, k), most in product([(Fraction(3, 5), 10**4), (Fraction(399, 401), 10**7)], [10, 10**3]):
            z, root = Fraction(k * k - 1, 2 * k), Fraction(k * k + 1, 2 * k)  # root = √(1+z²)
            pull = z / root
            length = z + pull / 2  # ‖ρ‖ where ‖ρ-θ‖ = z and 2νθ = pull
            tally.claim(
                at_most((pull / 2) ** 2 + root - first * length, most),
                "f(ρ) <= M on the way of ρ^t under reports of length 1, ρ = ‖ρ‖·u",
                u=[first, Fraction(4, 5) if first == Fraction(3, 5) else Fraction(40, 401)],
                length=float(length),
                M=most,
            )
    if error <= Fraction(1, 4) and reach <= 1 and has_minimizer:
        bound = -ETA / 2 * G**2 + ETA * ZETA * G
        upper = -ETA * G * (G - ZETA) + L / 2 * ETA**2 * G**2
        tally.step(vanishes(bound - upper - ETA / 2 * (1 - ETA * L) * G**2), "the loss falls by Lemma 16")
        for part in (gradient_on_the_unit_sphere(), gradient_beyond_the_sphere(), decrease_outside_the_ball()):
            tally.adopt(part)
        tally.adopt(one_step_from_inside_the_ball())
        r, least, slope, now, drop, most = sp.symbols("r f_* s f_t drop M", nonnegative=True)
        # f(x) <= f*+L‖x-x*‖²/2, with slack s; and M-f_t >= 0 before the step.
        inside = least + L * r**2 / 2 - slope
        tally.step(vanishes(least + L * r**2 / 2 - inside - slope), "inside the ball of radius r: f <= f*+Lr²/2 <= M")
        tally.step(vanishes((most - (now - drop)) - (most - now) - drop), "outside: f(ρ^{t+1}) <= f(ρ^t) <= M")
    for start, curvature in product([Fraction(0), Fraction(5)], [Fraction(1), Fraction(1, 2)]):
        # Quadratic and Huber losses, errors that push outwards with all they may.
        for is_huber in (True, False):
            x, eta = start, reach / curvature
            for _ in range(80):
                slope = _step_of_huber(x, curvature) if is_huber else curvature * x
                x -= eta * (slope - error * curvature * (1 if x >= 0 else -1))
                x = x.limit_denominator(10**12)
            tally.claim(
                at_most(abs(x), start + 20),
                "|ρ^80| <= |ρ^0| + 20",
                start=start,
                mu=curvature,
                huber=is_huber,
                last=float(x),
            )
    return tally.evidence()


@check(
    "lem18_bounded_models",
    method="class",
    printed={"has_minimizer": False},
    falsehoods={"without_a_minimizer": {"has_minimizer": False}, "half_the_radius": {"factor": Fraction(1, 2)}},
    errata=Erratum(
        place="Lemma 18",
        repair="Suppose that the limiting loss has a minimizer (see Lemma 15): then the radius is (2/μ)(M - f(ρ*)), "
        "or 1.",
        survives="Yes, where a minimizer exists; else the iterates run away.",
    ),
)
def sublevel_sets_are_bounded(*, has_minimizer: bool = True, factor: Fraction | int = 1) -> Evidence:
    """f(ρ) ≤ M implies ‖ρ-ρ*‖ ≤ max(1, (2/μ)(M-f*)), for f convex and μ-strongly convex on the unit ball around ρ*.

    Proof.  Outside the unit ball f(ρ)-f* ≥ (μ/2)‖ρ-ρ*‖ (the step (73)).  It takes a minimizer: with N = 2, smooth-ℓ2
    and reports of length λ on the boundary the loss falls for ever.
    """
    tally = Tally()
    r, sphere, least, value = sp.symbols("r f_1 f_* f", positive=True)
    if has_minimizer and factor >= 1:
        chord = (1 - 1 / r) * least + value / r - sphere
        tally.step(vanishes((value - least) - r * (sphere - least) - r * chord), "the chord bounds f(ρ)-f* from below")
    for mu, distance in product([Fraction(1, 3), Fraction(2)], [Fraction(3, 2), Fraction(9), Fraction(1)]):
        level = mu * (distance - Fraction(1, 2))
        tally.claim(
            at_most(distance, max(factor, factor * 2 * level / mu)), "Huber's f on its level set", mu=mu, rho=distance
        )
    if not has_minimizer:
        for z, root in [
            (Fraction(3, 4), Fraction(5, 4)),
            (Fraction(40, 9), Fraction(41, 9)),
            (Fraction(399, 40), Fraction(401, 40)),
        ]:
            tally.claim(
                at_most(1, z / root),
                "N = 2, λ = ν = 1, no data, report -1: the honest report reaches 1 at some ρ, so that ρ^t does not "
                "increase",
                rho=z + z / root / 2,
                honest_report=z / root,
            )
    return tally.evidence()


@check(
    "lem19_recursion",
    method="symbolic",
    equations=(74, 78, 79),
    printed={"contracts": False},
    falsehoods={"alpha_one": {"contracts": False}, "errors_need_not_vanish": {"errors_vanish": False}},
    errata=Erratum(
        place="Lemma 19",
        repair="Suppose 0 ≤ α < 1.",
        survives="Yes: it is used with α = 1-ημ/2, which is below 1.",
    ),
)
def recursion_tends_to_zero(*, contracts: bool = True, errors_vanish: bool = True) -> Evidence:
    """u_{t+1} ≤ αu_t + δ_t with 0 ≤ α < 1 and δ_t → 0 gives u_t → 0.

    Proof.  u_{t+1} ≤ α^{t+1}u_0 + Σα^τδ_{t-τ}.  Let δ_s ≤ ε(1-α)/2 for s ≥ T; the late terms sum to at most
    (ε(1-α)/2)/(1-α) = ε/2, and the early ones with u_0 are Mα^{t+1}, M = u_0+M_0.  If M > 0, with α = 1/(1+x) that is
    at most M/(1+(t+1)x) (Bernoulli), which is below ε/2 from t = 2M/(εx) on.  For α = 0, u_{t+1} ≤ δ_t.
    """
    tally = Tally()
    alpha, eps, u, d = sp.symbols("alpha epsilon u delta", positive=True)
    t = sp.Symbol("t", integer=True, nonnegative=True)
    if contracts and errors_vanish:
        geometric = (1 - alpha ** (t + 1)) / (1 - alpha)
        tally.step(vanishes(geometric.subs(t, 0) - 1), "the geometric sum begins with 1")
        tally.step(vanishes(geometric.subs(t, t + 1) - geometric - alpha ** (t + 1)), "and grows by α^{t+1}")
        tally.step(vanishes(eps * (1 - alpha) / 2 / (1 - alpha) - eps / 2), "the late terms sum to at most ε/2")
        s = sp.Symbol("s", integer=True)
        early = sp.powsimp(alpha ** (t - s) / alpha ** (t + 1), combine="exp")
        tally.step(vanishes(sp.simplify(early - alpha ** (-s - 1))), "an early term is α^{t+1}·α^{-s-1}δ_s")
        tally.step(vanishes(alpha * (alpha**t * u) + d - (alpha ** (t + 1) * u + d)), "the induction step of (74)")
        powers_vanish(tally)
    for a, first in product(
        [Fraction(0), Fraction(1, 2), Fraction(9, 10), Fraction(1), Fraction(2)], [Fraction(0), Fraction(1)]
    ):
        if (a < 1) is not contracts and contracts:
            tally.skip()
            continue
        value = first
        for step in range(200):
            value = a * value + (Fraction(1, 2 ** min(step, 60)) if errors_vanish else Fraction(1))
            value = value.limit_denominator(10**30) if value.denominator > 10**30 else value
        tally.claim(
            less(value, Fraction(1, 1000)),
            "u_200 < 1/1000 where equality holds throughout",
            alpha=a,
            u_0=first,
            u_200=float(value),
        )
    return tally.evidence()


@check(
    "lem19_recursion",
    part="proof_77",
    method="certified",
    equations=(75, 76, 77),
    falsehoods={"split_one_late": {"shift": 1}, "power_short_by_two": {"power": 1}},
)
def early_and_late_errors(*, shift: int = 0, power: int = -1) -> Evidence:
    """Σ_{τ=0}^{t} α^τδ_{t-τ} = Σ_{τ=0}^{t-T} α^τδ_{t-τ} + α^{t+1}Σ_{s=0}^{T-1} α^{-s-1}δ_s, exactly."""
    tally = Tally()
    for alpha, late, more in product([Fraction(1, 3), Fraction(4, 5)], range(1, 5), range(4)):
        t = late + more
        delta = [Fraction(k * k + 1, k + 2) for k in range(t + 1)]
        whole = sum(alpha**k * delta[t - k] for k in range(t + 1))
        tail = sum(alpha**k * delta[t - k] for k in range(t - late + 1 + shift) if t - k >= 0)
        early = sum(alpha ** (t + 1) * alpha ** (-s + power) * delta[s] for s in range(late))
        tally.claim(whole == tail + early, "both sides of (75) to (77)", alpha=alpha, t=t, T=late)
    return tally.evidence()


@check(
    "lem15_convergence",
    part="proof_85",
    method="symbolic",
    equations=(57, 58, 80, 81, 82, 83, 84, 85, 86, 87, 88),
    falsehoods={"wrong_sign": {"sign": -1}, "without_the_half": {"half": 1}},
)
def three_points(*, sign: int = 1, half: Fraction | int = Fraction(1, 2)) -> Evidence:
    """(ρ-ρ*)ᵀG = (η/2)‖G‖² + (‖ρ-ρ*‖²-‖ρ'-ρ*‖²)/(2η) for ρ' = ρ-ηG; with Lemma 16 and strong convexity it gives
    (88).
    """
    tally = Tally()
    after = X - ETA * G
    right = sp.Rational(half) * ETA * G**2 + sign * ((X - STAR) ** 2 - (after - STAR) ** 2) / (2 * ETA)
    tally.step(vanishes((X - STAR) * G - right), "(82) to (85)")
    gap, drop = sp.symbols("f(x)-f* f(x)-f(x')", real=True)
    upper = (X - STAR) * (G - ZETA) - MU / 2 * (X - STAR) ** 2 - gap  # >= 0 by strong convexity
    descent = -ETA / 2 * G**2 + ETA * ZETA * G + drop  # >= 0 by Lemma 16
    claimed = ((X - STAR) ** 2 - (after - STAR) ** 2) / (2 * ETA) - (X - STAR) * ZETA - MU / 2 * (X - STAR) ** 2
    claimed += ETA * ZETA * G
    tally.step(vanishes(claimed - upper - descent - (gap - drop)), "(88) is the sum of three nonnegative terms")
    for x, g, star, eta in rationals(5, 30, 4):
        if eta <= 0:
            tally.skip()
            continue
        after_x = x - eta * g
        rest = half * eta * g**2 + sign * ((x - star) ** 2 - (after_x - star) ** 2) / (2 * eta)
        tally.claim((x - star) * g == rest, "(ρ-ρ*)ᵀG", x=x, G=g, star=star, eta=eta)
    return tally.evidence()


@check(
    "lem15_convergence",
    part="proof_89",
    method="class",
    equations=(89, 90, 91),
    printed={"factor": 1},
    falsehoods={"missing_two": {"factor": 1}, "three_halves": {"factor": Fraction(3, 2)}, "other_sign": {"factor": -2}},
    errata=Erratum(
        place="(89)",
        repair="Multiplying (88) by 2η gives 2η, not η, before the error term: ‖ρ'-ρ*‖² ≤ (1-μη)‖ρ-ρ*‖² - 2η(ρ'-ρ*)ᵀζ; "
        "so δ_t = 2η‖ζ_t‖ in (91).",
        survives="Yes: δ_t still tends to 0.",
    ),
    strengthen=lambda excess: {"factor": 2 * (1 - excess)},
)
def one_step_with_an_error(*, factor: Fraction | int = 2) -> Evidence:
    """‖ρ'-ρ*‖² ≤ (1-μη)‖ρ-ρ*‖² - 2η(ρ'-ρ*)ᵀζ for η ≤ 1/L.

    Proof.  2η times (88), with ηG = ρ-ρ': the error terms -2η(ρ-ρ*)ᵀζ + 2ηζᵀ(ρ-ρ') join to -2η(ρ'-ρ*)ᵀζ.
    """
    tally = Tally()
    after = X - ETA * G
    inequality_88 = ((X - STAR) ** 2 - (after - STAR) ** 2) / (2 * ETA) - (X - STAR) * ZETA - MU / 2 * (X - STAR) ** 2
    inequality_88 += ETA * ZETA * G
    claimed = (1 - MU * ETA) * (X - STAR) ** 2 - sp.Rational(factor) * ETA * (after - STAR) * ZETA - (after - STAR) ** 2
    if factor == 2:
        tally.step(vanishes(claimed - 2 * ETA * inequality_88), "(89) is 2η times (88)")
    # f = μx²/2 with L = μ, where every inequality used is as tight as it gets.
    for q, x, error in product(Q, [Fraction(1), Fraction(-2)], [Fraction(n, 4) for n in range(-8, 9)]):
        after_x = (1 - q) * x - error
        bound = (1 - q) * x**2 - factor * after_x * error
        tally.claim(at_most(after_x**2, bound), "f = μx²/2, q = ημ, ηζ = e", q=q, x=x, e=error, next=after_x)
    # There the slack is q(1-q)x²+e²; the factor 2(1-s) adds 2s·x'e, so that s is caught at e = -s, q = s²/2.
    for digits in range(1, 14):
        s = Fraction(1, 10**digits)
        after_x = 1 - s * s / 2 + s
        bound = 1 - s * s / 2 + factor * after_x * s
        tally.claim(at_most(after_x**2, bound), "f = μx²/2, q = s²/2, ηζ = -s, x = 1", s=s, next=after_x)

    def margin(mu: Fraction, c: Fraction, eta: Fraction, x: Fraction, e: Fraction) -> Fraction:
        after = x - eta * c * x - e
        return (1 - min(mu, c) * eta) * x**2 - factor * after * e - after**2

    # L = 1; f = cx²/2 is μ-strongly convex for μ <= c.
    unit = rational(0, 1)
    attack(
        tally,
        "f = cx²/2, μ <= c <= L = 1, η <= 1, ηζ = e",
        arguments(mu=unit, c=unit, eta=unit, x=rational(), e=rational()),
        lambda **drawn: margin(**drawn) >= 0,
        margin,
    )
    return tally.evidence()


@check(
    "lem15_convergence",
    part="proof_93",
    method="symbolic",
    equations=(92, 93),
    falsehoods={"without_delta": {"of_delta": Fraction(1, 2)}, "faster": {"rate": 1}},
    strengthen=lambda excess: {"rate": Fraction(1, 2) * (1 + 10 * excess)},
)
def from_squares_to_distances(*, of_delta: Fraction | int = 1, rate: Fraction | int = Fraction(1, 2)) -> Evidence:
    """v² ≤ (1-q)u² + δv with u, v, δ ≥ 0, 0 ≤ q ≤ 1 gives v ≤ (1-q/2)u + δ.

    Proof.  (v-δ/2)² ≤ (1-q)u² + δ²/4 ≤ ((1-q/2)u + δ/2)²: the difference of the last two is q²u²/4 + (1-q/2)uδ.
    """
    tally = Tally()
    u, v, d, q = sp.symbols("u v delta q", nonnegative=True)
    if of_delta == 1 and rate == Fraction(1, 2):
        tally.step(vanishes((v - d / 2) ** 2 - (v**2 - v * d + d**2 / 4)), "(92) completes the square")
        left = ((1 - q / 2) * u + d / 2) ** 2 - ((1 - q) * u**2 + d**2 / 4)
        tally.step(vanishes(left - (q**2 * u**2 / 4 + (1 - q / 2) * u * d)), "what remains is q²u²/4 + (1-q/2)uδ >= 0")
    # v with equality for given u, δ: choose v and δ, then u.
    for root, q_value, delta in product(
        [Fraction(0), Fraction(1)],
        [Fraction(0), Fraction(19, 100), Fraction(3, 4), Fraction(1)],
        [Fraction(0), Fraction(3)],
    ):
        # √(1-q) is rational at these q; with δ = 0 equality is v = √(1-q)·u, else u = 0 gives v = δ.
        slope = {
            Fraction(0): Fraction(1),
            Fraction(19, 100): Fraction(9, 10),
            Fraction(3, 4): Fraction(1, 2),
            Fraction(1): Fraction(0),
        }[q_value]
        u_value = root if delta == 0 else Fraction(0)
        v_value = slope * u_value if delta == 0 else delta
        tally.claim(
            at_most(v_value, (1 - rate * q_value) * u_value + of_delta * delta),
            "v <= (1-q/2)u+δ",
            u=u_value,
            q=q_value,
            delta=delta,
            v=v_value,
        )

    def margin(u: Fraction, q: Fraction, delta: Fraction, v: Fraction) -> Fraction:
        # A v beyond the hypothesis says nothing.
        return (1 - rate * q) * u + of_delta * delta - v if v * v <= (1 - q) * u * u + delta * v else Fraction(1)

    size = rational(0, 1000)
    attack(
        tally,
        "v <= (1-q/2)u+δ where v² <= (1-q)u²+δv",
        arguments(u=size, q=rational(0, 1), delta=size, v=size),
        lambda **drawn: margin(**drawn) >= 0,
        margin,
    )
    tiny = Fraction(1, 10**14)
    # √(1-q) >= 1 - q/2 - q²/2 for q <= 1/2.
    tally.claim(at_most(1 - tiny / 2 - tiny**2 / 2, 1 - rate * tiny), "q = 10⁻¹⁴, u = 1, δ = 0", q=tiny)
    return tally.evidence()


@check(
    "lem15_convergence",
    method="class",
    unneeded={"η ≤ 1/L (any η < 2/L will do; proved in C4)": {"reach": Fraction(3, 2)}},
    printed={"interior": False},
    falsehoods={
        "limit_on_the_boundary": {"interior": False},
        "nu_zero": {"nu": 0},
        "step_beyond_two_over_l": {"reach": Fraction(5, 2)},
    },
    errata=Erratum(
        place="Lemma 15",
        repair="Suppose that the limiting loss Loss¹_s has a minimizer: with ν > 0 it does for ℓ2², and for smooth-ℓ2 "
        "exactly if "
        "‖g∞‖ < (N-1)λ, which can fail only for N = 2 and ‖g∞‖ = λ.",
        survives="Yes, for N ≥ 3 or a limit inside the ball. For N = 2 an attacker on the boundary sends the global "
        "model to infinity.",
    ),
)
def global_model_converges(*, interior: bool = True, nu: Fraction | int = 1, reach: Fraction | int = 1) -> Evidence:
    """The global model converges for η ≤ 1/L, if ν > 0 and the limiting loss has a minimizer.

    Proof.  (88), (89) and (93) give u_{t+1} ≤ (1-ημ/2)u_t + 2η‖ζ_t‖ on a ball that contains all iterates (Lemma 18)
    and ρ*, where μ > 0 is the modulus on it (Lemma 13), and 0 < ημ ≤ 1 as μ ≤ L; Lemma 19 ends it.

    Without a minimizer it fails.  N = 2, smooth-ℓ2, no data, ν > 0, g_s = -λ throughout: the honest report is
    F(ρ) = λz/√(1+z²) < λ for every ρ, so F(ρ)+g_s < 0 and ρ increases for ever; a finite limit would need F = λ.
    """
    tally = Tally()
    u, q, d = sp.symbols("u q delta", nonnegative=True)
    if interior and nu and reach <= 1:
        left = ((1 - q / 2) * u + d / 2) ** 2 - ((1 - q) * u**2 + d**2 / 4)
        tally.step(vanishes(left - (q**2 * u**2 / 4 + (1 - q / 2) * u * d)), "u' <= (1-q/2)u + δ, as in (93)")
        tally.adopt(three_points())
        tally.adopt(one_step_with_an_error())
        half = sp.Symbol("r", positive=True)
        pull = half / sp.sqrt(1 + half**2)
        tally.step(bool(sp.simplify(1 - pull**2).is_positive) or None, "F(ρ)² < λ² for smooth-ℓ2 with N = 2")
    if not interior:
        # z is the root of λz/√(1+z²) = 2ν(ρ-z); we take ρ as a function of z: the report is λz/√(1+z²) < λ.
        for z in [Fraction(3, 4), Fraction(12, 5), Fraction(40, 9)]:
            root = {Fraction(3, 4): Fraction(5, 4), Fraction(12, 5): Fraction(13, 5), Fraction(40, 9): Fraction(41, 9)}[
                z
            ]
            rho = z + z / root / 2
            tally.claim(
                at_most(1, z / root),
                "N = 2, λ = 1, ν = 1, no data, report -1: the honest report at ρ equals 1, where alone ρ could rest",
                rho=rho,
                honest_report=z / root,
            )
    # ℓ2², N-1 honest users without data: F(ρ) = (N-1)·2λν/(λ+ν)·ρ = Lρ.
    for lam, users, g in product([Fraction(1, 2), Fraction(2)], [1, 3], [Fraction(0), Fraction(-1)]):
        smooth = users * 2 * lam * nu / (lam + nu)
        if smooth == 0:
            tally.claim(g == 0, "no curvature: ρ^t = ρ^0 - ηtg runs away", lam=lam, nu=nu, g=g)
            continue
        eta = reach / smooth
        rho, rest = Fraction(1), -g / smooth
        for t in range(60):
            rho -= eta * (smooth * rho + g + Fraction(1, 2**t))
        tally.claim(
            less(abs(rho - rest), Fraction(1, 10**6)),
            "|ρ^60 - ρ*| < 10⁻⁶ where errors are 2^-t",
            lam=lam,
            nu=nu,
            g=g,
            eta=eta,
        )
    return tally.evidence()
