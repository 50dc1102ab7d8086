"""Statements, checks and verdicts.

A :class:`Statement` is an entry of ``paper.toml``: what is claimed, in our own words.  A :class:`Check` is a function
of the constants of a claim that gathers :class:`Evidence`.  Its defaults are the claim that holds; ``printed`` are the
paper's constants where they differ; each of its ``falsehoods`` is a wrong claim that it must refute.

Nothing here is typed by hand that could be computed: a verdict follows from evidence, a grade from the verdict, from
the method and from what the evidence consists of, and the grade of a chain from everything that the printed proof uses.

=========  =================================================================================================
verdict    when
=========  =================================================================================================
HOLDS      nothing was refuted, nothing was left undecided, and at least one thing was decided
FAILS      an instance that meets the hypotheses refutes the claim; it is the witness
UNKNOWN    anything else: NaN, a solver that failed, an exception, no instance that met the hypotheses
=========  =================================================================================================
"""

from __future__ import annotations

import enum
import inspect
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

PAPER = Path(__file__).with_name("paper.toml")
KINDS = frozenset(
    [
        "definition",
        "assumption",
        "lemma",
        "theorem",
        "proposition",
        "corollary",
        "equation",
        "claim",
        "figure",
        "table",
        "companion",
    ]
)
MODULES = (
    "definitions",
    "main_text",
    "a_convexity",
    "b_equivalence",
    "c_convergence",
    "d_impossibility",
    "e_sum",
    "f_gradient_pac",
    "g_local_pac",
    "h_counter_gradient",
    "k_single_point",
    "l_linear_classification",
    "companion_dynamics",
    "companion_equivalence",
    "companion_poison",
    "companion_learning",
    "companion_sample_size",
    "companion_impossibility",
)

Decision = bool | None
"""True, False, or None for undecided."""


class RegistryError(Exception):
    """A statement or a check is not well-formed."""


class Verdict(enum.Enum):
    """What the evidence says of a claim."""

    HOLDS = "holds"
    FAILS = "fails"
    UNKNOWN = "unknown"
    UNCHECKED = "unchecked"


class Grade(enum.IntEnum):
    """How much a verdict is worth."""

    OPEN = 0
    SAMPLED = 1
    CERTIFIED = 2
    PROVED = 3


METHODS: Mapping[str, Grade] = {
    "symbolic": Grade.PROVED,  # an identity, or a proof whose every algebraic step is verified
    "interval": Grade.PROVED,  # ball arithmetic over the whole stated domain
    "class": Grade.PROVED,  # an exact certificate that covers a whole class of functions
    "certified": Grade.CERTIFIED,  # rigorous arithmetic on instances
    "sampled": Grade.SAMPLED,  # floating point, or random instances
}
"""The grade that a method can reach at most."""

TEXTBOOK: Mapping[str, str] = {
    "extreme_value": "a continuous function attains its infimum on a compact set (Rudin 1976, Theorem 4.16)",
    "heine_borel": "a closed and bounded set is covered by finitely many of the open sets that cover it (Rudin 1976, "
    "Theorem 2.41)",
    "bolzano_weierstrass": "a bounded sequence has a convergent subsequence (Rudin 1976, Theorem 3.6)",
    "heine_cantor": "a continuous function is uniformly continuous on a compact set (Rudin 1976, Theorem 4.19)",
    "intermediate_value": "a continuous function takes every value between two of its values (Rudin 1976, "
    "Theorem 4.23)",
    "opial": "a sequence whose distance to each point of a set converges, and whose cluster points lie in that set, "
    "converges to a point of it (Bauschke and Combettes 2017, Lemma 2.47)",
    "law_of_large_numbers": "means of independent copies of an integrable variable tend to its expectation "
    "(Billingsley 1995, Theorem 22.1)",
    "central_limit": "sums of independent copies with variance, centred and divided by the root of their number, "
    "tend to a normal law (Billingsley 1995, Theorem 27.1)",
}
"""Theorems of analysis and probability that a check may rest on; they are named in ``modulo``, like those of books."""


def at_most(left: Any, right: Any) -> Decision:
    """Decide ``left <= right``; NaN, and balls that overlap, are undecided.

    Examples
    --------
    >>> at_most(1, 2), at_most(2, 1), at_most(float("nan"), 1)
    (True, False, None)
    """
    if left <= right:
        return True
    return False if left > right else None


