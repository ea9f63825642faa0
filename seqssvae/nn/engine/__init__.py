"""Loops of LSTM and GRU in C, a softmax in C or Triton, threads, reused memory.

The rest of the package imports from here alone.
"""

from seqssvae.nn.engine.blocks import Plan
from seqssvae.nn.engine.buffers import Buffer
from seqssvae.nn.engine.cells import run_cells
from seqssvae.nn.engine.kernels import kernels_for, softmax_for
from seqssvae.nn.engine.threads import num_workers, share_out

__all__ = ["Buffer", "Plan", "kernels_for", "num_workers", "run_cells", "share_out", "softmax_for"]
