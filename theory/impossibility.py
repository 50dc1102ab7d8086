r"""Byzantine learning (Definition 2), and two worlds that no learner can tell apart (Corollaries 1 and 2).

A learner achieves (F, N, C)-Byzantine learning if, for every set H of N - F honest users with preferred models
θ_h†, every ε, δ > 0 and enough data, with probability 1 - δ and *whatever the other F users provide*,

.. math:: \|\rho - \overline{\theta_H^\dagger}\|^2 \le C^2\max_{h,h'\in H}\|\theta_h^\dagger-\theta_{h'}^\dagger\|^2
          + \varepsilon.  \tag{4}

Both proofs give N data sets that are honest for N - F users in two different ways.  The learner sees the data sets
alone, so its ρ is the same in both worlds, and (4) demands that it be in two balls at once.

**Corollary 1** (F >= N/2, any C).  Half of the users prefer -s·e, half +s·e (one user 0 if N is odd).  N - F users of
the first half are honest in world 0, N - F of the second in world 1.  Honest users agree, so (4) asks for
‖ρ + s·e‖ <= √ε and ‖ρ - s·e‖ <= √ε, which √ε < s excludes.

**Corollary 2** (F < N/2, C < F/(N - F)).  N - F users prefer 0, F users s·e.  In world 0 the former are honest:
‖ρ‖ <= √ε.  In world 1 the last N - F users are honest; F of them prefer s·e, so the mean is D·s·e with D = F/(N - F),
the diameter is s, and ‖ρ - D·s·e‖ <= √(C²s² + ε).  Both together need √ε + √(C²s² + ε) >= Ds, that is
√ε >= s(D² - C²)/(2D).  Any smaller ε is excluded: half of that √ε is used here.

(The paper's eq. 96 has ε where √ε is meant: world 0 gives |ρ| <= √ε.  The conclusion for ε → 0 is the same.)

How large the data sets are plays no part in the argument: for every number of data, the learner fails in one of the
worlds.  The data here are noiseless answers to the queries e_1, ..., e_d in turn (noise of parameter 0 is allowed by
Theorem 2), so that (4) is a statement without probability and anyone can check it.

Source: Definition 2 (``def2_byzantine``), Corollaries 1 and 2, Appendix D.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from theory.arrays import Array, as_count, as_nonnegative, as_positive, frozen
from theory.data import UserDataset
from theory.errors import AssumptionError, ShapeError
from theory.learners import Learner

DEFINITION = "def2_byzantine"
COROLLARY_1 = "cor1_majority"
COROLLARY_2 = "cor2_heterogeneity"
# Two runs of a learner on the same data may differ by the rounding of its sums, not by more.
_REPEATABLE = 1e-9
_RUNS = 3

Honest = Callable[[Array, int], UserDataset]


@dataclass(frozen=True, eq=False)
class World:
    """Who is honest, and with which preferred models.

    Attributes
    ----------
    honest : tuple of int
        H, the honest users.
    models : (len(honest), d) array
        Their preferred models θ_h†.
    """

    honest: tuple[int, ...]
    models: Array

    @property
    def mean(self) -> Array:
        """The mean of the honest models, which ρ is compared with."""
        return np.mean(self.models, axis=0)

    @property
    def diameter(self) -> float:
        """max ‖θ_h† - θ_h'†‖ over the honest users."""
        return diameter(self.models)

    def error(self, rho: Array) -> float:
        """Return ‖ρ - mean‖."""
        return float(np.linalg.norm(rho - self.mean))

    def allowed(self, C: float, epsilon: float) -> float:
        """Return √(C²·diameter² + ε), the largest error that (4) allows."""
        return math.sqrt((C * self.diameter) ** 2 + epsilon)


