r"""Appendix K: one data point suffices against linear regression with ℓ2².

Instances are exact: rational data, the minimum solved for in rationals.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import sympy as sp

from proofs_checks.exact import LinearProblem, LinearUser, Vector, add, dot, times, vector
from proofs_checks.registry import Decision, Erratum, Evidence, Tally, check
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
    they cancel.  In ρ, F(θ†)+2λ(θ†-θ♠) = g-g = 0.  The minimum is unique for ν > 0.
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
    falsehoods={"without_lambda": {"of_lambda": False}, "without_two": {"two": 1}, "other_sign": {"sign": 1}},
    strengthen=lambda excess: {"two": 2 * (1 + excess)},
)
def reported_model_cancels_the_honest_gradient(
    *, of_lambda: bool = True, two: Fraction | int = 2, sign: int = -1
) -> Evidence:
    """With F(θ†) = -g and θ♠ = θ†-g/(2λ), the gradient F(θ†) + 2λ(θ†-θ♠) in ρ vanishes.

    Proof.  At a constant rate ρ^t → θ† forces F(θ†)+g = 0, as F is Lipschitz; and 2λ(θ†-θ♠) = g.
    """
    tally = Tally()
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


@check(
    "claim_data_growth",
    method="symbolic",
    printed={"unit_query": False},
    falsehoods={"unit_query_is_impossible": {"unit_query": False}},
    errata=Erratum(
        place="section 5.3, growth of the single data point, read as a statement on every one-point attack",
        repair="One point never *requires* a query of norm Θ(N) and an answer Θ(N²): the points (cw, cwᵀθ♠+1/c) all "
        "give ρ* = θ†, and "
        "with c = 1/‖w‖ the query has norm 1 and the answer Θ(N).",
        survives="In part: the growth of the printed point is right, but a query of ordinary size suffices, so that "
        "outlier "
        "detection on queries alone does not help.",
    ),
)
def a_unit_query_suffices(*, unit_query: bool = True) -> Evidence:
    """The one-point attack can be given a query of norm 1 (c = 1/‖w‖), whatever N; `unit_query=False` claims it cannot.

    Proof.  The data gradient of (cw, cwᵀθ♠+1/c) at θ♠ is (cs-(cs+1/c))cw = -w for every c ≠ 0, s = wᵀθ♠.
    Here d = 1, so that ‖w‖ is rational; N-1 honest users hold one data point (1, 0) each, λ = ν = 1, target 1.
    """
    tally = Tally()
    c_, w_, s_ = sp.symbols("c w s", positive=True)
    if unit_query:
        tally.step(vanishes((c_ * s_ - (c_ * s_ + 1 / c_)) * c_ * w_ + w_), "the data gradient is -w for every c")
    for others in (1, 4, 16, 64):
        honest = LinearProblem(
            tuple(LinearUser([vector([1])], vector([0])) for _ in range(others)), Fraction(1), Fraction(1), 1
        )
        target = vector([1])
        g, theta = reported_model(honest, target)
        w = add(g, theta, 2 * honest.nu)
        c = 1 / abs(w[0])
        point = LinearUser([times(c, w)], [c * dot(w, theta) + 1 / c])
        reaches = is_minimum(joined(honest, point), target)
        holds = reaches if unit_query or reaches is None else not reaches
        tally.claim(holds, "query of norm 1 that gives ρ* = θ†", others=others, Q=point.Q[0], A=point.A[0])
    return tally.evidence()
