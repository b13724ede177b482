"""Seed checkpoints of modules, of models of transformers, and for torch.distributed.checkpoint."""

import json
import subprocess
import sys
import warnings
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import fastinit as fi  # noqa: E402
import fastinit.torch as init  # noqa: E402
from fastinit import checkpoint  # noqa: E402
from fastinit.checkpoint import shards  # noqa: E402

RULES = {
    nn.Conv2d: partial(fi.orthogonal, gain=2.0),
    "first.weight": nn.init.normal_,
    "first.bias": "torch_linear",
    "own.*": lambda out, seed, stream: fi.normal(out=out, mean=3.0, seed=seed, stream=stream),
    "sparse.weight": partial(fi.sparse, sparsity=0.5),
    "*": "reset_parameters",
}


class Model(nn.Module):
    def __init__(self, **keywords):
        super().__init__()
        self.embed = nn.Embedding(90, 16, padding_idx=5, **keywords)
        self.first = nn.Linear(16, 300, **keywords)
        self.conv = nn.Conv2d(3, 20, 3, **keywords)
        self.own = nn.Linear(30, 40, **keywords)
        self.sparse = nn.Linear(60, 50, bias=False, **keywords)
        self.norm = nn.BatchNorm1d(16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 64, **keywords)
        self.head = nn.Linear(16, 90, bias=False, **keywords)
        self.head.weight = self.embed.weight
        self.phase = nn.Linear(4, 3, dtype=torch.complex64)
        self.register_buffer("scratch", torch.empty(3), persistent=False)


def on_meta(make=Model, **keywords):
    with torch.device("meta"):
        return make(**keywords)


def initialized(rules=None, seed=0, **keywords):
    module = Model(**keywords)
    init.initialize(module, rules, seed=seed)
    return module.state_dict()


def loaded(folder):
    safetensors = pytest.importorskip("safetensors.torch")
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        found.update(safetensors.load_file(path))
    return found


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype
        assert tensor.shape == expected[name].shape
        own, other = (
            each.reshape(-1).view(torch.uint8) for each in (tensor, expected[name].contiguous())
        )
        assert torch.equal(own, other), name


