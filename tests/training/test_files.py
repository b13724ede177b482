"""Every bit comes back, a crash leaves the old file, a bad file gets a ValueError."""

import errno
import io
import json
import math
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import textwrap
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastinit as fi
from fastinit.training import files
from fastinit.training import network as networks

REFUSED = "path: expected a"


@pytest.fixture(params=[".npz", ".safetensors"])
def path(request, tmp_path):
    if request.param == ".safetensors":
        pytest.importorskip("safetensors")
    return tmp_path / f"network{request.param}"


@pytest.fixture
def small():
    return fi.Network([2, 1], dtype="float32")


def pack(path, architecture, tensors):
    """A file of any content, by the libraries alone; text is taken as it is."""
    text = architecture if isinstance(architecture, str) else json.dumps(architecture)
    if path.suffix == ".npz":
        np.savez(path, architecture=np.array(text), **tensors)
    else:
        from safetensors.numpy import save_file

        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        metadata = {"architecture": text, "digest": files._digest(text, tensors)}
        save_file(tensors, path, metadata)


ARCHITECTURE = {
    "format": "fastinit",
    "version": 1,
    "sizes": [2, 1],
    "activation": "relu",
    "negative_slope": 0.01,
    "output": "sigmoid",
    "loss": "sigmoid_cross_entropy",
    "dtype": "float32",
}
TENSORS = {"W1": np.ones((1, 2), np.float32), "b1": np.ones((1, 1), np.float32)}


# --- what is saved comes back ---------------------------------------------------------------------


def test_every_network_comes_back_bit_for_bit(path):
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies

    @hypothesis.given(
        sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
        n_outputs=st.integers(2, 5),
        activation=st.sampled_from(networks.ACTIVATIONS),
        negative_slope=st.floats(0, float(np.finfo(np.float32).max)),
        output=st.sampled_from([(o, each) for o, all_ in networks.LOSSES.items() for each in all_]),
        dtype=st.sampled_from(["float32", "float64"]),
        k=st.none() | st.integers(1, 3),
        seed=st.integers(0, 2**32),
    )
    @hypothesis.settings(deadline=None)
    def check(sizes, n_outputs, activation, negative_slope, output, dtype, k, seed):
        net = fi.Network(
            [*sizes, n_outputs],
            activation=activation,
            negative_slope=negative_slope,
            output=output[0],
            loss=output[1],
            dtype=dtype,
        )
        shape = (net.n_parameters,) if k is None else (k, net.n_parameters)
        # Any bits at all, but for NaN and infinities: subnormals, -0.0, the largest.
        bits = np.random.default_rng(seed).bytes(math.prod(shape) * net.dtype.itemsize)
        theta = np.frombuffer(bits, dtype).reshape(shape)
        theta = np.where(np.isfinite(theta), theta, net.dtype.type(-0.0))
        net.save(path, theta)
        loaded, its_theta = fi.load(path)
        assert loaded == net
        assert loaded.negative_slope == net.negative_slope
        assert (its_theta.shape, its_theta.dtype) == (theta.shape, net.dtype)
        assert its_theta.tobytes() == theta.tobytes()

    check()


def test_what_is_loaded_trains_on(path, net, theta, circles):
    X, Y, _, _ = circles
    net.save(path, theta)
    loaded, its_theta = fi.load(str(path))
    assert_array_equal(
        fi.train(loaded, its_theta, X, Y, iterations=9).costs,
        fi.train(net, theta, X, Y, iterations=9).costs,
    )


