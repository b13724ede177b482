"""Structured initialisers: orthogonal and sparse matrices, identities, and ZerO."""

import math
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from fastinit import kernels
from fastinit.initializers.scaling import check_axes
from fastinit.initializers.scheme import register
from fastinit.initializers.target import Common, Out, Shape, Target
from fastinit.validation import check_integer

# Reflectors per block: the smallest number for which the matrix products reach full speed.
PANEL = 64
# Matrices with at least this many elements are computed in float32, unless the dtype is float64.
LARGE = 512 * 512
# Random words that are compared at a time to choose the zeros of sparse matrices.
WORDS = 1 << 17


@register
def orthogonal(
    shape: Shape | None = None,
    gain: float = 1.0,
    *,
    in_axis: int = 1,
    out_axis: int = 0,
    **keywords: Unpack[Common[Out]],
) -> Out:
    """Fill with a random orthogonal matrix times ``gain``.

    The output axis forms the rows, and all other axes together form the columns, as in PyTorch. The
    rows are orthonormal if there are at most as many rows as columns; otherwise the columns are.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    gain : float, default 1.0
    **keywords
        Those of every initialiser.

    Returns
    -------
    ndarray, or ``out``

    Notes
    -----
    The matrix has the Haar distribution, which is that of Q in the QR decomposition of a normal
    matrix if the diagonal of R is positive. The Householder vectors are drawn directly, because
    they are independent normal vectors themselves (Stewart 1980). Matrices with at least 512 x 512
    elements are computed in float32 unless the dtype is float64, smaller ones in float64. The last
    bits of the values depend on the BLAS.

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
    others = [n for axis, n in enumerate(target.shape) if axis != out_axis]
    for each in target.each():
        Q = _haar(each, n_out, math.prod(others)) * gain
        each.put(np.moveaxis(Q.reshape(n_out, *others), 0, out_axis))
    return target.result


def _haar(target: Target[Any], rows: int, columns: int) -> NDArray[Any]:
    """Return a matrix with orthonormal rows or columns, drawn from the Haar distribution."""
    long, short = max(rows, columns), min(rows, columns)
    real = np.float64 if target.kind == "float64" or rows * columns < LARGE else np.float32
    drawn = Target((short, long), dtype=real, seed=target.key, stream=target.stream)
    V: NDArray[Any] = drawn.draw(kernels.random.normal, 0.0, 1.0)
    # Row k has a normal vector x in the axes from k on. It becomes the Householder vector v of x:
    # the reflection z -> z - 2 v v'z / v'v maps x to a multiple of axis k.
    V = np.triu(V)
    diagonal = V.diagonal().copy()
    sign = np.where(diagonal < 0, real(-1), real(1))
    norm = np.sqrt(np.einsum("ij,ij->i", V, V))
    np.fill_diagonal(V, diagonal + sign * norm)
    # Scaled to v'v = 2, so that a reflection is I - v v'.
    V *= (np.sqrt(real(2)) / np.sqrt(np.einsum("ij,ij->i", V, V)))[:, None]
    Q = np.zeros((short, long), real)
    np.fill_diagonal(Q, -sign)
    # The product of a block of reflectors is I - V' T V (Schreiber and Van Loan 1989). Blocks are
    # applied from last to first, so that those left of the current one have not changed Q yet, and
    # transposed, so that rows are contiguous.
    # On aarch64 NumPy's matrix products raise spurious floating-point warnings.
    with np.errstate(all="ignore"):
        for start in reversed(range(0, short, PANEL)):
            v = V[start : start + PANEL, start:]
            gram = np.triu(v @ v.T, 1) + np.eye(len(v), dtype=real)
            q = Q[start:, start:]
            q -= (q @ v.T) @ np.linalg.solve(gram.T, v)
    return Q if rows <= columns else np.ascontiguousarray(Q.T)


@register
def identity(shape: Shape | None = None, gain: float = 1.0, **keywords: Unpack[Common[Out]]) -> Out:
    """Fill with the identity matrix times ``gain``, truncated if the shape is not square.

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


def _check_two_axes(target: Target[Any], in_axis: int, out_axis: int) -> tuple[int, int]:
    """Return the axis of the inputs and that of the outputs, counted from 0."""
    [[in_axis], [out_axis]] = check_axes(
        target.shape,
        in_axis=(check_integer("in_axis", in_axis, -(2**63)),),
        out_axis=(check_integer("out_axis", out_axis, -(2**63)),),
    )
    return in_axis, out_axis


def _indices(target: Target[Any]) -> list[NDArray[np.intp]]:
    """Return the indices of the window along each axis of the whole array, for broadcasting."""
    return list(np.ix_(*(np.arange(*limits) for limits in target.window)))


