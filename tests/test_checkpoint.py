"""Seed checkpoints of names and shapes, without PyTorch. Those of modules: see faces."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import numpy as np
import pytest

import fastinit as fi
from fastinit import checkpoint
from fastinit.checkpoint import shards
from fastinit.checkpoint.plan import DTYPES, plan_of
from fastinit.initializers.fills import stream_of

MODEL = {
    "embed.weight": {"shape": [50, 16], "dtype": "float32", "scheme": "normal(std=0.02)"},
    "a.weight": {"shape": [7, 16], "dtype": "float64", "scheme": "he_normal"},
    "a.bias": {"shape": [7], "dtype": "float64", "scheme": "torch_linear"},
    "b.kernel": {"shape": [3, 3, 5, 2], "dtype": "float16", "scheme": "lecun_uniform"},
    "c": {"shape": [2, 3], "dtype": "complex64", "scheme": "uniform(low=-1, high=1)"},
    "q": {"shape": [9, 9], "dtype": "float32", "scheme": "orthogonal"},
    "s": {"shape": [20, 4], "dtype": "float32", "scheme": "sparse(sparsity=0.5)"},
    "eye": {"shape": [4, 6], "dtype": "float16", "scheme": "identity"},
    "steps": {"shape": [], "dtype": "int64", "scheme": 3},
    "mask": {"shape": [5], "dtype": "bool", "scheme": 1},
    "one": {"shape": [3], "dtype": "float32", "scheme": 0.5},
    "none": {"shape": [0, 4], "dtype": "float32", "scheme": "he_normal"},
}
FILLS = {
    "embed.weight": (fi.normal, {"std": 0.02}),
    "a.weight": (fi.he_normal, {}),
    "b.kernel": (fi.lecun_uniform, {}),
    "c": (fi.uniform, {"low": -1, "high": 1}),
    "q": (fi.orthogonal, {}),
    "s": (fi.sparse, {"sparsity": 0.5}),
    "eye": (fi.identity, {}),
}


def run(*arguments, cwd, **settings):
    return subprocess.run(
        [sys.executable, "-P", "-m", "fastinit", "fill", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        **settings,
    )


def tensors_of(path):
    """Return the tensors of a file by NumPy alone; the library reads it in another test."""
    data = path.read_bytes()
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + n])
    metadata = header.pop("__metadata__")
    codes = {dtype.code: dtype.storage for dtype in DTYPES.values()}
    found, position = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        assert start == position
        position = stop
        part = data[8 + n + start : 8 + n + stop]
        found[name] = np.frombuffer(part, codes[entry["dtype"]]).reshape(entry["shape"])
    assert 8 + n + position == len(data)
    return found, metadata


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


# --- values ---------------------------------------------------------------------------------------


def test_values_are_those_of_the_initialisers(tmp_path):
    table = checkpoint.write(MODEL, tmp_path, seed=4)
    assert [row["name"] for row in table] == list(MODEL)
    found, metadata = tensors_of(tmp_path / "model.safetensors")
    assert metadata == {"format": "pt"}
    assert found.keys() == MODEL.keys()
    for name, (fill, keywords) in FILLS.items():
        entry = MODEL[name]
        expected = fill(
            tuple(entry["shape"]), dtype=entry["dtype"], seed=4, stream=stream_of(name), **keywords
        )
        assert found[name].tobytes() == expected.tobytes(), name
    bias = fi.uniform(7, -0.25, 0.25, seed=4, stream=stream_of("a.bias"))
    assert found["a.bias"].tobytes() == bias.tobytes()
    assert found["steps"] == 3
    assert found["mask"].all()
    assert (found["one"] == 0.5).all()


def test_bfloat16_is_written_without_ml_dtypes(tmp_path):
    checkpoint.write({"w": {"shape": [40, 30], "dtype": "bfloat16", "scheme": "he_normal"}},
                     tmp_path, seed=1)  # fmt: skip
    found, _ = tensors_of(tmp_path / "model.safetensors")
    wide = fi.he_normal((40, 30), dtype="float32", seed=1, stream=stream_of("w"))
    # Rounded once to nearest even: half a unit of the eighth significant bit.
    own = (found["w"].astype(np.uint32) << 16).view(np.float32)
    assert (np.abs(own - wide) <= np.abs(wide) * 2.0**-8).all()
    assert "ml_dtypes" not in run_script(
        f"""
        import sys
        from fastinit import checkpoint
        model = {{"w": {{"shape": [40, 30], "dtype": "bfloat16", "scheme": "he_normal"}}}}
        checkpoint.check(model, {str(tmp_path)!r}, seed=1)
        print(*sys.modules)
        """
    )


def run_script(script):
    command = [sys.executable, "-P", "-W", "error", "-c", textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_library_reads_it(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    model = {name: entry for name, entry in MODEL.items() if entry["dtype"] != "complex64"}
    checkpoint.write(model, tmp_path, seed=4)
    found, _ = tensors_of(tmp_path / "model.safetensors")
    loaded = numpy.load_file(tmp_path / "model.safetensors")
    assert loaded.keys() == found.keys()
    for name, tensor in loaded.items():
        assert tensor.shape == tuple(model[name]["shape"])
        assert tensor.tobytes() == found[name].tobytes()


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks so short that tensors consist of many, and rows too."""
    monkeypatch.setattr(shards, "CHUNK", 4096)
    monkeypatch.setattr(shards, "SYNC", 3 * 4096)


