r"""Further statements on learning: C19, how many data are enough.

Queries with ‖Q‖ ≤ M and λ the least eigenvalue of E[QQᵀ]; noise that is σ-sub-Gaussian (1/2 for logistic labels,
whose residual lies in an interval of length 1); ‖θ_h†‖ ≤ K; H honest users; κ = 1 for least squares and
[σ(M(K+1))-σ(MK)]/M for logistic regression (C16); 0 < ε < 1.  With

.. math:: \beta = \kappa\lambda/2, \quad g = \sigma M\sqrt{2d\ln(4Hd/\delta)}, \quad c = E + 2\nu K,

.. math:: I \ \ge\ \max\Big\{\frac{8d^2M^4}{\lambda^2}\ln\frac{2Hd(d+1)}\delta,\
          \Big(\frac{g+\sqrt{g^2+4\beta\varepsilon c}}{2\beta\varepsilon}\Big)^2\Big\}

data of each honest user, or more, are enough, where E = λ_R for ℓ2 and smooth-ℓ2, whatever the others hold, and
:math:`E = 2\sqrt{\lambda_R(\Delta_0 + H(g^2+4\nu^2K^2)/\beta)}` for ℓ2², where Δ₀ depends on the fixed data of the
others alone.  The losses of all users are convex and nonnegative, as in (5) with ν ≥ 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import isqrt

import numpy as np
import sympy as sp
from flint import arb

from proofs_checks.exact import LinearProblem, LinearUser, vector
from proofs_checks.registry import Evidence, Tally, at_most, both, check
from proofs_checks.search import attack, ball, precise, sigmoid, vanishes
from proofs_checks.steps import along_the_ray, hoeffdings_lemma, root_norm
from proofs_checks.strategies import arguments, rational
from theory import L2, LeastSquares, Logistic, Regularizer, SmoothL2, SquaredL2, UserDataset, sample_size
from theory.data import EmpiricalQueries

A_, G_, E_, S_ = sp.symbols("a G E s", positive=True)


# ---- On the event: the error ------------------------------------------------------------------------------------


@check(
    "c19_sample_size",
    part="recovery",
    method="class",
    falsehoods={
        "half_the_error": {"factor": Fraction(1, 2)},
        "other_honest_users_ignored": {"with_excess": False},
        "without_the_pull": {"with_pull": False},
        "error_may_exceed_one": {"below_one": False},
    },
    strengthen=lambda excess: {"factor": 1 - excess},
)
def error_on_the_event(
    *, factor: Fraction | int = 1, with_excess: bool = True, with_pull: bool = True, below_one: bool = True
) -> Evidence:
    """If uᵀ∇L_h(θ_h†+ru) ≥ a·min(1, r) - G for all unit u, and E+G < a, every minimum has ‖θ_h*-θ_h†‖ ≤ (E+G)/a.

    Here E bounds ‖∇R(ρ*, θ_h*)‖: it is λ for ℓ2 and smooth-ℓ2, and 2√(λ(Δ₀+ΣG_h²/(2a_h))) for ℓ2², with Δ₀ =
    Σλ‖ρ₀-θ_h†‖² + Σ_{n∉H}[L_n(θ_n⁰)+λ‖ρ₀-θ_n⁰‖²-inf L_n] for any ρ₀ and θ_n⁰.

    There is a minimum if H is not empty: L_h tends to infinity, as a > G, hence with R all of the loss does, which is
    convex and bounded below.
    Proof.  At a minimum ∇L_h(θ_h*) is a (sub)gradient of R (for ℓ2 at the kink any vector of length at most λ), so
    a·min(1, r)-G ≤ E; r ≥ 1 would say a ≤ E+G.  For ℓ2²,
    ‖∇R‖² = 4λR.  Integrating the hypothesis along the ray, L_h(θ) ≥ L_h(θ_h†)-G²/(2a).  The loss at the minimum is at
    most that at (ρ₀, θ_H†, θ⁰); subtract the least values of the L_n: all regularizers together are at most
    Δ₀+ΣG_h²/(2a_h).
    """
    tally = Tally()
    if factor == 1 and with_excess and with_pull and below_one:
        _recovery_steps(tally)
    lam = Fraction(1, 1000)
    # Least squares, d = 1: queries 1, answers θ†+S/n on average, so that a = n and G = |S|, exactly.
    for count, sums, outsider, pull in product(
        [Fraction(9), Fraction(400)],
        [(Fraction(0), Fraction(2)), (Fraction(5), Fraction(-5)), (Fraction(0), Fraction(0))],
        [None, Fraction(30)],
        [lam, Fraction(1)],
    ):
        honest = [Fraction(2), Fraction(2)]
        root = Fraction(isqrt(int(count)))
        users = [LinearUser([[root]], [root * (h + s / count)]) for h, s in zip(honest, sums, strict=True)]
        cost = Fraction(0)
        if outsider is not None:
            users.append(LinearUser([vector([1])], vector([outsider])))
            cost = (outsider - 2) ** 2 / 2  # ρ₀ = θ_n⁰ = 2, and inf L_n = 0
        found = LinearProblem(tuple(users), pull, Fraction(0), 1).minimum()
        excess = sum(s * s for s in sums) / (2 * count) if with_excess else Fraction(0)
        squared = 4 * pull * (cost + excess) if with_pull else Fraction(0)
        # E is a root: E+G < a, and r <= factor·(E+G)/a, are compared by squares.
        for n, s in enumerate(sums):
            if found is None or abs(s) >= count or squared >= (count - abs(s)) ** 2:
                tally.skip()
                continue
            distance = abs(found[1][n][0] - honest[n])
            left = distance * count / factor - abs(s)
            tally.claim(
                left <= 0 or left**2 <= squared,
                "a‖θ_h*-θ_h†‖ - G <= E, ℓ2²",
                n_data=count,
                noise_sums=sums,
                user=n,
                outsider=outsider,
                lam=pull,
                distance=distance,
            )
    # ℓ2, or smooth-ℓ2 with the others infinitely far: the pull λ and the noise S in one direction.  The loss is
    # Huber's, so that its slope is a·min(1, r)-S exactly.
    for slope, noise, force in product(
        [Fraction(8), Fraction(2)], [Fraction(0), Fraction(1)], [Fraction(1, 2), Fraction(3)]
    ):
        if below_one and not force + noise < slope:
            tally.skip()
            continue
        reached = (force + noise) / slope
        # Beyond E+G = a Huber's slope never balances the pull: there is a minimum nowhere near.
        tally.claim(
            both(reached < 1, at_most(reached, factor * ((force if with_pull else 0) + noise) / slope)),
            "the minimum of Huber's loss under a pull E is at (E+G)/a",
            a=slope,
            G=noise,
            E=force,
        )

    def decide(lam: Fraction, first: Fraction, second: Fraction, outsider: Fraction) -> bool | None:
        data = [first, second]  # means of 16 answers 0 with noise; θ† = 0, so that S = 16·mean and a = 16
        users = [LinearUser([[Fraction(4)]], [4 * mean]) for mean in data] + [LinearUser([vector([1])], [outsider])]
        found = LinearProblem(tuple(users), lam, Fraction(0), 1).minimum()
        excess = sum((16 * mean) ** 2 for mean in data) / 32 if with_excess else Fraction(0)
        squared = 4 * lam * (outsider**2 / 2 + excess) if with_pull else Fraction(0)
        if found is None or any(abs(m) >= 1 or squared >= (16 - 16 * abs(m)) ** 2 for m in data):
            return None
        left = [abs(theta[0]) * 16 / factor - 16 * abs(mean) for theta, mean in zip(found[1], data, strict=False)]
        return all(value <= 0 or value**2 <= squared for value in left)

    unit = rational(-1, 1)
    drawn = arguments(lam=rational(Fraction(1, 1000), 9), first=unit, second=unit, outsider=rational(-9, 9))
    attack(tally, "a‖θ_h*-θ_h†‖ - G <= E, ℓ2², two honest users and one other", drawn, decide)
    return tally.evidence()


def _recovery_steps(tally: Tally) -> None:
    edge = (E_ + G_) / A_
    tally.step(vanishes(A_ * (edge + S_) - G_ - E_ - A_ * S_), "for r < 1: a·r-G exceeds E by a·s at (E+G)/a+s")
    tally.step(vanishes((A_ - G_ - E_).subs(A_, E_ + G_ + S_) - S_), "for r >= 1: a-G exceeds E by s > 0")
    along_the_ray(tally)
    lam, z = sp.symbols("lambda z", positive=True)
    tally.step(vanishes(sp.diff(lam * z**2, z) ** 2 - 4 * lam * (lam * z**2)), "ℓ2²: ‖∇R‖² = 4λR")
    pull = sp.diff(lam * sp.sqrt(1 + z**2), z)
    tally.step(vanishes(lam**2 - pull**2 - lam**2 / (1 + z**2)), "smooth-ℓ2: ‖∇R‖ < λ")
    # Losses at the minimum and at the competitor: H honest, O other losses, R_h and the rest of the regularizers.
    mine, mine0, other, other0, least, one, rest, pulls0, excess = sp.symbols(
        "H H0 O O0 inf R_h R_rest R0 X", real=True
    )
    optimal, competitor = mine + other + one + rest, mine0 + other0 + pulls0
    bound = (pulls0 + other0 - least) + excess
    slack = (competitor - optimal) + (mine - mine0 + excess) + (other - least) + rest
    tally.step(vanishes(bound - one - slack), "Δ₀+ΣG²/(2a)-R_h is a sum of four nonnegative terms")


# ---- The event has probability 1-δ ------------------------------------------------------------------------------


def binomial_at_most(k: int, count: int, p: arb) -> arb:
    """Return P(X ≤ k) for X binomial, by the regularized incomplete beta function in ball arithmetic.

    Examples
    --------
    >>> binomial_at_most(1, 2, arb(0.5)).contains(arb(0.75))
    True
    """
    if k < 0 or k >= count:
        return arb(int(k >= count))
    return (1 - p).beta_lower(count - k, k + 1, regularized=True)


@check(
    "c19_sample_size",
    part="events",
    method="symbolic",
    falsehoods={
        "eight_times_the_exponent_of_the_second_moment": {"moment": 8},
        "four_times_the_exponent_of_the_noise": {"noise": 4},
        "without_the_dimension": {"with_dimension": False},
    },
)
@precise
def events_have_high_probability(*, moment: int = 1, noise: int = 1, with_dimension: bool = True) -> Evidence:
    """λ_min(ΣQQᵀ) ≥ Iλ/2 and ‖ΣξQ‖ ≤ s√d fail with probability at most d(d+1)e^{-Iλ²/(8d²M⁴)} and
    2d·e^{-s²/(2Iσ²M²)}.

    Proof.  *Hoeffding's lemma.*  Let X be in [a, b] with mean 0, c = b-a, q = -a/c.  By convexity E e^{tX} ≤
    e^{ψ(ct)}, ψ(h) = -qh+ln(1-q+qe^h); ψ(0) = ψ'(0) = 0 and ψ'' = v(1-v) ≤ 1/4, so E e^{tX} ≤ e^{c²t²/8}.
    *Chernoff.*  P(ΣX_i ≥ s) ≤ e^{-ts+Ic²t²/8} for all t > 0, which is e^{-2s²/(Ic²)} at t = 4s/(Ic²).
    *Second moment.*  Q_jQ_k lies in an interval of length 2M².  If all d(d+1)/2 sums are within s = Iλ/(2d) of their
    means, then uᵀ(ΣQQᵀ-IΣ)u ≥ -s(Σ|u_j|)² ≥ -sd‖u‖².  *Noise.*  ξQ_j is σM-sub-Gaussian (c = 2σM in Chernoff's
    step), and ‖x‖ ≤ √d·max|x_j|.
    """
    tally = Tally()
    if moment == noise == 1 and with_dimension:
        _event_steps(tally)
    half = arb(1) / 2
    for count in (4, 16, 64, 256, 1024):
        # d = 1, Q = 0 or 1 with equal odds: M = 1, λ = 1/2; the sum of Q² is binomial.
        below = binomial_at_most((count - 1) // 4, count, half)
        tally.claim(
            at_most(below, 2 * (-ball(Fraction(moment * count, 32))).exp()), "P(ΣQ² < I/4), Q uniform on 0, 1", I=count
        )
        # d = 2, Q uniform on e1, e2: M = 1, λ = 1/2; both counts are to be at least I/4.
        tally.claim(
            at_most(2 * below, 6 * (-ball(Fraction(moment * count, 128))).exp()), "P(λ_min < I/4), Q on e1, e2", I=count
        )
        for root in (1, 2, 4):
            s = root * isqrt(count)
            # Signs: P(|Σξ| >= s) = 2P(heads <= (I-s)/2).
            beyond = 2 * binomial_at_most((count - s) // 2, count, half)
            bound = 2 * (-ball(Fraction(noise * s * s, 2 * count))).exp()
            tally.claim(at_most(beyond, bound), "P(|Σξ| >= s), ξ = ±1", I=count, s=s)
            # d = 4, Q = (1, 1, 1, 1)/2 and M = 1, so that ‖ΣξQ‖ = |Σξ|; coordinates have the parameter 1/2.
            d = 4 if with_dimension else 1
            in_d = 2 * 4 * (-ball(Fraction(noise * s * s, 2 * count * d)) * (1 if with_dimension else 4)).exp()
            tally.claim(at_most(beyond, in_d), "P(‖ΣξQ‖ >= s), Q = (1, 1, 1, 1)/2", I=count, s=s)
    return tally.evidence()


def _event_steps(tally: Tally) -> None:
    hoeffdings_lemma(tally)
    root_norm(tally)
    c, count, s, lam, d, bound, sigma, x = sp.symbols("c I s lambda d M sigma x", positive=True)
    exponent = 2 * s**2 / (count * c**2)
    moment = exponent.subs({s: count * lam / (2 * d), c: 2 * bound**2})
    tally.step(vanishes(moment - count * lam**2 / (8 * d**2 * bound**4)), "second moment: Iλ²/(8d²M⁴)")
    noise = exponent.subs(c, 2 * sigma * bound)
    tally.step(vanishes(noise - s**2 / (2 * count * sigma**2 * bound**2)), "noise: s²/(2Iσ²M²)")
    level = sigma * bound * sp.sqrt(2 * count * sp.log(1 + x))
    tally.step(vanishes(noise.subs(s, level) - sp.log(1 + x)), "s = σM√(2I·ln X) makes it ln X")


# ---- The number -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """One dimension, queries of length 1 (so M = λ = 1), one honest user who prefers ``honest``; one other user."""

    honest: Fraction
    nu: Fraction
    lam: Fraction
    epsilon: Fraction
    delta: Fraction
    squared: bool
    logistic: bool = False

    def __str__(self) -> str:
        loss = "logistic" if self.logistic else "least squares"
        numbers = f"θ† = {self.honest}, ν = {self.nu}, λ = {self.lam}, ε = {self.epsilon}, δ = {self.delta}"
        return f"{loss}, {'ℓ2²' if self.squared else 'ℓ2 or smooth-ℓ2'}, {numbers}"

    @property
    def curvature(self) -> arb:
        """β = κλ/2."""
        if not self.logistic:
            return arb(1) / 2
        return (sigmoid(ball(abs(self.honest) + 1)) - sigmoid(ball(abs(self.honest)))) / 2

    def noise(self, *, with_log: bool) -> arb:
        """G = σM√(2d·ln(4Hd/δ)) per root of I; without the logarithm the falsehood that it does not matter."""
        logarithm = ball(4 / self.delta).log() if with_log else arb(1)
        return (2 * logarithm).sqrt() * (arb(1) / 2 if self.logistic else arb(1))

    def offset(self, g: arb, outsider: Fraction) -> arb:
        """C = E+2νK; for ℓ2² the other user holds one datum (1, outsider): Δ₀ <= (θ†-outsider)²/2+ν(θ†)²."""
        ridge = 2 * ball(self.nu) * ball(abs(self.honest))
        if not self.squared:
            return ball(self.lam) + ridge
        reference = ball((self.honest - outsider) ** 2 / 2 + self.nu * self.honest**2)
        return 2 * (ball(self.lam) * (reference + (g**2 + ridge**2) / self.curvature)).sqrt() + ridge


_OUTSIDER = Fraction(30)


def _settings(logistic: bool) -> Iterator[Setting]:
    honest = [Fraction(0)] if logistic else [Fraction(2), Fraction(-1)]
    for theta, nu, squared, (epsilon, delta) in product(
        honest,
        [Fraction(0), Fraction(1, 10)],
        [False] if logistic else [True, False],
        [
            (Fraction(9, 10), Fraction(1, 10)),
            (Fraction(1, 2), Fraction(1, 10**10)),
            (Fraction(1, 20), Fraction(1, 100)),
        ],
    ):
        yield Setting(theta, nu, Fraction(1), epsilon, delta, squared, logistic)


def sufficient_size(at: Setting, *, power: int = 2, with_log: bool = True) -> arb:
    """Return the number of data of the module's docstring, a real number."""
    g, beta = at.noise(with_log=with_log), at.curvature
    c, error = at.offset(g, _OUTSIDER), ball(at.epsilon)
    moment = 8 * (ball(4 / at.delta).log() if with_log else arb(1))
    root = (g + (g**2 + 4 * beta * error * c).sqrt()) / (2 * beta * error)
    scale = ball(at.epsilon ** (2 - power))
    return moment.max(root**2 * scale)