@pytest.mark.parametrize("chunk", [4 << 20, 4096])
@pytest.mark.parametrize("rules", [None, RULES, {"*": nn.init.ones_}], ids=["reset", "rules", "1"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_values_of_initialize(tmp_path, monkeypatch, dtype, rules, chunk):
    monkeypatch.setattr(shards, "CHUNK", chunk)
    expected = initialized(rules, seed=3, dtype=dtype)
    del expected["head.weight"]  # shared: see below
    module = on_meta(dtype=dtype)
    table = checkpoint.write(module, tmp_path, rules, seed=3, max_shard_size="20KB")
    assert_same(loaded(tmp_path), expected)
    checkpoint.check(module, tmp_path, rules, seed=3, max_shard_size="20KB")
    assert all(tensor.is_meta for tensor in module.state_dict().values())
    # The table of initialize, in the order of the state.
    rows = {row["name"]: row for row in init.initialize(Model(dtype=dtype), rules, seed=3)}
    assert rows.keys() - expected.keys() <= {"embed.weight"}
    for row in table:
        if row["name"] in rows:  # buffers are filled on the meta device only
            assert row["std"] == rows[row["name"]]["std"]
            assert row["scheme"] == rows[row["name"]]["scheme"]


def test_shared_tensors_are_written_once(tmp_path):
    safetensors = pytest.importorskip("safetensors")
    checkpoint.write(on_meta(), tmp_path, seed=0)
    with safetensors.safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "head.weight": "embed.weight"}
        assert "head.weight" not in file.keys()  # noqa: SIM118
    module = Model()
    safetensors.torch.load_model(module, tmp_path / "model.safetensors")
    assert_same(dict(module.state_dict()), initialized())


def test_the_library_writes_the_same_tensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    module = Model()
    init.initialize(module, seed=0)
    safetensors.save_model(module, tmp_path / "theirs.safetensors")
    checkpoint.write(module, tmp_path / "ours", seed=0)
    theirs = safetensors.load_file(tmp_path / "theirs.safetensors")
    assert_same(loaded(tmp_path / "ours"), theirs)
    headers = []
    for path in (tmp_path / "theirs.safetensors", tmp_path / "ours" / "model.safetensors"):
        data = path.read_bytes()
        headers.append(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]))
    for header in headers:
        header.pop("__metadata__")
    assert headers[0] == headers[1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile
def test_names(tmp_path):
    """A stage of a pipeline, compiled, has the names and the values of the whole model."""
    module = on_meta()
    compiled = nn.ModuleDict({"first": torch.compile(module.first)})
    checkpoint.write(compiled, tmp_path, seed=0, prefix="stage.")
    found = loaded(tmp_path)
    assert found.keys() == {"stage.first.weight", "stage.first.bias"}
    expected = nn.ModuleDict({"first": nn.Linear(16, 300)})
    init.initialize(expected, seed=0, prefix="stage.")
    assert torch.equal(found["stage.first.weight"], expected["first"].weight)


def test_buffers_keep_their_values(tmp_path):
    module = nn.Linear(3, 2)
    module.register_buffer("table", torch.arange(4))
    module.register_buffer("eighth", torch.arange(4.0).to(torch.float8_e5m2))
    checkpoint.write(module, tmp_path, seed=0)
    found = loaded(tmp_path)
    assert found["table"].tolist() == [0, 1, 2, 3]
    assert found["eighth"].dtype == torch.float8_e5m2
    assert found["eighth"].float().tolist() == [0, 1, 2, 3]
    module.table += 1
    with pytest.raises(ValueError, match=r"tensor 'table' differs at \(0,\)"):
        checkpoint.check(module, tmp_path, seed=0)


def test_plans_differ_if_values_do(tmp_path, monkeypatch):
    """An interrupted run is continued by the same rules and buffers alone."""
    write_at = shards._write_at
    calls = []

    def limited(*arguments):
        calls.append(arguments)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return write_at(*arguments)

    monkeypatch.setattr(shards, "CHUNK", 4096)
    monkeypatch.setattr(shards, "_write_at", limited)
    module = nn.Linear(300, 20)
    module.register_buffer("table", torch.zeros(4))

    def write(gain=1.0, fill="zeros"):
        rules = {"weight": partial(nn.init.xavier_normal_, gain=gain), "*": fill}
        checkpoint.write(module, tmp_path, rules, seed=0)

    with pytest.raises(KeyboardInterrupt):
        write()
    monkeypatch.setattr(shards, "_write_at", write_at)
    with pytest.raises(ValueError, match="model, rules: expected the tensors, rules and"):
        write(gain=2.0)
    with pytest.raises(ValueError, match="model, rules: expected the tensors, rules and"):
        write(fill="ones")
    module.table += 1
    with pytest.raises(ValueError, match="model, rules: expected the tensors, rules and"):
        write()
    module.table -= 1
    write()


def test_errors(tmp_path):
    module = on_meta()
    with pytest.raises(ValueError, match=r"rules: expected one for every parameter; got none for"):
        checkpoint.write(module, tmp_path, {"first.*": "zeros"}, seed=0)
    with pytest.raises(TypeError, match=r"dtype: expected none for a module"):
        checkpoint.write(module, tmp_path, seed=0, dtype="float32")
    with pytest.raises(ValueError, match=r"dtype of weight: expected one of .*; got 'complex128'"):
        checkpoint.write(on_meta(lambda: nn.Linear(2, 2, dtype=torch.complex128)), tmp_path, seed=0)
    with pytest.raises(ValueError, match="model: expected at least one tensor"):
        checkpoint.write(nn.ReLU(), tmp_path, seed=0)

    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"steps": 3}

    with pytest.raises(ValueError, match="expected parameters and buffers alone in its state"):
        checkpoint.write(Extra(2, 2), tmp_path, seed=0)
    assert not list(tmp_path.iterdir())


