"""Dense layers: forward and backward passes, losses, updates, and the fused descent.

Layout: examples are the contiguous axis. ``A`` is (n_in, m), ``W`` (n_out, n_in), ``b`` (n_out, 1).

The included files, each of which depends only on those before it:

- ``gemm.pxi``: matrix products on register tiles;
- ``activations.pxi``: exponential, logarithm, the activations and their derivatives;
- ``losses.pxi``: losses and their gradients;
- ``team.pxi``: threads;
- ``descent.pxi``: the network, the data, the jobs and the memory of a descent, and its loop;
- ``updates.pxi``: the optimisers;
- ``gradients.pxi``: the strategies;
- ``steps.pxi``: one iteration in separate calls, for loops written in Python.

Sums have a fixed order, which depends on network and batch only. Kernels do not validate values;
the shapes that a descent relies on are checked when it starts. ``fastinit/reference.py`` has
functions of the same names and arguments.
"""

cimport cython
from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport INFINITY, NAN, pow, sqrt
from libc.math cimport log as c_log
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

import _thread
import os

import numpy as np

cdef object np_ndarray = np.ndarray

cdef extern from "lanes.h":
    enum:
        VECTOR_BYTES
        MOST_LANES
    void prefetch(const void* p) noexcept nogil
    void poison(void* p, size_t n) noexcept nogil
    void float_fill(float* out, float w) noexcept nogil
    void double_fill(double* out, double w) noexcept nogil
    void float_add(float* out, const float* a) noexcept nogil
    void double_add(double* out, const double* a) noexcept nogil
    void float_copy(float* out, const float* a) noexcept nogil
    void double_copy(double* out, const double* a) noexcept nogil
    void float_multiply(float* out, const float* a) noexcept nogil
    void double_multiply(double* out, const double* a) noexcept nogil
    void float_multiply_add(float* out, const float* a, float w) noexcept nogil
    void double_multiply_add(double* out, const double* a, double w) noexcept nogil
    void float_multiply_add_lanes(float* out, const float* a, const float* b) noexcept nogil
    void double_multiply_add_lanes(double* out, const double* a, const double* b) noexcept nogil
    void float_relu(float* out, const float* z) noexcept nogil
    void double_relu(double* out, const double* z) noexcept nogil
    void float_relu_backward(float* a, const float* da) noexcept nogil
    void double_relu_backward(double* a, const double* da) noexcept nogil
    void float_transpose(
        float* out, Py_ssize_t out_step, const float* a, Py_ssize_t a_step) noexcept nogil
    void double_transpose(
        double* out, Py_ssize_t out_step, const double* a, Py_ssize_t a_step) noexcept nogil
    void float_copy_in(float* out, const float* a, Py_ssize_t n) noexcept nogil
    void double_copy_in(double* out, const double* a, Py_ssize_t n) noexcept nogil
    void float_copy_out(float* out, const float* a, Py_ssize_t n) noexcept nogil
    void double_copy_out(double* out, const double* a, Py_ssize_t n) noexcept nogil
    float float_sum(const float* a) noexcept nogil
    double double_sum(const double* a) noexcept nogil
    int32_t float_bits(float x) noexcept nogil
    int64_t double_bits(double x) noexcept nogil
    float float_from_bits(int32_t bits) noexcept nogil
    double double_from_bits(int64_t bits) noexcept nogil

ctypedef fused real:
    float
    double

cdef enum:
    # 6 rows x 2 registers of sums, 2 of activations and 1 of a weight: 15 of the 16 registers of
    # AVX2 and SSE2. AVX-512 has 32 registers, but taller tiles were not faster.
    ROWS = 6
    SUMS = 12

    # The size of each table of named functions.
    MOST_NAMES = 32


cdef Py_ssize_t new_number(dict numbers, str name) except -1:
    """Add a name to those of a table, and return its number."""
    if name in numbers or len(numbers) == MOST_NAMES:
        raise ValueError(f"expected at most {MOST_NAMES} names, each once; got another {name!r}")
    numbers[name] = len(numbers)
    return numbers[name]


cdef Py_ssize_t number_of(dict numbers, str what, name) except -1:
    """Return the number of a name in a table."""
    number = numbers.get(name)
    if number is None:
        raise ValueError(f"{what}: expected one of {', '.join(numbers)}; got {name!r}")
    return number


include "gemm.pxi"
include "activations.pxi"
include "losses.pxi"
include "team.pxi"
include "descent.pxi"
include "updates.pxi"
include "gradients.pxi"
include "steps.pxi"

# The names of what the kernels can compute; ``fastinit.reference`` has tables of these.
ACTIVATIONS = tuple(activation_numbers)
LOSSES = tuple(loss_numbers)
OPTIMIZERS = tuple(optimizer_numbers)


# --- entry points: layers -------------------------------------------------------------------------

cdef inline const real* start_of(const real[:, ::1] a) noexcept nogil:
    """Return the address of the first element; NULL if there is none."""
    return &a[0, 0] if a.shape[0] > 0 and a.shape[1] > 0 else NULL


cdef inline void affine(
    const real[:, ::1] W, const real[:, ::1] b, const real[:, ::1] A, real[:, ::1] out,
    Finish finish,
) noexcept nogil:
    gemm(
        start_of(W), W.shape[1], 1, W.shape[0], W.shape[1], start_of(b), start_of(A), A.shape[1],
        <real*>start_of(out), out.shape[1], out.shape[1], finish,
    )


cdef enum:
    CHECKED = 4096               # numbers between two looks at the result of a check


