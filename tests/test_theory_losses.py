"""phi, dphi and d2phi against the printed formulas in 50-digit arithmetic, and the local loss of eq. 5.

The second route writes each φ once more in mpmath and differentiates that numerically with 50 digits, so the only
error left is the rounding of float64, which is what the tolerances bound.
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
from theory import LeastSquares, Logistic, Loss, Multinomial
from theory.losses import local_gradient, local_hessian, local_loss, margins

EPS = float(np.finfo(np.float64).eps)
DIGITS = 50
# Below the normal range, rounding is absolute; and a numerical derivative with 50 digits is good for 45 of them.
TINY = float(np.finfo(np.float64).tiny)
DIFFERENCING = 1e-45


def phi_in_mpmath(loss: Loss, m: list[Any], a: list[Any]) -> Any:
    """φ of one data point, from the paper; m and a have one entry, or K."""
    if isinstance(loss, LeastSquares):
        return (m[0] - a[0]) ** 2 / 2
    if isinstance(loss, Logistic):
        return -mp.log(1 / (1 + mp.exp(-a[0] * m[0])))
    largest = max(m)
    # Eq. 186 with rows that sum to 1 up to rounding.
    return mp.fsum(a) * (largest + mp.log(mp.fsum(mp.exp(x - largest) for x in m))) - mp.fdot(a, m)


def rows(loss: Loss, values: np.ndarray) -> list[list[Any]]:
    """The rows of margins or encoded answers as exact mpmath numbers."""
    return [[mp.mpf(float(x)) for x in np.atleast_1d(row)] for row in values]


def derivative(loss: Loss, m: list[Any], a: list[Any], orders: tuple[int, ...]) -> Any:
    return mp.diff(lambda *x: phi_in_mpmath(loss, list(x), a), tuple(m), orders)


def unit(size: int, *axes: int) -> tuple[int, ...]:
    return tuple(axes.count(k) for k in range(size))


def value_tolerance(loss: Loss, m: list[Any], a: list[Any], value: Any) -> float:
    if isinstance(loss, Multinomial):
        # ln Σ exp is rounded at the size of the largest margin, and Σ a_k m_k at that of its terms.
        return (loss.n_classes + 8) * EPS * (float(max(abs(x) for x in m)) + np.log(loss.n_classes))
    # No cancellation beyond m - a itself, which is rounded once: relative accuracy.
    return 8 * EPS * abs(float(value)) + TINY


def slope_tolerance(loss: Loss, m: list[Any], value: Any) -> float:
    if isinstance(loss, Multinomial):
        # m_k - max m is rounded at the size of the spread, which moves p_k by that much times p_k.
        spread = float(max(m) - min(m))
        return (loss.n_classes + 8) * EPS * (1.0 + spread)
    return 8 * EPS * abs(float(value)) + DIFFERENCING


def check_values(loss: Loss) -> None:
    @given(st.data())
    def attack(data: st.DataObject) -> None:
        m = data.draw(strategies.margins(loss, 2))
        a = loss.encode(data.draw(strategies.answers(loss, 2)), "A")
        found = loss.phi(m, a)
        assert found.shape == (2,)
        with mp.workdps(DIGITS):
            for i, (m_i, a_i) in enumerate(zip(rows(loss, m), rows(loss, a), strict=True)):
                exact = phi_in_mpmath(loss, m_i, a_i)
                assert abs(float(exact - float(found[i]))) <= value_tolerance(loss, m_i, a_i, exact)

    attack()


def check_slopes(loss: Loss) -> None:
    @given(st.data())
    def attack(data: st.DataObject) -> None:
        m = data.draw(strategies.margins(loss, 1))
        a = loss.encode(data.draw(strategies.answers(loss, 1)), "A")
        K = loss.n_outputs
        found = loss.dphi(m, a)
        assert found.shape == m.shape
        with mp.workdps(DIGITS):
            m_0, a_0 = rows(loss, m)[0], rows(loss, a)[0]
            for k, slope in enumerate(np.atleast_1d(found[0])):
                exact = derivative(loss, m_0, a_0, unit(K, k))
                assert abs(float(exact - float(slope))) <= slope_tolerance(loss, m_0, exact)

    attack()


def check_curvatures(loss: Loss) -> None:
    @given(st.data())
    def attack(data: st.DataObject) -> None:
        m = data.draw(strategies.margins(loss, 1))
        a = loss.encode(data.draw(strategies.answers(loss, 1)), "A")
        K = loss.n_outputs
        found = loss.d2phi(m, a)
        assert found.shape == ((1,) if K == 1 else (1, K, K))
        with mp.workdps(DIGITS):
            m_0, a_0 = rows(loss, m)[0], rows(loss, a)[0]
            for j, row in enumerate(np.atleast_2d(found[0])):
                for k, curvature in enumerate(row):
                    exact = derivative(loss, m_0, a_0, unit(K, j, k))
                    assert abs(float(exact - float(curvature))) <= slope_tolerance(loss, m_0, exact)

    attack()


CHECKS: list[Callable[[Loss], None]] = [check_values, check_slopes, check_curvatures]
LOSSES: list[Loss] = [LeastSquares(), Logistic(), Multinomial(2), Multinomial(4)]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: f"{loss.name}{loss.n_outputs}")
def test_agrees_with_the_printed_formula(check: Callable[[Loss], None], loss: Loss) -> None:
    check(loss)


class WithoutHalf(LeastSquares):
    def phi(self, m, a):
        return (m - a) ** 2

    def dphi(self, m, a):
        return 2.0 * (m - a)

    def d2phi(self, m, a):
        return 2.0 * np.ones_like(m)


class WrongSign(Logistic):
    def phi(self, m, a):
        return np.logaddexp(0.0, a * m)

    def dphi(self, m, a):
        return super().dphi(m, -a)

    def d2phi(self, m, a):
        return -super().d2phi(m, a)


class Overflowing(Logistic):
    def phi(self, m, a):
        return -np.log(1.0 - 1.0 / (1.0 + np.exp(a * m)))

    def dphi(self, m, a):
        return -a * (1.0 - 1.0 / (1.0 + np.exp(-a * m)))

    def d2phi(self, m, a):
        p = 1.0 / (1.0 + np.exp(-m))
        return p * (1.0 - p)


class SlightlyOff(LeastSquares):
    factor = 1.0 + 1e-14

    def phi(self, m, a):
        return self.factor * super().phi(m, a)

    def dphi(self, m, a):
        return self.factor * super().dphi(m, a)

    def d2phi(self, m, a):
        return self.factor * super().d2phi(m, a)


class WithoutPartition(Multinomial):
    def phi(self, m, a):
        return np.max(m, axis=1) - np.sum(a * m, axis=1)

    def dphi(self, m, a):
        return -a

    def d2phi(self, m, a):
        p = super().dphi(m, a) + a
        return np.einsum("ik,kl->ikl", p, np.eye(self.n_outputs))


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "mutant",
    [WithoutHalf(), WrongSign(), Overflowing(), SlightlyOff(), WithoutPartition(3)],
    ids=lambda m: type(m).__name__,
)
def test_a_wrong_formula_is_caught(check: Callable[[Loss], None], mutant: Loss) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: f"{loss.name}{loss.n_outputs}")
def test_extreme_margins_are_finite(loss: Loss) -> None:
    # exp(1e4) overflows: a formula that is not guarded returns inf or NaN, or warns, which is an error here.
    m = np.array([1e4, -1e4, 0.0]) if loss.n_outputs == 1 else np.vstack([np.eye(3, loss.n_outputs) * 1e4])
    a = loss.encode(np.array([1.0, 1.0, 1.0]), "A")
    for found in (loss.phi(m, a), loss.dphi(m, a), loss.d2phi(m, a)):
        assert np.isfinite(found).all()


def test_logistic_is_multinomial_with_two_classes() -> None:
    m = np.linspace(-30.0, 30.0, 61)
    binary, two = Logistic(), Multinomial(2)
    a = np.where(np.arange(m.size) % 2 == 0, 1.0, -1.0)
    both = np.column_stack([np.zeros_like(m), m])
    encoded = two.encode((a + 1.0) / 2.0, "A")
    np.testing.assert_allclose(two.phi(both, encoded), binary.phi(m, a), rtol=0, atol=10 * EPS * 31)
    np.testing.assert_allclose(two.dphi(both, encoded)[:, 1], binary.dphi(m, a), rtol=0, atol=10 * EPS * 31)


def test_multinomial_does_not_change_under_a_common_shift(rng: np.random.Generator) -> None:
    # Label probabilities sum to 1 only up to rounding; the loss must not slope along the shift all the same.
    loss = Multinomial(3)
    a = loss.encode(rng.dirichlet(np.ones(3), size=50), "A")
    slope = loss.dphi(rng.standard_normal((50, 3)), a)
    assert np.max(np.abs(slope.sum(axis=1))) <= 8 * EPS


def test_label_probabilities_of_a_class_are_its_id() -> None:
    loss = Multinomial(3)
    np.testing.assert_array_equal(loss.encode(np.array([2.0, 0.0]), "A"), loss.encode(np.eye(3)[[2, 0]], "A"))


@given(st.data())
def test_local_loss_is_a_sum_over_the_data(data: st.DataObject) -> None:
    # Appendix E: a mean over the data would make the second user of a doubled dataset no stronger.
    loss = data.draw(strategies.losses())
    user = data.draw(strategies.datasets(loss, 2))
    nu, theta = data.draw(strategies.nus()), data.draw(strategies.vectors(2 * loss.n_outputs, 10.0))
    a = loss.encode(user.A, "A") if user.n_data else np.zeros(strategies.margin_shapes(loss, 0))
    terms = [float(loss.phi(margins(theta, user.Q[i : i + 1], loss.n_outputs), a[i : i + 1])[0]) for i in range(len(a))]
    expected = nu * sum(x * x for x in theta.tolist()) + sum(terms)
    size = nu * float(theta @ theta) + sum(map(abs, terms))
    # A sum of at most n terms of one sign, in any order, errs by n ε times its value; margins by dgemv or dgemm
    # differ by ε times the sum of the sizes, which the slope of φ carries over.
    slope = np.abs(loss.dphi(margins(theta, user.Q, loss.n_outputs), a)).sum() if len(a) else 0.0
    assert abs(local_loss(theta, user.Q, a, loss, nu) - expected) <= 20 * EPS * (size + slope * 200.0)


def in_mpmath(loss: Loss, Q: np.ndarray, a: np.ndarray, nu: float, theta: list[Any]) -> Any:
    d, K = Q.shape[1], loss.n_outputs
    total = mp.mpf(nu) * mp.fdot(theta, theta)
    for q, a_i in zip(Q.tolist(), rows(loss, a), strict=True):
        m = [mp.fdot(theta[k * d : (k + 1) * d], [mp.mpf(x) for x in q]) for k in range(K)]
        total += phi_in_mpmath(loss, m, a_i)
    return total


@pytest.mark.parametrize("loss", [LeastSquares(), Logistic(), Multinomial(3)], ids=lambda loss: loss.name)
@pytest.mark.parametrize("n_data", [0, 1, 4])
def test_gradient_and_hessian_are_derivatives(loss: Loss, n_data: int, rng: np.random.Generator) -> None:
    nu, d = 0.3, 2
    Q = rng.standard_normal((n_data, d))
    a = loss.encode(rng.integers(0, 2, n_data) * 2.0 - 1.0 if loss.n_outputs == 1 else rng.integers(0, 3, n_data), "A")
    a = a.reshape(strategies.margin_shapes(loss, n_data))
    theta = rng.standard_normal(d * loss.n_outputs)
    gradient, hessian = local_gradient(theta, Q, a, loss, nu), local_hessian(theta, Q, a, loss, nu)
    # Entries of size 1 and at most 4 data: a few dozen roundings of ε, and nothing else.
    tolerance = 100 * EPS
    with mp.workdps(DIGITS):
        point = tuple(mp.mpf(x) for x in theta.tolist())
        for j in range(theta.size):
            exact = mp.diff(lambda *x: in_mpmath(loss, Q, a, nu, list(x)), point, unit(theta.size, j))
            assert abs(float(exact - float(gradient[j]))) <= tolerance
            for k in range(j, theta.size):
                exact = mp.diff(lambda *x: in_mpmath(loss, Q, a, nu, list(x)), point, unit(theta.size, j, k))
                assert abs(float(exact - float(hessian[j, k]))) <= tolerance
                assert abs(hessian[j, k] - hessian[k, j]) <= tolerance
