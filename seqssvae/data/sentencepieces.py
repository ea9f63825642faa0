"""Training of SentencePiece: in memory, deterministic, on corpora of any size."""

import io
import itertools
import logging
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

__all__ = ["MIN_PIECES", "NUM_BYTES", "SPACE_MARK", "UNKNOWN_CHARACTER", "train_pieces"]

logger = logging.getLogger(__name__)

UNKNOWN_CHARACTER = "\N{REPLACEMENT CHARACTER}"
SPACE_MARK = "\u2581"  # what SentencePiece writes for a space
NUM_BYTES = 256  # pieces that byte fallback takes
MIN_PIECES = 300  # the bytes, the special symbols, and a few characters
SAMPLE_CHARACTERS = 4_000_000  # that SentencePiece learns from, at most: about 10 seconds
CHUNK_CHARACTERS = 4000  # longer texts are learned from in parts
UNREADABLE = frozenset("\0\u2047\u2581\u2585")  # SentencePiece skips a line that holds one


def train_pieces(texts: Iterable[str], *, size: int, special: Sequence[str]) -> bytes:
    """The bytes of a SentencePiece unigram model, learned without normalisation.

    The same texts in any order give the same bytes.

    Args:
        texts: Rows to learn from; all of them up to 4 million characters, and of more a share drawn
            by a checksum of the texts. None at all is enough for a model of bytes.
        size: Pieces at most, bytes and special symbols included; at least `MIN_PIECES`.
        special: How PAD, UNK, BOS and EOS are shown; their ids are 0 to 3.
    """
    import sentencepiece

    sample, num_texts = _thin(_chunks(texts), SAMPLE_CHARACTERS)
    if len(sample) < num_texts:
        logger.info(
            "SentencePiece learns from %d of %d rows, %d characters, drawn by a checksum",
            len(sample),
            num_texts,
            sum(map(len, sample)),
        )
    counts: Counter[str] = Counter()
    for text in sample:
        counts.update(text)
    # Half of the free pieces are left to longer ones; characters beyond are spelled in bytes.
    alphabet = sorted(counts.keys() - UNREADABLE, key=lambda c: (-counts[c], c))
    kept = set(alphabet[: (size - NUM_BYTES - len(special)) // 2])
    cut = {ord(character): "\0" for character in counts if character not in kept}
    parts = (part for text in sample for part in text.translate(cut).split("\0") if part)
    writer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=itertools.chain([" "], parts),  # never empty, and a space is known
        model_writer=writer,
        model_type="unigram",
        vocab_size=size,
        hard_vocab_limit=False,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        pad_piece=special[0],
        unk_piece=special[1],
        bos_piece=special[2],
        eos_piece=special[3],
        unk_surface=UNKNOWN_CHARACTER,
        max_sentence_length=4 * CHUNK_CHARACTERS,  # bytes
        num_threads=1,  # the bytes of the model depend on it
        minloglevel=2,
    )
    return writer.getvalue()


def _chunks(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for start in range(0, len(text), CHUNK_CHARACTERS):
            yield text[start : start + CHUNK_CHARACTERS]


def _thin(texts: Iterable[str], limit: int) -> tuple[list[str], int]:
    """All texts, or the share with the lowest checksums that holds at most `limit` characters.

    How many texts there were is given back too.

    Drawn by content, not by position: rows that alternate between classes stay balanced.
    """
    kept: list[str] = []
    total, bits = 0, 0

    def stays(text: str) -> bool:
        return zlib.crc32(text.encode()) < 1 << (32 - bits)

    num_texts = 0
    for text in texts:
        num_texts += 1
        if not stays(text):
            continue
        kept.append(text)
        total += len(text)
        while total > limit and bits < 32:
            bits += 1
            kept = [one for one in kept if stays(one)]
            total = sum(map(len, kept))
    return sorted(kept), num_texts
