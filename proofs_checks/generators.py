r"""Problems for checks and tests: a catalogue of corner cases, and random problems biased to the edges.

Each corner is a function ``(rng, loss, reg_type) -> Problem`` in :data:`CORNERS` (a minimum exists, by construction)
or :data:`NO_MINIMUM` (there is none, by construction).  Everything is drawn from the generator that is passed.

Examples
--------
>>> from theory import L2, Logistic
>>> CORNERS["one_user"](np.random.default_rng(0), Logistic(), L2).n_users
1
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from theory import (
    L2,
    LeastSquares,
    Logistic,
    Loss,
    Multinomial,
    Problem,
    SmoothL2,
    SquaredL2,
    UserDataset,
    honest_answers,
)
from theory.arrays import Array

RegularizerType = type[SquaredL2] | type[L2] | type[SmoothL2]
Corner = Callable[[np.random.Generator, Loss, RegularizerType], Problem]

LOSSES: tuple[Loss, ...] = (LeastSquares(), Logistic(), Multinomial(3))
REGULARIZERS: tuple[RegularizerType, ...] = (SquaredL2, L2, SmoothL2)
OUTLIER = 1e4


def random_answers(rng: np.random.Generator, loss: Loss, Q: Array) -> Array:
    """Answer each query honestly, for a standard Gaussian preferred model.

    Examples
    --------
    >>> random_answers(np.random.default_rng(0), Logistic(), np.ones((2, 1))).shape
    (2,)
    """
    return honest_answers(Q, rng.standard_normal(loss.n_outputs * Q.shape[1]), loss, rng)


def random_user(rng: np.random.Generator, loss: Loss, n_data: int, dim: int) -> UserDataset:
    """Return a user with Gaussian queries and honest answers; without data if ``n_data`` is 0."""
    if n_data == 0:
        return UserDataset.empty(dim)
    Q = rng.standard_normal((n_data, dim))
    return UserDataset(Q, random_answers(rng, loss, Q))


def random_probabilities(rng: np.random.Generator, n_rows: int, n_classes: int) -> Array:
    """Return rows of label probabilities, a third of them with zeros."""
    weights = rng.exponential(size=(n_rows, n_classes))
    weights[rng.random(n_rows) < 1.0 / 3.0, 0] = 0.0
    return weights / weights.sum(axis=1, keepdims=True)


def ambivalent_user(rng: np.random.Generator, loss: Loss, Q: Array) -> UserDataset:
    """Return a user who answers each query in every possible way, and once more honestly.

    No direction then fits all data better, so that with ν = 0 a minimum exists for every loss.
    """
    honest = random_answers(rng, loss, Q)
    every = undecided_user(loss, Q)
    return UserDataset(np.vstack([every.Q, Q]), np.concatenate([every.A, honest]))


def undecided_user(loss: Loss, Q: Array) -> UserDataset:
    """Return a user whose best model is 0: it answers each query once in every possible way, or with 0."""
    if isinstance(loss, LeastSquares):
        return UserDataset(Q, np.zeros(Q.shape[0]))
    labels = [-1.0, 1.0] if isinstance(loss, Logistic) else [float(k) for k in range(loss.n_outputs)]
    return UserDataset(np.vstack([Q] * len(labels)), np.repeat(labels, Q.shape[0]))


def random_problem(
    rng: np.random.Generator,
    loss: Loss,
    reg_type: RegularizerType,
    *,
    n_users: int = 4,
    dim: int = 3,
    n_data: int = 8,
    lam: float = 1.0,
    nu: float = 0.1,
) -> Problem:
    """Return a plain problem: every user has ``n_data`` Gaussian queries and its own preferred model."""
    return Problem([random_user(rng, loss, n_data, dim) for _ in range(n_users)], loss, reg_type(lam), nu)


def edge_biased_problem(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    """Return a random problem with a minimum, whose sizes, λ, ν and data are often at an edge."""
    n_users, dim = int(rng.choice([1, 2, 2, 3, 5])), int(rng.choice([1, 1, 2, 4]))
    lam = float(rng.choice([1e-3, 1e3, 10.0 ** rng.uniform(-3, 3)]))
    nu = float(rng.choice([1e-3, 1.0, 10.0 ** rng.uniform(-3, 1)]))
    users = [_edge_biased_user(rng, loss, int(rng.choice([0, 1, 3, 7])), dim) for _ in range(n_users)]
    if n_users > 1 and rng.random() < 0.25:
        users[1] = users[0]
    if rng.random() < 0.25:
        problem = tilted(rng, users, loss, reg_type(lam), nu)
    else:
        problem = Problem(users, loss, reg_type(lam), nu)
    if n_users > 1 and rng.random() < 0.25:
        problem = problem.pin(0, rng.standard_normal(problem.dim))
    return problem


def _edge_biased_user(rng: np.random.Generator, loss: Loss, n_data: int, dim: int) -> UserDataset:
    user = random_user(rng, loss, n_data, dim)
    Q, A = user.Q.copy(), user.A.copy()
    if n_data and rng.random() < 0.3:
        Q[0] = 0.0
    if n_data and rng.random() < 0.3:
        Q[:] = Q[-1]
    if n_data and isinstance(loss, LeastSquares) and rng.random() < 0.3:
        A[0] = OUTLIER
    return UserDataset(Q, A)


def tilted(
    rng: np.random.Generator, users: list[UserDataset], loss: Loss, reg: Any, nu: float, fraction: float = 0.4
) -> Problem:
    """Return the problem of ``users`` and of one more, who reports a constant gradient of norm ``fraction`` × λ.

    Below λ times the number of users a minimum exists under every regularizer, if ν > 0.
    """
    problem = Problem([*users, UserDataset.empty(users[0].dim)], loss, reg, nu)
    return problem.tilt(len(users), fraction * reg.lam * unit_vector(rng, problem.dim))


def unit_vector(rng: np.random.Generator, dim: int) -> Array:
    """Return a uniform direction."""
    direction = rng.standard_normal(dim)
    return direction / np.linalg.norm(direction)


def _plain(**sizes: Any) -> Corner:
    def corner(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
        return random_problem(rng, loss, reg_type, **sizes)

    return corner


def _users(rng: np.random.Generator, loss: Loss, sizes: list[int], dim: int) -> list[UserDataset]:
    return [random_user(rng, loss, n, dim) for n in sizes]


def _empty_users(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    return Problem(_users(rng, loss, [0, 6, 0, 6], 2), loss, reg_type(1.0), 0.1)


def _nobody_has_data(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    return Problem([UserDataset.empty(2)] * 3, loss, reg_type(1.0), 0.1)


def _duplicated_users(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    return Problem([random_user(rng, loss, 6, 2)] * 3, loss, reg_type(1.0), 0.1)


def _duplicated_data(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    users = [UserDataset(np.repeat(u.Q, 3, axis=0), np.repeat(u.A, 3)) for u in _users(rng, loss, [4, 4], 2)]
    return Problem(users, loss, reg_type(1.0), 0.1)


def _collinear_queries(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    direction = unit_vector(rng, 3)
    queries = [np.outer(rng.standard_normal(6), direction) for _ in range(3)]
    return Problem([UserDataset(Q, random_answers(rng, loss, Q)) for Q in queries], loss, reg_type(1.0), 0.1)


def _zero_queries(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    Q = np.zeros((4, 2))
    users = [UserDataset(Q, random_answers(rng, loss, Q)), random_user(rng, loss, 5, 2)]
    return Problem(users, loss, reg_type(1.0), 0.1)


def _intercept(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    queries = [np.column_stack([np.ones(8), rng.standard_normal((8, 2))]) for _ in range(3)]
    return Problem([UserDataset(Q, random_answers(rng, loss, Q)) for Q in queries], loss, reg_type(1.0), 0.1)


def _outliers(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    users = []
    for user in _users(rng, loss, [10, 10, 10], 3):
        Q, A = user.Q.copy(), user.A.copy()
        if isinstance(loss, LeastSquares):
            A[0] = OUTLIER * rng.choice([-1.0, 1.0])
        else:
            Q[0] *= OUTLIER
        users.append(UserDataset(Q, A))
    return Problem(users, loss, reg_type(1.0), 0.1)


def _nu_zero(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    users = [ambivalent_user(rng, loss, rng.standard_normal((6, 2))) for _ in range(3)]
    return Problem(users, loss, reg_type(1.0), 0.0)


def _nu_zero_and_a_user_without_data(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    users = [ambivalent_user(rng, loss, rng.standard_normal((6, 2))) for _ in range(2)]
    return Problem([*users, UserDataset.empty(2)], loss, reg_type(1.0), 0.0)


def _minimum_at_zero(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    users = [undecided_user(loss, rng.standard_normal((6, 2))) for _ in range(3)]
    return Problem(users, loss, reg_type(1.0), 0.1)


def _pinned(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    problem = random_problem(rng, loss, reg_type, n_users=3, dim=2)
    return problem.pin(1, rng.standard_normal(problem.dim))


def _two_users_one_pinned(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    # Under plain ℓ2, ρ* may be anywhere between the two models.
    problem = random_problem(rng, loss, reg_type, n_users=2, dim=2, lam=0.1)
    return problem.pin(0, 3.0 * unit_vector(rng, problem.dim))


def _pinned_far_away(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    problem = random_problem(rng, loss, reg_type, n_users=3, dim=2)
    return problem.pin(0, OUTLIER * unit_vector(rng, problem.dim))


def _all_but_one_pinned(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    problem = random_problem(rng, loss, reg_type, n_users=3, dim=2)
    return problem.pin(0, rng.standard_normal(problem.dim)).pin(2, rng.standard_normal(problem.dim))


def _all_pinned(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    problem = random_problem(rng, loss, reg_type, n_users=3, dim=2)
    for s in range(3):
        problem = problem.pin(s, rng.standard_normal(problem.dim))
    return problem


def _tilted(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    return tilted(rng, _users(rng, loss, [6, 6, 0], 2), loss, reg_type(1.0), 0.1)


def _pinned_and_tilted(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    problem = tilted(rng, _users(rng, loss, [6, 6, 6], 2), loss, reg_type(1.0), 0.1)
    return problem.pin(0, rng.standard_normal(problem.dim))


def _soft_labels(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    if not isinstance(loss, Multinomial):
        return random_problem(rng, loss, reg_type)
    users = [
        UserDataset(rng.standard_normal((6, 2)), random_probabilities(rng, 6, loss.n_classes)),
        random_user(rng, loss, 5, 2),
        UserDataset.empty(2),
    ]
    return Problem(users, loss, reg_type(1.0), 0.1)


CORNERS: dict[str, Corner] = {
    "plain": _plain(),
    "one_user": _plain(n_users=1),
    "two_users": _plain(n_users=2),
    "many_users": _plain(n_users=40, dim=2, n_data=3),
    "one_dimension": _plain(dim=1),
    "two_users_in_one_dimension": _plain(n_users=2, dim=1),
    "fewer_data_than_dimensions": _plain(dim=6, n_data=2),
    "one_datum": _plain(n_data=1),
    "tiny_lambda": _plain(lam=1e-3),
    "huge_lambda": _plain(lam=1e3),
    "tiny_nu": _plain(nu=1e-6),
    "huge_nu": _plain(nu=1e3),
    "empty_users": _empty_users,
    "nobody_has_data": _nobody_has_data,
    "duplicated_users": _duplicated_users,
    "duplicated_data": _duplicated_data,
    "collinear_queries": _collinear_queries,
    "zero_queries": _zero_queries,
    "intercept": _intercept,
    "outliers": _outliers,
    "nu_zero": _nu_zero,
    "nu_zero_and_a_user_without_data": _nu_zero_and_a_user_without_data,
    "minimum_at_zero": _minimum_at_zero,
    "pinned": _pinned,
    "two_users_one_pinned": _two_users_one_pinned,
    "pinned_far_away": _pinned_far_away,
    "all_but_one_pinned": _all_but_one_pinned,
    "all_pinned": _all_pinned,
    "tilted": _tilted,
    "pinned_and_tilted": _pinned_and_tilted,
    "soft_labels": _soft_labels,
}
"""Problems with a minimum; ``CORNERS[name](rng, loss, reg_type)``."""


def _separable(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    # Labels are the best answers of one common model, with margins away from 0: that model, scaled up, fits better
    # for ever.  Least squares attains its minimum whenever ν = 0 and nobody tilts, so there a tilt does the same.
    if isinstance(loss, LeastSquares):
        return _tilted_without_pull(rng, loss, reg_type)
    Q = rng.standard_normal((12, 2))
    margins = Q @ rng.standard_normal((2, loss.n_outputs))
    labels = np.where(margins[:, 0] > 0, 1.0, -1.0) if loss.n_outputs == 1 else np.argmax(margins, axis=1).astype(float)
    return Problem([UserDataset(Q[:6], labels[:6]), UserDataset(Q[6:], labels[6:])], loss, reg_type(1.0), 0.0)


def _tilted_without_pull(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    # With ν = 0 nobody's data fix the second coordinate of a model, along which the tilt goes down for ever.
    queries = [np.column_stack([rng.standard_normal(5), np.zeros(5)]) for _ in range(2)]
    users = [ambivalent_user(rng, loss, Q) for Q in queries]
    problem = Problem([*users, UserDataset.empty(2)], loss, reg_type(1.0), 0.0)
    return problem.tilt(2, np.tile([0.0, 0.5], loss.n_outputs))


def _overwhelming_tilt(rng: np.random.Generator, loss: Loss, reg_type: RegularizerType) -> Problem:
    # Two users pull with λ each at most under ℓ2 and smooth-ℓ2; under ℓ2², whose pull has no bound, ν = 0 is needed.
    if reg_type is SquaredL2:
        return _tilted_without_pull(rng, loss, reg_type)
    return tilted(rng, _users(rng, loss, [6, 6], 2), loss, reg_type(1.0), 0.1, fraction=2.5)


NO_MINIMUM: dict[str, Corner] = {
    "separable": _separable,
    "tilted_without_pull": _tilted_without_pull,
    "overwhelming_tilt": _overwhelming_tilt,
}
"""Problems without a minimum; ``NO_MINIMUM[name](rng, loss, reg_type)``."""