def less(left: Any, right: Any) -> Decision:
    """Decide ``left < right``; NaN, and balls that overlap, are undecided."""
    if left < right:
        return True
    return False if left >= right else None


def both(*decisions: Decision) -> Decision:
    """Return the conjunction of three-valued decisions.

    Examples
    --------
    >>> both(True, None), both(False, None), both(True, True)
    (None, False, True)
    """
    if any(decision is False for decision in decisions):
        return False
    return True if all(decision is True for decision in decisions) else None


@dataclass(frozen=True)
class Witness:
    """An instance that meets the hypotheses and refutes the claim."""

    finding: str
    instance: Mapping[str, str]

    def __str__(self) -> str:
        values = ", ".join(f"{name} = {value}" for name, value in self.instance.items())
        return f"with {values}, this is false: {self.finding}" if values else f"this is false: {self.finding}"


@dataclass(frozen=True)
class Evidence:
    """What a check found; made by a :class:`Tally`."""

    steps: tuple[str, ...] = ()
    """Steps of a proof that were verified for all values of their symbols."""
    decided: int = 0
    """Instances that met the hypotheses and on which the claim was seen to hold."""
    skipped: int = 0
    """Instances that did not meet the hypotheses."""
    undecided: tuple[str, ...] = ()
    refuted: tuple[Witness, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """FAILS on a witness; else HOLDS if something was decided and nothing was left undecided."""
        if self.refuted:
            return Verdict.FAILS
        if self.undecided or not (self.steps or self.decided):
            return Verdict.UNKNOWN
        return Verdict.HOLDS

    @property
    def reach(self) -> Grade:
        """Instances alone prove nothing: a proof needs a verified step."""
        return Grade.PROVED if self.steps else Grade.CERTIFIED


_attacks_run: ContextVar[bool] = ContextVar("_attacks_run", default=True)


@contextmanager
def instances_only() -> Iterator[None]:
    """Leave out the attacks by chance: what is found does not depend on the version of Hypothesis then."""
    token = _attacks_run.set(False)
    try:
        yield
    finally:
        _attacks_run.reset(token)


class Tally:
    """Gathers evidence; :meth:`evidence` closes it.

    Examples
    --------
    >>> tally = Tally()
    >>> tally.claim(at_most(3, 2), "3 <= 2", x=3)
    >>> tally.evidence().verdict
    <Verdict.FAILS: 'fails'>
    """

    MOST_WITNESSES = 3

    def __init__(self) -> None:
        self._steps: list[str] = []
        self._undecided: list[str] = []
        self._refuted: list[Witness] = []
        self._decided = 0
        self._skipped = 0
        self._attacks: list[Callable[[], None]] = []

    def claim(self, decision: Decision, finding: str, **instance: Any) -> None:
        """Record what the claim says on an instance that meets the hypotheses."""
        if decision is True:
            self._decided += 1
        elif decision is False:
            if len(self._refuted) < self.MOST_WITNESSES:
                self._refuted.append(Witness(finding, {name: _text(value) for name, value in instance.items()}))
        else:
            self._undecided.append(finding)

    def step(self, decision: Decision, name: str) -> None:
        """Record a step that is to hold for all values of its symbols; one that does not hold leaves the claim open."""
        if decision is True:
            self._steps.append(name)
        else:
            self._undecided.append(name)

    def skip(self) -> None:
        """Record an instance that does not meet the hypotheses."""
        self._skipped += 1

    def adopt(self, evidence: Evidence) -> None:
        """Take over what another check found: its steps, its instances and its witnesses."""
        self._steps += evidence.steps
        self._decided += evidence.decided
        self._skipped += evidence.skipped
        self._undecided += evidence.undecided
        self._refuted += evidence.refuted

    def at_end(self, attack: Callable[[], None]) -> None:
        """Keep an attack that takes long until everything else is done; it is left out if there is a witness then."""
        self._attacks.append(attack)

    @property
    def has_witness(self) -> bool:
        """Whether the claim is refuted already."""
        return bool(self._refuted)

    def evidence(self) -> Evidence:
        """Return what was gathered, after the attacks that were kept."""
        while _attacks_run.get() and self._attacks and not self._refuted:
            self._attacks.pop(0)()
        return Evidence(
            tuple(self._steps), self._decided, self._skipped, tuple(self._undecided[:5]), tuple(self._refuted)
        )


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, float):
        return repr(float(value))
    return str(value)


