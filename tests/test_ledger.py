"""The ledger says what the checks found, the cache cannot be stale, and the command line answers as it says."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from proofs_checks import __main__ as command
from proofs_checks import constants, ledger, report
from proofs_checks.registry import Evidence, Grade, Outcome, Verdict, checks, entries, statements


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Outcome]:
    patch = pytest.MonkeyPatch()
    patch.setenv("EQUIPOISE_CACHE", str(tmp_path_factory.mktemp("cache")))
    try:
        return ledger.run_all()
    finally:
        patch.undo()


# ---- The cache --------------------------------------------------------------------------------------------------


@pytest.fixture
def copied_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the cache at a copy of the sources, so that a test can change them."""
    for package in ("theory", "solvers", "proofs_checks"):
        shutil.copytree(ledger.ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(ledger, "ROOT", tmp_path)
    ledger.imported_files.cache_clear()
    yield tmp_path
    ledger.imported_files.cache_clear()


@pytest.mark.parametrize(
    ("check", "file", "changes"),
    [
        ("eq1_global_loss.claim", "theory/losses.py", True),
        ("eq1_global_loss.claim", "theory/__init__.py", True),
        ("eq1_global_loss.claim", "proofs_checks/exact.py", True),
        ("eq1_global_loss.claim", "proofs_checks/registry.py", True),
        ("lem6_sum_strongly_convex.claim", "proofs_checks/a_convexity.py", True),
        ("lem6_sum_strongly_convex.claim", "proofs_checks/companion_poison.py", False),
    ],
)
def test_the_key_follows_what_the_check_imports(copied_root: Path, check: str, file: str, changes: bool) -> None:
    made = checks()[check]
    before = ledger.cache_key(made)
    path = copied_root / file
    path.write_text(path.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")
    ledger.imported_files.cache_clear()
    assert (ledger.cache_key(made) != before) is changes


def test_an_import_inside_a_function_counts(copied_root: Path) -> None:
    made = checks()["eq2_modified_loss.claim"]
    assert copied_root / "theory/problem.py" in ledger.imported_files(made.function.__module__)


def test_nothing_is_taken_from_the_cache_unless_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path))
    made = checks()["lem6_sum_strongly_convex.claim"]
    ledger.run_cached(made)
    ran = []
    monkeypatch.setattr(
        ledger, "run", lambda check: ran.append(check) or Outcome(*[""] * 4, (), *[Evidence()] * 2, False)
    )
    ledger.run_cached(made, use_cache=False)
    assert ran == [made]


def test_a_library_or_a_switch_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    made = checks()["lem6_sum_strongly_convex.claim"]
    before = ledger.cache_key(made)
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "0")
    ledger._environment.cache_clear()
    assert ledger.cache_key(made) != before
    monkeypatch.undo()
    ledger._environment.cache_clear()


def test_what_is_read_back_is_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path))
    monkeypatch.setattr(ledger, "_memory", {})
    made = checks()["lem11_loss_strongly_convex.proof_33"]
    first = ledger.run_cached(made)
    assert len(list(tmp_path.iterdir())) == 1
    ledger._memory.clear()
    monkeypatch.setattr(ledger, "run", lambda _: pytest.fail("the check ran although its outcome was cached"))
    assert ledger.run_cached(made) == first


def test_a_broken_cache_file_is_no_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path))
    monkeypatch.setattr(ledger, "_memory", {})
    made = checks()["lem6_sum_strongly_convex.claim"]
    first = ledger.run_cached(made)
    ledger._memory.clear()
    for path in tmp_path.iterdir():
        path.write_text("{", encoding="utf-8")
    assert ledger.run_cached(made) == first


def test_an_undecided_outcome_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path))
    monkeypatch.setattr(ledger, "_memory", {})
    made = replace(checks()["lem6_sum_strongly_convex.claim"], function=lambda **_: Evidence())
    made.function.__module__ = "proofs_checks.a_convexity"
    assert ledger.run_cached(made).verdict is Verdict.UNKNOWN
    assert not list(tmp_path.iterdir())


# ---- What is written --------------------------------------------------------------------------------------------


def test_the_files_in_the_repository_are_what_the_checks_say(outcomes: Mapping[str, Outcome]) -> None:
    assert ledger.differing(outcomes) == []


def test_a_file_that_says_something_else_is_noticed(outcomes: Mapping[str, Outcome], tmp_path: Path) -> None:
    ledger.write(outcomes, tmp_path)
    assert ledger.differing(outcomes, tmp_path) == []
    path = tmp_path / "LEDGER.md"
    path.write_text(path.read_text(encoding="utf-8").replace("| open |", "| proved |", 1), encoding="utf-8")
    assert ledger.differing(outcomes, tmp_path) == ["LEDGER.md"]


def test_a_failing_check_shows_in_the_ledger(outcomes: Mapping[str, Outcome]) -> None:
    broken = replace(outcomes["prop3_partial_honesty.claim"], amended=Evidence(undecided=("nothing was found",)))
    found = entries({**outcomes, "prop3_partial_honesty.claim": broken})
    assert found["prop3_partial_honesty"].own is Grade.OPEN
    assert "nothing was found" in ledger.ledger_markdown(found)


