"""Problem against equations 1, 2 and 48, written once more in 60-digit arithmetic from the raw data.

The reference knows nothing of :meth:`Problem.pin`, :meth:`Problem.tilt` and the block of data: it sums eq. 1 over the
users that are left, adds what pins and tilts say, and takes derivatives by differences at 1e-25.
"""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks import strategies
from proofs_checks.generators import CORNERS, LOSSES, REGULARIZERS
from theory import L2, AssumptionError, LeastSquares, Logistic, Multinomial, Problem, SmoothL2, SquaredL2, UserDataset

EPS = float(np.finfo(np.float64).eps)
DIGITS = 60
STEP = mp.mpf(10) ** -25
CASES = [(loss, reg_type) for loss in LOSSES for reg_type in REGULARIZERS]


@dataclass
class Story:
    """How a problem came about: the users, and what each of them does."""

    users: list[UserDataset]
    loss: Any
    reg: Any
    nu: float
    pins: dict[int, np.ndarray]
    tilts: dict[int, np.ndarray]

    def told(self) -> Problem:
        problem = Problem(self.users, self.loss, self.reg, self.nu)
        for s, model in self.pins.items():
            problem = problem.pin(s, model)
        # From the last user to the first, so that indices stay.
        for s in sorted(self.tilts, reverse=True):
            problem = problem.tilt(s, self.tilts[s])
        return problem

    @property
    def rest(self) -> list[int]:
        return [n for n in range(len(self.users)) if n not in self.tilts]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    loss, reg = draw(strategies.losses()), draw(strategies.regularizers())
    d = draw(st.integers(1, 2))
    users = draw(st.lists(strategies.datasets(loss, d, 4.0), min_size=1, max_size=4))
    acts = draw(
        st.lists(st.sampled_from(["stays", "stays", "pinned", "tilts"]), min_size=len(users), max_size=len(users))
    )
    P = d * loss.n_outputs
    vectors = {n: draw(strategies.vectors(P, 4.0)) for n, act in enumerate(acts) if act != "stays"}
    return Story(
        users=users,
        loss=loss,
        reg=reg,
        nu=draw(st.sampled_from([0.0, 0.5]) | st.floats(0.0, 10.0, allow_subnormal=False)),
        pins={n: v for n, v in vectors.items() if acts[n] == "pinned"},
        tilts={n: v for n, v in vectors.items() if acts[n] == "tilts"},
    )


def exact(values: Any) -> list[Any]:
    return [mp.mpf(float(x)) for x in np.ravel(values)]


def phi(loss: Any, m: list[Any], answer: Any) -> Any:
    """Eq. 5's terms from the answers as users give them."""
    if isinstance(loss, LeastSquares):
        return (m[0] - mp.mpf(float(answer))) ** 2 / 2
    if isinstance(loss, Logistic):
        return mp.log(1 + mp.exp(-mp.mpf(float(answer)) * m[0]))
    partition = mp.log(mp.fsum(mp.exp(x) for x in m))
    if np.ndim(answer) == 0:
        return partition - m[int(answer)]
    weights = exact(answer)
    return mp.fsum(weights) * partition - mp.fdot(weights, m)


def local(story: Story, n: int, theta: list[Any]) -> Any:
    total = mp.mpf(story.nu) * mp.fdot(theta, theta)
    if n in story.pins:
        return total
    Q, A = story.users[n].Q, story.users[n].A
    d = Q.shape[1]
    for q, answer in zip(Q, A, strict=True):
        m = [mp.fdot(exact(q), theta[k * d : (k + 1) * d]) for k in range(story.loss.n_outputs)]
        total += phi(story.loss, m, answer)
    return total


def spring(reg: Any, rho: list[Any], theta: list[Any]) -> Any:
    square = mp.fsum((x - y) ** 2 for x, y in zip(rho, theta, strict=True))
    if isinstance(reg, SquaredL2):
        return reg.lam * square
    return reg.lam * mp.sqrt(square if isinstance(reg, L2) else 1 + square)


