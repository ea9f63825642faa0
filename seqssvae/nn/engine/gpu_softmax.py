"""The softmax of `softmax.c` on a GPU, in Triton, which comes with PyTorch's CUDA builds."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 2048  # logits of a row that are read at once
LOWEST = tl.constexpr(-1e30)  # in place of logits that do not exist; -inf less -inf is no number
ELEMENTS = 2048  # logits that a program reads at once, of several rows where these are short


@triton.jit
def _log_softmax(
    logits, table, classes, targets, upstream, log_share, log_rest, log_prob, n, size: tl.constexpr,
    has_table: tl.constexpr, has_upstream: tl.constexpr, has_mixture: tl.constexpr,
    rows: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
    exists = row < n
    x = logits + row * size
    target = tl.load(targets + row, mask=exists, other=0)
    chosen = tl.load(x + target, mask=exists, other=0.0).to(tl.float32)
    if has_table:
        more = table + tl.load(classes + row, mask=exists, other=0) * size
        chosen += tl.load(more + target, mask=exists, other=0.0).to(tl.float32)
    largest = tl.full([rows], LOWEST, tl.float32)
    total = tl.zeros([rows], tl.float32)
    for start in range(0, size, block):
        column = start + tl.arange(0, block)
        mask = exists[:, None] & (column < size)[None, :]
        part = tl.load(x[:, None] + column[None, :], mask=mask, other=LOWEST)
        part = part.to(tl.float32)
        if has_table:
            part += tl.load(more[:, None] + column[None, :], mask=mask, other=0.0).to(tl.float32)
        now = tl.maximum(largest, tl.max(part, 1))
        total = total * tl.exp(largest - now) + tl.sum(tl.exp(part - now[:, None]), 1)
        largest = now
    value = chosen - largest - tl.log(total)
    tl.store(log_prob + row, value, mask=exists)
    if has_upstream:
        given = tl.load(upstream + row, mask=exists, other=0.0)
        if has_mixture:
            share = tl.load(log_share + row, mask=exists, other=0.0)
            rest = tl.load(log_rest + row, mask=exists, other=0.0)
            given = given * tl.sigmoid(share + value - rest)
        scale = given / total
        for start in range(0, size, block):
            column = start + tl.arange(0, block)
            mask = exists[:, None] & (column < size)[None, :]
            where = x[:, None] + column[None, :]
            part = tl.load(where, mask=mask, other=LOWEST).to(tl.float32)
            if has_table:
                part += tl.load(more[:, None] + column[None, :], mask=mask, other=0.0).to(
                    tl.float32
                )
            gradient = -scale[:, None] * tl.exp(part - largest[:, None])
            gradient += tl.where(column[None, :] == target[:, None], given[:, None], 0.0)
            tl.store(where, gradient.to(logits.dtype.element_ty), mask=mask)


def log_softmax(
    logits: Tensor,
    table: Tensor | None,
    classes: Tensor | None,
    targets: Tensor,
    upstream: Tensor | None,
    log_share: Tensor | None = None,
    log_rest: Tensor | None = None,
) -> Tensor:
    """As `Kernels.log_softmax`, for logits of 16 or 32 bits, in float32."""
    num_rows, size = logits.shape
    log_prob = torch.empty(num_rows, device=logits.device)
    block = min(BLOCK, triton.next_power_of_2(size))
    rows = max(1, ELEMENTS // block)
    if num_rows:
        _log_softmax[(triton.cdiv(num_rows, rows),)](
            logits, table, classes, targets, upstream, log_share, log_rest, log_prob,
            num_rows, size, table is not None, upstream is not None, log_share is not None,
            rows, block,
        )  # fmt: skip
    return log_prob
