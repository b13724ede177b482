"""Matrices with a structure: orthogonal, sparse, identities, and ZerO."""

import math
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from fastinit import kernels
from fastinit.initializers.distributions import draw_normal
from fastinit.initializers.scaling import check_axes
from fastinit.initializers.scheme import register
from fastinit.initializers.target import Common, Shape, Target
from fastinit.validation import check_integer

# Reflectors in one block: as wide as the matrix products need to be fast, no wider.
PANEL = 64
# From this many elements on, orthogonal works in float32 if that is asked for.
LARGE = 512 * 512


@register
def orthogonal(
    shape: Shape | None = None,
    gain: float = 1.0,
    *,
    in_axis: int = 1,
    out_axis: int = 0,
    **keywords: Unpack[Common],
) -> Any:
    """Fill with a random orthogonal matrix times ``gain``.

    The outputs are the rows, all other axes together the columns, as in PyTorch. The rows are
    orthonormal if they are not longer than the columns, otherwise the columns are.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    gain : float, default 1.0
    in_axis, out_axis : int, default 1 and 0
        The axes of inputs and outputs.
    **keywords
        Those of every initialiser.

    Returns
    -------
    ndarray, or ``out``

    Notes
    -----
    The matrix has the Haar distribution, that of Q in the QR decomposition of a normal matrix if
    the diagonal of R is positive. The Householder vectors are drawn directly: they are independent
    normal vectors themselves (Stewart 1980). float32 and halves of 512 x 512
    elements or more are computed in float32, everything else in float64. The
    BLAS decides the last bits.

    References
    ----------
    Saxe et al. (2014), "Exact solutions to the nonlinear dynamics of learning", arXiv:1312.6120.
    G. W. Stewart (1980), "The efficient generation of random orthogonal matrices".
    F. Mezzadri (2007), arXiv:math-ph/0609050.

    Examples
    --------
    >>> W = orthogonal((3, 5), seed=0)
    >>> bool(np.allclose(W @ W.T, np.eye(3)))
    True
    """
    target = Target(shape, **keywords)
    gain = target.number("gain", gain)
    in_axis, out_axis = _check_two_axes(target, in_axis, out_axis)
    if target.cells.size == 0:
        return target.result
    n_out = target.shape[out_axis]
    Q = _haar(target, n_out, math.prod(target.shape) // n_out)
    Q *= gain
    others = [n for axis, n in enumerate(target.shape) if axis != out_axis]
    return target.put(np.moveaxis(Q.reshape(n_out, *others), 0, out_axis))


def _haar(target: Target, rows: int, columns: int) -> NDArray[Any]:
    """Return orthonormal rows or columns, whichever are fewer, drawn from Haar's measure."""
    long, short = max(rows, columns), min(rows, columns)
    real = np.float64 if target.kind == "float64" or rows * columns < LARGE else np.float32
    drawn = Target((short, long), dtype=real, seed=target.key, stream=target.stream)
    V: NDArray[Any] = draw_normal(drawn, 0.0, 1.0)
    # Row k reflects the axes from k on: x -> x - 2 v v'x / v'v takes its normal vector to an axis.
    V = np.triu(V)
    diagonal = V.diagonal().copy()
    sign = np.where(diagonal < 0, real(-1), real(1))
    norm = np.sqrt(np.einsum("ij,ij->i", V, V))
    np.fill_diagonal(V, diagonal + sign * norm)
    # Scaled to v'v = 2, so that a reflection is I - v v'.
    V *= (np.sqrt(real(2)) / np.sqrt(np.einsum("ij,ij->i", V, V)))[:, None]
    Q = np.zeros((short, long), real)
    np.fill_diagonal(Q, -sign)
    # Blocks of reflectors multiply to I - V' T V (Schreiber and Van Loan 1989), last block first;
    # the transpose, so that rows stay contiguous. Rows above the block are still untouched.
    # On aarch64 NumPy's products raise floating-point flags that their results do not deserve.
    with np.errstate(all="ignore"):
        for start in reversed(range(0, short, PANEL)):
            v = V[start : start + PANEL, start:]
            gram = np.triu(v @ v.T, 1) + np.eye(len(v), dtype=real)
            q = Q[start:, start:]
            q -= (q @ v.T) @ np.linalg.solve(gram.T, v)
    return Q if rows <= columns else np.ascontiguousarray(Q.T)


@register
def identity(shape: Shape | None = None, gain: float = 1.0, **keywords: Unpack[Common]) -> Any:
    """Fill with the identity matrix times ``gain``, or a part of it if the shape is not square.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, two axes; that of ``out`` by default.
    gain : float, default 1.0
    **keywords
        Those of every initialiser.

    Returns
    -------
    ndarray, or ``out``

    Examples
    --------
    >>> identity((2, 3), 2.0)
    array([[2., 0., 0.],
           [0., 2., 0.]])
    """
    target = Target(shape, **keywords)
    gain = target.number("gain", gain)
    if len(target.shape) != 2:
        raise ValueError(f"shape: expected 2 axes; got {target.shape}")
    i, j = _indices(target)
    return target.put_part(np.where(i == j, gain, 0.0))


def _check_two_axes(target: Target, in_axis: int, out_axis: int) -> tuple[int, int]:
    """Return the axis of the inputs and that of the outputs, counted from 0."""
    rank = len(target.shape)
    in_axis = check_integer("in_axis", in_axis, -rank, max(rank, 1 - rank))
    out_axis = check_integer("out_axis", out_axis, -rank, max(rank, 1 - rank))
    [[in_axis], [out_axis]] = check_axes(target.shape, in_axis=in_axis, out_axis=out_axis)
    return in_axis, out_axis


def _indices(target: Target) -> list[NDArray[np.intp]]:
    """Return the index along each axis of the whole, over the window, ready to broadcast."""
    return list(np.ix_(*(np.arange(*limits) for limits in target.window)))


def _centre(target: Target, axes: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return where all axes but the given ones are at the middle of the receptive field."""
    inside: Any = np.ones((1,) * len(target.shape), bool)
    indices = _indices(target)
    for axis, length in enumerate(target.shape):
        if axis not in axes:
            inside = inside & (indices[axis] == length // 2)
    return inside  # type: ignore[no-any-return]


@register
def dirac(
    shape: Shape | None = None,
    groups: int = 1,
    *,
    in_axis: int = 1,
    out_axis: int = 0,
    **keywords: Unpack[Common],
) -> Any:
    """Fill a convolution with the kernel that passes on as many channels unchanged as possible.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, (n_out, n_in / groups, *field) of 3 to 5 axes; that of ``out`` by
        default.
    groups : int, default 1
        Groups of channels; a divisor of the number of outputs.
    in_axis, out_axis : int, default 1 and 0
        The axes of inputs and outputs.
    **keywords
        Those of every initialiser.

    Returns
    -------
    ndarray, or ``out``

    References
    ----------
    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.dirac_

    Examples
    --------
    >>> dirac((1, 1, 3))
    array([[[0., 1., 0.]]])
    """
    target = Target(shape, **keywords)
    if not 3 <= len(target.shape) <= 5:
        raise ValueError(f"shape: expected 3 to 5 axes, channels and a field; got {target.shape}")
    in_axis, out_axis = _check_two_axes(target, in_axis, out_axis)
    n_out = target.shape[out_axis]
    if n_out % check_integer("groups", groups, 1):
        raise ValueError(f"groups: expected a divisor of the {n_out} outputs; got {groups}")
    indices = _indices(target)
    # Outputs beyond the inputs of their group stay zero.
    same = indices[out_axis] % max(n_out // groups, 1) == indices[in_axis]
    return target.put_part(np.where(same & _centre(target, (in_axis, out_axis)), 1.0, 0.0))


@register
def delta_orthogonal(
    shape: Shape | None = None,
    gain: float = 1.0,
    *,
    in_axis: int = 1,
    out_axis: int = 0,
    **keywords: Unpack[Common],
) -> Any:
    """Fill a convolution with an orthogonal matrix at the centre of the field, and zeros elsewhere.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, 3 to 5 axes with at most as many inputs as outputs; that of
        ``out`` by default.
    gain : float, default 1.0
    in_axis, out_axis : int, default 1 and 0
        The axes of inputs and outputs.
    **keywords
        Those of every initialiser.

    Returns
    -------
    ndarray, or ``out``

    References
    ----------
    Xiao et al. (2018), arXiv:1806.05393; ``jax.nn.initializers.delta_orthogonal``.

    Examples
    --------
    >>> W = delta_orthogonal((4, 2, 3, 3), seed=0)
    >>> bool(np.allclose(W[:, :, 1, 1].T @ W[:, :, 1, 1], np.eye(2)))
    True
    """
    target = Target(shape, **keywords)
    gain = target.number("gain", gain)
    if not 3 <= len(target.shape) <= 5:
        raise ValueError(f"shape: expected 3 to 5 axes, channels and a field; got {target.shape}")
    in_axis, out_axis = _check_two_axes(target, in_axis, out_axis)
    n_out, n_in = target.shape[out_axis], target.shape[in_axis]
    if n_in > n_out:
        raise ValueError(f"shape: expected at most as many inputs as outputs; got {target.shape}")
    if target.cells.size == 0:
        return target.result
    Q = _haar(target, n_out, n_in) * gain
    indices = _indices(target)
    tap = Q[indices[out_axis], indices[in_axis]]
    return target.put_part(np.where(_centre(target, (in_axis, out_axis)), tap, 0.0))


@register
def sparse(
    shape: Shape | None = None,
    sparsity: float = 0.9,
    std: float = 0.01,
    *,
    in_axis: int = 1,
    out_axis: int = 0,
    **keywords: Unpack[Common],
) -> Any:
    """Fill with normal draws, and set the same share of every input's weights to zero.

    In each column ``ceil(sparsity * n_out)`` weights are zero, as in PyTorch's ``sparse_``: those
    with the smallest random words of stream ``stream + 2**63``.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, two axes; that of ``out`` by default.
    sparsity : float, default 0.9
        Share of zeros, from 0 to 1.
    std : float, default 0.01
        Standard deviation of the other weights.
    in_axis, out_axis : int, default 1 and 0
        The axes of inputs and outputs.
    **keywords
        Those of every initialiser.

    Returns
    -------
    ndarray, or ``out``

    References
    ----------
    Martens (2010), "Deep learning via Hessian-free optimization".

    Examples
    --------
    >>> (sparse((10, 3), 0.75, seed=0) == 0).sum(axis=0)
    array([8, 8, 8])
    """
    target = Target(shape, **keywords)
    sparsity, std = target.number("sparsity", sparsity), target.number("std", std)
    if len(target.shape) != 2:
        raise ValueError(f"shape: expected 2 axes; got {target.shape}")
    in_axis, out_axis = _check_two_axes(target, in_axis, out_axis)
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity: expected 0 <= sparsity <= 1; got {sparsity}")
    if std < 0:
        raise ValueError(f"std: expected >= 0; got {std}")
    draw_normal(target, 0.0, std)
    (i, end_i), (j, end_j) = target.window
    n_i, n_j = target.shape
    by_column = out_axis == 0
    # Whole columns of the mask, because a weight's rank among its column's decides.
    if by_column:
        words = np.empty((n_i, end_j - j), np.uint32)
        kernels.random.words(words, j, n_j, target.key, target.stream + 2**63)
    else:
        words = np.empty((end_i - i, n_j), np.uint32)
        kernels.random.words(words, i * n_j, n_j, target.key, target.stream + 2**63)
    axis = 0 if by_column else 1
    n_out = words.shape[axis]
    lost = math.ceil(sparsity * n_out)
    if lost == 0 or words.size == 0:
        return target.result
    # The index in the low half breaks ties, so the mask is the same on every platform.
    place = np.arange(n_out, dtype=np.uint64)
    ranked = words.astype(np.uint64) << np.uint64(32) | (place[:, None] if by_column else place)
    last = np.partition(ranked, lost - 1, axis=axis).take([lost - 1], axis=axis)
    dead = ranked <= last
    target.cells[dead[i:end_i] if by_column else dead[:, j:end_j]] = 0
    return target.result


@register
def zero_init(
    shape: Shape | None = None,
    *,
    in_axis: int = 1,
    out_axis: int = 0,
    **keywords: Unpack[Common],
) -> Any:
    """Fill with parts of identity and Hadamard matrices, without randomness: ZerO.

    A part of the identity if there are at most as many outputs as inputs, otherwise a scaled part
    of a Hadamard matrix. A convolution has it at the centre of its field.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    in_axis, out_axis : int, default 1 and 0
        The axes of inputs and outputs.
    **keywords
        Those of every initialiser.

    Returns
    -------
    ndarray, or ``out``

    References
    ----------
    J. Zhao, F. Schäfer and A. Anandkumar (2022), "ZerO initialization", arXiv:2110.12661.

    Examples
    --------
    >>> zero_init((2, 3))
    array([[1., 0., 0.],
           [0., 1., 0.]])
    >>> zero_init((4, 2)) * 2**0.5
    array([[ 1.,  1.],
           [ 1., -1.],
           [ 1.,  1.],
           [ 1., -1.]])
    """
    target = Target(shape, **keywords)
    in_axis, out_axis = _check_two_axes(target, in_axis, out_axis)
    n_out, n_in = target.shape[out_axis], target.shape[in_axis]
    indices = _indices(target)
    i, j = indices[out_axis], indices[in_axis]
    if n_out <= n_in:
        tap: NDArray[Any] = np.where(i == j, 1.0, 0.0)
    else:
        # Sylvester's matrix of 2**m rows has at (i, j) the parity of the bits in i & j.
        m = (n_out - 1).bit_length()
        bits = i & j
        for shift in (32, 16, 8, 4, 2, 1):
            bits = bits ^ (bits >> shift)
        tap = np.where(bits & 1, -1.0, 1.0) * math.sqrt(2.0 ** (1 - m))
    return target.put_part(np.where(_centre(target, (in_axis, out_axis)), tap, 0.0))
