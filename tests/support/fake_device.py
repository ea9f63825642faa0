"""A device that is not the CPU, on a machine without one: its name is "meta", its memory the CPU's.

Within `FakeDevice()`, tensors on "meta" hold numbers. As on a GPU, an operation on tensors of two
devices is an error, unless one of them is a number on the CPU; and reading a number on the host is
counted.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from seqssvae import devices, shapes

FAKE = torch.device("meta")
MIXED = (  # operations that take tensors of the CPU beside those of a device
    *("aten::_to_copy", "aten::copy_", "aten::_pack_padded_sequence"),
    *("aten::index", "aten::index_put_", "aten::_index_put_impl_"),  # indices of the CPU
)


class _Held(Tensor):
    """A tensor of the fake device; `inner` has its numbers."""

    inner: Any
    is_meta = False  # that it has no numbers
    has_float64 = True

    @staticmethod
    def __new__(cls, inner: Tensor) -> "_Held":
        if inner.dtype == torch.float64 and not cls.has_float64:
            raise TypeError("wanted a dtype that the device has, got float64")
        held: Any = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=FAKE,
            requires_grad=False,
        )
        held.inner = inner
        made: _Held = held
        return made

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def new_tensor(self, data: Any) -> Tensor:  # type: ignore[override]
        return torch.tensor(data, dtype=self.dtype, device=self.device)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override] # torch declares it for instances
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run an operation whose tensors are those of one device, on their numbers."""
    tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
    name = func._schema.name
    if "device" in kwargs and kwargs["device"] is not None:
        to_fake = torch.device(kwargs["device"]) == FAKE
        kwargs = {**kwargs, "device": torch.device("cpu")}
    else:
        to_fake = any(isinstance(one, _Held) for one in tensors)
    others = [one for one in tensors if not isinstance(one, _Held) and one.dim()]
    if others and any(isinstance(one, _Held) for one in tensors) and name not in MIXED:
        raise RuntimeError(f"{name}: wanted tensors of one device, got two")
    plain_args, plain_kwargs = tree_map_only(_Held, lambda one: one.inner, (args, kwargs))
    result = func(*plain_args, **plain_kwargs)
    changed = [one for one in func._schema.arguments if one.alias_info and one.alias_info.is_write]
    if changed:
        named = dict(zip((one.name for one in func._schema.arguments), args, strict=False))
        written = [{**named, **kwargs}[one.name] for one in changed]
        returned = func._schema.returns
        if len(returned) == len(written) == 1:
            return written[0]
        return written if returned else None
    if not to_fake:
        return result
    if name == "aten::_pack_padded_sequence":  # the sizes are the CPU's
        return _Held(result[0]), result[1]
    return tree_map_only(Tensor, _Held, result)


class _Unfused(torch.optim.AdamW):
    """Skips no step for a number that is not finite, which fused ones alone do."""

    found_inf = property(lambda _: None, lambda _, __: None)


class FakeDevice(TorchDispatchMode):
    """Operations may have "meta" for a device.

    Attributes:
        reads: Numbers that the host read from the device, by the function that did.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.reads: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        kwargs = kwargs or {}
        held = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, _Held)]
        to_host = name == "aten::_to_copy" and kwargs.get("device") not in (None, FAKE)
        waits = name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select")
        if held and (to_host or waits):
            self.reads[name] += 1
        return _run(func, args, kwargs)


@contextlib.contextmanager
def without_float64() -> Iterator[None]:
    """Within it, the fake device has no float64, as an Apple GPU has none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Held, "has_float64", False)
        patch.setattr(shapes, "NO_FLOAT64", (FAKE.type,))
        yield


@contextlib.contextmanager
def fake_device() -> Iterator[FakeDevice]:
    """Within it, the name "cuda" is that of the fake device, for the whole package."""
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        resolve, tensor = devices.resolve, torch.tensor
        autocast = torch.autocast
        patch.setattr(devices, "resolve", lambda name: FAKE if name == "cuda" else resolve(name))
        patch.setattr(  # torch knows the devices of its fused optimisers
            torch.optim,
            "AdamW",
            lambda *args, **options: _Unfused(*args, **{**options, "fused": False}),
        )
        enabled = torch.is_autocast_enabled
        patch.setattr(
            torch, "is_autocast_enabled", lambda kind: kind != FAKE.type and enabled(kind)
        )
        # `module.double()` makes new parameters, as setting `data` would not change `inner`
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, False)
        fork_rng = torch.random.fork_rng
        patch.setattr(torch.random, "fork_rng", lambda devices=(): fork_rng([]))
        patch.setattr(  # and those of autocast
            torch,
            "autocast",
            lambda kind, *args, **options: (
                contextlib.nullcontext() if kind == FAKE.type else autocast(kind, *args, **options)
            ),
        )
        patch.setattr(  # it makes tensors of "meta" without numbers
            torch,
            "tensor",
            lambda data, device=None, **options: tensor(data, **options).to(device),
        )
        yield stack.enter_context(FakeDevice())
