"""The page without a browser: its layout, callbacks and server."""

import dataclasses
import http.client
import json
import re
import socket
import threading
from typing import Any

import pytest

from seqssvae.errors import InputError
from seqssvae.show.explorer import Exploration
from seqssvae.show.explorer_page import DEFAULT_LABEL, make_page, serve


def call(app: Any, output: str, inputs: dict[str, Any], state: dict[str, Any] | None = None) -> str:
    """The JSON response of a callback."""

    def listed(values: dict[str, Any]) -> list[dict[str, Any]]:
        names = (name.split(".") for name in values)
        return [
            {"id": id, "property": name, "value": value}
            for (id, name), value in zip(names, values.values(), strict=True)
        ]

    id, name = output.split(".")
    response = app.server.test_client().post(
        "/_dash-update-component",
        json={
            "output": output,
            "outputs": {"id": id, "property": name},
            "inputs": listed(inputs),
            "state": listed(state or {}),
            "changedPropIds": list(inputs),
        },
    )
    assert response.status_code == 200, response.data
    return json.dumps(json.loads(response.data)["response"][id][name], ensure_ascii=False)


def test_every_callback_responds(exploration: Exploration) -> None:
    app = make_page(exploration)
    response = call(app, "classified.children", {"text.value": "cdcd"})
    assert "Novelty" in response and response.index('"right"') < response.index('"left"')
    assert "Green speaks for right, red for left: +" in response
    assert re.findall(r'"children": "(\w|<eos>)", "style": \{"backgroundColor": "rgba', response)
    names = ", ".join(exploration.classify("cdcd")[1]["set"])
    assert f"The label is one of these in 90 % of new rows: {names}." in response
    near = exploration.nearest("cdcd")
    assert response.index("most like it") < response.index(json.dumps(near[1][0]))
    response = call(app, "classified.children", {"text.value": "ab?"})
    assert "outside of the vocabulary: 1." in response
    written = call(
        app, "generated.children", {"generate.n_clicks": 2},
        {"generate-label.value": "left", "temperature.value": 0.5},
    )  # fmt: skip
    assert all(json.dumps(text)[1:-1] in written for text in exploration.generate("left", 0.5, 2))
    assert exploration.transfer("abab")[1][1] in call(
        app, "transferred.children", {"transfer-text.value": "abab"}
    )
    walk = {"from.value": "ab", "to.value": "cd", "walk-label.value": DEFAULT_LABEL}
    walked = call(app, "walked.children", {**walk, "step.value": 3})
    assert walked.count("sequence selected") == 1 and walked.count('"Li"') == 11
    drawn = call(app, "map.figure", {"map-kind.value": "pca", "text.value": "ab"})
    assert '"your sequence"' in drawn


def test_callbacks_are_empty_until_their_inputs_are_given(exploration: Exploration) -> None:
    app = make_page(exploration)
    assert call(app, "classified.children", {"text.value": ""}) == '""'
    assert call(
        app, "generated.children", {"generate.n_clicks": None},
        {"generate-label.value": "left", "temperature.value": 1},
    ) == '""'  # fmt: skip
    figure = call(app, "map.figure", {"map-kind.value": "pca", "text.value": ""})
    assert '"your sequence"' not in figure


def test_mistakes_are_one_line_on_the_page(exploration: Exploration) -> None:
    app = make_page(exploration)
    response = call(app, "classified.children", {"text.value": "  "})
    assert "wanted a sequence, got an empty one" in response and '"alert"' in response
    walk = {"from.value": "ab", "to.value": "cd", "walk-label.value": "up", "step.value": 3}
    assert "wanted a known label" in call(app, "walked.children", walk)


def test_the_page_is_local_and_its_name_is_escaped(
    exploration: Exploration,
) -> None:
    app = make_page(dataclasses.replace(exploration, name="<script>x"))
    response = app.server.test_client().get("/")
    page = response.data.decode()
    assert all(url.startswith("/_dash") for url in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert response.headers["Content-Security-Policy"].startswith("default-src 'self'; ")
    assert "<script>x" not in page and "prefers-color-scheme: dark" in page
    config = json.dumps(app.layout.to_plotly_json(), default=lambda part: part.to_plotly_json())
    assert '"plotlyServerURL": ""' in config and "Cloud" not in config


def test_the_server_listens_on_this_machine_only(exploration: Exploration) -> None:
    """Bound to 127.0.0.1; a request for another host name is refused."""
    with serve(exploration, 0) as server:
        assert server.host == "127.0.0.1" and server.port > 0
        assert server.socket.getsockname()[0] == "127.0.0.1"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            for host, status in (("127.0.0.1", 200), ("evil.example", 400)):
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
                connection.request("GET", "/", headers={"Host": host})
                assert connection.getresponse().status == status
                connection.close()
        finally:
            server.shutdown()
            thread.join()


def test_a_port_in_use(exploration: Exploration) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port}: wanted a free port, got"):
            with serve(exploration, port):
                pass
    with pytest.raises(InputError, match="--port 70000: wanted"), serve(exploration, 70000):
        pass
