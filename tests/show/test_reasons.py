import numpy as np
import pytest

from seqssvae.show.reasons import MAX_SHOWN, NUM_EXAMPLES, colour, example_reasons
from seqssvae.trained import load
from tests.support.fixtures import SmallRun


def test_the_greatest_share_has_the_deepest_colour() -> None:
    symbols = [{"text": t, "share": s} for t, s in (("a", 0.5), ("b", -2.0), ("c", 0.0))]
    row = {"label": "u", "against": "v", "difference": -1.5, "rest": 0.0, "symbols": symbols}
    found = colour(row, " ")
    assert (
        found.line
        == "Green speaks for u, red for v: -1.50 nats in all, +0.00 of them from no symbol."
    )
    assert found.symbols == [
        ("a ", 0.5, "rgba(0, 150, 70, 0.15)"),
        ("b ", -2.0, "rgba(220, 40, 40, 0.60)"),
        ("c ", 0.0, "rgba(220, 40, 40, 0.00)"),
    ]
    long = colour({**row, "symbols": symbols * MAX_SHOWN})
    assert len(long.symbols) == MAX_SHOWN and "600 more symbols are not shown" in long.line


def test_mistakes_are_explained_against_the_true_label(small_run: SmallRun) -> None:
    model = load(small_run[0])
    rows = model.read(small_run[1], labels=True).take(np.arange(12))
    table = model.classify_table(rows)
    rows.y[:] = table.argmax(1)
    odd = [3, 4, 6, 8]
    rows.y[odd] = 1 - rows.y[odd]
    found = example_reasons(model, rows, table)
    surest = sorted(odd, key=lambda row: -table[row].max())[:NUM_EXAMPLES]
    assert len(found) == 2 * NUM_EXAMPLES
    for one, row in zip(found, [*surest, 0, 1, 2], strict=True):
        p = table[row]
        wanted = f"Green speaks for {model.labels.names[p.argmax()]}, red for "
        assert one.line.startswith(wanted + model.labels.names[p.argmin()])
        difference = float(one.line.partition(": ")[2].partition(" nats")[0])
        assert difference == pytest.approx(np.log(p.max() / p.min()), abs=0.006)
    assert example_reasons(model, rows, table[:, :1]) == []
