"""The table of names and parameters in docs/jax-keras.md, against the libraries themselves."""

import inspect
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
keras = pytest.importorskip("keras")

import fastinit  # noqa: E402

PAGE = Path(__file__).resolve().parents[2] / "docs" / "jax-keras.md"
LIBRARIES = {
    "torch.nn.init": torch.nn.init,
    "jax.nn.initializers": jax.nn.initializers,
    "keras.initializers": keras.initializers,
    "fastinit": fastinit,
}
# What describes initialisers, aliases, and the names that PyTorch deprecates.
ALIASES = {"Initializer", "IdentityInitializer", "OrthogonalInitializer", "STFTInitializer"}
ALIASES |= {name.removesuffix("_") for name in dir(torch.nn.init) if name.endswith("_")}


def entries():
    """Return the names of each library with the parameters that the table gives them."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    start = rows.index("| " + " | ".join(f"`{name}`" for name in LIBRARIES) + " |")
    found = {name: {} for name in LIBRARIES}
    for row in rows[start + 2 :]:
        for library, cell in zip(LIBRARIES, row.strip("|").split("|"), strict=True):
            for name, parameters in re.findall(r"`(\w+)(?:\(([^)]*)\))?`", cell):
                found[library].setdefault(name, set()).update(re.findall(r"\w+", parameters))
    return found


@pytest.mark.parametrize("library", LIBRARIES)
def test_names_and_parameters_exist(library):
    for name, parameters in entries()[library].items():
        signature = inspect.signature(getattr(LIBRARIES[library], name))
        assert parameters <= set(signature.parameters), name


def public(module):
    for name, thing in vars(module).items():
        if name[0] != "_" and (inspect.isfunction(thing) or inspect.isclass(thing)):
            yield name


def test_nothing_is_missing():
    found = entries()
    for library in ("torch.nn.init", "jax.nn.initializers"):
        names = {name for name in public(LIBRARIES[library]) if name.islower()}
        if library.startswith("torch"):
            names -= ALIASES
        assert names <= set(found[library])
    names = {name for name in public(keras.initializers) if name[0].isupper()}
    assert names - ALIASES == set(found["keras.initializers"])
    ours = {name for name in fastinit.initializers.names() if "." not in name}
    assert ours - set(found["fastinit"]) == {"torch_linear", "sklearn_mlp", "zero_init"}
