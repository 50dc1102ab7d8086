"""The ledger as one HTML page: search, filters, formulas and witnesses, without any network access.

Formulas are Unicode text, so nothing has to be rendered.  Verdicts are told by words and by a mark, not by colour.
Every entry has its own address (``#thm5_single_point``), and links to the lines of its checks.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

from proofs_checks.ledger import ROOT, counts, errata_of, why_open
from proofs_checks.registry import Entry, Grade, Outcome, checks, entries

_MARKS = {"holds": "✓", "fails": "✗", "unknown": "?", "unchecked": "–"}
_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 68rem; padding: 1rem; }
h1 { margin: 0 0 .5rem; } code, pre { font: 14px/1.45 ui-monospace, monospace; }
form { display: flex; flex-wrap: wrap; gap: .6rem; align-items: end; position: sticky; top: 0; padding: .6rem 0;
  background: Canvas; border-bottom: 1px solid var(--line); }
label { display: flex; flex-direction: column; font-size: .8rem; }
input, select { font: inherit; padding: .25rem .4rem; }
input[type=search] { min-width: 16rem; } #shown { margin-left: auto; }
table { border-collapse: collapse; } td, th { border: 1px solid var(--line); padding: .15rem .6rem; text-align: left; }
article { border: 1px solid var(--line); border-radius: 6px; margin: .7rem 0; padding: .5rem 1rem; }
article[hidden] { display: none; }
article header { display: flex; flex-wrap: wrap; gap: .4rem 1rem; align-items: baseline; }
article h2 { font-size: 1.05rem; margin: 0; } .tags { display: flex; flex-wrap: wrap; gap: .4rem; font-size: .8rem; }
.tags span { border: 1px solid var(--line); border-radius: 4px; padding: 0 .4rem; }
.tags .fails, .tags .open { border-style: dashed; font-weight: 600; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--soft); padding: .5rem; border-radius: 4px; }
summary { cursor: pointer; }
.erratum { border-left: 4px solid; padding-left: .8rem; margin: .6rem 0; overflow-wrap: anywhere; }
"""
_SCRIPT = """
const form = document.querySelector('form'), items = [...document.querySelectorAll('article')];
function show() {
  const f = new FormData(form), words = f.get('text').toLowerCase().split(/\\s+/).filter(Boolean);
  let n = 0;
  for (const a of items) {
    const d = a.dataset;
    const ok = words.every(w => a.textContent.toLowerCase().includes(w))
      && ['printed', 'amended', 'own', 'origin', 'kind'].every(k => !f.get(k) || d[k] === f.get(k))
      && (!f.get('method') || d.method.split(' ').includes(f.get('method')));
    a.hidden = !ok; n += ok;
  }
  document.querySelector('#shown').textContent = n + ' of ' + items.length + ' entries';
}
form.addEventListener('input', show); form.addEventListener('submit', e => e.preventDefault()); show();
"""


def html_page(outcomes: Mapping[str, Outcome]) -> str:
    """Return the whole page."""
    found = entries(outcomes)
    count = counts(found)
    used_by = {name: [e.statement.id for e in found.values() if name in e.statement.uses] for name in found}
    summary = (
        f"{count['checks']} checks; {count['falsehoods_refuted']} of {count['falsehoods']} planted falsehoods refuted; "
        f"{count['equations_checked']} of {count['equations']} equations named by a check; "
        f"{count['errata_in_claims']} printed claims and {count['errata_in_proofs']} printed steps refuted."
    )
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Equipoise: ledger of statements</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{_STYLE}</style></head><body><h1>Ledger of statements</h1><p>{escape(summary)}</p>",
            _counts(count),
            _filters(found),
            "<main>",
            *(_article(entry, used_by[name]) for name, entry in found.items()),
            f"</main><script>{_SCRIPT}</script></body></html>",
            "",
        ]
    )


