import dataclasses
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest

from seqssvae.errors import InputError
from seqssvae.inference.tally import bin_sums, calibration_error
from seqssvae.show import plots
from tests.support.portraits import EVIL, make_portrait

ALL = {
    "curves", "z_tsne", "z_pca", "kl", "logits_tsne", "transfers", "confusion", "reliability",
    "walks",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_every_picture_is_drawn(kind: str) -> None:
    """Odd texts are no formulas and no markup; those without a glyph make no noise."""
    figures, again = plots.draw_all(make_portrait()), plots.draw_all(make_portrait())
    assert set(figures) == ALL
    for name, figure in figures.items():
        content = plots.figure_to_bytes(figure, kind)
        if kind == "png":
            assert content.startswith(b"\x89PNG") and len(content) > 3000
        else:
            ElementTree.fromstring(content)
            assert b"<script" not in content
            assert content == plots.figure_to_bytes(again[name], kind)


def test_texts_stand_as_they_are() -> None:
    svg = plots.figure_to_bytes(plots.draw_walks([["$x_1$ and $", EVIL]]), "svg").decode()
    assert ">$x_1$ and $<" in svg and "&lt;/script&gt;" in svg


def test_what_a_run_has_not_is_not_drawn() -> None:
    plain = plots.draw_all(make_portrait(()))
    assert set(plain) == {"curves", "z_tsne", "z_pca", "kl", "walks"}
    empty = np.zeros(0)
    flat = plots.draw_all(make_portrait(kl_nats=empty, walks=[]))
    assert set(flat) == ALL - {"z_tsne", "z_pca", "kl", "walks"}
    untold = make_portrait(y=np.full(40, -1), metrics=[])
    drawn = plots.draw_all(untold)
    assert set(drawn) == ALL - {"confusion", "reliability"}
    assert drawn["curves"].texts[0].get_text() == "no evaluations were kept"


def test_the_legend_names_every_label() -> None:
    portrait = make_portrait()
    figure = plots.draw_points(portrait.z_pca, portrait.y, portrait.labels, title="t")
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["_a", "<i>b", r"c\$", "no label"]
    shown = np.concatenate([np.asarray(c.get_offsets()) for c in axes.collections])
    np.testing.assert_allclose(np.sort(shown[:, 0]), np.sort(portrait.z_pca[:, 0]))


def test_confusion_counts() -> None:
    y, predicted = np.array([0, 0, 1, 2, 2, -1]), np.array([0, 1, 1, 0, 0, 2])
    figure = plots.draw_confusion(y, predicted, ["a", "b", "c"])
    counts = [int(text.get_text()) for text in figure.axes[0].texts]
    assert counts == [1, 1, 0, 0, 1, 0, 2, 0, 0]
    many = plots.draw_confusion(np.arange(30), np.arange(30), [str(i) for i in range(30)])
    assert len(many.axes[0].texts) == 0


def test_curves_leave_out_what_was_not_measured() -> None:
    figure = plots.draw_curves(make_portrait().metrics)
    assert len(figure.axes) == 3  # no y-gap
    accuracy = figure.axes[2].lines[0]
    assert np.asarray(accuracy.get_xydata()).tolist() == [[5, 0.5]]


def test_the_diagram_shows_the_bins_of_the_calibration_error() -> None:
    generator = np.random.default_rng(0)
    confidence, correct = generator.uniform(size=300), generator.uniform(size=300) < 0.6
    figure = plots.draw_reliability(confidence, correct)
    x, accuracy = np.asarray(figure.axes[0].lines[1].get_xydata()).T
    counts = np.array([bar.get_height() for bar in figure.axes[1].patches])  # type: ignore[attr-defined]
    error = (np.abs(accuracy - x) * counts).sum() / 300
    assert error == pytest.approx(calibration_error(bin_sums(confidence, correct)))


def test_kl_is_sorted_and_names_its_dims() -> None:
    axes = plots.draw_kl(np.array([0.1, 0.5, 0.0])).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "0", "2"]


def test_shorten() -> None:
    assert plots.shorten("abcdef", 4) == "abc\u2026" and plots.shorten("abcd", 4) == "abcd"


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(InputError, match=r"wanted matplotlib, .*'seqssvae\[plots\]' brings"):
        plots.draw_all(dataclasses.replace(make_portrait()))
