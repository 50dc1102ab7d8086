"""The paper's constants next to sharper ones, on named instances; every number is computed here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, sqrt


@dataclass(frozen=True)
class Constant:
    """One row: what the constant bounds, both values, and how many times the sharper one is better."""

    name: str
    instance: str
    paper: float
    sharper: float
    source: str
    larger_is_better: bool

    @property
    def gain(self) -> float:
        """How many times better the sharper constant is; at least 1."""
        return self.sharper / self.paper if self.larger_is_better else self.paper / self.sharper


def _sigma(z: float) -> float:
    return 1.0 / (1.0 + exp(-z))


def largest_step() -> Constant:
    """Theorem 4 against C2: the largest constant rate of the counter-gradient attack against ℓ2²."""
    return Constant("largest rate against ℓ2²", "L = 1", 1 / 3, 1 / 2, "Theorem 4, C2 (sharp)", True)


def worst_rate() -> Constant:
    """The linear rate at η = 1/(3L): √7/3 in the proof of Theorem 4, against the root of r² = qr+q."""
    q = 1 / 3
    return Constant(
        "rate per round at η = 1/(3L)",
        "q = 1/3",
        sqrt(7) / 3,
        (q + sqrt(q * q + 4 * q)) / 2,
        "Theorem 4, C2 (sharp)",
        False,
    )


def lipschitz_constant() -> Constant:
    """Lemma 8: L/μ, against (L-μ)/(2√(Lμ)) for functions with Hessians between μ and L."""
    top, mu = 4.0, 1.0
    return Constant(
        "Lipschitz constant of y*",
        "L = 4, μ = 1",
        top / mu,
        (top - mu) / (2 * sqrt(top * mu)),
        "Lemma 8 (sharp for quadratics)",
        False,
    )


def modulus() -> Constant:
    """Lemma 11 as repaired, against the smallest eigenvalue of the Hessian of ν‖θ‖² + (μ/2)‖ρ-θ‖²."""
    nu, mu = 1.0, 1.0
    # [[μ, -μ], [-μ, 2ν+μ]] has the smallest eigenvalue (μ+ν) - √(μ²+ν²).
    return Constant(
        "modulus of the global loss",
        "ν = μ = 1, N = 1",
        min(nu / 2, nu * mu / (nu + 2 * mu)),
        mu + nu - sqrt(mu * mu + nu * nu),
        "Lemma 11 as repaired",
        True,
    )


def gradient_pac_constant(k: float, m: float = 1.0) -> Constant:
    """A_K of Lemma 28 against C16, queries uniform on e1, e2, both with half of λ_min(Σ) = 1/2 (Lemma 21)."""
    least, mean = 1 / 2, 1 / 2  # λ_min(Σ), and the least E|Qᵀu| over the circle, at u = e1
    c = mean / 4
    d = _sigma(m * k + 1) - _sigma(m * k)
    radius = 4 / c
    edge = (radius + k) * m
    curvature = exp(-edge) / (1 + exp(-edge)) ** 2
    paper = min(least * curvature / 2, d * c / 4)
    sharper = (_sigma(m * (k + 1)) - _sigma(m * k)) / m * least / 2
    return Constant(
        "A_K of logistic regression", f"queries e1, e2, M = {m:g}, K = {k:g}", paper, sharper, "Lemma 28, C16", True
    )


def smoothness() -> Constant:
    """The smoothness of the minimized loss: that of the global loss (Lemma 13) against ΣK with 1/K = 1/L_n+1/L_R
    (C3).
    """
    users, top, lam = 10, 100.0, 1.0
    return Constant(
        "smoothness of the others' minimized loss",
        "10 users, L_n = 100, ℓ2², λ = 1",
        top + (users + 1) * 2 * lam,
        users / (1 / top + 1 / (2 * lam)),
        "Lemmas 11 and 13, C3",
        False,
    )


def linear_gradient_pac_constant() -> Constant:
    """A of Lemma 4 for linear regression, half of λ_min(Σ), against λ_min(Σ), beyond which none works (C17)."""
    least = 1 / 2  # queries uniform on e1, e2
    return Constant(
        "A of linear regression", "queries e1, e2", least / 2, least, "Lemma 4, C17 (sharp)", larger_is_better=True
    )


def local_models() -> Constant:
    """The Lipschitz constant of θ*: L/μ of Lemma 8 for one user, as repaired, against √(L_R/(8ν)), sharp at λ = ν."""
    lam = nu = 1.0
    mu_r = 2 * lam  # the modulus of λ‖·‖²
    smooth, mu = 2 * nu + 4 * lam, min(nu / 2, nu * mu_r / (nu + 2 * mu_r))
    return Constant(
        "Lipschitz constant of θ*",
        "ℓ2², λ = ν = 1, no data",
        smooth / mu,
        sqrt(2 * lam / (8 * nu)),
        "Lemma 12 as repaired (sharp)",
        larger_is_better=False,
    )


def query_norm() -> Constant:
    """The query of the one-point attack: w of Theorem 5, against w/‖w‖ (C10)."""
    others, target, lam, nu = 99, 1.0, 1.0, 1.0
    # Each other user holds one data point (1, 0): F(ρ) = (N-1)·2λ(1-2λ/(2ν+1+2λ))ρ.
    force = others * 2 * lam * (1 - 2 * lam / (2 * nu + 1 + 2 * lam)) * target
    w = force + 2 * nu * (target + force / (2 * lam))
    return Constant(
        "norm of the query of one exact point",
        "99 others with (1, 0), λ = ν = 1, target 1",
        w,
        1.0,
        "Theorem 5 as repaired, C10",
        larger_is_better=False,
    )


def constants() -> Iterator[Constant]:
    """Yield every row."""
    yield largest_step()
    yield worst_rate()
    yield smoothness()
    yield lipschitz_constant()
    yield local_models()
    yield modulus()
    yield linear_gradient_pac_constant()
    for k in (1.0, 5.0):
        yield gradient_pac_constant(k)
    yield query_norm()


def table() -> str:
    """Return the rows as Markdown."""
    lines = ["| constant | instance | paper | sharper | times better | source |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row.name} | {row.instance} | {row.paper:.4g} | {row.sharper:.4g} | {row.gain:.3g} | {row.source} |"
        for row in constants()
    ]
    return "\n".join(lines)
