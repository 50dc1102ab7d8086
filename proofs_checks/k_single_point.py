r"""Appendix K: one data point suffices against linear regression with ℓ2².

Instances are exact: rational data, the minimum solved for in rationals.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import ceil
from typing import Any

import sympy as sp

from proofs_checks.exact import LinearProblem, LinearUser, Vector, add, dot, times, vector
from proofs_checks.registry import Decision, Erratum, Evidence, Tally, at_most, both, check, less
from proofs_checks.search import attack, rationals, vanishes
from proofs_checks.steps import limit_equation
from proofs_checks.strategies import targeted


def exact_problems(count: int = 8) -> Iterator[tuple[LinearProblem, Vector]]:
    """Yield the honest users' problems with targets: plain ones, N = 2, d = 1, empty and collinear data, extreme λ."""
    # The plainest first: a witness among them is easy to follow.
    yield LinearProblem((LinearUser([vector([3])], vector([2])),), Fraction(1), Fraction(1), 1), vector([5])
    yield LinearProblem((LinearUser([vector([1])], vector([0])),), Fraction(2), Fraction(1, 10), 1), vector([-1])
    for case, (a, b, c, d, e, f, g, h) in enumerate(rationals(11, count, 8)):
        lam = [Fraction(1), Fraction(1, 1000), Fraction(1000), Fraction(3, 7)][case % 4]
        nu = [Fraction(1, 2), Fraction(1), Fraction(1, 100)][case % 3]
        first = LinearUser([vector([a, b]), vector([c, 1])], vector([d, e]))
        second = LinearUser([vector([f, g]), vector([2 * f, 2 * g])], vector([h, 1]))
        users = {0: (first,), 1: (first, second), 2: (LinearUser([], []), first), 3: (LinearUser([], []),)}[case % 4]
        yield LinearProblem(users, lam, nu, 2), vector([g + 1, a - 2])


def joined(problem: LinearProblem, attacker: LinearUser) -> LinearProblem:
    """Return the problem of the honest users and the attacker, who comes last."""
    return LinearProblem((*problem.users, attacker), problem.lam, problem.nu, problem.dim)


def reported_model(problem: LinearProblem, target: Vector) -> tuple[Vector, Vector]:
    """Return g = F(target) and θ♠ = target + g/(2λ), the report under which the target minimizes the modified loss."""
    g = problem.honest_gradient(-1, target)
    if g is None:
        raise ArithmeticError("the local minima are not unique")
    return g, add(target, g, 1 / (2 * problem.lam))


def is_minimum(problem: LinearProblem, target: Vector) -> Decision:
    """Decide whether the unique minimum has ρ* = target; None if it is not unique."""
    found = problem.minimum()
    return None if found is None else found[0] == target


