"""What the rules come to: a fill for each parameter and buffer of a module."""

import itertools
import operator
import re
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from fastinit.initializers.fills import (
    Fill,
    check_matches,
    check_rule,
    fill_of,
    pattern_of,
    scheme_of,
)
from fastinit.initializers.scheme import Scheme
from fastinit.torch.entries import Entry
from fastinit.torch.functions import SESSION
from fastinit.torch.internals import versions_of
from fastinit.torch.patching import TORCH
from fastinit.torch.recording import Recorder, RefusedError

Rule = Any  # a name, an initialiser, a function of torch.nn.init, or a number
Rules = Mapping[Any, Rule] | Callable[[nn.Module], object]
# The rule of what a module's own function does.
RESET = "reset_parameters"


def fills_of(
    parts: Sequence[nn.Module],
    entries: list[Entry],
    rules: Rules | None,
    prefix: str,
    reset: Callable[[nn.Module], object] | None = None,
    optional: Container[int] = (),
) -> list[Fill | None]:
    """Return what fills each entry of a module, None for a buffer that keeps its values.

    ``parts`` holds the module and all modules in it, each once, parents first.
    ``reset`` initialises a module, after its own function, where no rules do or where the rule is
    "reset_parameters". Of the tensors with ids in ``optional``, none is required.
    """
    if callable(rules) and not isinstance(rules, Mapping):
        rules, reset = None, rules
    compiled = [] if rules is None else _compiled(rules)
    chosen = [RESET] * len(entries)
    if compiled:
        chosen = [_rule_of(entry, compiled) if entry.is_parameter else RESET for entry in entries]
        if not prefix:  # a part of a model takes the rules of the whole
            parameters = [entry for entry in entries if entry.is_parameter]
            names = [name for entry in parameters for name, *_ in entry.places]
            check_matches(rules, names)  # type: ignore[arg-type]
    recorder = Recorder(entry.tensor for entry in entries)
    reasons: dict[int, str] = {}
    if any(
        rule is RESET and (entry.is_parameter or entry.tensor.is_meta)
        for entry, rule in zip(entries, chosen, strict=True)
    ):
        # As when a model is built: the constructors of all modules, then the function for each.
        for function in (_reset, reset):
            if function is not None:
                reasons |= _record(parts, entries, function, recorder)
    found: list[Fill | None] = []
    missing: list[str] = []
    for entry, rule in zip(entries, chosen, strict=True):
        tensor, fill, reason = entry.tensor, None, ""
        lazy = is_lazy(tensor)
        if lazy:
            reason = "it is not initialised before the first forward pass"
        elif rule is RESET:
            fill = recorder.found.get(id(tensor))
            reason = reasons.get(id(tensor), "")
        elif rule is not None:
            try:
                fill = _fill_of(rule, entry)
            except Exception as error:
                error.add_note(f"initialize: the rule of {entry.name} is {rule!r}")
                raise
        if fill is None and (entry.is_parameter or tensor.is_meta) and id(tensor) not in optional:
            shape = "" if lazy else f" {tuple(tensor.shape)}"
            kind = type(entry.owner).__name__
            missing.append(f"{entry.name}{shape} of {kind}" + (f": {reason}" if reason else ""))
        found.append(fill)
    if missing:
        lines = "\n  ".join(missing)
        raise ValueError(f"rules: expected one for every parameter; got none for\n  {lines}")
    return found


def _compiled(rules: Any) -> list[tuple[Any, Rule]]:
    """Return pairs of a pattern or type and its rule."""
    if not isinstance(rules, Mapping):
        raise TypeError(f"rules: expected a dict or a callable; got {type(rules).__name__}")
    if not rules:
        raise ValueError("rules: expected at least one; got an empty dict")
    compiled: list[tuple[Any, Rule]] = []
    for where, rule in rules.items():
        if not (isinstance(where, type) and issubclass(where, nn.Module)):
            where = pattern_of(where, "patterns or types of modules")
        compiled.append((where, _checked_rule(rule)))
    return compiled


