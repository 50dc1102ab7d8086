"""The command line: ``python -m proofs_checks list | run | explain | replay | ledger | report``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from hypothesis.configuration import set_hypothesis_home_dir
from tqdm import tqdm

from proofs_checks import ledger, report
from proofs_checks.registry import Check, Outcome, Verdict, checks_of, entries, gather, statements


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 if everything asked for holds, 1 if not, 2 if there is no such statement."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.action is None:
        parser.print_help()
        return 0
    return int(arguments.action(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m proofs_checks",
        description="Check the statements of the paper: `list` names them, `explain ID` says everything of one.",
    )
    parser.set_defaults(action=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    command = commands.add_parser("list", help="list the statements and their checks")
    command.set_defaults(action=_list)
    command = commands.add_parser("run", help="run the checks")
    command.add_argument("--statement", metavar="ID", help="only the checks of one statement")
    _allow_no_cache(command)
    command.set_defaults(action=_run)
    command = commands.add_parser("explain", help="say everything that is known of one statement")
    command.add_argument("statement", metavar="ID")
    _allow_no_cache(command)
    command.set_defaults(action=_explain)
    command = commands.add_parser("replay", help="run a printed claim again and show its witness")
    command.add_argument("check", metavar="ID[.PART]")
    command.add_argument(
        "--falsehood", metavar="NAME", help="one of the planted falsehoods instead of the printed claim"
    )
    command.set_defaults(action=_replay)
    command = commands.add_parser("ledger", help="write LEDGER.md, ledger.json and ERRATA.md")
    command.add_argument("--check", action="store_true", help="only compare: exit with 1 if a file is out of date")
    _allow_no_cache(command)
    command.set_defaults(action=_ledger)
    command = commands.add_parser("report", help="write the ledger as one HTML page that needs no network")
    command.add_argument("--out", type=Path, default=Path("results/ledger.html"), metavar="FILE")
    _allow_no_cache(command)
    command.set_defaults(action=_report)
    return parser


def _allow_no_cache(command: argparse.ArgumentParser) -> None:
    command.add_argument("--no-cache", action="store_true", help="run everything again")


def _bar(todo: list[Check]) -> Iterable[Check]:
    return tqdm(todo, desc="checks", unit="check", file=sys.stderr, disable=len(todo) < 2)


def _outcomes(arguments: argparse.Namespace, chosen: Sequence[Check] | None = None) -> dict[str, Outcome]:
    return ledger.run_all(chosen, use_cache=not arguments.no_cache, progress=_bar)


def _unknown(identifier: str) -> int:
    begins = [name for name in statements() if name.startswith(identifier)]
    close = begins or get_close_matches(identifier, list(statements()), n=5, cutoff=0.4)
    hint = f"Close: {', '.join(close[:5])}." if close else "`python -m proofs_checks list` names them all."
    print(f"There is no statement {identifier}. {hint}", file=sys.stderr)
    return 2


def _list(_: argparse.Namespace) -> int:
    for statement in statements().values():
        parts = ", ".join(f"{made.part} ({made.method})" for made in checks_of(statement.id))
        print(f"{statement.id:36} {statement.ref:34} {parts or 'no check'}")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    chosen = None
    if arguments.statement is not None:
        if not ledger.known(arguments.statement):
            return _unknown(arguments.statement)
        chosen = checks_of(arguments.statement)
        if not chosen:
            print(f"{arguments.statement}: open, {statements()[arguments.statement].open or 'no check yet'}")
            return 1
    outcomes = _outcomes(arguments, chosen)
    for identifier, outcome in outcomes.items():
        printed = f"printed: {outcome.printed_verdict.value}" if outcome.differs else "as printed"
        refuted = f"{len(outcome.refuted)}/{len(outcome.falsehoods)} falsehoods refuted"
        print(f"{outcome.verdict.value:8} {outcome.grade.name.lower():10} {identifier:48} {printed}; {refuted}")
        if outcome.verdict is not Verdict.HOLDS:
            details = [str(w) for w in outcome.amended.refuted] + list(outcome.amended.undecided)
            missed = [name for name in outcome.falsehoods if name not in outcome.refuted]
            print(f"         {'; '.join(details)} {'not refuted: ' + ', '.join(missed) if missed else ''}")
    bad = [identifier for identifier, outcome in outcomes.items() if outcome.verdict is not Verdict.HOLDS]
    print(f"{len(outcomes) - len(bad)} of {len(outcomes)} checks hold.")
    return 1 if bad else 0


def _explain(arguments: argparse.Namespace) -> int:
    if not ledger.known(arguments.statement):
        return _unknown(arguments.statement)
    print(ledger.explain(arguments.statement, _outcomes(arguments, ledger.needed_for(arguments.statement))))
    return 0


def _replay(arguments: argparse.Namespace) -> int:
    identifier, _, part = arguments.check.partition(".")
    if not ledger.known(identifier):
        return _unknown(identifier)
    chosen = [made for made in checks_of(identifier) if not part or made.part == part]
    if not chosen:
        parts = ", ".join(made.part for made in checks_of(identifier))
        print(f"There is no check {arguments.check}. Parts: {parts or 'none'}.", file=sys.stderr)
        return 2
    if arguments.falsehood is None:
        claims = [(made, made.printed, "as printed") for made in chosen]
    else:
        claims = [
            (made, made.falsehoods[arguments.falsehood], arguments.falsehood)
            for made in chosen
            if arguments.falsehood in made.falsehoods
        ]
        if not claims:
            names = ", ".join(name for made in chosen for name in made.falsehoods)
            print(f"There is no falsehood {arguments.falsehood}. Falsehoods: {names}.", file=sys.stderr)
            return 2
    shown = 0
    for made, constants, name in claims:
        evidence = gather(made, constants)
        print(f"{made.id}: {name}, the claim {_SAID[evidence.verdict]}")
        for witness in evidence.refuted:
            print(f"  false: {witness.finding}")
            for key, value in witness.instance.items():
                print(f"    {key} = {value}")
            shown += 1
    if not shown:
        print("Nothing was refuted.")
    return 0 if shown else 1


_SAID = {Verdict.HOLDS: "holds", Verdict.FAILS: "fails", Verdict.UNKNOWN: "is undecided"}


def _ledger(arguments: argparse.Namespace) -> int:
    outcomes = _outcomes(arguments)
    if arguments.check:
        differs = ledger.differing(outcomes)
        for name in differs:
            print(f"{name} is out of date; write it with: python -m proofs_checks ledger")
        return 1 if differs else 0
    for path in ledger.write(outcomes):
        print(f"wrote {path.name}")
    found = entries(outcomes)
    print(f"{ledger.counts(found)}")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    page = report.html_page(_outcomes(arguments), arguments.out.parent)
    arguments.out.write_text(page, encoding="utf-8")
    print(f"wrote {arguments.out}")
    return 0


def _run_as_program() -> int:
    # Hypothesis keeps files; not in the folder where somebody happens to be.
    set_hypothesis_home_dir(ledger.cache_folder() / "hypothesis")
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as in `list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


if __name__ == "__main__":
    sys.exit(_run_as_program())
