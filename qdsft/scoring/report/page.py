"""The frame and the looks of an HTML page that is one file and needs nothing else: no script, no network."""

from __future__ import annotations

from collections.abc import Sequence

from qdsft.scoring.report.text import escape

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2126; --soft: #5b646d; --faint: #8b949c; --rule: #dfe3e6;
  --wash: #f5f7f8; --first: #0a64a4; --first-wash: #e4eff8; --bar: #6ea8d6; --second: #6a737b;
  --bad: #b8400a; --bad-wash: #fdf0e8 }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #14181c; --ink: #e4e8eb; --soft: #a3adb6; --faint: #78828b; --rule: #2f363d; --wash: #1c2227;
    --first: #6cb6f0; --first-wash: #17324a; --bar: #3f7fb4; --second: #a9b3bc; --bad: #ff9a62; --bad-wash: #3a2216 }
}
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100% }
body { margin: 0 auto; max-width: 62rem; padding: 2.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR",
  "Noto Sans CJK KR", sans-serif; overflow-wrap: anywhere; word-break: keep-all }
h1 { font-size: 1.9rem; line-height: 1.2; font-weight: 650; letter-spacing: -.015em; margin: 0 0 .3rem }
h2 { font-size: 1.25rem; line-height: 1.3; font-weight: 650; letter-spacing: -.01em; margin: 3.25rem 0 .25rem;
  padding-top: 1rem; border-top: 1px solid var(--rule) }
h3 { font-size: 1rem; font-weight: 600; line-height: 1.45; margin: 0 }
h4 { font-size: .8125rem; font-weight: 600; color: var(--soft); margin: 0 0 .5rem }
p { margin: .25rem 0 1rem; max-width: 44rem }
a { color: var(--first) }
.lead, .note, figcaption, .meaning { color: var(--soft) }
.note, figcaption, .meaning { font-size: .8125rem; line-height: 1.45 }
.warn { color: var(--bad) }
nav { margin: 1rem 0 0; font-size: .875rem; display: flex; flex-wrap: wrap; gap: .25rem 1.1rem }
nav a { text-decoration: none } nav a:hover { text-decoration: underline }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.75rem, 1fr)); gap: 1.25rem 1.5rem;
  margin: 1.5rem 0 2rem }
.tile b { display: block; font-size: 2.1rem; line-height: 1.15; font-weight: 600; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums }
.tile span { display: block; font-size: .8125rem; color: var(--soft); font-variant-numeric: tabular-nums }
.tile .called { color: var(--ink); font-weight: 600 }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 2rem 2.5rem;
  margin: 1.25rem 0 }
.wide { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1.5rem 3rem;
  align-items: start }
.grid > *, .wide > * { min-width: 0 }
figure { margin: 0; break-inside: avoid }
figcaption { margin: 0 0 .5rem } figcaption b { color: var(--ink); font-weight: 600; font-size: .9375rem }
.scroll { overflow-x: auto; margin: 1rem 0; -webkit-overflow-scrolling: touch }
.scroll:focus-visible { outline: 2px solid var(--first); outline-offset: 2px }
table { border-collapse: collapse; font-size: .9375rem; line-height: 1.4; min-width: 100%; overflow-wrap: normal }
th, td { text-align: left; vertical-align: top; padding: .5rem 1.25rem .5rem 0; border-bottom: 1px solid var(--rule) }
th { font-weight: 600 } thead th { font-size: .8125rem; color: var(--soft); vertical-align: bottom }
tbody th { font-weight: 500 } tbody th .meaning { display: block; font-weight: 400; min-width: 11rem; max-width: 26rem }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; padding-right: 0;
  padding-left: 1rem }
td.number span { display: block; font-size: .8125rem; color: var(--soft) }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .3rem 1.5rem; margin: 1rem 0;
  font-size: .9375rem }
