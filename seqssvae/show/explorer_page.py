"""The explorer's page, by Dash: what stands on it, which answer a click gets, and its server."""

import contextlib
import html as markup
import logging
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from seqssvae.errors import InputError
from seqssvae.show.plots import require

if TYPE_CHECKING:
    from werkzeug.serving import BaseWSGIServer

    from seqssvae.show.explorer import Exploration

__all__ = ["make_page", "serve"]

HOST = "127.0.0.1"
LONGEST_INPUT = 10_000  # characters of a text field
DEFAULT_LABEL = "(as the first)"
TOLD: Any = {"aria-live": "polite"}  # a screen reader tells what changes there
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; frame-ancestors 'none'"
)
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --soft: #5a6270;
  --line: #c9ced6; --mark: #0072b2; --field: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --paper: #15181c; --soft: #a4adb8;
  --line: #3a414a; --mark: #4da6dd; --field: #20252b; } }
:root { --Dash-Text-Primary: var(--ink); --Dash-Text-Strong: var(--ink);
  --Dash-Text-Weak: var(--soft); --Dash-Text-Disabled: var(--soft);
  --Dash-Stroke-Strong: var(--line);
  --Dash-Stroke-Weak: var(--line); --Dash-Fill-Inverse-Strong: var(--field);
  --Dash-Fill-Interactive-Strong: var(--mark); --Dash-Fill-Disabled: var(--line); }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; overflow-wrap: anywhere; } h2 { margin-top: 2rem; font-size: 1.25rem; }
label, .soft { color: var(--soft); }
.field { display: block; margin: .4rem 0; }
input[type=text], input[type=range], select { display: block; width: 100%; box-sizing: border-box; }
input[type=text] { font: 1rem ui-monospace, monospace; padding: .5rem; color: var(--ink);
  background: var(--field); border: 1px solid var(--line); border-radius: .3rem; }
button { font: inherit; padding: .5rem 1rem; border: 0; border-radius: .3rem; cursor: pointer;
  background: var(--mark); color: var(--paper); }