@check(
    "thm5_single_point",
    method="class",
    equations=(175, 176, 177, 179),
    falsehoods={
        "without_nu": {"of_nu": 0},
        "one_times_nu": {"of_nu": 1},
        "lambda_without_two": {"of_lambda": 1},
        "offset_of_the_other_sign": {"offset": -1},
        "rounded_by_a_millionth": {"offset": 1 + Fraction(1, 10**6)},
    },
    strengthen=lambda excess: {"offset": 1 + excess},
)
def one_point_moves_rho_to_target(*, of_nu: int = 2, of_lambda: int = 2, offset: Fraction | int = 1) -> Evidence:
    """With g = F(θ†), θ♠ = θ†+g/(2λ), w = g+2νθ♠, the data point (w, wᵀθ♠+1) gives ρ* = θ† exactly; (0, 0) if w = 0.

    Proof.  Its local gradient at θ♠ is (wᵀθ♠-A)w + 2νθ♠ = -w+2νθ♠ = -g, and the pull is ∇_θR(θ†, θ♠) = 2λ(θ♠-θ†) = g:
    they cancel.  In ρ, F(θ†)+2λ(θ†-θ♠) = g-g = 0; and each other user is at its θ_n*(θ†), where its gradient is 0.  The
    loss is convex, so (θ†, θ♠, θ*) is a minimum, and for ν > 0 it is the only one (Lemma 31).  The data of the others
    are arbitrary; there may be none, or no other user (then F = 0).
    """
    tally = Tally()
    f, point, s, nu, lam = sp.symbols("F target s nu lambda", real=True)
    if of_nu == of_lambda == 2 and offset == 1:
        # All vectors are combinations of F, θ† and w with scalar coefficients; s = wᵀθ♠.
        model = point + f / (2 * lam)
        query = f + 2 * nu * model
        tally.step(
            vanishes((s - (s + 1)) * query + 2 * nu * model + 2 * lam * (model - point)), "in θ_s: -w+2νθ♠+g = 0"
        )
        tally.step(vanishes(f + 2 * lam * (point - model)), "in ρ: F(θ†)+2λ(θ†-θ♠) = 0")
    for problem, target in exact_problems():
        g = problem.honest_gradient(-1, target)
        if g is None or problem.nu == 0:
            tally.skip()
            continue
        theta = add(target, g, 1 / (of_lambda * problem.lam))
        w = add(g, theta, of_nu * problem.nu)
        point = LinearUser([w], [dot(w, theta) + offset])
        whole = joined(problem, point)
        found = whole.minimum()
        tally.claim(
            None if found is None else found[0] == target,
            "ρ* = target",
            lam=problem.lam,
            nu=problem.nu,
            users=[[u.Q, u.A] for u in problem.users],
            target=target,
            Q=w,
            A=point.A[0],
            rho=found[0] if found else "not unique",
        )

    def decide(problem: LinearProblem, target: Vector) -> Decision:
        g = problem.honest_gradient(-1, target)
        if g is None:
            return None
        theta = add(target, g, 1 / (of_lambda * problem.lam))
        w = add(g, theta, of_nu * problem.nu)
        return is_minimum(joined(problem, LinearUser([w], [dot(w, theta) + offset])), target)

    attack(tally, "ρ* = target", targeted(), decide)
    return tally.evidence()


@check(
    "thm5_single_point",
    part="proof_178",
    method="symbolic",
    equations=(178,),
    printed={"offset": -1, "with_nu": False},
    falsehoods={"sign_as_printed": {"offset": -1, "with_nu": True}, "nu_left_out": {"with_nu": False}},
    errata=Erratum(
        place="(178)",
        repair="Report (w, wᵀθ♠+1) with w = g+2νθ♠ instead of (g, gᵀθ♠-1): as printed the data term and the pull of "
        "the "
        "regularizer have the same sign (the sum is 2g), and the gradient 2νθ♠ of the ridge term is missing.",
        survives="Yes: the theorem holds, with the repaired data point (part `claim`).",
    ),
)
def gradient_at_the_reported_model(*, offset: int = 1, with_nu: bool = True) -> Evidence:
    """∇_{θ_s}Loss(θ†, θ♠) = 0 for the data point: (QᵀΘ♠-A)Q + 2νθ♠ + 2λ(θ♠-θ†) with θ♠-θ† = g/(2λ)."""
    tally = Tally()
    g, target, nu, lam = sp.symbols("g target nu lambda", real=True)
    theta = target + g / (2 * lam)
    q = g + 2 * nu * theta if with_nu else g
    answer = q * theta + offset
    gradient = sp.expand((q * theta - answer) * q + 2 * nu * theta + 2 * lam * (theta - target))
    tally.step(vanishes(gradient), "the gradient vanishes, d = 1 (each coordinate along w, and 0 across)")
    for g_value, target_value, nu_value, lam_value in [(1, 0, 0, 1), (2, 1, 1, 1), (-3, 2, "1/2", 5)]:
        values = {g: g_value, target: target_value, nu: sp.Rational(nu_value), lam: lam_value}
        left = gradient.subs(values)
        tally.claim(
            bool(left == 0),
            "∇_θ Loss at (θ†, θ♠) is 0, d = 1",
            gradient=left,
            g=g_value,
            target=target_value,
            nu=nu_value,
            lam=lam_value,
        )
    return tally.evidence()