dt { color: var(--soft) } dd { margin: 0 }
article { margin: 1.75rem 0 0; padding-top: 1.25rem; border-top: 1px solid var(--rule) }
.part + article { border-top: 0; padding-top: 0; margin-top: .75rem }
.part { font-weight: 600; margin: 2.25rem 0 0; color: var(--first) }
article > header { margin-bottom: 1rem } article .note { margin: 0 0 .3rem }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1.5rem 2.5rem }
.pair > * { min-width: 0 }
.texts { font-size: .875rem; line-height: 1.5; margin: 1rem 0 0; padding: 0 0 0 1.6rem }
.texts li { padding-left: .15rem }
.texts + .note { margin: .4rem 0 0 }
.texts li::marker { color: var(--soft); font-variant-numeric: tabular-nums }
pre { font: .8125rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "D2Coding", monospace; white-space: pre-wrap;
  margin: .25rem 0; padding: .75rem; background: var(--wash); border-radius: 6px }
svg { display: block; width: 100%; height: auto; font-family: inherit }
svg text { fill: var(--soft) }
.chart { max-width: 27rem }
.graph { max-width: 25rem; width: 100%; margin: 0 }
.graph .way { fill: none; stroke: var(--faint); stroke-width: 1.3 } .graph .tip { fill: var(--faint) }
.box rect { fill: var(--wash); stroke: var(--faint); stroke-width: 1 } .box text { fill: var(--ink) }
.box .step { font-weight: 600; fill: var(--soft) } .box .ref { font-weight: 600; fill: var(--first) }
.box.marked > rect { fill: var(--first-wash); stroke: var(--first); stroke-width: 1.4 }
.box.bad > rect, .missing rect { stroke: var(--bad); stroke-width: 1.4; stroke-dasharray: 4 3 }
.missing rect { fill: var(--bad-wash) } .missing .ref { font-weight: 600; fill: var(--bad) }
.graph .bad .way { stroke: var(--bad); stroke-dasharray: 4 3 }
.graph .bad .tip { fill: var(--bad) }
.graph text.bad { fill: var(--bad) }
@media (max-width: 30rem) {
  body { padding: 1.5rem 1rem 3rem } h1 { font-size: 1.5rem } h2 { margin-top: 2.5rem }
  dl { grid-template-columns: 1fr; gap: 0 }
  table { font-size: .875rem } dd { margin-bottom: .5rem } th, td { padding-right: .5rem }
  td.number, th.number { padding-left: .6rem } th.number { white-space: normal }
  .wide td.number { white-space: normal; width: 5.2rem }
  tbody th .meaning { min-width: 8rem } .tile b { font-size: 1.75rem }
}
@media (min-width: 56rem) {
  .wide { grid-template-columns: minmax(0, 1fr) 23rem; gap: 1.5rem 2.5rem }
  .wide figure { margin-top: 1.4rem }
}
@media print {
  @page { margin: 16mm 15mm }
  html { font-size: 10pt }
  body { max-width: none; padding: 0; print-color-adjust: exact; -webkit-print-color-adjust: exact }
  nav { display: none } .scroll { overflow: visible } a { color: inherit; text-decoration: none }
  h2 { margin-top: 2rem } h2, h3, h4, .part, .lead { break-after: avoid } article, tr, dl, .lead { break-inside: avoid }
  td.number, th.number { padding-left: .6rem } th.number { white-space: normal }
  th, td { padding: .35rem .5rem .35rem 0 } .tiles { grid-template-columns: repeat(4, 1fr) }
  .wide { grid-template-columns: minmax(0, 1fr) 62mm; gap: 8mm }
  .grid, .pair { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 6mm 10mm } .graph { max-width: 78mm }
}
"""


def page(title: str, body: str) -> str:
    """A whole HTML document around `body`, which is markup; `title` is text."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that scrolls by itself where it is too wide; cells are markup, the first of a row names it."""
    first, *others = heads
    head = f'<th scope="col">{first}</th>' + "".join(f'<th scope="col" class="number">{name}</th>' for name in others)
    body = ""
    for name, *cells in rows:
        body += (
            f'<tr><th scope="row">{name}</th>' + "".join(f'<td class="number">{cell}</td>' for cell in cells) + "</tr>"
        )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def figure(name: str, drawing: str, note: str = "") -> str:
    """A drawing under its name; `name` and `note` are text."""
    said = f"<br>{escape(note)}" if note else ""
    return f"<figure><figcaption><b>{escape(name)}</b>{said}</figcaption>{drawing}</figure>"


def section(anchor: str, name: str, body: str, lead: str = "") -> str:
    """A part of the page under a heading; empty where its body is."""
    said = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    return f'<section id="{anchor}"><h2>{escape(name)}</h2>{said}{body}</section>' if body else ""
