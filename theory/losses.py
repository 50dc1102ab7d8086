r"""Losses per input and the local loss of a user (eq. 5).

A loss is a function of the *margin* :math:`m = Q\theta` and of the answer, so that for one data point

.. math:: \ell(\theta, (Q, A)) = \varphi(Q^T\theta, A).

===================  =====================================  =======================================
loss                 :math:`\varphi(m, a)`                  answers
===================  =====================================  =======================================
:class:`LeastSquares`  :math:`\frac12 (m - a)^2`             real numbers
:class:`Logistic`      :math:`-\ln\sigma(a m)`               -1 or +1
:class:`Multinomial`   :math:`\ln\sum_k e^{m_k} - \sum_k a_k m_k`  class ids 0..K-1, or label probabilities
===================  =====================================  =======================================

and the local loss of a user is a **sum** over the data (Appendix E explains why it is not a mean):

.. math:: \mathcal L(\theta, \mathcal D) = \nu\|\theta\|_2^2 + \sum_i \varphi(Q_i^T\theta, A_i).  \tag{5}

A K-class model is a flattened (K, d) matrix, and its margin is a row of K numbers.

A loss of your own needs ``name``, ``n_outputs``, ``encode``, ``phi``, ``dphi`` and ``d2phi`` (see :class:`Loss`);
``dphi`` must be the derivative of a convex ``phi``.  Source: Theorems 2 and 3, eq. 5 (``eq5_local_loss``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from scipy.special import expit, logsumexp, softmax

from theory.arrays import Array, as_count, as_matrix, as_vector, dimensions, frozen
from theory.errors import ShapeError


@runtime_checkable
class Loss(Protocol):
    r"""What :class:`theory.Problem` asks of a loss per input.

    ``phi``, ``dphi`` and ``d2phi`` are vectorized over data points.  With one output, margins and answers have
    shape (ℐ,) and so have the results.  With K > 1 outputs, margins and answers have shape (ℐ, K), ``phi`` returns
    (ℐ,), ``dphi`` (ℐ, K) and ``d2phi`` (ℐ, K, K).
    """

    @property
    def name(self) -> str:
        """A short name."""
        ...

    @property
    def n_outputs(self) -> int:
        """Margins per data point: 1, or the number of classes K."""
        ...

    def encode(self, A: Array, name: str) -> Array:
        """Check the answers of one user and return them as ``phi`` takes them."""
        ...

    def phi(self, m: Array, a: Array) -> Array:
        """Loss of each data point."""
        ...

    def dphi(self, m: Array, a: Array) -> Array:
        """Derivative in the margin."""
        ...

    def d2phi(self, m: Array, a: Array) -> Array:
        """Second derivative in the margin."""
        ...


@dataclass(frozen=True)
class LeastSquares:
    r"""Least squares, :math:`\varphi(m, a) = \frac12(m - a)^2` (Theorem 2).

    Examples
    --------
    >>> LeastSquares().phi(np.array([3.0]), np.array([1.0]))
    array([2.])
    """

    name = "least_squares"
    n_outputs = 1

    def encode(self, A: Array, name: str) -> Array:
        """Answers are any real numbers, shape (ℐ,)."""
        return as_vector(A, name)

    def phi(self, m: Array, a: Array) -> Array:
        """Return :math:`(m - a)^2 / 2`."""
        return 0.5 * (m - a) ** 2

    def dphi(self, m: Array, a: Array) -> Array:
        """Return :math:`m - a`."""
        return m - a

    def d2phi(self, m: Array, a: Array) -> Array:
        """Return 1 for every data point."""
        return np.ones_like(m)


@dataclass(frozen=True)
class Logistic:
    r"""Binary logistic regression, :math:`\varphi(m, a) = -\ln\sigma(a m)`, answers -1 and +1 (Theorem 3).

    Examples
    --------
    >>> bool(np.isclose(Logistic().phi(np.array([0.0]), np.array([1.0]))[0], np.log(2.0)))
    True
    """

    name = "logistic"
    n_outputs = 1

    def encode(self, A: Array, name: str) -> Array:
        """Answers are -1 or +1, shape (ℐ,)."""
        answers = as_vector(A, name)
        unknown = (answers != 1.0) & (answers != -1.0)
        if unknown.any():
            i = int(np.argmax(unknown))
            raise ShapeError(name, "labels in {-1, +1}", f"{answers[i]} at index {i}")
        return answers

    def phi(self, m: Array, a: Array) -> Array:
        """Return :math:`\\ln(1 + e^{-am})`, without overflow."""
        return np.logaddexp(0.0, -a * m)

    def dphi(self, m: Array, a: Array) -> Array:
        """Return :math:`-a\\,\\sigma(-am)`."""
        return -a * expit(-a * m)

    def d2phi(self, m: Array, a: Array) -> Array:
        """Return :math:`\\sigma(m)\\sigma(-m)`."""
        return expit(m) * expit(-m)


@dataclass(frozen=True)
class Multinomial:
    r"""K-class logistic regression, :math:`\varphi(m, a) = \ln\sum_k e^{m_k} - \sum_k a_k m_k`.

    The answers are class ids 0..K-1, or label probabilities of shape (ℐ, K) whose rows sum to 1 (eq. 186).

    Parameters
    ----------
    n_classes : int
        K >= 2.

    Examples
    --------
    >>> Multinomial(3).encode(np.array([2.0]), "A")
    array([[0., 0., 1.]])
    """

    n_classes: int

    name = "multinomial"
    # Row sums of label probabilities are compared with 1 up to the rounding of summing K floats.
    _SUM_TOLERANCE = 1e-9

    def __post_init__(self) -> None:
        # A Python int: the largest label + 1 is often a uint8, of which K·d would overflow.
        object.__setattr__(self, "n_classes", as_count(self.n_classes, "n_classes", minimum=2))

    @property
    def n_outputs(self) -> int:
        """The number of classes K."""
        return self.n_classes

    def encode(self, A: Array, name: str) -> Array:
        """Return label probabilities of shape (ℐ, K); class ids become one-hot rows."""
        if dimensions(A) == 2:
            return self._check_probabilities(as_matrix(A, name, columns=self.n_classes), name)
        ids = as_vector(A, name)
        wrong = (ids != np.floor(ids)) | (ids < 0) | (ids >= self.n_classes)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise ShapeError(name, f"class ids in 0..{self.n_classes - 1}", f"{ids[i]} at index {i}")
        one_hot = np.zeros((ids.size, self.n_classes))
        one_hot[np.arange(ids.size), ids.astype(np.intp)] = 1.0
        return frozen(one_hot)

    def _check_probabilities(self, probabilities: Array, name: str) -> Array:
        wrong = (probabilities < 0).any(axis=1) | (np.abs(probabilities.sum(axis=1) - 1.0) > self._SUM_TOLERANCE)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise ShapeError(name, "rows that are probabilities (>= 0, sum 1)", f"{probabilities[i]} at row {i}")
        return probabilities

    def phi(self, m: Array, a: Array) -> Array:
        """Return the cross-entropy of each row, shape (ℐ,)."""
        # Rows of label probabilities sum to 1 only up to rounding; weighing the log-partition by that sum keeps
        # phi and dphi consistent and the loss exactly invariant under a shift of all margins.
        return a.sum(axis=1) * logsumexp(m, axis=1) - np.sum(a * m, axis=1)

    def dphi(self, m: Array, a: Array) -> Array:
        """Return softmax(m) - a, shape (ℐ, K)."""
        return a.sum(axis=1, keepdims=True) * softmax(m, axis=1) - a

    def d2phi(self, m: Array, a: Array) -> Array:
        """Return diag(p) - p pᵀ with p = softmax(m), shape (ℐ, K, K)."""
        p = softmax(m, axis=1)
        hessian = -p[:, :, None] * p[:, None, :]
        k = np.arange(self.n_classes)
        hessian[:, k, k] += p
        return a.sum(axis=1)[:, None, None] * hessian


def margins(theta: Array, Q: Array, n_outputs: int) -> Array:
    """Return :math:`Q\\theta`: shape (ℐ,) with one output, (ℐ, K) with K."""
    if n_outputs == 1:
        return Q @ theta
    return Q @ theta.reshape(n_outputs, Q.shape[1]).T


def local_loss(theta: Array, Q: Array, a: Array, loss: Loss, nu: float) -> float:
    r"""Return :math:`\nu\|\theta\|^2 + \sum_i\varphi(Q_i^T\theta, a_i)` (eq. 5).

    Parameters
    ----------
    theta : (P,)
    Q : (ℐ, d)
    a : encoded answers, as :meth:`Loss.encode` returns them
    loss : Loss
    nu : float, >= 0

    Examples
    --------
    >>> local_loss(np.array([1.0]), np.array([[2.0]]), np.array([1.0]), LeastSquares(), 0.5)
    1.0
    """
    return float(nu * (theta @ theta) + np.sum(loss.phi(margins(theta, Q, loss.n_outputs), a)))


def local_gradient(theta: Array, Q: Array, a: Array, loss: Loss, nu: float) -> Array:
    r"""Return :math:`\nabla_\theta` of :func:`local_loss`, shape (P,)."""
    slope = loss.dphi(margins(theta, Q, loss.n_outputs), a)
    data_part = Q.T @ slope if loss.n_outputs == 1 else (slope.T @ Q).ravel()
    return 2.0 * nu * theta + data_part


def local_hessian(theta: Array, Q: Array, a: Array, loss: Loss, nu: float) -> Array:
    r"""Return :math:`\nabla^2_\theta` of :func:`local_loss`, shape (P, P)."""
    curvature = loss.d2phi(margins(theta, Q, loss.n_outputs), a)
    if loss.n_outputs == 1:
        data_part = (Q.T * curvature) @ Q
    else:
        size = loss.n_outputs * Q.shape[1]
        data_part = np.einsum("ikl,ia,ib->kalb", curvature, Q, Q, optimize=True).reshape(size, size)
    return data_part + 2.0 * nu * np.eye(theta.size)