button:focus-visible, input:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line); }
td.bar { width: 40%; } td.bar meter { width: 100%; }
.sequence { font-family: ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap; }
.pair { display: grid; gap: 0 2rem; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); }
.wrong { color: #b00020; } @media (prefers-color-scheme: dark) { .wrong { color: #ff8a94; } }
.choice label { display: inline-block; margin-right: 1rem; color: var(--ink); }
li.here { font-weight: bold; color: var(--mark); }
.js-plotly-plot .plotly text { fill: var(--ink) !important; }
.js-plotly-plot .plotly .hoverlayer text { fill: #ffffff !important; }
.js-plotly-plot .plotly .hoverlayer path { fill: #1b1f24 !important; }
"""
INDEX = """<!DOCTYPE html>
<html lang="en">
<head>{%metas%}<title>{%title%}</title>{%css%}<style>STYLE</style></head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>"""


def make_page(exploration: "Exploration") -> Any:
    """A `dash.Dash` whose page needs no other machine.

    Raises:
        InputError: Dash is not installed.
    """
    dash = require("dash", "explore")
    title = markup.escape(f"seqssvae: {exploration.name}")
    app = dash.Dash("seqssvae", title=title, update_title=None, serve_locally=True)
    app.index_string = INDEX.replace("STYLE", STYLE)

    def fetch_from_here_alone(response: Any) -> Any:
        response.headers["Content-Security-Policy"] = POLICY
        return response

    app.server.after_request(fetch_from_here_alone)
    app.layout = _layout(exploration)
    given, wanted, state = dash.Input, dash.Output, dash.State

    def classified(text: str | None) -> Any:
        return _told(lambda: _classified(exploration, text or ""), asked=bool(text))

    app.callback(wanted("classified", "children"), given("text", "value"))(classified)

    def generated(clicks: int | None, label: str | None, temperature: float) -> Any:
        return _told(
            lambda: _list(exploration.generate(label, float(temperature), seed=clicks or 0)),
            asked=bool(clicks),
        )

    app.callback(
        wanted("generated", "children"),
        given("generate", "n_clicks"),
        state("generate-label", "value"),
        state("temperature", "value"),
    )(generated)

    def transferred(text: str | None) -> Any:
        return _told(lambda: _pairs(exploration.transfer(text or "")), asked=bool(text))

    app.callback(wanted("transferred", "children"), given("transfer-text", "value"))(transferred)

    def walked(a: str | None, b: str | None, label: str | None, place: int) -> Any:
        chosen = None if label in (None, DEFAULT_LABEL) else label
        return _told(
            lambda: _list(exploration.walk(a or "", b or "", chosen), here=int(place)),
            asked=bool(a and b),
        )

    app.callback(
        wanted("walked", "children"),
        given("from", "value"),
        given("to", "value"),
        given("walk-label", "value"),
        given("place", "value"),
    )(walked)

    def mapped(kind: str, text: str | None) -> Any:
        try:
            return exploration.map(kind, text or "")
        except InputError:
            return exploration.map(kind, "")

    app.callback(wanted("map", "figure"), given("map-kind", "value"), given("text", "value"))(
        mapped
    )

    return app


@contextlib.contextmanager
def serve(exploration: "Exploration", port: int) -> Iterator["BaseWSGIServer"]:
    """A server of the page, for this machine alone: bound to 127.0.0.1.

    Args:
        exploration: What the page shows.
        port: Where; 0 finds a free one.

    Yields:
        The server, its `port` bound; `serve_forever` answers one request at a time.

    Raises:
        InputError: Dash is not installed, or the port cannot be had.
    """
    require("dash", "explore")
    from werkzeug.serving import make_server

    app = make_page(exploration)
    # other names for 127.0.0.1 are a foreign page's way in
    app.server.config["TRUSTED_HOSTS"] = [HOST, "localhost"]
    try:
        # werkzeug ends the process if a port is taken: try it first
        _try_port(port)
        server = make_server(HOST, port, app.server)
    except (OSError, OverflowError) as error:
        told = getattr(error, "strerror", None) or error
        raise InputError(f"--port {port}: wanted a port that is free, got: {told}") from error
    quiet = {"werkzeug": logging.WARNING, "seqssvae.trained": logging.ERROR}  # the page tells it
    levels = {name: logging.getLogger(name).level for name in quiet}
    for name, level in quiet.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield server
    finally:
        server.server_close()
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _try_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))


def _layout(exploration: "Exploration") -> Any:
    """What stands on the page; a model without classes or without z gets a shorter one."""
    from dash import dcc, html

    labels, has_z = list(exploration.labels), bool(exploration.trained.model.latent_size)
    first = labels[0] if labels else None
    from_to = exploration.sequences[:1] + exploration.sequences[-1:]
    hidden = {"display": "none"}
    with_labels = {} if labels else hidden
    maps = {"pca": "principal components", "tsne": "t-SNE"}
    return html.Main(
        [
            html.H1(f"seqssvae: {exploration.name}"),
            html.H2("What is it?"),
            _field("text", "A sequence; tokens apart by spaces"),
            html.Div(id="classified", **TOLD),
            html.H2("Write new ones"),
            html.Div(_choice("generate-label", "Label", labels, first), style=with_labels),
            _slider("temperature", "Temperature", 0.1, 2.0, 0.1, 1.0),
            html.Button("Write", id="generate"),
            html.Div(id="generated", **TOLD),
            html.Div(
                [
                    html.H2("The same z, every label"),
                    _field("transfer-text", "A sequence"),
                    html.Div(id="transferred", **TOLD),
                ],
                style=with_labels,
            ),
            html.Div(
                [
                    html.H2("From one to another"),
                    html.Div([_field("from", "From", from_to[0]), _field("to", "To", from_to[-1])],
                             className="pair"),
                    html.Div(_choice("walk-label", "Label on the way", [DEFAULT_LABEL, *labels],
                                     DEFAULT_LABEL), style=with_labels),
                    _slider("place", "Place on the way", 0, 10, 1, 5),
                    html.Div(id="walked", **TOLD),
                    html.H2("Latent map"),
                    html.P("Held-out rows by the mean of q(z | x, y); point at one to read it. On "
                           "the map by principal components a star is what was typed above.",
                           className="soft"),
                    _choice("map-kind", "Map", maps, "pca"),
                    dcc.Graph(id="map", config={"displaylogo": False, "responsive": True}),
                ],
                style={} if has_z else hidden,
            ),
        ]
    )  # fmt: skip


def _field(name: str, title: str, value: str = "") -> Any:
    """A text field that answers when typing pauses."""
    from dash import dcc, html

    field = dcc.Input(id=name, type="text", value=value, debounce=0.4, maxLength=LONGEST_INPUT,
                      autoComplete="off")  # fmt: skip
    return html.Div([html.Label(title, htmlFor=name), field], className="field")


def _slider(name: str, title: str, low: float, high: float, step: float, value: float) -> Any:
    from dash import dcc

    slider = dcc.Slider(id=name, min=low, max=high, step=step, value=value,
                        marks={low: str(low), high: str(high)})  # fmt: skip
    return _group(title, slider)


def _choice(name: str, title: str, options: Any, value: str | None) -> Any:
    from dash import dcc

    buttons = dcc.RadioItems(id=name, options=options, value=value, inline=True, className="choice")
    return _group(title, buttons)


def _group(title: str, child: Any) -> Any:
    """What has parts of its own, under one title that a screen reader tells."""
    from dash import html

    parts = [html.Div(title, className="soft"), child]
    named: Any = {"aria-label": title}
    return html.Div(parts, className="field", role="group", **named)


def _told(answer: Callable[[], Any], *, asked: bool) -> Any:
    """The answer; nothing where nothing was asked, and the line of a mistake."""
    from dash import html

    if not asked:
        return ""
    try:
        return answer()
    except InputError as error:
        return html.P(str(error), className="wrong", role="alert")


def _classified(exploration: "Exploration", text: str) -> Any:
    from dash import html

    table, told = exploration.classify(text)
    head = html.Tr([html.Th("label"), html.Th("q(y | x)"), html.Th("Bayes' rule"), html.Th("")])
    rows = [
        html.Tr(
            [
                html.Th(name, scope="row"),
                html.Td(f"{q:.3f}"),
                html.Td(f"{bayes:.3f}"),
                html.Td(html.Meter(value=f"{q:.4f}", title=f"q: {q:.3f}"), className="bar"),
            ]
        )
        for name, q, bayes in table[:20]
    ]
    line = (
        f"Novelty {told['novelty']:.3f}: that share of held-out rows is likelier, symbol by symbol "
        f"({told['nats_per_symbol']:.2f} nats per symbol here)."
    )
    if told["num_unknown"]:
        line += f" {told['num_unknown']:.0f} of its symbols were never seen in training."
    return [html.P(line, id="novelty"), html.Table([head, *rows]) if rows else ""]


def _list(sequences: list[str], *, here: int | None = None) -> Any:
    from dash import html

    return html.Ol(
        [
            html.Li(text or "(empty)", className="sequence here" if place == here else "sequence")
            for place, text in enumerate(sequences)
        ]
    )


def _pairs(pairs: list[tuple[str, str]]) -> Any:
    from dash import html

    return html.Table(
        [
            html.Tr([html.Th(name, scope="row"), html.Td(text or "(empty)", className="sequence")])
            for name, text in pairs
        ]
    )