def _checked_rule(rule: Rule) -> Rule:
    """Return a rule after checking it; names and initialisers become schemes."""
    if isinstance(rule, str) and rule == RESET:
        return RESET
    if isinstance(rule, (int, float)) and not isinstance(rule, bool):
        return Fill(f"constant_({rule})", None, {"value": rule})
    base = rule
    while isinstance(base, partial):
        base = base.func
    for ours, theirs in TORCH.items():
        if base is ours or base is theirs:
            check_rule(rule)
            is_partial = isinstance(rule, partial)
            return partial(ours, *rule.args, **rule.keywords) if is_partial else partial(ours)
    return scheme_of(rule)


def _rule_of(entry: Entry, compiled: list[tuple[Any, Rule]]) -> Rule:
    for where, rule in compiled:
        if isinstance(where, re.Pattern):
            if any(where.fullmatch(name) for name, *_ in entry.places):
                return rule
        elif isinstance(entry.owner, where):
            return rule
    return None


def _fill_of(rule: Rule, entry: Entry) -> Fill:
    """Return what fills a parameter by a rule that was checked."""
    if isinstance(rule, Fill):
        return rule
    if not isinstance(rule, Scheme):
        recorder = Recorder(iter(()))
        token = SESSION.set(recorder)
        try:
            rule(entry.tensor)
        finally:
            SESSION.reset(token)
        return recorder.found[id(entry.tensor)]
    weight = None
    if "bias" in entry.key:
        weight = getattr(entry.owner, entry.key.replace("bias", "weight"), None)
    shape = None if weight is None else tuple(weight.shape)
    return fill_of(rule, entry.key, tuple(entry.tensor.shape), shape)


def _reset(module: nn.Module) -> None:
    """Initialise the own parameters of a module, as its constructor does."""
    for name in ("reset_parameters", "_reset_parameters"):
        if (function := getattr(type(module), name, None)) is not None:
            function(module)
            return


def _record(
    parts: Sequence[nn.Module],
    entries: list[Entry],
    reset: Callable[[nn.Module], object],
    recorder: Recorder,
) -> dict[int, str]:
    """Record what initialises all modules, children first; return why tensors have no record."""
    shared = {id(entry.tensor): entry.owner for entry in entries if len(entry.places) > 1}
    reasons: dict[int, str] = {}
    name = RESET if reset is _reset else getattr(reset, "__name__", type(reset).__name__)
    tensors = [entry.tensor for entry in entries]
    versions = versions_of(tensors)
    with recorder:
        for part in reversed(parts):
            # A shared parameter is initialised by the module of its name, and by parents.
            kept: dict[int, Fill | None] = {}
            if shared:
                own = map(id, part._parameters.values())
                others = [key for key in own if shared.get(key, part) is not part]
                kept = {key: recorder.found.get(key) for key in others}
            try:
                reset(part)
            except Exception as error:
                text = str(error) if isinstance(error, RefusedError) else f"raises {error!r}"
                for tensor in itertools.chain(part.parameters(), part.buffers()):
                    recorder.found.pop(id(tensor), None)
                    reasons[id(tensor)] = f"{name} of {type(part).__name__} {text}"
            for key, fill in kept.items():
                recorder.found.pop(key, None)
                if fill is not None:
                    recorder.found[key] = fill
    changed = map(operator.ne, versions_of(tensors), versions)
    for entry, is_changed in zip(entries, changed, strict=True):
        for _, owner, attribute in entry.places if entry.is_parameter else ():
            if owner._parameters.get(attribute) is not entry.tensor:
                owner._parameters[attribute] = entry.tensor  # type: ignore[assignment]
                recorder.found.pop(id(entry.tensor), None)
                reasons[id(entry.tensor)] = f"{name} of {type(owner).__name__} replaces it"
        if is_changed:
            recorder.found.pop(id(entry.tensor), None)
            reasons[id(entry.tensor)] = f"{name} has changed it"
    return reasons
