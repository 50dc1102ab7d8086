"""Steps that the proofs of several statements share, each verified for all values of its symbols."""

from __future__ import annotations

from typing import Any

import sympy as sp

from proofs_checks.registry import Tally
from proofs_checks.search import is_sum_of_squares, vanishes


def powers_vanish(tally: Tally) -> None:
    """Verify that α^t ≤ 1/(1+tx) < ε for α = 1/(1+x), x > 0, and t ≥ 1/(εx) (Bernoulli's inequality, by induction)."""
    t, x, eps, more = sp.symbols("t x epsilon s", positive=True)
    tally.step(vanishes((1 + t * x) * (1 + x) - (1 + (t + 1) * x) - t * x**2), "(1+x)^t >= 1+tx, from t to t+1")
    gap = eps - 1 / (1 + (1 / (eps * x) + more) * x)
    tally.step(bool(sp.simplify(gap).is_positive) or None, "1/(1+tx) < ε for t >= 1/(εx)")


def linear_recursion_vanishes(tally: Tally, first: Any, second: Any) -> None:
    """Verify that u_{t+1} ≤ p·u_t + s·u_{t-1} keeps u_t ≤ C·r^t, where r is the positive root of r² = p·r+s."""
    r, c, power = sp.symbols("r C r^(t-1)", positive=True)
    root = (first + sp.sqrt(first**2 + 4 * second)) / 2
    tally.step(vanishes(root**2 - first * root - second), "r = (p+√(p²+4s))/2 solves r² = pr+s")
    tally.step(bool(root.is_positive) or None, "r > 0")
    step = first * c * power * r + second * c * power - c * power * r**2
    tally.step(
        vanishes(step + c * power * (r**2 - first * r - second)),
        "u_t <= C·r^t, u_{t-1} <= C·r^(t-1) give u_{t+1} <= C·r^(t+1)",
    )
    powers_vanish(tally)


def hoeffdings_lemma(tally: Tally) -> None:
    """Verify that E e^{tX} ≤ e^{c²t²/8} for mean-zero X in an interval of length c, and Chernoff's exponent -2s²/(Ic²).

    By convexity E e^{tX} ≤ e^{ψ(ct)}, ψ(h) = -qh+ln(1-q+qe^h); ψ(0) = ψ'(0) = 0 and ψ'' = v(1-v) ≤ 1/4.
    """
    h, c, count, t, s = sp.symbols("h c I t s", positive=True)
    v = sp.Symbol("v", real=True)
    q = 1 / (1 + sp.Symbol("o", positive=True))  # any number of (0, 1)
    psi = -q * h + sp.log(1 - q + q * sp.exp(h))
    share = q * sp.exp(h) / (1 - q + q * sp.exp(h))
    tally.step(vanishes(psi.subs(h, 0)), "Hoeffding's lemma: ψ(0) = 0")
    tally.step(vanishes(sp.diff(psi, h).subs(h, 0)), "ψ'(0) = 0")
    tally.step(vanishes(sp.simplify(sp.diff(psi, h, 2) - share * (1 - share))), "ψ'' = v(1-v)")
    tally.step(vanishes(sp.Rational(1, 4) - v * (1 - v) - (v - sp.Rational(1, 2)) ** 2), "v(1-v) <= 1/4")
    exponent = -t * s + count * c**2 * t**2 / 8
    tally.step(vanishes(exponent.subs(t, 4 * s / (count * c**2)) + 2 * s**2 / (count * c**2)), "Chernoff: -2s²/(Ic²)")


def root_norm(tally: Tally) -> None:
    """Verify (Σ|u_j|)² ≤ d‖u‖² and ‖x‖² ≤ d·max x_j² in every dimension d."""
    d = sp.Symbol("d", positive=True)
    total, squares, largest, gaps = sp.symbols("S_1 S_2 m g", real=True)  # Σ|u_j|, ‖u‖², max u_j², Σ(m-u_j²) >= 0
    spread = squares - 2 * (total / d) * total + d * (total / d) ** 2  # Σ(|u_j|-S_1/d)² >= 0
    tally.step(vanishes(d * squares - total**2 - d * spread), "(Σ|u_j|)² <= d‖u‖²")
    tally.step(vanishes(d * largest - (d * largest - gaps) - gaps), "‖u‖² = Σu_j² <= d·max u_j²")


def both_events(tally: Tally) -> None:
    """Verify P(A∩B) ≥ 1-a-b if A and B fail with probability at most a and b."""
    fails_a, fails_b, slack_a, slack_b, spare = sp.symbols("a b s_a s_b s", nonnegative=True)
    first, second, union = 1 - fails_a + slack_a, 1 - fails_b + slack_b, 1 - spare
    joint = first + second - union
    tally.step(
        vanishes(joint - (1 - fails_a - fails_b) - slack_a - slack_b - spare), "P(A∩B) = P(A)+P(B)-P(A∪B) >= 1-a-b"
    )


def tail_vanishes(tally: Tally, power: Any, name: str) -> None:
    """Verify that m·e^{-c·I^power} tends to 0 for c, m, power > 0."""
    size, c, m = sp.symbols("I c m", positive=True)
    tally.step(bool(sp.limit(m * sp.exp(-c * size**power), size, sp.oo) == 0) or None, name)


def power_vanishes(tally: Tally, exponent: Any, name: str) -> None:
    """Verify that c·I^exponent tends to 0: with exponent -p < 0 it is below ε where I^p > c/ε."""
    c, eps, more = sp.symbols("c epsilon s", positive=True)
    is_negative = sp.simplify(-sp.sympify(exponent)).is_positive
    below = eps - c / (c / eps + more)  # I^p = c/ε+s
    tally.step(True if is_negative and sp.simplify(below).is_positive else None, name)