def test_the_libraries_read_what_is_saved(path, net):
    stack = np.stack([net.initialize("he_normal", seed=seed) for seed in range(3)])
    net.save(path, stack)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            tensors = dict(file)
        text = str(tensors.pop("architecture"))
    else:
        from safetensors import safe_open

        with safe_open(path, "numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            text = file.metadata()["architecture"]
    assert json.loads(text) == ARCHITECTURE | {"sizes": [2, 10, 5, 1], "dtype": "float64"}
    for k, theta in enumerate(stack):
        expected = net.unpack(theta)
        assert set(tensors) == set(expected)
        for name, value in expected.items():
            assert_array_equal(tensors[name][k], value)


def test_what_the_libraries_write_is_loaded(path):
    tensors = TENSORS | {"W1": np.asfortranarray(np.array([[3, 4]], np.float32))}
    pack(path, ARCHITECTURE, tensors)
    net, theta = fi.load(path)
    assert net == fi.Network([2, 1], dtype="float32")
    assert_array_equal(theta, [3, 4, 1])


# --- what does not fit is refused before anything is written --------------------------------------


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (5, TypeError, "path: expected a str or a path; got int"),
        ("x.h5", ValueError, "path: expected a name in .safetensors or .npz; got 'x.h5'"),
        ("x.npz.gz", ValueError, "path: expected a name in .safetensors or .npz; got 'x.npz.gz'"),
        ("npz", ValueError, "path: expected a name in .safetensors or .npz; got 'npz'"),
    ],
)
def test_bad_paths(small, name, error, message):
    with pytest.raises(error, match=re.escape(message)):
        small.save(name, np.ones(3, np.float32))
    with pytest.raises(error, match=re.escape(message)):
        fi.load(name)


@pytest.mark.parametrize(
    ("theta", "error", "message"),
    [
        (np.ones(3), TypeError, "theta: expected dtype float32; got float64"),
        (np.ones(4, np.float32), ValueError, "theta: expected shape (3,); got (4,)"),
        (np.ones((2, 4), np.float32), ValueError, "theta: expected shape (3,); got (4,)"),
        (np.ones((0, 3), np.float32), ValueError, "theta: expected shape (k, 3); got (0, 3)"),
        (np.ones((1, 1, 3), np.float32), ValueError, "theta: expected shape (3,); got (1, 1, 3)"),
        (np.float32([1, np.nan, 1]), ValueError, "theta: expected finite numbers; got NaN"),
        (np.float32([[1, 1, 1], [1, 1, np.inf]]), ValueError, "theta: expected finite numbers"),
    ],
)
def test_bad_thetas(path, small, theta, error, message):
    with pytest.raises(error, match=re.escape(message)):
        small.save(path, theta)
    assert not path.exists()


def test_safetensors_is_asked_for_by_name(tmp_path, small, monkeypatch):
    path = tmp_path / "network.safetensors"
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.delitem(sys.modules, "safetensors.numpy", raising=False)
    with pytest.raises(ImportError, match=re.escape("pip install 'fastinit-nn[files]'")):
        small.save(path, np.ones(3, np.float32))
    path.touch()
    with pytest.raises(ImportError, match=re.escape("pip install 'fastinit-nn[files]'")):
        fi.load(path)


# --- a file is whole, or it is the old one --------------------------------------------------------


def untouched(folder, before):
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_failing_leaves_the_old_file_and_no_other(path, small, monkeypatch, step, error):
    small.save(path, np.ones(3, np.float32))
    before = {path.name: path.read_bytes()}

    def fail(*_):
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        small.save(path, np.zeros(3, np.float32))
    untouched(path.parent, before)


def run(script, path):
    """Run a script that saves a network of 1 MB over one that is there, in its own process."""
    script = textwrap.dedent("""
        import os, signal, sys
        import numpy as np
        import fastinit as fi
        path = sys.argv[1]
        net = fi.Network([500, 500, 1], dtype="float32")
        save = lambda value: net.save(path, np.full(net.n_parameters, value, np.float32))
        save(1)
    """) + textwrap.dedent(script)
    return subprocess.Popen(
        [sys.executable, "-P", "-c", script, path], stdout=subprocess.PIPE, text=True
    )


