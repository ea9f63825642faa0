"""Vectors of rows by a pretrained model of `transformers`, for `seqssvae train --vectors`.

    python data/embed.py --data reviews.jsonl --model MiniLM --out reviews.npy

The model is a folder with its weights and its tokenizer, as `save_pretrained` writes it, or the
name of one that was downloaded before; with --download it may be fetched from the hub. A row's
vector is the mean of the last states of its symbols, or that of the first one with --pooling
first, divided by its length unless --keep-length is given. Tokens are joined by --join; --spaces
puts a space between characters, as some protein models want it.

Output: a .npy file, float32, with a vector for each row, in the order in which `seqssvae` reads the
rows of --data.
"""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seqssvae import devices, progress
from seqssvae.cli.parser import Parser
from seqssvae.cli.settings import add_rows
from seqssvae.data.columns import ColumnChoice
from seqssvae.data.corpus import read_corpus
from seqssvae.errors import InputError
from seqssvae.storage.files import check_output, line_of, write_atomically

__all__ = ["embed", "load_encoder", "main"]

BATCH_ROWS, TINY = 64, 1e-12


def load_encoder(name: str, *, download: bool, device: torch.device) -> tuple[Any, Any]:
    """The tokenizer and the model of a folder or a name.

    Raises:
        InputError: `transformers` is not installed, or has no such model.
    """
    try:
        import transformers
    except ImportError as error:
        wanted = "the package transformers (pip install 'seqssvae[embed]')"
        raise InputError(f"wanted {wanted}, got none") from error
    try:
        options: dict[str, Any] = {"local_files_only": not download}
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **options)
        model = transformers.AutoModel.from_pretrained(name, **options)
    except Exception as error:  # a hub, a file or a configuration may raise anything
        hint = "" if download else " (--download fetches it)"
        raise InputError(
            f"--model {name}: wanted a model of transformers{hint}, got {line_of(error):.200}"
        ) from error
    return tokenizer, model.to(device).eval()


@torch.no_grad()
def embed(
    texts: Sequence[str],
    tokenizer: Any,
    model: Any,
    *,
    pooling: str = "mean",
    max_length: int = 256,
    batch_rows: int = BATCH_ROWS,
) -> NDArray[np.float32]:
    """The vector of each text, `[n, D]`; texts of similar length are read together.

    Args:
        texts: n texts, at least one.
        tokenizer: Makes padded symbol ids of texts.
        model: Gives `last_hidden_state`, `[B, T, D]`.
        pooling: "mean" over a text's symbols, or "first".
        max_length: Symbols of a text that are read.
        batch_rows: Texts that are read at once.
    """
    order = np.argsort([len(text) for text in texts], kind="stable")
    vectors: NDArray[np.float32] | None = None
    with progress.task("rows embedded", len(texts)) as task:
        for start in range(0, len(texts), batch_rows):
            index = order[start : start + batch_rows]
            batch = tokenizer(
                [texts[row] for row in index],
                padding=True,
                truncation=True,
                max_length=max_length,
                return_tensors="pt",
            ).to(model.device)
            states = model(**batch).last_hidden_state  # [B, T, D]
            mask = batch["attention_mask"].unsqueeze(-1).to(states)
            pooled = states[:, 0] if pooling == "first" else (states * mask).sum(1) / mask.sum(1)
            if vectors is None:
                vectors = np.empty((len(texts), pooled.shape[1]), np.float32)
            vectors[index] = pooled.float().cpu().numpy()
            task.advance(len(index))
    assert vectors is not None
    return vectors


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status: 0, or 2 after a user's error."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add_rows(parser, "--data", required=True, help="rows")
    add("--text-column", metavar="NAME", help="column of the texts")
    add("--tokens-column", metavar="NAME", help="column of the token lists")
    add("--model", required=True, metavar="FOLDER|NAME", help="model of transformers")
    add("--download", action="store_true", help="fetch the model from the hub if it is not there")
    add("--pooling", choices=("mean", "first"), default="mean", help="states that make the vector")
    add("--prefix", default="", help="put before each text, as 'query: ' for E5")
    add("--join", default=" ", metavar="TEXT", help="put between the tokens of a row")
    add("--spaces", action="store_true", help="put a space between the characters of a text")
    add("--keep-length", action="store_true", help="do not divide vectors by their length")
    add("--max-length", type=int, default=256, metavar="N", help="symbols of a row that are read")
    add("--device", default="auto", help="where the model runs")
    add("--out", type=Path, required=True, metavar="FILE.npy", help="output")
    arguments = parser.parse_args(argv)
    try:
        check_output(arguments.out, "--out")
        corpus = read_corpus(
            arguments.data,
            ColumnChoice(arguments.text_column, arguments.tokens_column, read_labels=False),
        )
        join = " " if arguments.spaces else arguments.join
        are_lists = corpus.is_tokens or arguments.spaces
        texts = [
            arguments.prefix + (join.join(one) if are_lists else one) for one in corpus.sequences()
        ]
        device = devices.resolve(arguments.device)
        tokenizer, model = load_encoder(arguments.model, download=arguments.download, device=device)
        with progress.shown():
            vectors = embed(
                texts,
                tokenizer,
                model,
                pooling=arguments.pooling,
                max_length=arguments.max_length,
            )
        if not arguments.keep_length:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), TINY)
        content = io.BytesIO()
        np.save(content, vectors)
        write_atomically(arguments.out, content.getvalue())
    except InputError as error:
        parser.error(str(error))
    print(f"{arguments.out}: {vectors.shape[0]} vectors of {vectors.shape[1]} numbers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
