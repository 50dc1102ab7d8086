"""Every check holds, refutes each of its falsehoods, and finds the printed claim as its erratum says.

The ids carry the statement and the falsehood, so that ``-k equivalence`` selects those of Theorem 1.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from itertools import product

import numpy as np
import pytest

from proofs_checks.exact import (
    LinearProblem,
    LinearUser,
    add,
    apply,
    dot,
    is_positive_semidefinite,
    matrix,
    solve,
    times,
    vector,
)
from proofs_checks.ledger import run_cached
from proofs_checks.registry import Check, Outcome, Verdict, checks, gather
from solvers import minimize
from theory import LeastSquares, Problem, SquaredL2, UserDataset

CHECKS = list(checks().values())
FALSEHOODS = [(made, name) for made in CHECKS for name in made.falsehoods]
ERRATA = [made for made in CHECKS if made.errata is not None]


@cache
def outcome_of(identifier: str) -> Outcome:
    return run_cached(checks()[identifier])


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Each check runs once for all the tests below, and leaves nothing in the user's cache."""
    patch = pytest.MonkeyPatch()
    patch.setenv("EQUIPOISE_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.mark.parametrize("made", CHECKS, ids=lambda made: made.id)
def test_the_claim_holds(made: Check) -> None:
    evidence = outcome_of(made.id).amended
    assert evidence.verdict is Verdict.HOLDS, (evidence.refuted, evidence.undecided)


@pytest.mark.parametrize(("made", "name"), FALSEHOODS, ids=[f"{made.id}-{name}" for made, name in FALSEHOODS])
def test_the_falsehood_is_refuted(made: Check, name: str) -> None:
    assert outcome_of(made.id).falsehoods[name] is Verdict.FAILS


@pytest.mark.parametrize("made", ERRATA, ids=lambda made: made.id)
def test_the_printed_claim_fails_with_a_witness(made: Check) -> None:
    evidence = outcome_of(made.id).printed
    assert evidence.verdict is Verdict.FAILS
    assert evidence.refuted[0].finding
    # The same again: a witness that does not come back cannot be replayed.
    assert gather(made, made.printed).refuted == evidence.refuted


@pytest.mark.parametrize("made", [made for made in CHECKS if made.strengthen], ids=lambda made: made.id)
def test_a_claim_that_is_a_tenth_too_strong_is_caught(made: Check) -> None:
    assert outcome_of(made.id).smallest_caught


def test_no_claim_stands_without_a_proof_or_a_description_in_words() -> None:
    short = [made.id for made in CHECKS if len(made.doc) < 40]
    assert not short


def test_every_constant_of_a_check_is_moved_by_one_of_its_wrong_claims() -> None:
    unmoved = []
    for made in CHECKS:
        moved = {name for constants in (made.printed, *made.falsehoods.values()) for name in constants}
        # A constant that no falsehood moves could be without effect, and nobody would know.
        unmoved += [f"{made.id}: {name}" for name in inspect.signature(made.function).parameters if name not in moved]
    assert not unmoved


# ---- The exact verifier -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "is_semidefinite"),
    [
        ([[0]], True),
        ([[-1]], False),
        ([[1, 2], [2, 4]], True),
        ([[1, 2], [2, 3]], False),
        ([[0, 0], [0, 1]], True),
        ([[0, 1], [1, 5]], False),
        ([[1, 2], [0, 5]], False),
        ([[2, -1, 0], [-1, 2, -1], [0, -1, 2]], True),
        ([[1, 1, 1], [1, 1, 1], [1, 1, 0]], False),
        ([[1, 1, 1], [1, 1, 2], [1, 2, 9]], False),
        ([[4, 2, 2], [2, 1, 1], [2, 1, 1]], True),
        ([[1, 0], [0, 1], [0, 0]], False),
    ],
)
def test_semidefiniteness_is_decided_exactly(rows: list[list[int]], is_semidefinite: bool) -> None:
    assert is_positive_semidefinite(matrix(rows)) is is_semidefinite


def test_semidefiniteness_agrees_with_eigenvalues(rng: np.random.Generator) -> None:
    seen = set()
    for _ in range(300):
        half = rng.integers(-2, 3, (3, 3))
        rows = half @ half.T - int(rng.integers(0, 2)) * np.eye(3, dtype=int)
        least = float(np.linalg.eigvalsh(rows)[0])
        if abs(least) > 1e-9:
            seen.add(least > 0)
            assert is_positive_semidefinite(matrix(rows.tolist())) is (least > 0)
    assert seen == {True, False}


def test_the_solution_of_a_system_solves_it(rng: np.random.Generator) -> None:
    for size in [1, 2, 2, 3, 3, 3, 5, 5] * 5:
        rows = matrix(rng.integers(-3, 4, (size, size)).tolist())
        right = vector(rng.integers(-3, 4, size).tolist())
        found = solve(rows, right)
        singular = bool(abs(np.linalg.det(np.array(rows, dtype=float))) < 1e-9)
        assert (found is None) is singular
        if found is not None:
            assert apply(rows, found) == right
    assert solve(matrix([[0, 1], [1, 0]]), vector([2, 3])) == [3, 2]


def test_a_user_has_one_answer_per_query() -> None:
    with pytest.raises(ValueError, match="1 queries have 2 answers"):
        LinearUser(matrix([[1]]), vector([1, 2]))


