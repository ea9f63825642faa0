"""The explorer's page by Dash, an optional dependency: layout, callbacks and server."""

import contextlib
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Any

from dash import Dash, Input, Output, State, dcc, html
from werkzeug.serving import BaseWSGIServer, make_server

from seqssvae.errors import InputError
from seqssvae.show.explorer import Exploration
from seqssvae.show.label_page import add_label_callbacks, label_section
from seqssvae.show.maps import MAP_CONFIG
from seqssvae.show.plots import map_note
from seqssvae.show.reasons import colour
from seqssvae.show.report import render

HOST = "127.0.0.1"
MAX_INPUT = 10_000  # characters of a text field
MAX_LABELS = 20  # of a classification
DEFAULT_LABEL = "(as the first)"
LIVE: Any = {"aria-live": "polite"}  # screen readers announce its changes
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; form-action 'none'; frame-ancestors 'none'"
)


def make_page(exploration: Exploration) -> Dash:
    """A Dash application whose page makes no request to another machine."""
    title = escape(f"seqssvae: {exploration.name}")
    app = Dash("seqssvae", title=title, update_title="", serve_locally=True)
    app.index_string = render("explorer.html")

    def add_policy(response: Any) -> Any:
        response.headers["Content-Security-Policy"] = POLICY
        return response

    app.server.after_request(add_policy)
    app.layout = _layout(exploration)
    _add_callbacks(app, exploration)
    add_label_callbacks(app, exploration)
    return app


def _add_callbacks(app: Dash, exploration: Exploration) -> None:
    @app.callback(Output("classified", "children"), Input("text", "value"))
    def classify(text: str | None) -> Any:
        def compute() -> list[Any]:
            found = _classification(*exploration.classify(text or ""))
            if len(exploration.labels) > 1:
                between = " " * (exploration.trained.vocabulary.kind == "tokens")
                found += _reasons(exploration.explain(text or ""), between)
            return found + _nearest(exploration.nearest(text or ""))

        return _answer(compute, if_given=[text])

    @app.callback(
        Output("generated", "children"),
        Input("generate", "n_clicks"),
        State("generate-label", "value"),
        State("temperature", "value"),
    )
    def generate(clicks: int | None, label: str | None, temperature: float) -> Any:
        return _answer(
            lambda: _list(exploration.generate(label, float(temperature), seed=clicks or 0)),
            if_given=[clicks],
        )

    @app.callback(Output("transferred", "children"), Input("transfer-text", "value"))
    def transfer(text: str | None) -> Any:
        return _answer(lambda: _pairs(exploration.transfer(text or "")), if_given=[text])

    @app.callback(
        Output("walked", "children"),
        Input("from", "value"),
        Input("to", "value"),
        Input("walk-label", "value"),
        Input("step", "value"),
    )
    def walk(a: str | None, b: str | None, label: str | None, step: int) -> Any:
        chosen = None if label == DEFAULT_LABEL else label
        return _answer(
            lambda: _list(exploration.walk(a or "", b or "", chosen), selected=int(step)),
            if_given=[a, b],
        )

    @app.callback(Output("map", "figure"), Input("map-kind", "value"), Input("text", "value"))
    def draw_map(kind: str, text: str | None) -> Any:
        try:
            return exploration.map(kind, text or "")
        except InputError:
            return exploration.map(kind, "")


@contextlib.contextmanager
def serve(exploration: Exploration, port: int) -> Iterator[BaseWSGIServer]:
    """A server of the page, bound to 127.0.0.1: other machines cannot reach it.

    Args:
        exploration: What the page shows.
        port: Port of the server; 0 picks a free one.

    Yields:
        The server, its `port` bound; `serve_forever` handles one request at a time.

    Raises:
        InputError: the port is not available.
    """
    app = make_page(exploration)
    # against DNS rebinding: a page of another site that resolves its name to 127.0.0.1
    app.server.config["TRUSTED_HOSTS"] = [HOST, "localhost"]
    try:
        with socket.socket() as probe:  # werkzeug exits if a port is in use
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
        server = make_server(HOST, port, app.server)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"--port {port}: wanted a free port, got: {reason}") from error
    # the page itself shows what seqssvae.trained would log
    levels = {"werkzeug": logging.WARNING, "seqssvae.trained": logging.ERROR}
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield server
    finally:
        server.server_close()
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _layout(exploration: Exploration) -> Any:
    """The page; sections of classes or of z are hidden if the model has none."""
    labels, model = list(exploration.labels), exploration.trained.model
    hidden = {"display": "none"}
    with_labels, with_z = {} if labels else hidden, {} if model.latent_size else hidden
    maps = {"pca": "principal components", "tsne": "t-SNE"}
    first, last = exploration.sequences[0], exploration.sequences[-1]
    transfer = [
        html.H2("Transfer"),
        html.P("The same z, decoded under every label.", className="soft"),
        _field("transfer-text", "A sequence"),
        html.Div(id="transferred", **LIVE),
    ]
    walk_labels = _choice("walk-label", "Label", [DEFAULT_LABEL, *labels], DEFAULT_LABEL)
    latent = [
        html.H2("Interpolate"),
        html.Div([_field("from", "From", first), _field("to", "To", last)], className="pair"),
        html.Div(walk_labels, style=with_labels),
        _slider("step", "Step", 0, 10, 1, 5),
        html.Div(id="walked", **LIVE),
        html.H2("Latent space"),
        html.P(
            "Held-out rows at the mean of their q(z | x, y); point at one to read it. The star is "
            "the sequence under Classify; on the map by t-SNE, among the rows with the nearest z.",
            className="soft",
        ),
        _choice("map-kind", "Map", maps, "pca"),
        dcc.Graph(id="map", config=MAP_CONFIG),
        html.P(
            map_note(labels, z_knows_y=model.y_reads_z or model.z_prior.reads_y), className="soft"
        ),
    ]
    return html.Main(
        [
            html.H1(f"seqssvae: {exploration.name}"),
            html.H2("Classify"),
            _field("text", "A sequence; separate tokens by spaces"),
            html.Div(id="classified", **LIVE),
            html.H2("Generate"),
            html.Div(
                _choice("generate-label", "Label", labels, labels[0] if labels else None),
                style=with_labels,
            ),
            _slider("temperature", "Temperature", 0.1, 2.0, 0.1, 1.0),
            html.Button("Generate", id="generate"),
            html.Div(id="generated", **LIVE),
            html.Div(transfer, style=with_labels),
            html.Div(label_section(exploration), style=with_labels),
            html.Div(latent, style=with_z),
        ]
    )