def global_loss(story: Story, rho: list[Any], thetas: list[list[Any]]) -> Any:
    """Eq. 1 over the users that are left, plus ρᵀg for each tilt (eq. 48)."""
    total = mp.mpf(0)
    for n, theta in zip(story.rest, thetas, strict=True):
        total += local(story, n, theta) + spring(story.reg, rho, theta)
    return total + mp.fsum(mp.fdot(rho, exact(g)) for g in story.tilts.values())


def sizes(story: Story, rho: np.ndarray, thetas: np.ndarray) -> tuple[float, float]:
    """Sums of the sizes of all terms of the loss, and of its gradient: rounding is a few ε times these."""
    value = slope = 0.0
    for g in story.tilts.values():
        value += float(np.abs(rho) @ np.abs(g))
        slope += float(np.abs(g).sum())
    for n, theta in zip(story.rest, thetas, strict=True):
        length = float(np.linalg.norm(theta))
        value += story.nu * length**2 + float(story.reg.value(rho, theta))
        slope += 2.0 * story.nu * length + (
            2.0 * story.reg.lam * float(np.linalg.norm(rho - theta))
            if isinstance(story.reg, SquaredL2)
            else story.reg.lam
        )
        if n in story.pins or not story.users[n].n_data:
            continue
        Q = np.abs(story.users[n].Q)
        m = Q @ np.abs(theta.reshape(story.loss.n_outputs, -1)).T
        forces = m[:, 0] + np.abs(story.users[n].A) if isinstance(story.loss, LeastSquares) else 1.0 + m.sum(axis=1)
        value += float(np.sum(forces**2))
        slope += float((Q.T @ forces).sum())
    return value, slope


def draw_point(data: st.DataObject, story: Story) -> tuple[np.ndarray, np.ndarray]:
    return data.draw(strategies.points(story.told(), 4.0))


def check_value(make: Any) -> None:
    @given(stories(), st.data())
    def attack(story: Story, data: st.DataObject) -> None:
        rho, thetas = draw_point(data, story)
        with mp.workdps(DIGITS):
            expected = global_loss(story, exact(rho), [exact(theta) for theta in thetas])
            error = abs(float(expected - make(story).value(rho, thetas)))
        assert error <= 40 * EPS * (1.0 + sizes(story, rho, thetas)[0])

    attack()


def check_gradient(make: Any) -> None:
    @given(stories(), st.data())
    def attack(story: Story, data: st.DataObject) -> None:
        rho, thetas = draw_point(data, story)
        if isinstance(story.reg, L2):
            # Beside the kink; at it, see below.
            near = np.linalg.norm(rho - thetas, axis=1) < 1e-6
            if near.any():
                return
        d_rho, d_thetas = make(story).gradient(rho, thetas)
        with mp.workdps(DIGITS):
            at = global_loss(story, exact(rho), [exact(theta) for theta in thetas])
            tolerance = 100 * EPS * (1.0 + sizes(story, rho, thetas)[1]) + 1e-14 * story.reg.lam
            for i in range(rho.size):
                moved = exact(rho)
                moved[i] += STEP
                slope = (global_loss(story, moved, [exact(theta) for theta in thetas]) - at) / STEP
                assert abs(float(slope - float(d_rho[i]))) <= tolerance
            for row, n in enumerate(story.rest):
                for i in range(rho.size):
                    models = [exact(theta) for theta in thetas]
                    models[row][i] += STEP
                    slope = (global_loss(story, exact(rho), models) - at) / STEP
                    # A pinned model is not a variable.
                    slope = mp.mpf(0) if n in story.pins else slope
                    assert abs(float(slope - float(d_thetas[row, i]))) <= tolerance

    attack()


CHECKS = [check_value, check_gradient]


@pytest.mark.parametrize("check", CHECKS)
def test_agrees_with_equations_1_2_and_48(check: Any) -> None:
    check(Story.told)


def keeps_the_data_of_a_pin(story: Story) -> Problem:
    """A pin that forgets to drop the data."""
    pinned = story.told()
    problem = Story(story.users, story.loss, story.reg, story.nu, {}, story.tilts).told()
    return problem._derive(pinned=pinned.pinned)


def tilts_the_wrong_way(story: Story) -> Problem:
    return story.told()._derive(slope=-story.told().slope)