def _centre(target: Target[Any], axes: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return whether each element is at the centre of all axes other than the given ones."""
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
    **keywords: Unpack[Common[Out]],
) -> Out:
    """Fill a convolution kernel so that as many input channels as possible are preserved.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, 3 to 5 axes, with n_in / groups as the length of the input axis;
        that of ``out`` by default.
    groups : int, default 1
        Number of groups of channels, a divisor of the number of outputs.
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
        raise ValueError(
            f"shape: expected 3 to 5 axes, for channels and receptive field; got {target.shape}"
        )
    in_axis, out_axis = _check_two_axes(target, in_axis, out_axis)
    n_out = target.shape[out_axis]
    if n_out % check_integer("groups", groups, 1):
        raise ValueError(f"groups: expected a divisor of the {n_out} outputs; got {groups}")
    indices = _indices(target)
    # Outputs in excess of the inputs of their group are zero.
    same = indices[out_axis] % max(n_out // groups, 1) == indices[in_axis]
    return target.put_part(np.where(same & _centre(target, (in_axis, out_axis)), 1.0, 0.0))


@register
def delta_orthogonal(
    shape: Shape | None = None,
    gain: float = 1.0,
    *,
    in_axis: int = 1,
    out_axis: int = 0,
    **keywords: Unpack[Common[Out]],
) -> Out:
    """Fill a convolution kernel with an orthogonal matrix at the centre, and zeros elsewhere.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, 3 to 5 axes, with at most as many inputs as outputs; that of
        ``out`` by default.
    gain : float, default 1.0
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
        raise ValueError(
            f"shape: expected 3 to 5 axes, for channels and receptive field; got {target.shape}"
        )
    in_axis, out_axis = _check_two_axes(target, in_axis, out_axis)
    n_out, n_in = target.shape[out_axis], target.shape[in_axis]
    if n_in > n_out:
        raise ValueError(f"shape: expected at most as many inputs as outputs; got {target.shape}")
    if target.cells.size == 0:
        return target.result
    indices = _indices(target)
    centre = _centre(target, (in_axis, out_axis))
    for each in target.each():
        Q = _haar(each, n_out, n_in) * gain
        each.put_part(np.where(centre, Q[indices[out_axis], indices[in_axis]], 0.0))
    return target.result


@register
def sparse(
    shape: Shape | None = None,
    sparsity: float = 0.9,
    std: float = 0.01,
    *,
    in_axis: int = 1,
    out_axis: int = 0,
    **keywords: Unpack[Common[Out]],
) -> Out:
    """Fill with normal draws, and set a fraction of the weights of every input to zero.

    For each input ``ceil(sparsity * n_out)`` weights are zero, as in PyTorch's ``sparse_``: those
    with the smallest random words of the stream ``stream + 2**63``.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, two axes; that of ``out`` by default.
    sparsity : float, default 0.9
        Fraction of zeros, from 0 to 1.
    std : float, default 0.01
        Standard deviation of the other weights, at least 0.
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
    sparsity, std = target.number("sparsity", sparsity), target.number("std", std, 0.0)
    if len(target.shape) != 2:
        raise ValueError(f"shape: expected 2 axes; got {target.shape}")
    in_axis, out_axis = _check_two_axes(target, in_axis, out_axis)
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity: expected 0 <= sparsity <= 1; got {sparsity}")
    target.draw(kernels.random.normal, 0.0, std)
    for each in target.each():
        _drop(each, sparsity, out_axis == 0)
    return target.result


def _drop(target: Target[Any], sparsity: float, by_column: bool) -> None:
    """Set a fraction of the weights of every input, a column or a row, to zero."""
    (i, end_i), (j, end_j) = target.window
    n_i, n_j = target.shape
    n_out, (first, end) = (n_i, (j, end_j)) if by_column else (n_j, (i, end_i))
    lost = math.ceil(sparsity * n_out)
    if lost == 0 or n_out == 0:
        return
    axis = 0 if by_column else 1
    # The index in the low half breaks ties, so that the mask is the same on every platform.
    place = np.arange(n_out, dtype=np.uint64)
    # Whether a weight is zero depends on all weights of its input, also those outside the window.
    # A few inputs at a time: their words may take more memory than the window.
    step = max(WORDS // n_out, 1)
    for start in range(first, end, step):
        stop = min(start + step, end)
        words = np.empty((n_out, stop - start) if by_column else (stop - start, n_out), np.uint32)
        index = start if by_column else start * n_j
        kernels.random.words(words, index, n_j, target.key, target.stream + 2**63)
        ranked = words.astype(np.uint64) << np.uint64(32) | (place[:, None] if by_column else place)
        last = np.partition(ranked, lost - 1, axis=axis).take([lost - 1], axis=axis)
        dead = ranked <= last
        if by_column:
            target.cells[0, :, start - j : stop - j][dead[i:end_i]] = 0
        else:
            target.cells[0, start - i : stop - i][dead[:, j:end_j]] = 0


@register
def zero_init(
    shape: Shape | None = None,
    *,
    in_axis: int = 1,
    out_axis: int = 0,
    **keywords: Unpack[Common[Out]],
) -> Out:
    """Fill with parts of identity and Hadamard matrices, without randomness (ZerO).

    The matrix is a part of the identity if there are at most as many outputs as inputs, otherwise a
    scaled part of a Hadamard matrix. In a convolution kernel it is at the centre of the receptive
    field, and the other elements are zero.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
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
        # The signs of Sylvester's matrix with 2**m rows are the parities of the bits of i & j.
        m = (n_out - 1).bit_length()
        bits = i & j
        for shift in (32, 16, 8, 4, 2, 1):
            bits = bits ^ (bits >> shift)
        tap = np.where(bits & 1, -1.0, 1.0) * math.sqrt(2.0 ** (1 - m))
    return target.put_part(np.where(_centre(target, (in_axis, out_axis)), tap, 0.0))
