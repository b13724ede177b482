"""The package as a whole: the process is left alone, stubs are true, examples run."""

import doctest
import importlib
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import textwrap
from importlib.metadata import metadata, version
from pathlib import Path

import numpy as np
import pytest

import fastinit
from fastinit import kernels

MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages(fastinit.__path__, "fastinit.")
    if not name.endswith("__main__")
)


def run(script, **environment):
    """Run a script in a process of its own and return what it prints."""
    return subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", textwrap.dedent(script)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_version_is_one():
    assert version("fastinit-nn") == fastinit.__version__
    assert metadata("fastinit-nn")["License-Expression"] == "BSD-3-Clause"


def test_import_leaves_the_process_alone():
    output = run("""
        import sys, threading
        import numpy as np
        np.random.seed(0)
        state = np.random.get_state()
        errors = np.geterr()
        before = set(sys.modules)
        import fastinit as fi
        X = np.ones((2, 9)); Y = np.ones((1, 9))
        net = fi.Network([2, 3, 1])
        theta = net.initialize("he_normal", seed=0)
        fi.propagation.along(net, theta, X, Y, at=[0, 10])
        tiny = np.array([5e-324, 2.2250738585072014e-308])
        assert (tiny / 2 * 2)[1] == tiny[1] and tiny[0] > 0, "subnormals survive"
        assert np.float32(1e-45) > 0
        after = np.random.get_state()
        assert (state[1] == after[1]).all() and state[2:] == after[2:]
        assert np.geterr() == errors
        assert threading.active_count() == 1
        optional = {"matplotlib", "sklearn", "rich", "scipy", "pandas", "torch", "jax", "keras"}
        print(*sorted(optional & {name.partition(".")[0] for name in set(sys.modules) - before}))
    """)
    assert output == "\n"


def test_import_is_slim():
    """Beyond NumPy only parts of the standard library, and none that are slow to import."""
    output = run("""
        import sys
        import numpy
        before = set(sys.modules)
        import fastinit
        print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
    """)
    imported = {name for name in output.split() if "cython" not in name}
    assert imported - sys.stdlib_module_names == {"fastinit", "numpy"}
    slow = {"argparse", "asyncio", "email", "http", "multiprocessing", "sqlite3", "ssl", "unittest"}
    assert not imported & slow


@pytest.mark.parametrize("level", [*kernels.LEVELS, "reference"])
def test_level_can_be_forced(level):
    if level != "reference" and kernels.why_not(level) is not None:
        pytest.skip(f"{level}: {kernels.why_not(level)}")
    script = """
        import fastinit as fi
        config = fi.show_config("dicts")
        print(config["kernels"], config["because"], fi.kernels.dense.__name__)
    """
    name = "fastinit.reference" if level == "reference" else f"fastinit.kernels.dense_{level}"
    assert run(script, FASTINIT_KERNELS=level) == f"{level} forced by FASTINIT_KERNELS {name}\n"


@pytest.mark.parametrize(
    ("forced", "message"),
    [
        (
            "x86_64_v9",
            "FASTINIT_KERNELS: expected one of x86_64_v4, x86_64_v3, baseline, reference",
        ),
        ("x86_64_v4", "FASTINIT_KERNELS=x86_64_v4: not "),
    ],
)
def test_level_that_cannot_run_fails_loudly(forced, message):
    """A stand-in for a processor without AVX-512; on others than x86-64 the level is not built."""
    script = """
        import sys, types
        cpu = types.ModuleType("fastinit.kernels.cpu")
        cpu.missing = lambda: {"x86_64_v4": ("avx512f",), "x86_64_v3": ()}
        sys.modules["fastinit.kernels.cpu"] = cpu
        try:
            import fastinit
        except ImportError as error:
            print(error)
    """
    assert run(script, FASTINIT_KERNELS=forced).startswith(message)


