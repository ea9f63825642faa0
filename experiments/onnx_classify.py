"""Label sequences by an exported encoder: onnxruntime and NumPy, no torch, no seqssvae.

    seqssvae export RUN --to onnx --out exported
    python experiments/onnx_classify.py exported "a text" "another"

Needs the packages onnxruntime and numpy, and sentencepiece for a vocabulary of pieces. A model of
tokens reads them with spaces between.
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
    """q(y | x) of an exported folder.

    Args:
        folder: What `seqssvae export` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self.session = onnxruntime.InferenceSession(folder / "encoder.onnx")
        self.labels: list[str] = _read(folder / "labels.json")
        self.about: dict[str, int] = _read(folder / "encoder.json")
        self.encode = self._encoder(folder, _read(folder / "vocabulary.json"))

    def _encoder(self, folder: Path, vocabulary: dict[str, Any]) -> Callable[[str], list[int]]:
        """What makes ids of a text."""
        if vocabulary["kind"] == "sentencepiece":
            import sentencepiece

            pieces = sentencepiece.SentencePieceProcessor(str(folder / "sentencepiece.model"))
            return lambda text: list(pieces.encode(text))
        first, unknown = self.about["first_symbol"], self.about["UNK"]
        ids = {symbol: id for id, symbol in enumerate(vocabulary["symbols"], start=first)}
        is_tokens = vocabulary["kind"] == "tokens"
        return lambda text: [ids.get(s, unknown) for s in (text.split() if is_tokens else text)]

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Of each label for each text, `[n, K]`."""
        # A row ends with EOS, or is cut and then has none.
        rows = [[*self.encode(text), self.about["EOS"]] for text in texts]
        rows = [row[: self.about["max_length"]] for row in rows]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        x = np.zeros((len(rows), lengths.max()), dtype=np.int64)
        for row, ids in zip(x, rows, strict=True):
            row[: len(ids)] = ids
        found: NDArray[np.float32] = self.session.run(None, {"x": x, "lengths": lengths})[0]
        return found


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    """Print a label and its probability for each text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("texts", nargs="+", metavar="TEXT")
    arguments = parser.parse_args()
    classifier = OnnxClassifier(arguments.folder)
    for row in classifier.probabilities(arguments.texts):
        print(f"{classifier.labels[row.argmax()]}\t{row.max():.4f}")


if __name__ == "__main__":
    main()
