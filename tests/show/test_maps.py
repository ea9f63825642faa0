import numpy as np

from seqssvae.show.maps import draw_map
from tests.support.portraits import EVIL, make_portrait


def test_every_row_has_a_hover_text() -> None:
    portrait = make_portrait()
    predicted = [portrait.labels[i] for i in portrait.probabilities.argmax(1)]
    figure = draw_map(
        portrait.z_pca, portrait.y, portrait.labels, portrait.sequences, predicted
    ).to_dict()
    names = [trace["name"] for trace in figure["data"]]
    assert names == ["_a", "&lt;i&gt;b", "c$", "no label"]
    hovers = [text for trace in figure["data"] for text in trace["hovertext"]]
    assert len(hovers) == 40
    assert f"row 0<br><i>_a; predicted {predicted[6]}</i>".replace("<i>b", "&lt;i&gt;b") in hovers
    x = sorted(value for trace in figure["data"] for value in trace["x"])
    np.testing.assert_allclose(x, np.sort(portrait.z_pca[:, 0]), atol=1e-3)


def test_sequences_are_escaped_and_long_ones_truncated() -> None:
    hover = [EVIL, "a<b", "x" * 1000]
    figure = draw_map(np.zeros((3, 2)), np.full(3, -1), [], hover, [""] * 3).to_dict()
    evil, small, long = figure["data"][0]["hovertext"]
    assert "<script" not in evil and "<img" not in evil and "&lt;script&gt;" in evil
    assert small == "a&lt;b<br><i>no label</i>"
    assert long.count("<br>") == 7 and len(long) < 500
