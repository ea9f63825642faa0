"""Levels, leaves and sums of label trees against plain loops."""

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqssvae.errors import InputError
from seqssvae.storage.label_tree import LabelTree

ANIMALS = LabelTree(
    {"mammal": "animal", "cat": "mammal", "dog": "mammal", "eagle": "bird", "bird": "animal"}
    | {"rock": None, "salmon": "animal"}
)


def ancestors(tree: LabelTree, node: str) -> list[str]:
    """The node and all above it."""
    parent = tree.parents.get(node)
    return [node] if parent is None else [node, *ancestors(tree, parent)]


def test_levels_are_from_the_top_down() -> None:
    """A leaf that is less deep stays on the levels below it."""
    assert ANIMALS.leaves == ("cat", "dog", "eagle", "rock", "salmon")
    assert [names for names, _ in ANIMALS.levels] == [
        ["animal", "rock"],
        ["bird", "mammal", "rock", "salmon"],
    ]
    assert ANIMALS.below["animal"] == ["cat", "dog", "eagle", "salmon"]
    alone = LabelTree({"a": "root", "b": "root"})
    assert alone.levels == [] and alone.sums(np.ones((2, 2))) == []


@given(st.lists(st.integers(0, 100), min_size=2, max_size=12), st.integers(0, 9))
def test_leaves_and_sums_equal_loops(choices: list[int], seed: int) -> None:
    """Of any tree: node n hangs below a node before it, or is a root."""
    parents = {
        f"{n}": str(one % n) if n and one % (n + 1) else None for n, one in enumerate(choices)
    }
    if not any(parents.values()):
        return
    tree = LabelTree(parents)
    leaves = [node for node in parents if node not in parents.values()]
    assert sorted(leaves) == list(tree.leaves)
    inner = set(parents) - set(leaves)
    assert tree.below == {
        node: [leaf for leaf in tree.leaves if node in ancestors(tree, leaf)] for node in inner
    }
    table = np.random.default_rng(seed).dirichlet(np.ones(len(leaves)), 3)
    for (names, _), of_nodes in zip(tree.levels, tree.sums(table), strict=True):
        for column, name in enumerate(names):
            below = [i for i, leaf in enumerate(tree.leaves) if name in ancestors(tree, leaf)]
            assert of_nodes[:, column] == pytest.approx(table[:, below].sum(1))
        assert of_nodes.sum(1) == pytest.approx(np.ones(3))


@pytest.mark.parametrize(
    ("parents", "error"),
    [
        ({"a": "b", "b": "c", "c": "a", "d": "c"}, "got the cycle 'a', 'c', 'b', 'a'"),
        ({"a": "a"}, "got the cycle 'a', 'a'"),
        ({"a": None}, "without an edge"),
        ({}, "without an edge"),
    ],
)
def test_what_is_no_tree_is_an_error(parents: dict[str, str | None], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        LabelTree(parents)


def test_inner_nodes_become_their_leaves() -> None:
    """In every chunk, with numbers of rows over all of them; other names stay."""
    lists = [["cat"], [], ["mammal"], ["mammal", "dog", "eagle"], ["other"]]
    kind = {"label": pyarrow.list_(pyarrow.string()), "shares": pyarrow.list_(pyarrow.float64())}
    rows = [{"label": one, "shares": None} for one in lists]
    table = pyarrow.Table.from_pylist(rows, pyarrow.schema(kind))
    soft = table.from_pylist([{"label": ["cat", "mammal"], "shares": [0.3, 0.7]}], table.schema)
    chunks = list(ANIMALS.in_leaves(table, str))
    wanted = [["cat"], [], ["cat", "dog"], ["cat", "dog", "eagle"], ["other"]]
    assert chunks[0].to_pylist() == wanted
    with pytest.raises(InputError, match="^5: wanted a soft label of leaves of the tree, got 'mam"):
        list(ANIMALS.in_leaves(pyarrow.concat_tables([table, soft]), str))
