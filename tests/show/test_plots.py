import dataclasses
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest

from seqssvae.compare.compare import summarise
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
    """Texts are no formulas and no markup, and missing glyphs give no warning."""
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


def test_every_picture_has_a_title() -> None:
    for name, figure in plots.draw_all(make_portrait()).items():
        titles = [axes.get_title() or axes.get_title(loc="left") for axes in figure.axes]
        assert titles[0], name


def test_a_map_of_z_says_how_it_should_look() -> None:
    for z_knows_y, note in (
        (False, "It should not cluster by label: z is for what the label leaves open."),
        (True, "Clusters by label are expected: z and the label are modelled together."),
    ):
        figures = plots.draw_all(make_portrait(z_knows_y=z_knows_y))
        notes = [figures[name].axes[0].get_xlabel() for name in ("z_tsne", "z_pca", "logits_tsne")]
        assert notes == [note, note, ""]
    assert plots.draw_all(make_portrait(()))["z_pca"].axes[0].get_xlabel() == ""


def test_texts_are_drawn_unchanged() -> None:
    svg = plots.figure_to_bytes(plots.draw_walks([["$x_1$ and $", EVIL]]), "svg").decode()
    assert ">$x_1$ and $<" in svg and "&lt;/script&gt;" in svg


def test_only_what_a_run_has_is_drawn() -> None:
    plain = plots.draw_all(make_portrait(()))
    assert set(plain) == {"curves", "z_tsne", "z_pca", "kl", "walks"}
    empty = np.zeros(0)
    flat = plots.draw_all(make_portrait(kl_nats=empty, walks=[]))
    assert set(flat) == ALL - {"z_tsne", "z_pca", "kl", "walks"}
    unlabelled = make_portrait(y=np.full(40, -1), metrics=[])
    drawn = plots.draw_all(unlabelled)
    assert set(drawn) == ALL - {"confusion", "reliability"}
    assert drawn["curves"].texts[0].get_text() == "no evaluations were recorded"


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
    metrics = make_portrait().metrics
    figure = plots.draw_curves(metrics, plots.measured(metrics))
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


def test_every_draw_is_a_dot_and_every_mean_a_bar() -> None:
    """Two budgets, of which one lacks an arm; the best arm is on top."""
    accuracies_by_arm = {
        (10, "ssvae"): [0.5, 0.7], (10, "nb"): [0.4, 0.45], (10, "lr"): [0.8], (20, "ssvae"): [0.9],
    }  # fmt: skip
    records = [
        {"num_labels": n, "arm": arm, "draw": draw, "accuracy": accuracy, "macro_f1": 0.0,
         "calibration_error": 0.0, "seconds": 1.0}
        for (n, arm), accuracies in accuracies_by_arm.items()
        for draw, accuracy in enumerate(accuracies)
    ]  # fmt: skip
    figure = plots.draw_comparison(records, summarise(records))
    first, second = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["10 labels", "20 labels"]
    assert [label.get_text() for label in first.get_yticklabels()] == ["nb", "ssvae", "lr"]
    want = [[40, 45], [42.5], [50, 70], [60], [80], [80]]
    for line, points in zip(first.lines, want, strict=True):
        assert list(np.asarray(line.get_xdata())) == pytest.approx(points)
    assert [np.asarray(line.get_ydata())[0] for line in first.lines] == [0, 0, 1, 1, 2, 2]
    colors = {line.get_color() for line in first.lines}
    assert len(colors) == 2 and first.lines[2].get_color() == second.lines[0].get_color()
    assert plots.figure_to_bytes(figure, "png").startswith(b"\x89PNG")


def test_kl_is_sorted_and_names_its_dims() -> None:
    axes = plots.draw_kl(np.array([0.1, 0.5, 0.0])).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "0", "2"]
    assert len(axes.lines) == 0


def test_the_free_bits_are_marked() -> None:
    axes = plots.draw_all(make_portrait())["kl"].axes[0]
    (floor,) = axes.lines
    assert set(np.asarray(floor.get_ydata())) == {0.25}
    assert axes.get_xlabel() == "dim of z\ndashed: the free bits, 0.25 nats that cost nothing"


def test_shorten() -> None:
    assert plots.shorten("abcdef", 4) == "abc\u2026" and plots.shorten("abcd", 4) == "abcd"


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(InputError, match=r"wanted matplotlib .pip install matplotlib."):
        plots.draw_all(dataclasses.replace(make_portrait()))
