# The parts of one iteration as separate functions, for training loops that are written in Python:
# forward pass, cost, backward pass and update. Each returns new arrays.
#
# These functions check their arguments themselves, because checks in Python take longer than the
# arithmetic and would be repeated in every call. An ndarray of float64 in C order is read in place.
# Any other argument is passed to :func:`as_doubles`, which converts it or raises. All results with
# one column per example are views of a single new array, which saves allocations.

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDES, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.string cimport strcmp

from fastinit.validation import as_doubles

cdef enum:
    MAX_LAYERS = 3             # the networks of the lessons have three
    MAX_BUFFERS = 4 * MAX_LAYERS  # per layer: weights, biases, inputs or outputs, a mask

cdef struct Buffers:
    # An acquired buffer holds a reference to its array.
    Py_buffer views[MAX_BUFFERS]
    Py_ssize_t n

cdef struct Layer:
    Py_ssize_t n_in
    Py_ssize_t n_out
    const double* W
    const double* b
    const double* A            # input of the layer
    const double* D            # dropout mask of its output (forward) or input (backward); or NULL
    double* dW
    double* db

cdef object empty = np.empty
cdef object ndarray = np.ndarray
cdef object DOUBLE = np.dtype(np.float64)


cdef void release(Buffers* buffers) noexcept:
    while buffers.n > 0:
        buffers.n -= 1
        PyBuffer_Release(&buffers.views[buffers.n])


cdef bint has_shape(const Py_buffer* view, int ndim, const Py_ssize_t* shape) noexcept:
    """Return whether the shapes match. A size of -1 matches any size, ndim = -1 any shape."""
    cdef int axis
    if ndim >= 0 and view.ndim != ndim:
        return False
    for axis in range(ndim):
        if shape[axis] >= 0 and view.shape[axis] != shape[axis]:
            return False
    return True


cdef bint is_double(array, Py_buffer* view) except -1:
    """Acquire the buffer of an ndarray, and release it again unless it is aligned float64."""
    try:
        PyObject_GetBuffer(array, view, PyBUF_STRIDES | PyBUF_FORMAT)
    except ValueError:  # datetime64 arrays have no buffer
        return False
    if strcmp(view.format, b"d") == 0 and <size_t>view.buf % sizeof(double) == 0:
        return True
    PyBuffer_Release(view)
    return False


cdef Py_buffer* acquire(
    Buffers* buffers, prefix, suffix, array, int ndim, const Py_ssize_t* shape
) except NULL:
    """Acquire an array, converted to float64 in C order if necessary, or raise.

    Error messages name the argument ``prefix + suffix``.
    """
    cdef Py_buffer* view = &buffers.views[buffers.n]
    cdef int attempt
    for attempt in range(3):
        # Subclasses are excluded because a masked array has a buffer that ignores its mask.
        if type(array) is ndarray and is_double(array, view):
            if PyBuffer_IsContiguous(view, c"C") and has_shape(view, ndim, shape):
                buffers.n += 1
                return view
            PyBuffer_Release(view)
        if attempt == 0 and type(array) is ndarray and array.dtype.char in "dflq?":
            # Fast path for integer labels and transposed data, which loops pass in every call:
            # as_doubles takes longer than the conversion.
            array = array.astype(DOUBLE, "C")
            continue
        expected = None
        if ndim >= 0:
            expected = tuple([shape[axis] if shape[axis] >= 0 else None for axis in range(ndim)])
        array = as_doubles(f"{prefix}{suffix}", array, expected)
    raise ValueError(f"{prefix}{suffix}: expected an array that does not change during the call")


cdef Py_buffer* acquire_matrix(
    Buffers* buffers, prefix, suffix, array, Py_ssize_t rows, Py_ssize_t columns
) except NULL:
    cdef Py_ssize_t shape[2]
    shape[0] = rows
    shape[1] = columns
    return acquire(buffers, prefix, suffix, array, 2, shape)


cdef Py_ssize_t check_layers(Py_ssize_t n) except -1:
    if not 0 < n <= MAX_LAYERS:
        raise misfit("parameters", f"1 to {MAX_LAYERS} layers", n)
    return n


