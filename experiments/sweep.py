"""A search over settings with Optuna, judged on held-out training rows.

    python experiments/sweep.py --data rows.jsonl --trials 30 --out best.yaml
    seqssvae train --data rows.jsonl --config best.yaml --out runs/best

Each trial trains one model; one that is behind the median of the others at the same step is
stopped. The rows are read once. With `--storage sqlite:///sweep.db` a search goes on where it was
left, and several processes share it. Needs `pip install 'seqssvae[sweep]'`.
"""

import argparse
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import yaml

from seqssvae.config import Config, load_config, override, to_mapping
from seqssvae.data.prepare import Prepared, prepare
from seqssvae.model.build import build
from seqssvae.training.trainer import Trainer


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """The settings of a trial; this is what you will want to change."""
    return {
        "training.learning_rate": trial.suggest_float("learning_rate", 5e-4, 1e-2, log=True),
        "model.latent_size": trial.suggest_categorical("latent_size", [2, 8, 32]),
        "model.encoder_size": trial.suggest_categorical("encoder_size", [64, 128, 256]),
        "model.word_dropout": trial.suggest_float("word_dropout", 0.0, 0.5),
        "objective.w": trial.suggest_float("w", 0.01, 1.0, log=True),
        "objective.free_bits": trial.suggest_float("free_bits", 0.0, 1.0),
    }


def run_trial(trial: optuna.Trial, config: Config, prepared: Prepared, by: str) -> float:
    """Train with a trial's settings.

    Args:
        trial: Where the settings come from and the figures go to.
        config: All other settings.
        prepared: The rows.
        by: The figure to maximise: "accuracy", "macro_f1", "elbo", ...

    Returns:
        The figure of the weights that were kept.
    """
    config = override(config, suggest(trial))

    def report(record: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        if record[by] is not None:
            trial.report(float(record[by]), int(record["step"]))
        if trial.should_prune():
            raise optuna.TrialPruned

    trainer = Trainer(config, build(config, prepared), prepared, on_evaluation=report)
    figures = trainer.train().figures
    return float(figures[by]) if figures[by] is not None else -math.inf


def main() -> None:
    """Search, print the best trials, write the best settings."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--config", type=Path, help="settings to start from")
    parser.add_argument("--by", default="elbo", help="the figure to maximise")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--storage", help="an address that Optuna takes; in memory without it")
    parser.add_argument("--out", type=Path, default=Path("best.yaml"))
    arguments = parser.parse_args()
    logging.getLogger("seqssvae").setLevel(logging.ERROR)
    config = Config() if arguments.config is None else load_config(arguments.config)
    prepared = prepare(config, arguments.data)
    study = optuna.create_study(
        study_name="seqssvae",
        storage=arguments.storage,
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=arguments.seed),
        pruner=optuna.pruners.MedianPruner(n_warmup_steps=config.objective.kl_warmup_steps),
    )
    study.optimize(
        lambda trial: run_trial(trial, config, prepared, arguments.by), n_trials=arguments.trials
    )
    finished = [trial for trial in study.trials if trial.value is not None]
    for trial in sorted(finished, key=lambda trial: -(trial.value or 0.0))[:5]:
        print(f"{arguments.by} {trial.value:.4f}  {trial.params}")
    best = override(config, suggest(optuna.trial.FixedTrial(study.best_params)))  # type: ignore[arg-type]
    arguments.out.write_text(yaml.safe_dump(to_mapping(best), sort_keys=False), encoding="utf-8")
    print(f"the settings of the best of {len(study.trials)} trials: {arguments.out}")


if __name__ == "__main__":
    main()
