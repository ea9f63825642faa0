"""Vocabularies: round trips, limits, damaged files, and corpora of every size."""

import json
import pickle
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqssvae.data.vocabulary import (
    BOS,
    EOS,
    NUM_SPECIAL,
    PAD,
    UNK,
    CharacterVocabulary,
    SentencePieceVocabulary,
    TokenVocabulary,
    Vocabulary,
    build_vocabulary,
    load_vocabulary,
)
from seqssvae.errors import InputError

TEXTS = ["the cat sat", "the dog sat on the mat", "  two spaces ", "größe\tund\nZeilen", "日本語"]
unicode_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u2581"))


@pytest.fixture(scope="module")
def pieces() -> Vocabulary:
    return build_vocabulary("sentencepiece", TEXTS, size=400)


@settings(max_examples=300, deadline=None)
@given(text=unicode_text)
def test_pieces_spell_any_text(pieces: Vocabulary, text: str) -> None:
    ids = pieces.encode(text)
    assert pieces.decode(ids) == text
    assert all(id >= NUM_SPECIAL for id in ids)


@pytest.mark.parametrize("text", ["", "<unk> <pad></s> <bos> <0x41>", "a\nb\r\n\0\t", " \ufffd "])
def test_pieces_spell_texts_that_look_special(pieces: Vocabulary, text: str) -> None:
    assert pieces.decode(pieces.encode(text)) == text


def test_the_space_mark_becomes_a_space(pieces: Vocabulary) -> None:
    assert pieces.decode(pieces.encode("a\u2581b")) == "a b"


@pytest.mark.parametrize(
    "texts",
    [["a"], ["\n"], ["\0"], ["\u2047\u2585"], [], ["a" * 20_000], ["ab", "ba", "c", "d", "e"]],
    ids=["one", "newline", "nul", "reserved", "none", "long", "five"],
)
def test_pieces_are_learned_from_any_corpus(texts: list[str]) -> None:
    vocabulary = build_vocabulary("sentencepiece", texts, size=4000)
    assert 260 <= len(vocabulary) <= 300
    for text in [*texts, "something else: é 😀"]:
        assert vocabulary.decode(vocabulary.encode(text)) == text


def test_an_alphabet_larger_than_the_vocabulary_is_spelled_in_bytes() -> None:
    texts = ["".join(map(chr, range(0x4E00, 0x5E00)))]
    vocabulary = build_vocabulary("sentencepiece", texts, size=320)
    assert len(vocabulary) <= 320
    assert vocabulary.decode(vocabulary.encode(texts[0])) == texts[0]


def test_pieces_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    generator = random.Random(0)
    texts = ["".join(generator.choices("abcd ", k=30)) for _ in range(200)]
    models = []
    for _ in range(3):
        build_vocabulary("sentencepiece", texts, size=350).save(tmp_path)
        models.append((tmp_path / "sentencepiece.model").read_bytes())
        generator.shuffle(texts)
    assert models[0] == models[1] == models[2]


def test_frequent_text_becomes_few_pieces() -> None:
    generator = random.Random(0)
    stems = ["hello", "world", "going", "where", "there"]
    texts = ["".join(generator.choices([*stems, " "], k=8)) for _ in range(300)]
    vocabulary = build_vocabulary("sentencepiece", texts, size=400)
    assert 2 <= len(vocabulary.encode("helloworld going")) <= 5


def test_training_pieces_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    build_vocabulary("sentencepiece", TEXTS, size=400)
    assert capfd.readouterr() == ("", "")


@given(rows=st.lists(unicode_text, max_size=5), size=st.integers(5, 40))
def test_known_characters_are_decoded(rows: list[str], size: int) -> None:
    vocabulary = build_vocabulary("characters", rows, size=size)
    assert len(vocabulary) == min(size, NUM_SPECIAL + len(set("".join(rows))))
    known = {vocabulary.symbol(id) for id in range(NUM_SPECIAL, len(vocabulary))}
    for row in rows:
        ids = vocabulary.encode(row)
        expected = "".join(c if c in known else "\ufffd" for c in row)
        assert vocabulary.decode(ids) == expected
        assert ids.count(UNK) == sum(c not in known for c in row)


