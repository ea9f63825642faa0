"""The explorer's table of rows to label next: labels are typed in, and saved as a file."""

import json
from typing import Any

from dash import ALL, Dash, Input, Output, State, dcc, html

from seqssvae.errors import InputError
from seqssvae.show.explorer import Exploration

MAX_LABEL = 1000  # characters
FILE = "labels.jsonl"
LIST = "label-names-"  # of a column


def label_section(exploration: Exploration) -> list[Any]:
    """A button that fills the table, and one that saves what was typed into it."""
    title = html.H2("Label next")
    if not _has_rows(exploration):
        wanted = "rows without a label"
        return [title, html.P(f"Wanted {wanted}: --data FILE names other rows.", className="soft")]
    start, columns = "--from RUN ", exploration.label_columns
    if len(columns) > 1:  # which --from does not take
        start = ""
    return [
        title,
        html.P(
            "Rows without a label that the model doubts, each of another kind. Type their labels, "
            "also new ones; what you save is a file of rows:",
            className="soft",
        ),
        html.P(f"seqssvae train {start}--data ROWS {FILE} --out NEW", className="sequence"),
        *(
            html.Datalist([html.Option(value=name) for name in names], id=f"{LIST}{number}")
            for number, names in enumerate(columns.values())
        ),
        html.Button("Choose rows", id="choose"),
        dcc.Store(id="chosen"),
        html.Div(id="to-label", className="wide"),
        html.Button("Save labels", id="save", style={"display": "none"}),
        html.Div(id="saved", **{"aria-live": "polite"}),  # type: ignore[arg-type] # as of Dash
        dcc.Download(id="labels-file"),
    ]


def add_label_callbacks(app: Dash, exploration: Exploration) -> None:
    """What the buttons of `label_section` do, if there are any."""
    if not _has_rows(exploration):
        return

    @app.callback(
        Output("chosen", "data"),
        Output("to-label", "children"),
        Output("save", "style"),
        Input("choose", "n_clicks"),
        prevent_initial_call=True,
    )
    def choose(clicks: int) -> Any:
        rows = exploration.suggest(clicks - 1)
        return rows, _table(rows, list(exploration.label_columns)), {}

    @app.callback(
        Output("labels-file", "data"),
        Output("saved", "children"),
        Input("save", "n_clicks"),
        State("chosen", "data"),
        State({"type": "new-label", "row": ALL}, "value"),
        prevent_initial_call=True,
    )
    def save(_: int, rows: list[dict[str, Any]], labels: list[str | None]) -> Any:
        try:
            content = exploration.labelled_file(rows, labels)
        except InputError as error:
            return None, html.P(str(error), className="error", role="alert")
        num_rows = content.count("\n")
        return {"content": content, "filename": FILE}, html.P(f"{num_rows} rows in {FILE}")


def _has_rows(exploration: Exploration) -> bool:
    """Whether there are rows to label."""
    return bool(exploration.labels and len(exploration.pool[0]))


def _table(rows: list[dict[str, Any]], columns: list[str]) -> Any:
    """A field for each column of labels of each row; their numbers are in this order."""
    head = html.Tr([html.Th(name) for name in ("sequence", "predicted", *columns)])
    return html.Table(
        [
            head,
            *(
                html.Tr(
                    [
                        html.Td(row["show"] or "(empty)", className="sequence"),
                        html.Td(row["predicted"]),
                        *(
                            html.Td(_label_field(number * len(columns) + i, i, name, row["show"]))
                            for i, name in enumerate(columns)
                        ),
                    ]
                )
                for number, row in enumerate(rows)
            ),
        ],
        className="to-label",
    )


def _label_field(number: int, column: int, name: str, shown: str) -> Any:
    """A text field that offers the labels of a column."""
    field = dcc.Input(
        id={"type": "new-label", "row": number},
        type="text",
        list=f"{LIST}{column}",
        maxLength=MAX_LABEL,
        autoComplete="off",
    )
    id = json.dumps(
        {"row": number, "type": "new-label"}, separators=(",", ":")
    )  # as Dash writes it
    return [html.Label(f"{name} of {shown}", htmlFor=id, className="hidden"), field]
