"""Verdicts and grades are computed as they are said to be, and what is malformed is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from flint import arb
from hypothesis import strategies as st

from proofs_checks import registry
from proofs_checks.registry import (
    Evidence,
    Grade,
    Outcome,
    RegistryError,
    Statement,
    Tally,
    Verdict,
    Witness,
    at_most,
    both,
    check,
    entries,
    gather,
    less,
    parse,
    run,
    statements,
)
from proofs_checks.search import attack, counterexample
from proofs_checks.strategies import arguments, rational

# What the paper numbers, so that nothing can be left out unnoticed: kind, prefix of the ids, how many.
NUMBERED = [
    ("definition", "def", 8),
    ("theorem", "thm", 9),
    ("lemma", "lem", 31),
    ("proposition", "prop", 4),
    ("corollary", "cor", 3),
    ("assumption", "asm", 1),
    ("figure", "fig", 20),
    ("table", "table", 1),
    ("companion", "c", 21),
]
CLAIMS_IN_THE_TEXT = [
    "grad_set",
    "claim_all_continuous_regularizers",
    "claim_model_is_gradient_attack",
    "claim_average_local_models",
    "claim_trivial_model_attack",
    "claim_data_growth",
    "claim_sum_beats_expectation",
    "claim_gradient_pac_poison",
    "claim_data_linear_in_n",
]
# Ids that other parts of the repository name in their errors and docstrings.
NAMED_ELSEWHERE = ["eq1_global_loss", "eq2_modified_loss", "eq5_local_loss", "def_regularization", "grad_set"]


# ---- paper.toml -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "prefix", "count"), NUMBERED, ids=[kind for kind, _, _ in NUMBERED])
def test_every_numbered_statement_is_there_once(kind: str, prefix: str, count: int) -> None:
    ids = [identifier for identifier, statement in statements().items() if statement.kind == kind]
    numbers = [identifier.removeprefix(prefix).split("_")[0] for identifier in ids if identifier.startswith(prefix)]
    assert sorted(int(number) for number in numbers if number.isdigit()) == list(range(1, count + 1))


def test_every_equation_is_in_exactly_one_statement() -> None:
    numbers = sorted(number for statement in statements().values() for number in statement.equations)
    assert numbers == list(range(1, 188))


def test_the_claims_of_the_running_text_are_there() -> None:
    assert set(CLAIMS_IN_THE_TEXT) | set(NAMED_ELSEWHERE) <= statements().keys()


def test_what_bears_no_verdict_says_why() -> None:
    checked = {made.statement for made in registry.checks().values()}
    silent = [s.id for s in statements().values() if s.id not in checked and not s.open]
    assert not silent


def test_references_to_statements_in_the_code_exist() -> None:
    assert {made.statement for made in registry.checks().values()} <= statements().keys()


def table(*entries_: dict[str, Any]) -> dict[str, Any]:
    base = {"kind": "lemma", "ref": "Lemma 0", "place": "A", "claim": "A claim."}
    return {"statement": [{**base, **entry} for entry in entries_]}


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (table({"id": "a"}, {"id": "a"}), "two of this id"),
        (table({"id": "a", "equations": [1]}, {"id": "b", "equations": [1]}), "equation 1 is in a and in b"),
        (table({"id": "a", "uses": ["b"]}), "which does not exist"),
        (table({"id": "a", "uses": ["b"]}, {"id": "b", "uses": ["a"]}), "a proof uses itself"),
        (table({"id": "a", "kind": "hunch"}), "unknown kind"),
        (table({"id": "a", "grade": "proved"}), "grade"),
    ],
    ids=["duplicate", "equation_twice", "dangling", "cycle", "kind", "typed_grade"],
)
def test_a_malformed_paper_is_refused(broken: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RegistryError, match=complaint):
        parse(broken)


# ---- Evidence ---------------------------------------------------------------------------------------------------


def test_nan_and_overlapping_balls_are_undecided() -> None:
    assert at_most(math.nan, 1.0) is None
    assert less(1.0, math.nan) is None
    assert at_most(arb(0, 1), arb(0.5)) is None
    assert less(arb(0, 0.25), arb(0.5)) is True
    assert less(Fraction(1), Fraction(1)) is False
    assert both(True, None, False) is False


def evidence_of(*records: Callable[[Tally], None]) -> Evidence:
    tally = Tally()
    for record in records:
        record(tally)
    return tally.evidence()


@pytest.mark.parametrize(
    ("records", "verdict"),
    [
        ([], Verdict.UNKNOWN),
        ([lambda t: t.skip()], Verdict.UNKNOWN),
        ([lambda t: t.claim(True, "x")], Verdict.HOLDS),
        ([lambda t: t.claim(True, "x"), lambda t: t.claim(None, "y")], Verdict.UNKNOWN),
        ([lambda t: t.claim(True, "x"), lambda t: t.step(None, "y")], Verdict.UNKNOWN),
        ([lambda t: t.claim(True, "x"), lambda t: t.step(False, "y")], Verdict.UNKNOWN),
        ([lambda t: t.claim(None, "x"), lambda t: t.claim(False, "y")], Verdict.FAILS),
    ],
    ids=["nothing", "hypotheses_never_met", "decided", "undecided", "open_step", "broken_step", "witness"],
)
def test_the_verdict_follows_from_the_evidence(records: list[Callable[[Tally], None]], verdict: Verdict) -> None:
    assert evidence_of(*records).verdict is verdict


def test_what_is_adopted_counts_in_full() -> None:
    inner = evidence_of(lambda t: t.step(True, "step"), lambda t: t.claim(True, "x"), lambda t: t.skip())
    taken = evidence_of(lambda t: t.adopt(inner))
    assert taken == inner
    assert taken.verdict is Verdict.HOLDS
    for broken in (lambda t: t.claim(False, "no"), lambda t: t.claim(None, "open"), lambda t: t.step(None, "open")):
        assert evidence_of(lambda t: t.claim(True, "x"), lambda t, b=broken: t.adopt(evidence_of(b))).verdict is not (
            Verdict.HOLDS
        )


def test_an_attack_is_kept_for_the_end_and_left_out_where_there_is_a_witness() -> None:
    ran: list[str] = []
    tally = Tally()
    tally.at_end(lambda: (ran.append("first"), tally.claim(False, "found")))
    tally.at_end(lambda: ran.append("second"))
    tally.claim(True, "instance")
    assert not ran
    assert tally.evidence().verdict is Verdict.FAILS
    assert ran == ["first"]


@pytest.mark.parametrize("with_margin", [False, True], ids=["edges", "hill_climbing"])
def test_the_adversary_finds_a_witness_and_makes_it_small(with_margin: bool) -> None:
    tally = Tally()
    margin = (lambda x, y: 50 - x - y) if with_margin else None
    whole = st.integers(-9, 90)
    attack(tally, "x+y <= 50", arguments(x=whole, y=whole), lambda x, y: x + y <= 50, margin)
    (witness,) = tally.evidence().refuted
    assert sum(int(text) for text in witness.instance.values()) == 51


def test_rational_draws_reach_the_ends_of_their_range() -> None:
    for end in (Fraction(-7, 3), Fraction(22, 10**6 + 3)):
        drawn = arguments(x=rational(Fraction(-7, 3), Fraction(22, 10**6 + 3)))
        assert counterexample(drawn, lambda x, end=end: x != end) == {"x": end}


def test_the_adversary_climbs_to_what_edges_do_not_show() -> None:
    """False on a thousandth of the square, where chance alone hardly comes in 300 attempts."""
    whole = st.integers(0, 10**6)

    def distance(x: int, y: int) -> int:
        return abs(x - 123_457) + abs(y - 654_321)

    def hits(margin: Callable[..., int] | None) -> int:
        drawn = arguments(x=whole, y=whole)
        return sum(
            counterexample(drawn, lambda x, y: distance(x, y) > 20_000, margin, seed=seed, examples=300) is not None
            for seed in range(8)
        )

    assert hits(distance) >= hits(None) + 3


def test_an_attack_by_chance_does_not_decide_what_the_ledger_says_of_the_smallest_excess() -> None:
    def only_by_attack(wrong: Fraction = Fraction(0)) -> Evidence:
        tally = Tally()
        tally.claim(wrong != 1, "claim")
        attack(tally, "x <= 1-wrong", arguments(x=rational(0, 1)), lambda x: x <= 1 - wrong)
        return tally.evidence()

    outcome = run(make(only_by_attack, strengthen=lambda excess: {"wrong": excess}))
    slight = run(make(only_by_attack, falsehoods={"slight": {"wrong": Fraction(1, 10)}}))
    assert slight.falsehoods == {"slight": Verdict.HOLDS}
    assert outcome.amended.verdict is Verdict.HOLDS
    assert gather(make(only_by_attack), {"wrong": Fraction(1, 10)}).verdict is Verdict.FAILS
    assert outcome.smallest_caught == ""


def test_an_undecided_attack_is_no_witness() -> None:
    assert counterexample(arguments(x=rational()), lambda x: None) is None


def test_an_attack_that_breaks_leaves_the_claim_undecided() -> None:
    def broken(wrong: int = 0) -> Evidence:
        tally = Tally()
        tally.claim(not wrong, "claim")
        attack(tally, "x", arguments(x=rational()), lambda x: 1 / (x - x) > 0)
        return tally.evidence()

    assert run(make(broken)).amended.verdict is Verdict.UNKNOWN


def test_an_exception_is_evidence_of_nothing() -> None:
    made = make(lambda wrong=0: 1 // wrong)
    evidence = gather(made, {})
    assert evidence.verdict is Verdict.UNKNOWN
    assert "ZeroDivisionError" in evidence.undecided[0]


# ---- Registration -----------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks that a test registers are forgotten after it."""
    registry.checks()
    monkeypatch.setattr(registry, "_CHECKS", dict(registry._CHECKS))


