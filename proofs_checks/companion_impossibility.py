r"""Further statements on impossibility: C21."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cache, reduce
from itertools import combinations, islice, pairwise, product

import numpy as np
import sympy as sp

from proofs_checks.d_impossibility import trimmed_mean
from proofs_checks.exact import Vector, add, dot, times, vector
from proofs_checks.registry import Evidence, Tally, at_most, check
from proofs_checks.search import is_sum_of_squares, rationals, vanishes, worst
from proofs_checks.steps import root_norm
from theory.arrays import Array


@check(
    "c21_sharp_in_one_dimension",
    part="trimmed_mean",
    method="symbolic",
    falsehoods={"a_tenth_less": {"factor": Fraction(9, 10)}, "one_trimmed_too_few": {"drop": -1}},
    strengthen=lambda excess: {"factor": 1 - excess},
)
def trimmed_mean_attains_the_bound(*, factor: Fraction | int = 1, drop: int = 0) -> Evidence:
    """Dropping the F least and F largest of N values leaves a mean within F/(N-F) of the honest mean, honest values
    in [0, 1], F < N/2.

    So, applied to models that the users learn each from their own data, it is (F, N, F/(N-F))-Byzantine learning: if
    these are within η of the honest ones, the answer is within F/(N-F)·(D+2η)+η of the honest mean, D the diameter,
    and its square is at most F²D²/(N-F)²+ε for small η.
    Proof.  The values may be moved and scaled to [0, 1].  The answer does not decrease in any value, so the Byzantine
    ones may as well lie at one end, beyond all others.  The error is then linear in the sorted honest values, which are
    a mean of vectors (0, …, 0, 1, …, 1); so it is largest at one of these, with k ones.  With all Byzantine values
    above, the answer is min(1, k/(N-2F)): the error is kF/((N-2F)(N-F)) ≤ F/(N-F) for k ≤ N-2F, and 1-k/(N-F) ≤ F/(N-F)
    beyond; below is the mirror image.  Attacked on all 0-1 values for N ≤ 14.  Attained: F honest ones, the Byzantine
    values 0, the answer 0 (Corollary 2).
    """
    tally = Tally()
    if factor == 1 and not drop:
        ones, f, rest, more = sp.symbols("k F m s", positive=True)  # m = N-2F; N-F = m+F
        few = ones / rest - ones / (rest + f)
        tally.step(vanishes(few - ones * f / (rest * (rest + f))), "k/(N-2F)-k/(N-F) = kF/((N-2F)(N-F))")
        room = (f / (rest + f) - few).subs(rest, ones + more)
        tally.step(
            vanishes(room - f * more / ((ones + more) * (ones + more + f))), "which is below F/(N-F) for k < N-2F"
        )
        tally.step(vanishes((few - f / (rest + f)).subs(ones, rest)), "and F/(N-F) at k = N-2F")
        beyond = f / (rest + f) - (1 - (rest + more) / (rest + f))
        tally.step(vanishes(beyond - more / (rest + f)), "1-k/(N-F) <= F/(N-F) for k >= N-2F")
        x = sp.symbols("x1:5", real=True)
        levels = [x[0], *(later - earlier for earlier, later in pairwise(x))]
        tally.step(
            vanishes(sum(level * (4 - i) for i, level in enumerate(levels)) - sum(x)),
            "sorted values as sums of their steps",
        )
    for n in range(3, 15):
        for f in range(1, (n + 1) // 2):
            if f + drop < 0 or n - 2 * (f + drop) <= 0:
                tally.skip()
                continue
            for ones, bad in product(range(n - f + 1), range(f + 1)):
                honest = [Fraction(1)] * ones + [Fraction(0)] * (n - f - ones)
                lies = [Fraction(10)] * bad + [Fraction(-10)] * (f - bad)
                error = abs(trimmed_mean([*honest, *lies], f + drop) - Fraction(ones, n - f))
                tally.claim(
                    at_most(error, factor * Fraction(f, n - f)),
                    "error of the trimmed mean",
                    N=n,
                    F=f,
                    honest_ones=ones,
                    byzantine_ones=bad,
                    error=error,
                )
    return tally.evidence()


@check(
    "c21_sharp_in_one_dimension",
    part="any_dimension",
    method="symbolic",
    modulo=("extreme_value",),
    falsehoods={"a_tenth_less": {"factor": Fraction(9, 10)}, "as_in_one_dimension": {"dimension": 1}},
    strengthen=lambda excess: {"factor": 1 - excess},
)
def balls_that_meet_in_pairs(*, factor: Fraction | int = 1, dimension: int | None = None) -> Evidence:
    """In R^d some rule attains C = √(2d/(d+1))·F/(N-F), F < N/2.  (F/(N-F) itself is attained for d ≤ 2, and for F = 1,
    by the part `plane`; whether it is for d ≥ 3 and F ≥ 2 is open.)

    Proof.  For each set S of n = N-F users let m_S be the mean and D_S the diameter of their models, r_S = (F/n)D_S.
    Two such sets share N-2F ≥ 1 users, so a model of one is within D_S+D_S' of a model of the other; at most F users
    are exchanged, so ‖m_S-m_S'‖ ≤ r_S+r_S'.  By the following lemma some point is within μr_S of every m_S, μ² =
    2d/(d+1); let it be the answer.  The honest users are one of the sets.
    *Lemma*: if ‖c_i-c_j‖ ≤ r_i+r_j for finitely many i ≠ j, the balls of radius μr_i around c_i have a common point.
    If an r_i is 0, c_i is one (μ ≥ 1).  Else let t be least such that the balls of radius tr_i have a common point z
    (extreme values).  Among the c_i-z with ‖c_i-z‖ = tr_i some have a mean Σα_i(c_i-z) = 0, or else z could be moved
    towards all of them; of these take as few as possible, k ≤ d+1, as more are affinely dependent and one can be left
    out (Carathéodory).  For k = 1, t = 0.  With T = Σα_ir_i², S = Σα_ir_i, Q = Σα_i²r_i²,
    2t²T = Σα_iα_j‖c_i-c_j‖² ≤ Σ_{i≠j}α_iα_j(r_i+r_j)² = 2T+2S²-4Q, and S² ≤ kQ, S² ≤ T give t² ≤ 2(1-1/k) ≤ μ².
    Instances: the regular simplex, which attains it.
    """
    tally = Tally()
    if factor == 1 and dimension is None:
        # Sums over i and j of α_iα_j(…), Σα = 1; the square of a distance is |c_i-z|²+|c_j-z|²-2<c_i-z, c_j-z>.
        mean_square, mean = sp.symbols("t²T |mean|", real=True)
        distances = mean_square * 1 + 1 * mean_square - 2 * mean**2
        tally.step(vanishes(distances.subs(mean, 0) - 2 * mean_square), "Σα_iα_j‖c_i-c_j‖² = 2Σα_i‖c_i-z‖²")
        t_, s_, q_ = sp.symbols("T S Q", real=True)
        pairs = (t_ * 1 + 1 * t_ + 2 * s_ * s_) - 4 * q_  # all i, j, less i = j: α_i²(2r_i)²
        tally.step(vanishes(pairs - (2 * t_ + 2 * s_**2 - 4 * q_)), "Σ_{i≠j}α_iα_j(r_i+r_j)² = 2T+2S²-4Q")
        k, d, spare = sp.symbols("k d s", positive=True)
        room, rest = sp.symbols("T-S² Q-S²/k", nonnegative=True)
        bound = 2 * (s_**2 + room) * (1 - 1 / k) - ((s_**2 + room) + s_**2 - 2 * (s_**2 / k + rest))
        tally.step(vanishes(bound - room * (1 - 2 / k) - 2 * rest), "2T(1-1/k)-(T+S²-2Q) >= 0 for k >= 2")
        gap = 2 * d / (d + 1) - 2 * (1 - 1 / k)
        tally.step(
            vanishes(gap.subs(d, k - 1 + spare) - 2 * spare / (k * (k + spare))), "2(1-1/k) <= 2d/(d+1), k <= d+1"
        )
        root_norm(tally)  # S² <= kQ
        r1, r2, weight = sp.symbols("r_1 r_2 w", positive=True)
        first = 1 / (1 + weight)
        spread = first * r1**2 + (1 - first) * r2**2 - (first * r1 + (1 - first) * r2) ** 2
        tally.step(is_sum_of_squares(spread, [(weight / (1 + weight) ** 2, r1 - r2)]), "S² <= T: a square is convex")
    for size in range(1, 8):
        # Centres e_0, …, e_d, distances √2, radii √2/2; the centroid has the squared distance d/(d+1).
        least = Fraction(size, size + 1) / Fraction(1, 2)
        at = dimension or size
        tally.claim(at_most(least, factor * Fraction(2 * at, at + 1)), "t² <= 2d/(d+1) for the regular simplex", d=size)
    return tally.evidence()


def _sets(models: list[Vector], drop: int) -> Iterator[tuple[Vector, Fraction]]:
    """Yield c_T and D_T² for the sets T of ``drop`` users."""
    for out in combinations(range(len(models)), drop):
        kept = [model for i, model in enumerate(models) if i not in out]
        gaps = [add(a, b, -1) for a, b in combinations(kept, 2)]
        yield times(Fraction(1, drop), reduce(add, (models[i] for i in out))), max(dot(gap, gap) for gap in gaps)


@cache
def _in_the_plane(size: int, drop: int, seed: int) -> tuple[list[Vector], Vector, list[tuple[Vector, Fraction]]]:
    """Return models in the plane, a point p found in floating point, and their c_T and D_T²."""
    models = list(islice(rationals(seed, size, 2), size))
    sets = list(_sets(models, drop))
    centres = np.array([[float(x) for x in centre] for centre, _ in sets])
    squares = np.array([float(square) for _, square in sets])

    def margin(x: Array) -> float:
        return float(np.max(np.sum((centres - x) ** 2, axis=1) - squares))

    return models, vector(worst(margin, [(-6.0, 6.0)] * 2, seed=seed, rounds=30)), sets


@check(
    "c21_sharp_in_one_dimension",
    part="plane",
    method="class",
    modulo=("extreme_value",),
    falsehoods={"a_tenth_less": {"factor": Fraction(9, 10)}, "half_of_the_users": {"half": True}},
    strengthen=lambda excess: {"factor": 1 - excess},
)
def constant_is_attained_in_the_plane(*, factor: Fraction | int = 1, half: bool = False) -> Evidence:
    """In R² some rule attains C = F/(N-F), F < N/2; and so it does for F = 1 in every dimension.

    Proof.  Let n = N-F, m the mean of all models.  For a set T of F users let c_T be their mean, D_T the diameter of
    the n others, S.  The answer (Nm-Fp)/n is at the distance (F/n)‖c_T-p‖ from the mean of S.  So wanted: a p with
    ‖p-c_T‖ ≤ D_T for all T.  Let p minimize h, the largest ‖p-c_T‖-D_T (extreme values), and suppose that h > 0.  Of
    the sets at which h is attained, k ≤ 3 have Σα_ie_i = 0 for the unit vectors e_i from p to c_i, α_i > 0, Σα_i = 1
    (Carathéodory, as in the part `any_dimension`).  Let f_i = α_ie_i, f_3 = 0 if k = 2.  Then
    h = Σ<c_i, f_i>-Σα_iD_i, and Σ<c_i, f_i> ≤ Σα_iD_i is a contradiction.  That inequality: the left-hand side is 1/F
    times the sum of <x, g> over the models, where g is f_i for a user of T_i alone (type +i), -f_i for one of the two
    others alone (type -i), and 0 else.  Each T_i has F users, so with p_i and q_i of these types p_i-q_i is the same
    number s for each i, and F ≥ Σq_i+s = Σp_i-2s.  Two sets S share a user, as N > 2F.
    (1) A pair of types +i, -i: x is in S_j and S_k, y in S_i, so <x-y, f_i> ≤ α_i(D_i+min(D_j, D_k)) ≤ ΣαD, as
    α_i ≤ α_j+α_k.
    (2) Three of types +1, +2, +3, D_3 the largest: ‖x_i-x_j‖ ≤ D_k, so Σ<x_i, f_i> = <x_1-x_3, f_1>+<x_2-x_3, f_2> ≤
    α_1D_2+α_2D_1 ≤ ΣαD.
    (3) Three of types -1, -2, -3, D_3 the least: ‖y_i-y_j‖ ≤ D_i+D_j, so -Σ<y_i, f_i> ≤ α_1(D_1+D_3)+α_2(D_2+D_3) ≤
    2ΣαD.
    With s ≥ 0 the models make up Σq_i pairs and s times (2), with s < 0 Σp_i pairs and -s times (3): F·ΣαD at most.
    *F = 1, any d*: let a and b be farthest apart, D_a ≤ D_b.  Let p be at the distance D_a from a towards b: it is at
    ‖a-b‖-D_a ≤ D_b from b, by way of a third user, and within ‖a-b‖ of all others, as a and b are.
    Instances: N = 3 on a line, where nothing less will do; points p, verified exactly, for N = 5 and 7 in the plane.
    """
    tally = Tally()
    if factor == 1 and not half:
        n, f, mean_s, c, p = sp.symbols("n F m_S c p", positive=True)
        answer = (n * mean_s + f * c - f * p) / n
        tally.step(vanishes(answer - mean_s - f * (c - p) / n), "the answer is (F/n)(c_T-p) from the mean of S")
        f1, f2, x1, x2, x3 = sp.symbols("f_1 f_2 x_1 x_2 x_3", real=True)
        three = x1 * f1 + x2 * f2 - x3 * (f1 + f2)
        tally.step(
            vanishes(three - (x1 - x3) * f1 - (x2 - x3) * f2), "Σf = 0: Σ<x_i, f_i> = <x_1-x_3, f_1>+<x_2-x_3, f_2>"
        )
        a2, a3, d1, gap, more, w = sp.symbols("a_2 a_3 D u v w", nonnegative=True)
        a1 = a2 + a3 - w  # α_1 <= α_2+α_3
        d2, d3 = d1 + gap, d1 + gap + more
        low, high = sp.symbols("D_j D_1", nonnegative=True)  # a pair, D_j <= D_k = D_j+v
        pair = a1 * high + a2 * low + a3 * (low + more) - a1 * (high + low)
        tally.step(vanishes(pair - w * low - a3 * more), "(1)")
        plus = a1 * d1 + a2 * d2 + a3 * d3 - (a1 * d2 + a2 * d1)
        tally.step(vanishes(plus - a3 * (d1 + more) - w * gap), "(2), D_1 <= D_2 <= D_3; else exchange 1 and 2")
        b1, b2, least, up1, up2 = sp.symbols("a_1 a_2 D_3 u_1 u_2", nonnegative=True)
        large1, large2 = least + up1, least + up2
        minus = 2 * (b1 * large1 + b2 * large2) - (b1 * (large1 + least) + b2 * (large2 + least))
        tally.step(vanishes(minus - b1 * up1 - b2 * up2), "(3)")
        q1, q2, q3, s, both_ = sp.symbols("q_1 q_2 q_3 s r", real=True)
        size = (q1 + s) + q2 + q3 + both_
        tally.step(vanishes(size - (q1 + (q2 + s) + q3 + both_)), "p_i-q_i is the same for each i")
        tally.step(vanishes(size - both_ - (q1 + q2 + q3 + s)), "F >= Σq+s")
        tally.step(vanishes(size - both_ - ((q1 + s) + (q2 + s) + (q3 + s) - 2 * s)), "F >= Σp-2s")
        third, da, db = sp.symbols("s D_a D_b", nonnegative=True)
        tally.step(vanishes((db - (da + db - third - da)) - third), "F = 1: ‖a-b‖ = D_a+D_b-s gives ‖a-b‖-D_a <= D_b")
    # On a line p is to lie in all intervals [c_T-D_T, c_T+D_T], scaled by the factor.
    line = [vector([x]) for x in ((0, 1) if half else (0, 1, 2))]
    ends = []
    for out in range(len(line)):
        kept = [model[0] for i, model in enumerate(line) if i != out]
        radius = factor * (max(kept) - min(kept))
        ends.append((line[out][0] - radius, line[out][0] + radius))
    tally.claim(
        at_most(max(low for low, _ in ends), min(high for _, high in ends)),
        "some p is within D_T of c_T for all T",
        models=line,
    )
    for size, drop, seed in [(5, 2, 1), (5, 2, 2), (7, 3, 3)]:
        models, p, sets = _in_the_plane(size, drop, seed)
        for centre, square in sets:
            away = add(p, centre, -1)
            tally.claim(
                at_most(dot(away, away), factor**2 * square),
                "‖p-c_T‖ <= D_T",
                models=models,
                p=p,
                c=centre,
                square=square,
            )
    return tally.evidence()