@dataclass(frozen=True, eq=False)
class Refutation:
    """Two worlds with the same data, in one of which the learner breaks (4).

    Attributes
    ----------
    statement : str
        Which corollary.
    n_attackers, n_users : int
        F and N.
    C, epsilon : float
    users : tuple of UserDataset
        What the learner was given, in both worlds.
    worlds : tuple of two World
    rho : (d,) array
        What it returned.
    failing : int
        The world in which it fails (by the larger margin, if in both).
    """

    statement: str
    n_attackers: int
    n_users: int
    C: float
    epsilon: float
    users: tuple[UserDataset, ...]
    worlds: tuple[World, World]
    rho: Array
    failing: int

    @property
    def errors(self) -> tuple[float, float]:
        """‖ρ - mean‖ in each world."""
        return self.worlds[0].error(self.rho), self.worlds[1].error(self.rho)

    @property
    def allowed(self) -> tuple[float, float]:
        """The largest error that (4) allows in each world."""
        return self.worlds[0].allowed(self.C, self.epsilon), self.worlds[1].allowed(self.C, self.epsilon)

    @property
    def failing_world(self) -> World:
        """The world in which the learner breaks (4)."""
        return self.worlds[self.failing]

    @property
    def forced_error(self) -> float:
        """The learner's error in the world in which it fails."""
        return self.errors[self.failing]

    @property
    def unavoidable_excess(self) -> float:
        """Every learner exceeds what is allowed by this much in one world at least: half the balls' distance."""
        gap = float(np.linalg.norm(self.worlds[0].mean - self.worlds[1].mean))
        return 0.5 * (gap - sum(self.allowed))

    def verify(self, learner: Learner | None = None) -> bool:
        """Check all of it again: the data are honest in both worlds, and (4) fails in the one named.

        Parameters
        ----------
        learner : callable, optional
            Run it again, and compare its answer.

        Returns
        -------
        bool
            False if anything does not match.  Data with other queries than e_1, ..., e_d in turn, made by a ``honest``
            function of the caller's own, may be noisy: their honesty is not checked, only what the answer means.
        """
        n_honest = self.n_users - self.n_attackers
        if len(self.users) != self.n_users or not self.epsilon > 0 or not self.unavoidable_excess > 0:
            return False
        for world in self.worlds:
            distinct = set(world.honest) <= set(range(self.n_users)) and len(set(world.honest)) == len(world.honest)
            if not distinct or len(world.honest) != n_honest or world.models.shape != (n_honest, self.rho.size):
                return False
            if not all(self._is_consistent(n, model) for n, model in zip(world.honest, world.models, strict=True)):
                return False
        if learner is not None:
            rho = run_learner(learner, self.users, self.rho.size)
            if not _is_close(rho, self.rho):
                return False
        excess = [error - allowed for error, allowed in zip(self.errors, self.allowed, strict=True)]
        # The larger one is at least the unavoidable excess, which is > 0.
        return excess[self.failing] == max(excess)

    def _is_consistent(self, user: int, model: Array) -> bool:
        data = self.users[user]
        reference = noiseless_data(model, data.n_data)
        if data.Q.shape == reference.Q.shape and np.array_equal(data.Q, reference.Q):
            return bool(np.array_equal(data.A, reference.A))
        return True

    def __str__(self) -> str:
        return (
            f"{self.statement}: with F = {self.n_attackers} of N = {self.n_users} and C = {self.C:g}, the error is "
            f"{self.forced_error:.6g} in world {self.failing}, where {self.allowed[self.failing]:.6g} is allowed"
        )


def diameter(models: Array) -> float:
    """Return the largest distance between two rows.

    Examples
    --------
    >>> diameter(np.array([[0.0, 0.0], [3.0, 4.0]]))
    5.0
    """
    return float(np.max(np.linalg.norm(models[:, None, :] - models[None, :, :], axis=2)))


def noiseless_data(model: Array, n_data: int) -> UserDataset:
    """Return honest answers without noise to the queries e_1, ..., e_d, e_1, ... (``n_data`` of them).

    Examples
    --------
    >>> noiseless_data(np.array([2.0, 3.0]), 3).A
    array([2., 3., 2.])
    """
    which = np.arange(n_data) % model.size
    return UserDataset(np.eye(model.size)[which], model[which])