def test_source_tree_explains_itself(tmp_path):
    """A package folder without compiled modules, in front of the installed one."""
    source = Path(fastinit.__file__).parent
    shutil.copytree(
        source, tmp_path / "fastinit", ignore=shutil.ignore_patterns("*.so", "*.pyd", "*.dylib")
    )
    result = subprocess.run(
        [sys.executable, "-c", "import fastinit"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ImportError: fastinit: the compiled kernels are not here." in result.stderr


def test_everything_runs_on_the_reference():
    """The package on the NumPy kernels; the costs are those of the kernels that run here."""
    net = fastinit.Network([2, 10, 5, 1])
    X, Y = np.random.default_rng(0).standard_normal((2, 300)), np.arange(300) % 2
    theta = net.initialize("he_normal", seed=3)
    here = fastinit.train(net, theta, X, Y, learning_rate=0.1, iterations=100)
    output = run(
        """
        import sys
        import numpy as np
        import fastinit as fi
        net = fi.Network([2, 10, 5, 1])
        X, Y = np.random.default_rng(0).standard_normal((2, 300)), np.arange(300) % 2
        theta = net.initialize("he_normal", seed=3)
        run = fi.train(net, theta, X, Y, learning_rate=0.1, iterations=100)
        print(any("dense_" in name for name in sys.modules), *run.costs)
        """,
        FASTINIT_KERNELS="reference",
    )
    compiled, *costs = output.split()
    assert compiled == "False", "a compiled kernel was loaded"
    np.testing.assert_allclose(np.array(costs, float), here.costs, rtol=1e-12)


def test_show_config(capsys):
    assert fastinit.show_config() is None
    printed = capsys.readouterr().out
    config = fastinit.show_config("dicts")
    for name in ("fastinit", "kernels", "because", "numpy", "python", "cores"):
        assert name in config
        assert str(config[name]) in printed
    with pytest.raises(ValueError, match="mode: expected stdout or dicts; got 'json'"):
        fastinit.show_config("json")


# What the examples of a module need, which may be absent.
NEEDED = {
    "fastinit.checkpoint.dcp": "torch",
    "fastinit.comparison.plots": "matplotlib",
    "fastinit.comparison.vectors": "matplotlib",
    "fastinit.jax": "jax",
    "fastinit.keras": "keras",
    "fastinit.sklearn": "sklearn",
    "fastinit.torch": "torch",
    "fastinit.triton": "triton",
}


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    for module, needed in NEEDED.items():
        if name.startswith(module):
            pytest.importorskip(needed)
    _, _, level = name.partition("_")
    if name.startswith("fastinit.kernels.") and level and (reason := kernels.why_not(level)):
        pytest.skip(reason)  # its initialisation would already use instructions that are missing
    state = np.random.get_state()
    try:
        results = doctest.testmod(importlib.import_module(name))
    finally:
        np.random.set_state(state)
    assert results.failed == 0


# What functions return or raise, shown in the examples of these.
EXPLAINED_ELSEWHERE = {"Comparison", "Interrupted", "Run", "Stack", "Trial"}


def test_public_functions_are_documented():
    for name in fastinit.__all__:
        thing = getattr(fastinit, name)
        assert thing.__doc__, name
        if callable(thing) and not isinstance(thing, type(doctest)):
            assert ">>>" in (thing.__doc__ or "") or name in EXPLAINED_ELSEWHERE, name


def test_stubs_are_true(pytestconfig):
    """stubtest holds every .pyi file against the compiled module that it describes."""
    pytest.importorskip("mypy")
    modules = [f"fastinit.kernels.{name}" for name in ("dense", "random", "cpu")]
    settings = str(pytestconfig.rootpath / "pyproject.toml")
    environment = {name: value for name, value in os.environ.items() if name != "FASTINIT_KERNELS"}
    result = subprocess.run(
        [sys.executable, "-P", "-m", "mypy.stubtest", "--mypy-config-file", settings, *modules],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


TYPED = """
import numpy as np
import fastinit as fi

net = fi.Network([2, 1])
theta, thetas = net.initialize("zeros"), net.initialize("zeros", n=3)
X, Y = np.ones((2, 5)), np.ones((1, 5))
reveal_type(fi.train(net, theta, X, Y, iterations=3))
reveal_type(fi.train(net, thetas, X, Y, tol=1e-4))
reveal_type(net.accuracy(theta, X, Y))
reveal_type(net.cost(thetas, X, Y))
reveal_type(net.score(theta, X, Y))
reveal_type(fi.compare(X, Y, net, "zeros"))
fi.train(net, theta, X, Y, iteration=3)
"""
REVEALED = ["Run", "Stack", "float", "ndarray", "float", "Comparison"]


def test_types_tell_one_network_from_a_stack(tmp_path):
    pytest.importorskip("mypy")
    script = tmp_path / "typed.py"
    script.write_text(TYPED)
    result = subprocess.run(
        [sys.executable, "-P", "-m", "mypy", "--strict", "--cache-dir", tmp_path, script],
        capture_output=True,
        text=True,
        check=False,
    )
    revealed = re.findall(r'Revealed type is "(?:\w+\.)*(\w+)', result.stdout)
    assert revealed == REVEALED, result.stdout
    assert 'Unexpected keyword argument "iteration"' in result.stdout or (
        "No overload variant" in result.stdout
    )