def test_full_disk(path):
    """Files may grow to 100 kB: the operating system itself breaks the write off."""
    pytest.importorskip("resource")
    script = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            save(2)
        except OSError as error:
            print(type(error).__name__)
    """
    with run(script, path) as child:
        assert child.communicate()[0] == "OSError\n"
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert (fi.load(path)[1] == 1).all()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_killed_in_the_middle(path, step):
    script = f"""
        os.{step} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        save(2)
    """
    with run(script, path) as child:
        child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert (fi.load(path)[1] == 1).all()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("milliseconds", [0, 3, 10, 31])
def test_killed_at_any_time(path, milliseconds):
    script = """
        print("ready", flush=True)
        while True:
            save(2)
            save(1)
    """
    with run(script, path) as child:
        assert child.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(milliseconds / 1000)
        child.kill()
        child.communicate()
    theta = fi.load(path)[1]
    assert theta[0] in (1, 2)
    assert (theta == theta[0]).all()


def test_read_only_folder(path, small):
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        pytest.skip("this user may write everywhere")
    small.save(path, np.ones(3, np.float32))
    before = {path.name: path.read_bytes()}
    path.parent.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            small.save(path, np.zeros(3, np.float32))
        untouched(path.parent, before)
    finally:
        path.parent.chmod(0o700)


def test_a_link_is_refused_and_its_target_stays(path, small):
    target = path.with_name(f"target{path.suffix}")
    small.save(target, np.ones(3, np.float32))
    before = target.read_bytes()
    linked(path, target)
    with pytest.raises(ValueError, match="path: expected a file to write; got the symbolic link"):
        small.save(path, np.zeros(3, np.float32))
    assert target.read_bytes() == before


# --- outputs that cannot destroy anything ---------------------------------------------------------


def linked(path, target):
    try:
        path.symlink_to(target)
    except OSError:
        pytest.skip("this user may not make links")


def special(kind, path):
    """Make something at a path that is not a regular file; return what messages call it."""
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        target = path.with_name("target")
        target.write_bytes(b"kept")
        linked(path, target)
        return f"the symbolic link {str(path)!r}, which leads to {str(target.resolve())!r}"
    elif kind == "dangling link":
        linked(path, path.with_name("absent"))
        return f"the symbolic link {str(path)!r}, which leads to"
    elif kind == "loop":
        linked(path, path.name)
        return "the symbolic link"
    elif kind == "named pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("no pipes with names on this system")
        os.mkfifo(path)
    elif kind == "socket":
        if not hasattr(socket, "AF_UNIX"):
            pytest.skip("no sockets with names on this system")
        here = os.getcwd()
        os.chdir(path.parent)  # the name of a socket is at most 107 bytes long
        try:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(path.name)
        finally:
            os.chdir(here)
    return f"the {kind} {str(path)!r}"


KINDS = ["folder", "link", "dangling link", "loop", "named pipe", "socket"]


@pytest.mark.parametrize("kind", KINDS)
def test_only_regular_files_are_replaced(tmp_path, kind):
    path = tmp_path / "runs.csv"
    message = re.escape(f"path: expected a file to write; got {special(kind, path)}")
    before = os.lstat(path), sorted(os.listdir(tmp_path))
    for write in (
        lambda: files.replace_file(path, b"new"),
        lambda: files.check_output("path", path),
    ):
        with pytest.raises(ValueError, match=message):
            write()
    assert (os.lstat(path), sorted(os.listdir(tmp_path))) == before
    if kind == "link":
        assert path.read_bytes() == b"kept"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize("device", ["/dev/full", "/dev/null", "/dev/stdout"])
def test_devices_are_refused(device):
    before = os.lstat(device)
    for write in (files.replace_file, lambda path, _: files.check_output("path", path)):
        with pytest.raises(ValueError, match=f"got the (device|symbolic link) '{device}'"):
            write(device, b"new")
    assert os.path.samestat(os.lstat(device), before)
    assert os.lstat(device).st_mode == before.st_mode


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755])
def test_permissions_are_kept(tmp_path, mode):
    path = tmp_path / "runs.csv"
    path.write_bytes(b"old")
    path.chmod(mode)
    files.replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o002])
def test_new_files_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        files.replace_file(tmp_path / "runs.csv", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "runs.csv").stat().st_mode) == 0o666 & ~umask


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_private_data_are_private_while_they_are_written(tmp_path, monkeypatch):
    path = tmp_path / "runs.csv"
    path.touch(mode=0o600)
    modes = []
    fsync = os.fsync

    def look(descriptor):
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    files.replace_file(path, b"new")
    assert modes == [0o600]


def test_owner_and_group_are_kept(tmp_path):
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root may give files away")
    path = tmp_path / "runs.csv"
    path.touch()
    os.chown(path, 1234, 4321)
    path.chmod(0o640)
    files.replace_file(path, b"new")
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 4321, 0o640)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_another_group_does_not_inherit_permissions(tmp_path, monkeypatch):
    """As for a user who replaces a file of a group that is not theirs."""
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    path = tmp_path / "runs.csv"
    path.touch()
    os.chown(path, 1234, 4321)
    path.chmod(0o4664)

    def refused(*_):
        raise PermissionError

    monkeypatch.setattr(os, "chown", refused)
    files.replace_file(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_file_that_may_not_be_written_is_not_replaced(tmp_path):
    """The folder alone would permit it."""
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        pytest.skip("this user may write everywhere")
    path = tmp_path / "runs.csv"
    path.touch(mode=0o400)
    with pytest.raises(PermissionError, match="path: expected a file that may be written; got"):
        files.replace_file(path, b"new")


def test_full_disk_leaves_the_old_table_and_no_other_file(tmp_path):
    pytest.importorskip("resource")
    script = """
        import resource, sys
        from fastinit.training.files import replace_file
        replace_file(sys.argv[1], b"old")
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        for path in sys.argv[1:]:
            try:
                replace_file(path, bytes(10**6))
            except OSError as error:
                print(type(error).__name__)
    """
    paths = tmp_path / "old.csv", tmp_path / "new.csv"
    command = [sys.executable, "-P", "-c", textwrap.dedent(script), *paths]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == "OSError\nOSError\n"
    untouched(tmp_path, {"old.csv": b"old"})


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (5, TypeError, "--csv: expected a str or a path; got int"),
        (b"runs.csv", TypeError, "--csv: expected a str or a path; got bytes"),
        ("", ValueError, "--csv: expected the path of a file; got ''"),
        ("runs\0.csv", ValueError, "--csv: expected the path of a file; got 'runs\\x00.csv'"),
        ("absent/runs.csv", ValueError, "--csv: expected a folder to write to; got 'absent'"),
        ("file/runs.csv", ValueError, "--csv: expected a folder to write to; got 'file'"),
        ("absent/", ValueError, "--csv: expected a file to write; got the folder 'absent/'"),
        (".", ValueError, "--csv: expected a file to write; got the folder '.'"),
    ],
)
def test_outputs_that_cannot_be_written(tmp_path, monkeypatch, path, error, message):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(error, match=re.escape(message)):
        files.check_output("--csv", path)
    assert os.listdir() == ["file"]


def test_outputs_in_a_read_only_folder(tmp_path):
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        pytest.skip("this user may write everywhere")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ValueError, match="--csv: expected a folder to write to"):
            files.check_output("--csv", tmp_path / "runs.csv")
        with pytest.raises(ValueError, match="--out: expected a folder to write to"):
            files.check_folder("--out", tmp_path / "new" / "figures")
    finally:
        tmp_path.chmod(0o700)


def test_folders_may_be_new(tmp_path):
    files.check_folder("--out", tmp_path)
    files.check_folder("--out", tmp_path / "new" / "figures")
    (tmp_path / "file").touch()
    linked(tmp_path / "dangling", tmp_path / "absent")
    for bad in ("file", "file/figures", "dangling"):
        with pytest.raises(ValueError, match="--out: expected a folder to write to; got"):
            files.check_folder("--out", tmp_path / bad)


def test_no_data_are_replaced_by_an_output(tmp_path, small):
    with sqlite3.connect(tmp_path / "runs.sqlite") as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE runs (x)")
        connection.execute("INSERT INTO runs VALUES (1)")
        connection.commit()
        (tmp_path / "log").write_bytes((tmp_path / "runs.sqlite-wal").read_bytes())
    connection.close()
    np.savez(tmp_path / "arrays", X=np.zeros(3))
    np.savez(tmp_path / "none")
    np.save(tmp_path / "array", np.zeros(3))
    kinds = {
        "runs.sqlite": "SQLite file",
        "log": "SQLite write-ahead log",
        "arrays.npz": ".npz file",
        "none.npz": ".npz file",
        "array.npy": ".npy file",
    }
    with suppress(ImportError):
        small.save(tmp_path / "network.safetensors", np.ones(3, np.float32))
        kinds["network.safetensors"] = ".safetensors file"
    with suppress(ImportError):
        import pandas

        pandas.DataFrame({"x": [1]}).to_parquet(tmp_path / "table.parquet")
        kinds["table.parquet"] = "Parquet file"
    for name, kind in kinds.items():
        message = f"--csv: expected a file that may be replaced; got the {kind} "
        with pytest.raises(ValueError, match=re.escape(message)):
            files.check_output("--csv", tmp_path / name)


@pytest.mark.parametrize(
    "text", [b"", b"x", b"scheme,seed\nzeros,0\n", b"<!DOCTYPE html>", b"12345678{}", b"PKZIP"]
)
def test_outputs_of_an_earlier_command_are_replaced(tmp_path, text):
    path = tmp_path / "runs.csv"
    path.write_bytes(text)
    files.check_output("--csv", path)
    files.replace_file(path, b"new")
    untouched(tmp_path, {"runs.csv": b"new"})


def test_one_file_under_two_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "data.csv").touch()
    (tmp_path / "other.csv").touch()
    os.link("data.csv", "hard.csv")
    linked(tmp_path / "link.csv", "data.csv")
    linked(tmp_path / "dangling.csv", "new.csv")
    linked(tmp_path / "elsewhere", "folder")
    for one, two in [
        ("data.csv", "data.csv"),
        ("data.csv", "./data.csv"),
        ("data.csv", tmp_path / "data.csv"),
        ("data.csv", "folder/../data.csv"),
        ("data.csv", "hard.csv"),
        ("data.csv", "link.csv"),
        ("link.csv", "hard.csv"),
        ("new.csv", "dangling.csv"),
        ("folder/new.csv", "elsewhere/new.csv"),
        ("folder/new.csv", "elsewhere/NEW.csv"),
        ("absent/new.csv", "Absent/New.csv"),
        ("gr\u00fcn.csv", "gru\u0308n.csv"),
    ]:
        message = re.escape(f"--csv: expected another file than that of --data; got {str(two)!r}")
        with pytest.raises(ValueError, match=message):
            files.check_distinct({"--data": one, "--store": None, "--csv": two})
    distinct = ["data.csv", "other.csv", "new.csv", "folder/new.csv", "newer.csv", "absent/new.csv"]
    files.check_distinct({f"--{name}": name for name in distinct})


def test_names_that_differ_in_case_are_as_the_file_system_says(tmp_path):
    """Once one of two files exists, the other does where case is ignored, and only there."""
    (tmp_path / "data.csv").touch()
    paths = {"--data": tmp_path / "data.csv", "--csv": tmp_path / "DATA.csv"}
    if paths["--csv"].exists():
        with pytest.raises(ValueError, match="--csv: expected another file than that of --data"):
            files.check_distinct(paths)
    else:
        files.check_distinct(paths)


# --- no network there -----------------------------------------------------------------------------


def test_no_file(path):
    with pytest.raises(FileNotFoundError):
        fi.load(path)
    path.mkdir()
    with pytest.raises(ValueError, match="path: expected a file; got something else at"):
        fi.load(path)


def test_pipe(path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names on this system")
    os.mkfifo(path)
    with pytest.raises(ValueError, match="path: expected a file; got something else at"):
        fi.load(path)


def test_unreadable_file(path, small):
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        pytest.skip("this user may read everything")
    small.save(path, np.ones(3, np.float32))
    path.chmod(0)
    with pytest.raises(PermissionError):
        fi.load(path)


def test_truncated_anywhere_or_too_long(path, small):
    small.save(path, np.ones(3, np.float32))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=REFUSED):
            fi.load(path)
    for data in (whole + b"\0", b"\0" + whole, whole + bytes(100_000), whole + whole):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=REFUSED):
            fi.load(path)


def test_any_flipped_bit(path, small):
    """A few bits do not matter, like those of a date; all others are found out."""
    small.save(path, np.ones(3, np.float32))
    whole = bytearray(path.read_bytes())
    loaded = 0
    for position in range(len(whole)):
        for bit in range(8):
            whole[position] ^= 1 << bit
            path.write_bytes(whole)
            whole[position] ^= 1 << bit
            try:
                _, theta = fi.load(path)
            except ValueError:
                continue
            loaded += 1
            assert theta.shape == (3,)
            assert np.isfinite(theta).all()
    assert loaded < 2 * len(whole)


def test_any_bytes(path):
    hypothesis = pytest.importorskip("hypothesis")

    @hypothesis.given(hypothesis.strategies.binary())
    @hypothesis.settings(deadline=None)
    def check(data):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=REFUSED):
            fi.load(path)

    check()


def changed(**changes):
    return {name: value for name, value in (ARCHITECTURE | changes).items() if value is not ...}


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (changed(format="onnx"), "expected a JSON object of format 'fastinit'"),
        ([], "expected a JSON object of format 'fastinit'"),
        (changed(version=2), "architecture: expected version 1; got 2"),
        (changed(version=...), "architecture: expected version 1; got None"),
        (
            changed(negative_slope=...),
            "expected all of sizes, activation, negative_slope, output, loss, dtype",
        ),
        (
            changed(loss=None),
            "expected all of sizes, activation, negative_slope, output, loss, dtype",
        ),
        (
            changed(dtype="<f4"),
            "expected all of sizes, activation, negative_slope, output, loss, dtype",
        ),
        (changed(sizes=...), "sizes"),
        (changed(sizes="21"), "sizes: expected a sequence of integers"),
        (changed(sizes=[2, 1.0]), "sizes: expected an integer; got float"),
        (changed(sizes=[2, -1]), "sizes: expected an integer from 1"),
        (changed(sizes=[2, 10**30]), "sizes: expected an integer from 1"),
        (changed(activation=["relu"]), "activation: expected a string; got list"),
        (changed(output={}), "output: expected a string; got dict"),
        (changed(dtype="object"), "dtype: expected float32 or float64"),
        (changed(negative_slope=-1), "negative_slope: expected finite and >= 0; got -1"),
        (changed(color="red"), "color"),
        (changed(negative_slope=float("nan")), "JSON: expected numbers; got NaN"),
        (json.dumps(ARCHITECTURE)[:-1] + ', "version": 1}', "JSON: expected every key once"),
        (json.dumps(ARCHITECTURE)[:-1], "Expecting"),
        ("[" * 100_000, "recursion"),
        ("1" * 10_000, "digits"),
        (" " * (1 << 20) + json.dumps(ARCHITECTURE), "expected at most 1048576 characters"),
    ],
)
def test_bad_architectures(path, architecture, message):
    pack(path, architecture, TENSORS)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        fi.load(path)
    assert str(caught.value).startswith(REFUSED)
    assert repr(str(path)) in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"b1": ...}, "expected the tensors W1, b1; got W1"),
        ({"W2": np.ones(1)}, "expected the tensors W1, b1; got"),
        ({f"x{i}": np.ones(1) for i in range(20)}, ", ..."),
        ({"W1": np.ones((2, 1), "f4")}, "expected W1 of shape (1, 2), float32; got (2, 1)"),
        ({"b1": np.ones(1, "f4")}, "expected b1 of shape (1, 1), float32; got (1,)"),
        ({"W1": np.ones(2, "f4")}, "expected W1 of shape (1, 2), float32; got (2,)"),
        ({"W1": np.ones((3, 1, 2), "f4")}, "expected b1 of shape (3, 1, 1), float32; got (1, 1)"),
        ({"W1": np.ones((1, 1, 1, 2), "f4")}, "expected one network or a stack"),
        ({"W1": np.ones((0, 1, 2), "f4")}, "expected one network or a stack"),
        ({"W1": np.ones((1, 2))}, "expected W1 of shape (1, 2), float32; got (1, 2), float64"),
        ({"W1": np.ones((1, 2), "f2")}, "expected W1 of shape (1, 2), float32; got (1, 2), float1"),
        ({"W1": np.ones((1, 2), "i4")}, "int32"),
        ({"W1": np.float32([[1, np.nan]])}, "expected finite numbers; got NaN or infinity in W1"),
        ({"b1": np.float32([[-np.inf]])}, "expected finite numbers; got NaN or infinity in b1"),
    ],
)
def test_bad_tensors(path, tensors, message):
    tensors = {name: value for name, value in (TENSORS | tensors).items() if value is not ...}
    pack(path, ARCHITECTURE, tensors)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        fi.load(path)
    assert str(caught.value).startswith(REFUSED)


def refused_within(path, megabytes, message):
    """Loading must fail, and take no more memory than this."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=re.escape(message)):
            fi.load(path)
        assert tracemalloc.get_traced_memory()[1] < megabytes * 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("sizes", [[2**31 - 1] * 3, [1] * 9 + [10**5, 10**5]])