def keeps_the_regularization_of_a_tilt(story: Story) -> Problem:
    problem = story.told()
    if not story.tilts:
        return problem
    return problem._derive(reg=type(story.reg)(story.reg.lam * (1.0 + 1.0 / max(1, problem.n_users))))


def is_a_mean_over_users(story: Story) -> Problem:
    return story.told()._derive(nu=story.nu / len(story.users))


def lets_a_pin_move(story: Story) -> Problem:
    return story.told()._derive(pinned={})


PLANTED = [
    (check_value, keeps_the_data_of_a_pin),
    (check_value, tilts_the_wrong_way),
    (check_value, keeps_the_regularization_of_a_tilt),
    (check_value, is_a_mean_over_users),
    (check_gradient, lets_a_pin_move),
    (check_gradient, tilts_the_wrong_way),
    (check_gradient, keeps_the_regularization_of_a_tilt),
    (check_gradient, is_a_mean_over_users),
]


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize(("check", "mutant"), PLANTED, ids=lambda function: function.__name__)
def test_a_wrong_view_is_caught(check: Any, mutant: Any) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_at_the_kink_the_gradient_is_one_subgradient(loss: Any, rng: np.random.Generator) -> None:
    problem = CORNERS["plain"](rng, loss, L2)
    rho = rng.standard_normal(problem.dim)
    thetas = np.tile(rho, (problem.n_users, 1))
    d_rho, d_thetas = problem.gradient(rho, thetas)
    assert np.array_equal(d_rho, np.zeros(problem.dim))
    # A subgradient supports the convex loss from below, in every direction.
    for _ in range(50):
        move, moves = rng.standard_normal(problem.dim), rng.standard_normal(thetas.shape)
        rise = problem.value(rho + move, thetas + moves) - problem.value(rho, thetas)
        assert rise >= d_rho @ move + np.sum(d_thetas * moves) - 1e-9


def check_convexity(change: Any) -> None:
    @given(strategies.problems(), st.data())
    def attack(problem: Problem, data: st.DataObject) -> None:
        problem = change(problem)
        rho_a, thetas_a = data.draw(strategies.points(problem))
        rho_b, thetas_b = data.draw(strategies.points(problem))
        a, b = problem.value(rho_a, thetas_a), problem.value(rho_b, thetas_b)
        middle = problem.value(0.5 * (rho_a + rho_b), _middle(problem, thetas_a, thetas_b))
        # Sums of at most 30 terms; a tilt, and the margins of which a cross-entropy is a difference, may be larger:
        # by |ρᵀg| and, for 25 data with queries and models up to 10 in 3 dimensions, by 25 · 300.
        sizes = abs(a) + abs(b) + float(np.abs(problem.slope) @ (np.abs(rho_a) + np.abs(rho_b))) + 7500.0
        assert middle <= 0.5 * (a + b) + 60 * EPS * sizes

    attack()


def test_the_loss_is_convex() -> None:
    check_convexity(lambda problem: problem)


@pytest.mark.usefixtures("planted")
def test_a_loss_that_is_not_convex_is_caught() -> None:
    class Repelling(SmoothL2):
        def value(self, rho: Any, theta: Any) -> Any:
            return -super().value(rho, theta)

    with pytest.raises(AssertionError):
        check_convexity(lambda problem: problem._derive(reg=Repelling(1.0)))


def _middle(problem: Problem, thetas_a: np.ndarray, thetas_b: np.ndarray) -> np.ndarray:
    middle = 0.5 * (thetas_a + thetas_b)
    for s, model in problem.pinned.items():
        middle[s] = model
    return middle


# The views.


@pytest.fixture
def problem(rng: np.random.Generator) -> Problem:
    return CORNERS["plain"](rng, LeastSquares(), SmoothL2)


def test_a_pin_of_a_pinned_user_replaces_it(problem: Problem) -> None:
    twice = problem.pin(1, np.ones(3)).pin(1, np.zeros(3))
    assert list(twice.pinned) == [1]
    np.testing.assert_array_equal(twice.pinned[1], np.zeros(3))