WIDE = {
    "wide": {"shape": [3, 5000], "scheme": "normal"},
    "deep": {"shape": [2, 3, 700, 5], "dtype": "float16", "scheme": "he_uniform"},
    "q": {"shape": [70, 90], "dtype": "float64", "scheme": "orthogonal"},
    "s": {"shape": [300, 40], "scheme": "sparse(sparsity=0.75)"},
    **{f"bias.{i}": {"shape": [i], "scheme": "uniform"} for i in range(1, 40)},
}


@pytest.mark.parametrize("threads", [1, 3])
def test_values_do_not_depend_on_chunks_and_threads(tmp_path, monkeypatch, threads):
    checkpoint.write(WIDE, tmp_path / "whole", seed=0, threads=1)
    monkeypatch.setattr(shards, "CHUNK", 4096)
    checkpoint.write(WIDE, tmp_path / "parts", seed=0, threads=threads)
    checkpoint.check(WIDE, tmp_path / "whole", seed=0, threads=threads)
    one, two = (tmp_path / name / "model.safetensors" for name in ("whole", "parts"))
    assert one.read_bytes() == two.read_bytes()


def test_windows_cover_every_range():
    rng = np.random.default_rng(0)
    for _ in range(500):
        shape = tuple(rng.integers(1, 5, size=rng.integers(0, 5)).tolist())
        whole = np.arange(int(np.prod(shape))).reshape(shape)
        start, stop = sorted(rng.integers(0, whole.size + 1, size=2).tolist())
        parts = [whole[window].ravel() for window in shards.windows_of(shape, start, stop)]
        found = np.concatenate([*parts, np.empty(0, int)])
        assert found.tolist() == list(range(start, stop))
        assert len(parts) <= 2 * len(shape) + 1


def test_seeds_names_and_shapes_determine_the_values(tmp_path):
    model = {name: {"shape": [30, 20], "scheme": "normal"} for name in "ab"}
    checkpoint.write(model, tmp_path / "0", seed=0)
    checkpoint.write({"b": model["b"]}, tmp_path / "b", seed=0)
    checkpoint.write(model, tmp_path / "1", seed=1)
    first, alone, other = (
        tensors_of(tmp_path / name / "model.safetensors")[0] for name in ("0", "b", "1")
    )
    assert (first["b"] == alone["b"]).all()
    assert not (first["a"] == first["b"]).any()
    assert not (first["a"] == other["a"]).any()


def test_rules_fill_what_has_no_scheme(tmp_path):
    model = {
        "a.weight": {"shape": [4, 3]},
        "a.bias": {"shape": [4]},
        "norm": {"shape": [4], "scheme": 1},
    }
    rules = {"*.bias": 0, "*weight": "normal(std=2)", "*": 5}
    table = checkpoint.write(model, tmp_path, rules, seed=0, dtype="float64", prefix="m.")
    assert [(row["name"], row["scheme"], row["std"], row["dtype"]) for row in table] == [
        ("m.a.weight", "normal", 2, "float64"),
        ("m.a.bias", "constant_(0)", 0, "float64"),
        ("m.norm", "constant_(1)", 0, "float64"),
    ]
    found, _ = tensors_of(tmp_path / "model.safetensors")
    expected = fi.normal((4, 3), std=2, seed=0, stream=stream_of("m.a.weight"))
    assert (found["m.a.weight"] == expected).all()
    with pytest.raises(ValueError, match=r"rules: expected one for every tensor; got none for\n"
                       r"  a.weight \(4, 3\)\n  a.bias \(4,\)$"):  # fmt: skip
        checkpoint.write(model, tmp_path / "x", seed=0)
    assert not (tmp_path / "x").exists()


# --- files ----------------------------------------------------------------------------------------


