r"""The global loss (eq. 1) and its two views: a reported model (eq. 2) and a reported gradient (eq. 48).

.. math:: \mathrm{Loss}(\rho, \vec\theta, \vec{\mathcal D})
          = \sum_n \mathcal L_n(\theta_n, \mathcal D_n) + \sum_n \mathcal R(\rho, \theta_n).  \tag{1}

* :meth:`Problem.pin`  -- Loss_s (eq. 2): user s reports the fixed model θ_s♠; its data are dropped.  The row s of
  ``thetas`` stays and must equal θ_s♠.
* :meth:`Problem.tilt` -- Loss¹_s (eq. 48): user s reports the constant gradient g; its local loss and its
  regularization are dropped and :math:`\rho^T g` is added.  There is no θ_s, so ``thetas`` has one row less.
* :meth:`Problem.without` -- user s is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from theory.arrays import Array, as_index, as_matrix, as_nonnegative, as_vector, frozen
from theory.data import UserDataset
from theory.errors import AssumptionError, ShapeError
from theory.losses import Loss, local_gradient, local_loss
from theory.regularizers import Regularizer


@dataclass(frozen=True, eq=False)
class Stack:
    """The data of all users in one block: user n holds the rows ``start[n]:stop[n]``.

    ``labels`` are encoded by the loss: shape (rows,) or (rows, K).  Users of a :class:`Problem` are views into it.
    """

    Q: Array
    labels: Array
    start: np.ndarray
    stop: np.ndarray

    def user(self, n: int) -> tuple[Array, Array]:
        """Return queries and encoded answers of user ``n``."""
        rows = slice(int(self.start[n]), int(self.stop[n]))
        return self.Q[rows], self.labels[rows]

    def take(self, keep: np.ndarray) -> Stack:
        """Return the users ``keep``, without copying any data."""
        return replace(self, start=self.start[keep], stop=self.stop[keep])


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Problem:
    r"""A personalized federated learning problem (eq. 1).

    Parameters
    ----------
    users : iterable of UserDataset
        At least one user; all with the same dimension d.  The data are copied into one block unless they already
        are one.
    loss : Loss
        :class:`theory.LeastSquares`, :class:`theory.Logistic`, :class:`theory.Multinomial` or your own.
    reg : Regularizer
        :class:`theory.SquaredL2`, :class:`theory.L2`, :class:`theory.SmoothL2` or your own.
    nu : float, >= 0
        The weight ν of :math:`\nu\|\theta_n\|^2`.  With ν = 0 a minimum need not exist.

    Attributes
    ----------
    n_users, dim, query_dim : int
        N, the number P of parameters of a model, and the dimension d of a query.
    pinned : mapping from int to (P,) array
        Reported models (eq. 2).
    slope : (P,) array
        The sum of the constant gradients reported (eq. 48); zero if there are none.

    Raises
    ------
    ShapeError, AssumptionError
        Naming the argument: no users, dimensions that differ, labels outside the loss's set, ν < 0.

    Examples
    --------
    >>> from theory import LeastSquares, SquaredL2
    >>> problem = Problem([UserDataset([[1.0]], [2.0]), UserDataset.empty(1)], LeastSquares(), SquaredL2(1.0), nu=0.5)
    >>> problem.value(np.zeros(1), np.zeros((2, 1)))
    2.0
    """

    users: tuple[UserDataset, ...]
    loss: Loss
    reg: Regularizer
    nu: float
    stack: Stack
    pinned: Mapping[int, Array]
    slope: Array

    def __init__(self, users: Iterable[UserDataset], loss: Loss, reg: Regularizer, nu: float = 0.0) -> None:
        if isinstance(loss, type) or not isinstance(loss, Loss):
            raise ShapeError("loss", "an object with name, n_outputs, encode, phi, dphi, d2phi", repr(loss))
        _check_regularizer(reg)
        members = _check_users(users)
        stack = _stack_users(members, loss)
        if stack.Q is not members[0].Q:
            members = tuple(
                UserDataset(stack.Q[a:b], user.A) for user, a, b in zip(members, stack.start, stack.stop, strict=True)
            )
        dim = loss.n_outputs * members[0].dim
        self._set(
            users=members,
            loss=loss,
            reg=reg,
            nu=as_nonnegative(nu, "nu", "eq5_local_loss"),
            stack=stack,
            pinned=MappingProxyType({}),
            slope=frozen(np.zeros(dim)),
        )

    def _set(self, **fields: Any) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def _derive(self, **changes: Any) -> Problem:
        """Return this problem with some fields replaced; the others were checked when it was made."""
        derived = object.__new__(Problem)
        names = ("users", "loss", "reg", "nu", "stack", "pinned", "slope")
        derived._set(**{name: changes.get(name, getattr(self, name)) for name in names})
        return derived

    def __repr__(self) -> str:
        # One line, however many users there are.
        sizes = f"n_users={self.n_users}, dim={self.dim}"
        return f"Problem({sizes}, loss={self.loss!r}, reg={self.reg!r}, nu={self.nu!r}, pinned={sorted(self.pinned)})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "pinned": dict(self.pinned)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Pickling (to send a problem to another process) loses that arrays are read-only, and that users are views.
        Q = frozen(state["stack"].Q)
        stack = Stack(Q, *(frozen(getattr(state["stack"], name)) for name in ("labels", "start", "stop")))
        pinned = MappingProxyType({s: frozen(model) for s, model in state["pinned"].items()})
        users = tuple(
            UserDataset(Q[a:b], user.A) for user, a, b in zip(state["users"], stack.start, stack.stop, strict=True)
        )
        self._set(**{**state, "users": users, "stack": stack, "pinned": pinned, "slope": frozen(state["slope"])})

    @property
    def n_users(self) -> int:
        """N, which counts every row of ``thetas``, a pinned user's too."""
        return len(self.users)

    @property
    def query_dim(self) -> int:
        """d, the dimension of a query."""
        return self.users[0].dim if self.users else self.slope.size // self.loss.n_outputs

    @property
    def dim(self) -> int:
        """P, the number of parameters of one model."""
        return self.slope.size

    @property
    def free(self) -> np.ndarray:
        """Boolean mask of the users whose local model is a variable (not pinned), shape (N,)."""
        mask = np.ones(self.n_users, dtype=bool)
        mask[list(self.pinned)] = False
        return mask

    def pin(self, s: int, reported_model: Any) -> Problem:
        r"""Return Loss_s (eq. 2): user ``s`` reports the model θ_s♠ whatever happens; its data are dropped.

        Examples
        --------
        >>> from theory import LeastSquares, L2
        >>> problem = Problem([UserDataset([[1.0]], [2.0])] * 2, LeastSquares(), L2(1.0)).pin(1, [7.0])
        >>> problem.users[1].n_data, float(problem.pinned[1][0])
        (0, 7.0)
        """
        s = as_index(s, "s", self.n_users)
        model = as_vector(reported_model, "reported_model", self.dim)
        users = list(self.users)
        users[s] = UserDataset.empty(self.query_dim)
        stop = self.stack.stop.copy()
        stop[s] = self.stack.start[s]
        return self._derive(
            users=tuple(users),
            stack=replace(self.stack, stop=stop),
            pinned=MappingProxyType({**self.pinned, s: model}),
        )

    def tilt(self, s: int, g: Any) -> Problem:
        r"""Return Loss¹_s (eq. 48): user ``s`` is dropped and :math:`\rho^T g` is added."""
        gradient = as_vector(g, "g", self.dim)
        return self.without(s)._derive(slope=frozen(self.slope + gradient))

    def without(self, s: int) -> Problem:
        """Return the problem of the other users; the later ones move up by one index."""
        s = as_index(s, "s", self.n_users)
        keep = np.flatnonzero(np.arange(self.n_users) != s)
        return self._derive(
            users=tuple(self.users[n] for n in keep),
            stack=self.stack.take(keep),
            pinned=MappingProxyType({n - (n > s): model for n, model in self.pinned.items() if n != s}),
        )

    def with_regularizer(self, reg: Regularizer, nu: float) -> Problem:
        """Return the same data, pins and slope with another regularizer and another ν."""
        _check_regularizer(reg)
        return self._derive(reg=reg, nu=as_nonnegative(nu, "nu", "eq5_local_loss"))

    def value(self, rho: Any, thetas: Any) -> float:
        """Return the loss at (ρ, θ).

        Parameters
        ----------
        rho : (P,) array_like
        thetas : (N, P) array_like
            Row s of a pinned user must be the model that it reports.
        """
        rho, thetas = self._check_point(rho, thetas)
        local = sum(local_loss(thetas[n], *self.stack.user(n), self.loss, self.nu) for n in range(self.n_users))
        return float(local + np.sum(self.reg.value(rho, thetas)) + rho @ self.slope)

    def gradient(self, rho: Any, thetas: Any) -> tuple[Array, Array]:
        r"""Return :math:`(\nabla_\rho, \nabla_{\vec\theta})` of the loss, shapes (P,) and (N, P).

        The row of a pinned user is zero: its model is not a variable.  At a kink of the regularizer this is one
        element of the subdifferential.
        """
        rho, thetas = self._check_point(rho, thetas)
        pull = self.reg.gradient(rho, thetas)
        gradients = np.zeros_like(thetas)
        for n in np.flatnonzero(self.free).tolist():
            gradients[n] = local_gradient(thetas[n], *self.stack.user(n), self.loss, self.nu) - pull[n]
        return pull.sum(axis=0) + self.slope, gradients

    def _check_point(self, rho: Any, thetas: Any) -> tuple[Array, Array]:
        rho = as_vector(rho, "rho", self.dim)
        thetas = as_matrix(thetas, "thetas", self.n_users, self.dim)
        for s, model in self.pinned.items():
            if not np.array_equal(thetas[s], model):
                raise AssumptionError(
                    "eq2_modified_loss",
                    f"thetas[{s}] differs from the reported model by {np.max(np.abs(thetas[s] - model))}",
                    "the row of a pinned user must be the model that it reports",
                )
        return rho, thetas