def test_the_counts_add_up(outcomes: Mapping[str, Outcome]) -> None:
    found = entries(outcomes)
    count = ledger.counts(found)
    for origin in ("paper", "companion"):
        assert sum(count[origin]["own"].values()) == sum(count[origin]["chain"].values()) == count[origin]["claims"]
    assert count["falsehoods_refuted"] == count["falsehoods"] > count["checks"]
    assert len(ledger.weakest(found)) == 10
    levels = [entry.own for entry in ledger.weakest(found)]
    assert levels == sorted(levels)


def test_every_erratum_has_a_witness_a_repair_that_holds_and_a_replay(outcomes: Mapping[str, Outcome]) -> None:
    errata = [erratum for entry in entries(outcomes).values() for erratum in ledger.errata_of(entry)]
    assert len(errata) >= 30
    for erratum in errata:
        assert erratum["witness"]
        assert erratum["repair_holds"] == "holds"
        assert "Not examined yet" not in erratum["survives"]
        assert erratum["replay"].endswith(erratum["check"])


def test_the_json_has_every_statement_and_every_field(outcomes: Mapping[str, Outcome]) -> None:
    data = json.loads(ledger.documents(outcomes)["ledger.json"])
    assert [entry["id"] for entry in data["statements"]] == list(statements())
    needed = {"id", "ref", "equations", "origin", "printed", "amended", "own", "chain", "modulo", "method"}
    needed |= {"falsehoods", "refuted", "smallest_caught", "errata"}
    assert all(needed <= entry.keys() for entry in data["statements"])
    assert all(entry["printed"] in {"holds", "fails", "unknown", "unchecked"} for entry in data["statements"])
    assert list(data["equations"]) == [str(number) for number in range(1, 188)]


def test_the_graph_names_every_arrow_and_has_a_legend(outcomes: Mapping[str, Outcome]) -> None:
    graph = ledger.graph(entries(outcomes))
    arrows = sum(len(statement.uses) for statement in statements().values())
    assert graph.count(" --> ") == arrows
    assert "legend" in graph
    assert "cited" in graph


def test_sharper_constants_are_sharper_and_in_the_ledger(outcomes: Mapping[str, Outcome]) -> None:
    rows = list(constants.constants())
    assert all(row.gain > 1.0 for row in rows)
    text = ledger.ledger_markdown(entries(outcomes))
    assert all(f"| {row.name} | {row.instance} |" in text for row in rows)


def test_the_constant_of_lemma_28_is_the_least_of_its_two_bounds() -> None:
    # By hand, for K = 0, M = 1: C = 1/8, so the radius is 32; d = σ(1)-1/2 = 0.23106, c = σ'(32) = e^-32.
    row = constants.gradient_pac_constant(0.0)
    assert row.paper == pytest.approx(0.25 * math.exp(-32), rel=1e-9)
    assert row.sharper == pytest.approx(0.2310585786 / 4, rel=1e-9)


class Anchors(HTMLParser):
    """Collects ids, links and the tags that are still open."""

    VOID = frozenset({"meta", "br", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [values["id"]] if values.get("id") else []
        self.links += [values["href"]] if values.get("href") else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_one_page_whose_links_lead_somewhere(outcomes: Mapping[str, Outcome]) -> None:
    text = report.html_page(outcomes)
    page = Anchors()
    page.feed(text)
    assert not page.open
    assert set(statements()) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    inner = {link[1:] for link in page.links if link.startswith("#")}
    assert inner <= set(page.ids)
    sources = {link.split("#")[0] for link in page.links if not link.startswith("#")}
    assert sources
    assert all((ledger.ROOT / source).is_file() for source in sources)
    # Nothing is fetched: no address, no font, no script from elsewhere.
    assert "http" not in text
    assert "src=" not in text


# ---- The command line -------------------------------------------------------------------------------------------


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path))


def test_run_says_what_it_found(own_cache: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["run", "--statement", "lem11_loss_strongly_convex"]) == 0
    assert "3 of 3 checks hold" in capsys.readouterr().out


def test_run_of_an_open_statement_is_not_a_success(own_cache: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["run", "--statement", "fig1"]) == 1
    assert "open" in capsys.readouterr().out


def test_an_unknown_statement_is_named(own_cache: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["explain", "lem99_nothing"]) == 2
    assert "lem99_nothing" in capsys.readouterr().err


def test_replay_shows_the_witness(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["replay", "thm5_single_point.proof_178"]) == 0
    assert "gradient = 2" in capsys.readouterr().out


def test_replay_of_a_claim_that_holds_has_nothing_to_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["replay", "lem6_sum_strongly_convex"]) == 1
    assert "Nothing printed was refuted" in capsys.readouterr().out


def test_explain_gives_the_claim_the_evidence_and_the_errata(
    own_cache: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["explain", "thm5_single_point"]) == 0
    text = capsys.readouterr().out
    for part in ("Claim:", "Used by its printed proof:", "falsehood without_nu: fails", "Erratum at (178)", "replay:"):
        assert part in text


def test_list_names_every_statement(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(identifier in text for identifier in statements())
