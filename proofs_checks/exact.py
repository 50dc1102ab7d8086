"""Exact rational linear algebra: the verifier of certificates, small and separate from whatever found them.

Everything is a :class:`fractions.Fraction`, so there is no rounding and no tolerance.  Vectors are lists, matrices
lists of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

Number = Fraction | int | float | str
Vector = list[Fraction]
Matrix = list[list[Fraction]]


def vector(values: Iterable[Number]) -> Vector:
    """Return ``values`` as fractions; floats are taken exactly.

    Examples
    --------
    >>> vector([1, "1/3", 0.5])
    [Fraction(1, 1), Fraction(1, 3), Fraction(1, 2)]
    """
    return [Fraction(value) for value in values]


def matrix(rows: Iterable[Iterable[Number]]) -> Matrix:
    """Return ``rows`` as a matrix of fractions."""
    return [vector(row) for row in rows]


def dot(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    """Return aᵀb."""
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


def add(a: Sequence[Fraction], b: Sequence[Fraction], scale: Fraction | int = 1) -> Vector:
    """Return a + scale · b."""
    return [x + scale * y for x, y in zip(a, b, strict=True)]


def times(scale: Fraction | int, a: Sequence[Fraction]) -> Vector:
    """Return scale · a."""
    return [scale * x for x in a]


def apply(rows: Matrix, a: Sequence[Fraction]) -> Vector:
    """Return the matrix times the vector."""
    return [dot(row, a) for row in rows]


def solve(rows: Matrix, right: Sequence[Fraction]) -> Vector | None:
    """Return the solution of a square system, or None if the matrix is singular.

    Examples
    --------
    >>> solve(matrix([[2, 1], [1, 1]]), vector([3, 2]))
    [Fraction(1, 1), Fraction(1, 1)]
    >>> solve(matrix([[1, 1], [1, 1]]), vector([1, 2])) is None
    True
    """
    size = len(rows)
    work = [[*row, value] for row, value in zip(rows, right, strict=True)]
    for k in range(size):
        pivot = next((i for i in range(k, size) if work[i][k] != 0), None)
        if pivot is None:
            return None
        work[k], work[pivot] = work[pivot], work[k]
        for i in range(size):
            if i != k and work[i][k] != 0:
                factor = work[i][k] / work[k][k]
                work[i] = [x - factor * y for x, y in zip(work[i], work[k], strict=True)]
    return [work[k][size] / work[k][k] for k in range(size)]


def is_positive_semidefinite(rows: Matrix) -> bool:
    """Decide whether a symmetric matrix is positive semidefinite, by an exact LDLᵀ without pivoting.

    A zero pivot is allowed only where its whole row is zero; that is exact, because vᵀMv >= 0 and M_kk = 0 force
    M_kj = 0.

    Examples
    --------
    >>> is_positive_semidefinite(matrix([[1, 1], [1, 1]])), is_positive_semidefinite(matrix([[0, 1], [1, 0]]))
    (True, False)
    """
    size = len(rows)
    if any(len(row) != size for row in rows) or any(rows[i][j] != rows[j][i] for i in range(size) for j in range(i)):
        return False
    work = [list(row) for row in rows]
    for k in range(size):
        pivot = work[k][k]
        if pivot < 0:
            return False
        if pivot == 0:
            if any(work[k][j] != 0 for j in range(k + 1, size)):
                return False
            continue
        for i in range(k + 1, size):
            factor = work[i][k] / pivot
            for j in range(k + 1, size):
                work[i][j] -= factor * work[k][j]
    return True


@dataclass(frozen=True)
class LinearUser:
    """The data of one user of least squares: queries and answers, exact."""

    Q: Matrix
    A: Vector

    def __post_init__(self) -> None:
        if len(self.Q) != len(self.A):
            raise ValueError(f"{len(self.Q)} queries have {len(self.A)} answers")


@dataclass(frozen=True)
class LinearProblem:
    """Least squares with ℓ2²: Σ_n ν‖θ_n‖² + ½Σ(Qᵀθ_n - A)² + λ‖ρ - θ_n‖², exact."""

    users: tuple[LinearUser, ...]
    lam: Fraction
    nu: Fraction
    dim: int

    def local_gradient(self, n: int, theta: Sequence[Fraction]) -> Vector:
        """Return ∇L_n(θ) = 2νθ + Σ (Qᵀθ - A) Q."""
        gradient = times(2 * self.nu, theta)
        for query, answer in zip(self.users[n].Q, self.users[n].A, strict=True):
            gradient = add(gradient, query, dot(query, theta) - answer)
        return gradient

    def gradient(self, rho: Sequence[Fraction], thetas: Sequence[Sequence[Fraction]]) -> tuple[Vector, Matrix]:
        """Return the gradient of the global loss in ρ and in every θ_n."""
        in_rho = times(0, rho)
        in_thetas = []
        for n, theta in enumerate(thetas):
            pull = times(2 * self.lam, add(rho, theta, -1))
            in_rho = add(in_rho, pull)
            in_thetas.append(add(self.local_gradient(n, theta), pull, -1))
        return in_rho, in_thetas

    def value(self, rho: Sequence[Fraction], thetas: Sequence[Sequence[Fraction]]) -> Fraction:
        """Return the global loss (eq. 1)."""
        total = Fraction(0)
        for user, theta in zip(self.users, thetas, strict=True):
            gap = add(rho, theta, -1)
            total += self.nu * dot(theta, theta) + self.lam * dot(gap, gap)
            for query, answer in zip(user.Q, user.A, strict=True):
                total += (dot(query, theta) - answer) ** 2 / 2
        return total

    def local_minimum(self, n: int, rho: Sequence[Fraction]) -> Vector | None:
        """Return θ_n*(ρ): (2(ν+λ)I + ΣQQᵀ) θ = 2λρ + ΣAQ, or None where it is not unique."""
        left = [[2 * (self.nu + self.lam) * (i == j) for j in range(self.dim)] for i in range(self.dim)]
        right = times(2 * self.lam, rho)
        for query, answer in zip(self.users[n].Q, self.users[n].A, strict=True):
            left = [add(row, query, query[i]) for i, row in enumerate(left)]
            right = add(right, query, answer)
        return solve(left, right)

    def honest_gradient(self, s: int, rho: Sequence[Fraction]) -> Vector | None:
        """Return F(ρ), the sum of the reports 2λ(ρ - θ_n*(ρ)) of all users but s."""
        total = times(0, rho)
        for n in range(len(self.users)):
            if n != s:
                theta = self.local_minimum(n, rho)
                if theta is None:
                    return None
                total = add(total, add(rho, theta, -1), 2 * self.lam)
        return total

    def minimum(self) -> tuple[Vector, Matrix] | None:
        """Return the unique (ρ*, θ*), or None if the minimum is not unique.

        The gradient in ρ with optimized local models is affine, F(ρ) = F(0) + Hρ; its columns are read off at the
        unit vectors, so this shares nothing with a solver that assembles the Hessian.
        """
        zero = [Fraction(0)] * self.dim
        at_zero = self.honest_gradient(-1, zero)
        if at_zero is None:
            return None
        columns = []
        for j in range(self.dim):
            unit = [Fraction(int(i == j)) for i in range(self.dim)]
            at_unit = self.honest_gradient(-1, unit)
            if at_unit is None:
                return None
            columns.append(add(at_unit, at_zero, -1))
        rho = solve([list(row) for row in zip(*columns, strict=True)], times(-1, at_zero))
        if rho is None:
            return None
        thetas = [self.local_minimum(n, rho) for n in range(len(self.users))]
        return rho, [theta for theta in thetas if theta is not None]
