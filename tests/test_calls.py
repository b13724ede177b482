"""Names with settings as text, which may come from files of others."""

import re
import warnings

import pytest

from fastinit.calls import Call, calls_of, check_settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("he_normal", [[Call("he_normal", {})]]),
        (" a , b() ", [[Call("a", {})], [Call("b", {})]]),
        ("a,", [[Call("a", {})]]),
        ("lesson.he/zeros", [[Call("lesson.he", {}), Call("zeros", {})]]),
        ("a/b/c", [[Call("a", {}), Call("b", {}), Call("c", {})]]),
        (
            "f(x=-1.5, y=(1, 2), z=None, mode=fan_avg, name='a,b/c')",
            [[Call("f", {"x": -1.5, "y": (1, 2), "z": None, "mode": "fan_avg", "name": "a,b/c"})]],
        ),
    ],
)
def test_names_with_settings(text, expected):
    assert calls_of(text, "a") == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "a b", "1", "'a'", "a + b", "f(1)", "f(*x)", "f(**{'x': 1})", "f()()", "f(x=1)(y=2)",
        "a()/b.c().d", "f(x=g())", "f(x=1 + 2)", "f(x=__import__('os'))", "lambda: 0", "f(x=1",
        "f(x=1, x=2)", "a\0b", "f(x='\ud800')", "(" * 10_000, "f(x=" + "-" * 10_000 + "1)",
        # The parser warns of the backslash.
        r"f(x='\d')",
    ],
    ids=lambda text: repr(text[:20]),
)  # fmt: skip
def test_other_text(text):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ValueError, match=re.escape("separated by commas, with settings in pa")):
            calls_of(text, "a")
    assert not caught


def test_settings_that_do_not_exist():
    call = Call("normal", {"std": 1, "mean": 0})
    check_settings("scheme", call, ["mean", "std"])
    with pytest.raises(ValueError, match=r"scheme: expected no settings of normal; got 'std'"):
        check_settings("scheme", call, [])
    with pytest.raises(ValueError, match=r"scheme: setting of normal: expected .* got 'std'"):
        check_settings("scheme", call, ["mean", "sd"])
