"""The regularizers, their plausible gradients GRAD(ρ), the projection onto it, and the preimage.

Values and gradients are compared with the printed formulas in 50-digit arithmetic; a projection is recognized by its
variational inequality, and a preimage by the gradient that it must give back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks import strategies
from proofs_checks.generators import REGULARIZERS
from theory import L2, AssumptionError, Regularizer, SmoothL2, SquaredL2
from theory.regularizers import norms, project_ball

EPS = float(np.finfo(np.float64).eps)
# Below the normal range, rounding is absolute.
TINY = float(np.finfo(np.float64).tiny)
DIGITS = 50


def printed_value(reg: Regularizer, z: list[Any]) -> Any:
    """R as section 2 prints it, for exact z = ρ - θ."""
    square = mp.fdot(z, z)
    if isinstance(reg, SquaredL2):
        return mp.mpf(reg.lam) * square
    if isinstance(reg, L2):
        return mp.mpf(reg.lam) * mp.sqrt(square)
    return mp.mpf(reg.lam) * mp.sqrt(1 + square)


def printed_gradient(reg: Regularizer, z: list[Any]) -> list[Any]:
    """∇_ρ R as the proofs of Proposition 4 and Lemma 3 print it."""
    square = mp.fdot(z, z)
    if isinstance(reg, SquaredL2):
        factor = 2 * mp.mpf(reg.lam)
    else:
        factor = mp.mpf(reg.lam) / mp.sqrt(square if isinstance(reg, L2) else 1 + square)
    return [factor * x for x in z]


def exact_difference(rho: np.ndarray, theta: np.ndarray) -> list[Any]:
    return [mp.mpf(x) - mp.mpf(y) for x, y in zip(rho.tolist(), theta.tolist(), strict=True)]


def check_values(reg_type: type[Any]) -> None:
    @given(st.data())
    def attack(data: st.DataObject) -> None:
        reg = reg_type(data.draw(strategies.lambdas()))
        rho, theta = data.draw(strategies.vectors(3)), data.draw(strategies.vectors(3))
        with mp.workdps(DIGITS):
            exact = printed_value(reg, exact_difference(rho, theta))
            # A difference is rounded once; what follows has positive terms only: a dozen roundings.
            assert abs(float(exact - float(reg.value(rho, theta)))) <= 12 * EPS * float(exact)

    attack()


def check_gradients(reg_type: type[Any]) -> None:
    @given(st.data())
    def attack(data: st.DataObject) -> None:
        reg = reg_type(data.draw(strategies.lambdas()))
        rho, theta = data.draw(strategies.vectors(3)), data.draw(strategies.vectors(3))
        found = reg.gradient(rho, theta)
        if isinstance(reg, L2) and np.array_equal(rho, theta):
            assert np.array_equal(found, np.zeros(3))
            return
        with mp.workdps(DIGITS):
            for i, exact in enumerate(printed_gradient(reg, exact_difference(rho, theta))):
                assert abs(float(exact - float(found[i]))) <= 16 * EPS * abs(float(exact)) + TINY

    attack()


def test_the_printed_gradient_is_the_derivative_of_the_printed_value() -> None:
    # What the second route of `check_gradients` rests on, away from the kink of ℓ2.
    z = [mp.mpf(x) for x in ("0.3", "-2", "1e-3")]
    with mp.workdps(DIGITS):
        for reg in (SquaredL2(0.7), L2(0.7), SmoothL2(0.7)):
            for i, printed in enumerate(printed_gradient(reg, z)):
                orders = tuple(int(i == j) for j in range(3))
                assert abs(mp.diff(lambda *x, r=reg: printed_value(r, list(x)), tuple(z), orders) - printed) < 1e-45


def draw_gradient(data: st.DataObject, reg: Any) -> np.ndarray:
    """Draw g near the sphere of radius λ, or anywhere."""
    g = data.draw(strategies.vectors(3))
    relative = data.draw(st.sampled_from([1.0 + 1e-9, 1.0 - 1e-9, 1.0, 0.5, 2.0, None]))
    length = np.linalg.norm(g)
    return g if relative is None or length == 0 else g * (relative * reg.lam / length)


def check_projection(reg_type: type[Any]) -> None:
    @given(st.data())
    def attack(data: st.DataObject) -> None:
        reg = reg_type(data.draw(strategies.lambdas()))
        g = draw_gradient(data, reg)
        rho, theta = data.draw(strategies.vectors(3)), data.draw(strategies.vectors(3))
        p = reg.project(g)
        size = float(np.linalg.norm(g))
        # It lies in GRAD(ρ), ...
        if not isinstance(reg, SquaredL2):
            assert float(np.linalg.norm(p)) <= reg.lam * (1.0 + 4 * EPS)
        # ... no plausible gradient is beyond it (which characterizes the closest point of a convex set), ...
        plausible = reg.gradient(rho, theta)
        spread = (size + float(np.linalg.norm(p))) * (float(np.linalg.norm(plausible)) + float(np.linalg.norm(p)))
        assert float((g - p) @ (plausible - p)) <= 16 * EPS * spread
        # ... what lies in GRAD(ρ) already stays, and every gradient does.
        again, same = reg.project(p), reg.project(plausible)
        assert float(np.max(np.abs(again - p))) <= 4 * EPS * size
        assert float(np.max(np.abs(same - plausible))) <= 8 * EPS * float(np.linalg.norm(plausible))

    attack()


def check_preimages(reg_type: type[Any]) -> None:
    @given(st.data())
    def attack(data: st.DataObject) -> None:
        reg = reg_type(data.draw(strategies.lambdas()))
        rho, g = data.draw(strategies.vectors(3)), draw_gradient(data, reg)
        g = reg.project(g)
        if isinstance(reg, SmoothL2) and not np.linalg.norm(g) < reg.lam * (1.0 - 1e-10):
            return
        theta = reg.preimage(rho, g)
        if isinstance(reg, L2):
            # g is a subgradient of R(·, θ) at ρ.
            other = data.draw(strategies.vectors(3))
            rise = reg.value(other, theta) - reg.value(rho, theta) - g @ (other - rho)
            assert rise >= -16 * EPS * reg.lam * (np.linalg.norm(other - rho) + np.linalg.norm(rho))
            return
        back = reg.gradient(rho, theta)
        # θ = ρ - z is rounded at the size of ρ and z, and the gradient moves by its slope (at most 2λ, or
        # λ/√(1+‖z‖²)) times that; the rounding of λ - ‖g‖, times λ/(λ - ‖g‖) <= 2(1 + ‖z‖²), moves it by 4λε more.
        z = float(np.linalg.norm(rho - theta))
        slope = 2.0 * reg.lam if isinstance(reg, SquaredL2) else reg.lam / np.hypot(1.0, z)
        moved = slope * (np.linalg.norm(rho) + 2.0 * z) + 16.0 * reg.lam + np.linalg.norm(g)
        assert float(np.linalg.norm(back - g)) <= 8 * EPS * moved

    attack()


CHECKS: list[Callable[[type[Any]], None]] = [check_values, check_gradients, check_projection, check_preimages]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("reg_type", REGULARIZERS, ids=lambda reg_type: reg_type.__name__)
def test_agrees_with_the_paper(check: Callable[[type[Any]], None], reg_type: type[Any]) -> None:
    check(reg_type)


class HalfSquare(SquaredL2):
    """λ/2 ‖z‖²: the other convention."""

    def value(self, rho, theta):
        return 0.5 * super().value(rho, theta)

    def gradient(self, rho, theta):
        return 0.5 * super().gradient(rho, theta)

    def project(self, g):
        return np.clip(g, -self.lam, self.lam)

    # `preimage` stays that of λ‖z‖².


class WrongSign(SmoothL2):
    def value(self, rho, theta):
        return -super().value(rho, theta)

    def gradient(self, rho, theta):
        return -super().gradient(rho, theta)

    def project(self, g):
        return 0.99 * super().project(g)

    # `preimage` stays that of the right sign.


class Cancelling(SmoothL2):
    """The square of a norm, and λ² - ‖g‖², as one would write them first."""

    def value(self, rho, theta):
        return self.lam * (np.sqrt(1.0 + np.sum((rho - theta) ** 2, axis=-1)) + 1e-13)

    def gradient(self, rho, theta):
        z = rho - theta
        return self.lam * z / np.sqrt(1.0 + np.sum(z**2, axis=-1)) * (1.0 + 1e-14)

    def project(self, g):
        return g if np.linalg.norm(g) <= self.lam * (1.0 + 1e-8) else super().project(g)

    def preimage(self, rho, g):
        return rho - g / (np.sqrt(self.lam**2 - np.sum(g**2)) * (1.0 + 1e-12))


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("mutant", [HalfSquare, WrongSign, Cancelling], ids=lambda mutant: mutant.__name__)
def test_a_wrong_formula_is_caught(check: Callable[[type[Any]], None], mutant: type[Any]) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


@pytest.mark.parametrize("reg_type", REGULARIZERS, ids=lambda reg_type: reg_type.__name__)
def test_functions_act_on_the_last_axis(reg_type: type[Any], rng: np.random.Generator) -> None:
    reg = reg_type(0.7)
    rho, thetas = rng.standard_normal(3), rng.standard_normal((2, 5, 3))
    thetas[0, 0] = rho
    g = 0.4 * rng.uniform(-1, 1, (2, 5, 3))
    for index in np.ndindex(2, 5):
        theta = thetas[index]
        assert reg.value(rho, thetas)[index] == pytest.approx(reg.value(rho, theta), rel=8 * EPS)
        np.testing.assert_array_equal(reg.gradient(rho, thetas)[index], reg.gradient(rho, theta))
        np.testing.assert_array_equal(reg.project(5.0 * g)[index], reg.project(5.0 * g[index]))
        np.testing.assert_array_equal(reg.preimage(rho, g)[index], reg.preimage(rho, g[index]))


@pytest.mark.parametrize("reg_type", REGULARIZERS, ids=lambda reg_type: reg_type.__name__)
def test_functions_of_no_vectors_are_empty(reg_type: type[Any]) -> None:
    reg, none = reg_type(0.7), np.zeros((0, 3))
    assert reg.value(np.ones(3), none).shape == (0,)
    for found in (reg.gradient(np.ones(3), none), reg.project(none), reg.preimage(np.ones(3), none)):
        assert found.shape == (0, 3)


@pytest.mark.parametrize("reg_type", REGULARIZERS, ids=lambda reg_type: reg_type.__name__)
def test_a_gradient_at_what_is_no_number_is_none(reg_type: type[Any]) -> None:
    # A kink is where θ = ρ, not where nothing is known of them.
    assert np.isnan(reg_type(0.7).gradient(np.array([np.nan, 1.0]), np.zeros(2))[0])


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
@pytest.mark.parametrize("reg_type", REGULARIZERS, ids=lambda reg_type: reg_type.__name__)
def test_units_of_the_loss_do_not_matter(reg_type: type[Any], scale: float) -> None:
    # R and its gradients are proportional to λ, so the preimage depends on g/λ only, however large or small λ² is.
    reg, rho, z = reg_type(scale), np.array([2.0, -1.0]), np.array([0.75, -1.0])
    g = scale * reg_type(1.0).gradient(z, np.zeros(2))
    np.testing.assert_allclose(reg.gradient(rho, rho - z), g, rtol=8 * EPS)
    np.testing.assert_allclose(reg.value(rho, rho - z), scale * reg_type(1.0).value(z, np.zeros(2)), rtol=8 * EPS)
    # Under ℓ2 a gradient of length λ is one of every z, and z = 0 is the one that is returned.
    expected = rho if reg_type is L2 else rho - z
    np.testing.assert_allclose(reg.preimage(rho, (1.0 - 4.0 * EPS) * g), expected, rtol=0.0, atol=32 * EPS)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_norms_of_tiny_and_huge_vectors(scale: float) -> None:
    # Squares of these under- or overflow.
    z = scale * np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(norms(z), [5.0 * scale, 0.0], rtol=4 * EPS)
    np.testing.assert_allclose(project_ball(z, 1e-250)[0], [0.6e-250, 0.8e-250], rtol=8 * EPS)
    assert np.linalg.norm(L2(2.0).gradient(z[0], z[1])) == pytest.approx(2.0, rel=8 * EPS)
    # The textbook formula loses them, so this test can fail.
    with np.errstate(over="ignore"):
        assert np.sqrt(np.sum(z[0] ** 2)) != pytest.approx(5.0 * scale, rel=1e-3, abs=0.0)


@pytest.mark.parametrize("dim", [1, 2, 50])
def test_a_projection_has_a_preimage_under_l2(dim: int, rng: np.random.Generator) -> None:
    # A projection lies on the sphere up to rounding, often a unit in the last place beyond λ; it must be accepted.
    reg = L2(0.3)
    beyond = 0
    for _ in range(200):
        p = reg.project(rng.standard_normal(dim))
        beyond += bool(norms(p) > reg.lam)
        np.testing.assert_array_equal(reg.preimage(np.ones(dim), p), np.ones(dim))
    assert beyond > 0 or dim == 1


@pytest.mark.parametrize(
    ("reg", "g"),
    [
        (L2(1.0), [1.0 + 1e-12, 0.0]),
        (L2(1.0), [np.nan, 0.0]),
        (L2(1.0), [np.inf, 0.0]),
        (SmoothL2(1.0), [1.0, 0.0]),
        (SmoothL2(1.0), [2.0, 0.0]),
        (SmoothL2(1.0), [np.nan, 0.0]),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_an_implausible_gradient_has_no_preimage(reg: L2 | SmoothL2, g: list[float]) -> None:
    with pytest.raises(AssumptionError, match="lem3_gradient_to_model"):
        reg.preimage(np.zeros(2), np.array(g))


@pytest.mark.parametrize("reg", [L2(1.0), SmoothL2(1.0)], ids=str)
def test_one_implausible_gradient_among_plausible_ones_is_refused(reg: L2 | SmoothL2) -> None:
    with pytest.raises(AssumptionError, match=r"found ‖g‖ = 2\.0 with"):
        reg.preimage(np.zeros(2), np.array([[0.5, 0.0], [0.0, 2.0], [0.0, 0.0]]))


@pytest.mark.parametrize("reg_type", REGULARIZERS, ids=lambda reg_type: reg_type.__name__)
def test_gradients_fill_the_set(reg_type: type[Any]) -> None:
    # GRAD(ρ) is the closure of all gradients, so it is no larger than they reach: some gradient is within 1e-6 of λ.
    reg = reg_type(2.0)
    reached = float(np.linalg.norm(reg.gradient(np.array([1e7, 0.0]), np.zeros(2))))
    limit = 4e7 if reg_type is SquaredL2 else 2.0
    assert reached == pytest.approx(limit, rel=1e-6)