def test_shards_and_index(tmp_path):
    model = {f"w{i}": {"shape": [10, 25], "scheme": "normal"} for i in range(6)}  # 1,000 bytes each
    model["w3"]["shape"] = [100, 25]
    checkpoint.write(model, tmp_path, seed=0, max_shard_size="2KB")
    names = [f"model-{i:05d}-of-00004.safetensors" for i in range(1, 5)]
    assert names_in(tmp_path) == [*names, "model.safetensors.index.json"]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index == {
        "metadata": {"total_parameters": 5 * 250 + 2500, "total_size": 15_000},
        "weight_map": dict(
            zip(model, [names[0], names[0], names[1], names[2], names[3], names[3]], strict=True)
        ),
    }
    for name in names:
        found, _ = tensors_of(tmp_path / name)
        assert all(index["weight_map"][tensor] == name for tensor in found)
    checkpoint.check(model, tmp_path, seed=0, max_shard_size=2000)
    with pytest.raises(ValueError, match="expected the index of 3 files"):
        checkpoint.check(model, tmp_path, seed=0, max_shard_size=10_000)


@pytest.mark.parametrize(
    ("text", "size"), [("5GB", 5 * 10**9), ("1 kib", 1024), ("7", 7), (12, 12), ("3MiB", 3 << 20)]
)
def test_sizes(text, size):
    assert checkpoint._size_of(text) == size


@pytest.mark.parametrize("size", ["", "GB", "-1GB", "1.5GB", "5 parsecs", 0, "0", -3])
def test_sizes_that_are_none(tmp_path, size):
    with pytest.raises(ValueError, match=r"^max_shard_size: expected"):
        checkpoint.write(MODEL, tmp_path, seed=0, max_shard_size=size)
    assert names_in(tmp_path) == []


def test_existing_weights_are_kept(tmp_path):
    checkpoint.write(MODEL, tmp_path, seed=0)
    before = (tmp_path / "model.safetensors").read_bytes()
    for size in ("5GB", "1KB"):
        with pytest.raises(FileExistsError, match=r"overwrite=True \(--overwrite\); got .*model"):
            checkpoint.write(MODEL, tmp_path, seed=1, max_shard_size=size)
    assert names_in(tmp_path) == ["model.safetensors"]
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_overwrite_leaves_nothing_of_the_older_checkpoint(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for size in ("1KB", "2KB", "5GB", "1KB"):
        checkpoint.write(MODEL, tmp_path, seed=1, max_shard_size=size, overwrite=True)
        checkpoint.check(MODEL, tmp_path, seed=1, max_shard_size=size)
        names = [name for name in names_in(tmp_path) if name.startswith("model-")]
        assert len({name[-17:] for name in names}) <= 1
        assert (tmp_path / "model.safetensors").exists() == (size == "5GB")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_without_direct_access(tmp_path, monkeypatch, small_chunks):
    """As on file systems and platforms that have none, or want larger blocks."""
    checkpoint.write(WIDE, tmp_path / "direct", seed=0)
    expected = (tmp_path / "direct" / "model.safetensors").read_bytes()
    write_at = shards._write_at
    refusals = []

    def refused(descriptor, data, position):
        if not refusals:
            refusals.append(position)
            raise OSError(errno.EINVAL, "Invalid argument")
        return write_at(descriptor, data, position)

    if hasattr(os, "O_DIRECT"):
        monkeypatch.setattr(shards, "_write_at", refused)
        checkpoint.write(WIDE, tmp_path / "blocks", seed=0, threads=1)
        assert (tmp_path / "blocks" / "model.safetensors").read_bytes() == expected
        monkeypatch.setattr(shards, "_write_at", write_at)
        monkeypatch.delattr(os, "O_DIRECT")
    monkeypatch.delattr(os, "pwrite", raising=False)
    checkpoint.write(WIDE, tmp_path / "plain", seed=0)
    assert (tmp_path / "plain" / "model.safetensors").read_bytes() == expected
    checkpoint.check(WIDE, tmp_path / "plain", seed=0)


# --- interrupts -----------------------------------------------------------------------------------


class PowerCutError(BaseException):
    pass


@pytest.fixture
def cut(monkeypatch, small_chunks):
    """Return a function that lets writing fail after a number of chunks, as often as it is told."""
    write_at = shards._write_at

    def after(n, error):
        left = [n]
        lock = threading.Lock()

        def limited(descriptor, data, position):
            with lock:
                left[0] -= 1
                if left[0] < 0:
                    raise error
            return write_at(descriptor, data, position)

        monkeypatch.setattr(shards, "_write_at", limited)
        return left

    after.restore = lambda: monkeypatch.setattr(shards, "_write_at", write_at)
    return after


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_that_was_interrupted_continues(tmp_path, cut, threads):
    checkpoint.write(WIDE, tmp_path / "whole", seed=3, max_shard_size="60KB")
    folder = tmp_path / "parts"
    settings = {"seed": 3, "max_shard_size": "60KB", "threads": threads}
    total = sum(shard.chunks for shard in shards.shards_of(plan_of(WIDE), 60_000))
    written = 0
    while True:
        left = cut(7, PowerCutError())
        try:
            checkpoint.write(WIDE, folder, **settings)
        except PowerCutError:
            written += 7
            assert all(name.startswith(".fastinit-") for name in names_in(folder))
            continue
        written += 7 - left[0]
        break
    # What was written is never written again.
    assert written == total
    assert names_in(folder) == names_in(tmp_path / "whole")
    for name in names_in(folder):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_an_interrupted_run_is_not_mixed_with_another(tmp_path, cut):
    cut(9, PowerCutError())
    with pytest.raises(PowerCutError):
        checkpoint.write(WIDE, tmp_path, seed=3)
    cut.restore()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"^seed: expected 3, that of the run in .*; got 4$"):
        checkpoint.write(WIDE, tmp_path, seed=4)
    other = WIDE | {"wide": {"shape": [3, 5000], "scheme": "normal(std=2)"}}
    for model, size in ((other, "5GB"), (WIDE, "1KB")):
        with pytest.raises(ValueError, match=r"^model, rules: expected the tensors, rules and max"):
            checkpoint.write(model, tmp_path, seed=3, max_shard_size=size)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    checkpoint.write(other, tmp_path, seed=4, max_shard_size="60KB", overwrite=True)
    checkpoint.check(other, tmp_path, seed=4, max_shard_size="60KB")
    assert all(name.startswith("model") for name in names_in(tmp_path))


