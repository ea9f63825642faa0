"""Classify sequences with an exported encoder: onnxruntime and NumPy, no torch, no seqssvae.

    seqssvae export RUN --to onnx --out exported
    python experiments/onnx_classify.py exported "a text" "another"

Requires onnxruntime and numpy, and sentencepiece for a SentencePiece vocabulary. For a model of
tokens, separate the tokens by spaces. A model that reads vectors wants `--vectors FILE.npy`.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray


class OnnxClassifier:
    """q(y | x) of an exported model.

    Args:
        folder: Output folder of `seqssvae export`.
    """

    def __init__(self, folder: Path) -> None:
        self.session = onnxruntime.InferenceSession(folder / "encoder.onnx")
        self.labels: list[str] = _read(folder / "labels.json")
        self.about: dict[str, int] = _read(folder / "encoder.json")
        self.encode = self._encoder(folder, _read(folder / "vocabulary.json"))

    def _encoder(self, folder: Path, vocabulary: dict[str, Any]) -> Callable[[str], list[int]]:
        """The function that converts a text to symbol ids."""
        if vocabulary["kind"] == "sentencepiece":
            import sentencepiece

            pieces = sentencepiece.SentencePieceProcessor(str(folder / "sentencepiece.model"))
            return lambda text: list(pieces.encode(text))
        first, unknown = self.about["first_symbol"], self.about["UNK"]
        ids = {symbol: id for id, symbol in enumerate(vocabulary["symbols"], start=first)}
        is_tokens = vocabulary["kind"] == "tokens"
        return lambda text: [ids.get(s, unknown) for s in (text.split() if is_tokens else text)]

    def probabilities(
        self, texts: Sequence[str], vectors: NDArray[np.floating] | None = None
    ) -> NDArray[np.float32]:
        """Class probabilities of each text, `[n, K]`.

        Args:
            texts: n texts.
            vectors: `[n, D]`, NaN where one is missing; None for a model that reads none.
        """
        # A row ends with EOS unless it was cut.
        rows = [[*self.encode(text), self.about["EOS"]] for text in texts]
        rows = [row[: self.about["max_length"]] for row in rows]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        x = np.zeros((len(rows), lengths.max()), dtype=np.int64)
        for row, ids in zip(x, rows, strict=True):
            row[: len(ids)] = ids
        inputs: dict[str, NDArray[Any]] = {"x": x, "lengths": lengths}
        if vectors is not None:
            inputs["v"] = vectors.astype(np.float32)
        output: NDArray[np.float32] = self.session.run(None, inputs)[0]
        return output


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    """Print the predicted label of each text and its probability."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("texts", nargs="+", metavar="TEXT")
    parser.add_argument("--vectors", type=Path, metavar="FILE.npy", help="a vector of each text")
    arguments = parser.parse_args()
    classifier = OnnxClassifier(arguments.folder)
    vectors = None if arguments.vectors is None else np.load(arguments.vectors)
    for row in classifier.probabilities(arguments.texts, vectors):
        print(f"{classifier.labels[row.argmax()]}\t{row.max():.4f}")


if __name__ == "__main__":
    main()
