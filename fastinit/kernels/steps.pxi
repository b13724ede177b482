# One iteration in separate calls, as a notebook's own loop makes them: forward, cost, backward and
# update, each of which returns new arrays.
#
# These entries check their arguments themselves: arrays come from Python code in every call, and
# checks in Python take longer than the arithmetic. An ndarray of float64 in C order is read in
# place; anything else goes through :func:`as_doubles`, which converts it or raises. Matrices with a
# column for each example are rows of one new array: one allocation for all of them.

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDES, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.string cimport strcmp

from fastinit.validation import as_doubles

cdef enum:
    MOST_LAYERS = 3            # as the lesson's networks have
    MOST_HELD = 4 * MOST_LAYERS  # weights, biases, inputs or outputs, a mask

cdef struct Held:
    # A buffer keeps its array alive, and its memory where it is.
    Py_buffer buffers[MOST_HELD]
    Py_ssize_t n

cdef struct Layer:
    Py_ssize_t n_in
    Py_ssize_t n_out
    const double* W
    const double* b
    const double* A            # what the layer reads
    const double* D            # the mask of what it returns, or, on the way back, reads; or NULL
    double* dW
    double* db

cdef object empty = np.empty
cdef object ndarray = np.ndarray
cdef object DOUBLE = np.dtype(np.float64)


cdef void release(Held* held) noexcept:
    while held.n > 0:
        held.n -= 1
        PyBuffer_Release(&held.buffers[held.n])


cdef bint has_shape(const Py_buffer* view, int ndim, const Py_ssize_t* shape) noexcept:
    """Whether sizes agree: -1 is any size, and an ``ndim`` of -1 any shape."""
    cdef int axis
    if ndim >= 0 and view.ndim != ndim:
        return False
    for axis in range(ndim):
        if shape[axis] >= 0 and view.shape[axis] != shape[axis]:
            return False
    return True


cdef bint is_double(array, Py_buffer* view) except -1:
    """Acquire an ndarray's buffer, and keep it if it is one of aligned float64."""
    try:
        PyObject_GetBuffer(array, view, PyBUF_STRIDES | PyBUF_FORMAT)
    except ValueError:  # dates have none
        return False
    if strcmp(view.format, b"d") == 0 and <size_t>view.buf % sizeof(double) == 0:
        return True
    PyBuffer_Release(view)
    return False


cdef Py_buffer* hold(
    Held* held, prefix, suffix, array, int ndim, const Py_ssize_t* shape
) except NULL:
    """Hold the array, or its numbers as float64 in C order; or raise, in the argument's name."""
    cdef Py_buffer* view = &held.buffers[held.n]
    cdef int attempt
    for attempt in range(3):
        # Any other type may have a buffer, too, but it may also have a mask.
        if type(array) is ndarray and is_double(array, view):
            if PyBuffer_IsContiguous(view, c"C") and has_shape(view, ndim, shape):
                held.n += 1
                return view
            PyBuffer_Release(view)
        if attempt == 0 and type(array) is ndarray and array.dtype.char in "dflq?":
            # Integer labels and transposed data come in every call: the checks would take longer.
            array = array.astype(DOUBLE, "C")
            continue
        expected = None
        if ndim >= 0:
            expected = tuple([shape[axis] if shape[axis] >= 0 else None for axis in range(ndim)])
        array = as_doubles(f"{prefix}{suffix}", array, expected)
    raise ValueError(f"{prefix}{suffix}: expected an array that nobody changes meanwhile")


cdef Py_buffer* hold_matrix(
    Held* held, prefix, suffix, array, Py_ssize_t rows, Py_ssize_t columns
) except NULL:
    cdef Py_ssize_t shape[2]
    shape[0] = rows
    shape[1] = columns
    return hold(held, prefix, suffix, array, 2, shape)


cdef Py_ssize_t check_layers(Py_ssize_t n) except -1:
    if not 0 < n <= MOST_LAYERS:
        raise misfit("parameters", f"1 to {MOST_LAYERS} layers", n)
    return n


