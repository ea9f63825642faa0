"""One HTML page about a run, which needs nothing but itself."""

import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqssvae.show import plots
from seqssvae.show.maps import draw_map
from seqssvae.show.portrait import Portrait

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_report"]

INK = "#010203"  # a colour of no picture, which becomes the page's own
SETTINGS: Any = {  # of matplotlib: lines and letters in the page's colour, so that it may be dark
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.framealpha": 0.0,
    "font.family": "sans-serif",
}
FIGURES = {  # of `evaluate`
    "num_rows": ("rows shown", "{}"),
    "num_labelled": ("of these with a label", "{}"),
    "accuracy": ("accuracy by q(y | x)", "{:.3f}"),
    "macro_f1": ("macro-F1", "{:.3f}"),
    "calibration_error": ("expected calibration error", "{:.3f}"),
    "elbo": ("ELBO, nats per sequence", "{:.2f}"),
    "nll": ("negative log-likelihood, nats per sequence", "{:.2f}"),
    "nats_per_symbol": ("the same per symbol", "{:.3f}"),
    "kl": ("KL of z, nats", "{:.2f}"),
    "mutual_information": ("mutual information of x and z, nats", "{:.2f}"),
    "active_units": ("active dims of z", "{}"),
    "y_gap": ("what a wrong label costs, nats", "{:.2f}"),
}
# Nothing may be fetched, whatever a later change or a sequence put into the page.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --soft: #5a6270;
  --line: #d6dae0; --mark: #eef3f9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --paper: #15181c; --soft: #a4adb8;
  --line: #3a414a; --mark: #222a33; } }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; overflow-wrap: anywhere; } h2 { margin-top: 2.2rem; font-size: 1.25rem; }
p { max-width: 44rem; } .soft { color: var(--soft); overflow-wrap: anywhere; }
.wide { overflow-x: auto; } svg.picture { display: block; max-width: 100%; height: auto; }
svg.picture text { font-family: system-ui, sans-serif; }
table { border-collapse: collapse; } caption { text-align: left; color: var(--soft); }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
td.sequence { font-family: ui-monospace, monospace; font-size: .9rem; min-width: 6rem;
  max-width: 22rem; overflow-wrap: anywhere; white-space: pre-wrap; }
td.own { background: var(--mark); }
.map { max-width: 46rem; }
.pair { display: grid; gap: 1rem 2rem;
  grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); }