def least_constant(F: int, N: int) -> float:
    """Return the C below which no learner achieves (F, N, C)-Byzantine learning: F/(N - F), or ∞ for F >= N/2.

    Examples
    --------
    >>> least_constant(1, 4), least_constant(2, 4)
    (0.3333333333333333, inf)
    """
    F, N = _check_users(F, N)
    return math.inf if 2 * F >= N else F / (N - F)


def two_worlds(F: int, N: int, C: float, *, dim: int = 1, scale: float = 1.0) -> tuple[str, Array, World, World, float]:
    """Return the corollary, the models that all N users answer with (N, dim), the two worlds, and ε.

    Raises
    ------
    AssumptionError
        Neither corollary applies: F < N/2 and C >= F/(N - F).  Or ε, which grows with scale², overflows or vanishes.
    """
    F, N = _check_users(F, N)
    C = as_nonnegative(C, "C", DEFINITION)
    s = as_positive(scale, "scale", DEFINITION)
    n_honest = N - F
    models = np.zeros((N, as_count(dim, "dim", 1)))
    if 2 * F >= N:
        half = N // 2
        models[:half, 0], models[half : 2 * half, 0] = -s, s
        first, second = range(n_honest), range(half, half + n_honest)
        root, statement = 0.5 * s, COROLLARY_1
    else:
        D = F / n_honest
        if not C < D:
            raise AssumptionError(
                COROLLARY_2, f"F = {F}, N = {N}, C = {C}", f"no corollary excludes C >= F/(N - F) = {D:g} for F < N/2"
            )
        models[n_honest:, 0] = s
        first, second = range(n_honest), range(F, N)
        # (D - C)(D + C) keeps the digits where C is close to D.
        root, statement = s * (D - C) * (D + C) / (4.0 * D), COROLLARY_2
    epsilon = root * root
    if not 0.0 < epsilon < math.inf:
        raise AssumptionError(DEFINITION, f"scale = {s}", f"ε = {epsilon} is out of the range of floats")
    worlds = [World(tuple(h), frozen(models[list(h)])) for h in (first, second)]
    return statement, frozen(models), worlds[0], worlds[1], epsilon


def refute_byzantine(
    learner: Learner,
    F: int,
    N: int,
    C: float,
    *,
    dim: int = 1,
    n_data: int | None = None,
    scale: float = 1.0,
    honest: Honest | None = None,
) -> Refutation:
    r"""Return two worlds that ``learner`` cannot tell apart, and the one in which it is not (F, N, C)-Byzantine.

    Parameters
    ----------
    learner : callable
        From a list of N :class:`theory.UserDataset` to ρ, shape (dim,).  The data are read-only.
    F, N : int
        How many users are Byzantine, and how many there are; 1 <= F < N.
    C : float, >= 0
        For F < N/2 it must be below F/(N - F); for F >= N/2 any C is refuted.
    dim : int
        d; the models lie on the first axis.
    n_data : int, optional
        How many answers each user gives (50·dim).
    scale : float, > 0
        s, the size of the models.
    honest : callable, optional
        ``honest(model, user)`` makes the data of a user with that model, for learners that need other data (labels
        -1 and +1, say).  The refutation is then one for these data.

    Returns
    -------
    Refutation
        Its ``verify()`` checks it from the data alone.

    Raises
    ------
    AssumptionError
        F < N/2 and C >= F/(N - F), F = 0 or F >= N, C < 0; a learner that changes its input, or whose answers to the
        same data differ.
    ShapeError
        A learner whose answer has another shape than (dim,), or is not finite.

    Source: Corollaries 1 and 2, Appendix D.

    Examples
    --------
    >>> from theory.learners import Aggregation, CoordinateMedian
    >>> refutation = refute_byzantine(Aggregation(CoordinateMedian()), 1, 4, 0.2)
    >>> refutation.failing, round(refutation.forced_error, 6), refutation.verify()
    (1, 0.333333, True)
    """
    statement, models, first, second, epsilon = two_worlds(F, N, C, dim=dim, scale=scale)
    size = as_count(50 * dim if n_data is None else n_data, "n_data", 1)
    make = (lambda model, _: noiseless_data(model, size)) if honest is None else honest
    users = tuple(make(model, n) for n, model in enumerate(models))
    for n, user in enumerate(users):
        if not isinstance(user, UserDataset):
            raise ShapeError(f"honest(model, {n})", "a UserDataset", type(user).__name__)
    rho = run_learner(learner, users, dim)
    excess = [world.error(rho) - world.allowed(float(C), epsilon) for world in (first, second)]
    refutation = Refutation(
        statement=statement,
        n_attackers=int(F),
        n_users=int(N),
        C=float(C),
        epsilon=epsilon,
        users=users,
        worlds=(first, second),
        rho=frozen(np.array(rho)),
        failing=int(np.argmax(excess)),
    )
    if not excess[refutation.failing] > 0:
        raise AssumptionError(statement, f"C = {C}", "C is within rounding of F/(N - F): choose a smaller one")
    return refutation


