"""The parameters and buffers of a module with their names, and their memory."""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastinit.torch.internals import replace_tensors
from fastinit.torch.sharding import is_dtensor

# Parts of names that wrappers of modules add.
WRAPPERS = re.compile(r"(?:_orig_mod|_checkpoint_wrapped_module)\.")


@dataclass(slots=True)
class Entry:
    """A parameter or buffer of a module, with all of its names.

    ``names`` holds all of its names. ``places`` holds the modules and attributes that hold it; the
    first place is that of ``name``, the first of its names in alphabetical order.
    """

    name: str
    tensor: Tensor
    is_parameter: bool
    names: list[str]
    places: list[tuple[nn.Module, str]]

    @property
    def owner(self) -> nn.Module:
        """The module of the first place."""
        return self.places[0][0]

    @property
    def key(self) -> str:
        """The attribute of the first place."""
        return self.places[0][1]


def entries_of(module: nn.Module, prefix: str) -> list[Entry]:
    """Return the parameters and buffers of a module, each once."""
    found: dict[int, Entry] = {}
    for path, part in module.named_modules(remove_duplicate=False):
        before = f"{prefix}{path}." if path else prefix
        for is_parameter, tensors in ((True, part._parameters), (False, part._buffers)):
            for key, tensor in tensors.items():
                if tensor is None:
                    continue
                name = before + key
                if "._" in name or name[0] == "_":
                    name = WRAPPERS.sub("", name)
                place = (part, key)
                entry = found.get(id(tensor))
                if entry is None:
                    found[id(tensor)] = Entry(name, tensor, is_parameter, [name], [place])
                    continue
                entry.names.append(name)
                if name < entry.name:
                    entry.name = name
                    entry.places.insert(0, place)
                else:
                    entry.places.append(place)
    return list(found.values())


def materialise(module: nn.Module, entries: list[Entry], device: torch.device | str | None) -> None:
    """Give meta tensors memory, and keep those shared that were."""
    if not any(entry.tensor.is_meta for entry in entries):
        return
    made: dict[int, Tensor] = {}

    def real(tensor: Any) -> Tensor:
        if not tensor.is_meta:
            return tensor  # type: ignore[no-any-return]
        if id(tensor) not in made:
            place = device
            if place is None:
                place = tensor.device_mesh.device_type if is_dtensor(tensor) else "cpu"
            made[id(tensor)] = torch.empty_like(tensor, device=place)
        return made[id(tensor)]

    replace_tensors(module, real)
    for entry in entries:
        if entry.tensor.is_meta:
            owner, key = entry.places[0]
            entry.tensor = getattr(owner, key)
            for other, name in entry.places[1:]:
                if getattr(other, name) is not entry.tensor:
                    setattr(other, name, entry.tensor)