def test_indices_of_pins_move_up_when_a_user_leaves(problem: Problem) -> None:
    pinned = problem.pin(0, [0.0] * 3).pin(2, [2.0] * 3).pin(3, [3.0] * 3)
    assert {s: float(model[0]) for s, model in pinned.without(1).pinned.items()} == {0: 0.0, 1: 2.0, 2: 3.0}
    assert {s: float(model[0]) for s, model in pinned.without(2).pinned.items()} == {0: 0.0, 2: 3.0}
    assert [user.n_data for user in pinned.without(2).users] == [0, 8, 0]
    np.testing.assert_array_equal(pinned.without(1).free, [False, False, False])
    np.testing.assert_array_equal(pinned.without(0).free, [True, False, False])


def test_a_problem_is_shown_in_one_line_whatever_its_users_hold(problem: Problem) -> None:
    # The data of a million users would fill a screen for hours.
    expected = "Problem(n_users=4, dim=3, loss=LeastSquares(), reg=SmoothL2(lam=1.5), nu=0.25, pinned=[1, 3])"
    assert repr(problem.with_regularizer(SmoothL2(1.5), 0.25).pin(3, np.zeros(3)).pin(1, np.ones(3))) == expected


def test_tilts_add_up(problem: Problem) -> None:
    tilted = problem.tilt(3, [1.0, 0.0, 0.0]).tilt(0, [0.5, 2.0, 0.0])
    np.testing.assert_array_equal(tilted.slope, [1.5, 2.0, 0.0])
    assert tilted.n_users == 2
    for kept, original in zip(tilted.users, problem.users[1:3], strict=True):
        np.testing.assert_array_equal(kept.Q, original.Q)


def test_a_view_leaves_the_problem_as_it_is(problem: Problem) -> None:
    rho, thetas = np.ones(3), np.ones((4, 3))
    before = problem.value(rho, thetas)
    problem.pin(0, np.zeros(3)).tilt(1, np.ones(3)).without(0)
    assert problem.value(rho, thetas) == before
    assert (problem.n_users, len(problem.pinned), problem.slope.any()) == (4, 0, False)


def test_views_copy_no_data(problem: Problem) -> None:
    for view in (problem.pin(0, np.zeros(3)), problem.tilt(0, np.ones(3)), problem.without(3)):
        assert view.stack.Q is problem.stack.Q
        assert np.shares_memory(view.users[1].Q, problem.stack.Q)


def test_data_that_are_one_block_are_not_copied(rng: np.random.Generator) -> None:
    user = UserDataset(rng.standard_normal((5, 3)), rng.standard_normal(5))
    assert Problem([user], LeastSquares(), L2(1.0)).stack.Q is user.Q
    two = Problem([user, user], LeastSquares(), L2(1.0))
    assert two.stack.Q.shape == (10, 3)
    assert not np.shares_memory(two.stack.Q, user.Q)


def test_a_pinned_row_must_be_the_reported_model(problem: Problem) -> None:
    pinned = problem.pin(1, [1.0, 2.0, 3.0])
    thetas = np.zeros((4, 3))
    for evaluate in (pinned.value, pinned.gradient):
        with pytest.raises(AssumptionError, match=r"thetas\[1\] differs .* by 3"):
            evaluate(np.zeros(3), thetas)


def test_nobody_is_left() -> None:
    empty = Problem([UserDataset([[1.0, 2.0]], [3.0])], LeastSquares(), L2(1.0)).tilt(0, [1.0, -1.0])
    assert (empty.n_users, empty.dim, empty.query_dim) == (0, 2, 2)
    assert empty.value([2.0, 0.5], np.zeros((0, 2))) == 1.5
    d_rho, d_thetas = empty.gradient([2.0, 0.5], np.zeros((0, 2)))
    np.testing.assert_array_equal(d_rho, [1.0, -1.0])
    assert d_thetas.shape == (0, 2)


def test_dimensions_of_classes() -> None:
    problem = Problem([UserDataset([[1.0, 2.0]], [2.0])], Multinomial(3), L2(1.0))
    assert (problem.dim, problem.query_dim) == (6, 2)
    # Row k of the flattened (K, d) matrix is class k: only its margin grows.
    theta = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 2.0])
    assert problem.value(theta, theta[None]) == pytest.approx(np.log(2.0 + np.exp(5.0)) - 5.0, rel=8 * EPS)