@given(rows=st.lists(unicode_text, max_size=5))
def test_many_are_encoded_as_each_is(pieces: Vocabulary, rows: list[str]) -> None:
    characters = CharacterVocabulary("a\U0001f600 é")
    tokens = TokenVocabulary(["a", "b "])
    kinds: list[tuple[Vocabulary, list[str] | list[list[str]]]] = [
        (pieces, rows), (characters, [*rows, "aaé\U0001f601\U0001f600"]),
        (tokens, [list(row) for row in rows]), (CharacterVocabulary(""), rows),
    ]  # fmt: skip
    for vocabulary, sequences in kinds:
        expected = [vocabulary.encode(sequence) for sequence in sequences]
        for num_threads in (0, 1, 2):
            ids, lengths = vocabulary.encode_many(sequences, num_threads=num_threads)
            assert ids.tolist() == [id for row in expected for id in row]
            assert lengths.tolist() == [len(row) for row in expected]
            assert (str(ids.dtype), str(lengths.dtype)) == ("int32", "int64")


def test_other_vocabularies_have_other_fingerprints(pieces: Vocabulary) -> None:
    others = [
        pieces, build_vocabulary("sentencepiece", TEXTS[:2], size=400), CharacterVocabulary("ab"),
        CharacterVocabulary("ba"), TokenVocabulary(["a", "b"]), TokenVocabulary(["a", "b", "c"]),
    ]  # fmt: skip
    assert len({vocabulary.fingerprint for vocabulary in others}) == len(others)
    for vocabulary in others:
        assert pickle.loads(pickle.dumps(vocabulary)).fingerprint == vocabulary.fingerprint


def test_the_most_frequent_symbols_are_kept() -> None:
    rows = [["b", "b", "b", "a"], ["c", "a", "d"]]
    vocabulary = build_vocabulary("tokens", rows, size=NUM_SPECIAL + 2)
    assert vocabulary.encode(["a", "b", "c"]) == [5, 4, UNK]
    vocabulary = build_vocabulary("tokens", rows, size=100, min_count=2)
    assert vocabulary.encode(["a", "b", "c", "d"]) == [5, 4, UNK, UNK]
    assert build_vocabulary("tokens", [["c", "b", "a"]], size=9).encode(["a", "b", "c"]) == [
        *range(4, 7)
    ]


def test_an_earlier_vocabulary_keeps_its_ids(pieces: Vocabulary) -> None:
    """New symbols follow while there is room; pieces spell them in bytes."""
    first = build_vocabulary("characters", ["ab"], size=9)
    second = build_vocabulary("characters", ["dcccab"], size=9, start=first)
    assert [second.symbol(id) for id in range(NUM_SPECIAL, 8)] == ["a", "b", "c", "d"]
    full = build_vocabulary("characters", ["dcccab"], size=NUM_SPECIAL + 1, start=first)
    assert full.fingerprint == first.fingerprint
    assert build_vocabulary("sentencepiece", ["ß"], size=9, start=pieces) is pieces


def test_tokens_that_look_special_are_tokens() -> None:
    vocabulary = build_vocabulary("tokens", [["<unk>", "<eos>", "▁", " "]], size=100)
    ids = vocabulary.encode(["<unk>", "<eos>", "▁", " ", "new"])
    assert ids.count(UNK) == 1
    assert vocabulary.decode(ids) == ["<unk>", "<eos>", "▁", " ", "<unk>"]


@pytest.mark.parametrize(
    ("kind", "rows", "expected"),
    [
        ("sentencepiece", ["ab"], "ab\ufffdab"),
        ("characters", ["ab"], "ab\ufffdab"),
        ("tokens", [["a", "b"]], ["a", "b", "<unk>", "a", "b"]),
    ],
)
def test_decoding_stops_at_eos_and_skips_pad_and_bos(
    kind: str, rows: list[str], expected: str | list[str]
) -> None:
    vocabulary = build_vocabulary(kind, rows, size=300)
    ab = vocabulary.encode(rows[0])
    assert vocabulary.decode([BOS, PAD, *ab, UNK, *ab, EOS, *ab, PAD]) == expected
    assert vocabulary.decode([EOS, *ab]) == expected[:0]
    assert [vocabulary.symbol(id) for id in (PAD, UNK, BOS, EOS)] == [
        "<pad>",
        "<unk>",
        "<bos>",
        "<eos>",
    ]
    for id in (-1, len(vocabulary)):
        with pytest.raises(IndexError):
            vocabulary.symbol(id)
        with pytest.raises(IndexError):
            vocabulary.decode([id])


