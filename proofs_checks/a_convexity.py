r"""Appendix A: convexity lemmas.

An inequality over all functions of a class follows from finitely many inequalities that the class satisfies, with
nonnegative multipliers and a sum of squares; SymPy verifies the identity.  Inner products of vectors are written as
products of scalars, which loses nothing (see :func:`proofs_checks.search.is_sum_of_squares`), so each certificate holds
in every dimension.  Instances are quadratic, with exact rational coefficients.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import sympy as sp
from hypothesis import strategies as st

from proofs_checks.exact import is_positive_semidefinite, matrix
from proofs_checks.registry import Erratum, Evidence, Tally, at_most, both, check, less
from proofs_checks.search import attack, is_sum_of_squares, rationals, vanishes
from proofs_checks.strategies import arguments, rational

MU, L, T = sp.symbols("mu L t", positive=True)
NU, LAM = sp.symbols("nu lambda", positive=True)
SMALL = [Fraction(1, 4), Fraction(1), Fraction(7, 2)]


def _nonnegative(value: object) -> bool:
    return bool(sp.sympify(value).is_nonnegative)


@check(
    "def4_locally_strongly_convex",
    method="class",
    equations=(8,),
    printed={"condition": "norm"},
    falsehoods={
        "twice_the_modulus": {"factor": 2},
        "convex_is_enough": {"factor": Fraction(1, 2), "condition": "convex"},
    },
    errata=Erratum(
        place="the remark after (8)",
        repair="For differentiable f the condition is <∇f(x)-∇f(y), x-y> ≥ μ‖x-y‖²; the norm inequality follows from "
        "it, but does not imply it (f = -x²/2).",
        survives="Yes: only the direction that holds is used.",
    ),
    strengthen=lambda excess: {"factor": 1 + excess},
)
def gradient_condition_of_strong_convexity(*, condition: str = "monotone", factor: Fraction | int = 1) -> Evidence:
    """For differentiable f, (8) on C is the same as <∇f(x)-∇f(y), x-y> ≥ μ‖x-y‖² on C; so ‖∇f(x)-∇f(y)‖ ≥ μ‖x-y‖.

    Proof.  *From gradients to (8)*: f(b) - f(a) - <∇f(a), b-a> = ∫ <∇f(a+t(b-a)) - ∇f(a), b-a> dt ≥ ∫ μt‖b-a‖² dt =
    μ‖b-a‖²/2.  Use it from z = λx+(1-λ)y towards x and towards y, with weights λ and 1-λ; λ‖x-z‖² + (1-λ)‖y-z‖² =
    λ(1-λ)‖x-y‖².  *Back*: (8) divided by λ is (f(y+λ(x-y))-f(y))/λ ≤ f(x)-f(y)-(μ/2)(1-λ)‖x-y‖², and λ → 0 makes
    <∇f(y), x-y> ≤ f(x)-f(y)-(μ/2)‖x-y‖² of it; add the same with x and y exchanged.  The norm: Cauchy-Schwarz.
    """
    tally = Tally()
    x, y, weight = sp.symbols("x y w", real=True)
    z = weight * x + (1 - weight) * y
    if condition == "monotone" and _nonnegative(1 - factor):
        tally.step(vanishes(sp.integrate(MU * T, (T, 0, 1)) - MU / 2), "the integral of μt is μ/2")
        spread = weight * (x - z) ** 2 + (1 - weight) * (y - z) ** 2 - weight * (1 - weight) * (x - y) ** 2
        tally.step(vanishes(spread), "the weighted spread around z is λ(1-λ)‖x-y‖²")
        tally.step(vanishes(weight * (x - z) + (1 - weight) * (y - z)), "the gradient terms at z cancel")
        fx, fy, gx, gy = sp.symbols("f_x f_y g_x g_y", real=True)
        chord = weight * fx + (1 - weight) * fy - MU / 2 * weight * (1 - weight) * (x - y) ** 2
        quotient = fx - fy - MU / 2 * (1 - weight) * (x - y) ** 2
        tally.step(vanishes((chord - fy) / weight - quotient), "(8) bounds the difference quotient at y")
        tangents = (fx - fy - MU / 2 * (x - y) ** 2 - gy * (x - y)) + (fy - fx - MU / 2 * (x - y) ** 2 - gx * (y - x))
        tally.step(
            vanishes((gx - gy) * (x - y) - MU * (x - y) ** 2 - tangents), "both tangents add up to <Δ∇f, Δx> >= μ‖Δx‖²"
        )
        p, dx = sp.symbols("p dx", real=True)
        slack = p**2 - MU**2 * dx**2 - 2 * MU * (p * dx - MU * dx**2)
        tally.step(is_sum_of_squares(slack, [(sp.Integer(1), p - MU * dx)]), "so ‖Δ∇f‖ >= μ‖Δx‖")
    # f(x) = a x²/2 has ∇f(x)-∇f(y) = a (x-y); it is μ-strongly convex exactly if a >= μ.
    for a, mu in product([Fraction(-1), Fraction(0), Fraction(1, 2), Fraction(1), Fraction(3)], SMALL):
        meets = {"monotone": a >= mu, "norm": abs(a) >= mu, "convex": a >= 0}[condition]
        if not meets:
            tally.skip()
            continue
        # At λ = 1/2, x = 1, y = -1: f(0) = 0 <= f(1)/2 + f(-1)/2 - (μ/2)(1/4)·4.
        tally.claim(at_most(0, a / 2 - factor * mu / 2), "f(0) <= (f(1)+f(-1))/2 - μ/2 for f = a·x²/2", a=a, mu=mu)
    return tally.evidence()


@check(
    "lem6_sum_strongly_convex",
    method="class",
    falsehoods={"twice_the_modulus": {"factor": 2}, "g_not_convex": {"least_curvature_of_g": Fraction(-1)}},
    strengthen=lambda excess: {"factor": 1 + excess},
)
def sum_keeps_the_modulus(*, factor: Fraction | int = 1, least_curvature_of_g: Fraction | int = 0) -> Evidence:
    """f μ-strongly convex and g convex on C: f+g is (factor·μ)-strongly convex on C for factor ≤ 1.

    Proof.  Add (8) for f and Jensen's inequality for g; what remains is (1-factor)·(μ/2)·λ(1-λ)‖x-y‖² ≥ 0.
    """
    tally = Tally()
    weight, distance = sp.symbols("w D", nonnegative=True)
    spread = weight * (1 - weight) * distance
    if least_curvature_of_g >= 0:
        claimed, added = -factor * MU / 2 * spread, -MU / 2 * spread
        remainder = sp.expand(claimed - added)
        holds = vanishes(remainder - (1 - sp.Rational(factor)) * MU / 2 * spread) if factor <= 1 else None
        tally.step(holds, "what remains is (1-factor)(μ/2)λ(1-λ)D >= 0")
    attack(
        tally,
        "f+g = (μ+b)x²/2 has modulus μ+b",
        arguments(mu=rational(Fraction(1, 1000), 9), b=rational(least_curvature_of_g, 9)),
        lambda mu, b: factor * mu <= mu + b,
        lambda mu, b: mu + b - factor * mu,
    )
    for mu, b in product(SMALL, [Fraction(-1), Fraction(0), Fraction(2)]):
        if b < least_curvature_of_g:
            tally.skip()
            continue
        tally.claim(at_most(factor * mu, mu + b), "f+g = (μ+b)x²/2 has modulus μ+b", mu=mu, b=b)
    return tally.evidence()


@check(
    "lem7_sum_smooth",
    method="class",
    falsehoods={"half_the_sum": {"factor": Fraction(1, 2)}, "just_below": {"factor": Fraction(99, 100)}},
    strengthen=lambda excess: {"factor": 1 - excess},
)
def smoothness_constants_add(*, factor: Fraction | int = 1) -> Evidence:
    """‖u‖ ≤ L_f D and ‖v‖ ≤ L_g D give ‖u+v‖ ≤ (L_f+L_g) D, for u, v the differences of the gradients.

    Proof.  (L_f+L_g)²D² - ‖u+v‖² = (1+L_g/L_f)(L_f²D²-‖u‖²) + (1+L_f/L_g)(L_g²D²-‖v‖²) + ‖√(L_g/L_f)u - √(L_f/L_g)v‖²
    for positive constants; if one is 0, so is its vector.
    """
    tally = Tally()
    u, v, d = sp.symbols("u v D", real=True)
    lf, lg = sp.symbols("L_f L_g", positive=True)
    multipliers = (1 + lg / lf) * (lf**2 * d**2 - u**2) + (1 + lf / lg) * (lg**2 * d**2 - v**2)
    slack = (sp.Rational(factor) ** 2) * (lf + lg) ** 2 * d**2 - (u + v) ** 2
    excess = (sp.Rational(factor) ** 2 - 1) * (lf + lg) ** 2
    if factor >= 1:
        squares = [(sp.Integer(1), sp.sqrt(lg / lf) * u - sp.sqrt(lf / lg) * v), (excess, d)]
        tally.step(
            is_sum_of_squares(slack - multipliers, squares), "the triangle inequality by nonnegative multipliers"
        )
    number = rational(-9, 9)
    attack(
        tally,
        "‖u+v‖ <= (L_f+L_g)·D with L_f = ‖u‖, L_g = ‖v‖, D = 1, in the plane",
        arguments(u1=number, u2=number, t=number, size=rational(0, 9)),
        # v = size·(1-t², 2t)/(1+t²) has a rational length; u is compared by squares.
        lambda u1, u2, t, size: (
            _squared_sum(u1, u2, t, size) <= factor**2 * (u1**2 + u2**2 + size**2)
            or (_squared_sum(u1, u2, t, size) - factor**2 * (u1**2 + u2**2 + size**2)) ** 2
            <= 4 * factor**4 * (u1**2 + u2**2) * size**2
        ),
    )
    for a, b in product(SMALL, SMALL):
        tally.claim(at_most(a + b, factor * (a + b)), "f = a·x²/2 and g = b·x²/2 have gradients a·D and b·D", a=a, b=b)
    return tally.evidence()


def _squared_sum(u1: Fraction, u2: Fraction, t: Fraction, size: Fraction) -> Fraction:
    v1, v2 = size * (1 - t * t) / (1 + t * t), size * 2 * t / (1 + t * t)
    return (u1 + v1) ** 2 + (u2 + v2) ** 2


def _plane_quadratics(seed: int, count: int) -> list[tuple[Fraction, Fraction, Fraction]]:
    """Return positive definite [[a, b], [b, c]], rational, for f(x, y) = (ax² + 2bxy + cy²)/2."""
    found = []
    for p, q, r in rationals(seed, 8 * count, 3):
        a, b, c = p * p + q * q + Fraction(1, 8), q * r, r * r + Fraction(1, 8)
        if a * c > b * b:
            found.append((a, b, c))
    return found[:count]


_FACTORS = arguments(p=rational(-9, 9), q=rational(-9, 9), r=rational(Fraction(1, 1000), 9))
"""Upper triangular R = [[p, 0], [q, r]], so that RᵀR = [[p²+q², qr], [qr, r²]] is any Hessian with c > 0."""


def _at_least_eigenvalue(a: Fraction, b: Fraction, c: Fraction, mu: Fraction) -> bool:
    return is_positive_semidefinite(matrix([[a - mu, b], [b, c - mu]]))


def _rational_modulus(a: Fraction, b: Fraction, c: Fraction) -> Fraction:
    """Return a positive rational below the smallest eigenvalue: det/trace."""
    return (a * c - b * b) / (a + c)


@check(
    "lem8_lipschitz_minimizer",
    method="class",
    modulo=("heine_borel",),
    equations=(10, 11, 12, 13),
    falsehoods={
        "a_tenth": {"factor": Fraction(1, 10)},
        "one_over_l": {"power": -1, "factor": Fraction(1, 2)},
        "not_strongly_convex": {"is_strongly_convex": False},
    },
)
def minimizer_is_lipschitz(*, factor: Fraction | int = 1, power: int = 1, is_strongly_convex: bool = True) -> Evidence:
    """‖y*(x)-y*(x')‖ ≤ (L/μ)‖x-x'‖.

    Proof.  Let p = ∇_y f(x, y*(x')).  Then <-p, Δy> ≥ μ‖Δy‖² as ∇_y f(x, y*(x)) = 0, and ‖p‖ ≤ L‖Δx‖ as
    ∇_y f(x', y*(x')) = 0; and L²‖Δx‖² - μ²‖Δy‖² = (L²‖Δx‖²-‖p‖²) + 2μ(-<p, Δy>-μ‖Δy‖²) + ‖p+μΔy‖².

    The modulus μ is that of f on a compact convex set that contains all (x, y*(x)).  That there is one needs a word
    that the printed proof leaves out.  Let μ' be the modulus of f on X times the unit ball around y*(x').  If
    ‖y*(x)-y*(x')‖ > 1, let z be the point of the unit sphere towards y*(x), in the direction u: uᵀ∇_y f(x, z) ≤ 0 by
    convexity, while strong convexity on the ball puts it at least μ' above uᵀ∇_y f(x, y*(x')) ≥ -L‖x-x'‖.  So
    ‖x-x'‖ < μ'/L keeps y*(x) within 1 of y*(x'), and finitely many such balls cover X: y*(X) is bounded.

    L/μ is not sharp: the best constant for an f with Hessians between μ and L is (L-μ)/(2√(Lμ)).
    """
    tally = Tally()
    p, dx, dy = sp.symbols("p dx dy", real=True)
    if factor >= 1 and power == 1 and is_strongly_convex:
        multipliers = (L**2 * dx**2 - p**2) + 2 * MU * (-p * dy - MU * dy**2)
        slack = L**2 * dx**2 - MU**2 * dy**2
        tally.step(is_sum_of_squares(slack - multipliers, [(sp.Integer(1), p + MU * dy)]), "equations (10)-(13)")
        near, far, modulus = sp.symbols("s' s mu'", real=True)  # the slopes at y*(x') and at the sphere
        brackets = (L * dx + near) + (far - near - modulus) - far
        tally.step(vanishes(L * dx - modulus - brackets), "L‖Δx‖-μ' is a sum of three nonnegative terms if ‖Δy‖ > 1")
    # Hessians with eigenvalues L > μ whose axis has tangent t: y* = -(b/c) x.
    for mu, top, t in product(
        [Fraction(1), Fraction(1, 100)], [Fraction(1), Fraction(4)], [Fraction(0), Fraction(1, 10), Fraction(1)]
    ):
        a = (top * t * t + mu) / (1 + t * t)
        b = (top - mu) * t / (1 + t * t)
        c = (top + mu * t * t) / (1 + t * t)
        a, c = max(a, c), min(a, c)
        bound = factor * (top / mu) ** power
        tally.claim(at_most(abs(b / c), bound), "|dy*/dx| = |b/c| for f = (a·x²+2b·x·y+c·y²)/2", a=a, b=b, c=c)

    def decide(mu: Fraction, top: Fraction, t: Fraction) -> bool:
        top = mu + top
        slope = (top - mu) * t / (top + mu * t * t)  # b/c, the axis with tangent t
        return abs(slope) <= factor * (top / mu) ** power

    drawn = arguments(mu=rational(Fraction(1, 1000), 9), top=rational(0, 1000), t=rational())
    attack(tally, "|dy*/dx| for a Hessian with eigenvalues μ and μ+top", drawn, decide)
    if not is_strongly_convex:
        # f = y⁴ - xy has y* = (x/4)^(1/3): between x = 0 and x = 4t³ its slope is 1/(4t²), beyond any constant.
        for exponent, constant in product([2, 4], [10**2, 10**6]):
            t = Fraction(1, 10**exponent)
            tally.claim(
                at_most(1 / (4 * t**2), factor * constant), "f = y⁴ - xy, slope of y* on [0, 4t³] <= K", t=t, K=constant
            )
    return tally.evidence()


@check(
    "lem9_envelope",
    part="convex",
    method="class",
    equations=(14, 15, 16),
    falsehoods={"f_convex_in_each_only": {"joint": False}},
)
def minimum_over_y_is_convex(*, joint: bool = True) -> Evidence:
    """g(x) = min_y f(x, y) is convex.

    Proof.  g(λ1x1+λ2x2) ≤ f(λ1(x1,y1)+λ2(x2,y2)) ≤ λ1f(x1,y1)+λ2f(x2,y2); take y_i = y*(x_i).  Convexity of f in x and
    in y separately is not enough.
    """
    tally = Tally()
    f1, f2, mixed, least, weight = sp.symbols("f1 f2 f_mixed g_mixed w", real=True)
    if joint:
        jensen = weight * f1 + (1 - weight) * f2 - mixed  # >= 0: f is convex at (x_i, y*(x_i))
        minimal = mixed - least  # >= 0: g is the minimum
        tally.step(vanishes(weight * f1 + (1 - weight) * f2 - least - jensen - minimal), "(14) to (16)")
    a, b, c, x, y = sp.symbols("a b c x y", real=True)
    f = (a * x**2 + 2 * b * x * y + c * y**2) / 2
    g = sp.simplify(f.subs(y, sp.solve(sp.diff(f, y), y)[0]))
    tally.step(vanishes(sp.diff(g, x, 2) - (a * c - b**2) / c), "for quadratics the second derivative is (ac-b²)/c")
    cases = _plane_quadratics(1, 12) if joint else [(Fraction(1), Fraction(2), Fraction(1))]
    for first, cross, second in cases:
        tally.claim(
            at_most(0, (first * second - cross**2) / second),
            "g'' = (ac-b²)/c >= 0 for f = (a·x²+2b·x·y+c·y²)/2",
            a=first,
            b=cross,
            c=second,
        )
    if joint:
        attack(
            tally, "g'' >= 0 for f with a Hessian RᵀR", _FACTORS, lambda p, q, r: p * p + q * q >= (q * r) ** 2 / r**2
        )
    return tally.evidence()


@check(
    "lem9_envelope",
    part="gradient",
    method="class",
    equations=(17, 18, 19, 20, 21, 22, 23, 24, 25),
    falsehoods={
        "gradient_at_zero": {"at": "zero"},
        "a_hundredth_of_the_smoothness": {"factor": Fraction(1, 100)},
        "without_convexity": {"without": "convexity"},
    },
    unneeded={"strong convexity (convexity and a minimizer will do)": {"without": "strong convexity"}},
)
def gradient_of_the_minimum(*, at: str = "minimizer", factor: Fraction | int = 1, without: str = "") -> Evidence:
    """0 ≤ g(x')-g(x)-<h, x'-x> ≤ (L/2)‖x'-x‖² with h = ∇_x f(x, y*(x)); so g is differentiable and ∇g(x) = h.

    Proof.  Above: g(x') ≤ f(x', y*(x)) ≤ f(x, y*(x)) + <h, x'-x> + (L/2)‖x'-x‖².  Below: f is convex and
    ∇_y f(x, y*(x)) = 0, so f(x', y') ≥ g(x) + <h, x'-x> for every y'.  This replaces equations (17)-(25), and needs
    neither Lemma 8 nor strong convexity beyond the existence of y*.
    """
    tally = Tally()
    a, b, c, x, y = sp.symbols("a b c x y", real=True)
    f = (a * x**2 + 2 * b * x * y + c * y**2) / 2
    best = sp.solve(sp.diff(f, y), y)[0]
    gradient = sp.diff(f, x).subs(y, best if at == "minimizer" else 0)
    holds = vanishes(sp.diff(f.subs(y, best), x) - gradient)
    if at == "minimizer":
        tally.step(holds, "∇g = ∇_x f(x, y*(x)) for every quadratic")
    here, there, moved, slope, dx = sp.symbols("g g_new f_new h dx", real=True)
    # Nonnegative slacks: g(x') is a minimum, and f is smooth in x; below, f is convex, and flat in y at (x, y*(x)).
    minimal, smooth = moved - there, here + slope * dx + L / 2 * dx**2 - moved
    tally.step(vanishes(here + slope * dx + L / 2 * dx**2 - there - minimal - smooth), "g(x') is below the upper bound")
    across, dy = sp.symbols("dg_dy dy", real=True)  # ∇_y f(x, y*(x)), which is 0, and y*(x')-y*(x)
    tangent = there - here - slope * dx - across * dy  # >= 0: f is convex
    tally.step(vanishes((there - here - slope * dx - tangent).subs(across, 0)), "and above g(x)+<h, x'-x>")
    tally.step(vanishes(sp.diff(f, y).subs(y, best)), "∇_y f(x, y*(x)) = 0, for every quadratic")
    cases = _plane_quadratics(2, 12)
    if without:
        # f = c(y+bx/c)²/2 is convex and flat along a line; with less of x² it is not convex.
        flat = [(b * b / c, b, c) for b, c in product([Fraction(1), Fraction(-3)], SMALL)]
        cases = flat if without == "strong convexity" else [(a - 1, b, c) for a, b, c in flat]
    for first, cross, second in cases:
        slope = first - cross**2 / second
        used = slope if at == "minimizer" else first
        # g(x) = slope·x²/2 at x = 1, x' = 2: g(2)-g(1)-used.
        gap = slope * 2 - slope / 2 - used
        top = factor * (first + second)
        tally.claim(
            both(at_most(0, gap), at_most(gap, top / 2)),
            "0 <= g(2)-g(1)-h <= L/2 with L the trace",
            a=first,
            b=cross,
            c=second,
        )
    return tally.evidence()


@check(
    "lem10_partial_minimum",
    method="class",
    modulo=("extreme_value",),
    equations=(26, 27, 28, 29),
    falsehoods={"twice_the_modulus": {"factor": 2}, "in_each_variable_only": {"joint": False}},
    strengthen=lambda excess: {"factor": 1 + excess},
)
def partial_minimum_keeps_the_modulus(*, factor: Fraction | int = 1, joint: bool = True) -> Evidence:
    """g(x) = inf_y f(x, y) is a minimum and μ-strongly convex, if f is; the domain need not be closed.

    Proof.  f(x, ·) is finite and convex on the whole space, so it is continuous and has a subgradient p at 0: f(x, y) ≥
    f(x, 0)+pᵀy+(μ/2)‖y‖² ≥ f(x, 0)-‖p‖²/(2μ).  It exceeds f(x, 0) where ‖y‖ > 2‖p‖/μ, so its infimum is that over a
    ball, a minimum (extreme values).  (8) for f at (x1, y1), (x2, y2) subtracts (μ/2)λ1λ2(‖x1-x2‖²+‖y1-y2‖²) ≥
    (μ/2)λ1λ2‖x1-x2‖²; take y1, y2 minimal.  Strong convexity in x and in y separately is not enough.
    """
    tally = Tally()
    w1, w2 = sp.symbols("w1 w2", nonnegative=True)
    dx, dy, p, y = sp.symbols("dx dy p y", real=True)
    square = MU / 2 * (y + p / MU) ** 2
    tally.step(vanishes(p * y + MU / 2 * y**2 + p**2 / (2 * MU) - square), "pᵀy+(μ/2)‖y‖² >= -‖p‖²/(2μ)")
    slope, more = sp.symbols("|p| s", positive=True)  # ‖y‖ = 2‖p‖/μ+s
    beyond = -slope * (2 * slope / MU + more) + MU / 2 * (2 * slope / MU + more) ** 2
    tally.step(bool(sp.expand(beyond).is_positive) or None, "pᵀy+(μ/2)‖y‖² > 0 for ‖y‖ > 2‖p‖/μ")
    if factor <= 1 and joint:
        slack = MU / 2 * w1 * w2 * (dx**2 + dy**2) - sp.Rational(factor) * MU / 2 * w1 * w2 * dx**2
        weights = [((1 - sp.Rational(factor)) * MU / 2 * w1 * w2, dx), (MU / 2 * w1 * w2, dy)]
        tally.step(is_sum_of_squares(slack, weights), "(28) implies (29)")
    for a, b, c in [
        *_plane_quadratics(3, 10),
        (Fraction(1), Fraction(0), Fraction(1)),
        (Fraction(2), Fraction(1), Fraction(2)),
    ]:
        # The modulus of f: exact where b = 0 or a = c; else det/trace, which is below the smallest eigenvalue.
        mu = min(a, c) - abs(b) if b == 0 or a == c else _rational_modulus(a, b, c)
        mu = mu if joint else min(a, c)
        tally.claim(
            at_most(factor * mu, (a * c - b * b) / c), "modulus of g for f = (a·x²+2b·x·y+c·y²)/2", a=a, b=b, c=c, mu=mu
        )

    def decide(p: Fraction, q: Fraction, r: Fraction) -> bool:
        a, b, c = p * p + q * q, q * r, r * r
        mu = _rational_modulus(a, b, c) if a * c > b * b else Fraction(0)
        return factor * mu <= (a * c - b * b) / c

    attack(tally, "modulus of g for f with a Hessian RᵀR", _FACTORS, decide)
    return tally.evidence()


@check(
    "asm1_regularity",
    method="symbolic",
    falsehoods={"plain_l2_too": {"plain_l2": True}, "half_the_smoothness": {"factor": Fraction(1, 2)}},
    strengthen=lambda excess: {"factor": 1 - excess},
)
def regularizers_meet_assumption_1(*, plain_l2: bool = False, factor: Fraction | int = 1) -> Evidence:
    """ℓ2² is 2λ-strongly convex and 2λ-smooth; smooth-ℓ2 is locally strongly convex, λ-smooth and at least λ‖z‖.

    Proof.  A radial φ(‖z‖) has the Hessian eigenvalues φ'' (radial) and φ'/r (the rest).  For φ = λ√(1+r²) they are
    λ(1+r²)^(-3/2) and λ(1+r²)^(-1/2): positive, at most λ.  ℓ2 is not of this kind: φ'' = 0.
    """
    tally = Tally()
    r = sp.Symbol("r", positive=True)
    smooth = LAM * sp.sqrt(1 + r**2)
    tally.step(
        vanishes(sp.diff(smooth, r, 2) - LAM * (1 + r**2) ** sp.Rational(-3, 2)), "radial curvature of smooth-ℓ2"
    )
    tally.step(vanishes(sp.diff(smooth, r) / r - LAM / sp.sqrt(1 + r**2)), "tangential curvature of smooth-ℓ2")
    tally.step(vanishes(smooth**2 - (LAM * r) ** 2 - LAM**2), "λ√(1+r²) >= λr")
    tally.step(vanishes(sp.diff(LAM * r**2, r, 2) - 2 * LAM), "curvature of ℓ2²")
    for lam, radius in product(SMALL, [Fraction(0), Fraction(3, 4), Fraction(12, 5)]):
        # √(1+r²) is rational at these radii.
        root = {Fraction(0): Fraction(1), Fraction(3, 4): Fraction(5, 4), Fraction(12, 5): Fraction(13, 5)}[radius]
        radial, around = lam / root**3, lam / root
        tally.claim(
            both(less(0, radial), at_most(around, factor * lam)), "0 < curvature of smooth-ℓ2 <= λ", lam=lam, r=radius
        )
        if plain_l2 and radius > 0:
            # ℓ2 is λr: its second difference along a ray.
            curvature = lam * (radius + radius / 2) - 2 * lam * radius + lam * (radius - radius / 2)
            tally.claim(less(0, curvature), "ℓ2 has no curvature along its rays", lam=lam, r=radius)
    return tally.evidence()


def _modulus_of_the_loss(tally: Tally, rho_factor: Fraction | int, theta_factor: Fraction | int, with_nu: bool) -> None:
    """The form ν‖θ‖² + μ‖ρ-θ‖² against κ(‖ρ‖²+‖θ‖²), κ = min(theta_factor·ν/2, rho_factor·νμ/(ν+2μ))."""
    rho, theta = sp.symbols("rho theta", real=True)
    form = NU * theta**2 + MU * (rho - theta) ** 2
    lower = sp.Rational(theta_factor) * NU / 2 * theta**2 + sp.Rational(rho_factor) * NU * MU / (NU + 2 * MU) * rho**2
    if rho_factor <= 1 and theta_factor <= 1 and with_nu:
        squares = [
            (NU / 2 + MU, theta - 2 * MU / (NU + 2 * MU) * rho),
            ((1 - sp.Rational(theta_factor)) * NU / 2, theta),
            ((1 - sp.Rational(rho_factor)) * NU * MU / (NU + 2 * MU), rho),
        ]
        tally.step(is_sum_of_squares(form - lower, squares), "(30) to (33): a square remains")

    def decide(nu: Fraction, mu: Fraction) -> bool:
        kappa_theta, kappa_rho = theta_factor * nu / 2, rho_factor * nu * mu / (nu + 2 * mu)
        return is_positive_semidefinite(matrix([[mu - kappa_rho, -mu], [-mu, 2 * nu + mu - kappa_theta]]))

    positive = rational(Fraction(1, 1000), 1000)
    attack(tally, "the Hessian minus the claimed moduli is semidefinite", arguments(nu=positive, mu=positive), decide)
    for nu, mu in product([Fraction(0), Fraction(1, 4), Fraction(1), Fraction(100)], SMALL):
        if (nu == 0) is with_nu:
            tally.skip()
            continue
        kappa_theta, kappa_rho = theta_factor * nu / 2, rho_factor * nu * mu / (nu + 2 * mu)
        # The true form has 2ν; (33) is to bound even that.
        true = matrix([[mu - kappa_rho, -mu], [-mu, 2 * nu + mu - kappa_theta]])
        is_bound = is_positive_semidefinite(true) and min(kappa_theta, kappa_rho) > 0
        tally.claim(
            is_bound,
            "(ρ, θ)ᵀ∇²Loss(ρ, θ) >= κ_ρ‖ρ‖² + κ_θ‖θ‖², and κ > 0",
            nu=nu,
            mu=mu,
            kappa_rho=kappa_rho,
            kappa_theta=kappa_theta,
        )


@check(
    "lem11_loss_strongly_convex",
    part="strongly_convex",
    method="class",
    falsehoods={"nu_zero": {"with_nu": False}, "ten_times_the_modulus": {"factor": 10}},
)
def loss_is_strongly_convex(*, factor: Fraction | int = 1, with_nu: bool = True) -> Evidence:
    """The global loss is strongly convex on compact convex sets, with modulus at least min(ν/2, νμ/(ν+2μ)), for ν > 0.

    Proof.  ν‖θ‖² + μ‖ρ-θ‖² = (ν/2)‖θ‖² + νμ/(ν+2μ)‖ρ‖² + (ν/2+μ)‖θ - 2μρ/(ν+2μ)‖²; the other users add ν‖θ_n‖² each,
    and convex terms.  μ is the modulus of R_0 on the differences ρ-θ_1 in question; R_0 need not have a Hessian, as
    R_0-(μ/2)‖·‖² is convex there: the loss is a convex function plus half of that form.  For ν = 0 and no data, ρ = θ
    is a direction without curvature.
    """
    tally = Tally()
    _modulus_of_the_loss(tally, factor, factor, with_nu)
    return tally.evidence()


@check(
    "lem11_loss_strongly_convex",
    part="proof_33",
    method="class",
    equations=(30, 31, 32, 33),
    printed={"rho_factor": 2},
    falsehoods={"ten_times": {"rho_factor": 10}, "theta_ten_times": {"theta_factor": 10}},
    errata=Erratum(
        place="(33)",
        repair="μ(1-α²) is νμ/(ν+2μ), not 2νμ/(ν+2μ); the modulus is min(ν/2, νμ/(ν+2μ)).",
        survives="Yes: the modulus is still positive.",
    ),
)
def coefficient_of_rho(*, rho_factor: Fraction | int = 1, theta_factor: Fraction | int = 1) -> Evidence:
    """With α² = 2μ/(ν+2μ), the coefficients in (32) are ν/2 and νμ/(ν+2μ)."""
    tally = Tally()
    alpha = 2 * MU / (NU + 2 * MU)
    tally.step(vanishes(NU + MU * (1 - 1 / alpha) - NU / 2), "ν+μ(1-α⁻²) = ν/2")
    if rho_factor == 1:
        tally.step(vanishes(MU * (1 - alpha) - NU * MU / (NU + 2 * MU)), "μ(1-α²) = νμ/(ν+2μ)")
    _modulus_of_the_loss(tally, rho_factor, theta_factor, True)
    return tally.evidence()


@check(
    "lem11_loss_strongly_convex",
    part="smooth",
    method="class",
    falsehoods={"n_instead_of_n_plus_1": {"offset": 0}, "half": {"factor": Fraction(1, 2)}},
    strengthen=lambda excess: {"factor": 1 - excess},
)
def loss_is_smooth(*, offset: int = 1, factor: Fraction | int = 1) -> Evidence:
    """If L_n is L_0-smooth and R_0 is L_R-smooth, the global loss is (L_0 + (N+1)L_R)-smooth.

    Proof.  Σ‖ρ-θ_n‖² ≤ (N+1)(‖ρ‖²+Σ‖θ_n‖²): with p = Σθ_n and q = Σ‖θ_n‖² the difference is ‖ρ+p‖² + (Nq-‖p‖²), and
    ‖p‖² ≤ Nq by Cauchy-Schwarz.  So Δ = (ρ-θ_n)_n has norm at most √(N+1), and ΔᵀG(Δ·), G the gradients of the R_0, is
    (N+1)L_R-Lipschitz; the L_n are in separate variables.  N+1 is best possible (ρ = -N, θ_n = 1).
    """
    tally = Tally()
    n, rho, p, q = sp.symbols("N rho p q", real=True)
    if offset == 1 and factor >= 1:
        slack = (n + 1) * (rho**2 + q) - (n * rho**2 - 2 * rho * p + q)
        tally.step(vanishes(slack - (rho + p) ** 2 - (n * q - p**2)), "the difference is ‖ρ+p‖² + (Nq-‖p‖²)")
    attack(
        tally,
        "Σ(ρ-θ_n)² <= (N+1)(ρ²+Σθ_n²)",
        arguments(rho=rational(-9, 9), thetas=st.lists(rational(-9, 9), min_size=1, max_size=5)),
        lambda rho, thetas: (
            sum((rho - t) ** 2 for t in thetas)
            <= factor * (len(thetas) + offset) * (rho**2 + sum(t * t for t in thetas))
        ),
    )
    for users in range(1, 8):
        left = Fraction(users * (users + 1) ** 2)
        right = factor * (users + offset) * Fraction(users**2 + users)
        tally.claim(at_most(left, right), "Σ(ρ-θ_n)² at ρ = -N, θ_n = 1", N=users)
    return tally.evidence()


@check(
    "lem12_lipschitz_local_models",
    method="class",
    falsehoods={"a_quarter": {"factor": Fraction(1, 4)}, "nu_zero": {"with_nu": False}},
    strengthen=lambda excess: {"factor": 1 - excess},
)
def local_models_are_lipschitz(*, factor: Fraction | int = 1, with_nu: bool = True) -> Evidence:
    """‖θ*(ρ)-θ*(ρ')‖² ≤ (L_R/(8ν))‖ρ-ρ'‖² for every convex L_R-smooth R_0 and every L_n that is 2ν-strongly convex.

    Proof.  p = ∇L(θ)-∇L(θ') equals the difference of the pulls ∇R_0(ρ-θ), so <p, Δθ> ≥ 2ν‖Δθ‖² and (cocoercivity)
    <p, Δρ-Δθ> ≥ ‖p‖²/L_R.  Add them: L_R‖Δρ‖²/4 - 2ν‖Δθ‖² is their sum plus ‖(√L_R/2)Δρ - p/√L_R‖².  Global, without
    compactness and without Lemma 8; sharp for ℓ2² without data at λ = ν.
    """
    tally = Tally()
    p, drho, dtheta = sp.symbols("p drho dtheta", real=True)
    lr = sp.Symbol("L_R", positive=True)
    if factor >= 1 and with_nu:
        hypotheses = (p * dtheta - 2 * NU * dtheta**2) + (p * (drho - dtheta) - p**2 / lr)
        slack = lr / 4 * drho**2 - 2 * NU * dtheta**2
        square = sp.sqrt(lr) / 2 * drho - p / sp.sqrt(lr)
        tally.step(
            is_sum_of_squares(slack - hypotheses, [(sp.Integer(1), square)]), "the two inequalities give the bound"
        )
    # ℓ2² and no data: θ* = λρ/(λ+ν), L_R = 2λ, so (λ/(λ+ν))² <= 2λ/(8ν); equality at λ = ν.
    positive = rational(Fraction(1, 1000), 1000)
    if with_nu:
        # ℓ2², and a quadratic local loss of curvature 2ν+h: θ* = 2λρ/(2λ+2ν+h).
        attack(
            tally,
            "(dθ*/dρ)² <= L_R/(8ν), L_R = 2λ",
            arguments(lam=positive, nu=positive, h=rational(0, 1000)),
            lambda lam, nu, h: (2 * lam / (2 * lam + 2 * nu + h)) ** 2 <= factor * 2 * lam / (8 * nu),
            lambda lam, nu, h: factor * 2 * lam / (8 * nu) - (2 * lam / (2 * lam + 2 * nu + h)) ** 2,
        )
    for lam, nu in product(SMALL, [Fraction(0), *SMALL]):
        if (nu == 0) is with_nu:
            tally.skip()
            continue
        slope = lam / (lam + nu)
        # For ν = 0 the bound that would be left is that of the smallest ν that was tried.
        bound = factor * 2 * lam / (8 * (nu if nu else Fraction(7, 2)))
        tally.claim(at_most(slope**2, bound), "θ* = λρ/(λ+ν) under ℓ2² without data", lam=lam, nu=nu)
    return tally.evidence()


@check(
    "lem12_lipschitz_local_models",
    part="proof_smoothness",
    method="class",
    printed={"of_nu": 1, "of_lambda": 1},
    falsehoods={"two_lambda": {"of_lambda": 2}, "without_data": {"of_data": 0}},
    errata=Erratum(
        place="the smoothness constant in the proof of Lemma 12",
        repair="f_n is (|D_n|L + 2ν + 4λ)-smooth: ν‖θ‖² has Hessian 2νI, and λ‖ρ-θ‖² has the eigenvalue 4λ.",
        survives="Yes: only finiteness of the constant is used.",
    ),
)
def smoothness_of_one_user(*, of_nu: int = 2, of_lambda: int = 4, of_data: int = 1) -> Evidence:
    """f_n(ρ, θ) = ν‖θ‖² + Σℓ + λ‖ρ-θ‖² is (|D_n|L + 2ν + 4λ)-smooth.

    Proof.  4λ(ρ²+θ²) - 2λ(ρ-θ)² = 2λ(ρ+θ)²; the rest is immediate.
    """
    tally = Tally()
    rho, theta = sp.symbols("rho theta", real=True)
    data = sp.Symbol("c", nonnegative=True)
    if of_nu >= 2 and of_lambda >= 4 and of_data >= 1:
        form = 2 * NU * theta**2 + data * theta**2 + 2 * LAM * (rho - theta) ** 2
        slack = (data * of_data + of_nu * NU + of_lambda * LAM) * (rho**2 + theta**2) - form
        squares = [(2 * LAM, rho + theta), (2 * NU + data, rho)]
        tally.step(is_sum_of_squares(slack, squares), "the bound minus the form is a sum of squares")
    for lam, nu, c in product(SMALL, SMALL, [Fraction(0), Fraction(50)]):
        top = of_data * c + of_nu * nu + of_lambda * lam
        bound = matrix([[top - 2 * lam, 2 * lam], [2 * lam, top - 2 * lam - 2 * nu - c]])
        tally.claim(
            is_positive_semidefinite(bound), "constant·I - Hessian is positive semidefinite", lam=lam, nu=nu, data=c
        )
    return tally.evidence()


@check(
    "lem13_minimized_loss",
    part="smooth",
    method="class",
    falsehoods={"a_tenth": {"factor": Fraction(1, 10)}},
)
def minimized_loss_is_smooth(*, factor: Fraction | int = 1) -> Evidence:
    """The minimized loss g is L-smooth, with the L of the global loss.

    Proof.  For every x there is a minimum in the local models, as ν > 0.  By Lemma 9, 0 ≤ g(x')-g(x)-<h, Δx> ≤
    (L/2)‖Δx‖² on the whole space.  For any differentiable g with both bounds the gradient is
    L-Lipschitz: the step z = y - (h(y)-h(x))/L in the upper bound from y and the lower bound from x give
    g(x)+<h(x), z-x> ≤ g(y)+<h(y), z-y>+(L/2)‖z-y‖²; so g(y)-g(x)-<h(x), y-x> ≥ ‖h(y)-h(x)‖²/(2L).  Add this with x
    and y exchanged: <Δh, Δx> ≥ ‖Δh‖²/L.  And L²‖Δx‖² - ‖Δh‖² = 2L(<Δh, Δx>-‖Δh‖²/L) + ‖LΔx-Δh‖².
    """
    tally = Tally()
    x, y, hx, hy, gx, gy = sp.symbols("x y h_x h_y g_x g_y", real=True)
    z = y - (hy - hx) / L
    chained = (gy + hy * (z - y) + L / 2 * (z - y) ** 2) - (gx + hx * (z - x))
    claimed = gy - gx - hx * (y - x) - (hy - hx) ** 2 / (2 * L)
    dh, dx = sp.symbols("dh dx", real=True)
    if factor >= 1:
        tally.step(vanishes(chained - claimed), "the two bounds at z give the interpolation inequality")
        slack = L**2 * dx**2 - dh**2 - 2 * L * (dh * dx - dh**2 / L)
        tally.step(is_sum_of_squares(slack, [(sp.Integer(1), L * dx - dh)]), "cocoercivity gives the Lipschitz bound")
    for a, b, c in _plane_quadratics(4, 12):
        # The largest eigenvalue is at most the trace and at least max(a, c); test with the trace.
        slope = (a * c - b * b) / c
        tally.claim(at_most(slope, factor * (a + c)), "g'' = (ac-b²)/c <= L", a=a, b=b, c=c)

    def decide(p: Fraction, q: Fraction, r: Fraction) -> bool:
        return p * p <= factor * (p * p + q * q + r * r)  # (ac-b²)/c = p²; the trace is at least L

    attack(tally, "g'' <= L for f with a Hessian RᵀR", _FACTORS, decide)
    return tally.evidence()


@check(
    "lem13_minimized_loss",
    part="strongly_convex",
    method="class",
    falsehoods={"nu_zero": {"with_nu": False}, "ten_times": {"factor": 10}},
)
def minimized_loss_is_strongly_convex(*, factor: Fraction | int = 1, with_nu: bool = True) -> Evidence:
    """The minimized loss is locally strongly convex with the modulus min(ν/2, νμ/(ν+2μ)) of Lemma 11, for ν > 0.

    Proof.  Let C be compact and convex.  By Lemma 12 the θ*(ρ), ρ in C, lie in a ball; let κ be the modulus of Lemma 11
    on C times that ball.  (8) for the loss at the (ρ_i, θ*(ρ_i)) subtracts at least (κ/2)λ1λ2‖ρ1-ρ2‖², as in Lemma 10,
    which asks for a modulus on the whole space in θ but uses it at these points only.  (For the quadratic part:
    minimizing it over θ leaves νμ/(ν+μ)·ρ² ≥ κρ².)  With ν = 0 and no data the minimized loss is constant.
    """
    tally = Tally()
    rho, theta = sp.symbols("rho theta", real=True)
    if factor <= 1 and with_nu:
        least, mixed, first, second, weight, kappa, dx, dy = sp.symbols("g f f_1 f_2 w kappa dx dy", real=True)
        minimal = mixed - least  # >= 0: the minimized loss in between is at most the loss at the mixed models
        strong = weight * first + (1 - weight) * second - kappa / 2 * weight * (1 - weight) * (dx**2 + dy**2) - mixed
        claimed = weight * first + (1 - weight) * second - kappa / 2 * weight * (1 - weight) * dx**2 - least
        rest = kappa / 2 * weight * (1 - weight) * dy**2
        tally.step(vanishes(claimed - minimal - strong - rest), "(8) passes on from the loss at (ρ_i, θ*(ρ_i))")
        form = NU * theta**2 + MU * (rho - theta) ** 2
        best = sp.solve(sp.diff(form, theta), theta)[0]
        left = sp.simplify(form.subs(theta, best) / rho**2)
        remainder = sp.simplify(left - NU * MU / (NU + 2 * MU))
        tally.step(vanishes(left - NU * MU / (NU + MU)), "minimizing over θ leaves νμ/(ν+μ)·ρ²")
        tally.step(bool(remainder.is_positive) or None, "which is at least νμ/(ν+2μ)·ρ²")
    for nu, mu in product([Fraction(0), *SMALL, Fraction(100)], SMALL):
        if (nu == 0) is with_nu:
            tally.skip()
            continue
        left_over = nu * mu / (nu + mu)
        kappa = factor * min(nu / 2, nu * mu / (nu + 2 * mu))
        tally.claim(both(less(0, left_over), at_most(kappa, left_over)), "0 < κ <= νμ/(ν+μ)", nu=nu, mu=mu)
    return tally.evidence()


@check(
    "lem13_minimized_loss",
    part="proof_36",
    method="class",
    equations=(34, 35, 36),
    printed={"slope_counts": False},
    falsehoods={"half": {"factor": Fraction(1, 2)}},
    errata=Erratum(
        place="(36)",
        repair="‖(ρ-ρ', θ*(ρ)-θ*(ρ'))‖ is at most √(1+K²)‖ρ-ρ'‖, where K is the Lipschitz constant of θ*; or avoid "
        "it: the "
        "minimized loss is L-smooth because 0 ≤ g(x')-g(x)-<∇g(x), x'-x> ≤ (L/2)‖x'-x‖².",
        survives="Yes, even with the same L (see the part `smooth`), but not by the printed step.",
    ),
)
def joint_distance_of_optimized_points(*, slope_counts: bool = True, factor: Fraction | int = 1) -> Evidence:
    """‖(ρ-ρ', θ*(ρ)-θ*(ρ'))‖² ≤ (1+K²)‖ρ-ρ'‖² where ‖θ*(ρ)-θ*(ρ')‖ ≤ K‖ρ-ρ'‖."""
    tally = Tally()
    drho, dtheta, k = sp.symbols("drho dtheta K", real=True)
    if slope_counts and factor >= 1:
        slack = (1 + k**2) * drho**2 - (drho**2 + dtheta**2)
        tally.step(vanishes(slack - (k**2 * drho**2 - dtheta**2)), "what remains is the Lipschitz bound of θ*")
    for lam, nu in product(SMALL, SMALL):
        slope = lam / (lam + nu)
        bound = factor * (1 + slope**2 * slope_counts)
        tally.claim(at_most(1 + slope**2, bound), "ρ = 1, ρ' = 0, no data, ℓ2²: θ*(1)-θ*(0) = λ/(λ+ν)", lam=lam, nu=nu)
    return tally.evidence()


@check(
    "def5_smooth",
    method="symbolic",
    equations=(9,),
    falsehoods={"logistic_a_fifth": {"logistic": Fraction(1, 5)}, "least_squares_half": {"squares": Fraction(1, 2)}},
    strengthen=lambda excess: {"logistic": Fraction(1, 4) * (1 - excess)},
)
def losses_are_smooth(*, squares: Fraction | int = 1, logistic: Fraction = Fraction(1, 4)) -> Evidence:
    """In the margin, least squares is 1-smooth and the logistic loss 1/4-smooth; so ‖Q‖²-smooth and ‖Q‖²/4-smooth in θ.

    Proof.  σ' = σ(1-σ) = 1/4 - (σ-1/2)².
    """
    tally = Tally()
    m, a = sp.symbols("m a", real=True)
    sigma = 1 / (1 + sp.exp(-m))
    tally.step(vanishes(sp.diff((m - a) ** 2 / 2, m, 2) - 1), "least squares has second derivative 1")
    tally.step(
        vanishes(
            sp.simplify(sp.diff(sp.log(1 + sp.exp(-m)), m, 2) - (sp.Rational(1, 4) - (sigma - sp.Rational(1, 2)) ** 2))
        ),
        "the logistic loss has 1/4-(σ-1/2)²",
    )
    tally.claim(at_most(1, squares), "second derivative of least squares", bound=squares)
    tally.claim(at_most(Fraction(1, 4), logistic), "second derivative of the logistic loss at margin 0", bound=logistic)
    return tally.evidence()