def test_huge_networks_take_no_memory(path, sizes):
    pack(path, changed(sizes=sizes), TENSORS)
    refused_within(path, 1, "expected the tensors W1, b1, W2")
    pack(path, changed(sizes=[2**31 - 1, 2**31 - 1]), TENSORS)
    refused_within(path, 1, "expected W1 of shape (2147483647, 2147483647), float32")


def test_other_peoples_files(path):
    pack(path, ARCHITECTURE, TENSORS)
    if path.suffix == ".npz":
        np.savez(path, **TENSORS)
    else:
        from safetensors.numpy import save_file

        save_file(TENSORS, path)
    with pytest.raises(ValueError, match="architecture: expected JSON text; got none"):
        fi.load(path)


# --- npz alone ------------------------------------------------------------------------------------


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)


MEMBERS = {"architecture.npy": npy(json.dumps(ARCHITECTURE))} | {
    f"{name}.npy": npy(value) for name, value in TENSORS.items()
}


def test_npz_members_by_hand(tmp_path):
    """The files of the tests below would load, but for what each test spoils."""
    zipped(tmp_path / "x.npz", MEMBERS.items())
    assert fi.load(tmp_path / "x.npz")[0] == fi.Network([2, 1], dtype="float32")


def test_npz_bomb(tmp_path):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, architecture=json.dumps(ARCHITECTURE), W1=np.zeros(10**7), b1=0)
    assert path.stat().st_size < 10**6
    refused_within(path, 2, "expected uncompressed members")


