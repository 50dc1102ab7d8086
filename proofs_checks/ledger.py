"""Runs the checks, and writes LEDGER.md, ledger.json, ERRATA.md and the graph of dependencies.

Outcomes are cached under a key that is the content of everything a check can depend on: the source of every file of
this repository that it imports, directly or not, the versions of Python and of the libraries, and the switches of the
environment.  A stale entry therefore has another key and cannot be found.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from proofs_checks import constants, graph
from proofs_checks.registry import (
    TEXTBOOK,
    Check,
    Entry,
    Erratum,
    Evidence,
    Grade,
    Outcome,
    Verdict,
    Witness,
    checks,
    entries,
    run,
    statements,
)

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("theory", "solvers", "proofs_checks", "benchmarks")
LIBRARIES = ("numpy", "scipy", "sympy", "mpmath", "python-flint", "hypothesis", "numba", "cvxpy", "clarabel")
SWITCHES = ("NUMBA_DISABLE_JIT", "PYTHONOPTIMIZE")
GRADES_IN_WORDS = (
    "*proved*: a short proof stands in the docstring of the check, and each identity and inequality in it is verified "
    "symbolically, in ball arithmetic over the whole domain, or by an exact certificate for a class of functions; "
    "how they are joined is for the reader to follow (`explain` prints both). "
    "*certified*: rigorous arithmetic on instances, or a proof with a step that stands in words only. "
    "*sampled*: floating point. *open*: nothing yet, or not all of it. "
    "*Own* is the statement's; *chain* is the least over everything that its printed proof uses; "
    "theorems taken from books are named after *modulo*."
)
NO_CLAIM = frozenset({"figure", "table", "definition", "assumption"})


# ---- The cache --------------------------------------------------------------------------------------------------


@cache
def imported_files(module: str) -> frozenset[Path]:
    """Return the files of this repository that ``module`` imports, directly or not, its own included.

    Imports inside functions count, and so do the ``__init__`` files of the packages on the way.
    """
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        for path in _files_of(waiting.pop()):
            if path not in found:
                found.add(path)
                waiting.extend(_names_imported(path))
    return frozenset(found)


def _files_of(module: str) -> list[Path]:
    parts = module.split(".")
    if parts[0] not in PACKAGES:
        return []
    files = []
    for end in range(1, len(parts) + 1):
        stem = ROOT.joinpath(*parts[:end])
        files += [path for path in (stem / "__init__.py", stem.with_suffix(".py")) if path.is_file()]
    return files


def _names_imported(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(path.relative_to(ROOT).parts[: -node.level]) if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names += [stem, *(f"{stem}.{alias.name}" for alias in node.names)]
    return names


@cache
def _environment() -> str:
    known = []
    for library in LIBRARIES:
        try:
            known.append(f"{library} {version(library)}")
        except PackageNotFoundError:
            known.append(f"{library} absent")
    return "\n".join(
        [sys.version, platform.platform(), *known, *(f"{name}={os.environ.get(name, '')}" for name in SWITCHES)]
    )


def cache_key(made: Check) -> str:
    """Return the hash of everything that the outcome of a check can depend on."""
    digest = hashlib.sha256(f"{made.id}\n{_environment()}\n".encode())
    for path in sorted(imported_files(made.function.__module__) | imported_files("proofs_checks.registry")):
        digest.update(path.relative_to(ROOT).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def cache_folder() -> Path:
    """Return the folder of cached outcomes: ``EQUIPOISE_CACHE``, or one below the user's cache folder."""
    chosen = os.environ.get("EQUIPOISE_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "equipoise" / "checks"


def run_cached(made: Check, *, use_cache: bool = True) -> Outcome:
    """Return the outcome of a check, from the cache where it has been run on the very same content.

    An outcome that decides nothing is not kept: what went wrong may be gone the next time.
    """
    key = cache_key(made)
    path = cache_folder() / f"{key}.json"
    if use_cache and key in _memory:
        return _memory[key]
    if use_cache:
        try:
            return outcome_from(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            pass
    outcome = run(made)
    if outcome.is_admitted and Verdict.UNKNOWN not in (outcome.verdict, outcome.printed_verdict):
        _memory[key] = outcome
        _store(path, outcome)
    return outcome


_memory: dict[str, Outcome] = {}
"""Outcomes of this process, under the same keys as those on disk."""


def _store(path: Path, outcome: Outcome) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written aside and moved, so that a run that is interrupted leaves no half of a file.
        aside = path.with_suffix(f".{os.getpid()}")
        aside.write_text(json.dumps(outcome_to(outcome)), encoding="utf-8")
        aside.replace(path)
    except OSError:
        return


def outcome_to(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as JSON can hold it."""
    table = asdict(outcome)
    for name in ("falsehoods", "unneeded"):
        table[name] = {key: verdict.value for key, verdict in table[name].items()}
    return table


def outcome_from(table: Mapping[str, Any]) -> Outcome:
    """Return the outcome that :func:`outcome_to` wrote."""
    fields = dict(table)
    fields["equations"] = tuple(fields["equations"])
    fields["modulo"] = tuple(fields["modulo"])
    fields["amended"] = _evidence_from(fields["amended"])
    fields["printed"] = _evidence_from(fields["printed"])
    for name in ("falsehoods", "unneeded"):
        fields[name] = {key: Verdict(value) for key, value in fields[name].items()}
    return Outcome(**fields)


def _evidence_from(table: Mapping[str, Any]) -> Evidence:
    return Evidence(
        steps=tuple(table["steps"]),
        decided=table["decided"],
        skipped=table["skipped"],
        undecided=tuple(table["undecided"]),
        refuted=tuple(Witness(w["finding"], w["instance"]) for w in table["refuted"]),
    )


def run_all(
    chosen: Iterable[Check] | None = None,
    *,
    use_cache: bool = True,
    progress: Callable[[list[Check]], Iterable[Check]] = iter,
) -> dict[str, Outcome]:
    """Run the chosen checks, all of them by default, and return the outcomes by id."""
    todo = list(checks().values() if chosen is None else chosen)
    return {made.id: run_cached(made, use_cache=use_cache) for made in progress(todo)}


# ---- What is written --------------------------------------------------------------------------------------------


def errata_of(entry: Entry) -> list[dict[str, Any]]:
    """Return the errata of a statement: each printed claim or step that was refuted, with its witness."""
    found = []
    for outcome in entry.outcomes:
        if outcome.printed_verdict is not Verdict.FAILS:
            continue
        identifier = f"{outcome.statement}.{outcome.part}"
        words = checks()[identifier].errata or Erratum(entry.statement.ref, "None is known yet.", "Not examined yet.")
        found.append(
            {
                "place": words.place,
                "check": identifier,
                "concerns": "claim" if outcome.is_claim else "proof",
                "witness": str(outcome.printed.refuted[0]),
                "repair": words.repair,
                "repair_holds": outcome.verdict.value,
                "survives": words.survives,
                "scan_may_be_to_blame": words.scan,
                "replay": f"python -m proofs_checks replay {identifier}",
            }
        )
    return found


def why_open(entry: Entry) -> str:
    """Return what stands between a statement and a verdict."""
    if entry.open_parts and entry.claims:
        return f"parts without a check: {', '.join(entry.open_parts)}"
    if not entry.claims:
        steps = len(entry.steps)
        reason = entry.statement.open or "no check of the claim itself has been written yet"
        return f"{reason} ({steps} steps of its proof are checked)" if steps else reason
    undecided = [
        f"{outcome.part}: {_first(outcome)}" for outcome in entry.claims if outcome.verdict is not Verdict.HOLDS
    ]
    return "; ".join(undecided)


def _first(outcome: Outcome) -> str:
    missed = [name for name in outcome.falsehoods if name not in outcome.refuted]
    if missed:
        return f"falsehoods not refuted: {', '.join(missed)}"
    if outcome.amended.refuted:
        return str(outcome.amended.refuted[0])
    return outcome.amended.undecided[0] if outcome.amended.undecided else "nothing was decided"


def equations_checked(found: Mapping[str, Entry]) -> dict[int, dict[str, Any]]:
    """Return for each equation its statement, and the verdict of the checks that name it."""
    table = {}
    for entry in found.values():
        for number in entry.statement.equations:
            naming = [outcome for outcome in entry.outcomes if number in outcome.equations]
            table[number] = {
                "statement": entry.statement.id,
                "printed": _joint([outcome.printed_verdict for outcome in naming]).value,
                "amended": _joint([outcome.verdict for outcome in naming]).value,
                "checks": [f"{outcome.statement}.{outcome.part}" for outcome in naming],
            }
    return dict(sorted(table.items()))


def _joint(verdicts: list[Verdict]) -> Verdict:
    for verdict in (Verdict.FAILS, Verdict.UNKNOWN, Verdict.HOLDS):
        if verdict in verdicts:
            return verdict
    return Verdict.UNCHECKED


def to_json(found: Mapping[str, Entry]) -> dict[str, Any]:
    """Return the ledger as data: ``statements`` (a list), ``equations`` (by number) and ``counts``."""
    table = []
    for entry in found.values():
        statement = entry.statement
        table.append(
            {
                "id": statement.id,
                "ref": statement.ref,
                "kind": statement.kind,
                "equations": list(statement.equations),
                "origin": statement.origin,
                "claim": statement.claim,
                "printed": entry.printed.value,
                "amended": entry.amended.value,
                "proof_as_printed": entry.proof.value,
                "own": entry.own.name.lower(),
                "chain": entry.chain.name.lower(),
                "modulo": sorted(entry.modulo),
                "uses": list(statement.uses),
                "method": sorted({outcome.method for outcome in entry.outcomes}),
                "falsehoods": sum(len(outcome.falsehoods) for outcome in entry.outcomes),
                "refuted": sum(len(outcome.refuted) for outcome in entry.outcomes),
                "smallest_caught": {o.part: o.smallest_caught for o in entry.outcomes if o.smallest_caught},
                "checks": [_check_json(outcome) for outcome in entry.outcomes],
                "open": why_open(entry) if entry.own is Grade.OPEN else "",
                "errata": errata_of(entry),
            }
        )
    equations = {str(number): value for number, value in equations_checked(found).items()}
    return {"statements": table, "equations": equations, "counts": counts(found)}


def _check_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "part": outcome.part,
        "check": outcome.check,
        "method": outcome.method,
        "printed": outcome.printed_verdict.value,
        "amended": outcome.verdict.value,
        "grade": outcome.grade.name.lower(),
        "in_words": outcome.in_words,
        "modulo": list(outcome.modulo),
        "steps": list(outcome.amended.steps),
        "instances": outcome.amended.decided,
        "skipped": outcome.amended.skipped,
        "falsehoods": {name: verdict.value for name, verdict in outcome.falsehoods.items()},
        "unneeded": {name: verdict.value for name, verdict in outcome.unneeded.items()},
    }


def counts(found: Mapping[str, Entry]) -> dict[str, Any]:
    """Return the counts with which the ledger opens."""
    claims = [entry for entry in found.values() if entry.statement.kind not in NO_CLAIM]
    errata = [erratum for entry in found.values() for erratum in errata_of(entry)]
    equations = equations_checked(found)
    return {
        "statements": len(found),
        "claims": len(claims),
        "paper": _split([entry for entry in claims if entry.statement.origin == "paper"]),
        "companion": _split([entry for entry in claims if entry.statement.origin != "paper"]),
        "checks": sum(len(entry.outcomes) for entry in found.values()),
        "falsehoods": sum(len(outcome.falsehoods) for entry in found.values() for outcome in entry.outcomes),
        "falsehoods_refuted": sum(len(outcome.refuted) for entry in found.values() for outcome in entry.outcomes),
        "equations": len(equations),
        "equations_checked": sum(bool(value["checks"]) for value in equations.values()),
        "errata_in_claims": sum(erratum["concerns"] == "claim" for erratum in errata),
        "errata_in_proofs": sum(erratum["concerns"] == "proof" for erratum in errata),
    }


def _split(claims: list[Entry]) -> dict[str, Any]:
    own = Counter(entry.own.name.lower() for entry in claims)
    chain = Counter(entry.chain.name.lower() for entry in claims)
    return {
        "claims": len(claims),
        "own": {grade.name.lower(): own[grade.name.lower()] for grade in reversed(Grade)},
        "chain": {grade.name.lower(): chain[grade.name.lower()] for grade in reversed(Grade)},
        "printed_fails": sum(entry.printed is Verdict.FAILS for entry in claims),
    }


def weakest(found: Mapping[str, Entry], count: int = 10) -> list[Entry]:
    """Return the entries of the paper that rest on the least.

    First by grade; then those that rest on most theorems of books, and on the fewest verified steps of their own.
    """
    claims = [
        entry
        for entry in found.values()
        if entry.statement.kind not in NO_CLAIM and entry.statement.origin == "paper" and not entry.statement.cited
    ]
    used = Counter(name for entry in found.values() for name in entry.statement.uses)

    def strength(entry: Entry) -> tuple[int, ...]:
        return (entry.own, entry.chain, -len(entry.modulo), _steps(entry), -used[entry.statement.id])

    return sorted(claims, key=strength)[:count]


def _steps(entry: Entry) -> int:
    return sum(len(outcome.amended.steps) for outcome in entry.claims)


def ledger_markdown(found: Mapping[str, Entry]) -> str:
    """Return LEDGER.md."""
    count = counts(found)
    lines = [
        "# Ledger",
        "",
        "Written by `python -m proofs_checks ledger`; every verdict and grade in it is computed.",
        "",
        _counts_table(count),
        "",
        f"{count['checks']} checks, {count['falsehoods_refuted']} of {count['falsehoods']} planted falsehoods refuted, "
        f"{count['equations_checked']} of {count['equations']} numbered equations named by a check, "
        f"{count['errata_in_claims']} printed claims and {count['errata_in_proofs']} printed steps refuted "
        "([ERRATA.md](ERRATA.md)).",
        "",
        f"**Grades.** {GRADES_IN_WORDS}",
        "",
        "## The ten weakest entries",
        "",
        "| entry | own | chain | what is missing |",
        "|---|---|---|---|",
    ]
    for entry in weakest(found):
        lines.append(
            f"| {_name(entry)} | {_grade(entry.own)} | {_grade(entry.chain)} | {_cell(weak_point(entry, found))} |"
        )
    lines += ["", "## Statements", ""]
    for title, origin in (("The paper", "paper"), ("Further statements", "companion")):
        lines += [
            f"### {title}",
            "",
            "| entry | as printed | as amended | own | chain | methods | falsehoods | smallest excess caught |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [_row(entry) for entry in found.values() if entry.statement.origin == origin]
        lines.append("")
    lines += ["## What is open, and why", "", "| reason | entries |", "|---|---|"]
    lines += [f"| {_cell(reason)} | {', '.join(names)} |" for reason, names in _open_by_reason(found).items()]
    lines += ["", "## The paper's constants, and sharper ones", "", constants.table()]
    lines += ["", "## What is said in words only", "", "These steps keep an entry at *certified*.", ""]
    lines += ["| check | in words |", "|---|---|"]
    lines += [
        f"| `{outcome.statement}.{outcome.part}` | {_cell(outcome.in_words)} |"
        for entry in found.values()
        for outcome in entry.outcomes
        if outcome.in_words
    ]
    lines += ["", "## Hypotheses that a claim survives without", "", "| check | hypothesis | the claim without it |"]
    lines += ["|---|---|---|"]
    lines += [
        f"| `{outcome.statement}.{outcome.part}` | {_cell(name)} | {verdict.value} |"
        for entry in found.values()
        for outcome in entry.outcomes
        for name, verdict in outcome.unneeded.items()
    ]
    lines += ["", "## Theorems of books", "", "What `modulo` names: taken from books, and not proved here.", ""]
    lines += ["| name | theorem |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(text)} |" for name, text in _books(found).items()]
    lines += ["", "## Equations that no check names", "", _unchecked_equations(found), ""]
    lines += ["## What rests on what", "", graph_markdown(found), ""]
    return "\n".join(lines)


def _open_by_reason(found: Mapping[str, Entry]) -> dict[str, list[str]]:
    """Return the open entries by the reason why they are; claims first, then what is no claim."""
    made: dict[str, list[str]] = {}
    for entry in sorted(found.values(), key=lambda entry: entry.statement.kind in NO_CLAIM):
        if entry.own is Grade.OPEN:
            made.setdefault(why_open(entry), []).append(_name(entry))
    return made


def _counts_table(count: Mapping[str, Any]) -> str:
    lines = ["| claims | proved | certified | sampled | open | as printed, refuted |", "|---|---|---|---|---|---|"]
    for origin in ("paper", "companion"):
        part = count[origin]
        for column in ("own", "chain"):
            grades = " | ".join(str(number) for number in part[column].values())
            refuted = part["printed_fails"] if column == "own" else ""
            lines.append(f"| {origin}, {column} ({part['claims']}) | {grades} | {refuted} |")
    return "\n".join(lines)


def weak_point(entry: Entry, found: Mapping[str, Entry]) -> str:
    """Return what keeps an entry from a better grade."""
    if entry.own is Grade.OPEN:
        return why_open(entry)
    weak = [name for name in entry.statement.uses if found[name].chain == entry.chain and entry.chain < entry.own]
    if weak:
        return f"rests on {', '.join(weak)}"
    words = [outcome.in_words for outcome in entry.claims if outcome.in_words]
    if words:
        return f"in words only: {'; '.join(words)}"
    if entry.own is not Grade.PROVED:
        return "decided on instances only"
    books = f"; theorems of books taken for granted: {len(entry.modulo)}" if entry.modulo else ""
    return f"verified steps, joined in words: {_steps(entry)}{books}"


def _name(entry: Entry) -> str:
    return f"`{entry.statement.id}` {entry.statement.ref}"


def _grade(grade: Grade) -> str:
    return grade.name.lower()


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _row(entry: Entry) -> str:
    methods = ", ".join(sorted({outcome.method for outcome in entry.outcomes})) or "–"
    refuted = sum(len(outcome.refuted) for outcome in entry.outcomes)
    falsehoods = sum(len(outcome.falsehoods) for outcome in entry.outcomes)
    caught = ", ".join(o.smallest_caught for o in entry.outcomes if o.smallest_caught) or "–"
    modulo = f" modulo {', '.join(sorted(entry.modulo))}" if entry.modulo else ""
    return (
        f"| {_name(entry)} | {entry.printed.value} | {entry.amended.value} | {_grade(entry.own)} | "
        f"{_grade(entry.chain)}{modulo} | {methods} | {refuted}/{falsehoods} | {caught} |"
    )


def _books(found: Mapping[str, Entry]) -> dict[str, str]:
    named = frozenset().union(*(entry.modulo for entry in found.values()))
    books = {name: f"{e.statement.ref}: {e.statement.cited}" for name, e in found.items() if e.statement.cited}
    return {name: text for name, text in {**books, **TEXTBOOK}.items() if name in named}


def _unchecked_equations(found: Mapping[str, Entry]) -> str:
    unchecked = [str(number) for number, value in equations_checked(found).items() if not value["checks"]]
    return ", ".join(f"({number})" for number in unchecked) or "None."


def _errata_title(ref: str, place: str) -> str:
    """Return the place, with the statement in front of it unless it says so itself."""
    if place in ref:
        return ref
    section = ref.split(",")[0].lower()
    named = section in place.lower()
    return place[:1].upper() + place[1:] if named else f"{ref}: {place}"


def errata_markdown(found: Mapping[str, Entry]) -> str:
    """Return ERRATA.md: what fails as printed, with a witness, the least repair, and what survives."""
    listed = [(entry, erratum) for entry in found.values() for erratum in errata_of(entry)]
    lines = [
        "# Errata",
        "",
        "Written by `python -m proofs_checks ledger` from the checks. The authors' results stand almost throughout: "
        "for "
        "each place there is an instance that meets the printed hypotheses and refutes the printed formula, the least "
        "repair that we found, whether the repair was verified, and what the paper concludes from it. Where the scan "
        "from which we read the paper may be to blame, we say so.",
        "",
        f"{sum(e['concerns'] == 'claim' for _, e in listed)} concern a claim, "
        f"{sum(e['concerns'] == 'proof' for _, e in listed)} a step of a proof.",
        "",
    ]
    for title, concerns in (("Claims", "claim"), ("Steps of proofs", "proof")):
        lines += [f"## {title}", ""]
        for entry, erratum in listed:
            if erratum["concerns"] != concerns:
                continue
            lines += [
                f"### {_errata_title(entry.statement.ref, erratum['place'])}",
                "",
                f"* **Witness.** {erratum['witness']}",
                f"* **Repair.** {erratum['repair']} (verified: {erratum['repair_holds']})",
                f"* **What survives.** {erratum['survives']}",
            ]
            if erratum["scan_may_be_to_blame"]:
                lines.append("* The scan of the text may be to blame.")
            lines += [f"* Replay: `{erratum['replay']}`", ""]
    return "\n".join(lines)


def graph_markdown(found: Mapping[str, Entry]) -> str:
    """Return the graphs of what each printed proof uses, in Mermaid, with their legend."""
    legend = ["flowchart LR"]
    for name, shape, number in graph.legend(found):
        left, right, _ = graph.SHAPES[name]
        legend.append(f'  legend_{name}{left}"{name}: {shape} ({number})"{right}')
    lines = [
        "An arrow reads: is used in the printed proof of. The shape and the text of a box give the own grade:",
        "",
        "```mermaid",
        *legend,
        "```",
    ]
    for picture in graph.pictures({name: entry.statement for name, entry in found.items()}):
        lines += ["", f"### {picture.title}", "", "```mermaid", graph.mermaid(found, picture), "```"]
    return "\n".join(lines)


def documents(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """Return the text of each file that the ledger writes."""
    found = entries(outcomes)
    return {
        "LEDGER.md": ledger_markdown(found),
        "ledger.json": json.dumps(to_json(found), indent=1, ensure_ascii=False) + "\n",
        "ERRATA.md": errata_markdown(found),
    }


def home() -> Path:
    """Return the repository that holds these checks; where they are installed elsewhere, the current folder."""
    return ROOT if (ROOT / "pyproject.toml").is_file() else Path.cwd()


def write(outcomes: Mapping[str, Outcome], folder: Path | None = None) -> list[Path]:
    """Write the files into ``folder``, :func:`home` by default, and return their paths."""
    folder = home() if folder is None else folder
    paths = []
    for name, text in documents(outcomes).items():
        path = folder / name
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def differing(outcomes: Mapping[str, Outcome], folder: Path | None = None) -> list[str]:
    """Return the names of the files in ``folder`` that are missing or say something else than the checks."""
    folder = home() if folder is None else folder
    differs = []
    for name, text in documents(outcomes).items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            differs.append(name)
    return differs


def explain(identifier: str, outcomes: Mapping[str, Outcome]) -> str:
    """Return everything that is known of one statement, as text."""
    found = entries(outcomes)
    entry = found[identifier]
    statement = entry.statement
    lines = [f"{statement.id}: {statement.ref} (section {statement.place})", "", f"Claim: {statement.claim}"]
    lines += [f"Supposed: {hypothesis}" for hypothesis in statement.hypotheses]
    lines += [
        f"Needed to say it: {', '.join(statement.assumes) or 'nothing'}",
        f"Used by its printed proof: {', '.join(statement.uses) or 'nothing'}",
        f"Equations: {', '.join(map(str, statement.equations)) or 'none'}",
        f"As printed: {entry.printed.value}. As amended: {entry.amended.value}. Printed proof: {entry.proof.value}.",
        f"Own grade: {_grade(entry.own)}. Chain: {_grade(entry.chain)}.",
        f"Modulo: {', '.join(sorted(entry.modulo)) or 'nothing'}.",
    ]
    lines += [f"  {name}: {text}" for name, text in _books(found).items() if name in entry.modulo]
    if entry.own is Grade.OPEN:
        lines.append(f"Open: {why_open(entry)}")
    for outcome in entry.outcomes:
        made = checks()[f"{statement.id}.{outcome.part}"]
        lines += [
            "",
            f"[{made.id}] {outcome.method}: {outcome.verdict.value} ({_grade(outcome.grade)})",
            "",
            made.doc,
            "",
        ]
        lines += [f"  verified: {step}" for step in outcome.amended.steps]
        if outcome.in_words:
            lines.append(f"  in words only: {outcome.in_words}")
        lines.append(
            f"  instances: {outcome.amended.decided} decided, {outcome.amended.skipped} outside the hypotheses"
        )
        lines += [f"  undecided: {text}" for text in outcome.amended.undecided]
        for name, verdict in outcome.falsehoods.items():
            lines.append(f"  falsehood {name}: {verdict.value}; {outcome.caught_by.get(name, '')}")
        lines += [f"  without {name}: {verdict.value}" for name, verdict in outcome.unneeded.items()]
        if outcome.smallest_caught:
            lines.append(f"  smallest excess caught: {outcome.smallest_caught}")
    for erratum in errata_of(entry):
        lines += [
            "",
            f"Erratum at {erratum['place']}: {erratum['witness']}",
            f"  repair: {erratum['repair']}",
            f"  survives: {erratum['survives']}",
            f"  replay: {erratum['replay']}",
        ]
    return "\n".join(lines)


def needed_for(identifier: str) -> list[Check]:
    """Return the checks of a statement and of everything that its chain rests on."""
    waiting, reached = [identifier], {identifier}
    while waiting:
        for name in statements()[waiting.pop()].uses:
            if name not in reached:
                reached.add(name)
                waiting.append(name)
    return [made for made in checks().values() if made.statement in reached]


def known(identifier: str) -> bool:
    """Whether there is a statement of this id."""
    return identifier in statements()
