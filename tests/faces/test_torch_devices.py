"""Tensors on other devices: copies from buffers on the CPU, and real devices if there are any."""

import warnings

import pytest

torch = pytest.importorskip("torch")

import fastinit as fi  # noqa: E402
from fastinit import torch as init  # noqa: E402
from fastinit.torch import devices, modules  # noqa: E402

nn = torch.nn


class Late(torch.Tensor):
    """A tensor whose copies are made as late as possible: when they are waited for."""

    pending: list = []  # noqa: RUF012

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.copy_ and (kwargs or {}).get("non_blocking"):
            cls.pending.append(args)
            return args[0]
        return super().__torch_function__(func, types, args, kwargs)


class Event:
    def __init__(self, device):
        self.last = None

    def record(self, stream):
        self.last = Late.pending[-1]

    def synchronize(self):
        while any(copy is self.last for copy in Late.pending):
            target, values = Late.pending.pop(0)
            target.as_subclass(torch.Tensor).copy_(values)


@pytest.fixture
def late(monkeypatch):
    """Let the CPU look like a device that copies from pinned memory; return the buffers."""
    buffers = []

    def empty(*args, pin_memory=False, **keywords):
        found = make(*args, **keywords)
        if pin_memory:
            buffers.append(found)
        return found

    make = torch.empty
    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch, "Event", Event)
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda device: None)
    for module in (devices, modules):
        monkeypatch.setattr(module, "PINNED", ("cpu",))
    monkeypatch.setattr(devices, "CHUNK", 100)
    monkeypatch.setattr(Late, "pending", [])
    return buffers


@pytest.mark.parametrize("shape", [(3,), (1000,), (70, 13), (1, 1, 900), (2, 3, 250), (3, 0)])
@pytest.mark.parametrize("name", ["normal_", "xavier_uniform_"])
def test_a_buffer_is_not_written_before_its_last_copy(late, shape, name):
    if name == "xavier_uniform_" and len(shape) < 2:
        shape = (*shape, 1)
    plain = torch.zeros(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(init, name)(plain.as_subclass(Late), seed=3)
        expected = getattr(init, name)(torch.zeros(shape), seed=3)
    assert len(late) == min(-(-plain.numel() // 100), 2)
    assert all(buffer.numel() <= 100 for buffer in late)
    assert len(Late.pending) <= 2
    for target, values in Late.pending:
        target.as_subclass(torch.Tensor).copy_(values)
    assert torch.equal(plain, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kernels", ["triton", "copies"])
@pytest.mark.parametrize("dtype", [*devices.REAL, *devices.COMPLEX])
def test_cuda(kernels, dtype, monkeypatch):
    if kernels == "copies":
        monkeypatch.setattr(devices, "_kernels_of", lambda device: None)
        monkeypatch.setattr(devices, "CHUNK", 10_000)
    else:
        pytest.importorskip("triton")
    for name in ("uniform_", "normal_", "trunc_normal_", "xavier_normal_", "orthogonal_"):
        if not (dtype.is_complex and name in ("trunc_normal_", "orthogonal_")):
            fill = getattr(init, name)
            expected = fill(torch.empty(300, 257, dtype=dtype), seed=3)
            assert torch.equal(
                fill(torch.empty(300, 257, dtype=dtype).cuda(), seed=3).cpu(), expected
            )
            turned = torch.empty(257, 300, dtype=dtype, device="cuda").T
            assert torch.equal(fill(turned, seed=3).cpu(), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_module_on_cuda():
    expected, found = nn.Transformer(64, 2, 1, 1), nn.Transformer(64, 2, 1, 1).cuda()
    for model in (expected, found):
        init.initialize(model, seed=1)
    for one, other in zip(expected.parameters(), found.parameters(), strict=True):
        assert torch.equal(one, other.cpu())


def test_the_cpu_does_not_need_triton():
    assert devices._kernels_of("cpu") is None
    assert torch.equal(
        init.normal_(torch.empty(9), seed=1),
        torch.from_numpy(fi.normal(9, seed=1, dtype="float32")),
    )