@check(
    "prop4_gradient_to_model",
    method="symbolic",
    falsehoods={
        "without_lambda": {"of_lambda": False},
        "without_two": {"two": 1},
        "other_sign": {"sign": 1},
        "without_convexity": {"convex": False},
    },
    strengthen=lambda excess: {"two": 2 * (1 + excess)},
)
def reported_model_cancels_the_honest_gradient(
    *, of_lambda: bool = True, two: Fraction | int = 2, sign: int = -1, convex: bool = True
) -> Evidence:
    """With F(θ†) = -g and θ♠ = θ†-g/(2λ), the gradient F(θ†) + 2λ(θ†-θ♠) in ρ vanishes.

    Proof.  At a constant rate ρ^t → θ† forces F(θ†)+g = 0, as F is Lipschitz where the L_n are convex and the local
    models are optimized (2λ(N-1) is a constant even if no L_n is smooth, C3); and 2λ(θ†-θ♠) = g.
    Without convexity it fails: one honest user with the loss min((θ-1)², (θ+1)²), ν = 0 and λ = 1 has θ* = (ρ±1)/2,
    + for ρ > 0 and either at 0.  From ρ > 0 the report 1 brings ρ to 0 (F+1 = ρ), where F may be 1 and not -1.
    """
    tally = Tally()
    if not convex:
        g_, theta_ = Fraction(1), Fraction(-1, 2)  # θ† = 0
        for local in (Fraction(1, 2), Fraction(-1, 2)):
            left_ = 2 * (0 - local) + 2 * (0 - theta_)
            tally.claim(
                left_ == 0, "F(θ†)+2λ(θ†-θ♠) = 0, loss min((θ-1)², (θ+1)²)", g=g_, local_model=local, left=left_
            )
    g, target, lam = sp.symbols("g target lambda", positive=True)
    theta = target + sign * g / (sp.Rational(two) * (lam if of_lambda else 1))
    gradient = -g + 2 * lam * (target - theta)
    tally.step(vanishes(gradient), "-g + 2λ(θ†-θ♠) = 0")
    limit_equation(tally)
    for problem, point in exact_problems():
        f = problem.honest_gradient(-1, point)
        if f is None:
            tally.skip()
            continue
        limit = times(-1, f)
        report = add(point, limit, sign / (Fraction(two) * (problem.lam if of_lambda else 1)))
        left = add(f, add(point, report, -1), 2 * problem.lam)
        tally.claim(
            all(x == 0 for x in left),
            "F(θ†)+2λ(θ†-θ♠) = 0",
            lam=problem.lam,
            nu=problem.nu,
            target=point,
            g=limit,
            left=left,
        )

    def decide(problem: LinearProblem, target: Vector) -> Decision:
        f = problem.honest_gradient(-1, target)
        if f is None:
            return None
        report = add(target, f, -sign / (Fraction(two) * (problem.lam if of_lambda else 1)))
        return not any(add(f, add(target, report, -1), 2 * problem.lam))

    attack(tally, "F(θ†)+2λ(θ†-θ♠) = 0", targeted(), decide)
    return tally.evidence()


@check(
    "prop4_gradient_to_model",
    part="proof_gradient",
    method="symbolic",
    printed={"two": 1},
    falsehoods={"without_two": {"two": 1}, "other_sign": {"two": -2}},
    errata=Erratum(
        place="the gradient in the proof of Proposition 4",
        repair="The gradient of λ‖ρ-θ♠‖² in ρ is 2λ(ρ-θ♠), with the factor 2.",
        survives="Yes: the proposition's own θ♠ has the factor.",
        scan=True,
    ),
)
def gradient_of_the_squared_distance(*, two: int = 2) -> Evidence:
    """The gradient of λ‖ρ-θ‖² in ρ is 2λ(ρ-θ)."""
    tally = Tally()
    rho, theta, lam = sp.symbols("rho theta lambda", real=True)
    gap = sp.diff(lam * (rho - theta) ** 2, rho) - two * lam * (rho - theta)
    tally.step(vanishes(gap), "derivative")
    tally.claim(
        bool(gap.subs({rho: 3, theta: 1, lam: 1}) == 0), "derivative at ρ = 3, θ = 1, λ = 1 is 4", claimed=two * 2
    )
    return tally.evidence()


