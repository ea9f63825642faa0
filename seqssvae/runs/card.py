"""The model card of a run for the Hugging Face hub: `templates/card.md` filled in."""

from pathlib import PurePath
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from seqssvae.data.corpus import SEPARATOR
from seqssvae.data.tables import HUB_PREFIX
from seqssvae.runs.run import RunContents

TAGS = ["semi-supervised", "variational-autoencoder", "sequences", "pyro"]
METRIC_NAMES = {  # in the table of the card
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "calibration_error": "calibration error",
    "elbo": "ELBO, nats per sequence",
    "nll": "NLL (importance-weighted), nats per sequence",
    "nats_per_symbol": "NLL, nats per symbol",
    "kl": "KL of z, nats",
    "active_units": "active dims of z",
}
MAX_LABELS = 50  # in the card


def shared_manifest(manifest: dict[str, Any]) -> dict[str, Any]:
    """What is published of a run's manifest: no folder of this machine, no checksum of the rows."""
    source = str(manifest.get("source", "unknown"))
    summary = manifest.get("summary") or {}
    return {
        "source": SEPARATOR.join(
            one if one.startswith(HUB_PREFIX) else PurePath(one).name
            for one in source.split(SEPARATOR)
        ),
        "summary": {key: value for key, value in summary.items() if key != "run"},
        **{key: value for key, value in manifest.items() if key in ("versions", "held_out")},
    }


def write_card(contents: RunContents) -> ModelCard:
    """The card of a run, its metadata included; of the manifest it reads source and summary.

    Where the labels of dev rows were learned after training, the metrics are those of a classifier
    that was replaced: the text says so, and the metadata has none.
    """
    summary = contents.manifest.get("summary") or {}
    dev = {key: value for key, value in (summary.get("dev") or {}).items() if value is not None}
    source = str(contents.manifest.get("source", "unknown"))
    dev_learned = bool(summary.get("dev_labels_learned"))
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type="held-out",
            dataset_name=f"{source}, labelled rows held out",
            metric_type=kind,
            metric_value=dev[key],
        )
        for key, kind in (("accuracy", "accuracy"), ("macro_f1", "f1"))
        if key in dev and not dev_learned
    ]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("seqssvae.runs"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = environment.get_template("card.md").render(
        data=ModelCardData(
            library_name="seqssvae",
            tags=TAGS,
            pipeline_tag="text-classification" if contents.labels.names else None,
            model_name=f"SS-VAE of {source}",
            eval_results=results or None,
        ),
        source=source,
        summary=summary,
        dev=dev,
        dev_learned=dev_learned,
        metrics={name: dev[key] for key, name in METRIC_NAMES.items() if key in dev},
        vocabulary=contents.vocabulary,
        labels=contents.labels.names,
        max_labels=MAX_LABELS,
        max_length=contents.config.data.max_length,
        whole_length=contents.config.whole_length,
    )
    return ModelCard(text)