@pytest.mark.parametrize("when", ["first", "second", "index"])
def test_renaming_continues(tmp_path, monkeypatch, when):
    """The process may end between the steps that give the files their names."""
    settings = {"seed": 0, "max_shard_size": "1KB"}
    checkpoint.write(MODEL, tmp_path / "whole", **settings)
    folder = tmp_path / "parts"
    checkpoint.write(MODEL, folder, seed=9)  # an older one, of a single file
    calls = []
    replace, write_file = os.replace, shards.replace_file

    def failing(*paths):
        calls.append(paths)
        if len(calls) == {"first": 1, "second": 2}[when]:
            raise PowerCutError
        replace(*paths)

    def no_file(*paths):
        raise PowerCutError

    if when == "index":
        monkeypatch.setattr(shards, "replace_file", no_file)
    else:
        monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(PowerCutError):
        checkpoint.write(MODEL, folder, **settings, overwrite=True)
    # Neither the older nor the new one can be loaded by mistake.
    assert "model.safetensors" not in names_in(folder)
    assert "model.safetensors.index.json" not in names_in(folder)
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(shards, "replace_file", write_file)
    checkpoint.write(MODEL, folder, **settings, overwrite=True)
    for name in names_in(tmp_path / "whole"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert names_in(folder) == names_in(tmp_path / "whole")


def test_a_torn_journal(tmp_path, cut):
    cut(9, PowerCutError())
    with pytest.raises(PowerCutError):
        checkpoint.write(WIDE, tmp_path, seed=3, threads=1)
    cut.restore()
    journal = tmp_path / shards.JOURNAL
    text = journal.read_bytes()
    for end in (0, 5, len(text) - 2):
        journal.write_bytes(text[:end])
        checkpoint.write(WIDE, tmp_path, seed=3, overwrite=True)
        checkpoint.check(WIDE, tmp_path, seed=3)
    for damaged in (b"[1]\n", b"{}\n", b"nonsense\n", text + b'{"a": 1}\n', text + b"[[[1]]]\n"):
        journal.write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"^folder: expected the journal of an interrupted run"
        ):
            checkpoint.write(WIDE, tmp_path, seed=3, overwrite=True)


def test_a_journal_whose_last_line_is_torn_is_continued(tmp_path):
    start = shards._Start("1", 3, "plan")

    def opened():
        return shards.Journal(tmp_path, start, 10, overwrite=False)

    for torn, chunks, done in (
        (b"[[4, ", [0, 1], {0, 1}),
        (b"[[", [5], {0, 1, 5}),
        # No chunk that the plan does not have.
        (b"[[-3, 2], [8, 15]]\n", [], {0, 1, 5, 8, 9}),
    ):
        journal = opened()
        journal.add(chunks)
        journal.close()
        with open(journal.path, "ab") as file:
            file.write(torn)
        again = opened()
        assert again.done == done
        again.close()


def test_another_file_under_the_final_name_is_refused(tmp_path):
    """After an interrupt between two renames, a file that has its name is one that was written."""
    [shard] = shards.shards_of(plan_of(WIDE), 10**9)
    (tmp_path / shard.name).write_bytes(b"another")
    with pytest.raises(
        ValueError, match=r"^folder: expected the [\d,]+ bytes of model.safetensors"
    ):
        shards._rename([shard], tmp_path)


def test_a_lost_file_is_written_again(tmp_path, cut):
    cut(12, PowerCutError())
    with pytest.raises(PowerCutError):
        checkpoint.write(WIDE, tmp_path, seed=3, max_shard_size="60KB", threads=1)
    cut.restore()
    (tmp_path / ".fastinit-model-00001-of-00004.safetensors").unlink()
    checkpoint.write(WIDE, tmp_path, seed=3, max_shard_size="60KB")
    checkpoint.check(WIDE, tmp_path, seed=3, max_shard_size="60KB")