@check(
    "claim_trivial_model_attack",
    method="symbolic",
    printed={"of_lambda": False},
    falsehoods={"without_lambda": {"of_lambda": False}, "without_two": {"two": 1}},
    errata=Erratum(
        place="section 5.2, the displayed θ♠",
        repair="θ♠ = θ† - g/(2λ), as in Proposition 4; the text has g/2, which is the same only for λ = 1.",
        survives="Yes: Proposition 4 states it right (the experiments use λ = 1).",
        scan=True,
    ),
)
def model_attack_from_the_limit_gradient(*, of_lambda: bool = True, two: int = 2) -> Evidence:
    """Reporting θ†-g/(2λ) makes θ† the global minimum of the modified loss: F(θ†) + 2λ(θ†-θ♠) = 0.

    Proof.  F(θ†) = -g (Proposition 4), and the modified loss is convex.
    """
    tally = Tally()
    if of_lambda and two == 2:
        g, point, lam = sp.symbols("g target lambda", positive=True)
        tally.step(vanishes(-g + 2 * lam * (point - (point - g / (2 * lam)))), "-g + 2λ(θ†-θ♠) = 0")
    for problem, target in exact_problems():
        f = problem.honest_gradient(-1, target)
        if f is None:
            tally.skip()
            continue
        report = add(target, f, 1 / (two * (problem.lam if of_lambda else Fraction(1))))
        left = add(f, add(target, report, -1), 2 * problem.lam)
        tally.claim(
            all(x == 0 for x in left), "F(θ†)+2λ(θ†-θ♠) = 0", lam=problem.lam, target=target, g=times(-1, f), left=left
        )
    return tally.evidence()


def _users_at_zero(others: int) -> tuple[LinearProblem, Vector, Vector, Vector]:
    """Return N-1 honest users with one data point (1, 0) each, λ = ν = 1, target 1; and the target, θ♠ and w."""
    user = LinearUser([vector([1])], vector([0]))
    honest, target = LinearProblem((user,) * others, Fraction(1), Fraction(1), 1), vector([1])
    g, theta = reported_model(honest, target)
    return honest, target, theta, add(g, theta, 2 * honest.nu)


@check(
    "claim_data_growth",
    part="growth",
    method="symbolic",
    falsehoods={"query_grows_like_n_squared": {"of_query": 2}, "answer_grows_like_n": {"of_answer": 1}},
)
def query_grows_like_n_and_answer_like_n_squared(*, of_query: int = 1, of_answer: int = 2) -> Evidence:
    """‖w‖ = Θ(N) and wᵀθ♠+1 = Θ(N²) for the point of Theorem 5, where F(θ†) = (N-1)f with a fixed f ≠ 0.

    Proof.  θ♠ = θ†+(N-1)f/(2λ) and w = (N-1)f+2νθ♠ are affine in N-1, so ‖w‖² and wᵀθ♠ are of degree 2; their leading
    coefficients are ‖f‖²(1+ν/λ)² and ‖f‖²(1+ν/λ)/(2λ), both positive.  So are those of the printed point, (g, gᵀθ♠-1).
    For f = 0, where the others' forces cancel at the target, nothing grows.
    """
    tally = Tally()
    count, nu, lam, ff = sp.symbols("n nu lambda f.f", positive=True)
    ft, tt = sp.symbols("f.t t.t", real=True)

    def inner(u: tuple[Any, Any], v: tuple[Any, Any]) -> sp.Poly:  # of combinations of f and θ†
        return sp.Poly(sp.expand(u[0] * v[0] * ff + (u[0] * v[1] + u[1] * v[0]) * ft + u[1] * v[1] * tt), count)

    theta = (count / (2 * lam), sp.Integer(1))
    w, g = (count + 2 * nu * theta[0], 2 * nu * theta[1]), (count, sp.Integer(0))
    if (of_query, of_answer) == (1, 2):
        for name, form, leading in (
            ("‖w‖²", inner(w, w), ff * (1 + nu / lam) ** 2),
            ("wᵀθ♠", inner(w, theta), ff * (1 + nu / lam) / (2 * lam)),
            ("‖g‖²", inner(g, g), ff),
            ("gᵀθ♠", inner(g, theta), ff / (2 * lam)),
        ):
            tally.step(form.degree() == 2 or None, f"{name} is of degree 2 in N-1")
            tally.step(vanishes(form.LC() - leading), f"{name}: the leading coefficient, which is positive")
    for others in (100, 1000):
        sizes = []
        for number in (others, 2 * others):
            _, _, model, query = _users_at_zero(number)
            sizes.append((abs(query[0]), dot(query, model) + 1))
        for name, degree, small, large in (
            ("query", of_query, sizes[0][0], sizes[1][0]),
            ("answer", of_answer, sizes[0][1], sizes[1][1]),
        ):
            growth = large / small / 2**degree
            tally.claim(
                both(less(Fraction(9, 10), growth), less(growth, Fraction(11, 10))),
                f"the {name} grows by 2^{degree} when N-1 doubles",
                others=others,
                growth=float(large / small),
            )
    return tally.evidence()


