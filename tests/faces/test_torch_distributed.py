"""Sharded parameters: the bits of one process, in 2 and 4 processes, without communication.

The tests start processes that run this file as a script and communicate over gloo.
"""

import copy
import json
import os
import subprocess
import sys
import traceback
import tracemalloc
import warnings
from functools import partial
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
if not torch.distributed.is_available():
    pytest.skip("torch has no distributed package here", allow_module_level=True)

import fastinit as fi  # noqa: E402
from fastinit import torch as init  # noqa: E402

nn = torch.nn
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


# --- what the processes do ------------------------------------------------------------------------


class Transformer(nn.Module):
    """A small model with the layers of a language model, and tied embeddings."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(37, 16, padding_idx=3)
        self.layers = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 37, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        x = self.embedding(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(16, 40)
        self.down = nn.Linear(40, 16)
        self.norm = nn.LayerNorm(16)

    def forward(self, x):
        return x + self.down(self.up(self.norm(x)).relu())


def mesh_of(*shape, names=None):
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh("cpu", shape, mesh_dim_names=names)


def sharded_as(shape, mesh, placements, dtype=torch.float32):
    """Return a DTensor of NaN, and a function that cuts a whole tensor as PyTorch does."""
    from torch.distributed.tensor import DTensor

    def cut(whole):
        for i, placement in enumerate(placements):
            if not placement.is_replicate():
                parts, _ = placement._split_tensor(whole, mesh.size(i), with_padding=False)
                whole = parts[mesh.get_coordinate()[i]]
        return whole

    whole = torch.full(shape, torch.nan, dtype=dtype)
    part = DTensor.from_local(
        cut(whole).clone(), mesh, placements, run_check=False, shape=whole.shape,
        stride=whole.stride(),
    )  # fmt: skip
    return part, cut


def silent(function):
    """Call a function that may not communicate."""
    from torch.distributed.tensor.debug import CommDebugMode

    with CommDebugMode() as mode:
        function()
    assert mode.get_total_counts() == 0, mode.get_comm_counts()


FILLS = {
    "uniform": partial(init.uniform_, a=-1.0, b=2.0),
    "normal": init.normal_,
    "trunc": init.trunc_normal_,
    "xavier": init.xavier_uniform_,
    "kaiming": init.kaiming_normal_,
    "orthogonal": init.orthogonal_,
    "sparse": partial(init.sparse_, sparsity=0.4),
}


def all_placements(world):
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor.placement_types import _StridedShard

    line = mesh_of(world)
    for placement in (Shard(0), Shard(1), Replicate(), _StridedShard(0, split_factor=2)):
        yield line, [placement]
    yield line, [_StridedShard(1, split_factor=3)]
    if world == 4:
        square = mesh_of(2, 2)
        yield square, [Shard(0), Shard(0)]
        yield square, [Shard(0), Shard(1)]
        yield square, [Shard(1), Replicate()]
        yield square, [Replicate(), Shard(0)]
        yield square, [_StridedShard(0, split_factor=2), Shard(0)]
        yield square, [_StridedShard(1, split_factor=2), Shard(1)]
        yield square, [Shard(0), _StridedShard(0, split_factor=3)]


@case
def functions(world):
    """Every kind of fill under every placement; even, uneven and empty shards."""
    for mesh, placements in all_placements(world):
        for shape in ((8, 12), (7, 5), (3, 9), (1, 3), (2, 1)):
            for name, fill in FILLS.items():
                whole = fill(torch.empty(shape), seed=3, stream=5)
                part, cut = sharded_as(shape, mesh, placements)
                silent(lambda fill=fill, part=part: fill(part, seed=3, stream=5))
                expected = cut(whole)
                assert torch.equal(part.to_local(), expected), (name, placements, shape)


@case
def lone_strided_shard(world):
    """The rows that PyTorch documents: 0, 1, 4, 5 of 8 rows in 2 processes."""
    from torch.distributed.tensor.placement_types import _StridedShard

    if world == 2:
        part, _ = sharded_as((8, 3), mesh_of(2), [_StridedShard(0, split_factor=2)])
        init.normal_(part, seed=1)
        whole = init.normal_(torch.empty(8, 3), seed=1)
        rank = torch.distributed.get_rank()
        rows = [[0, 1, 4, 5], [2, 3, 6, 7]][rank]
        assert torch.equal(part.to_local(), whole[rows])


@case
def kinds(world):
    """Kernels of several axes, vectors, scalars, halves, constants, and structured values."""
    from torch.distributed.tensor import Replicate, Shard

    mesh = mesh_of(world)
    for shape, placement in (
        ((6, 4, 3, 3), Shard(2)), ((6, 4, 3), Shard(0)), ((9,), Shard(0)), ((), Replicate()),
        ((6, 0), Shard(0)),
    ):  # fmt: skip
        for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
            part, cut = sharded_as(shape, mesh, [placement], dtype)
            init.normal_(part, seed=2)
            whole = init.normal_(torch.empty(shape, dtype=dtype), seed=2)
            assert torch.equal(part.to_local(), cut(whole))
    for fill, shape in ((init.eye_, (5, 7)), (init.dirac_, (5, 3, 3)), (init.ones_, (5, 2))):
        part, cut = sharded_as(shape, mesh, [Shard(0)])
        silent(lambda fill=fill, part=part: fill(part))
        assert torch.equal(part.to_local(), cut(fill(torch.empty(shape))))


@case
def no_full_tensor(world):
    """Beside its own part, a process needs less memory than a quarter of a whole tensor."""
    from torch.distributed.tensor import Shard

    mesh = mesh_of(world)
    for axis in (0, 1):
        part, _ = sharded_as((4096, 1024), mesh, [Shard(axis)])
        for name, fill in FILLS.items():
            if name == "orthogonal":  # multiplies whole matrices
                continue
            fill(part, seed=0)
            tracemalloc.start()
            fill(part, seed=0)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 4096 * 1024, (name, axis, peak)


@case
def autograd_notices(world):
    from torch.distributed.tensor import Shard

    part, _ = sharded_as((8, 3), mesh_of(world), [Shard(0)])
    leaf = nn.Parameter(part)
    before = leaf._version, leaf.to_local()._version
    saved = (leaf**2).sum()
    init.normal_(leaf, seed=0)
    assert leaf._version > before[0]
    assert leaf.to_local()._version > before[1]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        saved.backward()


@case
def refusals(world):
    from torch.distributed.tensor import DTensor, Partial, Shard

    mesh = mesh_of(world)
    partial_sum = DTensor.from_local(torch.zeros(4, 3), mesh, [Partial()])
    with pytest.raises(ValueError, match="expected shards or replicas"):
        init.normal_(partial_sum, seed=0)
    part, _ = sharded_as((8, 3), mesh, [Shard(0)])
    with pytest.raises(ValueError, match="seed: expected a seed or a generator for a DTensor"):
        init.normal_(part)
    generator = torch.Generator().manual_seed(4)
    init.normal_(part, generator=generator)
    whole = init.normal_(torch.empty(8, 3), generator=torch.Generator().manual_seed(4))
    assert torch.equal(part.full_tensor(), whole)
    module = nn.Linear(3, 4)
    module.weight = nn.Parameter(DTensor.from_local(torch.zeros(4, 3), mesh, [Partial()]))
    bias = module.bias.detach().clone()
    with pytest.raises(ValueError, match="expected shards or replicas") as error:
        init.initialize(module, seed=0)
    assert "weight (4, 3)" in error.value.__notes__[0]
    assert torch.equal(module.bias, bias)
    module.weight = nn.Parameter(part)
    with pytest.raises(ValueError, match="seed: expected the same seed on every process"):
        init.initialize(module, seed=None)


def expected_state(rules=None, seed=11):
    model = Transformer()
    init.initialize(model, rules, seed=seed)
    return dict(model.named_parameters())


def check(model, expected):
    found = dict(model.named_parameters())
    assert list(found) == list(expected)
    for name, value in found.items():
        whole = value.full_tensor() if hasattr(value, "full_tensor") else value
        assert torch.equal(whole, expected[name]), name


def fully_sharded(model, mesh=None):
    from torch.distributed.fsdp import fully_shard

    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def tensor_parallel(model, mesh):
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    for layer in model.layers:
        plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
        parallelize_module(layer, mesh, plan)
    return model


def trains(model):
    """The references of the wrappers are to the parameters that were filled."""
    x = torch.arange(12).reshape(3, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [value.detach().clone() for value in model.parameters()]
    model(x).square().mean().backward()
    optimizer.step()
    for value, old in zip(model.parameters(), before, strict=True):
        local = value.to_local() if hasattr(value, "to_local") else value
        old = old.to_local() if hasattr(old, "to_local") else old
        assert value.grad is not None
        assert not local.numel() or not torch.equal(local, old) or not value.grad.to_local().any()


@case
def fsdp_from_meta(world):
    with torch.device("meta"):
        model = Transformer()
    fully_sharded(model, mesh_of(world))
    silent(lambda: init.initialize(model, seed=11))
    assert model.head.weight is model.embedding.weight
    check(model, expected_state())
    whole = Transformer()
    init.initialize(whole, seed=11)
    x = torch.arange(12).reshape(3, 4)
    torch.testing.assert_close(model(x), whole(x))
    trains(model)
    # Once more, after the parameters of the root were gathered by a forward pass.
    model(x)
    init.initialize(model, seed=12)
    check(model, expected_state(seed=12))


@case
def tensor_parallel_model(world):
    model = tensor_parallel(Transformer(), mesh_of(world))
    silent(lambda: init.initialize(model, seed=11))
    check(model, expected_state())
    with torch.device("meta"):
        model = tensor_parallel(Transformer(), mesh_of(world))
    init.initialize(model, seed=11)
    check(model, expected_state())


@case
def both_together(world):
    if world < 4:
        return
    mesh = mesh_of(2, 2, names=("dp", "tp"))
    with torch.device("meta"):
        model = Transformer()
    tensor_parallel(model, mesh["tp"])
    fully_sharded(model, mesh["dp"])
    placements = {type(p).__name__ for v in model.parameters() for p in v.placements}
    assert "_StridedShard" in placements
    silent(lambda: init.initialize(model, seed=11))
    check(model, expected_state())


@case
def rules_of_many_kinds(world):
    def signs(*, out, seed, stream):
        fi.uniform(out=out, low=-1.0, high=1.0, seed=seed, stream=stream)
        out.sign_()

    rules = {
        "layers.0.up.*": "torch_linear",
        "layers.0.down.weight": "orthogonal",
        "layers.1.up.weight": signs,
        "layers.1.down.weight": partial(nn.init.sparse_, sparsity=0.5),
        nn.LayerNorm: "reset_parameters",
        "*.bias": 0,
        nn.Embedding: partial(fi.normal, std=0.02),
    }
    with torch.device("meta"):
        model = Transformer()
    fully_sharded(model, mesh_of(world))
    init.initialize(model, rules, seed=11)
    check(model, expected_state(rules))


@case
def pipeline_stages(world):
    """Each process holds other layers; full names make the values those of the whole model."""
    expected = expected_state()
    rank = torch.distributed.get_rank() % 2
    stage = Block()
    init.initialize(stage, seed=11, prefix=f"layers.{rank}.")
    for name, value in stage.named_parameters():
        assert torch.equal(value, expected[f"layers.{rank}.{name}"])


@case
def patched_reset_parameters(world):
    """The common recipe for FSDP: materialise, then reset every module."""
    with torch.device("meta"):
        model = Transformer()
    fully_sharded(model, mesh_of(world))
    model.to_empty(device="cpu")
    whole = Transformer()

    def reset(module):
        if isinstance(module, (nn.Linear, nn.LayerNorm)):
            module.reset_parameters()

    with init.patch(seed=5):
        model.apply(reset)
    with init.patch(seed=5):
        whole.apply(reset)
    check(model, dict(whole.named_parameters()))


@case
def flat_parameters_are_refused(world):
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = FullyShardedDataParallel(nn.Linear(4, 4), device_id=torch.device("cpu"))
    with pytest.raises(TypeError, match="expected one of fully_shard"):
        init.initialize(model, seed=0)


@case
def data_parallel(world):
    from torch.nn.parallel import DistributedDataParallel

    model = Transformer()
    init.initialize(DistributedDataParallel(copy.deepcopy(model)), seed=11)
    wrapped = DistributedDataParallel(model)
    init.initialize(wrapped, seed=11)
    check(wrapped.module, expected_state())


def worker(rank, world, store):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world
    )
    results = {}
    for name, run in CASES.items():
        try:
            with warnings.catch_warnings():
                # Of distribute_tensor() with strided shards, and of FSDP without an accelerator.
                warnings.simplefilter("ignore")
                run(world)
            results[name] = ""
        except Exception:
            results[name] = traceback.format_exc()
        torch.distributed.barrier()
    Path(f"{store}.{rank}").write_text(json.dumps(results))
    torch.distributed.destroy_process_group()


# --- the tests ------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[2, 4])
def results(request, tmp_path_factory):
    """Run all cases in as many processes; return what each process reports."""
    world, store = request.param, tmp_path_factory.mktemp("gloo") / "store"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    children = [
        subprocess.Popen(
            [sys.executable, "-P", __file__, str(rank), str(world), str(store)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(world)
    ]  # fmt: skip
    try:
        outputs = [child.communicate(timeout=300)[0] for child in children]
    finally:
        for child in children:
            child.kill()
    for child, output in zip(children, outputs, strict=True):
        assert child.returncode == 0, output
    return [json.loads(Path(f"{store}.{rank}").read_text()) for rank in range(world)]


@pytest.mark.parametrize("name", CASES)
def test_distributed(results, name):
    for rank, found in enumerate(results):
        assert not found[name], f"process {rank}: {found[name]}"


if __name__ == "__main__":
    worker(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