cdef tuple several(str name, arrays, Py_ssize_t n):
    """The arrays as a tuple, whose length nobody changes."""
    arrays = tuple(arrays)
    if len(arrays) != n:
        raise ValueError(f"{name}: expected {n} arrays; got {len(arrays)}")
    return arrays


cdef double* memory_of(array) except? NULL:
    """Return a pointer to the data of a new array. The caller keeps the array alive."""
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
    """Return log(x), including subnormal numbers; -infinity for 0 and NaN for negative numbers."""
    cdef bint subnormal = x < 2.2250738585072014e-308
    cdef double y = log_of(x * 18014398509481984.0 if subnormal else x)
    y = y - 37.42994775023705 if subnormal else y  # 54 ln 2
    y = -INFINITY if x == 0 else y
    return y if x >= 0 else <double>NAN


def propagate(
    X,                         # (n_in, m)
    parameters,                # W1, b1, W2, b2, ...: (n_out, n_in), (n_out, 1)
    masks,                     # of all layers but the last, (n_out, m); or None
    double keep_prob,          # kept activations are divided by it
):
    """Return ``[Z1, A1, Z2, A2, ...]``, where ``Z = W @ A + b``.

    ``A`` is ``relu(Z)``, with a mask ``relu(Z) * D / keep_prob``, and in the last layer
    ``sigmoid(Z)``.
    """
    cdef Buffers buffers
    cdef Layer layers[MAX_LAYERS]
    cdef Layer* own
    cdef Py_buffer* view
    cdef const double* a
    cdef double* z
    cdef double* out
    cdef Py_ssize_t n = check_layers(len(parameters) // 2), layer, n_in = -1, n_out, m = 0, e
    cdef Py_ssize_t rows = 0
    parameters = several("parameters", parameters, 2 * n)
    if masks is not None:
        masks = several("masks", masks, n - 1)
    buffers.n = 0
    try:
        for layer in range(n):
            view = acquire_matrix(&buffers, "W", layer + 1, parameters[2 * layer], -1, n_in)
            own = &layers[layer]
            own.W = <const double*>view.buf
            own.n_out = n_out = view.shape[0]
            own.n_in = view.shape[1]
            if layer == 0:
                view = acquire_matrix(&buffers, "X", "", X, own.n_in, -1)
                own.A = <const double*>view.buf
                m = view.shape[1]
            view = acquire_matrix(&buffers, "b", layer + 1, parameters[2 * layer + 1], n_out, 1)
            own.b = <const double*>view.buf
            own.D = NULL
            if masks is not None and layer < n - 1:
                view = acquire_matrix(&buffers, "D", layer + 1, masks[layer], n_out, m)
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
        release(&buffers)
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
    cdef Buffers buffers
    cdef double losses[LOSS_BLOCK]
    cdef const double* a
    cdef const double* y
    cdef Py_buffer* view
    cdef Py_ssize_t m, n, start = 0, count, e
    cdef double total = 0, x
    buffers.n = 0
    try:
        view = acquire_matrix(&buffers, "a3", "", A, -1, -1)
        a = <const double*>view.buf
        m = examples_of(view, "a3", "")
        n = view.shape[0] * m
        y = <const double*>acquire_matrix(&buffers, "Y", "", Y, view.shape[0], m).buf
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
        release(&buffers)
    return total / m


def propagate_back(
    Y,                         # (n_out, m)
    activations,               # X, A1, A2, ...: (n, m)
    weights,                   # W1, W2, ...: (n_out, n_in)
    masks,                     # of all layers but the last, (n_out, m); or None
    double keep_prob,          # kept activations were divided by it
    double lambd,              # coefficient of the L2 penalty: adds lambd * W / m to dW
    bint average_first,        # divide the last dZ by m, instead of every dW and db
):
    """Return ``[dZ, dW, db]`` of the last layer, then ``[dA, dZ, dW, db]`` of the preceding ones.

    For m examples, ``dZ = A - Y`` in the last layer, and ``dZ = dA * (A > 0)`` in the others, where
    ``dA = W.T @ dZ``, with masks multiplied by ``D / keep_prob``. ``db = sum(dZ) / m`` and
    ``dW = dZ @ A.T / m + lambd * W / m``. With ``average_first``, the division by m is in the last
    ``dZ`` instead of ``dW`` and ``db``.
    """
    cdef Buffers buffers
    cdef Layer layers[MAX_LAYERS]
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
    activations = several("activations", activations, n + 1)
    weights = several("weights", weights, n)
    if masks is not None:
        masks = several("masks", masks, n - 1)
    buffers.n = 0
    try:
        view = acquire_matrix(&buffers, "a", n, activations[n], -1, -1)
        outputs = <const double*>view.buf
        m = examples_of(view, "a", n)
        n_out = view.shape[0]
        # The block has the size of that of the forward pass, so that the allocator can reuse memory
        # that an earlier call has freed. Page faults of new memory took twice as long as the
        # arithmetic.
        rows = 2 * n_out
        y = <const double*>acquire_matrix(&buffers, "Y", "", Y, n_out, m).buf
        for layer in range(n - 1, -1, -1):
            own = &layers[layer]
            view = acquire_matrix(&buffers, "W", layer + 1, weights[layer], n_out, -1)
            own.W = <const double*>view.buf
            own.n_out = n_out
            own.n_in = n_in = view.shape[1]
            prefix, suffix = ("a", layer) if layer > 0 else ("X", "")
            view = acquire_matrix(&buffers, prefix, suffix, activations[layer], n_in, m)
            own.A = <const double*>view.buf
            own.D = NULL
            if layer > 0:
                rows += 2 * n_in
                if masks is not None:
                    view = acquire_matrix(&buffers, "D", layer, masks[layer - 1], n_in, m)
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
        release(&buffers)
    return arrays


def step(
    parameters,                # dictionary of arrays of any shape; updated
    grads,                     # gradient ``d<name>`` of each parameter, of the same shape
    v,                         # moving averages of the gradients, with the keys of grads; or None
    s,                         # moving averages of the squared gradients, likewise; or None
    double learning_rate,
    double beta1,              # decay rate of ``v``
    double beta2,              # decay rate of ``s``
    double epsilon,
    double t,                  # number of the step, from 1
):
    """Perform one step of gradient descent, momentum (with v) or Adam (with v and s).

    The parameters change by

    - ``-learning_rate * gradient``,
    - with ``v = beta1 * v + (1 - beta1) * gradient``: ``-learning_rate * v``,
    - with ``s = beta2 * s + (1 - beta2) * gradient**2`` as well:
      ``-learning_rate * v / (1 - beta1**t) / (sqrt(s / (1 - beta2**t)) + epsilon)``.

    The dictionaries get new arrays after all of them have been computed, so that an error leaves
    the dictionaries unchanged.
    """
    cdef Buffers buffers
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
    buffers.n = 0
    try:
        for name in parameters:
            view = acquire(&buffers, name, "", parameters[name], -1, NULL)
            p = <const double*>view.buf
            n = view.len // <Py_ssize_t>sizeof(double)
            key = f"d{name}"
            g = <const double*>acquire(&buffers, key, "", grads[key], view.ndim, view.shape).buf
            shape = tuple([view.shape[e] for e in range(view.ndim)])
            stepped[name] = array = empty(shape)
            out = memory_of(array)
            if v is None:
                for e in range(n):
                    out[e] = p[e] - learning_rate * g[e]
                release(&buffers)
                continue
            first = <const double*>acquire(
                &buffers, "v of ", key, v[key], view.ndim, view.shape
            ).buf
            averages[key] = array = empty(shape)
            average = memory_of(array)
            for e in range(n):
                average[e] = beta1 * first[e] + (1 - beta1) * g[e]
            if s is None:
                for e in range(n):
                    out[e] = p[e] - learning_rate * average[e]
                release(&buffers)
                continue
            second = <const double*>acquire(
                &buffers, "s of ", key, s[key], view.ndim, view.shape
            ).buf
            squares[key] = array = empty(shape)
            square = memory_of(array)
            for e in range(n):
                square[e] = beta2 * second[e] + (1 - beta2) * (g[e] * g[e])
                out[e] = p[e] - learning_rate * (average[e] / correction1) / (
                    sqrt(square[e] / correction2) + epsilon
                )
            release(&buffers)
    finally:
        release(&buffers)
    for name, array in stepped.items():
        parameters[name] = array
    for name, array in averages.items():
        v[name] = array
    for name, array in squares.items():
        s[name] = array
