r"""Appendix F: linear and logistic regression are gradient-PAC*.

Everything about the sigmoid follows from one identity, which SymPy verifies:

.. math:: \sigma(b+t) - \sigma(b) = \frac{\sinh(t/2)}{\cosh(b+t/2) + \cosh(t/2)}.

Its right-hand side decreases in :math:`|b + t/2|`.  Inequalities are attacked in ball arithmetic, so a refutation is
rigorous: the two balls do not overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product
from math import comb
from typing import Any

import sympy as sp
from flint import arb

from proofs_checks.exact import LinearProblem, LinearUser, Matrix, add, dot, is_positive_semidefinite, matrix, vector
from proofs_checks.registry import Decision, Erratum, Evidence, Tally, at_most, both, check, less
from proofs_checks.search import attack, ball, is_sum_of_squares, precise, rationals, sigmoid, vanishes, worst
from proofs_checks.steps import both_events, hoeffdings_lemma, root_norm, tail_vanishes
from proofs_checks.strategies import arguments, rational

B_, T_, K_ = sp.symbols("b t k", real=True)


def _sigma(z: Any) -> Any:
    return 1 / (1 + sp.exp(-z))


def difference_identity() -> Decision:
    """Decide σ(b+t)-σ(b) = sinh(t/2)/(cosh(b+t/2)+cosh(t/2)), with exponentials as variables."""
    u, v = sp.symbols("u v", positive=True)  # u = e^{b/2}, v = e^{t/2}
    left = 1 / (1 + 1 / (u**2 * v**2)) - 1 / (1 + 1 / u**2)
    right = (v - 1 / v) / 2 / ((u**2 * v + 1 / (u**2 * v)) / 2 + (v + 1 / v) / 2)
    return vanishes(left - right)


def derivative_identities() -> Decision:
    """Decide σ' = 1/(2(1+cosh z)) and σ'' = -σ'·tanh(z/2)."""
    z = sp.Symbol("z", real=True)
    first = sp.diff(_sigma(z), z)
    cosh = (sp.exp(z) + sp.exp(-z)) / 2
    tanh = (sp.exp(z) - 1) / (sp.exp(z) + 1)
    return both(vanishes(first - 1 / (2 * (1 + cosh))), vanishes(sp.diff(_sigma(z), z, 2) + first * tanh))


def _delta(a: arb, b: arb) -> arb:
    return (a - b) * (sigmoid(a) - sigmoid(b))


_RADII = [Fraction(1, 100), Fraction(1, 2), Fraction(1), Fraction(3), Fraction(10)]
_GAPS = [Fraction(1, 10**j) for j in (0, 2, 4, 7, 10, 14)]


@check(
    "lem24_logistic_distance",
    method="symbolic",
    equations=(112, 113),
    falsehoods={
        "one_percent_more": {"factor": Fraction(101, 100)},
        "derivative_at_zero": {"at_zero": True},
        "a_unbounded": {"reach": 5},
    },
    strengthen=lambda excess: {"factor": 1 + excess},
)
@precise
def distance_on_an_interval(*, factor: Fraction | int = 1, at_zero: bool = False, reach: int = 1) -> Evidence:
    """Δ(a, b) ≥ σ'(k)(a-b)² for |a|, |b| ≤ k; the constant is best possible.

    Proof.  σ' = 1/(2(1+cosh z)) decreases in |z|, so it is at least σ'(k) on [-k, k]; integrate from b to a and
    multiply by a-b.  As a, b → k the quotient tends to σ'(k).
    """
    tally = Tally()
    if factor <= 1 and not at_zero and reach == 1:
        tally.step(derivative_identities(), "σ' = 1/(2(1+cosh z)) and σ'' = -σ'tanh(z/2) <= 0 for z >= 0")
    for k in _RADII:
        edge = sigmoid(ball(0 if at_zero else k))
        bound = ball(factor) * edge * (1 - edge)

        def margin(x: Any, k: Fraction = k, bound: arb = bound) -> float:
            return float((_delta(arb(x[0]), arb(x[1])) - bound * arb(x[0] - x[1]) ** 2).mid())

        box = float(reach * k)
        found = worst(margin, [(-box, box), (-float(k), float(k))], seed=24, rounds=4)
        points = [(reach * k, reach * k - gap * k) for gap in _GAPS] + [(Fraction(found[0]), Fraction(found[1]))]
        for a, b in points:
            if abs(a) > reach * k or abs(b) > k:
                tally.skip()
                continue
            tally.claim(
                at_most(bound * ball(a - b) ** 2, _delta(ball(a), ball(b))) if a != b else True,
                "σ'(k)(a-b)² <= Δ(a, b)",
                k=k,
                a=a,
                b=b,
            )
    if reach > 1:
        k, a, b = Fraction(1), Fraction(50), Fraction(0)
        edge = sigmoid(ball(k))
        tally.claim(
            at_most(edge * (1 - edge) * ball(a - b) ** 2, _delta(ball(a), ball(b))), "a beyond k", k=k, a=a, b=b
        )
    return tally.evidence()


def _beyond_one(
    tally: Tally, factor: Fraction | int, offset: Fraction | int, b_within_k: bool, at_least: Fraction | int
) -> None:
    """Δ(a, b) >= factor·d_k(|a-b| - offset) for |b| <= k and |a-b| >= at_least."""
    for k in _RADII:
        d_k = sigmoid(ball(k + 1)) - sigmoid(ball(k))
        gaps = [
            gap
            for gap in (Fraction(0), Fraction(1, 2), Fraction(1), 1 + Fraction(1, 10**9), Fraction(3), Fraction(40))
            if gap >= at_least
        ]
        bases = [k, -k, Fraction(0), k / 2] if b_within_k else [k + 8, k]
        for b, gap, sign in product(bases, gaps, (1, -1)):
            a = b + sign * gap
            if factor == 1 and offset == 0 and gap == 1 and abs(a) == k + 1:
                continue  # equality by definition of d_k, which balls cannot decide
            tally.claim(
                at_most(ball(factor) * d_k * ball(gap - offset), _delta(ball(a), ball(b))),
                "d_k(|a-b|-c) <= Δ(a, b)",
                k=k,
                a=a,
                b=b,
            )


@check(
    "lem25_logistic_linear",
    method="symbolic",
    equations=(114,),
    falsehoods={"a_hundred_times": {"factor": 100}, "b_unbounded": {"b_within_k": False}},
)
@precise
def distance_grows_linearly(*, factor: Fraction | int = 1, b_within_k: bool = True) -> Evidence:
    """Δ(a, b) ≥ d_k(|a-b|-1) for |b| ≤ k and all a, with d_k = σ(k+1)-σ(k) > 0.

    The printed lemma does not say d_k > 0, without which d_k = 0 would do; its proof has this d_k.
    Proof.  For |a-b| ≤ 1 the right-hand side is not positive.  Beyond, see the part `proof_116`, which is stronger.
    """
    tally = Tally()
    if factor <= 1 and b_within_k:
        tally.step(difference_identity(), "σ(b+1)-σ(b) = sinh(1/2)/(cosh(b+1/2)+cosh(1/2))")
    _beyond_one(tally, factor, 1, b_within_k, 0)
    return tally.evidence()


@check(
    "lem25_logistic_linear",
    part="proof_116",
    method="symbolic",
    equations=(115, 116),
    falsehoods={"below_one": {"at_least": Fraction(1, 2)}, "one_percent_more": {"factor": Fraction(101, 100)}},
    strengthen=lambda excess: {"factor": 1 + excess},
)
@precise
def distance_beyond_one(*, factor: Fraction | int = 1, at_least: Fraction | int = 1) -> Evidence:
    """Δ(a, b) ≥ d_k|a-b| for |b| ≤ k and |a-b| ≥ 1; sharp at b = k, a = k+1.

    Proof.  |σ(a)-σ(b)| is at least σ(b+1)-σ(b) or σ(b)-σ(b-1); by the identity these decrease in |b+1/2| and |b-1/2|,
    which are at most k+1/2, where the value is d_k.
    """
    tally = Tally()
    if factor <= 1 and at_least >= 1:
        tally.step(difference_identity(), "σ(b+1)-σ(b) = sinh(1/2)/(cosh(b+1/2)+cosh(1/2))")
    _beyond_one(tally, factor, 0, True, at_least)
    return tally.evidence()


# ---- Concentration ----------------------------------------------------------------------------------------------


@check(
    "thm7_weyl",
    method="certified",
    equations=(98, 99),
    printed={"shift": 1},
    falsehoods={"plus_j": {"shift": 1}, "upper_one_short": {"upper": -1}},
    errata=Erratum(
        place="(99)",
        repair="The first index is i-j, not i+j: λ_{i-j}(A) + λ_{j+1}(B) ≤ λ_i(A+B).",
        survives="Yes: Lemma 20 uses j = 0 only.",
        scan=True,
    ),
)
def weyl_inequalities(*, shift: int = -1, upper: int = 0) -> Evidence:
    """λ_i(A+B) ≤ λ_{i+j}(A)+λ_{d-j}(B) and λ_{i-j}(A)+λ_{j+1}(B) ≤ λ_i(A+B), on diagonal matrices in all orders."""
    tally = Tally()
    cases = [
        ((0, 0, 1), (0, 0, 0)),
        ((1, 2, 5), (-3, 0, 4)),
        ((5, 1, 2), (4, -3, 0)),
        ((2, 2, 2), (1, 0, -1)),
        ((1, 0, 0), (0, 1, 0)),
    ]
    for a, b in cases:
        first, second, total = sorted(a), sorted(b), sorted(x + y for x, y in zip(a, b, strict=True))
        for i, j in product(range(1, 4), range(3)):
            if j <= 3 - i:
                right = first[i + j - 1] + second[3 - j - 1 + upper]
                tally.claim(at_most(total[i - 1], right), "upper inequality", A=a, B=b, i=i, j=j)
            if j <= i - 1 and i + shift * j <= 3:
                left = first[i + shift * j - 1] + second[j]
                tally.claim(at_most(left, total[i - 1]), "λ_{i±j}(A)+λ_{j+1}(B) <= λ_i(A+B)", A=a, B=b, i=i, j=j)
    return tally.evidence()


def _reflected(size: Fraction, t: Fraction) -> Matrix:
    """Return a symmetric 2x2 matrix with eigenvalues ±size, whose axis depends on t; rational."""
    c, s = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    return matrix([[size * c, size * s], [size * s, -size * c]])


@check(
    "lem20_smallest_eigenvalue",
    method="class",
    falsehoods={"half_the_norm": {"factor": Fraction(1, 2)}, "without_symmetry": {"without": "symmetry"}},
    unneeded={"positive definiteness": {"without": "positive definiteness"}},
    strengthen=lambda excess: {"factor": 1 - excess},
)
def smallest_eigenvalues_differ_by_the_norm(*, factor: Fraction | int = 1, without: str = "") -> Evidence:
    """|λ_min(S)-λ_min(Σ)| ≤ ‖S-Σ‖ for symmetric matrices; that they are positive definite is not needed.

    Proof.  With u the unit eigenvector of Σ for λ_min: λ_min(S) ≤ uᵀSu = λ_min(Σ) + uᵀ(S-Σ)u ≤ λ_min(Σ) + ‖S-Σ‖;
    exchange S and Σ.
    """
    tally = Tally()
    s1, s2, s3, r1, r2, r3, u1, u2 = sp.symbols("s1 s2 s3 r1 r2 r3 u1 u2", real=True)

    def form(p: Any, q: Any, r: Any) -> Any:
        return p * u1**2 + 2 * q * u1 * u2 + r * u2**2

    if factor >= 1:
        split = form(s1, s2, s3) - form(r1, r2, r3) - form(s1 - r1, s2 - r2, s3 - r3)
        tally.step(vanishes(split), "uᵀSu = uᵀΣu + uᵀ(S-Σ)u")
    if without == "symmetry":
        # [[0, 1], [ε, 0]] has the eigenvalues ±√ε, and differs from [[0, 1], [0, 0]], which has 0 twice, by ε.
        for root in [Fraction(1, 10), Fraction(1, 1000)]:
            tally.claim(at_most(root, factor * root**2), "eigenvalue -√ε against the norm ε", epsilon=root**2)
    leasts = [Fraction(-1), Fraction(0)] if without == "positive definiteness" else [Fraction(2), Fraction(7)]
    for least, size, t, flip in product(
        leasts, [Fraction(0), Fraction(1, 2), Fraction(3)], [Fraction(0), Fraction(1, 3)], (1, -1)
    ):
        sigma = matrix([[least, 0], [0, least + 1]])
        change = matrix([[flip * size * (t == 0), 0], [0, flip * size * (t == 0)]]) if t == 0 else _reflected(size, t)
        total = [add(row, other) for row, other in zip(sigma, change, strict=True)]

        def shifted(rows: Matrix, by: Fraction, sign: int = 1) -> Matrix:
            return [[sign * (x - by * (i == j)) for j, x in enumerate(row)] for i, row in enumerate(rows)]

        low, high = least - factor * size, least + factor * size
        # λ_min(S) <= high exactly if S - (high+ε)I is not positive semidefinite for any ε > 0.
        not_above = not is_positive_semidefinite(shifted(total, high + Fraction(1, 10**20)))
        tally.claim(
            both(is_positive_semidefinite(shifted(total, low)), not_above),
            "λ_min(S) within ‖S-Σ‖ of λ_min(Σ)",
            least=least,
            norm=size,
            axis=t,
        )
    return tally.evidence()


@check(
    "cor3_eigenvalue_concentration",
    method="class",
    equations=(100,),
    falsehoods={"half_the_norm": {"factor": Fraction(1, 2)}},
)
def eigenvalues_concentrate_like_matrices(*, factor: Fraction | int = 1) -> Evidence:
    """The event of (100) is part of the event of (97), so its probability is no larger.

    Proof.  By Lemma 20, |λ_min(Σ̂)-λ_min(Σ)| ≥ c implies ‖Σ̂-Σ‖ ≥ c.
    """
    return smallest_eigenvalues_differ_by_the_norm(factor=factor)


@check(
    "lem21_smallest_eigenvalue",
    method="symbolic",
    modulo=("law_of_large_numbers",),
    equations=(101,),
    falsehoods={
        "larger_delta": {"delta": Fraction(1, 2)},
        "two_thirds": {"kept": Fraction(2, 3)},
        "entries_twice_as_far": {"entry": Fraction(1)},
    },
    strengthen=lambda excess: {"kept": Fraction(1, 2) * (1 + excess)},
)
def half_of_the_smallest_eigenvalue(
    *, delta: Fraction = Fraction(1, 4), kept: Fraction = Fraction(1, 2), entry: Fraction = Fraction(1, 2)
) -> Evidence:
    """λ̂ ≥ λ/2 with probability tending to 1, for independent queries with second moments (sub-Gaussian ones have them).

    Proof.  If λ = 0 there is nothing to show.  Else the entries of Σ̂ are means of independent copies of Q[j]Q[k], so
    with probability tending to 1 all of them are within m = λ/(2d) of those of Σ (law of large numbers).  Then
    |uᵀ(Σ̂-Σ)u| ≤ m(Σ|u_j|)² ≤ md = λ/2 for unit vectors u, and Lemma 20 ends it.
    The printed proof: with δ = λ/(4σ²) and c1(√(d/I)+d/I) ≤ λ/(4σ²), which holds from some I on, the deviation is
    below λ/2, and by Corollary 3 the probability of failure is at most c2·exp(-c3·I·min(δ, δ²)).  It rests on Theorem
    6, which is for queries of mean zero; the law of large numbers allows any mean, as Theorems 2 and 3 do.
    """
    tally = Tally()
    if entry == Fraction(1, 2) and kept == Fraction(1, 2):
        root_norm(tally)
        value, dim, gap = sp.symbols("lambda d s", positive=True)
        tally.step(
            vanishes((value - dim * (value / (2 * dim) - gap)) - value / 2 - dim * gap),
            "λ-dm = λ/2+ds for m = λ/(2d)-s",
        )
    # Σ = λI, Σ̂ = Σ - m·(all ones): the eigenvalue on (1, ..., 1) is λ-dm.
    for value_at, dimension in product([Fraction(1, 7), Fraction(3)], [1, 2, 5]):
        furthest = entry * value_at / dimension
        tally.claim(
            at_most(value_at / 2, value_at - dimension * furthest),
            "λ̂ >= λ/2 where every entry is off by m",
            lam=value_at,
            d=dimension,
            m=furthest,
        )
    size, c1, d = sp.symbols("I c_1 d", positive=True)
    tally.step(bool(sp.limit(c1 * (sp.sqrt(d / size) + d / size), size, sp.oo) == 0) or None, "c1(√(d/I)+d/I) → 0")
    tail_vanishes(tally, 1, "c2·exp(-c·I) → 0")
    lam, sigma, spread = sp.symbols("lambda sigma s", positive=True)
    if delta == Fraction(1, 4) and kept == Fraction(1, 2):
        threshold = sigma**2 * (lam / (4 * sigma**2) - spread) + lam / 4
        tally.step(vanishes(lam / 2 - threshold - sigma**2 * spread), "λ/2 minus the deviation is σ²·(slack) >= 0")
    for lam_value, sigma_value in product([Fraction(1, 7), Fraction(3)], [Fraction(1, 2), Fraction(2)]):
        deviation = sigma_value**2 * (lam_value / (4 * sigma_value**2) + delta * lam_value / sigma_value**2)
        tally.claim(
            at_most(kept * lam_value, lam_value - deviation), "λ̂ >= λ - deviation", lam=lam_value, sigma=sigma_value
        )
    return tally.evidence()


@check(
    "lem23_noise_sum",
    method="symbolic",
    equations=(103, 104),
    falsehoods={"one_half": {"exponent": Fraction(1, 2)}, "without_root_d": {"norm_factor": 0}},
)
def noise_sums_below_three_quarters(*, exponent: Fraction = Fraction(3, 4), norm_factor: int = 1) -> Evidence:
    """With u = v·I^{-1/4} the exponent of (103) is -c5·v²√I, and ‖·‖_2 ≥ I^{3/4}v√d forces ‖·‖_∞ ≥ I^{3/4}v.

    Bernstein's inequality (Theorem 9) is for small u, and u → 0; its bound 2d·exp(-c5·v²√I) tends to 0.
    With the exponent 1/2 instead of 3/4 the bound 2d·exp(-c5v²) does not tend to 0.
    """
    tally = Tally()
    size, v, c5 = sp.symbols("I v c_5", positive=True)
    if exponent == Fraction(3, 4) and norm_factor:
        tally.step(bool(sp.limit(v * size ** sp.Rational(-1, 4), size, sp.oo) == 0) or None, "u → 0")
        tail_vanishes(tally, sp.Rational(1, 2), "2d·exp(-c√I) → 0")
        root_norm(tally)
    u = v * size ** (sp.Rational(exponent) - 1)
    tally.step(vanishes(sp.powsimp(size * u, force=True) - v * size ** sp.Rational(exponent)), "I·u = v·I^α")
    power = 2 * exponent - 1
    tally.step(
        vanishes(sp.powsimp(c5 * size * u**2 - c5 * v**2 * size ** sp.Rational(power), force=True)),
        "c5·I·u² = c5·v²·I^{2α-1}",
    )
    tally.claim(
        less(0, power), "the exponent of I in the tail is positive, so the tail vanishes", alpha=exponent, power=power
    )
    for entries in ([1], [1, 1], [3, 4], [2, 0, 1], [1, 1, 1, 1]):
        dimension = len(entries) if norm_factor else 1
        tally.claim(
            at_most(sum(x * x for x in entries), dimension * max(x * x for x in entries)),
            "‖x‖_2² <= d‖x‖_∞²",
            x=entries,
        )
    return tally.evidence()


@check(
    "lem26_positive_mean",
    method="symbolic",
    equations=(117, 118),
    falsehoods={"support_need_not_span": {"spans": False}},
)
def mean_is_positive(*, spans: bool = True) -> Evidence:
    """E|Qᵀu| > 0 for every unit u, if the support spans; else some u has E|Qᵀu| = 0.

    Proof.  Vectors Q_j of the support that span have some m = |Q_jᵀu| > 0.  The ball of radius m/2 around Q_j has a
    positive probability p, and on it |Qᵀu| ≥ m-‖Q-Q_j‖ ≥ m/2; so E|Qᵀu| ≥ pm/2 > 0.
    """
    tally = Tally()
    m, p, slack, inner, rest = sp.symbols("m p s t r", positive=True)
    on_ball = m - (m / 2 - slack) + inner
    tally.step(vanishes(on_ball - m / 2 - slack - inner), "|Qᵀu| >= m-‖Q-Q_j‖ >= m/2 on the ball")
    tally.step(bool((p * (m / 2 + slack) + rest).is_positive) or None, "E|Qᵀu| >= pm/2 > 0")
    spanning: list[list[list[Fraction | int]]] = [
        [[1, 0], [0, 1]],
        [[1, 1], [1, -1]],
        [[2, 1], [1, 1], [0, 0]],
        [[1, 0], [1, Fraction(1, 1000)]],
    ]
    flat: list[list[list[Fraction | int]]] = [[[1, 1], [2, 2]], [[1, 0]], [[0, 0]]]
    directions = [[1, 0], [0, 1], [1, -1], [1, 1], [-1000, 1], [1, -2]]
    for support, u in product(spanning if spans else flat, directions):
        sizes = [abs(dot(vector(q), vector(u))) for q in support]
        mean = sum(sizes, Fraction(0)) / len(sizes)
        tally.claim(less(0, mean), "E|Qᵀu| > 0, support uniform", support=support, u=u, mean=mean)
    return tally.evidence()


@check(
    "lem27_uniform_lower_bound",
    part="proof_120",
    method="certified",
    equations=(119, 120),
    printed={"over_sphere": False},
    falsehoods={"over_all_vectors": {"over_sphere": False}},
    errata=Erratum(
        place="(120)",
        repair="The infimum is over the unit sphere; over all vectors it is 0, at u = 0.",
        survives="Yes.",
        scan=True,
    ),
)
def infimum_of_the_mean(*, over_sphere: bool = True) -> Evidence:
    """inf E|Qᵀu| > 0 over unit vectors u; over all vectors it is 0."""
    tally = Tally()
    support = [vector([1, 0]), vector([0, 1])]
    # (1-t², 2t)/(1+t²) runs through the unit circle.
    circle = [[(1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)] for t in (Fraction(n, 7) for n in range(-20, 21))]
    for u in circle if over_sphere else [*circle, [Fraction(0), Fraction(0)]]:
        mean = sum(abs(dot(q, u)) for q in support) / 2
        tally.claim(less(0, mean), "E|Qᵀu| > 0 for Q uniform on the unit vectors", u=u, mean=mean)
    return tally.evidence()


@check(
    "lem27_uniform_lower_bound",
    part="proof_121",
    method="symbolic",
    equations=(121, 122, 123, 124),
    printed={"power": 1},
    falsehoods={"bound_not_squared": {"power": 1}, "twice_the_exponent": {"factor": 4}},
    errata=Erratum(
        place="(121), and with it (123) and (124)",
        repair="Hoeffding's inequality for variables in [0, M] has exp(-2It²/M²), with M squared.",
        survives="Yes: the bound still vanishes as I grows.",
    ),
)
@precise
def hoeffding(*, power: int = 2, factor: int = 2) -> Evidence:
    """P(|ΣX_i - IE| ≥ It) ≤ 2exp(-2It²/M²) for independent X_i in [0, M].

    Proof.  Hoeffding's lemma and Chernoff's bound with s = It, for both signs.  Attacked on fair coins, where
    probabilities are exact.
    """
    tally = Tally()
    if power == 2 and factor == 2:
        hoeffdings_lemma(tally)
        size, top, dev = sp.symbols("I M t", positive=True)
        tally.step(
            vanishes((2 * (size * dev) ** 2 / (size * top**2)) - 2 * size * dev**2 / top**2), "2s²/(IM²) = 2It²/M²"
        )
    for count, bound, part in product(
        [1, 2, 5, 10], [Fraction(1, 2), Fraction(1), Fraction(4)], [Fraction(1, 4), Fraction(1, 2)]
    ):
        t = part * bound
        heads = [k for k in range(count + 1) if abs(Fraction(k) - Fraction(count, 2)) * bound >= count * t]
        probability = Fraction(sum(comb(count, k) for k in heads), 2**count)
        right = 2 * (-ball(factor * count * t**2 / bound**power)).exp()
        tally.claim(
            at_most(ball(probability), right),
            "exact probability against the bound",
            I=count,
            M=bound,
            t=t,
            probability=probability,
        )
    return tally.evidence()


@check(
    "lem27_uniform_lower_bound",
    part="proof_127",
    method="symbolic",
    equations=(125, 126, 127),
    falsehoods={"coarser_cover": {"cover": Fraction(1)}, "half": {"kept": Fraction(1, 2)}},
    strengthen=lambda excess: {"kept": Fraction(1, 4) * (1 + excess)},
)
def from_the_cover_to_the_sphere(*, cover: Fraction = Fraction(1, 4), kept: Fraction = Fraction(1, 4)) -> Evidence:
    """Σ|Q_iᵀv| ≥ Σ|Q_iᵀu| - IM‖v-u‖ ≥ C0·I/2 - C0·I/4 where ‖v-u‖ ≤ C0/(4M)."""
    tally = Tally()
    c0, bound, slack = sp.symbols("C_0 M s", positive=True)
    if cover == kept == Fraction(1, 4):
        tally.step(vanishes(c0 / 2 - bound * (c0 / (4 * bound) - slack) - c0 / 4 - bound * slack), "(126) to (127)")
    for c, m in product([Fraction(1, 3), Fraction(2)], [Fraction(1), Fraction(5)]):
        tally.claim(at_most(kept * c, c / 2 - m * (cover * c / m)), "C0/2 - M·ε >= kept·C0", C0=c, M=m)
    return tally.evidence()


# ---- Lemma 28 and Lemma 4 ---------------------------------------------------------------------------------------


def _finite_supports() -> Iterator[tuple[str, list[list[int]]]]:
    """Yield query distributions that are bounded and span, none of which has interior."""
    yield "e1, e2", [[1, 0], [0, 1]]
    yield "Rademacher", [[1, 1], [1, -1], [-1, 1], [-1, -1]]
    yield "skewed", [[2, 1], [1, 1], [0, -1]]


def _smallest_eigenvalue_below(rows: Matrix) -> Fraction:
    """Return a rational just below the smallest eigenvalue of a positive definite 2x2 matrix, by bisection."""
    low, high = Fraction(0), rows[0][0]
    for _ in range(40):
        middle = (low + high) / 2
        shifted = [[x - middle * (i == j) for j, x in enumerate(row)] for i, row in enumerate(rows)]
        low, high = (middle, high) if is_positive_semidefinite(shifted) else (low, middle)
    return low


@precise
def _lower_bound_on_supports(tally: Tally, constant: Callable[[Fraction, Fraction], arb], near: bool = True) -> None:
    for name, support in _finite_supports():
        second = matrix([[Fraction(sum(q[i] * q[j] for q in support)) for j in range(2)] for i in range(2)])
        least = _smallest_eigenvalue_below(second)
        m2 = max(q[0] ** 2 + q[1] ** 2 for q in support)
        m = Fraction(2) if m2 <= 4 else Fraction(9, 4)
        for honest, direction, r in product(
            [vector([0, 0]), vector(["3/5", "4/5"]), vector([2, 0])],
            [vector(["3/5", "4/5"]), vector([1, 0]), vector(["-3/5", "4/5"])],
            [Fraction(1, 10**6), Fraction(1, 2), Fraction(1), Fraction(7), Fraction(100)],
        ):
            k = Fraction(2)
            theta = add(honest, direction, r)
            total = sum((_delta(ball(dot(vector(q), theta)), ball(dot(vector(q), honest))) for q in support), arb(0))
            bound = constant(m, k) * ball(least) * ball(min(r, r * r))
            tally.claim(at_most(bound, total), f"queries {name}: A·I·min(r, r²) <= ΣΔ", honest=honest, theta=theta, r=r)


@check(
    "lem28_logistic_lower_bound",
    method="class",
    equations=(128, 134, 135, 136, 137, 138),
    falsehoods={"a_hundred_times": {"factor": 100}, "square_alone": {"square_alone": True}},
)
@precise
def sum_of_logistic_distances(*, factor: int = 1, square_alone: bool = False) -> Evidence:
    """ΣΔ(Q_iᵀθ, Q_iᵀθ†) ≥ κλ_min(ΣQ_iQ_iᵀ)·min(r, r²), κ = [σ(M(K+1))-σ(MK)]/M, ‖Q_i‖ ≤ M, ‖θ†‖ ≤ K.

    That the support has the origin in its interior is not needed: none of the instances has interior.
    Proof.  Let t_i = |Q_iᵀ(θ-θ†)| ≤ Mr', r' = max(1, r).  By the identity |σ(a)-σ(b)| is least at |b| = MK, outwards;
    so it is at least σ(MK+t)-σ(MK) ≥ (t/(Mr'))(σ(MK+Mr')-σ(MK)) ≥ κt/r', as σ is concave on [0, ∞) and increasing.
    Hence ΣΔ ≥ κΣt_i²/r' ≥ κλ_min r²/r' = κλ_min·min(r, r²), λ_min the least eigenvalue of ΣQ_iQ_iᵀ; with high
    probability that is at least half of I·λ_min(Σ) (Lemma 21), so A = κλ_min(Σ)/2.  It is positive where the support
    spans, as E(Qᵀu)² ≥ (E|Qᵀu|)² > 0 (Lemma 26).
    """
    tally = Tally()
    r, lam = sp.symbols("r lambda", positive=True)
    tally.step(difference_identity(), "σ(b+t)-σ(b) decreases in |b+t/2|, so it is least at |b| = MK")
    tally.step(
        derivative_identities(), "σ is concave on [0, ∞), so σ(MK+t)-σ(MK) >= (t/(Mr'))·(σ(MK+Mr')-σ(MK)) for t <= Mr'"
    )
    tally.step(vanishes(lam * r**2 / r - lam * r), "for r >= 1: λ_min r²/r = λ_min r = λ_min·min(r, r²)")

    def constant(m: Fraction, k: Fraction) -> arb:
        value = (sigmoid(ball(m * (k + 1))) - sigmoid(ball(m * k))) / ball(m)
        return ball(factor) * value

    if square_alone:
        support = [vector([1, 0]), vector([0, 1])]
        for r_value in [Fraction(10), Fraction(1000)]:
            total = sum((_delta(ball(r_value * q[0]), arb(0)) for q in support), arb(0))
            tally.claim(at_most(constant(Fraction(1), Fraction(0)) * ball(r_value**2), total), "A·r² <= ΣΔ", r=r_value)
    _lower_bound_on_supports(tally, constant)
    return tally.evidence()


@check(
    "lem28_logistic_lower_bound",
    part="proof_133",
    method="symbolic",
    equations=(129, 130, 131, 132, 133),
    falsehoods={"a_third": {"e_factor": Fraction(1, 3)}, "smaller_radius": {"f_factor": 3}},
    strengthen=lambda excess: {"e_factor": Fraction(1, 4) * (1 + excess)},
)
def linear_part_dominates(*, e_factor: Fraction = Fraction(1, 4), f_factor: Fraction | int = 4) -> Evidence:
    """(dC/2)r - d ≥ (dC/4)r exactly where r ≥ 4/C, so e = dC/4 and f = 4/C do."""
    tally = Tally()
    d, c, s = sp.symbols("d C s", positive=True)
    if e_factor == Fraction(1, 4) and f_factor == 4:
        radius = 4 / c + s
        tally.step(
            vanishes((d * c / 2) * radius - d - (d * c / 4) * radius - d * c * s / 4),
            "the rest is dC·s/4 for r = 4/C+s",
        )
    for d_value, c_value, extra in product(
        [Fraction(1, 9), Fraction(2)], [Fraction(1, 2), Fraction(3)], [Fraction(0), Fraction(1, 10**9), Fraction(5)]
    ):
        radius = f_factor / c_value + extra
        tally.claim(
            at_most(e_factor * d_value * c_value * radius, d_value * c_value / 2 * radius - d_value),
            "e·r <= (dC/2)r - d",
            d=d_value,
            C=c_value,
            r=radius,
        )
    return tally.evidence()


@check(
    "thm3_logistic_local_pac",
    part="proof_lemma28_applies",
    method="certified",
    printed={"lemma_asks": "interior"},
    falsehoods={"interior": {"lemma_asks": "interior"}},
    errata=Erratum(
        place="Theorem 3 by way of Lemma 28",
        repair="Lemma 28 asks that the interior of the support contain the origin, which Theorem 3 does not suppose; "
        "ask in "
        "Lemma 28, as in Lemma 26, that the support spans the space, which is all that its proof uses.",
        survives="Yes.",
    ),
)
def queries_of_theorem_3_meet_lemma_28(*, lemma_asks: str = "spans") -> Evidence:
    """Every query distribution that Theorem 3 allows (bounded, spanning) meets the hypothesis of Lemma 28."""
    tally = Tally()
    for name, support in _finite_supports():
        second = matrix([[Fraction(sum(q[i] * q[j] for q in support)) for j in range(2)] for i in range(2)])
        spans = second[0][0] * second[1][1] != second[0][1] ** 2
        if not spans:
            tally.skip()
            continue
        # A finite set has no interior.
        tally.claim(
            spans if lemma_asks == "spans" else False, f"hypothesis of Lemma 28 for the queries {name}", support=support
        )
    return tally.evidence()


def _joined_bounds(tally: Tally) -> None:
    """Verify the last step to Definition 3, for both losses: B_K = B+2νK takes in the ridge term, as I^α ≥ 1.

    (θ-θ†)ᵀ∇L = main-noise+2νr²+2νuᵀθ† with main ≥ AI·min(r, r²), noise ≤ BI^α·r and uᵀθ† ≥ -Kr.
    """
    r, nu, k, b, growth, least = sp.symbols("r nu K B p m", nonnegative=True)  # I^α = 1+p, least = AI·min(r, r²)
    s1, s2, s3 = sp.symbols("s1 s2 s3", nonnegative=True)
    power = 1 + growth
    total = (least + s1) - (b * power * r - s2) + 2 * nu * r**2 + (-2 * nu * k * r + s3)
    spare = s1 + s2 + s3 + 2 * nu * r**2 + 2 * nu * k * growth * r
    tally.step(
        vanishes(total - (least - (b + 2 * nu * k) * power * r) - spare), "(θ-θ†)ᵀ∇L >= AI·min(r, r²)-(B+2νK)I^α·r"
    )


def _linear_identity() -> Decision:
    theta, honest, q, xi, nu = sp.symbols("theta honest q xi nu", real=True)
    answer = q * honest + xi
    loss = nu * theta**2 + (q * theta - answer) ** 2 / 2
    left = (theta - honest) * sp.diff(loss, theta)
    gap = theta - honest
    right = gap**2 * q**2 - gap * xi * q + 2 * nu * gap**2 + 2 * nu * gap * honest
    return vanishes(left - right)


@check(
    "lem4_gradient_pac",
    part="linear",
    method="class",
    equations=(105, 106, 107, 108, 109, 110, 111),
    falsehoods={
        "ten_times_a": {"a_factor": 10},
        "without_noise": {"b_factor": 0},
        "opposite_noise": {"a_factor": -1, "b_factor": -1},
    },
)
def linear_regression_is_gradient_pac(*, a_factor: Fraction | int = 1, b_factor: Fraction | int = 1) -> Evidence:
    """On the events of Lemmas 21 and 23 the gradient inequality holds for all θ with A = λ_min/2, B = B_0+2νK, α = 3/4.

    Proof.  (θ-θ†)ᵀ∇L = IuᵀΣ̂u - uᵀΣξQ + 2ν‖u‖² + 2νuᵀθ† with u = θ-θ†; the second and last terms are at least
    -(‖ΣξQ‖+2νK)r, the first at least AI·r² ≥ AI·min(r, r²).  Both events have probability tending to 1 (Lemmas 21
    and 23), so their intersection has.
    """
    tally = Tally()
    r, nu, lam, size, k, noise = sp.symbols("r nu lambda I K n", nonnegative=True)
    if a_factor == b_factor == 1:
        tally.step(_linear_identity(), "(105) to (108), for one data point")
        slack = (
            (lam / 2 * size + 2 * nu) * r**2
            - (noise + 2 * nu * k) * r
            - (lam / 2 * size * r**2 - (noise + 2 * nu * k) * r)
        )
        tally.step(vanishes(slack - 2 * nu * r**2), "(109) to (111): 2νr² >= 0 remains")
        _joined_bounds(tally)
        both_events(tally)
    for q1, q2, xi1, xi2, nu_value, honest in [
        *rationals(4, 12, 6),
        vector([1, 1, 9, 9, 1, 1]),
        vector([1, 2, -8, -8, 1, 2]),
    ]:
        nu_abs = abs(nu_value)
        moment = q1**2 + q2**2
        if moment == 0:
            tally.skip()
            continue
        lean = abs(xi1 * q1 + xi2 * q2) + 2 * nu_abs * abs(honest)
        for step in [Fraction(1, 100), Fraction(-1, 100), Fraction(1), Fraction(-3), Fraction(50)]:
            theta = honest + step
            gradient = 2 * nu_abs * theta + (q1 * step - xi1) * q1 + (q2 * step - xi2) * q2
            distance = abs(step)
            right = a_factor * moment / 2 * min(distance, distance**2) - b_factor * lean * distance
            tally.claim(
                at_most(right, step * gradient),
                "(θ-θ†)∇L for two data, d = 1",
                q=[q1, q2],
                xi=[xi1, xi2],
                nu=nu_abs,
                honest=honest,
                theta=theta,
            )

    def margin(q: Fraction, xi: Fraction, nu: Fraction, honest: Fraction, step: Fraction) -> Fraction:
        lean = abs(xi * q) + 2 * nu * abs(honest)
        gradient = 2 * nu * (honest + step) + (q * step - xi) * q
        r_value = abs(step)
        return step * gradient - a_factor * q * q / 2 * min(r_value, r_value**2) + b_factor * lean * r_value

    number = rational(-9, 9)
    attack(
        tally,
        "(θ-θ†)∇L for one datum, d = 1",
        arguments(q=number, xi=number, nu=rational(0, 9), honest=number, step=rational()),
        lambda **drawn: margin(**drawn) >= 0,
        margin,
    )
    return tally.evidence()


@check(
    "lem4_gradient_pac",
    part="logistic",
    method="class",
    equations=(139, 140, 141, 142, 143, 144, 145, 146, 147, 151),
    falsehoods={"a_hundred_times": {"factor": 100}, "square_alone": {"square_alone": True}},
)
@precise
def logistic_regression_is_gradient_pac(*, factor: int = 1, square_alone: bool = False) -> Evidence:
    """(θ-θ†)ᵀ∇L = ΣΔ + uᵀΣ(σ(Qᵀθ†)-1[A=1])Q + 2ν‖u‖² + 2νuᵀθ†, and ΣΔ ≥ A·I·min(r, r²) by Lemma 28.

    With any B > 0, B_K = B+2νK and α = 3/4, none of which depends on θ†, ‖θ†‖ ≤ K.  Each Z_i =
    (σ(Q_iᵀθ†)-1[A_i=1])Q_i has mean 0, as P(A_i=1) = σ(Q_iᵀθ†), and norm at most M; so by (148) P(‖ΣZ_i‖ ≥ B·I^{3/4}) ≤
    2d·exp(-B²√I/(2dM²)), which tends to 0.  Both events together have probability tending to 1.
    """
    tally = Tally()
    if factor == 1 and not square_alone:
        size, dim, top, b, p = sp.symbols("I d M B p", positive=True)
        exponent = (b * size ** sp.Rational(3, 4)) ** 2 / (2 * dim * size * top**2)
        tally.step(vanishes(sp.powsimp(exponent - b**2 * sp.sqrt(size) / (2 * dim * top**2))), "(148) at s = B·I^{3/4}")
        tail_vanishes(tally, sp.Rational(1, 2), "2d·exp(-c√I) → 0")
        tally.step(vanishes(p * (p - 1) + (1 - p) * p), "E(σ-1[A=1]) = 0 where P(A=1) = σ")
        both_events(tally)
    theta, honest, q, nu, one = sp.symbols("theta honest q nu i", real=True)
    for answer in (1, -1):
        gradient = sp.diff(sp.log(1 + sp.exp(-answer * q * theta)), theta)
        tally.step(
            vanishes(sp.simplify(gradient - (_sigma(q * theta) - int(answer == 1)) * q)),
            f"(139) to (140) for the answer {answer}",
        )
    gap = theta - honest
    left = gap * ((_sigma(q * theta) - one) * q + 2 * nu * theta)
    right = gap * q * (_sigma(q * theta) - _sigma(q * honest)) + gap * (_sigma(q * honest) - one) * q
    right += 2 * nu * gap**2 + 2 * nu * gap * honest
    tally.step(vanishes(sp.expand(left - right)), "(141) to (146)")
    _joined_bounds(tally)
    tally.adopt(sum_of_logistic_distances(factor=factor, square_alone=square_alone))
    return tally.evidence()


@check(
    "lem4_gradient_pac",
    part="proof_148",
    method="symbolic",
    equations=(148,),
    falsehoods={"without_d": {"with_d": False}, "four_times": {"factor": 4}},
)
@precise
def hoeffding_by_coordinates(*, with_d: bool = True, factor: int = 1) -> Evidence:
    """P(‖ΣZ_i‖ ≥ s) ≤ 2d·exp(-s²/(2dIM²)) for independent mean-zero Z_i of norm at most M; exact on signed unit
    vectors.

    Proof.  ‖x‖ ≥ s makes some |x_j| ≥ s/√d; each coordinate lies in an interval of length 2M: Hoeffding's inequality.
    """
    tally = Tally()
    if with_d and factor == 1:
        hoeffdings_lemma(tally)
        root_norm(tally)
        size, dim, top, far = sp.symbols("I d M s", positive=True)
        tally.step(
            vanishes(2 * (far / sp.sqrt(dim)) ** 2 / (size * (2 * top) ** 2) - far**2 / (2 * dim * size * top**2)),
            "2s²/(Ic²) at s/√d, c = 2M",
        )
    for count, s in product([1, 2, 4, 8], [Fraction(1), Fraction(3, 2), Fraction(2), Fraction(4)]):
        # d = 1: signs; exact binomial tail.
        heads = [k for k in range(count + 1) if abs(2 * k - count) >= s]
        probability = Fraction(sum(comb(count, k) for k in heads), 2**count)
        right = 2 * (-ball(factor * s**2 / (2 * count))).exp()
        tally.claim(at_most(ball(probability), right), "d = 1, Z = ±1", I=count, s=s, probability=probability)
        # d = 4 with all coordinates ±1/2 together: norm |ΣZ| = the same walk, M = 1.
        d = 4
        in_d = 2 * d * (-ball(factor * s**2 / (2 * d * count))).exp() if with_d else right / 4
        tally.claim(
            at_most(ball(probability), in_d), "d = 4, Z = ±(1/2, 1/2, 1/2, 1/2)", I=count, s=s, probability=probability
        )
    return tally.evidence()


@check(
    "lem4_gradient_pac",
    part="proof_150",
    method="symbolic",
    equations=(149, 150),
    printed={"bound_on": "square"},
    falsehoods={"square": {"bound_on": "square"}, "half": {"factor": Fraction(1, 2)}},
    errata=Erratum(
        place="the line before (149), and (150), (151)",
        repair="The hypothesis is ‖θ†‖ ≤ K, not ‖θ†‖² ≤ K; the braces of (150) and (151) want min in front of them, "
        "the bound "
        "that is combined is (147) and not (138), and `Assumption 3` is Definition 3.",
        survives="Yes.",
        scan=True,
    ),
    strengthen=lambda excess: {"factor": 1 - excess},
)
def ridge_term_is_a_bias(*, bound_on: str = "norm", factor: Fraction | int = 1) -> Evidence:
    """2ν(θ-θ†)ᵀθ† ≥ -2νK‖θ-θ†‖ where ‖θ†‖ ≤ K, by Cauchy-Schwarz."""
    tally = Tally()
    u1, u2, v1, v2 = sp.symbols("u1 u2 v1 v2", real=True)
    slack = (u1**2 + u2**2) * (v1**2 + v2**2) - (u1 * v1 + u2 * v2) ** 2
    if bound_on == "norm" and factor >= 1:
        tally.step(is_sum_of_squares(slack, [(sp.Integer(1), u1 * v2 - u2 * v1)]), "Cauchy-Schwarz")
    for nu, k, r in product([Fraction(1), Fraction(5)], [Fraction(1, 4), Fraction(4)], [Fraction(1), Fraction(3)]):
        # The worst direction: θ-θ† = -r·θ†/‖θ†‖.
        length = k if bound_on == "norm" else {Fraction(1, 4): Fraction(1, 2), Fraction(4): Fraction(2)}[k]
        tally.claim(
            at_most(-factor * 2 * nu * k * r, -2 * nu * r * length),
            "2ν(θ-θ†)θ† >= -2νKr, d = 1",
            nu=nu,
            K=k,
            r=r,
            honest=length,
        )
    return tally.evidence()


@check(
    "lem22_noise_times_query",
    method="symbolic",
    falsehoods={"noise_that_follows_the_query": {"independent": False}, "noise_with_a_mean": {"mean": Fraction(1, 10)}},
    strengthen=lambda excess: {"mean": excess},
)
def noise_times_query_has_mean_zero(*, independent: bool = True, mean: Fraction | int = 0) -> Evidence:
    """E[ξQ[j]] = E[ξ]E[Q[j]] = 0 for independent noise of mean zero; exact expectations over finite distributions.

    That the product is sub-exponential is Theorem 8; functions of independent pairs are independent.
    """
    tally = Tally()
    if independent and mean == 0:
        p, q, x1, x2, y1, y2 = sp.symbols("p q x1 x2 y1 y2", real=True)
        joint = sum(a * b * c * d for (a, b), (c, d) in product([(p, x1), (1 - p, x2)], [(q, y1), (1 - q, y2)]))
        tally.step(
            vanishes(joint - (p * x1 + (1 - p) * x2) * (q * y1 + (1 - q) * y2)), "E[ξQ] = E[ξ]E[Q], two values each"
        )
    noises = [[Fraction(-1), Fraction(1)], [Fraction(-3), Fraction(1), Fraction(2)]]
    queries = [[Fraction(1), Fraction(1)], [Fraction(0), Fraction(2), Fraction(5)], [Fraction(-7), Fraction(4)]]
    for noise, query in product(noises, queries):
        shifted = [xi + mean for xi in noise]
        if independent:
            pairs = list(product(shifted, query))
        else:
            middle = sum(query, Fraction(0)) / len(query)
            pairs = [(q - middle, q) for q in query]
            if all(xi == 0 for xi, _ in pairs):
                tally.skip()
                continue
        value = sum((xi * q for xi, q in pairs), Fraction(0)) / len(pairs)
        if not independent or any(query):
            tally.claim(value == 0, "E[ξQ] = 0", noise=noise, query=query, value=value)
    return tally.evidence()


@check(
    "lem27_uniform_lower_bound",
    method="class",
    modulo=("extreme_value", "heine_borel"),
    falsehoods={"half_of_the_data": {"c": Fraction(1, 2)}, "probability_one": {"tail": 0}},
)
@precise
def sums_are_bounded_below_uniformly(*, c: Fraction = Fraction(1, 4), tail: int = 1) -> Evidence:
    """P(for all unit u: Σ|Q_iᵀu| ≥ C0·I/4) ≥ 1 - 2|S|exp(-I·C0²/(2M²)), S a finite cover, C0 = inf E|Qᵀu|.

    Proof.  u ↦ E|Qᵀu| is M-Lipschitz and positive, so C0 > 0 is attained on the sphere; balls of radius C0/(4M) cover
    it.  Hoeffding's inequality with t = C0/2 at each centre, a union bound, and the part `proof_127`.
    Instances: Q uniform on e1, e2, where the probability is exact, C0 = 1/2 and the bound 1-2exp(-I/8) was derived.
    Here Σ|Q_iᵀu| = n1|u1|+n2|u2|, whose minimum over the unit circle is min(n1, n2); n1 is binomial.
    """
    tally = Tally()
    if c == Fraction(1, 4) and tail == 1:
        tally.adopt(hoeffding())
        tally.adopt(from_the_cover_to_the_sphere())
        size, top, c0 = sp.symbols("I M C_0", positive=True)
        exponent = (2 * size * (c0 / 2) ** 2 / top**2) - size * c0**2 / (2 * top**2)
        tally.step(vanishes(exponent), "(123): 2It²/M² = IC0²/(2M²) at t = C0/2")
        tail_vanishes(tally, 1, "2|S|·exp(-c·I) → 0")
    for count in (8, 16, 64, 256):
        good = [k for k in range(count + 1) if min(k, count - k) >= c * count]
        probability = Fraction(sum(comb(count, k) for k in good), 2**count)
        bound = 1 - tail * 2 * (-ball(Fraction(count, 8))).exp()
        tally.claim(
            at_most(bound, ball(probability)),
            "exact probability against the bound",
            I=count,
            probability=float(probability),
        )
    return tally.evidence()


_DATA = (400, 1600)


@check(
    "thm2_linear_local_pac",
    method="class",
    falsehoods={
        "four_data": {"sizes": (4,)},
        "averaged_losses": {"mean": True},
        "exact_recovery": {"epsilon": Fraction(1, 1000)},
    },
)
def linear_regression_recovers_the_model(
    *, sizes: tuple[int, ...] = _DATA, mean: bool = False, epsilon: Fraction = Fraction(1, 4)
) -> Evidence:
    """Linear regression is locally PAC*: it is gradient-PAC* (Lemma 4), and Lemma 5 applies, as no loss is negative.

    (C19 proves it for bounded queries without a theorem of a book, and says how many data.)
    Attacked by exact probabilities: P(|θ_h*-θ_h†| ≤ 1/4) ≥ 95 % from 400 data on, for two data sets of the other user.
    d = 1, queries 1, noise ±1 with probability 1/2, ℓ2² with λ = 1, ν = 1/10; the other user holds one far datum or
    many.  The learned model is affine in the sum of the noise, which is binomial: both are exact.  I data of mean
    answer A are one datum (√I, √I·A).
    """
    tally = Tally()
    margin, answer = sp.symbols("m a", real=True)
    loss = (margin - answer) ** 2 / 2
    tally.step(bool(loss.is_nonnegative) or None, "the losses are not negative")
    for size, honest, other in product(
        sizes, [Fraction(2), Fraction(-1)], [(Fraction(1), Fraction(30)), (Fraction(20), Fraction(100))]
    ):
        root = Fraction(int(size**0.5)) if not mean else Fraction(1)

        def learned(average: Fraction, root: Fraction = root, other: tuple[Fraction, Fraction] = other) -> Fraction:
            users = (LinearUser([[root]], [root * average]), LinearUser([[other[0]]], [other[1]]))
            found = LinearProblem(users, Fraction(1), Fraction(1, 10), 1).minimum()
            if found is None:
                raise ArithmeticError("the minimum is not unique")
            return found[1][0][0]

        base, slope = learned(honest), learned(honest + 1) - learned(honest)
        near = [k for k in range(size + 1) if abs(base + slope * Fraction(2 * k - size, size) - honest) <= epsilon]
        probability = Fraction(sum(comb(size, k) for k in near), 2**size)
        tally.claim(
            at_most(Fraction(19, 20), probability),
            "exact probability of recovery",
            I=size,
            honest=honest,
            other=list(other),
            probability=float(probability),
        )
    return tally.evidence()


@check(
    "thm3_logistic_local_pac",
    method="class",
    falsehoods={
        "ten_data": {"sizes": (10,)},
        "averaged_losses": {"mean": True},
        "exact_recovery": {"epsilon": Fraction(1, 100)},
    },
)
@precise
def logistic_regression_recovers_the_model(
    *, sizes: tuple[int, ...] = (400, 1000), mean: bool = False, epsilon: Fraction = Fraction(1, 2)
) -> Evidence:
    """Logistic regression is locally PAC*: it is gradient-PAC* (Lemma 4), and Lemma 5 applies, as no loss is negative.

    (C19 proves it without a theorem of a book, and says how many data.)
    Attacked: P(|θ_h*-θ_h†| ≤ 1/2) ≥ 95 % from 400 data on, for ℓ2 and smooth-ℓ2, λ = 1, whatever the others hold.
    d = 1, queries 1.  The pull of the regularizer is at most λ, so θ_h* is within ε of θ† as soon as the local gradient
    I·σ(θ)-k+2νθ (k labels are 1) exceeds λ at θ†+ε and is below -λ at θ†-ε; k is binomial with p = σ(θ†), and
    probabilities are balls.
    """
    tally = Tally()
    margin = sp.Symbol("m", real=True)
    above = sp.exp(sp.log(1 + sp.exp(-margin))) - 1
    tally.step(bool(sp.simplify(above).is_positive) or None, "e^loss > 1, so the losses are positive")
    nu, lam = ball(Fraction(1, 10)), ball(1)
    for size, honest in product(sizes, [Fraction(0), Fraction(1)]):
        weight = ball(Fraction(1, size)) if mean else ball(1)
        p = sigmoid(ball(honest))
        ends = [honest + epsilon, honest - epsilon]
        high, low = (2 * nu * ball(end) + weight * size * sigmoid(ball(end)) for end in ends)
        # weight·k <= high - λ and weight·k >= low + λ.
        total, term = arb(0), (1 - p) ** size
        for k in range(size + 1):
            if weight * k < high - lam and weight * k > low + lam:
                total += term
            term = term * (size - k) / (k + 1) * p / (1 - p)
        tally.claim(
            at_most(ball(Fraction(19, 20)), total),
            "probability of recovery",
            I=size,
            honest=honest,
            probability=total.mid().str(8),
        )
    return tally.evidence()


# ---- Theorems of books: not proved here, but tested against a wrong transcription ---------------------------------


@check(
    "thm6_covariance_concentration",
    method="certified",
    in_words="the theorem itself, which is the book's; here its transcription is tried on one family, with constants "
    "4, 2, 1/8",
    equations=(97,),
    printed={"centred": False},
    falsehoods={"mean_not_zero": {"centred": False}, "divided_by_sigma": {"power": 1}},
    errata=Erratum(
        place="Theorem 6, if `sub-Gaussian` is meant around the mean, as in the source",
        repair="Suppose, as the source does, that the queries have mean zero; or let `sub-Gaussian` say that E "
        "exp((Qᵀu)²/σ²) ≤ 2 for unit vectors u, which allows a mean (Vershynin 2018, section 4.7), with other "
        "constants.",
        survives="Yes: what is used of it is Lemma 21, which follows for any mean from the law of large numbers.",
    ),
)
@precise
def covariance_concentrates(*, centred: bool = True, power: int = 2) -> Evidence:
    """P(|Σ̂-Σ|/σ² ≥ c1(√(1/I)+1/I)+δ) ≤ c2·exp(-c3·I·min(δ, δ²)), d = 1, Q = m ± s with equal odds, σ = s.

    |Σ̂-Σ| = 2ms|mean of signs|, an exact binomial.  With m = 0 it is 0.  With m/s large it exceeds any threshold with
    probability 1 at I = 1, whatever the constants: for δ = m/s the left-hand side is 1 and the right-hand side tends
    to 0.
    """
    tally = Tally()
    for count, delta, scale in product([1, 4], [Fraction(1, 2), Fraction(40)], [Fraction(1), Fraction(100)]):
        ratio = Fraction(0) if centred else 2 * delta
        # With the wrong normalization the deviation of a law of scale s is s times as large; the law here is 0, ±s√2.
        threshold = 4 * (ball(Fraction(1, count)).sqrt() + ball(Fraction(1, count))) + ball(delta)
        bound = 2 * (-ball(count * min(delta, delta**2) / 8)).exp()
        if centred:
            # Q² is 0 or 2s²: |Σ̂-Σ|/σ^power = |2k/I-1|·s^(2-power), with σ = √2·s at most twice as large.
            far = [
                k
                for k in range(count + 1)
                if ball(abs(Fraction(2 * k, count) - 1) * scale ** (2 - power) / 2) >= threshold
            ]
        else:
            far = [k for k in range(count + 1) if ball(2 * ratio * abs(Fraction(2 * k, count) - 1)) >= threshold]
        probability = Fraction(sum(comb(count, k) for k in far), 2**count)
        tally.claim(
            at_most(ball(probability), bound),
            "exact probability against the bound",
            I=count,
            delta=delta,
            mean_over_sigma=ratio,
            probability=probability,
        )
    return tally.evidence()


@check(
    "thm8_product_subexponential",
    method="certified",
    in_words="the theorem itself, which is the book's; here it is tried on the square of a Gaussian",
    falsehoods={"product_is_sub_gaussian": {"largest": Fraction(49, 100)}, "half_the_variance": {"proxy": 1}},
)
@precise
def square_of_a_gaussian_is_subexponential(*, largest: Fraction = Fraction(1, 4), proxy: int = 2) -> Evidence:
    """E exp(t(X²-1)) = e^{-t}/√(1-2t) ≤ e^{2t²} for |t| ≤ 1/4: sub-exponential, but not for larger t, so not
    sub-Gaussian.
    """
    tally = Tally()
    for part in [Fraction(-1), Fraction(-1, 2), Fraction(1, 100), Fraction(1, 2), Fraction(1)]:
        t = part * largest
        value = (-ball(t)).exp() / (1 - 2 * ball(t)).sqrt()
        tally.claim(at_most(value, (ball(proxy * t * t)).exp()), "moment generating function of X²-1", t=t)
    return tally.evidence()


@check(
    "thm9_bernstein",
    method="certified",
    in_words="the theorem itself, which is the book's; here its transcription is tried on signs",
    equations=(102,),
    falsehoods={"four_times_the_exponent": {"constant": 2}, "t_instead_of_t_squared": {"power": 1}},
)
@precise
def sums_of_signs_concentrate(*, constant: Fraction | int = Fraction(1, 2), power: int = 2) -> Evidence:
    """P(|ΣX_i| ≥ It) ≤ 2exp(-It²/2) for independent signs; probabilities are exact.  X in (102) stands for the sum."""
    tally = Tally()
    for count, t in product([1, 4, 16, 64], [Fraction(1, 4), Fraction(1, 2), Fraction(1)]):
        far = [k for k in range(count + 1) if abs(2 * k - count) >= count * t]
        probability = Fraction(sum(comb(count, k) for k in far), 2**count)
        bound = 2 * (-ball(constant * count * t**power)).exp()
        tally.claim(
            at_most(ball(probability), bound),
            "exact probability against the bound",
            I=count,
            t=t,
            probability=probability,
        )
    return tally.evidence()