def _counts(count: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    rows = [
        f"<tr><th>{origin}, {column}</th>"
        + "".join(f"<td>{number}</td>" for number in count[origin][column].values())
        + "</tr>"
        for origin in ("paper", "companion")
        for column in ("own", "chain")
    ]
    heads = "".join(f"<th>{grade.name.lower()}</th>" for grade in reversed(Grade))
    return f"<table><tr><th>claims</th>{heads}</tr>{''.join(rows)}</table>"


def _filters(found: Mapping[str, Entry]) -> str:
    def choice(name: str, label: str, values: Iterable[str]) -> str:
        options = "".join(f"<option>{escape(value)}</option>" for value in values)
        return f'<label>{label}<select name="{name}"><option value="">any</option>{options}</select></label>'

    methods = sorted({outcome.method for entry in found.values() for outcome in entry.outcomes})
    return "".join(
        [
            '<form><label>search<input type="search" name="text" placeholder="Lemma 13, smooth, (178), …"></label>',
            choice("printed", "as printed", _MARKS),
            choice("amended", "as amended", _MARKS),
            choice("own", "grade", [grade.name.lower() for grade in reversed(Grade)]),
            choice("method", "method", methods),
            choice("kind", "kind", sorted({entry.statement.kind for entry in found.values()})),
            choice("origin", "origin", ["paper", "companion"]),
            '<output id="shown"></output></form>',
        ]
    )


def _article(entry: Entry, used_by: list[str]) -> str:
    statement = entry.statement
    printed, amended, own = entry.printed.value, entry.amended.value, entry.own.name.lower()
    methods = " ".join(sorted({outcome.method for outcome in entry.outcomes}))
    tags = [
        f'<span class="{printed}">as printed: {_MARKS[printed]} {printed}</span>',
        f'<span class="{amended}">as amended: {_MARKS[amended]} {amended}</span>',
        f'<span class="{own}">own: {own}</span>',
        f"<span>chain: {entry.chain.name.lower()}</span>",
        *(f"<span>{method}</span>" for method in methods.split()),
    ]
    lines = [
        f'<article id="{statement.id}" data-printed="{printed}" data-amended="{amended}" data-own="{own}" '
        f'data-method="{methods}" data-kind="{statement.kind}" data-origin="{statement.origin}">',
        f'<header><h2><a href="#{statement.id}">{escape(statement.ref)}</a></h2><code>{statement.id}</code>',
        f'<div class="tags">{"".join(tags)}</div></header><p>{escape(statement.claim)}</p>',
    ]
    if statement.hypotheses:
        lines.append(f"<p>Supposed: {escape('; '.join(statement.hypotheses))}.</p>")
    if statement.equations:
        lines.append(f"<p>Equations: {', '.join(f'({number})' for number in statement.equations)}</p>")
    for label, names in (("Uses", statement.uses), ("Used by", used_by), ("Modulo", sorted(entry.modulo))):
        if names:
            lines.append(f"<p>{label}: {_links(names)}</p>")
    if entry.own is Grade.OPEN:
        lines.append(f"<p>Open: {escape(why_open(entry))}</p>")
    lines += [_erratum(erratum) for erratum in errata_of(entry)]
    lines += [_check(outcome) for outcome in entry.outcomes]
    return "\n".join([*lines, "</article>"])


def _links(names: Iterable[str]) -> str:
    return ", ".join(f'<a href="#{name}">{name}</a>' for name in names)


def _erratum(erratum: Mapping[str, object]) -> str:
    place = str(erratum["place"])
    scan = "<br>The scan of the text may be to blame." if erratum["scan_may_be_to_blame"] else ""
    return (
        f'<div class="erratum"><b>Erratum: {escape(place)}</b><br>'
        f"Witness: {escape(str(erratum['witness']))}<br>Repair: {escape(str(erratum['repair']))} "
        f"(verified: {erratum['repair_holds']})<br>What survives: {escape(str(erratum['survives']))}{scan}<br>"
        f"<code>{escape(str(erratum['replay']))}</code></div>"
    )


def _check(outcome: Outcome) -> str:
    made = checks()[f"{outcome.statement}.{outcome.part}"]
    function = inspect.unwrap(made.function)
    path = Path(inspect.getsourcefile(function) or "").resolve().relative_to(ROOT).as_posix()
    line = inspect.getsourcelines(function)[1]
    rows = [f"verified: {step}" for step in outcome.amended.steps]
    rows.append(f"instances: {outcome.amended.decided}, outside the hypotheses: {outcome.amended.skipped}")
    rows += [f"in words only: {outcome.in_words}"] if outcome.in_words else []
    rows += [f"falsehood {name}: {verdict.value}" for name, verdict in outcome.falsehoods.items()]
    rows += [f"smallest excess caught: {outcome.smallest_caught}"] if outcome.smallest_caught else []
    verdict = outcome.verdict.value
    return (
        f"<details><summary>{_MARKS[verdict]} {escape(outcome.part)}: {verdict}, {outcome.grade.name.lower()} "
        f"({outcome.method})</summary><pre>{escape(made.doc)}</pre><pre>{escape(chr(10).join(rows))}</pre>"
        f'<p><a href="{path}#L{line}">{path}:{line}</a></p></details>'
    )