def probability_of_recovery(at: Setting, count: int) -> arb:
    """Return P(‖θ_h*-θ_h†‖ ≤ ε), exactly up to rounding; for ℓ2 and smooth-ℓ2 whatever the other user holds."""
    if at.logistic:
        return _logistic_probability(at, count)
    if at.squared:
        root = Fraction(isqrt(count))

        def learned(average: Fraction) -> Fraction:
            users = (LinearUser([[root]], [root * average]), LinearUser([vector([1])], vector([_OUTSIDER])))
            found = LinearProblem(users, at.lam, at.nu, 1).minimum()
            if found is None:
                raise ArithmeticError("the minimum is not unique")
            return found[1][0][0]

        base, slope = learned(at.honest), learned(at.honest + 1) - learned(at.honest)
        low, high = ((end - base) / slope for end in (at.honest - at.epsilon, at.honest + at.epsilon))
    else:
        # (n+2ν)(θ-θ†) = S-2νθ†+u, |u| <= λ: within ε for every such u.
        width = (count + 2 * at.nu) * at.epsilon - at.lam
        low, high = (2 * at.nu * at.honest + sign * width for sign in (-1, 1))
        low, high = low / count, high / count
    # The mean of the noise, 2k/n-1, is to lie in [low, high].
    first, last = -(-(count * (1 + low)) // 2), (count * (1 + high)) // 2
    half = arb(1) / 2
    return binomial_at_most(int(last), count, half) - binomial_at_most(int(first) - 1, count, half)


def _logistic_probability(at: Setting, count: int) -> arb:
    """The local gradient nσ(θ)-k+2νθ must exceed λ at θ†+ε and fall below -λ at θ†-ε; k is binomial."""
    p, nu, lam = sigmoid(ball(at.honest)), ball(at.nu), ball(at.lam)
    high, low = (
        count * sigmoid(ball(end)) + 2 * nu * ball(end) for end in (at.honest + at.epsilon, at.honest - at.epsilon)
    )
    last = (high - lam).floor().unique_fmpz()
    first = (low + lam).ceil().unique_fmpz()
    if last is None or first is None:
        raise ArithmeticError("an end of the interval could not be told from an integer")
    return binomial_at_most(int(last), count, p) - binomial_at_most(int(first) - 1, count, p)


def next_square(count: arb) -> int:
    """Return the least square of an integer that is at least ``count``."""
    whole = int(count.upper().ceil().unique_fmpz() or 1)
    root = isqrt(max(whole - 1, 0)) + 1
    return root * root


@check(
    "c19_sample_size",
    part="number",
    method="symbolic",
    falsehoods={
        "a_percent_fewer": {"share": Fraction(99, 100)},
        "of_order_one_over_epsilon": {"power": 1},
        "whatever_delta": {"with_log": False},
    },
    strengthen=lambda excess: {"share": 1 - excess},
)
@precise
def number_of_data_issufficient_size(*, share: Fraction | int = 1, power: int = 2, with_log: bool = True) -> Evidence:
    """With I as in the docstring of the module all honest users are within ε with probability 1-δ; I = O(ε⁻²·ln(1/δ)).

    Proof.  By the part `events` with δ/(2H) each, λ_min(ΣQQᵀ) ≥ Iλ/2 and ‖∇L_h(θ_h†)‖ ≤ g√I+2νK =: G for all h, with
    probability 1-δ; so a = βI in the part `recovery` (for logistic regression by C16).  The error (c+g√I)/(βI) is at
    most ε exactly from the root of βεI = g√I+c on, and decreases; ε < 1 makes E+G < a.  For ℓ2², G²/(2a) ≤
    (g²+4ν²K²)/β.  Order: the root is at most (g²+2βεc)/(βε)², g² is affine in ln(1/δ), and E ≤
    λ_R+Δ₀+H(g²+4ν²K²)/β.
    Instances: exact probabilities of recovery in one dimension, signs as noise, an adversary who holds 30; logistic.
    """
    tally = Tally()
    if share == 1 and power == 2 and with_log:
        _number_steps(tally)
    for at in [*_settings(False), *_settings(True)]:
        real = sufficient_size(at, power=power, with_log=with_log)
        g, beta = at.noise(with_log=True), at.curvature
        c = at.offset(g, _OUTSIDER)
        size = real * ball(share) * (1 + ball(Fraction(1, 10**20)))
        tally.claim(at_most(c + g * size.sqrt(), beta * ball(at.epsilon) * size), "(c+g√I)/(βI) <= ε", setting=at)
        count = next_square(real)
        if share == 1:
            probability = probability_of_recovery(at, count)
            tally.claim(at_most(1 - ball(at.delta), probability), "exact probability of recovery", setting=at, I=count)
    return tally.evidence()


def _number_steps(tally: Tally) -> None:
    g, beta, eps, c, m, s, v, lam, ref = sp.symbols("g beta epsilon c m s v lambda D", positive=True)
    root = (g + sp.sqrt(g**2 + 4 * beta * eps * c)) / (2 * beta * eps)
    tally.step(vanishes(beta * eps * root**2 - g * root - c), "the root of βεI = g√I+c")
    after = beta * eps * (root + s) ** 2 - g * (root + s) - c
    gain = s * (beta * eps * s + sp.sqrt(g**2 + 4 * beta * eps * c))
    tally.step(vanishes(after - gain), "beyond it the difference is s(βεs+√(g²+4βεc)) >= 0")
    tally.step(vanishes(2 * g**2 * m**2 + 2 * v**2 - (g * m + v) ** 2 - (g * m - v) ** 2), "(g√I+v)² <= 2g²I+2v²")
    tally.step(
        vanishes((2 * g**2 * m**2 + 2 * v**2) / (2 * beta * m**2) - (g**2 + v**2 / m**2) / beta),
        "so G²/(2βI) <= (g²+v²)/β for I >= 1",
    )
    other = sp.sqrt(g**2 + 4 * beta * eps * c)
    tally.step(vanishes(2 * g**2 + 2 * other**2 - (g + other) ** 2 - (g - other) ** 2), "(g+√·)² <= 2g²+2(g²+4βεc)")
    tally.step(
        vanishes(
            (4 * g**2 + 8 * beta * eps * c) / (2 * beta * eps) ** 2 - (g**2 + 2 * beta * eps * c) / (beta * eps) ** 2
        ),
        "so I <= (g²+2βεc)/(βε)²",
    )
    tally.step(vanishes(lam + ref - 2 * sp.sqrt(lam * ref) - (sp.sqrt(lam) - sp.sqrt(ref)) ** 2), "2√(λD) <= λ+D")


@check(
    "c19_sample_size",
    part="proof_sharper_number",
    method="certified",
    falsehoods={
        "a_tenth_of_the_data": {"share": Fraction(1, 10)},
        "for_a_thousandth_of_the_error": {"ask": Fraction(1000)},
    },
)
@precise
def sharper_number_issufficient_size(*, share: Fraction | int = 1, ask: Fraction | int = 1) -> Evidence:
    """`theory.sample_size`, with sharper bounds (matrix Chernoff, Hsu-Kakade-Zhang), is enough on the same instances.

    The probability of recovery with its number of data (or the next square) is exact; a tenth of them is too few.
    """
    tally = Tally()
    for at in [*_settings(False), *_settings(True)]:
        reg: Regularizer = SquaredL2(float(at.lam)) if at.squared else L2(float(at.lam))
        smooth = SmoothL2(float(at.lam))
        for chosen in (reg,) if at.squared else (reg, smooth):
            found = sample_size(
                EmpiricalQueries(np.ones((1, 1))),
                Logistic() if at.logistic else LeastSquares(),
                chosen,
                [float(at.honest)],
                epsilon=float(at.epsilon),
                delta=float(at.delta),
                nu=float(at.nu),
                noise=1.0,
                others=[UserDataset([[1.0]], [float(_OUTSIDER)])] if at.squared else (),
            )
            count = next_square(ball(share * found.n_data))
            asked = Setting(at.honest, at.nu, at.lam, at.epsilon / ask, at.delta, at.squared, at.logistic)
            tally.claim(
                at_most(1 - ball(at.delta), probability_of_recovery(asked, count)),
                f"exact probability of recovery, {chosen.name}",
                setting=asked,
                I=count,
            )
    return tally.evidence()
