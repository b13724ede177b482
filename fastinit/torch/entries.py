"""The parameters and buffers of a module with their names, and their memory."""

import re
from collections.abc import Iterable
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
    """A parameter or buffer of a module.

    ``places`` holds its names, and the modules and attributes that hold it, the first name in
    alphabetical order first.
    """

    tensor: Tensor
    is_parameter: bool
    places: list[tuple[str, nn.Module, str]]

    @property
    def name(self) -> str:
        """The name of the first place."""
        return self.places[0][0]

    @property
    def owner(self) -> nn.Module:
        """The module of the first place."""
        return self.places[0][1]

    @property
    def key(self) -> str:
        """The attribute of the first place."""
        return self.places[0][2]


def entries_of(parts: Iterable[tuple[str, nn.Module]], prefix: str) -> list[Entry]:
    """Return the parameters and buffers of a module, each once, from its named modules."""
    found: dict[int, Entry] = {}
    for path, part in parts:
        before = f"{prefix}{path}." if path else prefix
        for is_parameter, tensors in ((True, part._parameters), (False, part._buffers)):
            for key, tensor in tensors.items():
                if tensor is None:
                    continue
                name = before + key
                if "._" in name or name[0] == "_":
                    name = WRAPPERS.sub("", name)
                entry = found.get(id(tensor))
                if entry is None:
                    found[id(tensor)] = Entry(tensor, is_parameter, [(name, part, key)])
                else:
                    first = name < entry.name
                    entry.places.insert(0 if first else len(entry.places), (name, part, key))
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
            entry.tensor = getattr(entry.owner, entry.key)
            for _, other, key in entry.places[1:]:
                if getattr(other, key) is not entry.tensor:
                    setattr(other, key, entry.tensor)