@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 62, 4), (-1, -2), (1, 3), (1,), ()])
def test_npy_header_that_lies(tmp_path, shape):
    file = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    lie = file.getvalue() + bytes(8)
    zipped(tmp_path / "x.npz", (MEMBERS | {"W1.npy": lie}).items())
    refused_within(tmp_path / "x.npz", 1, "path: expected a")


def test_zip_directory_that_lies(tmp_path):
    path = tmp_path / "x.npz"
    zipped(path, MEMBERS.items())
    data = bytearray(path.read_bytes())
    sizes = data.index(b"PK\1\2") + 20  # compressed and uncompressed size of the first member
    data[sizes : sizes + 8] = (1 << 30).to_bytes(4, "little") * 2
    path.write_bytes(data)
    refused_within(path, 1, "expected members no longer than the file")


class Trap:
    sprung = False

    def __setstate__(self, state):
        Trap.sprung = True


@pytest.mark.parametrize("name", ["W1", "b1", "architecture", "W2"])
def test_pickles_stay_closed(tmp_path, name):
    trap = Trap()
    trap.baited = True
    trapped = npy(np.array([[trap]], object))
    np.load(io.BytesIO(trapped), allow_pickle=True)
    assert Trap.sprung, "a trap that works"
    Trap.sprung = False
    zipped(tmp_path / "x.npz", (MEMBERS | {f"{name}.npy": trapped}).items())
    with pytest.raises(ValueError, match="expected text or real numbers; got dtype object"):
        fi.load(tmp_path / "x.npz")
    assert not Trap.sprung


@pytest.mark.parametrize("name", ["W1.npy", "W1"])
def test_npz_with_a_name_twice(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for each, data in MEMBERS.items():
            archive.writestr(each, data)
        if name in MEMBERS:
            with pytest.warns(UserWarning, match="Duplicate name"):
                archive.writestr(name, MEMBERS["W1.npy"])
        else:
            archive.writestr(name, MEMBERS["W1.npy"])
    with pytest.raises(ValueError, match="expected every name once"):
        fi.load(tmp_path / "x.npz")


# --- safetensors alone ----------------------------------------------------------------------------


def test_safetensors_with_a_name_twice(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    text = json.dumps(ARCHITECTURE)
    metadata = {"architecture": text, "digest": files._digest(text, TENSORS)}
    data = safetensors.save(TENSORS, metadata)
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].rstrip()
    twice = header[:-1] + b',"W1":' + json.dumps(json.loads(header)["W1"]).encode() + b"}"
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(twice).to_bytes(8, "little") + twice + data[8 + length :])
    with pytest.raises(ValueError, match="JSON: expected every key once"):
        fi.load(path)
