from seqssvae.show.rewritten import NUM_STEPS, NUM_WALKS, transferred, walked
from seqssvae.trained import load
from tests.support.fixtures import SmallRun

TEXTS = ["ab", "cd", "abab", "cdcd", "ababab", "cdcdcd", "ab"]


def test_the_surest_row_of_each_label_is_rewritten(small_run: SmallRun) -> None:
    model = load(small_run[0])
    table = model.classify_table(model.read_sequences(TEXTS))
    found = transferred(model, TEXTS, table)
    assert [(one, label) for one, label, _ in found] == [
        (TEXTS[table[:, y].argmax()], name) for y, name in enumerate(model.labels.names)
    ]
    for one, _, written in found:
        assert written == [model.transfer([one], to=name)[0] for name in model.labels.names]


def test_walks_are_between_different_rows(small_run: SmallRun) -> None:
    model = load(small_run[0])
    walks = walked(model, TEXTS, 0)
    assert [len(walk) for walk in walks] == [NUM_STEPS] * NUM_WALKS
    assert walked(model, TEXTS, 0) == walks != walked(model, TEXTS, 1)