@pytest.mark.parametrize("length", [0, 1, 20_000])
def test_a_file_that_was_cut_off_is_written_again(tmp_path, cut, length):
    cut(12, PowerCutError())
    with pytest.raises(PowerCutError):
        checkpoint.write(WIDE, tmp_path, seed=3, max_shard_size="60KB", threads=1)
    cut.restore()
    os.truncate(tmp_path / ".fastinit-model-00001-of-00004.safetensors", length)
    checkpoint.write(WIDE, tmp_path, seed=3, max_shard_size="60KB")
    checkpoint.check(WIDE, tmp_path, seed=3, max_shard_size="60KB")


def test_a_full_disk_is_found_before_anything_is_written(tmp_path):
    model = {"w": {"shape": [1 << 30, 1 << 20], "scheme": "normal"}}
    with pytest.raises(OSError, match="bytes needed") as caught:
        checkpoint.write(model, tmp_path / "new", seed=0)
    assert caught.value.errno == errno.ENOSPC
    assert names_in(tmp_path) == []


def test_a_disk_that_fills_up_can_be_continued(tmp_path, cut):
    cut(9, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(OSError, match="No space left on device") as caught:
        checkpoint.write(WIDE, tmp_path, seed=3)
    assert caught.value.filename == str(tmp_path / ".fastinit-model.safetensors")
    cut.restore()
    checkpoint.write(WIDE, tmp_path, seed=3)
    checkpoint.check(WIDE, tmp_path, seed=3)


def test_nothing_is_left_if_nothing_was_written(tmp_path, cut):
    cut(0, OSError(errno.EIO, os.strerror(errno.EIO)))
    with pytest.raises(OSError, match="Input/output error"):
        checkpoint.write(WIDE, tmp_path / "new", seed=3)
    assert names_in(tmp_path) == []


def test_without_threads(tmp_path, few_threads):
    checkpoint.write(WIDE, tmp_path, seed=3, threads=4)
    few_threads[0] = 0
    checkpoint.check(WIDE, tmp_path, seed=3, threads=4)


fcntl = pytest.mark.skipif(sys.platform == "win32", reason="requires fcntl")


@fcntl
def test_two_processes_do_not_write_one_checkpoint(tmp_path, cut):
    cut(9, PowerCutError())
    with pytest.raises(PowerCutError):
        checkpoint.write(WIDE, tmp_path, seed=3)
    start = shards._Start("", 0, "")
    with pytest.raises(ValueError, match="that of the run"):
        shards.Journal(tmp_path, start, 1, overwrite=False)
    held = shards.Journal(tmp_path, start, 1, overwrite=True)
    try:
        with pytest.raises(ValueError, match=r"^folder: expected one that no other process fills"):
            checkpoint.write(WIDE, tmp_path, seed=3, overwrite=True)
    finally:
        held.close()


@fcntl
def test_another_process_may_finish_before_the_lock(tmp_path, monkeypatch):
    """Its journal is removed then, and so is the lock on it."""
    opened = os.open

    def removed(path, *flags):
        descriptor = opened(path, *flags)
        os.unlink(path)
        return descriptor

    monkeypatch.setattr(shards.os, "open", removed)
    with pytest.raises(ValueError, match=r"^folder: expected one that no other process fills"):
        shards.Journal(tmp_path, shards._Start("1", 3, "plan"), 10, overwrite=False)


# --- processes ------------------------------------------------------------------------------------

# 512 MB: takes long enough to be interrupted, and much more memory than is allowed.
LARGE = {
    f"layers.{i}.weight": {"shape": [4096, 4096], "scheme": "normal(std=0.02)"} for i in range(8)
}


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "large.json"
    path.write_text(json.dumps(LARGE))
    return path


def start(path, folder, *options):
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "fastinit", "fill", str(path), "-o", str(folder), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_chunks(child, folder):
    """Wait until the process has listed chunks in its journal."""
    journal = folder / shards.JOURNAL
    end = time.monotonic() + 60
    while child.poll() is None and time.monotonic() < end:
        if journal.exists() and journal.read_bytes().count(b"\n") >= 2:
            return True
        time.sleep(0.001)
    return False


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_process_that_is_killed_continues(large, tmp_path, number):
    folder = tmp_path / "out"
    for _ in range(5):
        with start(large, folder, "--threads", "1") as child:
            if wait_for_chunks(child, folder):
                child.send_signal(getattr(signal, number))
            _, errors = child.communicate(timeout=120)
        if child.returncode != 0:
            break
        for path in folder.iterdir():  # it was faster
            path.unlink()
    assert child.returncode == {"SIGKILL": -signal.SIGKILL, "SIGTERM": 143, "SIGINT": 130}[number]
    assert errors == ("" if number == "SIGKILL" else "interrupted: the same command continues\n")
    assert names_in(folder) == [shards.JOURNAL, ".fastinit-model.safetensors"]
    inode = (folder / ".fastinit-model.safetensors").stat().st_ino
    result = run(large, "-o", folder, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert names_in(folder) == ["model.safetensors"]
    assert (folder / "model.safetensors").stat().st_ino == inode
    result = run(large, "-o", folder, "--check", cwd=tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has /proc/self/status")
@pytest.mark.parametrize("options", [[], ["--check"]], ids=["fill", "check"])
def test_memory(large, tmp_path, options):
    """The peak of a process of its own; its ru_maxrss would include that of its parent."""
    if options:
        checkpoint.write(LARGE, tmp_path / "out", seed=0)
    printed = run_script(
        f"""
        import re
        from fastinit.cli import main
        code = main(["fill", {str(large)!r}, "-o", {str(tmp_path / "out")!r}, *{options!r}])
        assert code == 0
        print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
        """
    )
    megabytes = int(printed.split()[-1]) / 1024
    assert megabytes < 200, "more than the limit"
    assert sum(4096 * 4096 * 4 for _ in LARGE) / 1e6 > 2 * 200


def test_json_needs_no_other_package(tmp_path):
    path = tmp_path / "model.json"
    path.write_text(json.dumps(MODEL))
    printed = run_script(
        f"""
        import sys
        for name in ("torch", "transformers", "safetensors", "ml_dtypes", "pandas"):
            sys.modules[name] = None
        from fastinit.cli import main
        assert main(["fill", {str(path)!r}, "-o", {str(tmp_path / "out")!r}, "--seed", "4"]) == 0
        """
    )
    assert printed == f"12 tensors with 1,209 elements were written to {tmp_path / 'out'}\n"
    checkpoint.check(MODEL, tmp_path / "out", seed=4)


# --- comparison -----------------------------------------------------------------------------------


def test_check_finds_every_byte(tmp_path, small_chunks):
    checkpoint.write(WIDE, tmp_path, seed=0, max_shard_size="60KB")
    rng = np.random.default_rng(0)
    for shard in shards.shards_of(plan_of(WIDE), 60_000):
        path = tmp_path / shard.name
        for _ in range(8):
            position = int(rng.integers(shard.size))
            with open(path, "r+b") as file:
                file.seek(position)
                byte = file.read(1)
                file.seek(position)
                file.write(bytes([byte[0] ^ 1 << int(rng.integers(8))]))
            with pytest.raises(ValueError, match=path.name) as caught:
                checkpoint.check(WIDE, tmp_path, seed=0, max_shard_size="60KB")
            if position >= len(shard.header):
                [name] = [
                    tensor.name
                    for tensor, offset in zip(shard.tensors, shard.offsets, strict=True)
                    if offset <= position < offset + tensor.nbytes
                ]
                assert f"tensor {name!r} differs at (" in str(caught.value)
            else:
                assert f"it differs at byte {position:,}" in str(caught.value)
            with open(path, "r+b") as file:
                file.seek(position)
                file.write(byte)
    checkpoint.check(WIDE, tmp_path, seed=0, max_shard_size="60KB")


def test_check_names_the_first_tensor(tmp_path, small_chunks):
    checkpoint.write(WIDE, tmp_path, seed=0)
    other = WIDE | {name: WIDE[name] | {"scheme": "ones"} for name in ("wide", "bias.30")}
    with pytest.raises(ValueError, match=r"tensor 'bias\.30' differs at \(0,\)"):
        checkpoint.check(other, tmp_path, seed=0)
    with open(tmp_path / "model.safetensors", "r+b") as file:
        file.truncate(5000)
    with pytest.raises(ValueError, match=r"expected [\d,]+ bytes; got 5,000"):
        checkpoint.check(WIDE, tmp_path, seed=0)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError):
        checkpoint.check(WIDE, tmp_path, seed=0)


# --- bad input ------------------------------------------------------------------------------------

ENTRIES = [
    ('{"w": {"shape": [-1], "scheme": 0}}', "tensor 'w': shape: expected lengths >= 0"),
    ('{"w": {"shape": [1e3], "scheme": 0}}', "tensor 'w': shape: expected integers"),
    ('{"w": {"shape": [true], "scheme": 0}}', "tensor 'w': shape: expected integers"),
    ('{"w": {"shape": 3, "scheme": 0}}', "tensor 'w': shape: expected a list of integers"),
    ('{"w": {"shape": "33", "scheme": 0}}', "tensor 'w': shape: expected a list of integers"),
    ('{"w": {"scheme": 0}}', "tensor 'w': shape: expected a list of integers; got none"),
    ('{"w": {"shape": [4294967296, 4294967296], "scheme": 0}}', "fewer than 2\\*\\*63 elements"),
    ('{"w": {"shape": [9223372036854775807], "scheme": 0}}', "No space left on device"),
    ('{"w": {"shape": [1], "scheme": 0, "dtype": "float31"}}', "tensor 'w': dtype: expected one"),
    ('{"w": {"shape": [1], "scheme": 0, "dtype": 3}}', "tensor 'w': dtype: expected a string"),
    ('{"w": {"shape": [1], "scheme": "he"}}', "tensor 'w': scheme: expected one of"),
    ('{"w": {"shape": [2, 2], "scheme": "normal(std=-1)"}}', "tensor 'w': std: expected >= 0"),
    ('{"w": {"shape": [2], "scheme": "normal(mean=[1])"}}', "tensor 'w': mean: expected a number"),
    ('{"w": {"shape": [2], "scheme": "normal(sd=1)"}}', "tensor 'w': scheme: setting of normal"),
    ('{"w": {"shape": [2], "scheme": "zeros/ones"}}', "tensor 'w': scheme: expected one"),
    ('{"w": {"shape": [2], "scheme": "__import__(\'os\')"}}', "tensor 'w': expected names"),
    ('{"w": {"shape": [2], "scheme": "lesson.he"}}', "expected a scheme with streams"),
    ('{"w": {"shape": [2], "scheme": "he_normal"}}', "tensor 'w': shape: expected at least 2 axes"),
    ('{"w": {"shape": [2], "scheme": 1e39}}', "tensor 'w': scheme: expected a finite float32"),
    ('{"w": {"shape": [2], "scheme": true}}', "tensor 'w': scheme: expected a name"),
    ('{"w": {"shape": [2], "scheme": NaN}}', "JSON: expected numbers; got NaN"),
    ('{"w": {"shape": [2], "scheme": 1.5, "dtype": "int8"}}', "tensor 'w': scheme: expected an in"),
    ('{"w": {"shape": [2], "scheme": 128, "dtype": "int8"}}', "from -128 to 127; got 128"),
    ('{"w": {"shape": [2], "scheme": 2, "dtype": "bool"}}', "from 0 to 1; got 2"),
    ('{"w": {"shape": [2], "scheme": "normal", "dtype": "int8"}}', "expected a floating-point one"),
    ('{"w": {"shape": [2], "scheme": 0, "size": 3}}', "tensor 'w': key: expected one of"),
    ('{"w": {"shape": [2], "scheme": 0}, "w": {"shape": [2], "scheme": 0}}', "every key once"),
    ('{"w": {"shape": [2], "shape": [3], "scheme": 0}}', "every key once"),
    ('{"__metadata__": {"shape": [2], "scheme": 0}}', "which is reserved"),
    ('{"": {"shape": [2], "scheme": 0}}', "which is reserved"),
    ('{"\\ud800": {"shape": [2], "scheme": 0}}', "name: expected text in Unicode"),
    ('{"w": 3}', "tensor 'w': expected an object with a shape; got int"),
    ("{}", "model: expected at least one tensor"),
    ("[]", "model: expected a JSON object; got list"),
    ("", "model: expected JSON, or a folder"),
    ("[" * 100_000, "model: expected JSON, or a folder"),
    ('{"w": {"shape": [2], "scheme": "' + "(" * 100_000 + '"}}', "tensor 'w': expected names"),
    ('{"w": {"shape": [' + "9" * 5000 + '], "scheme": 0}}', "model: expected JSON, or a folder"),
]


@pytest.mark.parametrize(("text", "message"), ENTRIES, ids=range(len(ENTRIES)))
def test_hostile_json(tmp_path, text, message):
    path = tmp_path / "model.json"
    path.write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((TypeError, ValueError, OSError), match=message) as caught:
            checkpoint.write(path, tmp_path / "out", seed=0)
    assert names_in(tmp_path) == ["model.json"]
    assert type(caught.value) in (TypeError, ValueError, OSError)


def test_json_that_is_too_long(tmp_path, monkeypatch):
    path = tmp_path / "model.json"
    path.write_text(json.dumps(MODEL))
    monkeypatch.setattr("fastinit.checkpoint.plan.MOST_JSON", 100)
    with pytest.raises(ValueError, match="model: expected at most 100 bytes of JSON"):
        checkpoint.write(path, tmp_path / "out", seed=0)


def test_a_header_that_no_reader_accepts(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MOST_HEADER", 3000)
    with pytest.raises(ValueError, match="max_shard_size: expected headers of at most 3,000 bytes"):
        checkpoint.write(MODEL, tmp_path / "out", seed=0)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"seed": None}, TypeError, "seed: expected one"),
        ({"seed": -1}, ValueError, "seed: expected 0 <= seed"),
        ({"seed": "0"}, TypeError, "seed: expected int"),
        ({"threads": 0}, ValueError, "threads: expected"),
        ({"format": "npz"}, ValueError, "format: expected one of safetensors, dcp"),
        ({"dtype": "int7"}, ValueError, "dtype: expected one of"),
        ({"overwrite": 1}, TypeError, "overwrite: expected True or False"),
        ({"progress": "yes"}, TypeError, "progress: expected True or False"),
        ({"prefix": 3}, TypeError, "prefix: expected a string"),
        ({"rules": [1]}, TypeError, "rules: expected a dict"),
        ({"rules": {3: "zeros"}}, TypeError, "rules: expected patterns of names; got 3"),
        ({"rules": {"*": "he"}}, ValueError, "scheme: expected one of"),
        ({"rules": {"*": 0, "v*": 1}}, ValueError, "rules: expected patterns that match a name"),
        ({"folder": ""}, ValueError, "folder: expected the path of one"),
        ({"folder": 3}, TypeError, "folder: expected a str or a path"),
        ({"model": 3}, TypeError, "model: expected a module of PyTorch, a path or a mapping"),
        ({"model": {3: {}}}, TypeError, "model: expected names of tensors; got 3"),
    ],
)
def test_arguments(tmp_path, change, error, message):
    model = {"w": {"shape": [2]}}
    arguments = {"model": model, "folder": tmp_path / "out", "rules": {"*": 0}, "seed": 0} | change
    with pytest.raises(error, match=f"^(model: tensor 'w': )?{message}"):
        checkpoint.write(**arguments)
    assert names_in(tmp_path) == []


