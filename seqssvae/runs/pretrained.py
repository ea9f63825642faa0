"""What can be saved for the Hugging Face hub, pushed to it, and loaded from it."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Self

from seqssvae.runs.run import RunContents

if TYPE_CHECKING:
    from seqssvae.runs.hub import SharedRun


class Pretrained(ABC):
    """Saves, pushes and loads a run; subclasses convert from and to its contents."""

    @abstractmethod
    def to_contents(self) -> RunContents:
        """What a run's folder holds, without the ids of the rows."""

    @classmethod
    @abstractmethod
    def from_contents(cls, contents: RunContents, where: str) -> Self:
        """The model of a run; `where` is named in errors."""

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model and a model card, README.md, into a folder, as for the hub.

        An older README.md there is kept. Ids of the training rows are not written.

        Raises:
            InputError: the folder cannot be written to.
        """
        self._shared().save_pretrained(folder)

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
            private: Of a new repository; None is the owner's default.
            token: That of `hf auth login` when None.
            branch: "main" when None.
            commit_message: Of the commit.

        Returns:
            The commit's address.
        """
        url: str = self._shared().push_to_hub(
            name, private=private, token=token, branch=branch, commit_message=commit_message
        )
        return url

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Load a model of the hub, or a folder that `save_pretrained` or training wrote.

        Args:
            name: "OWNER/NAME" or a folder.
            revision: A branch, tag or commit of the hub; "main" when None.
            token: That of `hf auth login` when None.
            cache_dir: The hub's own cache when None.
            local_files_only: Look in the cache alone.

        Raises:
            InputError: no such model, or one that is damaged, or has a setting that is not known.
        """
        from seqssvae.runs.hub import load_shared

        contents = load_shared(
            name,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        return cls.from_contents(contents, str(name))

    def _shared(self) -> "SharedRun":
        from seqssvae.runs.hub import SharedRun  # the hub's client takes a second to import

        return SharedRun(self.to_contents())
