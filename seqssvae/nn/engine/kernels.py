"""Kernels in C for a CPU, compiled once if the machine has a compiler, and in Triton for a GPU.

They do what torch's operations do, in fewer passes over memory and without a call for each step.
Without a compiler, on other systems than Linux and for other dtypes than float32 torch's operations
run on a CPU; on a GPU the softmax alone has a kernel, for 16 and 32 bits. `SEQSSVAE_KERNELS=off` in
the environment switches kernels off.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

SOURCES = sorted(Path(__file__).parent.glob("*.[ch]"))
# A NaN must stay a NaN, and exp needs its sums in their order: no -ffast-math.
FLAGS = (
    "-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math",
    "-ffp-contract=fast", "-fopenmp-simd", "-shared", "-fPIC",
    *(["-mprefer-vector-width=512"] if platform.machine() == "x86_64" else []),
)  # fmt: skip
THREADS = "-fopenmp"  # links to the library that torch has loaded
SECONDS = 120  # timeout of the compiler
GPU_DTYPES = (torch.float32, torch.bfloat16, torch.float16)  # of the kernel in Triton


def kernels_for(*tensors: Tensor) -> "Kernels | None":
    """The kernels, or None if they are unavailable or not for these tensors."""
    for tensor in tensors:
        if tensor.device.type != "cpu" or tensor.dtype != torch.float32:
            return None
    return _kernels()


def softmax_for(*tensors: Tensor) -> Callable[..., Tensor] | None:
    """`Kernels.log_softmax` for these tensors, in C or Triton; None if there is no kernel."""
    if all(tensor.is_cuda and tensor.dtype in GPU_DTYPES for tensor in tensors):
        return _gpu_softmax()
    kernels = kernels_for(*tensors)
    return None if kernels is None else kernels.log_softmax


class Kernels:
    """The functions of `recurrent.c` and `softmax.c`.

    All tensors are contiguous and on the CPU; indices are int64, all others float32. Nothing is
    checked.

    Args:
        library: The compiled sources.
        blas: A library with the Fortran BLAS.

    Raises:
        AttributeError: `blas` has no `sgemm_`.
    """

    def __init__(self, library: ctypes.CDLL, blas: ctypes.CDLL) -> None:
        self._library, self._blas = library, blas
        self._sgemm = ctypes.cast(blas.sgemm_, ctypes.c_void_p)

    def run(self, name: str, num_gates: int, plan: Tensor, *tensors: Tensor | None) -> None:
        """Run a function of `recurrent.c`.

        Args:
            name: "forward" or "backward".
            num_gates: 4 for an LSTM, 3 for a GRU.
            plan: Numbers of a `blocks.Plan`, int64.
            tensors: The function's other arguments, in their order.
        """
        function = getattr(self._library, name)
        function(self._sgemm, ctypes.c_int(num_gates), *map(_pointer, (plan, *tensors)))

    def log_softmax(
        self,
        logits: Tensor,
        table: Tensor | None,
        classes: Tensor | None,
        targets: Tensor,
        upstream: Tensor | None,
        log_share: Tensor | None = None,
        log_rest: Tensor | None = None,
    ) -> Tensor:
        """Log-probabilities of targets, in one thread; logits are overwritten by their gradient.

        Args:
            logits: `[M, V]`.
            table: Bias of each class, `[K, V]`, or None.
            classes: Class of each position, `[M]`, if there is a table.
            targets: `[M]`.
            upstream: Gradient of the result, `[M]`; without it the logits are undefined afterwards.
            log_share: With it, `upstream` is the gradient of the mixture's log-probability instead,
                `[M]`; see `nn.ngram_lm.Mixture`.
            log_rest: The mixture's other side, `[M]`.

        Returns:
            `[M]`.
        """
        log_prob = torch.empty_like(targets, dtype=logits.dtype)
        self._library.log_softmax(
            *map(ctypes.c_int64, logits.shape),
            *map(
                _pointer,
                (logits, table, classes, targets, upstream, log_share, log_rest, log_prob),
            ),
        )
        return log_prob


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _are_enabled() -> bool:
    return os.environ.get("SEQSSVAE_KERNELS", "on") != "off"


@functools.cache
def _gpu_softmax() -> Callable[..., Tensor] | None:
    if not _are_enabled():
        return None
    try:
        from seqssvae.nn.engine.gpu_softmax import log_softmax
    except ImportError as error:
        logger.info("Triton unavailable, using PyTorch (slower): %s", error)
        return None
    return log_softmax


@functools.cache
def _kernels() -> Kernels | None:
    try:
        compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
        if not _are_enabled() or sys.platform != "linux" or shutil.which(compiler[0]) is None:
            return None
        library = ctypes.CDLL(str(_compiled(compiler, _cache())))
        blas = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        return Kernels(library, blas)
    except (OSError, AttributeError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
        reason = " ".join(str(error).split())
        logger.info("C kernels unavailable, using PyTorch (slower): %s", reason)
        return None


def _cache() -> Path:
    """The folder of compiled kernels.

    Raises:
        PermissionError: other users can write to it.
        RuntimeError: the user has no home folder.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "seqssvae"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(f"{folder}: wanted a folder that only its owner can write to")
    return folder


def _compiled(compiler: list[str], folder: Path) -> Path:
    """The library, compiled unless `folder` has one of these sources, compiler and processor.

    Raises:
        OSError: the folder cannot be written to.
        subprocess.SubprocessError: the compiler fails.
    """
    version = subprocess.run(
        [*compiler, "--version"], capture_output=True, check=True, timeout=SECONDS
    ).stdout
    key = hashlib.sha256()
    flags = " ".join((*compiler[1:], *FLAGS, THREADS)).encode()
    for part in (*(path.read_bytes() for path in SOURCES), flags, version, _processor()):
        key.update(hashlib.sha256(part).digest())
    library = folder / f"kernels-{key.hexdigest()[:32]}.so"
    checksum = library.with_suffix(".sha256")
    if not _is_whole(library, checksum):
        with tempfile.TemporaryDirectory(dir=folder) as beside:
            made = Path(beside) / library.name
            sources = [str(path) for path in SOURCES if path.suffix == ".c"]
            command = [*compiler, *FLAGS, *sources, "-o", str(made), "-lm"]
            run = functools.partial(subprocess.run, capture_output=True, timeout=SECONDS)
            if run([*command, THREADS]).returncode:  # a compiler may have no OpenMP
                run(command, check=True)
            sum_made = made.with_suffix(".sha256")
            sum_made.write_text(hashlib.sha256(made.read_bytes()).hexdigest())
            made.replace(library)
            sum_made.replace(checksum)
    return library


def _is_whole(library: Path, checksum: Path) -> bool:
    """Whether a library is as it was compiled: to use a truncated one is a bus error."""
    try:
        return checksum.read_text() == hashlib.sha256(library.read_bytes()).hexdigest()
    except (OSError, UnicodeDecodeError):
        return False


def _processor() -> bytes:
    """What `-march=native` depends on: machines may share a home folder."""
    lines = {platform.machine()}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "flags", "Features", "CPU part")):
            lines.add(line)
    return "\n".join(sorted(lines)).encode()