def test_commands_that_fail(tmp_path):
    """One line, exit code 2, and nothing left behind."""
    (tmp_path / "model.json").write_text('{"w": {"shape": [2], "scheme": "zeros"}}')
    (tmp_path / "file").write_text("")
    before = names_in(tmp_path)
    cases = [
        (["model.json", "-o", "file"], "folder: expected a folder to write to; got 'file'"),
        (["model.json", "-o", "file/out"], "folder: expected a folder to write to"),
        (["missing.json", "-o", "out"], "'missing.json': No such file or directory"),
        ([".", "-o", "out"], "model: expected a folder with config.json; got '.'"),
        (["model.json", "-o", "out", "--check"], "No such file or directory"),
        (["model.json", "-o", "out", "--seed", "-1"], "seed: expected 0 <= seed"),
        (["model.json", "-o", "out", "--rule", "zeros"], "expected a pattern and a scheme"),
        (
            ["model.json", "-o", "out", "--rule", "w=0", "--rule", "w=1"],
            "each pattern once; got 'w'",
        ),
        (["model.json", "-o", "out", "--rule", "v=0"], "expected patterns that match a name"),
        (["model.json", "-o", ""], "folder: expected the path of one; got ''"),
        (["model.json", "-o", "out", "--max-shard-size", "big"], "max_shard_size: expected a size"),
        (["model.json", "-o", "out", "--csv", "no/x.csv"], "--csv: expected a folder to write to"),
        (["model.json", "-o", "out", "--check", "--overwrite"], "not allowed with"),
        (["model.json"], "required: -o/--output"),
    ]
    for arguments, message in cases:
        result = run(*arguments, cwd=tmp_path)
        assert result.returncode == 2
        assert result.stdout == ""
        assert message in result.stderr
        assert result.stderr.startswith("fastinit fill: ")
        assert result.stderr.count("\n") == 1
        assert names_in(tmp_path) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_that_is_read_only(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="folder: expected a folder to write to"):
        checkpoint.write(MODEL, tmp_path / "out", seed=0)