@check(
    "claim_data_growth",
    part="spread",
    method="symbolic",
    falsehoods={"order_n_points": {"points_like": 1}, "divided_by_their_number": {"by_root": False}},
)
def point_spreads_over_many(*, points_like: int = 2, by_root: bool = True) -> Evidence:
    """k times (w/√k, A/√k) has the same loss as once (w, A); with k ≥ ‖w‖², which is Θ(N²), no query is longer than 1.

    Proof.  k·½(wᵀθ/√k-A/√k)² = ½(wᵀθ-A)² for every θ; so the minimum is that of Theorem 5.
    Instances: k is the square of ⌈|w|⌉, d = 1, and the exact minimum is that of all k points.
    """
    tally = Tally()
    k = sp.Symbol("k", positive=True)
    margin, answer = sp.symbols("m A", real=True)
    if by_root:
        many = k * (margin / sp.sqrt(k) - answer / sp.sqrt(k)) ** 2 / 2
        tally.step(vanishes(many - (margin - answer) ** 2 / 2), "k·½(m/√k-A/√k)² = ½(m-A)²")
    for others in (1, 4, 10):
        honest, target, theta, w = _users_at_zero(others)
        root = ceil(abs(w[0]))
        scale = Fraction(1, root if by_root else root**2)
        point = (times(scale, w), scale * (dot(w, theta) + 1))
        attacker = LinearUser([point[0]] * root**2, [point[1]] * root**2)
        tally.claim(
            both(at_most(abs(point[0][0]), 1), at_most(root**2, 25 * others**points_like)),
            "queries of norm at most 1, and at most 25(N-1)^p points",
            others=others,
            points=root**2,
            p=points_like,
        )
        tally.claim(is_minimum(joined(honest, attacker), target), "ρ* = target", others=others, points=root**2)
    return tally.evidence()


@check(
    "claim_data_growth",
    part="unit_query",
    method="symbolic",
    falsehoods={"unit_query_is_impossible": {"unit_query": False}},
)
def a_unit_query_suffices(*, unit_query: bool = True) -> Evidence:
    """Other points do with a query of norm 1 (c = 1/‖w‖), whatever N; `unit_query=False` claims that none does.

    The text speaks of the point of Theorem 5 alone, whose query grows; so to find outliers among the queries is no
    defence against one point (C10), and the answer of the point with a query of norm 1 still grows like N.
    Proof.  The data gradient of (cw, cwᵀθ♠+1/c) at θ♠ is (cs-(cs+1/c))cw = -w for every c ≠ 0, s = wᵀθ♠; the rest is
    as in Theorem 5.  If w = 0, the point (0, 0) or one with any query and no answer left over, (u, uᵀθ♠), does.
    Here d = 1, so that ‖w‖ is rational; N-1 honest users hold one data point (1, 0) each, λ = ν = 1, target 1.
    """
    tally = Tally()
    c_, w_, s_ = sp.symbols("c w s", positive=True)
    if unit_query:
        tally.step(vanishes((c_ * s_ - (c_ * s_ + 1 / c_)) * c_ * w_ + w_), "the data gradient is -w for every c")
    for others in (1, 4, 16, 64):
        honest, target, theta, w = _users_at_zero(others)
        c = 1 / abs(w[0])
        point = LinearUser([times(c, w)], [c * dot(w, theta) + 1 / c])
        reaches = is_minimum(joined(honest, point), target)
        holds = reaches if unit_query or reaches is None else not reaches
        tally.claim(holds, "query of norm 1 that gives ρ* = θ†", others=others, Q=point.Q[0], A=point.A[0])
    return tally.evidence()