@pytest.mark.parametrize(
    ("kind", "rows"),
    [("sentencepiece", TEXTS), ("characters", TEXTS), ("tokens", [["é", "\u2028"], ["x y"]])],
)
def test_saved_and_pickled_vocabularies_are_the_same(
    kind: str, rows: Sequence[str], tmp_path: Path
) -> None:
    vocabulary = build_vocabulary(kind, rows, size=400)
    vocabulary.save(tmp_path)
    for other in (load_vocabulary(tmp_path), pickle.loads(pickle.dumps(vocabulary))):
        assert other.kind == kind
        assert len(other) == len(vocabulary)
        assert [other.encode(row) for row in rows] == [vocabulary.encode(row) for row in rows]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vocabulary.json", None),
        ("vocabulary.json", b"{"),
        ("vocabulary.json", b"[]"),
        ("vocabulary.json", b"\xff"),
        ("vocabulary.json", b'{"format": 1}'),
        ("vocabulary.json", b'{"format": 1, "kind": "words", "symbols": []}'),
        ("vocabulary.json", b'{"format": 1, "kind": "tokens", "symbols": [], "normalise": "nfd"}'),
        ("vocabulary.json", b'{"format": 1, "kind": "characters", "symbols": ["ab"]}'),
        ("vocabulary.json", b'{"format": 1, "kind": "characters", "symbols": ["a", "a"]}'),
        ("vocabulary.json", b'{"format": 1, "kind": "tokens", "symbols": [1]}'),
        ("sentencepiece.model", None),
        ("sentencepiece.model", b""),
        ("sentencepiece.model", b"something else"),
    ],
)
def test_a_damaged_file_is_an_error_with_its_name(
    pieces: Vocabulary, tmp_path: Path, name: str, content: bytes | None
) -> None:
    pieces.save(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: wanted .*, got"):
        load_vocabulary(tmp_path)


def test_a_model_of_another_size_is_an_error(pieces: Vocabulary, tmp_path: Path) -> None:
    pieces.save(tmp_path)
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "size": 7}))
    with pytest.raises(InputError, match="wanted 7 pieces"):
        load_vocabulary(tmp_path)


@pytest.mark.parametrize(
    ("kind", "rows", "size"),
    [
        ("words", ["a"], 400),
        ("sentencepiece", ["a"], 299),
        ("characters", ["a"], 4),
        ("characters", [["a"]], 400),
        ("sentencepiece", [["a"]], 400),
        ("tokens", ["a b"], 400),
    ],
)
def test_vocabularies_that_cannot_be_built(kind: str, rows: list[str], size: int) -> None:
    with pytest.raises(InputError, match="wanted .*, got"):
        build_vocabulary(kind, rows, size=size)


def test_symbols_must_differ() -> None:
    with pytest.raises(ValueError, match="twice"):
        TokenVocabulary(["a", "a"])
    with pytest.raises(ValueError, match="single"):
        CharacterVocabulary(["ab"])
    with pytest.raises(ValueError, match="SentencePiece"):
        SentencePieceVocabulary(b"no model")


NFC, NFD, FULLWIDTH = (
    "caf\u00e9 \ud55c\uae00",
    "cafe\u0301 \u1112\u1161\u11ab\u1100\u1173\u11af",
    "\uff41",
)


@pytest.mark.parametrize("kind", ["sentencepiece", "characters", "tokens"])
@pytest.mark.parametrize("form", ["none", "nfc", "nfkc"])
def test_sequences_are_read_in_the_unicode_form(kind: str, form: str, tmp_path: Path) -> None:
    """In training, after a save, and in a copy; ids of a form are those of the other."""

    def of(text: str) -> str | list[str]:
        return text.split() if kind == "tokens" else text

    learned = build_vocabulary(kind, [of(NFC), of("abc")], size=400, form=form)
    decomposed = build_vocabulary(kind, [of(NFD), of("abc")], size=400, form=form)
    assert (decomposed.fingerprint == learned.fingerprint) == (form != "none")
    learned.save(tmp_path)
    for vocabulary in (learned, load_vocabulary(tmp_path), pickle.loads(pickle.dumps(learned))):
        assert vocabulary.form == form and vocabulary.fingerprint == learned.fingerprint
        expected = vocabulary.encode(of(NFC))
        assert (vocabulary.encode(of(NFD)) == expected) == (form != "none")
        ids, _ = vocabulary.encode_many([of(NFD)])
        assert (ids.tolist() == expected) == (form != "none")
    assert ("normalise" in (tmp_path / "vocabulary.json").read_text()) == (form != "none")
    if kind == "characters":
        assert (learned.encode(FULLWIDTH) == learned.encode("a")) == (form == "nfkc")
    others = [build_vocabulary(kind, [of(NFC)], size=400, form=f) for f in ("none", "nfc", "nfkc")]
    assert len({vocabulary.fingerprint for vocabulary in others}) == 3


def test_what_is_unseen(pieces: Vocabulary) -> None:
    ids = np.array(pieces.encode("the cat"))
    assert not pieces.is_unseen(ids).any()
    assert pieces.is_unseen(np.array(pieces.encode("\u0416\U0001f600"))).all()
    characters = CharacterVocabulary("ab")
    assert characters.is_unseen(np.array(characters.encode("axb"))).tolist() == [False, True, False]