.js-plotly-plot .plotly text { fill: var(--ink) !important; }
.js-plotly-plot .plotly .hoverlayer text { fill: #ffffff !important; }
.js-plotly-plot .plotly .hoverlayer path { fill: #1b1f24 !important; }
"""


def write_report(portrait: Portrait) -> str:
    """The page, as text; sequences and labels are shown as they stand and never read as markup."""
    plots.require("plotly", "report")
    from plotly.offline import get_plotlyjs

    title = html.escape(f"seqssvae: {Path(portrait.name).resolve().name}")
    body = "\n".join(_sections(portrait))
    script = (
        f"<script>{get_plotlyjs()}</script>" if len(portrait.kl_nats) or portrait.labels else ""
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n{script}\n</head>\n"
        f"<body>\n<main>\n<h1>{title}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _sections(portrait: Portrait) -> Iterator[str]:
    """The parts of the page that the run has something for."""
    y, labels, probabilities = portrait.y, portrait.labels, portrait.probabilities
    # the colleague need not learn where the folders of this machine are
    source = portrait.source
    source = source if source.startswith("hub:") else Path(source).name
    yield f'<p class="soft">Rows of {html.escape(source)}</p>'
    yield _figures(portrait.figures)
    given = [labels[i] for i in probabilities.argmax(1)] if labels else [""] * len(y)
    hint = "Point at a row, or touch it, to read it; a label in the legend can be switched off."
    if len(portrait.kl_nats):
        shares = " and ".join(f"{100 * share:.0f}%" for share in portrait.z_explained)
        yield "<h2>Latent space</h2>"
        yield f"<p>Each row at the mean of its q(z | x, y). {hint}</p>"
        yield _map("t-SNE of z", portrait.z_tsne, portrait, given)
        yield _map(f"Principal components of z ({shares} of variance)", portrait.z_pca,
                   portrait, given)  # fmt: skip
    if labels:
        yield f"<h2>Class logits</h2><p>Each row at its log q(y | x). {hint}</p>"
        yield _map("t-SNE of log q(y | x)", portrait.logits_tsne, portrait, given)
    known = y >= 0
    if known.any():
        best = probabilities[known].argmax(1)
        confidence, correct = probabilities[known].max(1), best == y[known]
        yield "<h2>Classification</h2>"
        yield "<p>Rows by true label and by the label given; and how often the model was right, "
        yield "by how sure it was: below the dashed line it is too sure.</p>"
        confusion = _drawn("confusion matrix", plots.draw_confusion, y[known], best, labels)
        diagram = _drawn("reliability diagram", plots.draw_reliability, confidence, correct)
        yield f'<div class="pair">{confusion}{diagram}</div>'
    yield "<h2>New sequences</h2><p>Each from a z of its own, drawn from the prior.</p>"
    samples = [[name, *written] for name, written in portrait.samples.items()]
    yield _table(samples, named=True)
    if portrait.transfers:
        yield "<h2>Transfer</h2><p>The same z under every label, the row's own one marked.</p>"
        yield _transfers(portrait)
    if portrait.walks:
        yield "<h2>Interpolation</h2><p>On a straight line through z from one row to another.</p>"
        yield _table(portrait.walks)
    yield "<h2>Training</h2>"
    measured = [n for n in plots.CURVES if any(r.get(n) is not None for r in portrait.metrics)]
    curves = [_drawn(plots.CURVES[n], plots.draw_curves, portrait.metrics, [n]) for n in measured]
    yield f'<div class="pair">{"".join(curves) or "<p>No evaluations were kept.</p>"}</div>'
    if len(portrait.kl_nats):
        yield "<h2>KL of each dim of z</h2><p>Dims near 0 carry nothing.</p>"
        yield _drawn("KL of each dim of z", plots.draw_kl, portrait.kl_nats)


def _figures(figures: dict[str, Any]) -> str:
    rows = [
        f'<tr><th scope="row">{title}</th><td class="number">{form.format(figures[name])}</td></tr>'
        for name, (title, form) in FIGURES.items()
        if figures.get(name) is not None
    ]
    return f"<table>{''.join(rows)}</table>"


def _map(title: str, points: Any, portrait: Portrait, given: Sequence[str]) -> str:
    figure = draw_map(points, portrait.y, portrait.labels, portrait.sequences, given)
    drawn = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=re.sub(r"\W+", "-", title.lower()).strip("-"),
        config={"displaylogo": False, "responsive": True, "scrollZoom": False},
    )
    return f'<h3>{html.escape(title)}</h3>\n<div class="map">{drawn}</div>'


def _drawn(title: str, draw: Any, *numbers: Any) -> str:
    """A picture by matplotlib, in the page's own colours."""
    import matplotlib

    with matplotlib.rc_context(SETTINGS):
        figure: Figure = draw(*numbers)
        svg = plots.figure_to_bytes(figure, "svg").decode()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # ids of several pictures would be the same
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head = f'<svg class="picture" role="img" aria-label="{html.escape(title)}"'
    return f'<div class="wide">{svg.replace("<svg", head, 1)}</div>'


def _transfers(portrait: Portrait) -> str:
    heads = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in portrait.labels)
    rows = []
    for sequence, own, written in portrait.transfers:
        cells = "".join(
            f'<td class="sequence{" own" if name == own else ""}">{html.escape(text)}</td>'
            for name, text in zip(portrait.labels, written, strict=True)
        )
        rows.append(f'<tr><td class="sequence">{html.escape(sequence)}</td>{cells}</tr>')
    return (
        f'<div class="wide" tabindex="0"><table><tr><th scope="col">row</th>{heads}</tr>'
        f"{''.join(rows)}</table></div>"
    )


def _table(rows: Sequence[Sequence[str]], *, named: bool = False) -> str:
    """Sequences in a grid; the first of each row is its name, if rows are named."""
    lines = []
    for row in rows:
        cells = [f'<td class="sequence">{html.escape(text)}</td>' for text in row]
        if named:
            cells[0] = f'<th scope="row">{html.escape(row[0])}</th>'
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="wide" tabindex="0"><table>{"".join(lines)}</table></div>'
