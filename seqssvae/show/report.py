"""A self-contained HTML page about a run."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from seqssvae.show import plots
from seqssvae.show.maps import MAP_CONFIG, draw_map
from seqssvae.show.portrait import Portrait
from seqssvae.show.scorecard_plots import draw_agreement, draw_lengths, draw_symbols
from seqssvae.show.summary import most_common_share, summarise

ABSTAIN = (0.5, 0.7, 0.9, 0.95)
INK = "#010203"  # in matplotlib's output; replaced by the page's text colour, light or dark
STYLE: Any = {
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color",
         "ytick.color"), INK,
    ),
    "legend.framealpha": 0.0,
    "font.family": "sans-serif",
}  # fmt: skip


def render(template: str, **values: Any) -> str:
    """Fill in a template of `templates/`; every text is escaped, unless it is `Markup`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("seqssvae.show"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def write_report(portrait: Portrait) -> str:
    """The page; sequences and labels are shown as text, never parsed as markup.

    Raises:
        InputError: plotly or matplotlib is not installed.
    """
    plots.require("plotly")
    from plotly.offline import get_plotlyjs

    y, labels, metrics = portrait.y, portrait.labels, portrait.metrics
    has_z, known = bool(len(portrait.kl_nats)), y >= 0
    best = portrait.probabilities.argmax(1) if labels else None
    predicted = [""] * len(y) if best is None else [labels[i] for i in best]

    def plot(id: str, points: plots.Floats) -> Markup:
        figure = draw_map(points, y, labels, portrait.sequences, predicted)
        options = {"full_html": False, "include_plotlyjs": False, "config": dict(MAP_CONFIG)}
        return Markup(figure.to_html(div_id=id, **options))

    z_maps = classification = None
    if has_z:
        shares = " and ".join(f"{share:.0%}" for share in portrait.z_explained)
        z_maps = {
            "tsne": plot("z-tsne", portrait.z_tsne),
            "pca": plot("z-pca", portrait.z_pca),
            "shares": shares,
            "note": plots.map_note(labels, z_knows_y=portrait.z_knows_y),
        }
    if best is not None and known.any():
        confidence = portrait.probabilities.max(1)[known]
        classification = {
            "confusion": _svg(plots.draw_confusion, y[known], best[known], labels),
            "reliability": _svg(plots.draw_reliability, confidence, (best == y)[known]),
            "abstaining": abstaining(confidence, (best == y)[known]),
        }
    is_hub = portrait.source.startswith("hub:")
    return render(
        "report.html",
        plotly=Markup(get_plotlyjs()) if has_z or labels else "",
        title=f"seqssvae: {Path(portrait.name).resolve().name}",
        source=portrait.source if is_hub else Path(portrait.source).name,  # without its folders
        portrait=portrait,
        sentences=summarise(portrait),
        most_common=most_common_share(portrait),
        z_maps=z_maps,
        logits_map=plot("logits-tsne", portrait.logits_tsne) if labels else None,
        classification=classification,
        scorecard=_draw_scorecard(portrait),
        curves=[
            (plots.CURVES[name], _svg(plots.draw_curves, metrics, [name]))
            for name in plots.measured(metrics)
        ],
        kl=_svg(plots.draw_kl, portrait.kl_nats, portrait.free_bits) if has_z else None,
    )


def abstaining(
    confidence: plots.Floats, is_right: NDArray[np.bool_]
) -> list[tuple[float, float, float]]:
    """P of `classify --abstain P`, the share of rows that get a label, and their accuracy.

    Args:
        confidence: The best label's probability, `[n]`.
        is_right: Whether it is the row's label, `[n]`.
    """
    kept = [(least, confidence >= least) for least in ABSTAIN]
    return [(p, float(k.mean()), float(is_right[k].mean())) for p, k in kept if k.any()]


def _draw_scorecard(portrait: Portrait) -> dict[str, Markup | None] | None:
    """The pictures of the scorecard; no agreement with labels if no judge was asked."""
    card = portrait.scorecard
    if card is None:
        return None
    agreement = None
    if "agreement_of_classes" in card.figures:
        agreement = _svg(draw_agreement, card, portrait.labels)
    lengths, symbols = _svg(draw_lengths, card), _svg(draw_symbols, card)
    return {"lengths": lengths, "symbols": symbols, "agreement": agreement}


def _svg(draw: Callable[..., Any], *values: Any) -> Markup:
    """A picture by matplotlib, in the text colour of the page, of a size that can be read."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        svg = plots.figure_to_bytes(draw(*values), "svg").decode()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    width = float(svg.partition(' width="')[2].partition("pt")[0]) * 4 / 3
    sizes = f'style="min-width: {0.8 * width:.0f}px; max-width: {1.3 * width:.0f}px"'
    svg = svg.replace("<svg", f"<svg {sizes}", 1)
    return Markup(re.sub(r'<g id="[^"]*"', "<g", svg))  # the ids of two pictures would collide