def run_learner(learner: Learner, users: tuple[UserDataset, ...], dim: int | None = None) -> Array:
    """Call a learner on copies of the data, and check how it behaves and what it returns.

    ``dim`` is the size of the answer; by default it is that of the first user's queries.

    Raises
    ------
    ShapeError, AssumptionError
        As :func:`refute_byzantine` says.
    """
    if not callable(learner):
        raise ShapeError("learner", "a function from the users' data sets to a vector", type(learner).__name__)
    answers = [_run_once(learner, users, users[0].dim if dim is None else dim) for _ in range(_RUNS)]
    for answer in answers:
        if not _is_close(answer, answers[0]):
            raise AssumptionError(
                DEFINITION,
                f"answers {answers[0]} and {answer} to the same data",
                "the learner is random or keeps a state: give it a fixed seed on every call",
            )
    return answers[0]


def _run_once(learner: Learner, users: tuple[UserDataset, ...], dim: int) -> Array:
    given = [UserDataset(np.array(user.Q), np.array(user.A)) for user in users]
    seen = list(given)
    try:
        answer = learner(seen)
    except ValueError as error:
        if "read-only" in str(error):
            raise _changes_input(str(error)) from error
        raise
    if len(seen) != len(given) or any(a is not b for a, b in zip(seen, given, strict=True)):
        raise _changes_input("a changed list of users")
    for n, (mine, original) in enumerate(zip(given, users, strict=True)):
        if not (np.array_equal(mine.Q, original.Q) and np.array_equal(mine.A, original.A)):
            raise _changes_input(f"changed data of user {n}")
    try:
        rho = np.asarray(answer)
    except (ValueError, TypeError) as error:
        raise ShapeError(
            "learner(users)", f"an array of shape ({dim},)", f"{type(answer).__name__} ({error})"
        ) from None
    if rho.dtype.kind not in "fiub":
        raise ShapeError("learner(users)", f"an array of shape ({dim},) of real numbers", f"dtype {rho.dtype}")
    if rho.shape != (dim,):
        raise ShapeError("learner(users)", f"an array of shape ({dim},)", f"shape {rho.shape}")
    if not np.isfinite(rho).all():
        raise ShapeError("learner(users)", "finite entries", f"{rho}")
    return np.array(rho, dtype=np.float64)


def _changes_input(found: str) -> AssumptionError:
    return AssumptionError(DEFINITION, found, "the learner must not change its input: let it copy the data first")


def _is_close(first: Array, second: Array) -> bool:
    return bool(np.all(np.abs(first - second) <= _REPEATABLE * (1.0 + np.abs(first))))


def _check_users(F: Any, N: Any) -> tuple[int, int]:
    N = as_count(N, "N", 1)
    F = as_count(F, "F")
    if F >= N:
        raise AssumptionError(DEFINITION, f"F = {F}, N = {N}", "at least one user must be honest: F < N")
    return F, N