def test_data_that_changed_later_are_refused() -> None:
    # A list can grow after its user was made; the answers that are left over must not be dropped in silence.
    user = LinearUser(matrix([[1]]), vector([1]))
    problem = LinearProblem((user,), Fraction(1), Fraction(1), 1)
    user.A.append(Fraction(5))
    for wrong in (
        lambda: problem.local_gradient(0, vector([0])),
        lambda: problem.value(vector([0]), matrix([[0]])),
        lambda: problem.local_minimum(0, vector([0])),
    ):
        with pytest.raises(ValueError, match="argument 2"):
            wrong()


def test_rows_of_several_lengths_are_no_matrix() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        solve(matrix([[1, 0], [1]]), vector([1, 1]))
    assert not is_positive_semidefinite(matrix([[1, 0], [0]]))
    assert not is_positive_semidefinite(matrix([[1], [0, 1]]))
    assert not is_positive_semidefinite(matrix([[1, 0], [0, 1, 0]]))


def test_vectors_add_up() -> None:
    assert add([Fraction(1)], [Fraction(2)], 3) == [7]
    assert times(2, [Fraction(3)]) == [6]
    assert dot(vector([1, 2]), vector([3, "1/2"])) == 4
    for wrong in (
        lambda: dot(vector([1]), vector([1, 2])),
        lambda: add(vector([1]), vector([1, 2])),
        lambda: solve(matrix([[1]]), vector([1, 2])),
    ):
        with pytest.raises(ValueError, match="argument 2"):
            wrong()


def exact_problem() -> LinearProblem:
    first = LinearUser(matrix([[1, 2], [0, 1]]), vector([3, -1]))
    second = LinearUser(matrix([[2, -1]]), vector(["1/2"]))
    return LinearProblem((first, second, LinearUser([], [])), Fraction(3, 2), Fraction(1, 3), 2)


def test_the_exact_gradient_is_the_derivative_of_the_exact_value() -> None:
    problem = exact_problem()
    rho, thetas = vector([1, -2]), matrix([[0, 1], [3, "1/4"], [-1, 1]])
    in_rho, in_thetas = problem.gradient(rho, thetas)
    # The loss is quadratic, so central differences are exact.
    for j in range(2):
        unit = [Fraction(int(i == j)) for i in range(2)]
        difference = problem.value(add(rho, unit), thetas) - problem.value(add(rho, unit, -1), thetas)
        assert difference / 2 == in_rho[j]
        for n in range(3):
            ahead = [add(row, unit, int(m == n)) for m, row in enumerate(thetas)]
            behind = [add(row, unit, -int(m == n)) for m, row in enumerate(thetas)]
            assert (problem.value(rho, ahead) - problem.value(rho, behind)) / 2 == in_thetas[n][j]


def test_the_exact_value_is_the_sum_of_its_terms() -> None:
    problem = LinearProblem((LinearUser(matrix([[2]]), vector([1])),), Fraction(3), Fraction(1, 2), 1)
    # ν·2² + (2·2-1)²/2 + 3·(5-2)².
    assert problem.value(vector([5]), matrix([[2]])) == 2 + Fraction(9, 2) + 27


def test_one_model_per_user_is_needed() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        exact_problem().value(vector([0, 0]), matrix([[0, 0], [0, 0]]))


def test_the_exact_minimum_has_no_gradient_and_least_value() -> None:
    problem = exact_problem()
    found = problem.minimum()
    assert found is not None
    rho, thetas = found
    in_rho, in_thetas = problem.gradient(rho, thetas)
    assert not any(in_rho)
    assert not any(x for row in in_thetas for x in row)
    for j, n in product(range(2), range(3)):
        unit = [Fraction(int(i == j), 10) for i in range(2)]
        moved = [add(row, unit, int(m == n)) for m, row in enumerate(thetas)]
        assert problem.value(rho, thetas) < problem.value(rho, moved)


def test_the_exact_minimum_is_within_the_certificate_of_the_solver() -> None:
    problem = exact_problem()
    users = [UserDataset(np.array(u.Q, dtype=float).reshape(-1, 2), np.array(u.A, dtype=float)) for u in problem.users]
    # λ = 3/2 and the data are dyadic; ν = 1/2 instead of 1/3 is, too, so both routes solve the very same problem.
    exact = LinearProblem(problem.users, problem.lam, Fraction(1, 2), 2).minimum()
    assert exact is not None
    solution = minimize(Problem(users, LeastSquares(), SquaredL2(1.5), 0.5))
    gaps = [
        *np.array(exact[0], dtype=float) - solution.rho,
        *(np.array(exact[1], dtype=float) - solution.thetas).ravel(),
    ]
    # Rounding the exact solution to floats moves it by less than 1e-15 here.
    assert float(np.linalg.norm(gaps)) <= solution.certificate.distance_bound + 1e-15
    assert solution.certificate.distance_bound < 1e-12


def test_the_honest_gradient_leaves_one_user_out() -> None:
    problem = exact_problem()
    rho = vector([1, 1])
    everyone = problem.honest_gradient(-1, rho)
    without = problem.honest_gradient(0, rho)
    theta = problem.local_minimum(0, rho)
    assert everyone is not None
    assert without is not None
    assert theta is not None
    assert add(everyone, without, -1) == times(2 * problem.lam, add(rho, theta, -1))


def test_a_minimum_that_is_not_unique_is_not_given() -> None:
    nobody = LinearProblem((LinearUser([], []),), Fraction(1), Fraction(0), 1)
    assert nobody.minimum() is None
