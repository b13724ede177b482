"""What fastinit uses of PyTorch without documentation, in one place."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

# A context without TorchFunctionMode, in which code need not call the mode for every attribute.
without_modes: Callable[[], AbstractContextManager[None]] = torch._C.DisableTorchFunction


def is_fake(tensor: Tensor) -> bool:
    """Return whether a tensor has metadata alone, although its device is not meta."""
    # Whoever made one has imported the module, which takes long.
    module = sys.modules.get("torch._subclasses.fake_tensor")
    return module is not None and isinstance(tensor, module.FakeTensor)


def versions_of(tensors: Sequence[Tensor]) -> list[int]:
    """Return for each tensor what autograd counts up with every change of it."""
    try:
        return [tensor._version for tensor in tensors]
    except RuntimeError:  # inference tensors have none
        return [0 if tensor.is_inference() else tensor._version for tensor in tensors]


def copy_each(targets: Sequence[Tensor], sources: Sequence[Tensor], non_blocking: bool) -> None:
    """Copy tensors to tensors, as PyTorch's optimisers do.

    ``copy_()`` for each takes longer than the values of a small tensor.
    """
    torch._foreach_copy_(targets, sources, non_blocking)  # type: ignore[arg-type]


def replace_tensors(module: nn.Module, replacement: Callable[[Tensor], Tensor]) -> None:
    """Replace the parameters and buffers of a module.

    Not ``to_empty()``, which would also replace tensors that are not on the meta device. Modules
    such as those of FSDP and recurrent ones override ``_apply()`` to keep their own references.
    """
    module._apply(replacement)  # type: ignore[no-untyped-call]