def limit_equation(tally: Tally) -> None:
    """Verify ‖F(ρ∞)+g∞‖ ≤ L‖ρ^t-ρ∞‖ + ‖g_t-g∞‖ + ‖ρ^{t+1}-ρ^t‖/η, all of which tend to 0; so F(ρ∞)+g∞ = 0."""
    f_limit, f_now, g_limit, g_now, eta = sp.symbols("F_inf F_t g_inf g_t eta", positive=True)
    move = -eta * (f_now + g_now)
    parts = (f_limit - f_now) + (g_limit - g_now) - move / eta
    tally.step(vanishes(f_limit + g_limit - parts), "F(ρ∞)+g∞ = (F(ρ∞)-F(ρ^t)) + (g∞-g_t) + (ρ^t-ρ^{t+1})/η")
    lipschitz(tally)


def lipschitz(tally: Tally) -> None:
    """Verify that F is K-Lipschitz, 1/K = 1/L_n+1/L_R, for each honest user; for ℓ2, where L_R = ∞, K = L_n.

    h = ∇L_n(θ*) is a (sub)gradient of the convex R_0 at ρ-θ*: <Δh, Δρ-Δθ> ≥ ‖Δh‖²/L_R, and ≥ 0 for ℓ2;
    <Δh, Δθ> ≥ ‖Δh‖²/L_n.
    """
    dh, drho, dtheta = sp.symbols("dh drho dtheta", real=True)
    ln, lr = sp.symbols("L_n L_R", positive=True)
    for k, name in ((1 / (1 / ln + 1 / lr), "F is Lipschitz: 1/K = 1/L_n+1/L_R"), (ln, "F is L_n-Lipschitz for ℓ2")):
        pull = dh * (drho - dtheta) - (dh**2 / lr if k != ln else 0)
        added = (dh * dtheta - dh**2 / ln) + pull
        slack = k**2 * drho**2 - dh**2 - 2 * k * added
        tally.step(is_sum_of_squares(slack, [(sp.Integer(1), k * drho - dh)]), name)


def descent_converges(tally: Tally) -> None:
    """Verify that descent on a convex L-smooth f nears each minimizer, at a rate where f is μ-strongly convex; η ≤ 1/L.

    The distance to the minimizer does not increase, so the iterates stay in a ball; on it f has a modulus μ > 0, and
    the squared distance falls by the factor 1-ημ(2-ηL) ≤ 1-ημ.
    """
    x, g = sp.symbols("x g", real=True)
    eta, smooth, mu = sp.symbols("eta L mu", positive=True)
    cocoercive = g * x - g**2 / smooth  # >= 0, x* = 0; on the whole space
    left = x**2 - (x - eta * g) ** 2 - 2 * eta * cocoercive
    tally.step(vanishes(left - eta * (2 / smooth - eta) * g**2), "‖x-ηg‖² <= ‖x‖² - η(2/L-η)‖g‖²")
    convex = g * x - mu * x**2  # >= 0, in the ball
    left = (1 - eta * mu * (2 - eta * smooth)) * x**2 - (x - eta * g) ** 2
    parts = eta * (2 - eta * smooth) * convex + eta**2 * smooth * cocoercive
    tally.step(vanishes(left - parts), "‖x-ηg‖² <= (1-ημ(2-ηL))‖x‖², a sum of nonnegative terms for η <= 2/L")
    powers_vanish(tally)


def stays_near(tally: Tally) -> None:
    """Verify: f, f' convex, |f-f'| ≤ κ on the ball of radius ε around the minimizer of f, f ≥ f*+2κ+s on its sphere.

    Then every minimizer of f' is in the ball: f'(sphere) ≥ f*+κ+s > f*+κ ≥ f'(centre), and for z beyond the sphere
    convexity along the ray from the centre makes f'(z) exceed f'(centre) by (s+…)/w.
    """
    least, kappa, spare, share = sp.symbols("f_* kappa s w", positive=True)
    up, down, gap = sp.symbols("u v gap", nonnegative=True)
    centre, sphere = least + kappa - up, least + kappa + spare + down
    # Convexity: sphere <= (1-w)·centre + w·f'(z), 0 < w < 1, with slack gap.
    value = (sphere + gap - (1 - share) * centre) / share
    left = (spare + down + up + gap) / share
    tally.step(vanishes(value - centre - left), "f'(z)-f'(centre) = (s+…)/w > 0 for z beyond the sphere")


def along_the_ray(tally: Tally) -> None:
    """Verify, from uᵀ∇L(θ†+ru) ≥ a·min(1, r)-G: L(θ)-L(θ†) ≥ -G²/(2a), and ≥ (a/2-G)r for r ≥ 1."""
    a, g, r, s, t = sp.symbols("a G r s t", positive=True)
    near = sp.integrate(a * t - g, (t, 0, r))
    tally.step(vanishes(near + g**2 / (2 * a) - (a * r - g) ** 2 / (2 * a)), "L(θ)-L(θ†)+G²/(2a) is a square, r <= 1")
    beyond = near.subs(r, 1) + sp.integrate(a - g, (t, 1, 1 + s))
    left = (a - g) ** 2 / (2 * a) + (a - g) * s
    tally.step(vanishes(beyond + g**2 / (2 * a) - left), "and (a-G)²/(2a)+(a-G)(r-1) for r >= 1")
    tally.step(vanishes(beyond - (a / 2 - g) * (1 + s) - a * s / 2), "(a/2-G)r + a(r-1)/2 for r >= 1")
