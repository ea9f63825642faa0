"""What the examples in docstrings find: `seqssvae`, and the `run` and `data` of a small model."""

import json
import os
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch

# No deadline: a busy machine is no failure. `make test` tries the same cases each time, `make fuzz`
# new ones and 20 times as many.
hypothesis.settings.register_profile("quick", deadline=None, derandomize=True)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=2000)
_phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)  # mutants need no least example
hypothesis.settings.register_profile("unshrunk", deadline=None, derandomize=True, phases=_phases)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(autouse=True)
def _doctest_names(request: pytest.FixtureRequest, doctest_namespace: dict[str, Any]) -> None:
    if isinstance(request.node, pytest.DoctestItem):
        run, data = request.getfixturevalue("small_run")
        import seqssvae

        doctest_namespace.update(seqssvae=seqssvae, run=run, data=data)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A trained model of "ab", "aab", "abab", ... and "cd", ..., and the file of its rows."""
    import seqssvae
    from seqssvae.overrides import override

    folder = tmp_path_factory.mktemp("small")
    data = folder / "data.jsonl"
    rows = [
        {"text": part[0] * copy + part * times, "label": label, "id": f"{label}{times}{copy}"}
        for part, label in (("ab", "left"), ("cd", "right"))
        for times in range(1, 6)
        for copy in range(4)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = override(
        seqssvae.Config(),
        {
            "data.vocabulary": "characters",
            "model.embedding_size": 8,
            "model.encoder_size": 8,
            "model.decoder_size": 8,
            "model.latent_size": 2,
            "objective.kl_warmup_steps": 10,
            "training.num_steps": 100,
            "training.evaluate_every": 30,
            "training.learning_rate": 0.02,
            "training.num_threads": 1,
        },
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        seqssvae.fit(config, data, folder / "run")
    finally:
        torch.set_default_dtype(before)
    return folder / "run", data