def make(function: Callable[..., Any], **options: Any) -> registry.Check:
    options = {"method": "symbolic", "falsehoods": {"wrong": {"wrong": 1}}, **options}
    check("lem7_sum_smooth", part="trial", **options)(function)
    return registry._CHECKS["lem7_sum_smooth.trial"]


def holds_unless(wrong: int = 0, blind: int = 0) -> Evidence:
    return evidence_of(lambda t: t.step(True, "step"), lambda t: t.claim(not wrong, "claim"))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"falsehoods": {}}, "cannot fail"),
        ({"falsehoods": {"same": {"wrong": 0}}}, "is the claim itself"),
        ({"falsehoods": {"other": {"missing": 1}}}, "which the check does not have"),
        ({"printed": {"missing": 1}}, "which the check does not have"),
        ({"method": "by_authority"}, "unknown method"),
        ({"modulo": ("folklore",)}, "unknown theorems"),
        ({"unneeded": {"all": {"wrong": 0}}}, "is the claim itself"),
    ],
    ids=[
        "no_falsehood",
        "falsehood_is_the_claim",
        "unknown_constant",
        "unknown_printed_constant",
        "method",
        "modulo",
        "unneeded",
    ],
)
def test_a_malformed_check_does_not_register(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RegistryError, match=complaint):
        make(holds_unless, **options)


