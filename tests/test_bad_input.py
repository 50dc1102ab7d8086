"""Each bad input is refused at the boundary, by an error that names the argument, what was expected and what was found.

The message is compared word by word, so that an error that names another argument, or says less, is caught.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from theory import (
    L2,
    AssumptionError,
    BallQueries,
    CertificateError,
    CubeQueries,
    EmpiricalQueries,
    EquipoiseError,
    GaussianQueries,
    LeastSquares,
    Logistic,
    Multinomial,
    Problem,
    RademacherQueries,
    ShapeError,
    SmoothL2,
    SolverError,
    SphereQueries,
    SquaredL2,
    UserDataset,
    honest_answers,
    honest_dataset,
)
from theory.arrays import as_array, as_count, as_index, as_nonnegative, as_positive

RNG = np.random.default_rng(0)
USER = UserDataset([[1.0, 2.0], [0.0, 1.0]], [1.0, -1.0])
PROBLEM = Problem([USER, USER], LeastSquares(), L2(1.0))


def problem(users: Any = (USER,), loss: Any = None, reg: Any = None, nu: Any = 0.0) -> Problem:
    return Problem(users, LeastSquares() if loss is None else loss, L2(1.0) if reg is None else reg, nu)


Case = tuple[Callable[[], Any], type[EquipoiseError], str, str]
# id: (what is done, the error, the argument that the message names, what it says was found)
CASES: dict[str, Case] = {
    # NaN, infinity and what does not fit in float64.
    "Q has a NaN": (lambda: UserDataset([[1.0, math.nan]], [1.0]), ShapeError, "Q", "nan at index (0, 1)"),
    "Q is infinite": (lambda: UserDataset([[math.inf, 1.0]], [1.0]), ShapeError, "Q", "inf at index (0, 0)"),
    "infinities that cancel": (
        lambda: UserDataset([[math.inf, -math.inf]], [1.0]),
        ShapeError,
        "Q",
        "inf at index (0, 0)",
    ),
    "A has a NaN": (lambda: UserDataset([[1.0]], [math.nan]), ShapeError, "A", "nan at index (0,)"),
    "A has a NaN probability": (
        lambda: UserDataset([[1.0]], [[math.nan, 1.0]]),
        ShapeError,
        "A",
        "nan at index (0, 0)",
    ),
    "a float32 infinity": (lambda: UserDataset(np.array([[np.inf]], np.float32), [1.0]), ShapeError, "Q", "inf"),
    "beyond float64": (
        lambda: UserDataset(np.array([["1e4000"]]).astype(np.longdouble), [1.0]),
        ShapeError,
        "Q",
        "inf",
    ),
    "g has a NaN": (lambda: PROBLEM.tilt(0, [math.nan, 0.0]), ShapeError, "g", "nan at index (0,)"),
    "the reported model is infinite": (lambda: PROBLEM.pin(0, [0.0, math.inf]), ShapeError, "reported_model", "inf"),
    "rho has a NaN": (lambda: PROBLEM.value([math.nan, 0.0], np.zeros((2, 2))), ShapeError, "rho", "nan"),
    "thetas has a NaN": (
        lambda: PROBLEM.gradient([0.0, 0.0], [[0.0, 0.0], [math.nan, 0.0]]),
        ShapeError,
        "thetas",
        "(1, 0)",
    ),
    # Missing data: NumPy would go on with the numbers that the mask hides.
    "A has a masked entry": (
        lambda: UserDataset([[1.0], [2.0]], np.ma.masked_array([1.0, -999.0], mask=[False, True])),
        ShapeError,
        "A",
        "a masked entry",
    ),
    # Wrong shapes.
    "Q is a vector": (lambda: UserDataset([1.0, 2.0], [1.0, 2.0]), ShapeError, "Q", "shape (2,)"),
    "Q is a cube": (lambda: UserDataset(np.zeros((1, 1, 1)), [1.0]), ShapeError, "Q", "shape (1, 1, 1)"),
    "Q has no columns": (lambda: UserDataset(np.zeros((2, 0)), [1.0, 2.0]), ShapeError, "Q", "shape (2, 0)"),
    "Q has rows of several lengths": (
        lambda: UserDataset([[1.0, 2.0], [3.0]], [1.0, 2.0]),
        ShapeError,
        "Q",
        "not an array",
    ),
    "A has rows of several lengths": (
        lambda: UserDataset([[1.0], [2.0]], [[1.0, 0.0], [1.0]]),
        ShapeError,
        "A",
        "not an array",
    ),
    "A is too short": (lambda: UserDataset([[1.0], [2.0]], [1.0]), ShapeError, "A", "shape (1,)"),
    "A is a number": (lambda: UserDataset([[1.0]], 1.0), ShapeError, "A", "shape ()"),
    "A is a cube": (lambda: UserDataset([[1.0]], [[[1.0]]]), ShapeError, "A", "shape (1, 1, 1)"),
    "rho is too long": (lambda: PROBLEM.value(np.zeros(3), np.zeros((2, 2))), ShapeError, "rho", "shape (3,)"),
    "a model is missing": (lambda: PROBLEM.value(np.zeros(2), np.zeros((1, 2))), ShapeError, "thetas", "shape (1, 2)"),
    "the reported model is too short": (lambda: PROBLEM.pin(0, [1.0]), ShapeError, "reported_model", "shape (1,)"),
    "g is a matrix": (lambda: PROBLEM.tilt(0, [[1.0, 2.0]]), ShapeError, "g", "shape (1, 2)"),
    # Wrong types.
    "Q is text": (lambda: UserDataset([["a"]], [1.0]), ShapeError, "Q", "dtype <U1"),
    "Q is complex": (lambda: UserDataset([[1.0 + 1.0j]], [1.0]), ShapeError, "Q", "dtype complex128"),
    "Q is None": (lambda: UserDataset(None, [1.0]), ShapeError, "Q", "dtype object"),
    "A holds None": (lambda: UserDataset([[1.0]], [None]), ShapeError, "A", "dtype object"),
    "A holds dates": (
        lambda: UserDataset([[1.0]], np.array(["2022-07-17"], "datetime64[D]")),
        ShapeError,
        "A",
        "datetime64",
    ),
    # Labels outside the loss's set, named by the user who holds them.
    "a logistic label 0": (
        lambda: problem([USER, UserDataset([[1.0, 0.0]], [0.0])], Logistic()),
        ShapeError,
        "users[1].A",
        "0.0 at index 0",
    ),
    "a logistic label 2": (lambda: problem([UserDataset([[1.0]], [2.0])], Logistic()), ShapeError, "users[0].A", "2.0"),
    "a class id K": (lambda: problem([UserDataset([[1.0]], [3.0])], Multinomial(3)), ShapeError, "users[0].A", "3.0"),
    "a class id -1": (
        lambda: problem([UserDataset([[1.0]], [-1.0])], Multinomial(3)),
        ShapeError,
        "users[0].A",
        "-1.0",
    ),
    "a class id 0.5": (lambda: problem([UserDataset([[1.0]], [0.5])], Multinomial(3)), ShapeError, "users[0].A", "0.5"),
    "probabilities of sum 0.9": (
        lambda: problem([UserDataset([[1.0]], [[0.5, 0.4, 0.0]])], Multinomial(3)),
        ShapeError,
        "users[0].A",
        "at row 0",
    ),
    "a negative probability": (
        lambda: problem([UserDataset([[1.0]], [[1.5, -0.5, 0.0]])], Multinomial(3)),
        ShapeError,
        "users[0].A",
        "at row 0",
    ),
    "probabilities of two classes for three": (
        lambda: problem([UserDataset([[1.0]], [[0.5, 0.5]])], Multinomial(3)),
        ShapeError,
        "users[0].A",
        "shape (1, 2)",
    ),
    "probabilities for least squares": (
        lambda: problem([UserDataset([[1.0]], [[0.5, 0.5]])]),
        ShapeError,
        "users[0].A",
        "shape (1, 2)",
    ),
    # λ, ν and other numbers.
    **{
        f"{reg_type.__name__} with lambda {name}": (lambda r=reg_type, lam=lam: r(lam), AssumptionError, "lam", found)
        for reg_type in (SquaredL2, L2, SmoothL2)
        for name, lam, found in (
            ("0", 0.0, "0.0"),
            ("-1", -1, "-1.0"),
            ("NaN", math.nan, "nan"),
            ("infinity", math.inf, "inf"),
            ("10 to the 400", 10**400, "inf"),
            ("-10 to the 400", -(10**400), "-inf"),
        )
    },
    "lambda is text": (lambda: L2("1"), ShapeError, "lam", "'1'"),
    "lambda is None": (lambda: L2(None), ShapeError, "lam", "None"),
    "lambda is an array": (lambda: L2(np.ones(2)), ShapeError, "lam", "array([1., 1.])"),
    "lambda is a truth value": (lambda: L2(True), ShapeError, "lam", "True"),
    "lambda is a Decimal": (lambda: L2(Decimal(1)), ShapeError, "lam", "Decimal('1')"),
    "nu is negative": (lambda: problem(nu=-1e-300), AssumptionError, "nu", "-1e-300"),
    "nu is NaN": (lambda: problem(nu=math.nan), AssumptionError, "nu", "nan"),
    "nu is infinite": (lambda: problem(nu=math.inf), AssumptionError, "nu", "inf"),
    "nu is text": (lambda: problem(nu="0"), ShapeError, "nu", "'0'"),
    # Users.
    "no users": (lambda: problem([]), ShapeError, "users", "none"),
    "users are not a sequence": (lambda: problem(7), ShapeError, "users", "7"),
    "one user without brackets": (lambda: problem(USER), ShapeError, "users", "UserDataset"),
    "a user is a pair": (lambda: problem([USER, ([[1.0, 2.0]], [1.0])]), ShapeError, "users[1]", "tuple"),
    "users of several dimensions": (
        lambda: problem([USER, UserDataset([[1.0, 2.0, 3.0]], [1.0])]),
        ShapeError,
        "users[1]",
        "dimension 3",
    ),
    "an empty user of another dimension": (
        lambda: problem([USER, UserDataset.empty(3)]),
        ShapeError,
        "users[1]",
        "dimension 3",
    ),
    # The loss and the regularizer themselves.
    "the loss is a name": (lambda: problem(loss="logistic"), ShapeError, "loss", "'logistic'"),
    "the loss is a class": (lambda: problem(loss=Logistic), ShapeError, "loss", "Logistic"),
    "the regularizer is a number": (lambda: problem(reg=1.0), ShapeError, "reg", "1.0"),
    "the regularizer is a class": (lambda: problem(reg=L2), ShapeError, "reg", "L2"),
    "the loss in place of the regularizer": (lambda: problem(reg=LeastSquares()), ShapeError, "reg", "LeastSquares()"),
    "one class": (lambda: Multinomial(1), ShapeError, "n_classes", "1"),
    "2.5 classes": (lambda: Multinomial(2.5), ShapeError, "n_classes", "2.5"),
    # Indices.
    "pin of user N": (lambda: PROBLEM.pin(2, [0.0, 0.0]), ShapeError, "s", "2"),
    "pin of user -1": (lambda: PROBLEM.pin(-1, [0.0, 0.0]), ShapeError, "s", "-1"),
    "tilt of user 0.0": (lambda: PROBLEM.tilt(0.0, [0.0, 0.0]), ShapeError, "s", "0.0"),
    "without user True": (lambda: PROBLEM.without(True), ShapeError, "s", "True"),
    # Generators.
    "gaussian queries of dimension 0": (lambda: GaussianQueries(0), ShapeError, "dim", "0"),
    "sphere queries of dimension -1": (lambda: SphereQueries(-1), ShapeError, "dim", "-1"),
    "rademacher queries of dimension 1.0": (lambda: RademacherQueries(1.0), ShapeError, "dim", "1.0"),
    "a cube of width 0": (lambda: CubeQueries(1, 0.0), AssumptionError, "half_width", "0.0"),
    "a cube of width NaN": (lambda: CubeQueries(1, math.nan), AssumptionError, "half_width", "nan"),
    "no rows": (lambda: EmpiricalQueries(np.zeros((0, 2))), ShapeError, "rows", "shape (0, 2)"),
    "rows with a NaN": (lambda: EmpiricalQueries([[math.nan]]), ShapeError, "rows", "nan at index (0, 0)"),
    "an empty user of dimension 0": (lambda: UserDataset.empty(0), ShapeError, "dim", "0"),
    "a preferred model that is too short": (
        lambda: honest_answers(np.ones((2, 3)), [1.0], Logistic(), RNG),
        ShapeError,
        "theta_honest",
        "shape (1,)",
    ),
    "a preferred model for two classes of three": (
        lambda: honest_dataset(GaussianQueries(2), np.zeros(4), 3, Multinomial(3), RNG),
        ShapeError,
        "theta_honest",
        "shape (4,)",
    ),
    "negative noise": (
        lambda: honest_answers(np.ones((2, 1)), [1.0], LeastSquares(), RNG, noise=-1.0),
        AssumptionError,
        "noise",
        "-1.0",
    ),
    "a negative number of data": (
        lambda: honest_dataset(GaussianQueries(1), [1.0], -1, Logistic(), RNG),
        ShapeError,
        "n_data",
        "-1",
    ),
    "half a datum": (
        lambda: honest_dataset(GaussianQueries(1), [1.0], 0.5, Logistic(), RNG),
        ShapeError,
        "n_data",
        "0.5",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_by_name(case: str) -> None:
    act, error, argument, found = CASES[case]
    with pytest.raises(EquipoiseError) as caught:
        act()
    assert type(caught.value) is error
    message = str(caught.value)
    if isinstance(caught.value, ShapeError):
        assert message == f"{argument}: expected {caught.value.expected}, found {caught.value.found}"
        assert found in caught.value.found
    else:
        assert isinstance(caught.value, AssumptionError)
        assert caught.value.value == f"{argument} = {found}"
        assert f"{argument} must be" in caught.value.mend
    # Callers that know only the built-in exceptions catch it, too.
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("value", [np.float32(2.0), np.float64(2.0), np.int64(2), 2, 2.0])
def test_every_kind_of_real_number_is_accepted(value: Any) -> None:
    assert as_positive(value, "x", "s") == 2.0
    assert as_nonnegative(value, "x", "s") == 2.0
    assert L2(value).lam == 2.0
    assert type(L2(value).lam) is float


@pytest.mark.parametrize("value", [np.int64(2), np.uint8(2), 2])
def test_every_kind_of_integer_is_accepted(value: Any) -> None:
    assert as_count(value, "n") == 2
    assert as_index(value, "n", 3) == 2
    assert PROBLEM.pin(value - 1, [0.0, 0.0]).pinned.keys() == {1}


def test_sizes_of_narrow_types_do_not_overflow() -> None:
    # 20 classes of 20 features are 400 parameters, in uint8 144; and 784 features are not even a uint8.
    for d, P in ((20, 400), (784, 15680)):
        users = [UserDataset(np.ones((1, d)), np.array([19], np.uint8))]
        assert Problem(users, Multinomial(np.uint8(19) + np.uint8(1)), L2(1.0)).dim == P
    assert BallQueries(np.uint8(254)).bound == 16.0
    for make in (GaussianQueries, CubeQueries, RademacherQueries, SphereQueries, BallQueries):
        assert type(make(np.uint8(3)).dim) is int
    # σ² = w²/3 of the w that is stored, in float64.
    cube = CubeQueries(1, np.float32(0.3))
    assert cube.second_moment()[0, 0] == float(np.float32(0.3)) ** 2 / 3.0


def test_an_array_of_which_nothing_is_masked_is_accepted() -> None:
    np.testing.assert_array_equal(as_array(np.ma.masked_array([1.0, 2.0], mask=False), "x", 1), [1.0, 2.0])


def test_large_finite_entries_are_accepted() -> None:
    # Their sum overflows, which must not be taken for an infinite entry.
    np.testing.assert_array_equal(as_array([1.7e308, 1.7e308], "x", 1), [1.7e308, 1.7e308])


def test_the_message_states_the_expected_shape() -> None:
    with pytest.raises(
        ShapeError, match=r"x: expected a two-dimensional array of shape \(any, 3\), found shape \(2, 2\)"
    ):
        as_array(np.zeros((2, 2)), "x", 2, (None, 3))
    with pytest.raises(ShapeError, match=r"x: expected a one-dimensional array of shape \(3,\), found shape \(2,\)"):
        as_array(np.zeros(2), "x", 1, (3,))


def test_an_error_while_users_are_read_is_that_of_their_source() -> None:
    def source() -> Iterator[UserDataset]:
        yield USER
        raise TypeError("the third column is text")

    # It says nothing about ``users``, which can be read one by one.
    with pytest.raises(TypeError, match="the third column is text"):
        problem(source())
    assert problem(iter([USER, USER])).n_users == 2


@pytest.mark.parametrize(
    "error",
    [ShapeError("Q", "a matrix", "7"), AssumptionError("thm1", "nu = 0", "take nu > 0"), CertificateError("no")],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_the_way_from_another_process(error: EquipoiseError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_a_solver_error_carries_its_solution() -> None:
    again = pickle.loads(pickle.dumps(SolverError("stalled", {"rho": 1.0})))
    assert (str(again), again.solution) == ("stalled", {"rho": 1.0})