def _check_regularizer(reg: Regularizer) -> None:
    if isinstance(reg, type) or not isinstance(reg, Regularizer):
        raise ShapeError("reg", "an object with name, value, gradient, project", repr(reg))


def _check_users(users: Iterable[UserDataset]) -> tuple[UserDataset, ...]:
    try:
        iterator = iter(users)
    except TypeError:
        raise ShapeError("users", "a sequence of UserDataset", repr(users)) from None
    members = tuple(iterator)
    if not members:
        raise ShapeError("users", "at least one user", "none")
    for n, user in enumerate(members):
        if not isinstance(user, UserDataset):
            raise ShapeError(f"users[{n}]", "a UserDataset", type(user).__name__)
        if user.dim != members[0].dim:
            expected = f"queries of dimension {members[0].dim}, as users[0]"
            raise ShapeError(f"users[{n}]", expected, f"dimension {user.dim}")
    return members


def _stack_users(members: tuple[UserDataset, ...], loss: Loss) -> Stack:
    sizes = np.array([user.n_data for user in members], dtype=np.int64)
    stop = np.cumsum(sizes)
    if len(members) == 1:
        Q = members[0].Q
    else:
        Q = frozen(np.concatenate([user.Q for user in members], axis=0))
    encoded = [loss.encode(user.A, f"users[{n}].A") if user.n_data else None for n, user in enumerate(members)]
    shape = (int(stop[-1]),) if loss.n_outputs == 1 else (int(stop[-1]), loss.n_outputs)
    labels = np.empty(shape)
    for answers, b, size in zip(encoded, stop, sizes, strict=True):
        if answers is not None:
            labels[b - size : b] = answers
    return Stack(Q=Q, labels=frozen(labels), start=frozen(stop - sizes), stop=frozen(stop))
