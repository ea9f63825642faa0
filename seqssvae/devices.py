"""Devices: where a model runs."""

import os

import torch

from seqssvae.errors import InputError

KINDS = {"cpu": "a CPU", "cuda": "a GPU", "mps": "a GPU of Apple"}


def resolve(name: str | torch.device = "auto") -> torch.device:
    """The device of a setting or a flag.

    Args:
        name: "auto" is a GPU with CUDA if each process of this machine has one, else the CPU;
            "mps" is taken only by its name. "cuda:1" and the like are for programs.

    Raises:
        InputError: no device, or one that torch cannot use here.
    """
    if name == "auto":
        return torch.device("cuda" if _has_gpu() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in KINDS:
        raise InputError(f"device: wanted auto, {', '.join(KINDS)}, got {name!r:.40}")
    counts = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    if (device.index or 0) >= counts[device.type]:
        raise InputError(f"device: wanted {KINDS[device.type]} that torch can use, got no {name}")
    return device


def _has_gpu() -> bool:
    """Whether each process that torchrun started on this machine has a GPU of its own."""
    processes = os.environ.get("LOCAL_WORLD_SIZE", "1")
    needed = int(processes) if processes.isdecimal() else 1
    return torch.cuda.is_available() and torch.cuda.device_count() >= needed