cdef bint are_finite(const real* a, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t k, stop, start = 0
    cdef int64_t wrong = 0
    while start < n and wrong == 0:
        stop = min(start + <Py_ssize_t>CHECKED, n)
        # x - x is 0 for finite numbers and NaN otherwise.
        for k in range(start, stop):
            wrong += a[k] - a[k] != 0
        start = stop
    return wrong == 0


cdef bint are_not_negative(const real* a, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t k
    cdef int64_t wrong = 0
    for k in range(n):
        wrong += a[k] < 0
    return wrong == 0


cdef bint are_binary(const real* a, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t k
    cdef int64_t wrong = 0
    for k in range(n):
        wrong += (a[k] != 0) & (a[k] != 1)
    return wrong == 0


cdef bint have_one_each(const real* a, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """Return whether each column of a binary matrix has exactly one 1."""
    cdef real sums[64]
    cdef Py_ssize_t start = 0, n, r, k
    cdef int64_t wrong = 0
    while start < columns:
        n = min(<Py_ssize_t>64, columns - start)
        for k in range(n):
            sums[k] = 0
        for r in range(rows):
            for k in range(n):
                sums[k] += a[r * columns + start + k]
        for k in range(n):
            wrong += sums[k] != 1
        start += n
    return wrong == 0


cdef bint holds(const real* a, Py_ssize_t rows, Py_ssize_t columns, str content) noexcept:
    cdef Py_ssize_t n = rows * columns
    cdef bint one_hot = content == "one_hot", binary = one_hot or content == "binary"
    cdef bint not_negative = content == "not_negative"
    cdef bint finite = not_negative or content == "finite", found
    with nogil:
        found = (
            (not finite or are_finite(a, n))
            and (not not_negative or are_not_negative(a, n))
            and (not binary or are_binary(a, n))
            and (not one_hot or have_one_each(a, rows, columns))
        )
    return found


def usable(array, dtype, tuple shape, str content, bint written=False):
    """Return whether the kernels can take an array as it is, so that it needs no other check.

    It is an ndarray, not of a subclass, of this dtype and shape, contiguous and aligned, and
    writable if it is to be written. -1 in the shape is any length. ``content`` is "any", "finite",
    "not_negative" (and finite), "binary" (0 or 1), or "one_hot" (binary, each column with one 1).
    """
    cdef Py_buffer view
    cdef Py_ssize_t k, length, n = 1
    cdef bint found
    if type(array) is not np_ndarray or array.dtype is not dtype:
        return False
    try:
        PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS)
    except (ValueError, BufferError):
        return False
    found = (
        view.ndim == len(shape) and not (written and view.readonly)
        and <size_t>view.buf % <size_t>view.itemsize == 0
    )
    if found:
        for k in range(view.ndim):
            length = shape[k]
            found = found and (length == -1 or length == view.shape[k])
            if k > 0:
                n *= view.shape[k]
    if found and content != "any":
        if view.itemsize == sizeof(float):
            found = holds(<const float*>view.buf, view.shape[0], n, content)
        else:
            found = holds(<const double*>view.buf, view.shape[0], n, content)
    PyBuffer_Release(&view)
    return found


def all_finite(const real[:, ::1] A):
    """Return whether all numbers are finite."""
    cdef bint found
    with nogil:
        found = are_finite(start_of(A), A.shape[0] * A.shape[1])
    return found


def linear(
    const real[:, ::1] W,      # (n_out, n_in)
    const real[:, ::1] b,      # (n_out, 1)
    const real[:, ::1] A,      # (n_in, m)
    real[:, ::1] out,          # (n_out, m), overwritten
):
    """Overwrite ``out`` with ``W @ A + b``."""
    with nogil:
        affine(W, b, A, out, LINEAR)


def linear_relu(
    const real[:, ::1] W,      # (n_out, n_in)
    const real[:, ::1] b,      # (n_out, 1)
    const real[:, ::1] A,      # (n_in, m)
    real[:, ::1] out,          # (n_out, m), overwritten
):
    """Overwrite ``out`` with ``max(W @ A + b, 0)``; NaN stays NaN."""
    with nogil:
        affine(W, b, A, out, RELU)


def sigmoid(
    const real[:, ::1] Z,      # (n_out, m)
    real[:, ::1] out,          # (n_out, m), overwritten; may be Z
):
    """Overwrite ``out`` with ``1 / (1 + exp(-Z))``."""
    cdef const real* z = start_of(Z)
    cdef real* a = <real*>start_of(out)
    cdef Py_ssize_t e
    with nogil:
        for e in range(Z.shape[0] * Z.shape[1]):
            a[e] = sigmoid_of(z[e])


def activate(
    const real[:, ::1] Z,      # (n, m)
    activation,                # a name
    double negative_slope,     # of leaky_relu
    real[:, ::1] A,            # (n, m), overwritten
    real[:, ::1] derivatives,  # (n, m), overwritten
):
    """Overwrite ``A`` with the activation of ``Z``, and ``derivatives`` with its derivative."""
    cdef const Activation* functions = activation_named(activation)
    cdef real* a = <real*>start_of(A)
    cdef real* d = <real*>start_of(derivatives)
    cdef Py_ssize_t e, n = Z.shape[0] * Z.shape[1]
    A[...] = Z
    with nogil:
        activate_row(a, d, n, functions, <real>negative_slope)
        if not keeps_derivatives(functions):
            for e in range(n):
                d[e] = a[e]
            derivatives_of_row(d, d, n, functions, <real>negative_slope)


def loss(
    const real[:, ::1] Z,      # (n_out, m)
    const real[:, ::1] Y,      # (n_out, m)
    const real[::1] sample_weight,   # (m,), of the examples; None where all are 1
    loss,                      # a name
    real[:, ::1] A,            # (n_out, m), overwritten
    real[:, ::1] dZ,           # (n_out, m), overwritten
):
    """Overwrite ``A`` with the outputs and ``dZ`` with the gradient of the cost; return the cost.

    The cost is the mean loss of the examples, weighted by ``sample_weight``. It is zero, and so is
    ``dZ``, if all weights are zero. The saturating cross-entropy is that of the lesson,
    ``nansum(-log(A) * Y - log(1 - A) * (1 - Y)) / m``: infinite if the sigmoid saturates on the
    wrong side.
    """
    cdef const Loss* functions = loss_named(loss)
    cdef Py_ssize_t m = Z.shape[1], n_out = Z.shape[0]
    cdef Py_ssize_t start = 0, n, e
    cdef double total = 0, whole = m
    cdef const real* w = NULL
    if n_out == 0 or m == 0:
        return float("nan") if m == 0 else 0.0
    dZ[...] = Z
    if sample_weight is not None:
        w = &sample_weight[0]
        whole = 0
        for e in range(m):
            whole += w[e]
    with nogil:
        while start < m:
            n = min(<Py_ssize_t>LOSS_BLOCK, m - start)
            total += loss_block(
                functions, &dZ[0, start], &Y[0, start], m, w + start if w != NULL else w,
                &A[0, start], n_out, m, n, <real>(1 / whole if whole > 0 else 0),
            )
            start += n
    return total / whole if whole > 0 else 0.0


def backward(
    const real[:, ::1] W,      # (n_out, n_in)
    const real[:, ::1] A,      # (n_in, m), what the layer read
    const real[:, ::1] dZ,     # (n_out, m)
    real[:, ::1] dW,           # (n_out, n_in), accumulated
    real[:, ::1] db,           # (n_out, 1), accumulated
    real[:, ::1] dA,           # (n_in, m), overwritten; None if not wanted
):
    """Accumulate ``dW += dZ @ A.T`` and ``db += sum(dZ)``; overwrite ``dA``.

    ``dA = (W.T @ dZ) * (A > 0)``: ``A`` is the output of a ReLU. ``dA`` may be ``A``.
    """
    cdef Py_ssize_t m = A.shape[1]
    cdef bint wanted = dA is not None
    cdef Blocks blocks
    if wanted and m > 0 and A.shape[0] > 0 and &dA[0, 0] != &A[0, 0]:
        dA[...] = A
    with nogil:
        blocks = one_block(m, m, m)
        gemm_dots(
            start_of(dZ), start_of(A), &blocks, W.shape[0], W.shape[1], <real*>start_of(dW),
            W.shape[1], <real*>start_of(db), False,
        )
        if wanted:
            gemm(
                start_of(W), 1, W.shape[1], W.shape[1], W.shape[0], <const real*>NULL,
                start_of(dZ), m, <real*>start_of(dA), m, m, RELU_BACKWARD,
            )


# --- entry points: whole networks -----------------------------------------------------------------

cdef object misfit(name, expected, found):
    """Return the error for an argument that does not fit the network."""
    return ValueError(f"{name}: expected {expected}; got {found}")


# Cannot be pickled, because it holds addresses and threads.
@cython.auto_pickle(False)
cdef class Descent:
    """The memory and the threads of a run, which are kept between its slices."""

    cdef Call call
    cdef Py_ssize_t itemsize
    cdef Helpers helpers
    cdef object error
    cdef object key              # of the call that the memory was laid out for
    cdef const void* packed_X    # what was packed from
    cdef Py_ssize_t* numbers     # memory of the shape: of its arrays of numbers
    cdef Piece* pieces           # and of its pieces
    cdef char* memory            # scratch
    cdef Py_ssize_t used
    cdef Py_ssize_t n_jobs       # allocated in call.jobs

    def __cinit__(self):
        self.helpers = Helpers()

    def __dealloc__(self):
        free(self.numbers)
        free(self.pieces)
        free(self.memory)
        free(self.call.jobs)
        free(self.call.groups)

    cdef void look(self):
        """Check for Ctrl-C."""
        try:
            PyErr_CheckSignals()
        except BaseException as error:
            self.error = error
            counter_store(&self.call.interrupted, 1)

    def interrupt(self):
        """Make all threads leave at their next task."""
        counter_store(&self.call.interrupted, 1)

    cdef void* take(self, Py_ssize_t numbers, Py_ssize_t itemsize) noexcept:
        """Return scratch memory on a cache line; only count it before it is allocated."""
        cdef Py_ssize_t at = self.used
        self.used += (numbers * itemsize + 63) // 64 * 64
        return self.memory + at if self.memory != NULL else NULL

    cdef int take_jobs(self, Py_ssize_t n) except -1:
        if n <= self.n_jobs:
            return 0
        free(self.call.jobs)
        free(self.call.groups)
        self.n_jobs = 0
        self.call.jobs = <Job*>calloc(n, sizeof(Job))
        self.call.groups = <Py_ssize_t*>calloc(n + 1, sizeof(Py_ssize_t))
        if self.call.jobs == NULL or self.call.groups == NULL:
            raise MemoryError(f"no memory for {n} networks")
        self.n_jobs = n
        return 0

    cdef int take_layout(self, layout, Py_ssize_t batch, bint forward_only) except -1:
        """Lay out the network and cut its batches."""
        cdef Shape* shape = &self.call.shape
        cdef Py_ssize_t lanes = VECTOR_BYTES // self.itemsize
        cdef Py_ssize_t layer, n, parameters = 0, rows = 0
        sizes = layout.sizes
        n = len(sizes) - 1
        if not (n >= 1 and min(sizes) >= 1):
            raise misfit("sizes", "at least two, each at least 1", sizes)
        free(self.numbers)
        free(self.pieces)
        self.pieces = NULL
        self.numbers = <Py_ssize_t*>calloc(5 * (n + 1), sizeof(Py_ssize_t))
        if self.numbers == NULL:
            raise MemoryError("no memory for the layout of a network")
        shape.n_layers = n
        shape.sizes = self.numbers
        shape.weights_at = self.numbers + (n + 1)
        shape.rows_at = self.numbers + 2 * (n + 1)
        shape.panels_at = self.numbers + 3 * (n + 1)
        shape.transposed_at = self.numbers + 4 * (n + 1)
        for layer in range(n + 1):
            shape.sizes[layer] = sizes[layer]
        self.pieces = <Piece*>calloc(count_pieces(shape, lanes), sizeof(Piece))
        if self.pieces == NULL:
            raise MemoryError("no memory for the layout of a network")
        shape.pieces = self.pieces
        shape.bias = layout.bias
        shape.activation = activation_named(layout.activation)
        shape.negative_slope = layout.negative_slope
        shape.loss = loss_named(layout.loss)
        for layer in range(n):
            shape.weights_at[layer] = parameters
            shape.rows_at[layer] = rows
            parameters += shape.sizes[layer + 1] * (shape.sizes[layer] + shape.bias)
            rows += shape.sizes[layer + 1]
        shape.rows_at[n] = rows
        shape.n_parameters = parameters
        cut(shape, batch, self.itemsize, forward_only)
        return 0

    cdef int take_memory(self, bint forward_only, bint whole_gradient) except -1:
        """Allocate the scratch memory of all teams, in one block.

        It is not cleared, which took a fifth of the time of a short call.
        """
        free(self.memory)
        self.memory = NULL
        self.used = 0
        self.take_scratch(forward_only, whole_gradient)
        self.memory = <char*>malloc(self.used + 64)
        if self.memory == NULL:
            self.key = None
            raise MemoryError(f"no memory for {self.used} bytes of scratch")
        poison(self.memory, self.used + 64)
        self.used = 64 - <Py_ssize_t>(<size_t>self.memory & 63)
        self.take_scratch(forward_only, whole_gradient)
        return 0

    cdef void take_scratch(self, bint forward_only, bint whole_gradient) noexcept:
        cdef Call* call = &self.call
        cdef Shape* shape = &call.shape
        cdef Data* data = &call.data
        cdef Workspace* space
        cdef Workspace none
        cdef Py_ssize_t itemsize = self.itemsize, n_in = shape.sizes[0], t, members
        cdef Team* teams = <Team*>self.take(call.n_teams, sizeof(Team))
        cdef Workspace* spaces = <Workspace*>self.take(call.n_teams, sizeof(Workspace))
        cdef void* packed = NULL
        call.task_costs = <double*>self.take(call.n_groups * call.tasks, sizeof(double))
        if data.order == NULL and shape.strategy == THIN:
            packed = self.take(n_in * data.m, itemsize)
        elif data.order == NULL and shape.strategy != INTERLEAVED:
            packed = self.take(
                (ceil_div(data.m, shape.width) - data.first_packed) * n_in * shape.width, itemsize
            )
        if self.memory != NULL:
            memset(teams, 0, call.n_teams * sizeof(Team))
            memset(spaces, 0, call.n_teams * sizeof(Workspace))
            call.teams = teams
            call.spaces = spaces
            data.packed = packed
        for t in range(call.n_teams):
            members = self.members(t)
            space = &none
            if self.memory != NULL:
                teams[t].size = members
                space = &spaces[t]
            space.weight_blocks = self.take(members * shape.width, itemsize)
            if shape.strategy == INTERLEAVED:
                self.take_lanes(space)
                continue
            space.next_theta = self.take(0 if forward_only else shape.n_parameters, itemsize)
            space.zeros = self.take(shape.width, itemsize)
            if self.memory != NULL:
                memset(space.zeros, 0, shape.width * itemsize)
            space.Y_blocks = self.take(
                members * shape.sizes[shape.n_layers] * shape.width, itemsize
            )
            if shape.strategy == THIN:
                self.take_thin(space, members, forward_only)
            else:
                self.take_blocks(space, members, forward_only, whole_gradient)

    cdef void take_thin(self, Workspace* space, Py_ssize_t members, bint forward_only) noexcept:
        """Take the memory of the thin strategy."""
        cdef Shape* shape = &self.call.shape
        cdef Py_ssize_t itemsize = self.itemsize, examples = shape.width, rows = rows_of(shape)
        space.outputs = self.take(shape.sizes[shape.n_layers] * examples, itemsize)
        space.activations = self.take(rows * examples, itemsize)
        if keeps_derivatives(shape.activation):
            space.derivatives = self.take(rows * examples, itemsize)
        space.X_blocks = self.take(members * THIN_UNITS * examples, itemsize)
        space.examples = self.take(shape.sizes[0] * examples, itemsize)
        space.piece_gradients = self.take(members * THIN_ROWS * THIN_INPUTS, itemsize)
        space.gradient = self.take(0 if forward_only else shape.n_parameters, itemsize)

    cdef void take_blocks(
        self, Workspace* space, Py_ssize_t members, bint forward_only, bint whole_gradient
    ) noexcept:
        """Take the memory of the narrow and the wide strategy."""
        cdef Shape* shape = &self.call.shape
        cdef Data* data = &self.call.data
        cdef Py_ssize_t itemsize = self.itemsize, width = shape.width, n = shape.n_parameters
        cdef Py_ssize_t pair = 2 * (VECTOR_BYTES // itemsize), rows = rows_of(shape)
        cdef Py_ssize_t copied = most_copied(shape), resident = shape.resident_blocks
        cdef Py_ssize_t batch = data.m if data.order == NULL else min(data.batch_size, data.epoch)
        # In parts, each member has resident blocks; otherwise the team shares them.
        cdef Py_ssize_t owners = members if shape.parts > 1 else 1, k
        # A narrow network has a cost for each part, a wide one for each block.
        k = shape.parts if shape.strategy == NARROW else ceil_div(batch, width)
        space.partial_costs = <double*>self.take(k, sizeof(double))
        space.outputs = self.take(members * shape.sizes[shape.n_layers] * width, itemsize)
        k = members if shape.strategy == NARROW or forward_only else owners * resident
        space.activations = self.take(k * rows * width, itemsize)
        if keeps_derivatives(shape.activation):
            space.derivatives = self.take(members * rows * width, itemsize)
        k = resident if shape.input_parts > 0 else 1
        space.X_blocks = self.take(members * k * copied * width, itemsize)
        space.examples = self.take(members * copied * width, itemsize)
        space.products = self.take(
            shape.input_parts * resident * shape.sizes[1] * width, itemsize
        )
        if forward_only:
            return
        if shape.strategy == NARROW:
            space.gradient = self.take(shape.parts * n, itemsize)
            space.spread = self.take(members * n * shape.spread, VECTOR_BYTES)
            return
        space.transposed = self.take(shape.transposed_size, itemsize)
        space.panels = self.take(owners * shape.panel_size, itemsize)
        space.X_panels = self.take(shape.parts * shape.X_panel_size, itemsize)
        space.input_panels = self.take(members * resident * width * pair, itemsize)
        if whole_gradient:
            space.gradient = self.take(shape.parts * n, itemsize)
        else:
            space.gradient = NULL
            space.piece_gradients = self.take(members * shape.piece_size, itemsize)

    cdef void take_lanes(self, Workspace* space) noexcept:
        """Take the memory of the interleaved strategy: a register of networks for each number."""
        cdef Shape* shape = &self.call.shape
        cdef Py_ssize_t itemsize = self.itemsize, n = shape.n_parameters, examples = shape.width
        cdef Py_ssize_t n_in = shape.sizes[0], n_out = shape.sizes[shape.n_layers], layer
        cdef Py_ssize_t rows = rows_of(shape), most_in = 0, most_out = 0
        cdef Lanes none
        cdef Lanes* lanes = <Lanes*>self.take(1, sizeof(Lanes))
        space.lanes = lanes
        if self.memory == NULL:
            lanes = &none
        for layer in range(shape.n_layers):
            most_in = max(most_in, shape.sizes[layer])
            most_out = max(most_out, shape.sizes[layer + 1])
        lanes.theta = self.take(n, VECTOR_BYTES)
        lanes.first = self.take(n, VECTOR_BYTES)
        lanes.second = self.take(n, VECTOR_BYTES)
        lanes.settings = self.take(2 * shape.n_layers * N_SETTINGS * MOST_LANES, itemsize)
        lanes.X = self.take(n_in * examples, itemsize)
        lanes.Y = self.take(n_out * examples, VECTOR_BYTES)
        lanes.activations = self.take(rows * examples, VECTOR_BYTES)
        if keeps_derivatives(shape.activation):
            lanes.derivatives = self.take(rows * examples, VECTOR_BYTES)
        lanes.outputs = self.take(most_out * examples, VECTOR_BYTES)
        lanes.gradient = self.take(max(n, ROWS * most_in), VECTOR_BYTES)
        lanes.nonfinite = self.take(1, VECTOR_BYTES)
        lanes.costs = <double*>self.take(MOST_LANES, sizeof(double))

    cdef Py_ssize_t members(self, Py_ssize_t t) noexcept:
        """Return the number of threads of team ``t``; the first teams get the remainder."""
        cdef Call* call = &self.call
        cdef Py_ssize_t n = call.n_threads // call.n_teams
        n += t < call.n_threads % call.n_teams
        return min(n, call.shape.most_threads)

    cdef int start(
        self, layout, Py_ssize_t itemsize, Py_ssize_t n_jobs, Py_ssize_t threads, kind
    ) except -1:
        """Prepare ``n_jobs`` jobs; their groups and the data are set.

        ``kind`` is "forward", "gradient" or "descent", which differ in the memory they need.
        """
        cdef Call* call = &self.call
        cdef Data* data = &call.data
        cdef Shape* shape = &call.shape
        cdef Py_ssize_t batch = data.m if data.order == NULL else min(data.batch_size, data.epoch)
        cdef Py_ssize_t t, wanted, n_teams
        cdef Py_ssize_t available
        cdef bint forward_only = kind == "forward"
        cdef bint short = not self.helpers.helpers and is_short(
            3 * batch * n_parameters_of(layout), call.jobs[0].iterations * n_jobs
        )
        if threads < 1:
            raise misfit("threads", "at least 1", threads)
        call.owner = <void*>self
        call.next_group = 0
        call.interrupted = 0
        self.error = None
        key = (
            layout, itemsize, batch, call.n_groups, threads, kind, data.m, data.order == NULL,
            data.X_row, data.X_column, os.getpid(), short,
        )
        if self.key is not None and key == self.key:
            if self.packed_X != data.X:
                self.packed_X = data.X
                self.pack_X()
            return 0
        self.key = None
        self.itemsize = itemsize
        self.take_layout(layout, batch, forward_only)
        call.tasks = forward_tasks(shape) if forward_only else 0
        n_teams = call.n_groups
        if call.tasks > 0:
            n_teams *= shape.most_threads
            threads = min(threads, n_teams)
        call.n_threads = threads
        call.n_teams = max(min(threads, n_teams), 1)
        wanted = 0
        for t in range(call.n_teams):
            wanted += self.members(t)
        available = 1 if short else 1 + len(self.helpers.acquire(wanted - 1))
        if available < wanted:
            call.n_threads = available
            call.n_teams = max(min(call.n_threads, n_teams), 1)
        data.first_packed = 0
        if data.order == NULL and shape.strategy != THIN and data.X_column == 1:
            if shape.sizes[0] * data.m * itemsize > PACKED_BYTES:
                data.first_packed = data.m // shape.width
        if forward_only and shape.strategy != THIN and shape.input_parts == 0:
            # A network reads X once, so that each thread may as well copy the blocks that it reads.
            data.first_packed = ceil_div(data.m, shape.width)
        self.take_memory(
            forward_only,
            kind == "gradient" or shape.parts > 1 or shape.resident_blocks * shape.width < batch,
        )
        self.key = key
        self.packed_X = data.X
        self.pack_X()
        return 0

    cdef void pack_X(self) noexcept:
        cdef Py_ssize_t t
        for t in range(self.call.n_teams):
            self.call.spaces[t].X_panels_filled = False
        if self.itemsize == sizeof(float):
            pack(<const float*>NULL, &self.call)
        else:
            pack(<const double*>NULL, &self.call)

    cdef int run(self) except -1:
        """Run the jobs on all threads; raise the exception of Ctrl-C, if there was one."""
        cdef Py_ssize_t t, wanted = 0
        for t in range(self.call.n_teams):
            wanted += self.call.teams[t].size
        error = done_by_all(
            self.helpers.acquire(wanted - 1), take_part, self, &self.call.interrupted,
            self.call.tasks > 0,
        )
        error = self.error or error
        self.error = None
        if error is not None:
            raise error
        return 0


cdef void take_part(object owner, Py_ssize_t thread) noexcept:
    """Run jobs of a descent as a member of a team; threads are dealt to the teams in turn."""
    cdef Descent descent = <Descent>owner
    cdef Call* call = &descent.call
    cdef Py_ssize_t t = thread % call.n_teams, rank = thread // call.n_teams
    with nogil:
        if call.tasks > 0 and descent.itemsize == sizeof(float):
            run_forward(<const float*>NULL, call, t)
        elif call.tasks > 0:
            run_forward(<const double*>NULL, call, t)
        elif descent.itemsize == sizeof(float):
            run_jobs(<const float*>NULL, call, t, rank)
        else:
            run_jobs(<const double*>NULL, call, t, rank)


cdef bint is_short(Py_ssize_t work, Py_ssize_t iterations) noexcept:
    """Whether the work, in multiply-adds per iteration, is too little to start a thread for."""
    return iterations <= START_WORK // work


cdef int take_data(
    Descent descent, layout, const real[:, :] X, const real[:, ::1] Y,
    const real[::1] sample_weight, const Py_ssize_t[:, ::1] order, Py_ssize_t batch_size,
    Py_ssize_t first, Py_ssize_t iterations,
) except -1:
    """Set the data of a call; raise if shapes do not fit."""
    cdef Data* data = &descent.call.data
    cdef Py_ssize_t m = X.shape[1], n_in = layout.sizes[0]
    cdef Py_ssize_t n_out = layout.sizes[len(layout.sizes) - 1]
    if not (X.shape[0] == n_in and m > 0):
        raise misfit("X", f"shape ({n_in}, n_examples)", (X.shape[0], m))
    data.X = &X[0, 0]
    data.X_row = X.strides[0] // <Py_ssize_t>sizeof(real)
    data.X_column = X.strides[1] // <Py_ssize_t>sizeof(real)
    data.m = m
    data.Y = NULL
    if Y is not None:
        if not (Y.shape[0] == n_out and Y.shape[1] == m):
            raise misfit("Y", f"shape ({n_out}, {m})", (Y.shape[0], Y.shape[1]))
        data.Y = &Y[0, 0]
    data.weights = NULL
    if sample_weight is not None:
        if not (sample_weight.shape[0] == m):
            raise misfit("sample_weight", f"shape ({m},)", (sample_weight.shape[0],))
        data.weights = &sample_weight[0]
    data.batch_size = batch_size
    data.first = first
    data.order = NULL
    data.epoch = m
    if order is not None:
        if not (batch_size > 0):
            raise misfit("batch_size", "at least 1", batch_size)
        data.epoch = order.shape[1]
        if not (data.epoch > 0):
            raise misfit("order", "at least one example", 0)
        if not (
            0 <= first
            and first + iterations <= order.shape[0] * ceil_div(data.epoch, batch_size)
        ):
            raise misfit(
                "order", f"enough epochs for {iterations} batches from {first} on",
                order.shape[0],
            )
        data.order = &order[0, 0]
    return 0


cdef int take_rule(Rule* to, rule) except -1:
    to.optimizer = &OPTIMIZER_TABLE[number_of(optimizer_numbers, "rule", rule.name)]
    to.beta1 = rule.beta1
    to.beta2 = rule.beta2
    to.epsilon = rule.epsilon
    to.l2 = rule.l2
    to.weight_decay = rule.weight_decay
    to.penalty_in_cost = rule.penalty_in_cost
    to.l2_by_batch = rule.l2_by_batch
    to.nesterov = rule.nesterov
    to.rate_in_velocity = rule.rate_in_velocity
    to.epsilon_hat = rule.epsilon_hat
    return 0


cdef Py_ssize_t n_parameters_of(layout) except -1:
    cdef tuple sizes = layout.sizes
    cdef Py_ssize_t bias = layout.bias, n = 0, k, n_in, n_out
    for k in range(1, len(sizes)):
        n_in, n_out = sizes[k - 1], sizes[k]
        n += n_out * (n_in + bias)
    return n


cdef void group_jobs(
    Descent descent, Py_ssize_t parameters, Py_ssize_t itemsize, Py_ssize_t n, Py_ssize_t batch,
) noexcept:
    """Group jobs into registers for the interleaved strategy, and one by one for the others."""
    cdef Call* call = &descent.call
    cdef Py_ssize_t lanes = VECTOR_BYTES // itemsize, i, most = 1
    if is_interleaved(parameters, batch, lanes):
        most = lanes
    call.n_groups = 0
    for i in range(n):
        if (
            i == 0 or i - call.groups[call.n_groups - 1] == most
            or call.jobs[i].rule.optimizer != call.jobs[i - 1].rule.optimizer
        ):
            call.groups[call.n_groups] = i
            call.n_groups += 1
    call.groups[call.n_groups] = n


def update_parameters(
    layout,
    rule,
    real[::1] theta,           # (n_parameters,), updated in place
    const real[::1] gradient,  # (n_parameters,)
    real[:, ::1] state,        # (slots, n_parameters), updated in place
    Py_ssize_t step,           # updates before this one
    const double[::1] rates,   # (1,), or (2 * n_layers,): of weights and biases of each layer
):
    """Update ``theta`` and ``state`` in place."""
    cdef Descent descent = Descent()
    cdef Job job
    descent.itemsize = sizeof(real)
    descent.take_layout(layout, 1, False)
    job.n_parameters = descent.call.shape.n_parameters
    job.next_theta = &theta[0]
    job.state = &state[0, 0] if state.shape[0] > 0 else NULL
    job.step = step
    job.done = 0
    job.rates = &rates[0]
    job.rate_step = 0
    job.n_rates = rates.shape[0]
    take_rule(&job.rule, rule)
    begin_update(&job, NULL, 1)
    update_all(&theta[0], &gradient[0], &descent.call.shape, &job)


def forward(
    layout,
    const real[:, ::1] thetas,     # (k, n_parameters)
    const real[:, :] X,            # (sizes[0], m)
    const real[:, ::1] Y,          # (sizes[-1], m); None if no cost is wanted
    const real[::1] sample_weight,   # (m,), of the examples; None where all are 1
    real[:, :, :] out,             # (k, sizes[-1], m), of any strides, overwritten
    Py_ssize_t threads,
    Descent descent=None,          # keeps memory and threads for the next call
):
    """Overwrite ``out`` with the networks' outputs; return their costs, NaN without ``Y``."""
    cdef Py_ssize_t k, n = thetas.shape[0], P, n_out, part
    found = np.full(n, np.nan)
    cdef double[::1] costs = found
    cdef const Py_ssize_t[:, ::1] full_batch = None
    cdef Job* job
    if X.shape[1] == 0 or n == 0:
        return found
    descent = Descent() if descent is None else descent
    P, n_out = n_parameters_of(layout), layout.sizes[len(layout.sizes) - 1]
    if not (thetas.shape[1] == P):
        raise misfit("theta", f"shape (k, {P})", (n, thetas.shape[1]))
    if not (out.shape[0] == n and out.shape[1] == n_out and out.shape[2] == X.shape[1]):
        raise misfit(
            "out", f"shape ({n}, {n_out}, {X.shape[1]})",
            (out.shape[0], out.shape[1], out.shape[2]),
        )
    take_data(descent, layout, X, Y, sample_weight, full_batch, X.shape[1], 0, 1)
    descent.take_jobs(n)
    for k in range(n):
        job = &descent.call.jobs[k]
        job.own = <void*>&thetas[k, 0]
        # The descent may have run other jobs before.
        job.rule.optimizer = NULL
        job.rule.penalty_in_cost = 0
        job.gradient = NULL
        job.outputs = &out[k, 0, 0]
        job.outputs_row = out.strides[1] // <Py_ssize_t>sizeof(real)
        job.outputs_column = out.strides[2] // <Py_ssize_t>sizeof(real)
        job.costs = &costs[k]
        job.iterations = 1
        job.n_rates = 1
        job.n_parameters = P
    group_jobs(descent, P, sizeof(real), n, X.shape[1])
    # The next X may have the address of this one.
    descent.packed_X = NULL
    descent.start(layout, sizeof(real), n, threads, "forward")
    descent.run()
    if Y is None:
        found.fill(np.nan)
        return found
    for k in range(n if descent.call.tasks > 0 else 0):
        costs[k] = 0
        for part in range(descent.call.tasks):
            costs[k] += descent.call.task_costs[k * descent.call.tasks + part]
        if descent.call.spaces[0].total > 0:
            costs[k] /= descent.call.spaces[0].total
        else:
            costs[k] = 0
    return found


def loss_and_gradient(
    layout,
    const real[:, ::1] thetas,     # (k, n_parameters)
    const real[:, :] X,            # (sizes[0], m), m > 0
    const real[:, ::1] Y,          # (sizes[-1], m)
    const real[::1] sample_weight,   # (m,), of the examples; None where all are 1
    real[:, ::1] gradients,        # (k, n_parameters), overwritten
    Py_ssize_t threads,
    Descent descent=None,          # keeps memory and threads for the next call
):
    """Overwrite ``gradients`` with the costs' derivatives by the thetas; return the costs."""
    cdef Py_ssize_t k, n = thetas.shape[0], P
    found = np.empty(n)
    cdef double[::1] costs = found
    cdef const Py_ssize_t[:, ::1] full_batch = None
    cdef Job* job
    descent = Descent() if descent is None else descent
    P = n_parameters_of(layout)
    if not (thetas.shape[1] == P):
        raise misfit("theta", f"shape (k, {P})", (n, thetas.shape[1]))
    if not (gradients.shape[0] == n and gradients.shape[1] == P):
        raise misfit("out", f"shape ({n}, {P})", (gradients.shape[0], gradients.shape[1]))
    take_data(descent, layout, X, Y, sample_weight, full_batch, X.shape[1], 0, 1)
    descent.take_jobs(n)
    for k in range(n):
        job = &descent.call.jobs[k]
        job.own = <void*>&thetas[k, 0]
        # The descent may have run other jobs before.
        job.rule.optimizer = NULL
        job.rule.penalty_in_cost = 0
        job.outputs = NULL
        job.gradient = &gradients[k, 0]
        job.costs = &costs[k]
        job.iterations = 1
        job.n_rates = 1
        job.n_parameters = P
    group_jobs(descent, P, sizeof(real), n, X.shape[1])
    descent.start(layout, sizeof(real), n, threads, "gradient")
    descent.run()
    return found


def descend(
    layout,
    rules,                         # one for each of ``networks``
    real[:, ::1] thetas,           # (k, n_parameters), updated in place
    real[:, :, ::1] states,        # (k, slots, n_parameters), updated in place
    Py_ssize_t step,               # updates before these
    const real[:, :] X,            # (sizes[0], m), m > 0
    const real[:, ::1] Y,          # (sizes[-1], m)
    const real[::1] sample_weight,   # (m,), of the examples; None where all are 1
    const Py_ssize_t[:, ::1] order,  # (epochs, n): indices of examples; None for full batches
    Py_ssize_t batch_size,
    Py_ssize_t first,              # number of the first batch in ``order``
    const double[:, :, ::1] rates,  # (n, 1 or iterations, 1 or 2 * n_layers)
    double[:, :] costs,            # (n, iterations), rows contiguous
    Py_ssize_t[::1] counts,        # (n,), overwritten
    const Py_ssize_t[::1] networks,  # (n,): the rows of thetas to run
    Py_ssize_t threads,            # the most to use
    Descent descent=None,          # keeps memory and threads for the next slice of a run
):
    """Run ``costs.shape[1]`` iterations of each network; ``counts`` are those completed.

    Iteration ``i`` takes batch ``first + i`` of the batches that the rows of ``order`` are cut
    into. A batch has ``batch_size`` examples; the last one of a row may have fewer. Without
    ``order`` every batch is all examples. A row may have any number of indices.

    ``rates`` has a row for each iteration, or one for all: a single learning rate, or one each for
    the weights and the biases of each layer. A rate of 0 leaves parameters exactly as they are.

    ``costs[k, i]`` is the cost before update ``i``, written up to the count of network ``k``. A
    network stops early if the next update would make a parameter infinite or NaN. Its theta keeps
    its last finite value, but its state may be that of the refused update.

    Ctrl-C raises ``KeyboardInterrupt``, with thetas, states and ``counts`` as the last complete
    iteration of each network left them.
    """
    cdef Py_ssize_t i, k, n = networks.shape[0], iterations = costs.shape[1], P
    cdef Job* job
    if not (counts.shape[0] == n):
        raise misfit("counts", f"one for each of {n}", counts.shape[0])
    for i in range(n):
        counts[i] = 0
    if iterations == 0 or n == 0:
        return
    descent = Descent() if descent is None else descent
    P = n_parameters_of(layout)
    if not (thetas.shape[1] == P):
        raise misfit("theta", f"shape (k, {P})", (thetas.shape[0], thetas.shape[1]))
    if not (states.shape[0] == thetas.shape[0] and states.shape[2] == P):
        raise misfit(
            "states", f"shape ({thetas.shape[0]}, slots, {P})",
            (states.shape[0], states.shape[1], states.shape[2]),
        )
    if not (len(rules) == n and costs.shape[0] == n):
        raise misfit("rules", f"one for each of {n}", len(rules))
    if not (
        rates.shape[0] == n
        and rates.shape[1] in (1, iterations)
        and rates.shape[2] in (1, 2 * (len(layout.sizes) - 1))
    ):
        raise misfit(
            "rates", f"shape ({n}, 1 or {iterations}, 1 or 2 * n_layers)",
            (rates.shape[0], rates.shape[1], rates.shape[2]),
        )
    if not (costs.strides[1] == sizeof(double)):
        raise misfit("costs", "contiguous rows", costs.strides[1])
    take_data(descent, layout, X, Y, sample_weight, order, batch_size, first, iterations)
    descent.take_jobs(n)
    for i in range(n):
        k = networks[i]
        if not (0 <= k < thetas.shape[0]):
            raise misfit("networks", f"rows below {thetas.shape[0]}", k)
        job = &descent.call.jobs[i]
        take_rule(&job.rule, rules[i])
        if not (states.shape[1] >= slots_of(&job.rule)):
            raise misfit("states", f"{slots_of(&job.rule)} slots", states.shape[1])
        job.own = &thetas[k, 0]
        job.state = &states[k, 0, 0] if states.shape[1] > 0 else NULL
        job.gradient = NULL
        job.outputs = NULL
        job.step = step
        job.rates = &rates[i, 0, 0]
        job.rate_step = rates.shape[2] if rates.shape[1] > 1 else 0
        job.n_rates = rates.shape[2]
        job.costs = &costs[i, 0]
        job.iterations = iterations
        job.n_parameters = P
        job.done = 0
    group_jobs(
        descent, P, sizeof(real), n,
        X.shape[1] if order is None else min(batch_size, order.shape[1]),
    )
    descent.start(layout, sizeof(real), n, threads, "descent")
    try:
        descent.run()
    finally:
        for i in range(n):
            counts[i] = descent.call.jobs[i].done


# --- what only the tests call: functions that the other kernels inline ----------------------------

def _exp(
    const real[:, ::1] Z,      # (n, m)
    real[:, ::1] out,          # (n, m), overwritten
):
    """Overwrite ``out`` with ``exp(Z)``; a result below the normal numbers may be 0."""
    cdef const real* z = start_of(Z)
    cdef real* a = <real*>start_of(out)
    cdef Py_ssize_t e
    with nogil:
        for e in range(Z.shape[0] * Z.shape[1]):
            a[e] = exp_of(z[e])


def _log(
    const real[:, ::1] Z,      # (n, m), normal positive numbers
    real[:, ::1] out,          # (n, m), overwritten
):
    """Overwrite ``out`` with ``log(Z)``."""
    cdef const real* z = start_of(Z)
    cdef real* a = <real*>start_of(out)
    cdef Py_ssize_t e
    with nogil:
        for e in range(Z.shape[0] * Z.shape[1]):
            a[e] = log_of(z[e])


def _log1p(
    const real[:, ::1] Z,      # (n, m), from 0 to 1
    real[:, ::1] out,          # (n, m), overwritten
):
    """Overwrite ``out`` with ``log(1 + Z)``."""
    cdef const real* z = start_of(Z)
    cdef real* a = <real*>start_of(out)
    cdef Py_ssize_t e
    with nogil:
        for e in range(Z.shape[0] * Z.shape[1]):
            a[e] = log1p_of(z[e])
