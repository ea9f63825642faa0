import numpy as np
import pytest

from seqssvae.compare.compare import summarise
from seqssvae.show.comparison_plots import draw_comparison
from seqssvae.show.plots import figure_to_bytes


def test_every_draw_is_a_dot_and_every_mean_a_bar() -> None:
    """Two budgets, of which one lacks an arm; the best arm stands on top."""
    found = {
        (10, "ssvae"): [0.5, 0.7], (10, "nb"): [0.4, 0.45], (10, "lr"): [0.8], (20, "ssvae"): [0.9],
    }  # fmt: skip
    records = [
        {"num_labels": n, "arm": arm, "draw": draw, "accuracy": accuracy, "macro_f1": 0.0,
         "calibration_error": 0.0, "seconds": 1.0}
        for (n, arm), accuracies in found.items()
        for draw, accuracy in enumerate(accuracies)
    ]  # fmt: skip
    figure = draw_comparison(records, summarise(records))
    first, second = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["10 labels", "20 labels"]
    assert [label.get_text() for label in first.get_yticklabels()] == ["nb", "ssvae", "lr"]
    want = [[40, 45], [42.5], [50, 70], [60], [80], [80]]
    for line, points in zip(first.lines, want, strict=True):
        assert list(np.asarray(line.get_xdata())) == pytest.approx(points)
    assert [np.asarray(line.get_ydata())[0] for line in first.lines] == [0, 0, 1, 1, 2, 2]
    colors = {line.get_color() for line in first.lines}
    assert len(colors) == 2 and first.lines[2].get_color() == second.lines[0].get_color()
    assert figure_to_bytes(figure, "png").startswith(b"\x89PNG")