def test_a_constant_without_default_is_refused() -> None:
    def no_default(wrong: int) -> Evidence:
        return holds_unless(wrong)

    with pytest.raises(RegistryError, match="needs a default"):
        make(no_default)


def test_two_checks_of_one_part_are_refused() -> None:
    make(holds_unless)

    def another(wrong: int = 0) -> Evidence:
        return holds_unless(wrong)

    with pytest.raises(RegistryError, match="two checks of this part"):
        make(another)


def test_a_check_that_cannot_refute_its_falsehood_has_no_verdict() -> None:
    outcome = run(make(holds_unless, falsehoods={"unseen": {"blind": 1}}))
    assert outcome.amended.verdict is Verdict.HOLDS
    assert not outcome.is_admitted
    assert outcome.verdict is Verdict.UNKNOWN
    assert outcome.grade is Grade.OPEN


def test_a_falsehood_that_is_left_undecided_is_not_refuted() -> None:
    def unsure(wrong: int = 0) -> Evidence:
        return evidence_of(lambda t: t.claim(None if wrong else True, "claim"))

    outcome = run(make(unsure))
    assert outcome.falsehoods == {"wrong": Verdict.UNKNOWN}
    assert outcome.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("method", "steps", "in_words", "grade"),
    [
        ("symbolic", True, "", Grade.PROVED),
        ("symbolic", False, "", Grade.CERTIFIED),
        ("symbolic", True, "a limit", Grade.CERTIFIED),
        ("certified", True, "", Grade.CERTIFIED),
        ("sampled", True, "", Grade.SAMPLED),
    ],
)
def test_the_method_and_the_evidence_bound_the_grade(method: str, steps: bool, in_words: str, grade: Grade) -> None:
    def claim(wrong: int = 0) -> Evidence:
        tally = Tally()
        if steps:
            tally.step(True, "step")
        tally.claim(not wrong, "claim")
        return tally.evidence()

    assert run(make(claim, method=method, in_words=in_words)).grade is grade