# What does not change the loss.


@pytest.mark.parametrize(("loss", "reg_type"), CASES, ids=str)
def test_order_of_users_and_of_data_does_not_matter(loss: Any, reg_type: Any, rng: np.random.Generator) -> None:
    problem = CORNERS["plain"](rng, loss, reg_type)
    rho, thetas = rng.standard_normal(problem.dim), rng.standard_normal((4, problem.dim))
    order, rows = rng.permutation(4), rng.permutation(8)
    users = [UserDataset(problem.users[n].Q[rows], problem.users[n].A[rows]) for n in order]
    shuffled = Problem(users, loss, problem.reg, problem.nu)
    assert shuffled.value(rho, thetas[order]) == pytest.approx(problem.value(rho, thetas), rel=40 * EPS)
    np.testing.assert_allclose(
        shuffled.gradient(rho, thetas[order])[1], problem.gradient(rho, thetas)[1][order], atol=1e-13
    )


@pytest.mark.parametrize(("loss", "reg_type"), CASES, ids=str)
def test_rotating_the_space_does_not_matter(loss: Any, reg_type: Any, rng: np.random.Generator) -> None:
    problem = CORNERS["plain"](rng, loss, reg_type)
    rotation = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    users = [UserDataset(user.Q @ rotation, user.A) for user in problem.users]
    blocks = np.kron(np.eye(loss.n_outputs), rotation)
    rho, thetas = rng.standard_normal(problem.dim), rng.standard_normal((4, problem.dim))
    rotated = Problem(users, loss, problem.reg, problem.nu)
    # An orthogonal matrix from QR is orthogonal to a few ε, which margins of size 10 and their slopes multiply.
    assert rotated.value(rho @ blocks, thetas @ blocks) == pytest.approx(problem.value(rho, thetas), rel=1e-13)


# Memory and processes.


def test_a_problem_does_not_change_with_the_callers_arrays() -> None:
    Q, A = np.array([[1.0], [2.0]]), np.array([1.0, 2.0])
    read_only_view = Q[:]
    read_only_view.flags.writeable = False
    for queries in (Q, read_only_view):
        problem = Problem([UserDataset(queries, A)], LeastSquares(), L2(1.0))
        model = np.zeros(1)
        pinned = problem.pin(0, model)
        before = problem.value([0.0], [[0.0]])
        Q[0, 0] += 100.0
        A[0] += 100.0
        model[0] = 5.0
        assert problem.value([0.0], [[0.0]]) == before
        assert pinned.pinned[0][0] == 0.0


def test_nothing_can_be_written(problem: Problem) -> None:
    pinned = problem.pin(0, np.zeros(3)).tilt(1, np.ones(3))
    for array in (
        pinned.stack.Q,
        pinned.stack.labels,
        pinned.users[1].Q,
        pinned.users[1].A,
        pinned.slope,
        pinned.pinned[0],
    ):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0.0
    with pytest.raises(AttributeError):
        pinned.nu = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        pinned.pinned[2] = np.zeros(3)  # type: ignore[index]


@pytest.mark.parametrize("corner", ["pinned_and_tilted", "empty_users", "soft_labels"])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda problem: pickle.loads(pickle.dumps(problem))])
def test_a_problem_can_be_sent_to_another_process(corner: str, duplicate: Any, rng: np.random.Generator) -> None:
    problem = CORNERS[corner](rng, Multinomial(3), SmoothL2)
    again = duplicate(problem)
    rho, thetas = rng.standard_normal(problem.dim), rng.standard_normal((problem.n_users, problem.dim))
    for s, model in problem.pinned.items():
        thetas[s] = model
    assert again.value(rho, thetas) == problem.value(rho, thetas)
    assert not np.shares_memory(again.stack.Q, problem.stack.Q)
    assert not again.stack.Q.flags.writeable
    assert not again.slope.flags.writeable
    for user in again.users:
        assert not user.A.flags.writeable
        assert user.n_data == 0 or np.shares_memory(user.Q, again.stack.Q)
    # The copy is a full problem: its views work.
    assert again.pin(0, np.zeros(problem.dim)).n_users == problem.n_users
