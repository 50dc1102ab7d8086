r"""The numbers of ``pac_scaling``: who holds which data, and how far the minimum is from the preferred models.

* Honest users h = 0 .. H-1 prefer models :math:`\theta_h^\dagger` of norm K, drawn once from the seed.
* The other users hold data that are drawn once from the seed, and are the same for every size and replicate: they are
  the :math:`\vec{\mathcal D}_{-\mathcal H}` that Definition 1 fixes before the honest data are drawn.
* A replicate draws :math:`\mathcal I_{\max}` honest data for each honest user.  Its data of size ℐ are the first ℐ of
  these, so the sizes of one replicate are nested.  Each size alone has the law that Definition 1 asks for, and
  different replicates are independent; the fits and intervals use no more than that.
* All losses and regularizers of one replicate see the same queries (and all regularizers the same answers), so that
  they are compared on equal data.

Besides the error :math:`\|\theta_h^* - \theta_h^\dagger\|_2`, each minimum gives the *shift*

.. math:: \Big\|\mathcal I^{-1} H_h^{-1} \sum_i \nabla\ell(\theta_h^*, x_i)\Big\|_2, \qquad
          H_h = \mathbb E\big[\nabla^2\ell(\theta_h^\dagger, x)\big].

At the minimum that sum is the force :math:`-2\nu\theta_h^* - \nabla_{\theta_h}\mathcal R(\rho^*, \theta_h^*)` of the
regularization, through which alone the others act on h (eqs 162-163), so the shift is the part of the error that is
theirs, to first order in 1/ℐ.  The rest is the sampling error of h's own data.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks._harness import generator
from benchmarks._queries import QuerySource
from solvers import Solution, minimize
from theory import (
    L2,
    EmpiricalQueries,
    LeastSquares,
    Logistic,
    Problem,
    Queries,
    Regularizer,
    ShapeError,
    SmoothL2,
    SolverError,
    SquaredL2,
    UserDataset,
    honest_dataset,
)
from theory.arrays import Array, as_count, as_nonnegative, as_positive
from theory.losses import local_gradient

LOSSES: dict[str, type[LeastSquares] | type[Logistic]] = {"linear": LeastSquares, "logistic": Logistic}
REGULARIZERS: dict[str, type[SquaredL2] | type[L2] | type[SmoothL2]] = {
    "squared_l2": SquaredL2,
    "l2": L2,
    "smooth_l2": SmoothL2,
}
ADVERSARIES = {
    "opposite": "answer like a model that points away from an honest user's, without noise",
    "outliers": "the same, with answers of 1e4 (linear) or queries 1e4 times as long (logistic)",
    "none": "hold no data",
}
OUTLIER = 1e4

# The streams of random numbers; each is followed by the indices that it depends on.
MODELS, OTHERS, HONEST, CURVATURE, LIMIT, BOOTSTRAP = range(6)

_BLOCK = 20_000
_CURVATURE_BLOCKS = 10
_LIMIT_DRAWS = 40_000


@dataclass(frozen=True)
class Setting:
    """Everything that the numbers of one cell (loss, regularizer, replicate) depend on, apart from these three.

    Attributes
    ----------
    n_users, n_honest : int
        N and H, with 1 <= H < N.
    sizes : tuple of int
        The numbers ℐ of honest data, strictly increasing.
    lam, nu, noise : float
        λ > 0, ν >= 0, and the standard deviation >= 0 of the noise of linear answers.
    norm : float, > 0
        ‖θ†‖ of each honest user.
    adversary : str
        One of :data:`ADVERSARIES`.
    n_adversarial : int
        The number of data points of each of the other users.
    strength : float, > 0
        The model by which the others answer is -strength times an honest user's (its scale matters for linear
        answers only).
    seed : int, >= 0
    """

    n_users: int
    n_honest: int
    sizes: tuple[int, ...]
    lam: float
    nu: float
    noise: float
    norm: float
    adversary: str
    n_adversarial: int
    strength: float
    seed: int

    def __post_init__(self) -> None:
        as_count(self.n_honest, "--honest", 1)
        if as_count(self.n_users, "--users", 1) <= self.n_honest:
            raise ShapeError("--users", f"more users than the {self.n_honest} honest ones", str(self.n_users))
        if not self.sizes or any(size < 1 for size in self.sizes) or sorted(set(self.sizes)) != list(self.sizes):
            raise ShapeError("--sizes", "positive integers, each larger than the one before", f"{list(self.sizes)}")
        as_positive(self.lam, "--lam", "def_regularization")
        as_nonnegative(self.nu, "--nu", "eq5_local_loss")
        as_nonnegative(self.noise, "--noise", "thm2_linear_local_pac")
        as_positive(self.norm, "--norm", "def3_gradient_pac")
        as_positive(self.strength, "--strength", "def1_local_pac")
        if self.adversary not in ADVERSARIES:
            raise ShapeError("--adversary", f"one of {', '.join(ADVERSARIES)}", repr(self.adversary))
        as_count(self.n_adversarial, "--adversarial-data", 1)
        as_count(self.seed, "--seed")


@dataclass(frozen=True, eq=False)
class Scene:
    """A :class:`Setting` with its queries, its preferred models and the data of the others.

    Attributes
    ----------
    models : (H, d) array
        Row h is θ_h†.
    curvatures : mapping from a loss's name to an (H, d, d) array
        H_h, the expected Hessian of the loss per input at θ_h†.
    others : mapping from a loss's name to the N - H other users
    """

    setting: Setting
    queries: Queries
    models: Array
    curvatures: dict[str, Array]
    others: dict[str, tuple[UserDataset, ...]]

    @classmethod
    def build(cls, setting: Setting, source: QuerySource, losses: Sequence[str]) -> Scene:
        """Draw what is drawn once, from the seed of ``setting``."""
        models = preferred_models(setting, source.queries.dim)
        return cls(
            setting=setting,
            queries=source.queries,
            models=models,
            curvatures={loss: expected_hessians(loss, source.queries, models, setting.seed) for loss in losses},
            others={loss: other_users(setting, source.queries, loss, models) for loss in losses},
        )


def preferred_models(setting: Setting, dim: int) -> Array:
    r"""Return the models θ_h†, uniform on the sphere of radius K = ``setting.norm``, shape (H, d)."""
    models = np.empty((setting.n_honest, dim))
    for h in range(setting.n_honest):
        direction = generator(setting.seed, MODELS, h).standard_normal(dim)
        models[h] = setting.norm * direction / np.linalg.norm(direction)
    return models


def other_users(setting: Setting, queries: Queries, loss: str, models: Array) -> tuple[UserDataset, ...]:
    """Return the data of the N - H other users: the j-th works against honest user j mod H."""
    return tuple(
        _adversarial_data(setting, queries, loss, models[j % setting.n_honest], j)
        for j in range(setting.n_users - setting.n_honest)
    )


def _adversarial_data(setting: Setting, queries: Queries, loss: str, model: Array, j: int) -> UserDataset:
    if setting.adversary == "none":
        return UserDataset.empty(queries.dim)
    Q = queries.sample(setting.n_adversarial, generator(setting.seed, OTHERS, j))
    margin = -setting.strength * (Q @ model)
    # A margin of 0 answers +1 as any other does: labels are -1 or +1.
    sign = np.where(margin < 0, -1.0, 1.0)
    if loss == "linear":
        return UserDataset(Q, OUTLIER * sign if setting.adversary == "outliers" else margin)
    return UserDataset(OUTLIER * Q if setting.adversary == "outliers" else Q, sign)


def expected_hessians(loss: str, queries: Queries, models: Array, seed: int) -> Array:
    r"""Return :math:`H_h = E[\varphi''(Q^T\theta_h^\dagger) QQ^T]` for each preferred model, shape (H, d, d).

    Exact for least squares (Σ) and for the rows of a data set; otherwise the mean over 200,000 draws of its own
    stream, which is accurate to about 1 %.
    """
    if loss == "linear":
        return np.array([queries.second_moment()] * len(models))
    total, count = np.zeros((len(models), queries.dim, queries.dim)), 0
    for Q in _blocks_of_queries(queries, seed, _CURVATURE_BLOCKS):
        for h, model in enumerate(models):
            margin = Q @ model
            total[h] += (Q.T * Logistic().d2phi(margin, np.ones_like(margin))) @ Q
        count += Q.shape[0]
    return total / count


def leverage(scene: Scene, loss: str) -> tuple[float, float]:
    r"""Return the mean and the largest leverage :math:`\sup\varphi'' \cdot q^T H_h^{-1} q` of a query q.

    Both are the largest over the honest users.  The mean is :math:`\sup\varphi''\,\mathrm{tr}(H_h^{-1}\Sigma)`, which
    is d for linear regression.  For the largest, all rows of a data set are looked at, and 20,000 draws of a
    distribution; it is the number of rows if one row alone spans a direction: with fewer than several times that many
    data, that row has probably not been drawn yet.
    """
    steepest = 1.0 if loss == "linear" else 0.25
    second_moment = scene.queries.second_moment()
    mean = max(float(np.trace(np.linalg.solve(curvature, second_moment))) for curvature in scene.curvatures[loss])
    largest = max(
        float(np.max(np.sum(Q.T * np.linalg.solve(curvature, Q.T), axis=0)))
        for Q in _blocks_of_queries(scene.queries, scene.setting.seed, 1)
        for curvature in scene.curvatures[loss]
    )
    return steepest * mean, steepest * largest


def _blocks_of_queries(queries: Queries, seed: int, n_blocks: int) -> Iterator[Array]:
    """Yield all rows of a data set, or ``n_blocks`` blocks of draws, with no block too large for the memory."""
    if isinstance(queries, EmpiricalQueries):
        yield from np.array_split(queries.rows, math.ceil(queries.rows.shape[0] / _BLOCK))
    else:
        rng = generator(seed, CURVATURE)
        for _ in range(n_blocks):
            yield queries.sample(_BLOCK, rng)


def limit_constant(scene: Scene, loss: str) -> float:
    r"""Return c with median :math:`\max_h\|\theta_h^* - \theta_h^\dagger\| \sim c\,\mathcal I^{-1/2}`.

    By the central limit theorem :math:`\sqrt{\mathcal I}(\theta_h^* - \theta_h^\dagger)` tends to a Gaussian with
    covariance :math:`\sigma_\xi^2\Sigma^{-1}` (linear) or :math:`H_h^{-1}` (logistic), independent for different h, as
    long as the force of the regularization stays bounded (eq. 161).  c is the median of the largest of their norms,
    over 40,000 draws (accurate to about 1 %).
    """
    variance = scene.setting.noise**2 if loss == "linear" else 1.0
    worst = np.zeros(_LIMIT_DRAWS)
    for h, curvature in enumerate(scene.curvatures[loss]):
        variances = variance / np.linalg.eigvalsh(curvature)
        normals = generator(scene.setting.seed, LIMIT, h).standard_normal((_LIMIT_DRAWS, variances.size))
        worst = np.maximum(worst, np.sqrt(normals**2 @ variances))
    return float(np.median(worst))


# ---------------------------------------------------------------------------------------------------------- in a worker

_SCENE: list[Scene] = []
_WARM_UP: dict[str, float] = {}


def start_worker(scene: Scene) -> None:
    """Keep the scene for all tasks of this worker."""
    _SCENE[:] = [scene]


def replicate_cells(loss: str, regularizers: Sequence[str], replicate: int) -> tuple[list[dict[str, Any]], float]:
    """Compute the cells (loss, regularizer, replicate) of one drawn sample.

    Returns
    -------
    cells : list of dict
        For each regularizer ``loss``, ``reg``, ``replicate``, ``errors`` and ``shifts`` (a row of H numbers for each
        size), ``residual`` (the largest relative residual that the solver reports), ``certified`` (for replicate 0, the
        largest certified distance of the local models to those of the exact minimum; None for the others, and where the
        certificate knows no bound) and ``seconds``.
    compile_seconds : float
        The time that this call spent on compilation, and not on cells.
    """
    (scene,) = _SCENE
    compile_seconds = sum(_warm_up(loss, reg) for reg in regularizers)
    return solve_replicate(scene, loss, regularizers, replicate), compile_seconds


def _warm_up(loss: str, reg: str) -> float:
    """Solve a tiny problem of this kind once in this process; return the seconds that it took, 0 afterwards."""
    name = f"{loss}/{reg}"
    if name in _WARM_UP:
        return 0.0
    start = time.perf_counter()
    user = UserDataset([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], [1.0, -1.0, 1.0])
    minimize(Problem([user, user, user], LOSSES[loss](), REGULARIZERS[reg](1.0), nu=1.0))
    _WARM_UP[name] = time.perf_counter() - start
    return _WARM_UP[name]


def solve_replicate(scene: Scene, loss: str, regularizers: Sequence[str], replicate: int) -> list[dict[str, Any]]:
    """Draw the honest data of one replicate and find the minimum for each size and regularizer."""
    setting = scene.setting
    samples = [
        honest_dataset(
            scene.queries,
            model,
            setting.sizes[-1],
            LOSSES[loss](),
            generator(setting.seed, HONEST, replicate, h),
            noise=setting.noise,
        )
        for h, model in enumerate(scene.models)
    ]
    cells = {reg: _empty_cell(loss, reg, replicate) for reg in regularizers}
    for size in setting.sizes:
        honest = [UserDataset(sample.Q[:size], sample.A[:size]) for sample in samples]
        for reg, cell in cells.items():
            start = time.perf_counter()
            solution = _minimum(scene, loss, REGULARIZERS[reg](setting.lam), honest)
            cell["seconds"] += time.perf_counter() - start
            errors, shifts = _errors_and_shifts(scene, loss, honest, solution)
            cell["errors"].append(errors)
            cell["shifts"].append(shifts)
            cell["residual"] = max(cell["residual"], float(solution.stats["relative_residual"]))
            if replicate == 0:
                cell["certified"] = max(cell["certified"], solution.certificate.theta_distance_bound)
    for cell in cells.values():
        if replicate != 0 or not math.isfinite(cell["certified"]):
            cell["certified"] = None
    return list(cells.values())


def _empty_cell(loss: str, reg: str, replicate: int) -> dict[str, Any]:
    name = {"loss": loss, "reg": reg, "replicate": replicate}
    return {**name, "errors": [], "shifts": [], "residual": 0.0, "certified": 0.0, "seconds": 0.0}


def _minimum(scene: Scene, loss: str, reg: Regularizer, honest: Sequence[UserDataset]) -> Solution:
    problem = Problem([*honest, *scene.others[loss]], LOSSES[loss](), reg, nu=scene.setting.nu)
    try:
        return minimize(problem)
    except SolverError as error:
        place = f"{loss} with {reg.name} and {honest[0].n_data} honest data"
        raise SolverError(f"{place}: {error}", error.solution) from None


def _errors_and_shifts(
    scene: Scene, loss: str, honest: Sequence[UserDataset], solution: Solution
) -> tuple[list[float], list[float]]:
    errors, shifts = [], []
    for h, user in enumerate(honest):
        theta = solution.thetas[h]
        errors.append(float(np.linalg.norm(theta - scene.models[h])))
        force = local_gradient(theta, user.Q, user.A, LOSSES[loss](), 0.0)
        shifts.append(float(np.linalg.norm(np.linalg.solve(scene.curvatures[loss][h], force))) / user.n_data)
    return errors, shifts
