"""Runs on the Hugging Face hub: the files of a run, and a model card beside them."""

import dataclasses
import shutil
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from seqssvae.errors import InputError
from seqssvae.runs.run import RunContents, load_run, save_run
from seqssvae.storage.checksums import SUMS
from seqssvae.storage.files import line_of, write_atomically

FILES = [SUMS, "*.json", "*.safetensors", "sentencepiece.model"]  # none that could run code
CARD = "README.md"


class Pretrained(ABC):
    """Saves, pushes and loads a run; subclasses convert from and to its contents."""

    @abstractmethod
    def to_contents(self) -> RunContents:
        """Contents of a run's folder, without the ids of the rows."""

    @classmethod
    @abstractmethod
    def from_contents(cls, contents: RunContents, where: str, device: str) -> Self:
        """The model of a run on a device; `where` is named in errors."""

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model and a model card, README.md, into a folder, as for the hub.

        An older README.md there is kept. Neither ids of the training rows nor folders of this
        machine are written.

        Raises:
            InputError: the folder cannot be written to.
        """
        from seqssvae.runs.card import shared_manifest, write_card  # takes a second to import

        folder, contents = Path(folder), self.to_contents()
        manifest = shared_manifest(contents.manifest)
        contents = dataclasses.replace(contents, split={}, manifest=manifest)
        save_run(folder, contents)
        if not (folder / CARD).exists():
            write_atomically(folder / CARD, str(write_card(contents)).encode())

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        commit_message: str = "A model of seqssvae",
    ) -> str:
        """Put what `save_pretrained` writes on the Hugging Face hub.

        Args:
            name: "OWNER/NAME".
            private: Whether a new repository is private; None is the owner's default.
            token: Access token; that of `hf auth login` when None.
            branch: Branch to commit to; "main" when None.
            commit_message: Message of the commit.

        Returns:
            The commit's address.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        repository = api.create_repo(name, private=private, exist_ok=True).repo_id
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message=commit_message,
                revision=branch,
            )

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        device: str = "auto",
    ) -> Self:
        """Load a model of the hub, or a folder that `save_pretrained` or training wrote.

        Args:
            name: "OWNER/NAME" or a folder.
            revision: A branch, tag or commit of the hub; "main" when None.
            token: Access token; that of `hf auth login` when None.
            cache_dir: Folder of downloads; the hub's own cache when None.
            local_files_only: Look in the cache alone.
            device: Where the model runs: "auto", "cpu", "cuda" or "mps".

        Raises:
            InputError: no such model, or one that is damaged, or has an unknown setting.
        """
        if Path(name).is_dir():
            return cls.from_contents(load_run(Path(name), check_weights=True), str(name), device)
        from huggingface_hub import snapshot_download

        try:
            snapshot = snapshot_download(
                str(name),
                revision=revision,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                token=token,
                allow_patterns=FILES,
            )
        except Exception as error:  # of many kinds: network, access, cache, name
            got = f"{type(error).__name__}: {line_of(error)}"
            raise InputError(f"{name}: wanted a folder or a model of the hub, got {got}") from error
        with tempfile.TemporaryDirectory() as folder:  # files of the cache are links
            for path in Path(snapshot).iterdir():
                if path.is_file():
                    shutil.copyfile(path, Path(folder) / path.name)
            return cls.from_contents(load_run(Path(folder), check_weights=True), str(name), device)
