"""Logits of hashed n-grams against the path through scipy's matrices."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfTransformer

from seqssvae.data.vocabulary import EOS
from seqssvae.nn.ngram_logits import NGramLogits, build_ngrams
from seqssvae.nn.ngrams import SYMBOL_NGRAMS, WORD_NGRAMS, NGrams, count_ngrams
from seqssvae.teacher.student import fit_student
from tests.support.rows import make_rows, padded

# of the symbols 4 to 7, one is a mark and one begins words
WORDS = torch.tensor([[50, 1, 1], [60, 2, 1], [0, 0, 0], [70, 1, 2]])


def make_sequences(num_rows: int = 12) -> list[list[int]]:
    """Rows of 0 to 20 symbols with EOS, in which n-grams come twice; one without any symbol."""
    random = np.random.default_rng(0)
    rows = [
        [*random.integers(4, 8, size).tolist(), EOS] for size in random.integers(0, 21, num_rows)
    ]
    return [*rows[:2], [], *rows[2:]]


def make_module(
    num_buckets: int = 32, blocks: tuple[NGrams, ...] = (NGrams(1, 2), NGrams(3))
) -> NGramLogits:
    module = NGramLogits(num_buckets=num_buckets, num_classes=5, blocks=blocks, vocabulary_size=8)
    if module.words is not None:
        module.words[4:] = WORDS
    num_features = num_buckets * len(blocks)
    module.assign(torch.randn(num_features, 5), torch.randn(5), 1 + torch.rand(num_features))
    return module


def logits_by_scikit_learn(module: NGramLogits, counts: list[csr_matrix]) -> NDArray[np.floating]:
    """W^T f(x) + b, f(x) by a `TfidfTransformer` for each block."""
    expected = module.bias.detach().numpy()
    idf, weight = (part.detach().chunk(len(counts)) for part in (module.idf, module.weight))
    for block, one_idf, one_weight in zip(counts, idf, weight, strict=True):
        transformer = TfidfTransformer(sublinear_tf=True).fit(block)
        transformer.idf_ = one_idf.numpy()
        expected = expected + transformer.transform(block) @ one_weight.numpy()
    return expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "blocks", [SYMBOL_NGRAMS, (NGrams(3),), (NGrams(2, 3), NGrams(1)), (NGrams(2), *WORD_NGRAMS)]
)
@pytest.mark.parametrize("num_buckets", [2**12, 7])
def test_logits_are_those_of_scikit_learns_features(
    num_buckets: int, blocks: tuple[NGrams, ...], dtype: torch.dtype
) -> None:
    sequences = make_sequences()
    module = make_module(num_buckets, blocks).to(dtype)
    counts = count_ngrams(make_rows(sequences), blocks, num_buckets=num_buckets, words=module.words)
    expected = logits_by_scikit_learn(module, counts)
    result = module(*padded(sequences)).detach()
    assert result.dtype == dtype
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)
    assert torch.equal(result[2], module.bias)  # the row without symbols


def test_a_fitted_student_gives_the_same_logits_in_the_module() -> None:
    sequences = make_sequences()
    y = np.arange(len(sequences)) % 2
    counts = count_ngrams(make_rows(sequences), SYMBOL_NGRAMS, num_buckets=100)
    weight, bias, idf = fit_student(counts, y, np.zeros((0, 2)))
    module = NGramLogits(num_buckets=100, num_classes=2)
    assert not module(*padded(sequences)).any()  # with its first weights
    module.assign(*map(torch.from_numpy, (weight, bias, idf)))
    features = [TfidfTransformer(sublinear_tf=True).fit_transform(block) for block in counts]
    expected = hstack(features) @ weight + bias
    np.testing.assert_allclose(module(*padded(sequences)).detach(), expected, atol=1e-5)


def test_padding_order_and_neighbours_of_rows_change_nothing() -> None:
    sequences, module = make_sequences(), make_module()
    together = module(*padded(sequences))
    torch.testing.assert_close(module(*padded(sequences, padding=6)), together)
    torch.testing.assert_close(module(*padded(sequences[::-1])).flip(0), together)
    for row, sequence in enumerate(sequences):
        torch.testing.assert_close(module(*padded([sequence]))[0], together[row])


def test_rows_are_hashed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    sequences, module = make_sequences(), make_module()
    x, lengths = padded(sequences)
    whole = module.features(x, lengths)
    for size in (1, 3 * x.shape[1], 12 * x.shape[1] + 1):
        monkeypatch.setattr("seqssvae.nn.ngram_logits.MAX_SYMBOLS", size)
        for part, wanted in zip(module.features(x, lengths), whole, strict=True):
            assert torch.equal(part, wanted)


def test_a_batch_may_have_no_rows_or_no_symbols() -> None:
    module = make_module()
    assert module(
        torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    ).shape == (0, 5)
    empty = module(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(empty, module.bias.expand(2, 5))


def test_gradients_are_those_of_the_dense_product() -> None:
    sequences, module = make_sequences(), make_module()
    x, lengths = padded(sequences)
    buckets, rows, values = module.features(x, lengths)
    dense = torch.zeros(len(x), 64).index_put((rows, buckets), values)
    norms = dense.unflatten(1, (2, 32)).norm(dim=2)  # of each block
    torch.testing.assert_close(norms, (lengths > 0).double().unsqueeze(1).expand(-1, 2))
    towards = torch.randn(len(x), 5)
    (module(x, lengths) * towards).sum().backward()
    assert module.weight.grad is not None and module.bias.grad is not None
    torch.testing.assert_close(module.weight.grad, dense.T @ towards)
    torch.testing.assert_close(module.bias.grad, towards.sum(0))
    assert not module.idf.requires_grad


def test_its_weights_are_saved() -> None:
    module, other = make_module(), make_module()
    other.load_state_dict(module.state_dict())
    batch = padded(make_sequences())
    assert torch.equal(other(*batch), module(*batch))


def test_weights_of_another_shape_are_refused() -> None:
    module = make_module()
    good = torch.zeros(64, 5), torch.zeros(5), torch.ones(64)
    for position in range(3):
        wrong = [value[:3] if number == position else value for number, value in enumerate(good)]
        with pytest.raises(RuntimeError, match=r"size mismatch .*\[3"):
            module.assign(*wrong)


def test_many_classes_get_fewer_buckets() -> None:
    few, many = build_ngrams(2**16, 4), build_ngrams(2**16, 1000)
    assert few is not None and few.num_buckets == 2**16
    assert many is not None and 1000 * many.num_buckets <= 2**21
    assert build_ngrams(0, 4) is None and build_ngrams(2**16, 0) is None


def test_words_are_read_where_there_is_a_table_of_them() -> None:
    module = build_ngrams(100, 2, vocabulary_size=8)
    assert module is not None and module.words is not None
    x, lengths = padded([[4, 5, 6, 7, EOS]])
    is_of_words = module.features(x, lengths)[0] >= 300
    assert not is_of_words.any()
    module.words[4:] = WORDS
    is_of_words = module.features(x, lengths)[0] >= 300
    assert is_of_words.sum() == 6  # two words, and in the other block also each with the one before
    without = build_ngrams(100, 2)
    assert without is not None and without.words is None and len(without.idf) == 300
