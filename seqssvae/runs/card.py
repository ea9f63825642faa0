"""The model card of a run for the Hugging Face hub: data, labels, figures and limits."""

from pathlib import PurePath
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from seqssvae.runs.run import RunContents

LIBRARY = "seqssvae"
TAGS = ["semi-supervised", "variational-autoencoder", "sequences", "pyro"]
FIGURES = {  # in the table of the card
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "calibration_error": "calibration error",
    "elbo": "ELBO, nats per sequence",
    "nll": "NLL (importance-weighted), nats per sequence",
    "nats_per_symbol": "NLL, nats per symbol",
    "kl": "KL of z, nats",
    "active_units": "active dims of z",
}
MOST_LABELS = 50  # that the card lists


def shared_manifest(manifest: dict[str, Any]) -> dict[str, Any]:
    """What others may know of a run: no folder of this machine, no digest of the rows."""
    shared: dict[str, Any] = {
        key: manifest[key] for key in ("source", "versions") if key in manifest
    }
    source = str(shared.get("source", "unknown"))
    shared["source"] = source if source.startswith("hub:") else PurePath(source).name
    summary = manifest.get("summary") or {}
    shared["summary"] = {key: value for key, value in summary.items() if key != "run"}
    return shared


def write_card(contents: RunContents) -> ModelCard:
    """The card of a run, its metadata included.

    Args:
        contents: The run; of its manifest `source` and `summary` are read where they are there.
    """
    summary = contents.manifest.get("summary") or {}
    dev = {key: value for key, value in (summary.get("dev") or {}).items() if value is not None}
    source = str(contents.manifest.get("source", "unknown"))
    data = ModelCardData(
        library_name=LIBRARY,
        tags=TAGS,
        pipeline_tag="text-classification" if contents.labels.names else None,
        model_name=f"SS-VAE of {source}",
        eval_results=[
            EvalResult(
                task_type="text-classification",
                dataset_type="held-out",
                dataset_name=f"{source}, labelled rows held out",
                metric_type=kind,
                metric_value=dev[key],
            )
            for key, kind in (("accuracy", "accuracy"), ("macro_f1", "f1"))
            if key in dev
        ]
        or None,
    )
    sections = [
        f"# {data.model_name}",
        "A semi-supervised variational autoencoder over sequences, made with seqssvae. It labels "
        "sequences, writes new ones of a label, and places them in a latent space.",
        _usage(contents),
        _data(contents, source, summary),
        _labels(contents),
        _metrics(dev),
        _limits(contents, summary, dev),
    ]
    text = "\n\n".join(section for section in sections if section)
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}\n")


def _usage(contents: RunContents) -> str:
    sequence = '[["a", "b"]]' if contents.vocabulary.kind == "tokens" else '["a new sequence"]'
    calls = [f"model.encode({sequence})"]
    if contents.labels.names:
        label = contents.labels.names[0]
        calls = [f"model.classify({sequence})", f"model.generate({label!r}, 5)", *calls]
    lines = ["import seqssvae", "", 'model = seqssvae.TrainedModel.from_pretrained("OWNER/NAME")']
    code = "\n".join([*lines, *calls])
    return f"## Use\n\n```python\n{code}\n```"


def _data(contents: RunContents, source: str, summary: dict[str, Any]) -> str:
    facts = [f"Source: `{source}`"]
    for key, words in (
        ("num_labelled", "training rows with a label"),
        ("num_unlabelled", "training rows without one"),
    ):
        if key in summary:
            facts.append(f"{summary[key]} {words}")
    facts.append(f"{len(contents.vocabulary)} symbols ({contents.vocabulary.kind})")
    return "## Data\n\n" + "\n".join(f"- {fact}" for fact in facts)


def _labels(contents: RunContents) -> str:
    names = contents.labels.names
    if not names:
        return "## Labels\n\nNone: a plain VAE, which does not classify."
    shown = ", ".join(f"`{name}`" for name in names[:MOST_LABELS])
    rest = f", and {len(names) - MOST_LABELS} more" if len(names) > MOST_LABELS else ""
    return f"## Labels\n\n{len(names)}: {shown}{rest}"


def _metrics(dev: dict[str, Any]) -> str:
    lines = [f"| {words} | {dev[key]:.4g} |" for key, words in FIGURES.items() if key in dev]
    if not lines:
        return "## Metrics\n\nNone were recorded."
    head = f"On {dev.get('num_rows', 'the')} held-out rows, of which {dev.get('num_labelled', 0)}"
    table = "\n".join(["| | |", "| --- | --: |", *lines])
    return f"## Metrics\n\n{head} have a label:\n\n{table}"


def _limits(contents: RunContents, summary: dict[str, Any], dev: dict[str, Any]) -> str:
    longest = contents.config.data.max_length
    limits = [f"Sequences are read up to {longest} symbols, their end included."]
    if contents.vocabulary.kind != "sentencepiece":
        limits.append("Symbols that the training rows had not are all read as one, unknown.")
    if contents.labels.names:
        limits.append("Every sequence gets one of the labels, whatever it is.")
    if "accuracy" in dev:
        limits.append(
            "Early stopping chose the weights on the held-out labelled rows: the figures above "
            "are somewhat too good."
        )
    limits.append("What it writes may repeat training rows, and their biases.")
    limits += [str(warning) for warning in summary.get("warnings", [])]
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)
