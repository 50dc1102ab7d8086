r"""Appendix L: poisoning linear classification.  Instances are exact, with rational vectors."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, product
from typing import Any

import sympy as sp
from flint import arb
from hypothesis import strategies as st

from proofs_checks.exact import Vector, add, dot, vector
from proofs_checks.registry import Decision, Erratum, Evidence, Tally, at_most, both, check, less
from proofs_checks.search import attack, ball, precise, rationals, vanishes
from proofs_checks.strategies import arguments, rational

_FAMILIES = [
    [vector([1, 0, 0]), vector([1, 1, 0]), vector([1, 1, 1])],
    [vector([1, 2, 3]), vector([0, 1, -1]), vector([2, 0, 5])],
    [vector([3, 4]), vector([4, 3])],
]


def gram_schmidt(family: list[Vector], *, include_itself: bool = False) -> list[Vector]:
    """Return z_a = y_a - Σ_{b<a} (y_aᵀz_b) z_b/‖z_b‖²; with ``include_itself`` the sum also takes b = a, at z_a =
    that value.
    """
    made: list[Vector] = []
    for y in family:
        z = y
        for earlier in made:
            if any(earlier):  # else the printed formula divides by 0; the vector is seen to be 0 by the caller
                z = add(z, earlier, -dot(y, earlier) / dot(earlier, earlier))
        if include_itself and any(z):
            z = add(z, z, -dot(y, z) / dot(z, z))
        made.append(z)
    return made


_GRAM = sp.Matrix(3, 3, lambda i, j: sp.Symbol(f"G{min(i, j)}{max(i, j)}", positive=True))
"""The inner products of three vectors y_1, y_2, y_3: a vector in their span is the row of its coefficients."""


def _inner(u: Any, v: Any) -> Any:
    return (u * _GRAM * v.T)[0, 0]


def _symbolic_gram_schmidt() -> list[Any]:
    made: list[Any] = []
    for a in range(3):
        y = sp.Matrix(1, 3, lambda _, j, a=a: int(j == a))
        made.append(sum((-_inner(y, z) / _inner(z, z) * z for z in made), y).applyfunc(sp.cancel))
    return made


@check(
    "eq180_orthogonal_basis",
    method="symbolic",
    equations=(180,),
    printed={"include_itself": True},
    falsehoods={"sum_up_to_itself": {"include_itself": True}, "dependent": {"independent": False}},
    errata=Erratum(
        place="(180), and likewise (181) and (182)",
        repair="The sums run over b < a; with b ≤ a the vector z_a stands on both sides, and the only solution is 0. "
        "The differences "
        "of the class models must also be independent, else some ‖z_b‖ = 0 divides.",
        survives="Yes.",
        scan=True,
    ),
)
def gram_schmidt_is_orthogonal(*, include_itself: bool = False, independent: bool = True) -> Evidence:
    """z_aᵀz_b = 0 for a ≠ b, and no z_a is 0, if the y_a are independent.

    Proof, by induction: z_c ⊥ z_b for b ≠ c < a leaves z_aᵀz_b = y_aᵀz_b - (y_aᵀz_b/‖z_b‖²)‖z_b‖² = 0.  And z_a = y_a
    minus a combination of earlier y is not 0 if they are independent.
    """
    tally = Tally()
    if not include_itself and independent:
        z = _symbolic_gram_schmidt()
        for a, b in combinations(range(3), 2):
            tally.step(vanishes(_inner(z[a], z[b])), f"z_{b + 1}ᵀz_{a + 1} = 0, three vectors in every dimension")
    families = _FAMILIES if independent else [[vector([1, 1]), vector([2, 2])]]
    for family in families:
        made = gram_schmidt(family, include_itself=include_itself)
        orthogonal = all(dot(a, b) == 0 for a, b in combinations(made, 2))
        tally.claim(orthogonal and all(dot(z, z) != 0 for z in made), "orthogonal, and none is 0", y=family, z=made)
    return tally.evidence()


@check(
    "eq181_offsets",
    method="symbolic",
    equations=(181, 182),
    falsehoods={"raw_offsets": {"recursive": False}, "off_the_subspace": {"shift": 1}},
)
def offsets_are_constant_on_the_subspace(*, recursive: bool = True, shift: int = 0) -> Evidence:
    """z_aᵀQ = c'_a = c_a - Σ_{b<a} (y_aᵀz_b/‖z_b‖²)c'_b for every Q with y_aᵀQ = c_a.

    Proof, by induction: z_aᵀQ = y_aᵀQ - Σ(y_aᵀz_b/‖z_b‖²)z_bᵀQ is linear in the z_bᵀQ = c'_b; each is one more term.
    """
    tally = Tally()
    if recursive and not shift:
        made_of, offsets = _symbolic_gram_schmidt(), sp.Matrix(sp.symbols("c1:4", real=True))
        found: list[Any] = []
        for a in range(3):  # y_aᵀQ = c_a, so that zᵀQ is the row of z times the offsets
            y = sp.Matrix(1, 3, lambda _, j, a=a: int(j == a))
            z_before = made_of[:a]
            shares = (_inner(y, z) / _inner(z, z) * c for z, c in zip(z_before, found, strict=True))
            found.append(sp.cancel(offsets[a] - sum(shares)))
            tally.step(vanishes((made_of[a] * offsets)[0, 0] - found[a]), f"z_{a + 1}ᵀQ = c'_{a + 1}, every dimension")
    for family, query in product(_FAMILIES, [vector([1, 2, 3]), vector([-1, 0, "1/2"])]):
        q = query[: len(family[0])]
        offsets = [dot(y, q) + shift for y in family]
        made = gram_schmidt(family)
        constants: list[Fraction] = []
        for a, y in enumerate(family):
            earlier = sum((dot(y, made[b]) / dot(made[b], made[b]) * constants[b] for b in range(a)), Fraction(0))
            constants.append(offsets[a] - earlier if recursive else offsets[a])
        tally.claim([dot(z, q) for z in made] == constants, "z_aᵀQ = c'_a", y=family, Q=q, constants=constants)
    return tally.evidence()


def project(point: Vector, normal: Vector, offset: Fraction, *, squared: bool = True) -> Vector:
    """Return P(X, y, c) of (183)."""
    length = dot(normal, normal)
    return add(point, normal, -(dot(point, normal) - offset) / (length if squared else length**2))


@check(
    "eq183_projection",
    method="symbolic",
    equations=(183,),
    falsehoods={"fourth_power": {"power": 4}, "other_sign": {"sign": 1}},
)
def projection_onto_a_hyperplane(*, power: int = 2, sign: int = -1) -> Evidence:
    """P(X, y, c)ᵀy = c, P(P(X)) = P(X), and X-P(X) is a multiple of y, for y ≠ 0."""
    tally = Tally()
    x1, x2, y1, y2, c = sp.symbols("x1 x2 y1 y2 c", real=True)
    norm = (y1**2 + y2**2) ** (power // 2)
    scale = sign * (x1 * y1 + x2 * y2 - c) / norm
    moved = (x1 + scale * y1, x2 + scale * y2)
    on_plane = moved[0] * y1 + moved[1] * y2 - c
    tally.step(vanishes(on_plane), "P(X)ᵀy = c, in the plane of X and y")
    tally.step(vanishes((x1 - moved[0]) * y2 - (x2 - moved[1]) * y1), "X-P(X) is a multiple of y")
    tally.step(vanishes(sign * on_plane / norm), "P(P(X)) = P(X): the second step is 0 times y")
    values = {x1: 1, x2: 2, y1: 3, y2: 4, c: 5}
    tally.claim(bool(on_plane.subs(values) == 0), "P((1, 2), (3, 4), 5)ᵀ(3, 4) = 5", excess=on_plane.subs(values))
    return tally.evidence()


@check(
    "eq184_repeated_projection",
    method="symbolic",
    equations=(184, 185),
    falsehoods={"without_orthogonality": {"orthogonal": False}},
)
def repeated_projection_lands_on_all(*, orthogonal: bool = True) -> Evidence:
    """Projecting onto the hyperplanes of orthogonal normals in turn lands on all; the noise ξ of (185) then moves off
    again.

    Proof.  A projection along z_b moves X by a multiple of z_b, so z_aᵀX stays for a ≠ b, and z_bᵀX becomes c'_b.
    """
    tally = Tally()
    if orthogonal:
        # X moves to X - ((Xᵀz_b-c_b)/‖z_b‖²)z_b; `cross` is z_aᵀz_b.
        at, offset_b, square, other, cross = sp.symbols("X.z_b c_b |z_b|² X.z_a z_a.z_b", positive=True)
        scale = -(at - offset_b) / square
        tally.step(vanishes(at + scale * square - offset_b), "z_bᵀP(X) = c'_b")
        tally.step(vanishes((other + scale * cross - other).subs(cross, 0)), "z_aᵀP(X) = z_aᵀX where z_aᵀz_b = 0")
    for family, start in product(_FAMILIES, [vector([5, -7, 2]), vector([0, 0, 0])]):
        normals = gram_schmidt(family) if orthogonal else family
        offsets = [Fraction(a + 1) for a in range(len(normals))]
        point = start[: len(normals[0])]
        for normal, offset in zip(normals, offsets, strict=True):
            point = project(point, normal, offset)
        reached = [dot(point, normal) for normal in normals]
        tally.claim(reached == offsets, "P(X)ᵀz_a = c'_a for all a", normals=normals, X=start, reached=reached)
    return tally.evidence()


@precise
def _softmax(margins: list[Fraction]) -> list[arb]:
    weights = [ball(m).exp() for m in margins]
    return [weight / sum(weights, arb(0)) for weight in weights]


@check(
    "eq186_soft_label_loss",
    method="symbolic",
    equations=(186,),
    printed={"sign": 1},
    falsehoods={"sign_as_printed": {"sign": 1}},
    errata=Erratum(
        place="(186)",
        repair="A minus sign is missing: the cross-entropy is -Σp_a ln σ_a. As printed it is concave and not "
        "positive. (The ridge term "
        "ν‖θ_s‖² of (5) is left out as well.)",
        survives="Yes: (187) is the gradient of the cross-entropy with the minus sign.",
        scan=True,
    ),
)
@precise
def cross_entropy_is_convex_and_nonnegative(*, sign: int = -1) -> Evidence:
    """-Σp_a ln σ_a > 0 and it is convex in the margins; attacked by the midpoint inequality on instances.

    Proof.  -ln σ_a = ln(1+r/e^{m_a}) > 0, r > 0 the sum over the other classes.  Its gradient σ-p is monotone (part
    `nonnegative` of (187)), so it is convex.
    """
    tally = Tally()
    if sign == -1:
        mine, rest = sp.symbols("m r", positive=True)
        share = mine / (mine + rest)  # m = e^{m_a}
        tally.step(bool(sp.simplify(1 / share - 1).is_positive) or None, "1/σ_a = 1+r/e^{m_a} > 1")
        tally.adopt(gradient_points_away())
    labels = [[Fraction(1, 10), Fraction(2, 5), Fraction(1, 2)], [Fraction(1), Fraction(0), Fraction(0)]]

    def loss(margins: list[Fraction], p: list[Fraction]) -> arb:
        return sum((ball(sign * weight) * s.log() for weight, s in zip(p, _softmax(margins), strict=True)), arb(0))

    for p, (a, b, c, d, e, f) in product(labels, rationals(186, 8, 6)):
        first, second = [a, b, c], [d, e, f]
        if first == second:
            tally.skip()
            continue
        middle = [(x + y) / 2 for x, y in zip(first, second, strict=True)]
        tally.claim(less(0, loss(first, p)), "loss > 0", p=p, margins=first)
        difference = [x - y for x, y in zip(first, second, strict=True)]
        if len(set(difference)) > 1:
            tally.claim(
                at_most(2 * loss(middle, p), loss(first, p) + loss(second, p)),
                "midpoint",
                p=p,
                first=first,
                second=second,
            )
    return tally.evidence()


@check(
    "eq187_soft_label_gradient",
    part="identity",
    method="symbolic",
    equations=(187,),
    falsehoods={"sign_of_186": {"sign": 1}},
)
def gradient_along_the_difference(*, sign: int = -1) -> Evidence:
    """(θ-θ♠)ᵀ∇L = Σ_a (σ_a(θ)-σ_a(θ♠))(θ_a-θ♠_a)ᵀQ⁺ with L = -Σp_a ln σ_a, p = σ(θ♠).

    Proof.  -Σp_a ln σ_a = -Σp_am_a + ln(e^{m_b}+r), as Σp_a = 1, where r holds the other classes, however many; so its
    derivative in m_b is σ_b-p_b.  Queries add up.
    """
    tally = Tally()
    m = sp.symbols("m0:3", real=True)
    p = sp.symbols("p0:2", real=True)
    labels = (*p, 1 - p[0] - p[1])
    total = sum(sp.exp(x) for x in m)
    if sign == -1:
        mine, rest, weight_b, others = sp.symbols("m_b r p_b s", real=True)
        whole = -(weight_b * mine + others) + sp.log(sp.exp(mine) + sp.exp(rest))
        share = sp.exp(mine) / (sp.exp(mine) + sp.exp(rest))
        tally.step(vanishes(sp.diff(whole, mine) - (share - weight_b)), "∂L/∂m_b = σ_b - p_b for any number of classes")
    loss = sign * sum(weight * (x - sp.log(total)) for weight, x in zip(labels, m, strict=True))
    for a in range(3):
        gap = sp.simplify(sp.diff(loss, m[a]) - (sp.exp(m[a]) / total - labels[a]))
        if sign == -1:
            tally.step(vanishes(gap), f"∂L/∂m_{a} = σ_{a} - p_{a}")
        else:
            values = dict(zip((*m, *p), (0, 0, 0, 1, 0), strict=True))
            tally.claim(
                bool(gap.subs(values) == 0), "∂L/∂m_a = σ_a - p_a at m = 0, p = (1, 0, 0)", a=a, gap=gap.subs(values)
            )
    return tally.evidence()


@check(
    "eq187_soft_label_gradient",
    part="nonnegative",
    method="symbolic",
    falsehoods={"strictly": {"strictly": True}, "coordinatewise": {"coordinatewise": True}},
)
@precise
def gradient_points_away(*, strictly: bool = False, coordinatewise: bool = False) -> Evidence:
    """Σ_a (σ_a(m)-σ_a(m'))(m_a-m'_a) ≥ 0; it is 0 where m-m' is a shift common to all classes, so not strictly.

    Proof.  m_a-m'_a = ln σ_a-ln σ'_a+c with one c for all classes, and Σ(σ_a-σ'_a)c = 0; each
    (σ_a-σ'_a)(ln σ_a-ln σ'_a) ≥ 0, as ln increases: (e^x-e^y)(x-y) = 4e^{(x+y)/2}·(d/2)sinh(d/2), d = x-y, and
    z·sinh z ≥ 0.
    """
    tally = Tally()
    if not strictly and not coordinatewise:
        x, y = sp.symbols("x y", real=True)
        z = sp.Symbol("z", positive=True)
        first_norm, second_norm, log_s, log_t, total = sp.symbols("Z Z' ln_s ln_t S", real=True)
        gap = (log_s + first_norm) - (log_t + second_norm)  # m_a = ln σ_a + Z
        tally.step(vanishes(gap - (log_s - log_t) - (first_norm - second_norm)), "m_a-m'_a = ln σ_a-ln σ'_a+c")
        sums = ((total - sp.Symbol("S'")) * (first_norm - second_norm)).subs({total: 1, sp.Symbol("S'"): 1})
        tally.step(vanishes(sums), "Σσ_a = Σσ'_a = 1, so c drops out")
        d = x - y
        product_form = 4 * sp.exp((x + y) / 2) * (d / 2) * (sp.exp(d / 2) - sp.exp(-d / 2)) / 2
        tally.step(
            vanishes(sp.expand((sp.exp(x) - sp.exp(y)) * d - product_form)),
            "(e^x-e^y)(x-y) = 4e^{(x+y)/2}(d/2)sinh(d/2)",
        )
        tally.step(bool(sp.sinh(z).is_positive) or None, "z·sinh z >= 0 (it is even in z)")
    for a, b, c, d, e, f in [*rationals(187, 12, 6), vector([0, 0, 5, 1, 3, 9])]:
        first, second = [a, b, c], [d, e, f]
        terms = [
            (x - y) * ball(u - v) for x, y, u, v in zip(_softmax(first), _softmax(second), first, second, strict=True)
        ]
        if len({u - v for u, v in zip(first, second, strict=True)}) == 1:
            tally.skip()
            continue
        tally.claim(at_most(0, sum(terms, arb(0))), "Σ(σ-σ')(m-m') >= 0", m=first, other=second)
        if coordinatewise:
            tally.claim(
                both(*(at_most(0, term) for term in terms if not term.contains(0))), "each term", m=first, other=second
            )

    def decide(m: list[Fraction], other: list[Fraction]) -> Decision:
        total = sum((x - y) * ball(u - v) for x, y, u, v in zip(_softmax(m), _softmax(other), m, other, strict=True))
        return at_most(0, total + ball(Fraction(1, 10**30)))

    margins = st.lists(rational(-30, 30), min_size=3, max_size=3)
    attack(tally, "Σ(σ-σ')(m-m') >= -10⁻³⁰", arguments(m=margins, other=margins), decide)
    if strictly:
        # A shift by s: m = 0, m' = (s, s, s) have the same probabilities, exactly 1/3 each.
        for s in (1, 5):
            value = sum((Fraction(1, 3) - Fraction(1, 3)) * (0 - s) for _ in range(3))
            tally.claim(less(0, value), "Σ(σ-σ')(m-m') > 0 for m ≠ m', m' = m + s", s=s)
    return tally.evidence()


@check(
    "claim_gradient_pac_poison",
    method="class",
    modulo=("extreme_value",),
    printed={"up_to_shift": False},
    falsehoods={"whole_space": {"up_to_shift": False}, "queries_on_a_line": {"spans": False}},
    errata=Erratum(
        place="section L.2, `which will be the minimum` and `gradient-PAC*`",
        repair="The K-class loss does not change when all class models move by one vector, so the reported model is "
        "the minimum only "
        "up to that shift, and the event of Definition 3 fails for it with every A > 0, however many data. Fix one "
        "class (θ_0 = 0), "
        "or ask for θ-θ♠ orthogonal to common shifts.",
        survives="In part: classification does not feel the shift, and the ridge term ν picks one representative, but "
        "not θ♠ in general.",
    ),
)
@precise
def overweighted_data_point_to_the_report(*, up_to_shift: bool = True, spans: bool = True) -> Evidence:
    """α·Σ_Q Σ_a (σ_a(θ)-σ_a(θ♠))(θ_a-θ♠_a)ᵀQ > 0 for θ ≠ θ♠, queries that span, θ-θ♠ orthogonal to common shifts.

    So there the event of Definition 3 holds with some A > 0.  Proof.  Let φ(r) = uᵀ∇L(θ♠+ru), u a unit vector
    orthogonal to common shifts; φ(0) = 0.  The Hessian is a sum over queries of variances of the numbers u_aᵀQ under σ;
    it vanishes only if, for each Q, u_aᵀQ is the same for all a; as queries span, then all u_a are equal, which is a
    common shift.  It is continuous, so on the compact set of r ≤ 1 and all u it is at least some c > 0: φ(r) ≥ cr
    there.  L is convex, so φ(r) ≥ φ(1) ≥ c beyond: rφ(r) ≥ c·min(r, r²).  The ridge term adds 2νuᵀθ ≥ -2ν‖θ♠‖ to φ.
    For a common shift v of all classes it is 0 for every α, while ‖θ-θ♠‖ = √K‖v‖ is as large as one likes.
    """
    tally = Tally()
    if up_to_shift and spans:
        first, second = sp.symbols("S_1 S_2", real=True)  # Σσ_a v_a and Σσ_a v_a², with Σσ_a = 1
        pairs = (second * 1 - 2 * first * first + second * 1) / 2  # ½ΣΣσ_aσ_b(v_a-v_b)²
        tally.step(vanishes(second - first**2 - pairs), "the Hessian is ½ΣΣσ_aσ_b(v_a-v_b)², v_a = u_aᵀQ")
        r, c, gain = sp.symbols("r c gain", positive=True)
        tally.step(vanishes(sp.integrate(c, (r, 0, r)) - c * r), "φ(r) >= cr for r <= 1")
        tally.step(vanishes(r * (c + gain) - c * r - r * gain), "rφ(r) >= cr for r >= 1")
    queries = [vector([1, 0]), vector([0, 1])] if spans else [vector([1, 0]), vector([-2, 0])]
    report = [vector([1, 0]), vector([0, 2]), vector([-1, 1])]
    moves = [[vector([1, 0]), vector([-1, 0]), vector([0, 0])], [vector([0, 2]), vector([0, -1]), vector([0, -1])]]
    if not up_to_shift:
        moves.append([vector([3, 4])] * 3)
    for move in moves:
        model = [add(r, v) for r, v in zip(report, move, strict=True)]
        total, is_zero = arb(0), True
        for q in queries:
            gaps = [dot(v, q) for v in move]
            is_zero = is_zero and len(set(gaps)) == 1
            before, after = _softmax([dot(r, q) for r in report]), _softmax([dot(m, q) for m in model])
            total += sum(((x - y) * ball(gap) for x, y, gap in zip(after, before, gaps, strict=True)), arb(0))
        # What moves all margins of a query alike leaves every probability as it is, so the sum is exactly 0.
        tally.claim(False if is_zero else less(0, total), "(θ-θ♠)ᵀ∇L > 0", report=report, move=move)
    return tally.evidence()


@check(
    "claim_data_linear_in_n",
    method="symbolic",
    printed={"squared": False},
    falsehoods={"points_grow_like_n": {"squared": False}, "distance_does_not_grow": {"distance": False}},
    errata=Erratum(
        place="section L.2, last paragraph, if `proportionally to N` is meant as the order, and not as a lower bound",
        repair="The distance ‖θ†-θ♠‖ grows like N, but the number of data grows like N²: s/W(1/e) labels at least for "
        "two "
        "classes (C12), and ΣA² ≥ 4s in regression (C11), with s = wᵀθ♠ = Θ(N²).",
        survives="In part: more data are needed as N grows, and more than the text says (section 5.3 has N² for "
        "regression).",
    ),
)
def poison_grows_with_the_number_of_users(*, squared: bool = True, distance: bool = True) -> Evidence:
    """‖θ♠-θ†‖ = Θ(N) and s = wᵀθ♠ = Θ(N²), and the number of data is at least s/W(1/e) for two classes (C12).

    Proof.  With F(θ†) = (N-1)f, θ♠-θ† = (N-1)f/(2λ), and s is of degree 2 in N-1 with the leading coefficient
    ‖f‖²(1+ν/λ)/(2λ) > 0.  The forces of the data on θ♠ add up to w; that of a label with the margin x (for which it
    speaks) has the product (1-σ(x))x = x/(1+e^x) with θ♠, which is at most v = W(1/e), that is ve^{1+v} = 1:
    v(1+e^x)-x = e^y-1-y ≥ 0 with y = x-1-v.  So s ≤ v times the number of labels.
    Instances: N-1 users with one data point (1, 0) each, λ = ν = 1, target 1, d = 1.
    """
    tally = Tally()
    if squared and distance:
        count, f, target, nu, lam = sp.symbols("n f target nu lambda", positive=True)
        model = target + count * f / (2 * lam)
        form = sp.Poly(sp.expand((count * f + 2 * nu * model) * model), count)
        tally.step(form.degree() == 2 or None, "s is of degree 2 in N-1 (products of vectors are inner products)")
        tally.step(vanishes(form.LC() - f**2 * (1 + nu / lam) / (2 * lam)), "its leading coefficient")
        tally.step(vanishes(sp.expand((model - target) - count * f / (2 * lam))), "θ♠-θ† = (N-1)f/(2λ)")
        x, v, y = sp.symbols("x v y", real=True)
        bound = v + sp.exp(x - 1 - v) - x  # ve^x = e^{x-1-v}
        tally.step(vanishes(bound.subs(x, y + 1 + v) - (sp.exp(y) - 1 - y)), "v(1+e^x)-x = e^y-1-y")
        tally.step(
            vanishes(sp.diff(sp.exp(y) - 1 - y, y, 2) - sp.exp(y))
            and vanishes(sp.diff(sp.exp(y) - 1 - y, y).subs(y, 0)),
            "e^y-1-y is convex, and least at y = 0, where it is 0",
        )

    def sizes(others: int) -> tuple[Fraction, Fraction]:
        # One user without data but (1, 0): θ* = 2λρ/(2ν+1+2λ), so F(1) = others·2λ(1-2λ/(2ν+1+2λ)) = others·6/5.
        g = others * Fraction(6, 5)
        theta = 1 + g / 2
        return theta - 1, (g + 2 * theta) * theta

    for others in (100, 1000, 10000):
        far, s = sizes(others)
        twice_far, twice_s = sizes(2 * others)
        if distance:
            tally.claim(twice_far == 2 * far, "the distance doubles with N", others=others, distance=far)
        else:
            tally.claim(at_most(twice_far, far), "the distance does not grow with N", others=others, distance=far)
        growth = twice_s / s
        bound = (Fraction(39, 10), Fraction(4)) if squared else (Fraction(19, 10), Fraction(21, 10))
        tally.claim(
            both(at_most(bound[0], growth), at_most(growth, bound[1])),
            "growth of s when N doubles",
            others=others,
            growth=float(growth),
        )
    return tally.evidence()