def _field(name: str, title: str, value: str = "") -> Any:
    """A text field; its callbacks run when typing pauses."""
    field = dcc.Input(id=name, type="text", value=value, debounce=0.4, maxLength=MAX_INPUT,
                      autoComplete="off")  # fmt: skip
    return html.Div([html.Label(title, htmlFor=name), field], className="field")


def _slider(name: str, title: str, low: float, high: float, step: float, value: float) -> Any:
    marks = {low: str(low), high: str(high)}
    return _group(
        title, dcc.Slider(id=name, min=low, max=high, step=step, value=value, marks=marks)
    )


def _choice(name: str, title: str, options: Any, value: str | None) -> Any:
    buttons = dcc.RadioItems(id=name, options=options, value=value, inline=True, className="choice")
    return _group(title, buttons)


def _group(title: str, child: Any) -> Any:
    """A control of several elements under a title, for screen readers too."""
    label: Any = {"aria-label": title}
    parts = [html.Div(title, className="soft"), child]
    return html.Div(parts, className="field", role="group", **label)


def _answer(compute: Callable[[], Any], *, if_given: Sequence[Any]) -> Any:
    """The result, or the line of an `InputError`; nothing while an input is empty."""
    if not all(if_given):
        return ""
    try:
        return compute()
    except InputError as error:
        return html.P(str(error), className="error", role="alert")


def _classification(table: list[tuple[str, float, float]], details: dict[str, Any]) -> list[Any]:
    line = (
        f"Novelty {details['novelty']:.3f}: the share of held-out rows with a higher likelihood "
        f"per symbol ({details['nats_per_symbol']:.2f} nats per symbol here)."
    )
    if details["num_unknown"]:
        line += f" Symbols outside of the vocabulary: {details['num_unknown']:.0f}."
    if "label" in details:
        line += (
            f" The label by classify is {details['label']}, with probability "
            f"{details['probability']:.3f}; --abstain P leaves it undecided where P is more."
        )
    if "set" in details:
        line += f" The label is one of these in 90 % of new rows: {', '.join(details['set'])}."
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
        for name, q, bayes in table[:MAX_LABELS]
    ]
    return [html.P(line, id="novelty"), html.Table([head, *rows]) if rows else ""]


def _reasons(found: dict[str, Any], between: str) -> list[Any]:
    """The symbols of a sequence, on green for their share in the decision or on red."""
    line, symbols = colour(found, between)
    spans = [
        html.Span(text, title=f"{share:+.2f}", style={"backgroundColor": background})
        for text, share, background in symbols
    ]
    return [html.P(line, className="soft"), html.P(spans, id="reasons", className="sequence")]


def _nearest(rows: list[tuple[str, str]]) -> list[Any]:
    """The training rows that are most like a sequence."""
    if not rows:
        return []
    line = "Training rows whose n-grams of up to 3 symbols are most like it:"
    pairs = [(label, text) for text, label in rows]
    return [html.P(line, className="soft"), html.Div(_pairs(pairs), id="nearest")]


def _list(sequences: list[str], *, selected: int | None = None) -> Any:
    return html.Ol(
        [
            html.Li(text or "(empty)", className=f"sequence{' selected' * (i == selected)}")
            for i, text in enumerate(sequences)
        ]
    )


def _pairs(pairs: list[tuple[str, str]]) -> Any:
    return html.Table(
        [
            html.Tr([html.Th(name, scope="row"), html.Td(text or "(empty)", className="sequence")])
            for name, text in pairs
        ]
    )
