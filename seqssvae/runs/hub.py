"""Runs on the Hugging Face hub, by its mixin: the files of a run, and a model card beside them."""

import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar, Self

from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download

from seqssvae.errors import InputError
from seqssvae.model.build import meta_weights
from seqssvae.runs.card import shared_manifest, write_card
from seqssvae.runs.run import RunContents, load_run, save_run
from seqssvae.storage.checksums import SUMS

FILES = [SUMS, "*.json", "*.safetensors", "sentencepiece.model"]  # none that could run code


class SharedRun(ModelHubMixin, library_name="seqssvae"):
    """A run that is saved with a model card, and loaded from a folder or from the hub.

    What is shared tells neither the ids of the rows nor folders of this machine.

    Args:
        contents: The run.
    """

    # Not None, so that the mixin does not make a configuration of the constructor's arguments.
    _hub_mixin_config: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]

    def __init__(self, contents: RunContents) -> None:
        manifest = shared_manifest(contents.manifest)
        self.contents = dataclasses.replace(contents, split={}, manifest=manifest)

    def _save_pretrained(self, save_directory: Path) -> None:
        save_run(save_directory, self.contents)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **model_kwargs: Any,
    ) -> Self:
        if model_kwargs:
            raise TypeError(f"from_pretrained: unknown arguments {sorted(model_kwargs)}")
        if Path(model_id).is_dir():
            return cls(load_run(Path(model_id), make_weights=meta_weights))
        snapshot = snapshot_download(
            model_id,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
            allow_patterns=FILES,
        )
        with tempfile.TemporaryDirectory() as folder:  # the cache is made of links
            for path in Path(snapshot).iterdir():
                if path.is_file():
                    shutil.copyfile(path, Path(folder) / path.name)
            return cls(load_run(Path(folder), make_weights=meta_weights))

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card that stands in the folder as README.md; the mixin's arguments are not read."""
        return write_card(self.contents)


def load_shared(
    name: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> RunContents:
    """What a model of the hub, or a folder, holds; arguments as in `TrainedModel.from_pretrained`.

    Raises:
        InputError: it cannot be had, or is no run of ours.
    """
    try:
        shared = SharedRun.from_pretrained(
            name,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
    except InputError:
        raise
    except Exception as error:  # whatever a hub or a cache may raise
        got = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{name}: wanted a folder or a model of the hub, got {got}") from error
    return shared.contents
