import pytest
import torch

from seqssvae.data.vocabulary import BOS, EOS, NUM_SPECIAL, PAD, UNK
from seqssvae.nn.encoders import (
    CategoricalHead,
    LabelTable,
    NormalHead,
    SequenceEncoder,
    hide_symbols,
    pack_rows,
)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_features_equal_a_row_by_row_run(
    pooling: str, bidirectional: bool, cell: str, dtype: torch.dtype
) -> None:
    """By torch's operations, and by C kernels where there is a compiler."""
    encoder = (
        SequenceEncoder(
            vocabulary_size=8,
            embedding_size=3,
            hidden_size=4,
            num_layers=2,
            cell=cell,
            bidirectional=bidirectional,
            pooling=pooling,
        )
        .eval()
        .to(dtype)
    )
    x, lengths = torch.randint(NUM_SPECIAL, 8, (4, 6)), torch.tensor([3, 6, 1, 5])
    features = encoder(x, lengths)
    assert features.shape == (4, encoder.num_features)
    for row, length in enumerate(lengths.tolist()):
        states, final = encoder.rnn(encoder.embedding(x[row : row + 1, :length]))
        if pooling == "last":
            hidden = final[0] if cell == "lstm" else final
            want = torch.cat(list(hidden[-2:] if bidirectional else hidden[-1:]), -1)[0]
        else:
            want = states[0].mean(0) if pooling == "mean" else states[0].amax(0)
        torch.testing.assert_close(
            features[row], want, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-5
        )


def test_a_mean_in_half_precision_is_summed_in_float32() -> None:
    encoder = SequenceEncoder(
        vocabulary_size=8, embedding_size=3, hidden_size=4, pooling="mean"
    ).eval()
    x, lengths = torch.randint(NUM_SPECIAL, 8, (2, 900)), torch.tensor([900, 400])
    packing = pack_rows(x, lengths)
    states = (0.5 + torch.rand(2, len(packing.row), 4)).bfloat16()
    want = encoder._pool(states.double(), packing)
    assert encoder._pool(states, packing).dtype == torch.bfloat16
    torch.testing.assert_close(encoder._pool(states, packing).double(), want, rtol=2**-8, atol=0)


def test_an_empty_row_reads_one_pad() -> None:
    encoder = SequenceEncoder(vocabulary_size=8, embedding_size=3, hidden_size=4).eval()
    x = torch.tensor([[5, 6], [7, 4]])
    empty = encoder(x, torch.tensor([2, 0]))[1]
    torch.testing.assert_close(empty, encoder(torch.tensor([[PAD]]), torch.tensor([1]))[0])


def test_a_label_and_its_one_hot_are_the_same() -> None:
    table = LabelTable(4, 3)
    y = torch.randint(4, (5, 2))
    one_hot = torch.nn.functional.one_hot(y, 4).double()
    torch.testing.assert_close(table(y), table(one_hot))


def test_of_several_columns_a_table_is_a_sum_and_q_is_a_product() -> None:
    table, head = (
        LabelTable(6, 4, (2, 3)),
        CategoricalHead(num_features=4, latent_size=2, num_classes=6, label_sizes=(2, 3)),
    )
    assert table.weight.shape == (5, 4) and head.features.weight.shape == (5, 4)
    y = torch.randint(6, (5, 2))
    torch.testing.assert_close(table(y), table.weight[y // 3] + table.weight[2 + y % 3])
    weights = torch.nn.functional.one_hot(y, 6).double()
    torch.testing.assert_close(table(weights), table(y))
    vectors = table.one_hot(y, torch.float64)
    torch.testing.assert_close(vectors @ table.weight, table(y))
    torch.testing.assert_close(table.one_hot(weights, torch.float64), vectors)
    features, z = torch.randn(3, 4), torch.randn(7, 3, 2)
    assert head.z is not None
    first, second = (head.features(features) + head.z(z)).split([2, 3], -1)
    want = first.softmax(-1).unsqueeze(-1) * second.softmax(-1).unsqueeze(-2)
    torch.testing.assert_close(head(features, z).softmax(-1), want.flatten(-2))


def test_heads_broadcast_leading_dims() -> None:
    features, z = torch.randn(3, 6), torch.randn(5, 2, 3, 2)
    logits = CategoricalHead(num_features=6, latent_size=2, num_classes=4)(features, z)
    assert logits.shape == (5, 2, 3, 4)
    head = NormalHead(num_features=6, num_classes=4, latent_size=2)
    loc, scale = head(features, torch.arange(4).unsqueeze(-1))
    assert loc.shape == scale.shape == (4, 3, 2) and (scale > 0).all()
    alone, _ = head(features, torch.tensor([2, 2, 2]))
    torch.testing.assert_close(loc[2], alone)


def test_special_symbols_are_never_hidden() -> None:
    x = torch.tensor([[PAD, UNK, BOS, EOS, *range(NUM_SPECIAL, 30)]]).expand(50, -1)
    hidden = hide_symbols(x, 0.5)
    kept = hidden[:, [PAD, UNK]]
    assert torch.equal(kept, x[:, [PAD, UNK]])
    share = (hidden[:, NUM_SPECIAL:] == UNK).double().mean()
    assert 0.4 < share < 0.6
