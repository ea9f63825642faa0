"""A model of more symbols and classes that starts from the weights of a smaller one."""

import torch

from seqssvae.data.vocabulary import Vocabulary
from seqssvae.errors import InputError
from seqssvae.model.ssvae import SSVAE
from seqssvae.nn.recurrent_decoder import RecurrentDecoder
from seqssvae.nn.words import tabulate_words

OUTPUT = tuple(map("decoder.{}.".format, ("output", "class_bias", "ngrams")))  # of any decoder
INPUTS = "decoder.rnn.weight_ih_l0"  # columns of embedding, classes and z


@torch.no_grad()
def copy_weights(model: SSVAE, source: SSVAE, vocabulary: Vocabulary) -> None:
    """Copy the weights of a model whose symbols and classes are the first ones of another.

    In the new parts, q(y | x) is 0 and all else stays as it is. p(y), the n-grams' counts and the
    voters' matrices are not copied; the n-gram part of q(y | x) is not if it has another number of
    buckets.

    Args:
        model: The model that is changed, of the same settings.
        source: The smaller model.
        vocabulary: The symbols of `model`.

    Raises:
        InputError: a decoder of the user's own has symbols or classes in its inputs' columns.
    """
    old = source.state_dict()
    for name, value in model.state_dict().items():
        part = old.get(name)
        if part is None:  # of a source without classes
            continue
        if name.startswith(
            ("decoder.ngrams.k", "decoder.ngrams.c", "decoder.ngrams.s", "prior_", "votes.")
        ):
            continue
        if name.startswith("ngrams.") and len(part) != len(value) and name != "ngrams.bias":
            continue
        if name.startswith(("head_y.", "ngrams.")):
            value.zero_()
        is_ours = isinstance(source.decoder, RecurrentDecoder) or not name.startswith("decoder.")
        if not is_ours and not name.startswith(OUTPUT) and part.shape[1:] != value.shape[1:]:
            raise InputError(
                f"start: wanted {name} with a row for each symbol or class, got columns of them; "
                "rows with symbols and classes of the run alone can start from it"
            )
        if name == INPUTS and isinstance(source.decoder, RecurrentDecoder):
            num_first = source.decoder.embedding.embedding_dim
            num_first += source.num_classes * source.decoder.feed_y
            value[:, value.shape[1] - (part.shape[1] - num_first) :] = part[:, num_first:]
            part = part[:, :num_first]
        value[tuple(map(slice, part.shape))] = part
    if model.ngrams is not None and model.ngrams.words is not None:
        words = torch.from_numpy(tabulate_words(vocabulary))
        was_read = source.ngrams is not None and bool(old["ngrams.words"].any())
        model.ngrams.words.copy_(words * was_read)
