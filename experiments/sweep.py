"""Search for good settings with Optuna, scored on held-out training rows.

    python experiments/sweep.py --data rows.jsonl --trials 30 --out best.yaml
    seqssvae train --data rows.jsonl --config best.yaml --out runs/best

Each trial trains one model, and is pruned if it is worse than the median of the earlier trials at
the same step. The rows are read once. With `--storage sqlite:///sweep.db` the same command resumes
a search, and several processes can share it. Requires `pip install optuna`.
"""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import yaml

from seqssvae.cli.parser import Parser
from seqssvae.cli.settings import load_config
from seqssvae.compare.compare import limit_minutes
from seqssvae.config import Config
from seqssvae.data.prepare import Prepared, prepare
from seqssvae.overrides import override, to_mapping
from seqssvae.training.fit import train


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """The settings of a trial; change this function to search other settings."""
    return {
        "training.learning_rate": trial.suggest_float("learning_rate", 5e-4, 1e-2, log=True),
        "model.latent_size": trial.suggest_categorical("latent_size", [2, 8, 32]),
        "model.encoder_size": trial.suggest_categorical("encoder_size", [64, 128, 256]),
        "model.word_dropout": trial.suggest_float("word_dropout", 0.0, 0.5),
        "objective.w": trial.suggest_float("w", 0.01, 1.0, log=True),
        "objective.free_bits": trial.suggest_float("free_bits", 0.0, 1.0),
    }


def run_trial(trial: optuna.Trial, config: Config, prepared: Prepared, by: str) -> float:
    """Train with the settings of a trial.

    Args:
        trial: The Optuna trial that suggests settings and receives the metric.
        config: All other settings.
        prepared: The rows.
        by: The metric to maximise: "accuracy", "macro_f1", "elbo", ...

    Returns:
        The metric of the best weights.
    """
    config = override(config, suggest(trial))

    def report(record: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        if record[by] is not None:
            trial.report(float(record[by]), int(record["step"]))
        if trial.should_prune():
            raise optuna.TrialPruned

    metrics = train(config, prepared, on_evaluation=report).progress.metrics
    return float(metrics[by]) if metrics[by] is not None else -math.inf


def main() -> None:
    """Search, print the best trials and write the best settings."""
    parser = Parser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="file of training rows")
    parser.add_argument("--config", type=Path, help="YAML file with all other settings")
    parser.add_argument("--by", default="elbo", help="metric to maximise")
    parser.add_argument("--trials", type=int, default=30, help="number of trials")
    parser.add_argument("--seed", type=int, default=0, help="seed of the search")
    parser.add_argument("--storage", help="storage URL of Optuna (default: in memory)")
    parser.add_argument("--out", type=Path, default=Path("best.yaml"), help="output file")
    arguments = parser.parse_args()
    logging.getLogger("seqssvae").setLevel(logging.ERROR)
    config = limit_minutes(Config() if arguments.config is None else load_config(arguments.config))
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
    print(f"settings of the best of {len(study.trials)} trials written to {arguments.out}")


if __name__ == "__main__":
    main()