def test_the_command(tmp_path):
    (tmp_path / "model.json").write_text('{"w": {"shape": [2, 3]}, "b": {"shape": [2]}}')
    options = ["--seed", "7", "--dtype", "float16", "--rule", "b=0", "--rule", "*=normal(std=0.5)"]
    result = run("model.json", "-o", "out", *options, "--csv", "table.csv", cwd=tmp_path)
    assert result.stdout == "2 tensors with 8 elements were written to out\n", result.stderr
    assert result.stderr == ""
    table = (tmp_path / "table.csv").read_text().splitlines()
    assert table[0] == "name,shape,dtype,scheme,std"
    assert table[1] == 'w,"(2, 3)",float16,normal,0.5'
    found, _ = tensors_of(tmp_path / "out" / "model.safetensors")
    expected = fi.normal((2, 3), std=0.5, dtype="float16", seed=7, stream=stream_of("w"))
    assert (found["w"] == expected).all()
    result = run("model.json", "-o", "out", *options, "--check", cwd=tmp_path)
    assert result.stdout == "2 tensors with 8 elements have the values of seed 7 in out\n"
    result = run("model.json", "-o", "out", *options, cwd=tmp_path)
    assert result.returncode == 2
    assert "expected one without weights, or overwrite=True (--overwrite)" in result.stderr