def test_the_smallest_excess_is_the_last_one_refuted_in_a_row() -> None:
    def caught_above(wrong: Fraction = Fraction(0)) -> Evidence:
        return evidence_of(lambda t: t.claim(wrong < Fraction(1, 5000), "claim"))

    made = make(caught_above, strengthen=lambda excess: {"wrong": excess})
    assert run(made).smallest_caught == "0.001"


# ---- Grades of statements and of chains -------------------------------------------------------------------------


def outcome_for(statement: str, part: str = "claim", *, grade: str = "symbolic", fails: bool = False) -> Outcome:
    good = Evidence(steps=("step",), decided=1)
    bad = Evidence(refuted=(Witness("no", {}),))
    return Outcome("f", statement, part, grade, (), bad if fails else good, good, False, {"wrong": Verdict.FAILS})


def chain_of(*outcomes: Outcome, **changes: Any) -> dict[str, registry.Entry]:
    lemma = {"kind": "lemma", "ref": "L", "origin": "paper", "place": "A", "claim": "C"}
    found = {
        "book": Statement(id="book", cited="A book", **{**lemma, "kind": "theorem"}),
        "base": Statement(id="base", uses=("book",), **lemma),
        "top": Statement(id="top", uses=("base",), parts=changes.get("parts", ("claim",)), **lemma),
    }
    return entries({f"{o.statement}.{o.part}": o for o in outcomes}, found)


def test_a_chain_is_as_strong_as_its_weakest_link() -> None:
    found = chain_of(outcome_for("base", grade="sampled"), outcome_for("top"))
    assert found["top"].own is Grade.PROVED
    assert found["top"].chain is Grade.SAMPLED
    assert found["top"].modulo == {"book"}


def test_a_chain_over_an_unchecked_statement_is_open() -> None:
    found = chain_of(outcome_for("top"))
    assert found["base"].amended is Verdict.UNCHECKED
    assert found["top"].chain is Grade.OPEN


def test_a_statement_in_parts_needs_a_check_of_each() -> None:
    one = chain_of(outcome_for("top", "first"), outcome_for("base"), parts=("first", "second"))
    assert one["top"].amended is Verdict.UNKNOWN
    assert one["top"].own is Grade.OPEN
    assert one["top"].open_parts == ("second",)
    two = chain_of(
        outcome_for("top", "first"),
        outcome_for("top", "second", grade="certified"),
        outcome_for("base"),
        parts=("first", "second"),
    )
    assert two["top"].own is Grade.CERTIFIED


def test_a_theorem_of_a_book_is_named_by_everything_that_rests_on_it() -> None:
    base = replace(outcome_for("base"), modulo=("opial",))
    step = replace(outcome_for("top", "proof_1"), modulo=("heine_borel",))
    found = chain_of(base, outcome_for("top"), step)
    assert found["base"].modulo == {"book", "opial"}
    assert found["top"].modulo == {"book", "opial"}  # a step of the printed proof is not the claim
    assert found["top"].chain is Grade.PROVED


def test_a_hypothesis_that_is_needed_after_all_is_seen() -> None:
    outcome = run(make(holds_unless, unneeded={"needed": {"wrong": 2}, "not needed": {"blind": 1}}))
    assert outcome.unneeded == {"needed": Verdict.FAILS, "not needed": Verdict.HOLDS}


def test_what_refutes_a_falsehood_is_kept() -> None:
    def caught(wrong: int = 0) -> Evidence:
        return evidence_of(lambda t: t.claim(not wrong, "x is right", x=wrong))

    assert run(make(caught)).caught_by == {"wrong": "with x = 1, this is false: x is right"}


def test_a_failing_part_makes_the_statement_fail() -> None:
    found = chain_of(outcome_for("top", "first"), outcome_for("top", "second", fails=True), parts=("first", "second"))
    assert found["top"].amended is Verdict.FAILS


def test_a_step_of_a_proof_is_not_the_claim() -> None:
    found = chain_of(outcome_for("top", "proof_1"))
    assert found["top"].amended is Verdict.UNCHECKED
    assert found["top"].proof is Verdict.HOLDS
