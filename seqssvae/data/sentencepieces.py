"""Training of SentencePiece: in memory, deterministic, on corpora of any size."""

import functools
import io
import itertools
import logging
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from seqssvae import progress

logger = logging.getLogger(__name__)

UNKNOWN_CHARACTER = "\N{REPLACEMENT CHARACTER}"
SPACE_MARK = "\u2581"  # a space in a piece of SentencePiece
NUM_BYTES = 256  # pieces of byte fallback
MIN_PIECES = 300  # the bytes, the special symbols, and a few characters
SAMPLE_CHARACTERS = 4_000_000  # in about 10 seconds
CHUNK_CHARACTERS = 4000  # longer texts are cut into chunks
UNREADABLE = frozenset("\0\u2047\u2581\u2585")  # SentencePiece skips lines with one of these


def train_pieces(
    texts: Iterable[str],
    *,
    size: int,
    special: Sequence[str],
    sample_characters: int = SAMPLE_CHARACTERS,
) -> bytes:
    """Train a SentencePiece unigram model without normalisation; returns its bytes.

    The same texts in any order give the same bytes.

    Args:
        texts: Training rows; none at all give a model of bytes.
        size: Limit of the number of pieces, bytes and special symbols included; at least
            `MIN_PIECES`.
        special: PAD, UNK, BOS and EOS as text; their ids are 0 to 3.
        sample_characters: Limit of the characters to learn from; of more, texts are sampled by
            their checksums.
    """
    import sentencepiece

    sample, num_texts = _sample(_chunks(texts), sample_characters)
    if len(sample) < num_texts:
        logger.info(
            "SentencePiece learns from a sample of %d of %d rows, %d characters",
            len(sample),
            num_texts,
            sum(map(len, sample)),
        )
    # never empty, and with a space; half of the free pieces are longer than a character
    sentences = itertools.chain([" "], _sentences(sample, (size - NUM_BYTES - len(special)) // 2))
    writer = io.BytesIO()
    train = functools.partial(
        sentencepiece.SentencePieceTrainer.train,
        sentence_iterator=sentences,
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
    with progress.announced(f"SentencePiece learns {size} pieces"):
        _call_in_thread(train)
    return writer.getvalue()


def _call_in_thread(work: Callable[[], None]) -> None:
    """Call what runs without the interpreter, so that a signal need not wait for its end."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def _sentences(texts: Sequence[str], num_characters: int) -> Iterator[str]:
    """Parts of texts that consist of their most frequent characters."""
    counts = Counter(itertools.chain.from_iterable(texts))
    alphabet = sorted(counts.keys() - UNREADABLE, key=lambda c: (-counts[c], c))
    rare = {ord(character): "\0" for character in counts.keys() - alphabet[:num_characters]}
    for text in texts:
        yield from filter(None, text.translate(rare).split("\0"))


def _chunks(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for start in range(0, len(text), CHUNK_CHARACTERS):
            yield text[start : start + CHUNK_CHARACTERS]


def _sample(texts: Iterable[str], limit: int) -> tuple[list[str], int]:
    """Sample texts by their checksums, at most `limit` characters; returns also their number.

    The sample depends on content, not on position: rows that alternate between classes stay
    balanced.
    """
    sample: list[str] = []
    total, bits = 0, 0

    def is_sampled(text: str) -> bool:
        return zlib.crc32(text.encode()) < 1 << (32 - bits)

    num_texts = 0
    for text in texts:
        num_texts += 1
        if not is_sampled(text):
            continue
        sample.append(text)
        total += len(text)
        while total > limit and bits < 32:
            bits += 1
            sample = [one for one in sample if is_sampled(one)]
            total = sum(map(len, sample))
    return sorted(sample), num_texts