# --- torch.distributed.checkpoint -----------------------------------------------------------------


def load_distributed(folder, state):
    from torch.distributed.checkpoint import load

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is")
        load(state, checkpoint_id=folder)
    return state


@pytest.fixture
def dcp(monkeypatch):
    """The module; pieces are small, and some rows too long for one."""
    pytest.importorskip("torch.distributed.checkpoint")
    import fastinit.checkpoint.dcp as dcp

    monkeypatch.setattr(dcp, "PIECE", 2000)
    return dcp


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("rules", [None, RULES], ids=["reset", "rules"])
def test_distributed_checkpoint(tmp_path, dcp, rules, threads):
    expected = initialized(rules, seed=3)
    del expected["head.weight"]
    module = on_meta()
    settings = {"seed": 3, "format": "dcp", "threads": threads}
    checkpoint.write(module, tmp_path / "out", rules, **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    found = {name: torch.empty_like(tensor) for name, tensor in expected.items()}
    assert_same(load_distributed(tmp_path / "out", found), expected)
    checkpoint.check(module, tmp_path / "out", rules, **settings)
    with pytest.raises(ValueError, match=r"tensor 'embed\.weight' differs at \(0, 0\)"):
        checkpoint.check(module, tmp_path / "out", rules, **settings | {"seed": 4})
    with pytest.raises(ValueError, match=r"tensor 'bias' differs"):
        checkpoint.check(nn.Linear(2, 2), tmp_path / "out", **settings)


def test_distributed_checkpoint_of_names(tmp_path, dcp):
    """Large and empty tensors, and rows longer than a piece."""
    model = {
        "w": {"shape": [3, 2, 700], "scheme": "normal"},
        "half": {"shape": [900, 3], "dtype": "bfloat16", "scheme": "he_normal"},
        "none": {"shape": [0, 3], "scheme": "normal"},
        "step": {"shape": [], "dtype": "int64", "scheme": 3},
    }
    checkpoint.write(model, tmp_path / "out", seed=0, format="dcp")
    checkpoint.check(model, tmp_path / "out", seed=0, format="dcp")
    checkpoint.write(model, tmp_path / "files", seed=0)
    expected = loaded(tmp_path / "files")
    found = {name: torch.empty_like(tensor) for name, tensor in expected.items()}
    assert_same(load_distributed(tmp_path / "out", found), expected)


def test_distributed_checkpoints_are_complete_or_absent(tmp_path, dcp, monkeypatch):
    model = {"w": {"shape": [30, 20], "scheme": "normal"}}
    folder = tmp_path / "out"

    def fail(*arguments):
        raise OSError("disk")

    with monkeypatch.context() as patched:
        patched.setattr(dcp._Values, "__call__", fail)
        with pytest.raises(OSError, match="disk"):
            checkpoint.write(model, folder, seed=0, format="dcp")
    assert not list(tmp_path.iterdir())
    checkpoint.write(model, folder, seed=0, format="dcp")
    with pytest.raises(FileExistsError, match=r"overwrite=True \(--overwrite\)"):
        checkpoint.write(model, folder, seed=1, format="dcp")
    checkpoint.check(model, folder, seed=0, format="dcp")
    checkpoint.write(model, folder, seed=1, format="dcp", overwrite=True)
    checkpoint.check(model, folder, seed=1, format="dcp")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"torch\.distributed alone; got 'notes"):
        checkpoint.write(model, folder, seed=2, format="dcp", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_full_disks(tmp_path, dcp):
    model = {"w": {"shape": [2**50], "scheme": "normal"}}
    with pytest.raises(OSError, match="4,503,599,627,370,496 bytes needed"):
        checkpoint.write(model, tmp_path / "out", seed=0, format="dcp")
    (tmp_path / "m.json").write_text('{"w": {"shape": [1000, 1000], "scheme": "normal"}}')
    limited = (
        "import resource, sys; from fastinit.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)); "
        "sys.exit(main(['fill', 'm.json', '-o', 'out', '--format', 'dcp']))"
    )
    command = [sys.executable, "-c", limited]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "File too large" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


def test_a_link_to_a_folder_is_kept(tmp_path, dcp):
    model = {"w": {"shape": [30, 20], "scheme": "normal"}}
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    for seed in range(2):
        checkpoint.write(model, tmp_path / "link", seed=seed, format="dcp", overwrite=True)
        checkpoint.check(model, tmp_path / "target", seed=seed, format="dcp")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target"]
    assert (tmp_path / "link").is_symlink()


# --- transformers ---------------------------------------------------------------------------------

SMALL = {
    "vocab_size": 128, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4,
}  # fmt: skip


def config_of(kind, **changes):
    transformers = pytest.importorskip("transformers")
    kinds = {
        "LlamaForCausalLM": transformers.LlamaConfig,
        "BertForMaskedLM": transformers.BertConfig,
        "MixtralForCausalLM": transformers.MixtralConfig,
    }
    config = kinds[kind](**SMALL, **changes)
    config.architectures = [kind]
    return getattr(transformers, kind), config


@pytest.fixture
def quiet():
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("LlamaForCausalLM", {"tie_word_embeddings": True}),
        ("LlamaForCausalLM", {"tie_word_embeddings": False, "dtype": "bfloat16"}),
        ("BertForMaskedLM", {}),
        ("MixtralForCausalLM", {"num_local_experts": 4, "num_key_value_heads": 2}),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_transformers(tmp_path, quiet, kind, changes):
    model, config = config_of(kind, **changes)
    config.save_pretrained(tmp_path / "config")
    folder = tmp_path / "out"
    checkpoint.write(tmp_path / "config", folder, seed=3, max_shard_size="30KB")
    expected = model._from_config(config)
    init.initialize(expected, expected._init_weights, seed=3)
    found, info = model.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    assert_same(dict(found.state_dict()), dict(expected.state_dict()))
    checkpoint.check(tmp_path / "config", folder, seed=3, max_shard_size="30KB")
    if kind != "MixtralForCausalLM":  # whose experts transformers saves one by one
        expected.save_pretrained(tmp_path / "theirs")
        assert_same(loaded(folder), loaded(tmp_path / "theirs"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_transformers_with_rules(tmp_path, quiet):
    _, config = config_of("LlamaForCausalLM", tie_word_embeddings=True)
    config.save_pretrained(tmp_path)
    # Into the folder of the configuration, which is kept.
    before = (tmp_path / "config.json").read_bytes()
    command = [
        sys.executable, "-P", "-m", "fastinit", "fill", ".", "-o", ".", "--dtype", "float16",
        "--rule", "*norm.weight=0.5", "--rule", "*_proj.weight=normal(std=3)",
    ]  # fmt: skip
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "config.json").read_bytes() == before
    tensors = loaded(tmp_path)
    assert all(tensor.dtype == torch.float16 for tensor in tensors.values())
    name = "model.layers.0.mlp.up_proj.weight"
    stream = fi.initializers.fills.stream_of(name)
    expected = fi.normal((64, 32), std=3, dtype=np.float16, seed=0, stream=stream)
    assert np.array_equal(tensors[name].numpy(), expected)
    assert (tensors["model.norm.weight"] == 0.5).all()
    assert 0.01 < tensors["model.embed_tokens.weight"].std() < 0.03
    assert "lm_head.weight" not in tensors


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_folders_of_transformers_that_are_none(tmp_path, quiet):
    pytest.importorskip("transformers")
    with pytest.raises(ValueError, match=r"model: expected a folder with config\.json"):
        checkpoint.write(tmp_path, tmp_path / "out", seed=0)
    for text in ("{", "[]", "{}", '{"model_type": "no such model"}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises((OSError, ValueError)):
            checkpoint.write(tmp_path, tmp_path / "out", seed=0)
    (tmp_path / "config.json").write_text('{"model_type": "bert", "architectures": ["NoModel"]}')
    with pytest.raises(ValueError, match="expected an architecture of transformers; got 'NoModel'"):
        checkpoint.write(tmp_path, tmp_path / "out", seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