@dataclass(frozen=True)
class Erratum:
    """What is said where a printed claim or step fails; that it fails is computed, never typed."""

    place: str
    """Equation number or reference, as printed."""
    repair: str
    survives: str
    """Whether the conclusion that the paper draws stands, and why."""
    scan: bool = False
    """Whether the scan of the text, rather than the paper, may be to blame."""


@dataclass(frozen=True)
class Check:
    """A function of the constants of a claim."""

    name: str
    statement: str
    function: Callable[..., Evidence]
    method: str
    part: str
    printed: Mapping[str, Any]
    falsehoods: Mapping[str, Mapping[str, Any]]
    equations: tuple[int, ...]
    errata: Erratum | None
    strengthen: Callable[[Fraction], Mapping[str, Any]] | None
    in_words: str = ""
    """The steps of the proof that only the docstring carries; with any, the grade is at most *certified*."""
    modulo: tuple[str, ...] = ()
    """The theorems of :data:`TEXTBOOK` that the proof rests on."""
    unneeded: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Printed hypotheses that the claim survives without: the constants that leave each out."""

    @property
    def id(self) -> str:
        """``statement.part``, unique."""
        return f"{self.statement}.{self.part}"

    @property
    def is_claim(self) -> bool:
        """Whether this is about the claim, and not about a step of its printed proof."""
        return not self.part.startswith("proof")

    @property
    def doc(self) -> str:
        """The claim and its proof, from the docstring."""
        return inspect.getdoc(self.function) or ""


@dataclass(frozen=True)
class Statement:
    """An entry of ``paper.toml``."""

    id: str
    kind: str
    ref: str
    origin: str
    place: str
    claim: str
    hypotheses: tuple[str, ...] = ()
    assumes: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    equations: tuple[int, ...] = ()
    parts: tuple[str, ...] = ("claim",)
    cited: str = ""
    """The book that a theorem is taken from; it then enters ``modulo``."""
    open: str = ""
    """Why nothing has been decided yet."""


@cache
def statements() -> Mapping[str, Statement]:
    """Return every statement of ``paper.toml`` by id, in the order of the paper.

    Raises
    ------
    RegistryError
        Naming the entry: unknown field, kind or reference, a duplicate id, an equation in two statements.

    Examples
    --------
    >>> statements()["thm5_single_point"].ref
    'Theorem 5'
    """
    with PAPER.open("rb") as file:
        return parse(tomllib.load(file))


def parse(table: Mapping[str, Any]) -> dict[str, Statement]:
    """Return the statements of a parsed ``paper.toml``, after checking that they hang together."""
    found: dict[str, Statement] = {}
    equations: dict[int, str] = {}
    for entry in table["statement"]:
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
        fields.setdefault("origin", "paper")
        try:
            statement = Statement(**fields)
        except TypeError as error:
            raise RegistryError(f"{entry.get('id', entry)}: {error}") from None
        if statement.id in found:
            raise RegistryError(f"{statement.id}: there are two of this id")
        if statement.kind not in KINDS:
            raise RegistryError(f"{statement.id}: unknown kind {statement.kind}")
        for number in statement.equations:
            if number in equations:
                raise RegistryError(f"equation {number} is in {equations[number]} and in {statement.id}")
            equations[number] = statement.id
        found[statement.id] = statement
    for statement in found.values():
        for name in (*statement.assumes, *statement.uses):
            if name not in found:
                raise RegistryError(f"{statement.id}: refers to {name}, which does not exist")
    for identifier in found:
        _refuse_cycle(found, identifier, ())
    return found


def _refuse_cycle(found: Mapping[str, Statement], identifier: str, path: tuple[str, ...]) -> None:
    if identifier in path:
        raise RegistryError(f"a proof uses itself: {' -> '.join((*path, identifier))}")
    for name in found[identifier].uses:
        _refuse_cycle(found, name, (*path, identifier))


_CHECKS: dict[str, Check] = {}


def check(
    statement: str,
    *,
    method: str,
    falsehoods: Mapping[str, Mapping[str, Any]],
    part: str = "claim",
    printed: Mapping[str, Any] | None = None,
    equations: tuple[int, ...] = (),
    errata: Erratum | None = None,
    strengthen: Callable[[Fraction], Mapping[str, Any]] | None = None,
    in_words: str = "",
    modulo: tuple[str, ...] = (),
    unneeded: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[Callable[..., Evidence]], Callable[..., Evidence]]:
    """Register a function of the constants of a claim as a check of ``statement``.

    Parameters
    ----------
    statement : str
        The id in ``paper.toml``.
    method : str
        A key of :data:`METHODS`; it bounds the grade.
    falsehoods : mapping
        Wrong claims: for each name, the constants that make it wrong.  A check has at least one, and its verdict
        counts only if it refutes all of them.
    part : str
        Which part of the claim is checked; a name that begins with ``proof`` is a step of the printed proof.
    printed : mapping, optional
        The paper's constants, where they differ from the defaults.
    equations : tuple of int
        The equations that are checked.
    errata : Erratum, optional
        What to say if the printed constants fail.
    strengthen : callable, optional
        The constants of a claim that is too strong by a given excess > 0; the smallest excess that is refuted is
        reported.
    in_words : str
        The steps of the proof that no machine has verified; with any, the grade is at most *certified*.
    modulo : tuple of str
        Theorems of :data:`TEXTBOOK` that the proof rests on.
    unneeded : mapping, optional
        Printed hypotheses that the claim is to survive without: for each, in words, the constants that leave it out.

    Raises
    ------
    RegistryError
        No falsehood; a constant that the function does not have; a falsehood that is the claim itself.
    """

    def register(function: Callable[..., Evidence]) -> Callable[..., Evidence]:
        made = Check(
            name=function.__name__,
            statement=statement,
            function=function,
            method=method,
            part=part,
            printed=dict(printed or {}),
            falsehoods={name: dict(constants) for name, constants in falsehoods.items()},
            equations=equations,
            errata=errata,
            strengthen=strengthen,
            in_words=in_words,
            modulo=modulo,
            unneeded={name: dict(constants) for name, constants in (unneeded or {}).items()},
        )
        _refuse_malformed(made)
        known = _CHECKS.get(made.id)
        if known is not None and _origin(known.function) != _origin(function):
            raise RegistryError(f"{made.id}: there are two checks of this part")
        _CHECKS[made.id] = made
        return function

    return register


def _origin(function: Callable[..., Evidence]) -> tuple[str, str]:
    return function.__module__, function.__qualname__


def _refuse_malformed(made: Check) -> None:
    if made.method not in METHODS:
        raise RegistryError(f"{made.id}: unknown method {made.method}")
    strange = set(made.modulo) - TEXTBOOK.keys()
    if strange:
        raise RegistryError(f"{made.id}: unknown theorems {sorted(strange)} in modulo")
    if not made.falsehoods:
        raise RegistryError(f"{made.id}: a check without a falsehood cannot fail")
    defaults = {name: p.default for name, p in inspect.signature(made.function).parameters.items()}
    if inspect.Parameter.empty in defaults.values():
        raise RegistryError(f"{made.id}: every constant needs a default, the claim that holds")
    for name, constants in {"printed": made.printed, **made.falsehoods, **made.unneeded}.items():
        unknown = constants.keys() - defaults.keys()
        if unknown:
            raise RegistryError(f"{made.id}: {name} sets {sorted(unknown)}, which the check does not have")
        if name != "printed" and all(defaults[key] == value for key, value in constants.items()):
            raise RegistryError(f"{made.id}: {name} is the claim itself")
    if made.printed and made.errata is None and not made.is_claim:
        raise RegistryError(f"{made.id}: a printed step that differs needs the words for an erratum")


def checks() -> Mapping[str, Check]:
    """Return every check by ``statement.part``, after importing the modules that hold them."""
    for module in MODULES:
        import_module(f"proofs_checks.{module}")
    for made in _CHECKS.values():
        statement = statements().get(made.statement)
        if statement is None:
            raise RegistryError(f"{made.id}: there is no such statement")
        if made.is_claim and made.part not in statement.parts:
            raise RegistryError(f"{made.id}: the statement has the parts {list(statement.parts)}")
        stray = set(made.equations) - set(statement.equations)
        if stray:
            raise RegistryError(f"{made.id}: equations {sorted(stray)} belong to another statement")
    order = {name: i for i, name in enumerate(statements())}
    return dict(sorted(_CHECKS.items(), key=lambda item: (order[item[1].statement], item[0])))


def checks_of(statement: str) -> tuple[Check, ...]:
    """Return the checks of one statement."""
    return tuple(made for made in checks().values() if made.statement == statement)


def gather(made: Check, constants: Mapping[str, Any]) -> Evidence:
    """Run a check with these constants; an exception is evidence of nothing."""
    try:
        return made.function(**constants)
    except Exception as error:  # whatever went wrong, the claim is undecided
        return Evidence(undecided=(f"{type(error).__name__}: {error}",))


@dataclass(frozen=True)
class Outcome:
    """Everything that one check found."""

    check: str
    statement: str
    part: str
    method: str
    equations: tuple[int, ...]
    amended: Evidence
    printed: Evidence
    differs: bool
    """Whether the printed constants differ from the defaults."""
    falsehoods: Mapping[str, Verdict] = field(default_factory=dict)
    smallest_caught: str = ""
    in_words: str = ""
    caught_by: Mapping[str, str] = field(default_factory=dict)
    """The witness that refutes each falsehood."""
    modulo: tuple[str, ...] = ()
    unneeded: Mapping[str, Verdict] = field(default_factory=dict)
    """What the check says of the claim without each hypothesis that it is to survive without."""

    @property
    def is_claim(self) -> bool:
        """Whether this is about the claim, and not about a step of its printed proof."""
        return not self.part.startswith("proof")

    @property
    def refuted(self) -> tuple[str, ...]:
        """The falsehoods that were refuted, which is more than not being confirmed."""
        return tuple(name for name, verdict in self.falsehoods.items() if verdict is Verdict.FAILS)

    @property
    def is_admitted(self) -> bool:
        """Whether the check refuted every one of its falsehoods; its verdict counts only then."""
        return bool(self.falsehoods) and len(self.refuted) == len(self.falsehoods)

    @property
    def verdict(self) -> Verdict:
        """The verdict on the claim as amended."""
        return self.amended.verdict if self.is_admitted else Verdict.UNKNOWN

    @property
    def printed_verdict(self) -> Verdict:
        """The verdict on the claim as printed."""
        return self.printed.verdict if self.is_admitted else Verdict.UNKNOWN

    @property
    def grade(self) -> Grade:
        """The least of what the method and the evidence can carry; open unless the claim holds."""
        if self.verdict is not Verdict.HOLDS:
            return Grade.OPEN
        bound = Grade.CERTIFIED if self.in_words else Grade.PROVED
        return min(METHODS[self.method], self.amended.reach, bound)


def run(made: Check) -> Outcome:
    """Run a check on its claim, on the printed claim, on each falsehood, and find the smallest excess it catches.

    Falsehoods and excesses must be refuted by the check's own instances, without the attacks by chance.
    """
    amended = gather(made, {})
    printed = gather(made, made.printed) if made.printed else amended
    with instances_only():
        attacked = {name: gather(made, constants) for name, constants in made.falsehoods.items()}
    return Outcome(
        check=made.name,
        statement=made.statement,
        part=made.part,
        method=made.method,
        equations=made.equations,
        amended=amended,
        printed=printed,
        differs=bool(made.printed),
        falsehoods={name: evidence.verdict for name, evidence in attacked.items()},
        smallest_caught=_smallest_caught(made),
        in_words=made.in_words,
        modulo=made.modulo,
        unneeded={name: gather(made, constants).verdict for name, constants in made.unneeded.items()},
        caught_by={name: str(evidence.refuted[0]) for name, evidence in attacked.items() if evidence.refuted},
    )


EXCESSES = tuple(Fraction(1, 10**k) for k in (1, 2, 3, 4, 5, 6, 8, 10, 12))
"""The excesses that are tried, from large to small."""


def _smallest_caught(made: Check) -> str:
    if made.strengthen is None:
        return ""
    caught = ""
    with instances_only():
        for excess in EXCESSES:
            if gather(made, made.strengthen(excess)).verdict is not Verdict.FAILS:
                break
            caught = f"{float(excess):g}"
    return caught


@dataclass(frozen=True)
class Entry:
    """A statement with everything that was found about it."""

    statement: Statement
    outcomes: tuple[Outcome, ...]
    chain: Grade
    modulo: frozenset[str]

    @property
    def claims(self) -> tuple[Outcome, ...]:
        """What was found about the claim itself."""
        return tuple(outcome for outcome in self.outcomes if outcome.is_claim)

    @property
    def steps(self) -> tuple[Outcome, ...]:
        """What was found about the printed proof."""
        return tuple(outcome for outcome in self.outcomes if not outcome.is_claim)

    @property
    def amended(self) -> Verdict:
        """Whether the claim as amended holds, in all its parts."""
        return _joined(self.statement, {o.part: o.verdict for o in self.claims})

    @property
    def printed(self) -> Verdict:
        """Whether the claim as printed holds, in all its parts."""
        return _joined(self.statement, {o.part: o.printed_verdict for o in self.claims})

    @property
    def proof(self) -> Verdict:
        """Whether the steps of the printed proof that were checked follow as printed."""
        verdicts = [o.printed_verdict for o in self.steps]
        return _least(verdicts) if verdicts else Verdict.UNCHECKED

    @property
    def own(self) -> Grade:
        """How much the verdict on the claim is worth: the least over its parts."""
        if self.amended is not Verdict.HOLDS:
            return Grade.OPEN
        return min(outcome.grade for outcome in self.claims)

    @property
    def open_parts(self) -> tuple[str, ...]:
        """The parts of the claim that no check covers."""
        covered = {outcome.part for outcome in self.claims}
        return tuple(part for part in self.statement.parts if part not in covered)


def _joined(statement: Statement, verdicts: Mapping[str, Verdict]) -> Verdict:
    if not verdicts:
        return Verdict.UNCHECKED
    if Verdict.FAILS in verdicts.values():
        return Verdict.FAILS
    if any(part not in verdicts for part in statement.parts):
        return Verdict.UNKNOWN
    return _least(list(verdicts.values()))


def _least(verdicts: list[Verdict]) -> Verdict:
    for verdict in (Verdict.FAILS, Verdict.UNKNOWN):
        if verdict in verdicts:
            return verdict
    return Verdict.HOLDS


_BEARS_NO_TRUTH = frozenset({"definition", "assumption"})


def entries(outcomes: Mapping[str, Outcome], found: Mapping[str, Statement] | None = None) -> dict[str, Entry]:
    """Join outcomes and statements, and compute the grade of each chain."""
    found = statements() if found is None else found
    of: dict[str, list[Outcome]] = {identifier: [] for identifier in found}
    for outcome in outcomes.values():
        of[outcome.statement].append(outcome)
    made: dict[str, Entry] = {}

    def visit(identifier: str) -> Entry:
        if identifier in made:
            return made[identifier]
        statement = found[identifier]
        used = [visit(name) for name in statement.uses]
        own = Entry(statement, tuple(of[identifier]), Grade.OPEN, frozenset()).own
        bearing = [entry for entry in used if not _rests_on_others(entry.statement)]
        chain = min([own, *(entry.chain for entry in bearing)])
        rests = (frozenset(outcome.modulo) for outcome in of[identifier] if outcome.is_claim)
        modulo = frozenset().union(*(entry.modulo for entry in used), *_cited(statement), *rests)
        made[identifier] = Entry(statement, tuple(of[identifier]), chain, modulo)
        return made[identifier]

    for identifier in found:
        visit(identifier)
    return {identifier: made[identifier] for identifier in found}


def _rests_on_others(statement: Statement) -> bool:
    """Definitions bear no truth, and a theorem of a book is named in ``modulo`` instead."""
    return statement.kind in _BEARS_NO_TRUTH or bool(statement.cited)


def _cited(statement: Statement) -> Iterator[frozenset[str]]:
    if statement.cited:
        yield frozenset({statement.id})
