"""Names with settings as text, such as ``adam(l2=0.001)``, in options and files."""

import ast
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from fastinit.validation import check_name


class Call(NamedTuple):
    """A name with settings, as in ``adam(l2=0.001)``."""

    name: str
    settings: dict[str, Any]


def calls_of(text: str, example: str) -> list[list[Call]]:
    """Return the entries of a list in the syntax of Python calls, each as one name per layer.

    Commas inside parentheses belong to the entry; slashes separate the layers of an entry. A value
    is a literal of Python or a bare word. Nothing is evaluated.

    Parameters
    ----------
    text : str
    example : str
        For the error message.

    Returns
    -------
    list of list of Call
        For each entry its calls, one for each layer.

    Raises
    ------
    ValueError
        If the text is not such a list.

    Examples
    --------
    >>> calls_of("he_normal/zeros, normal(std=0.1)", "he_normal")
    [[Call(name='he_normal', settings={}), Call(name='zeros', settings={})], \
[Call(name='normal', settings={'std': 0.1})]]
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # such as that of a backslash, which no name has
            found = ast.parse(text.strip(), mode="eval").body
        entries = found.elts if isinstance(found, ast.Tuple) else [found]
        return [[_call(layer) for layer in _layers(entry)] for entry in entries]
    # The parser may fail with any of these on hostile text.
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise ValueError(
            f"expected names separated by commas, with settings in parentheses, like {example}; "
            f"got {text!r}"
        ) from None


def _layers(entry: ast.expr) -> list[ast.expr]:
    if isinstance(entry, ast.BinOp) and isinstance(entry.op, ast.Div):
        return [*_layers(entry.left), entry.right]
    return [entry]


def _call(entry: ast.expr) -> Call:
    if not isinstance(entry, ast.Call):
        return Call(_dotted(entry), {})
    if entry.args or any(each.arg is None for each in entry.keywords):
        raise ValueError("expected settings with names")
    # The parser leaves this to the compiler, which is not called.
    if len({each.arg for each in entry.keywords}) < len(entry.keywords):
        raise ValueError("expected every setting once")
    return Call(
        _dotted(entry.func),
        {
            str(each.arg): (
                each.value.id if isinstance(each.value, ast.Name) else ast.literal_eval(each.value)
            )
            for each in entry.keywords
        },
    )


def _dotted(entry: ast.expr) -> str:
    if isinstance(entry, ast.Attribute):
        return f"{_dotted(entry.value)}.{entry.attr}"
    if not isinstance(entry, ast.Name):
        raise ValueError("expected a name")
    return entry.id


def check_settings(option: str, call: Call, known: Sequence[str]) -> None:
    """Raise a ValueError for a setting that does not exist.

    Examples
    --------
    >>> check_settings("scheme", Call("zeros", {"std": 1}), [])
    Traceback (most recent call last):
        ...
    ValueError: scheme: expected no settings of zeros; got 'std'
    """
    for name in call.settings:
        if not known:
            raise ValueError(f"{option}: expected no settings of {call.name}; got {name!r}")
        check_name(f"{option}: setting of {call.name}", name, known)