cdef double* memory_of(array) except? NULL:
    """The memory of a new array that the caller keeps."""
    cdef Py_buffer view
    cdef double* memory
    PyObject_GetBuffer(array, &view, PyBUF_STRIDES)
    memory = <double*>view.buf
    PyBuffer_Release(&view)
    return memory


cdef Py_ssize_t examples_of(const Py_buffer* view, prefix, suffix) except -1:
    if view.shape[1] == 0:
        raise ValueError(
            f"{prefix}{suffix}: expected at least one example; got shape ({view.shape[0]}, 0)"
        )
    return view.shape[1]


cdef inline double log_or_infinity(double x) noexcept nogil:
    """Return log(x) of any number: -infinity of 0, NaN of what is negative."""
    cdef bint subnormal = x < 2.2250738585072014e-308
    cdef double y = log_of(x * 18014398509481984.0 if subnormal else x)
    y = y - 37.42994775023705 if subnormal else y  # 54 ln 2
    y = -INFINITY if x == 0 else y
    return y if x >= 0 else <double>NAN


def propagate(
    X,                         # (n_in, m)
    parameters,                # W1, b1, W2, b2, ...: (n_out, n_in), (n_out, 1)
    masks,                     # of each layer but the last, (n_out, m); None without dropout
    double keep_prob,          # what activations that remain are divided by
):
    """Return ``[Z1, A1, Z2, A2, ...]``: ``Z = W @ A + b``, A its ReLU or, of the last, its sigmoid.

    With masks ``D``, the activations are ``relu(Z) * D / keep_prob``.
    """
    cdef Held held
    cdef Layer layers[MOST_LAYERS]
    cdef Layer* own
    cdef Py_buffer* view
    cdef const double* a
    cdef double* z
    cdef double* out
    cdef Py_ssize_t n = check_layers(len(parameters) // 2), layer, n_in = -1, n_out, m = 0, e
    cdef Py_ssize_t rows = 0
    held.n = 0
    try:
        for layer in range(n):
            view = hold_matrix(&held, "W", layer + 1, parameters[2 * layer], -1, n_in)
            own = &layers[layer]
            own.W = <const double*>view.buf
            own.n_out = n_out = view.shape[0]
            own.n_in = view.shape[1]
            if layer == 0:
                view = hold_matrix(&held, "X", "", X, own.n_in, -1)
                own.A = <const double*>view.buf
                m = view.shape[1]
            view = hold_matrix(&held, "b", layer + 1, parameters[2 * layer + 1], n_out, 1)
            own.b = <const double*>view.buf
            own.D = NULL
            if masks is not None and layer < n - 1:
                view = hold_matrix(&held, "D", layer + 1, masks[layer], n_out, m)
                own.D = <const double*>view.buf
            n_in = n_out
            rows += 2 * n_out
        block = empty((rows, m))
        z = memory_of(block)
        with nogil:
            a = layers[0].A
            for layer in range(n):
                own = &layers[layer]
                n_out = own.n_out
                gemm(own.W, own.n_in, 1, n_out, own.n_in, own.b, a, m, z, m, m, LINEAR)
                out = z + n_out * m
                if layer == n - 1:
                    for e in range(n_out * m):
                        out[e] = sigmoid_of(z[e])
                elif own.D != NULL:
                    for e in range(n_out * m):
                        out[e] = (0 if z[e] < 0 else z[e]) * own.D[e] / keep_prob
                else:
                    for e in range(n_out * m):
                        out[e] = 0 if z[e] < 0 else z[e]
                a = out
                z = out + n_out * m
    finally:
        release(&held)
    arrays = []
    rows = 0
    for layer in range(n):
        for _ in range(2):
            arrays.append(block[rows : rows + layers[layer].n_out])
            rows += layers[layer].n_out
    return arrays


def cross_entropy(
    A,                         # (n_out, m)
    Y,                         # (n_out, m)
):
    """Return ``nansum(-log(A) * Y - log(1 - A) * (1 - Y)) / m``."""
    cdef Held held
    cdef double losses[LOSS_BLOCK]
    cdef const double* a
    cdef const double* y
    cdef Py_buffer* view
    cdef Py_ssize_t m, n, start = 0, count, e
    cdef double total = 0, x
    held.n = 0
    try:
        view = hold_matrix(&held, "a3", "", A, -1, -1)
        a = <const double*>view.buf
        m = examples_of(view, "a3", "")
        n = view.shape[0] * m
        y = <const double*>hold_matrix(&held, "Y", "", Y, view.shape[0], m).buf
        with nogil:
            while start < n:
                count = min(<Py_ssize_t>LOSS_BLOCK, n - start)
                for e in range(count):
                    x = -log_or_infinity(a[start + e]) * y[start + e]
                    x -= log_or_infinity(1 - a[start + e]) * (1 - y[start + e])
                    losses[e] = x if x == x else 0
                total += weigh_row(losses, <const double*>NULL, <double*>NULL, count, <double>1)
                start += count
    finally:
        release(&held)
    return total / m


def propagate_back(
    Y,                         # (n_out, m)
    activations,               # X, A1, A2, ...: (n, m)
    weights,                   # W1, W2, ...: (n_out, n_in)
    masks,                     # of each layer but the last, (n_out, m); None without dropout
    double keep_prob,          # what activations that remain were divided by
    double lambd,              # of the L2 penalty: adds lambd * W / m to dW
    bint average_first,        # whether the mean over the examples is in dZ, or in dW and db alone
):
    """Return ``[dZ, dW, db]`` of the last layer, then ``[dA, dZ, dW, db]`` of each before it.

    With m examples, ``dZ = A - Y`` of the last layer, ``db = sum(dZ) / m``,
    ``dW = dZ @ A.T / m + lambd * W / m``, ``dA = W.T @ dZ``, with masks times ``D / keep_prob``,
    and ``dZ = dA * (A > 0)``. If the average comes first, the last ``dZ`` is divided by m, and not
    ``dW`` and ``db``.
    """
    cdef Held held
    cdef Layer layers[MOST_LAYERS]
    cdef Layer* own
    cdef Py_buffer* view
    cdef const double* outputs
    cdef const double* y
    cdef double* memory
    cdef double* dZ
    cdef double* dA
    cdef double share
    cdef Blocks blocks
    cdef Py_ssize_t n = check_layers(len(weights)), layer, m, n_in, n_out, rows, e
    cdef list arrays = []
    held.n = 0
    try:
        view = hold_matrix(&held, "a", n, activations[n], -1, -1)
        outputs = <const double*>view.buf
        m = examples_of(view, "a", n)
        n_out = view.shape[0]
        # As large as the block of the forward pass: the allocator then reuses the memory that an
        # earlier call returned. New pages took twice as long as the arithmetic.
        rows = 2 * n_out
        y = <const double*>hold_matrix(&held, "Y", "", Y, n_out, m).buf
        for layer in range(n - 1, -1, -1):
            own = &layers[layer]
            view = hold_matrix(&held, "W", layer + 1, weights[layer], n_out, -1)
            own.W = <const double*>view.buf
            own.n_out = n_out
            own.n_in = n_in = view.shape[1]
            prefix, suffix = ("a", layer) if layer > 0 else ("X", "")
            view = hold_matrix(&held, prefix, suffix, activations[layer], n_in, m)
            own.A = <const double*>view.buf
            own.D = NULL
            if layer > 0:
                rows += 2 * n_in
                if masks is not None:
                    view = hold_matrix(&held, "D", layer, masks[layer - 1], n_in, m)
                    own.D = <const double*>view.buf
            n_out = n_in
        block = empty((rows, m))
        memory = memory_of(block)
        rows = 0
        for layer in range(n - 1, -1, -1):
            own = &layers[layer]
            if layer < n - 1:
                arrays.append(block[rows : rows + own.n_out])
                rows += own.n_out
            arrays.append(block[rows : rows + own.n_out])
            rows += own.n_out
            dW = empty((own.n_out, own.n_in))
            own.dW = memory_of(dW)
            arrays.append(dW)
            db = empty((own.n_out, 1))
            own.db = memory_of(db)
            arrays.append(db)
        share = 1 / <double>m
        blocks = one_block(m, m, m)
        with nogil:
            dZ = memory
            for e in range(layers[n - 1].n_out * m):
                dZ[e] = (outputs[e] - y[e]) * (share if average_first else 1)
            for layer in range(n - 1, -1, -1):
                own = &layers[layer]
                n_out = own.n_out
                n_in = own.n_in
                memset(own.dW, 0, n_out * n_in * sizeof(double))
                memset(own.db, 0, n_out * sizeof(double))
                gemm_dots(dZ, own.A, &blocks, n_out, n_in, own.dW, n_in, own.db, False)
                if not average_first:
                    for e in range(n_out * n_in):
                        own.dW[e] *= share
                    for e in range(n_out):
                        own.db[e] *= share
                if lambd != 0:
                    for e in range(n_out * n_in):
                        own.dW[e] += lambd * own.W[e] * share
                if layer == 0:
                    break
                dA = dZ + n_out * m
                gemm(own.W, 1, n_in, n_in, n_out, <const double*>NULL, dZ, m, dA, m, m, LINEAR)
                if own.D != NULL:
                    for e in range(n_in * m):
                        dA[e] = dA[e] * own.D[e] / keep_prob
                dZ = dA + n_in * m
                for e in range(n_in * m):
                    dZ[e] = dA[e] * (own.A[e] > 0)
    finally:
        release(&held)
    return arrays


def step(
    parameters,                # a dictionary of arrays of any shape, updated
    grads,                     # has for each name one of the same shape, ``d<name>``
    v,                         # as grads, moving averages of the gradients, updated; or None
    s,                         # as grads, those of the squared gradients, updated; or None
    double learning_rate,
    double beta1,              # how much of ``v`` stays
    double beta2,              # how much of ``s`` stays
    double epsilon,
    double t,                  # which step this is, from 1 on
):
    """Put new arrays into ``parameters``, ``v`` and ``s`` once all are computed.

    The step is ``-learning_rate * gradient``; with ``v = beta1 * v + (1 - beta1) * gradient``
    ``-learning_rate * v``; with ``s = beta2 * s + (1 - beta2) * gradient**2`` beside it
    ``-learning_rate * v / (1 - beta1**t) / (sqrt(s / (1 - beta2**t)) + epsilon)``.
    """
    cdef Held held
    cdef Py_buffer* view
    cdef const double* p
    cdef const double* g
    cdef const double* first
    cdef const double* second
    cdef double* out
    cdef double* average
    cdef double* square
    cdef double correction1 = 1 - pow(beta1, t), correction2 = 1 - pow(beta2, t)
    cdef Py_ssize_t n, e
    cdef dict stepped = {}, averages = {}, squares = {}
    held.n = 0
    try:
        for name in parameters:
            view = hold(&held, name, "", parameters[name], -1, NULL)
            p = <const double*>view.buf
            n = view.len // <Py_ssize_t>sizeof(double)
            key = f"d{name}"
            g = <const double*>hold(&held, key, "", grads[key], view.ndim, view.shape).buf
            shape = tuple([view.shape[e] for e in range(view.ndim)])
            stepped[name] = array = empty(shape)
            out = memory_of(array)
            if v is None:
                for e in range(n):
                    out[e] = p[e] - learning_rate * g[e]
                release(&held)
                continue
            first = <const double*>hold(&held, "v of ", key, v[key], view.ndim, view.shape).buf
            averages[key] = array = empty(shape)
            average = memory_of(array)
            for e in range(n):
                average[e] = beta1 * first[e] + (1 - beta1) * g[e]
            if s is None:
                for e in range(n):
                    out[e] = p[e] - learning_rate * average[e]
                release(&held)
                continue
            second = <const double*>hold(&held, "s of ", key, s[key], view.ndim, view.shape).buf
            squares[key] = array = empty(shape)
            square = memory_of(array)
            for e in range(n):
                square[e] = beta2 * second[e] + (1 - beta2) * (g[e] * g[e])
                out[e] = p[e] - learning_rate * (average[e] / correction1) / (
                    sqrt(square[e] / correction2) + epsilon
                )
            release(&held)
    finally:
        release(&held)
    for name, array in stepped.items():
        parameters[name] = array
    for name, array in averages.items():
        v[name] = array
    for name, array in squares.items():
        s[name] = array
