"""Dense layers: forward, backward, losses, updates, and the fused descent loop.

Layout: examples are the contiguous axis. ``A`` is (n_in, m), ``W`` (n_out, n_in), ``b`` (n_out, 1).

One iteration of the descent loop reads nothing but its own small working set. The examples are cut
into blocks so narrow that all activations of a block stay in the first-level cache; a block goes
forward through every layer and back again, adding its share to the gradient, before the next one
starts. On the way back the gradient at a layer overwrites that layer's activations, whose last
reader it is. The cut depends on the network and the number of examples alone.

Inside a block, every product runs over tiles of at most ``ROWS`` rows by two vector registers of
examples. A tile's sums stay in registers from the first term to the last, so that one load of an
activation serves ``ROWS`` multiply-adds and one load of a weight serves two.

The callers have checked everything: no kernel validates. Twins with the same names and arguments
are in ``fastinit/reference.py``.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport INFINITY, log
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cdef extern from "lanes.h":
    enum:
        VECTOR_BYTES
        MOST_LANES
    void float_fill(float* out, float w) noexcept nogil
    void double_fill(double* out, double w) noexcept nogil
    void float_add(float* out, const float* a) noexcept nogil
    void double_add(double* out, const double* a) noexcept nogil
    void float_copy(float* out, const float* a) noexcept nogil
    void double_copy(double* out, const double* a) noexcept nogil
    void float_multiply_add(float* out, const float* a, float w) noexcept nogil
    void double_multiply_add(double* out, const double* a, double w) noexcept nogil
    void float_multiply_add_lanes(float* out, const float* a, const float* b) noexcept nogil
    void double_multiply_add_lanes(double* out, const double* a, const double* b) noexcept nogil
    void float_relu(float* out, const float* z) noexcept nogil
    void double_relu(double* out, const double* z) noexcept nogil
    void float_relu_backward(float* a, const float* da) noexcept nogil
    void double_relu_backward(double* a, const double* da) noexcept nogil
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
    # 6 rows x 2 registers of sums, 2 of activations and 1 of a weight: 15 of the 16 registers that
    # AVX2 and SSE2 have. With 512 bits twice as many are there, but taller tiles gained nothing.
    ROWS = 6
    # The bytes of scratch that one block of examples may take: what a 32 KiB first-level cache
    # holds beside the parameters, the gradient and the labels.
    BLOCK_BYTES = 24 * 1024
    # How many multiply-adds pass between two looks for Ctrl-C: about 10 ms.
    SIGNAL_WORK = 1 << 26
    # Examples per product of probabilities: the product of so many mantissas below 2 is finite.
    LOSS_WIDTH = 64
    LOSS_BLOCK = 512

cdef enum Finish:
    LINEAR
    RELU
    RELU_BACKWARD


# --- one register of lanes, for either dtype ----------------------------------------------------

cdef inline void fill(real* out, real w) noexcept nogil:
    if real is float:
        float_fill(out, w)
    else:
        double_fill(out, w)


cdef inline void add(real* out, const real* a) noexcept nogil:
    if real is float:
        float_add(out, a)
    else:
        double_add(out, a)


cdef inline void copy(real* out, const real* a) noexcept nogil:
    if real is float:
        float_copy(out, a)
    else:
        double_copy(out, a)


cdef inline void multiply_add(real* out, const real* a, real w) noexcept nogil:
    if real is float:
        float_multiply_add(out, a, w)
    else:
        double_multiply_add(out, a, w)


cdef inline void multiply_add_lanes(real* out, const real* a, const real* b) noexcept nogil:
    if real is float:
        float_multiply_add_lanes(out, a, b)
    else:
        double_multiply_add_lanes(out, a, b)


cdef inline void relu_lanes(real* out, const real* z) noexcept nogil:
    if real is float:
        float_relu(out, z)
    else:
        double_relu(out, z)


cdef inline void relu_backward_lanes(real* a, const real* da) noexcept nogil:
    if real is float:
        float_relu_backward(a, da)
    else:
        double_relu_backward(a, da)


cdef inline real sum_lanes(const real* a) noexcept nogil:
    if real is float:
        return float_sum(a)
    else:
        return double_sum(a)


# --- products ---------------------------------------------------------------------------------

cdef inline void product_tile(
    const real* W, Py_ssize_t row_step, Py_ssize_t term_step, Py_ssize_t n_terms,
    const real* b, const real* A, Py_ssize_t A_step, real* out, Py_ssize_t out_step,
    Finish finish, int rows, int registers,
) noexcept nogil:
    """``rows`` by ``registers`` sums; both are constants at every call, so all loops unroll."""
    cdef real acc[ROWS][2 * MOST_LANES]
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t _term
    cdef int r, v
    for r in range(rows):
        for v in range(registers):
            fill(&acc[r][v * lanes], b[r] if b != NULL else 0)
    for _term in range(n_terms):
        for r in range(rows):
            for v in range(registers):
                multiply_add(&acc[r][v * lanes], A + v * lanes, W[r * row_step])
        A += A_step
        W += term_step
    for r in range(rows):
        for v in range(registers):
            if finish == RELU_BACKWARD:
                relu_backward_lanes(out + v * lanes, &acc[r][v * lanes])
            elif finish == RELU:
                relu_lanes(out + v * lanes, &acc[r][v * lanes])
            else:
                copy(out + v * lanes, &acc[r][v * lanes])
        out += out_step


cdef inline void product_rows(
    const real* W, Py_ssize_t row_step, Py_ssize_t term_step, Py_ssize_t n_terms,
    const real* b, const real* A, Py_ssize_t A_step, real* out, Py_ssize_t out_step,
    Py_ssize_t columns, Finish finish, int rows,
) noexcept nogil:
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t j = 0, i
    cdef int r
    cdef real z
    while j + 2 * lanes <= columns:
        product_tile(
            W, row_step, term_step, n_terms, b, A + j, A_step, out + j, out_step, finish, rows, 2
        )
        j += 2 * lanes
    while j + lanes <= columns:
        product_tile(
            W, row_step, term_step, n_terms, b, A + j, A_step, out + j, out_step, finish, rows, 1
        )
        j += lanes
    while j < columns:
        for r in range(rows):
            z = b[r] if b != NULL else 0
            for i in range(n_terms):
                z += W[r * row_step + i * term_step] * A[i * A_step + j]
            if finish == RELU_BACKWARD:
                z *= out[r * out_step + j] > 0
            elif finish == RELU and z < 0:
                z = 0
            out[r * out_step + j] = z
        j += 1


cdef void product(
    const real* W, Py_ssize_t row_step, Py_ssize_t term_step, Py_ssize_t n_rows,
    Py_ssize_t n_terms, const real* b, const real* A, Py_ssize_t A_step, real* out,
    Py_ssize_t out_step, Py_ssize_t columns, Finish finish,
) noexcept nogil:
    """``out = finish(W @ A + b)`` with ``W[r, i]`` at ``W[r * row_step + i * term_step]``.

    Steps let one body serve ``W @ A`` and ``W.T @ dZ``. ``b`` may be NULL.
    """
    cdef Py_ssize_t tiles = (n_rows + ROWS - 1) // ROWS
    cdef Py_ssize_t t, start, rows
    cdef const real* w
    cdef const real* c
    cdef real* o
    for t in range(tiles):
        # Even heights: ten rows are 5 + 5, not 6 + 4, whose short tile would wait on its loads.
        start = t * n_rows // tiles
        rows = (t + 1) * n_rows // tiles - start
        w = W + start * row_step
        c = b + start if b != NULL else NULL
        o = out + start * out_step
        if rows == 6:
            product_rows(
                w, row_step, term_step, n_terms, c, A, A_step, o, out_step, columns, finish, 6
            )
        elif rows == 5:
            product_rows(
                w, row_step, term_step, n_terms, c, A, A_step, o, out_step, columns, finish, 5
            )
        elif rows == 4:
            product_rows(
                w, row_step, term_step, n_terms, c, A, A_step, o, out_step, columns, finish, 4
            )
        elif rows == 3:
            product_rows(
                w, row_step, term_step, n_terms, c, A, A_step, o, out_step, columns, finish, 3
            )
        elif rows == 2:
            product_rows(
                w, row_step, term_step, n_terms, c, A, A_step, o, out_step, columns, finish, 2
            )
        else:
            product_rows(
                w, row_step, term_step, n_terms, c, A, A_step, o, out_step, columns, finish, 1
            )


cdef inline void gradient_tile(
    const real* dZ, Py_ssize_t dZ_step, const real* A, Py_ssize_t A_step, Py_ssize_t columns,
    real* dW, Py_ssize_t dW_step, real* db, int rows, int inputs, bint bias,
) noexcept nogil:
    """``rows`` by ``inputs`` entries of ``dW``, and of ``db`` if ``bias``; all three constants."""
    cdef real acc[ROWS][3 * MOST_LANES]
    cdef real d[MOST_LANES]
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t j = 0
    cdef int r, i
    for r in range(rows):
        for i in range(inputs + bias):
            fill(&acc[r][i * lanes], <real>0)
    while j + lanes <= columns:
        for r in range(rows):
            # A copy of its own, so that it is loaded once and not once per use.
            copy(&d[0], dZ + r * dZ_step + j)
            for i in range(inputs):
                multiply_add_lanes(&acc[r][i * lanes], &d[0], A + i * A_step + j)
            if bias:
                add(&acc[r][inputs * lanes], &d[0])
        j += lanes
    for r in range(rows):
        for i in range(inputs):
            dW[r * dW_step + i] += sum_lanes(&acc[r][i * lanes])
        if bias:
            db[r] += sum_lanes(&acc[r][inputs * lanes])
    while j < columns:
        for r in range(rows):
            for i in range(inputs):
                dW[r * dW_step + i] += dZ[r * dZ_step + j] * A[i * A_step + j]
            if bias:
                db[r] += dZ[r * dZ_step + j]
        j += 1


cdef inline void gradient_rows(
    const real* dZ, Py_ssize_t dZ_step, const real* A, Py_ssize_t A_step, Py_ssize_t n_in,
    Py_ssize_t columns, real* dW, real* db, int rows,
) noexcept nogil:
    cdef Py_ssize_t i = n_in % 2
    # The bias is summed on the way, by the first tile: on the loads that are there anyway.
    if i == 1:
        gradient_tile(dZ, dZ_step, A, A_step, columns, dW, n_in, db, rows, 1, True)
    elif n_in == 0:
        gradient_tile(dZ, dZ_step, A, A_step, columns, dW, n_in, db, rows, 0, True)
    else:
        gradient_tile(dZ, dZ_step, A, A_step, columns, dW, n_in, db, rows, 2, True)
        i = 2
    while i < n_in:
        gradient_tile(
            dZ, dZ_step, A + i * A_step, A_step, columns, dW + i, n_in, db, rows, 2, False
        )
        i += 2


cdef void gradient_product(
    const real* dZ, Py_ssize_t dZ_step, const real* A, Py_ssize_t A_step, Py_ssize_t n_out,
    Py_ssize_t n_in, Py_ssize_t columns, real* dW, real* db,
) noexcept nogil:
    """``dW += dZ @ A.T`` and ``db += sum(dZ)``."""
    cdef Py_ssize_t tiles = (n_out + ROWS - 1) // ROWS
    cdef Py_ssize_t t, start, rows
    cdef const real* d
    cdef real* w
    cdef real* c
    for t in range(tiles):
        start = t * n_out // tiles
        rows = (t + 1) * n_out // tiles - start
        d = dZ + start * dZ_step
        w = dW + start * n_in
        c = db + start
        if rows == 6:
            gradient_rows(d, dZ_step, A, A_step, n_in, columns, w, c, 6)
        elif rows == 5:
            gradient_rows(d, dZ_step, A, A_step, n_in, columns, w, c, 5)
        elif rows == 4:
            gradient_rows(d, dZ_step, A, A_step, n_in, columns, w, c, 4)
        elif rows == 3:
            gradient_rows(d, dZ_step, A, A_step, n_in, columns, w, c, 3)
        elif rows == 2:
            gradient_rows(d, dZ_step, A, A_step, n_in, columns, w, c, 2)
        else:
            gradient_rows(d, dZ_step, A, A_step, n_in, columns, w, c, 1)


# --- the output layer -------------------------------------------------------------------------

cdef inline real exponential(real x) noexcept nogil:
    """Return exp(x) within one unit in the last place, for x where it is a normal number.

    x = n ln 2 + r with |r| <= ln(2) / 2. Adding 1.5 x 2^(mantissa bits) rounds x / ln 2 to the
    integer n and leaves n in the low bits of the sum. exp(r) is a minimax polynomial (relative
    error 3e-18 in float64, 1.9e-9 in float32); 2^(n - 1) is put together from its bits and the
    last factor of two multiplied, so that n may be one above the largest exponent.
    """
    cdef real shifted, n, r, p
    if real is double:
        shifted = x * 1.4426950408889634 + 6755399441055744.0
        n = shifted - 6755399441055744.0
        # ln 2 in two parts; n times the first is exact.
        r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10
        p = 2.4994257092666845e-08
        p = p * r + 2.76323679704251e-07
        p = p * r + 2.7557623105475206e-06
        p = p * r + 2.4801486320738795e-05
        p = p * r + 0.0001984126943149003
        p = p * r + 0.0013888888951410093
        p = p * r + 0.008333333333560157
        p = p * r + 0.041666666666492075
        p = p * r + 0.16666666666666166
        p = p * r + 0.5000000000000018
        p = p * r + 1.0
        p = p * r + 1.0
        return p * double_from_bits((double_bits(shifted) + 1022) << 52) * 2
    else:
        shifted = x * <float>1.44269504 + <float>12582912.0
        n = shifted - <float>12582912.0
        r = (x - n * <float>0.693359375) - n * <float>-2.12194440e-4
        p = <float>0.0013836794166131718
        p = p * r + <float>0.008374857048793642
        p = p * r + <float>0.04166822867985375
        p = p * r + <float>0.16666419680857872
        p = p * r + <float>0.499999920561197
        p = p * r + <float>1.0000000364309274
        p = p * r + <float>1.0000000005563752
        return p * float_from_bits((float_bits(shifted) + 126) << 23) * 2


cdef inline real sigmoid_of(real z) noexcept nogil:
    """Return 1 / (1 + exp(-z)), saturating to exactly 0 and 1 where NumPy's does."""
    # Beyond these bounds exp(-z) is infinite, or too small to change 1 + exp(-z).
    cdef real highest = 709.782712893384 if real is double else <float>88.72283
    cdef real lowest = -708 if real is double else -87
    cdef real x = -z
    cdef real a
    x = lowest if x < lowest else x
    # Comparisons are false for NaN, which passes through.
    a = 1 / (1 + exponential(highest if x > highest else x))
    return 0 if x > highest else a


cdef double sigmoid_cross_entropy_block(
    const real* Z, const real* Y, real* A, real* dZ, Py_ssize_t m, real scale,
) noexcept nogil:
    """Sum of -log(p) over at most LOSS_BLOCK examples, p the probability of the true label.

    A sum of logarithms is the logarithm of a product: each p is split into mantissa and exponent,
    mantissas are multiplied and exponents added, lane by lane, and the logarithm is taken once.

    ``A`` may be NULL. ``dZ`` may be ``Z``: each piece is read whole, into ``a``, and then written.
    """
    cdef real a[LOSS_WIDTH]
    cdef real mantissas[LOSS_WIDTH]
    cdef Py_ssize_t start = 0, n, v
    cdef int64_t exponents = 0, zeros = 0
    cdef int32_t narrow_exponents = 0, narrow_zeros = 0
    cdef double total = 1
    cdef int64_t wide
    cdef int32_t narrow
    cdef real p
    for v in range(LOSS_WIDTH):
        mantissas[v] = 1
    while start < m:
        n = min(<Py_ssize_t>LOSS_WIDTH, m - start)
        for v in range(n):
            a[v] = sigmoid_of(Z[start + v])
        for v in range(n):
            p = a[v] if Y[start + v] > 0 else 1 - a[v]
            dZ[start + v] = (a[v] - Y[start + v]) * scale
            # As in nansum, what is not a number counts nothing.
            p = p if p == p else 1
            # Scaled by a power of two, so that subnormal probabilities have an exponent field too.
            if real is double:
                zeros += p == 0
                wide = double_bits(p * 18014398509481984.0)
                exponents += wide >> 52
                mantissas[v] *= double_from_bits(
                    (wide & <int64_t>0xFFFFFFFFFFFFF) | <int64_t>0x3FF0000000000000
                )
            else:
                narrow_zeros += p == 0
                narrow = float_bits(p * <float>33554432.0)
                narrow_exponents += narrow >> 23
                mantissas[v] *= float_from_bits((narrow & 0x7FFFFF) | 0x3F800000)
        if A != NULL:
            for v in range(n):
                A[start + v] = a[v]
        start += n
    if real is double:
        exponents -= m * (1023 + 54)
    else:
        zeros = narrow_zeros
        exponents = narrow_exponents - m * (127 + 25)
    if zeros > 0:
        return INFINITY
    for v in range(LOSS_WIDTH):
        total *= mantissas[v]
    return -(log(total) + exponents * 0.6931471805599453)


# --- one block of examples through the whole network ------------------------------------------

cdef Py_ssize_t block_width(
    const Py_ssize_t* sizes, Py_ssize_t n_layers, Py_ssize_t m, Py_ssize_t itemsize
) noexcept nogil:
    """Examples per block: as many as fit the cache, all blocks alike, whole pairs of registers."""
    cdef Py_ssize_t pair = 2 * VECTOR_BYTES // itemsize
    cdef Py_ssize_t rows = 0, widest, blocks, width, layer
    for layer in range(n_layers + 1):
        rows += sizes[layer]
    widest = min(max(BLOCK_BYTES // (rows * itemsize) // pair * pair, pair), LOSS_BLOCK)
    blocks = (m + widest - 1) // widest
    width = (m + blocks - 1) // blocks
    return (width + pair - 1) // pair * pair


cdef void forward_block(
    const Py_ssize_t* sizes, Py_ssize_t n_layers, const real* theta, const real* X,
    Py_ssize_t X_step, Py_ssize_t columns, real* activations, Py_ssize_t width,
) noexcept nogil:
    """Fill the rows of ``activations``, layer below layer; the last layer stays linear."""
    cdef const real* A = X
    cdef Py_ssize_t A_step = X_step
    cdef Py_ssize_t layer, n_in, n_out
    for layer in range(n_layers):
        n_in = sizes[layer]
        n_out = sizes[layer + 1]
        product(
            theta, n_in, 1, n_out, n_in, theta + n_out * n_in, A, A_step, activations, width,
            columns, RELU if layer < n_layers - 1 else LINEAR,
        )
        theta += n_out * (n_in + 1)
        A = activations
        A_step = width
        activations += n_out * width


cdef double gradient_block(
    const Py_ssize_t* sizes, Py_ssize_t n_layers, Py_ssize_t n_parameters, const real* theta,
    const real* X, Py_ssize_t X_step, const real* Y, Py_ssize_t Y_step, Py_ssize_t m, real scale,
    real* gradient, real* activations, Py_ssize_t width,
) noexcept nogil:
    """Add the block's share to ``gradient`` and return its sum of losses.

    ``X`` must be readable up to the next whole register of examples.
    """
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t columns = (m + lanes - 1) // lanes * lanes
    cdef Py_ssize_t rows = 0, layer, n_in, n_out, o, e
    cdef double total = 0
    cdef real* dZ
    cdef const real* A
    cdef Py_ssize_t A_step

    forward_block(sizes, n_layers, theta, X, X_step, columns, activations, width)

    for layer in range(1, n_layers + 1):
        rows += sizes[layer]
    dZ = activations + (rows - sizes[n_layers]) * width
    for o in range(sizes[n_layers]):
        total += sigmoid_cross_entropy_block(
            dZ + o * width, Y + o * Y_step, <real*>NULL, dZ + o * width, m, scale
        )
        # The examples that fill up the last register have no say.
        for e in range(m, columns):
            dZ[o * width + e] = 0

    theta += n_parameters
    gradient += n_parameters
    for layer in range(n_layers, 0, -1):
        n_in = sizes[layer - 1]
        n_out = sizes[layer]
        theta -= n_out * (n_in + 1)
        gradient -= n_out * (n_in + 1)
        A = X
        A_step = X_step
        if layer > 1:
            A = dZ - n_in * width
            A_step = width
        gradient_product(
            dZ, width, A, A_step, n_out, n_in, columns, gradient, gradient + n_out * n_in
        )
        if layer > 1:
            product(
                theta, 1, n_in, n_in, n_out, <const real*>NULL, dZ, width, dZ - n_in * width,
                width, columns, RELU_BACKWARD,
            )
            dZ -= n_in * width
    return total


cdef int gradient_pass(
    const Py_ssize_t* sizes, Py_ssize_t n_layers, Py_ssize_t n_parameters, const real* theta,
    const real* X, const real* Y, Py_ssize_t m, Py_ssize_t width, const real* X_tail,
    real* gradient, real* activations, double* cost, Py_ssize_t* work,
) except -1 nogil:
    """Overwrite ``gradient`` and ``cost[0]`` with those of all examples.

    ``work`` counts the multiply-adds since the last look for Ctrl-C, which raises here: between two
    blocks, with the parameters untouched.
    """
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t start = 0, n
    cdef bint padded
    cdef double total = 0
    memset(gradient, 0, n_parameters * sizeof(real))
    while start < m:
        n = min(width, m - start)
        padded = n % lanes != 0
        total += gradient_block(
            sizes, n_layers, n_parameters, theta, X_tail if padded else X + start,
            width if padded else m, Y + start, m, n, <real>(1.0 / m), gradient, activations, width,
        )
        start += n
        work[0] += 3 * n * n_parameters
        if work[0] > SIGNAL_WORK:
            work[0] = 0
            with gil:
                PyErr_CheckSignals()
    cost[0] = total / m
    return 0


cdef void copy_tail(
    const real* X, Py_ssize_t n_in, Py_ssize_t m, Py_ssize_t width, real* X_tail
) noexcept nogil:
    """Copy the last block's examples, repeating the last one up to a whole register.

    A repeated example overflows where the original does, so it brings in no NaN of its own.
    """
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t start = (m - 1) // width * width
    cdef Py_ssize_t columns = (m - start + lanes - 1) // lanes * lanes
    cdef Py_ssize_t i, e
    for i in range(n_in):
        for e in range(columns):
            X_tail[i * width + e] = X[i * m + min(start + e, m - 1)]


cdef struct Scratch:
    Py_ssize_t width
    Py_ssize_t n_layers
    void* memory
    char* aligned


cdef Scratch allocate(
    const Py_ssize_t[::1] sizes, Py_ssize_t m, Py_ssize_t n_parameters, Py_ssize_t itemsize
) except *:
    """Scratch for one block: activations, the padded last block of X, the gradient."""
    cdef Scratch scratch
    cdef Py_ssize_t rows = 0, layer
    scratch.n_layers = sizes.shape[0] - 1
    scratch.width = block_width(&sizes[0], scratch.n_layers, m, itemsize)
    for layer in range(sizes.shape[0]):
        rows += sizes[layer]
    scratch.memory = malloc((rows * scratch.width + n_parameters) * itemsize + 64)
    if scratch.memory == NULL:
        raise MemoryError(f"no memory for a block of {scratch.width} examples by {rows} units")
    scratch.aligned = <char*>((<size_t>scratch.memory + 63) & ~<size_t>63)
    return scratch


cdef inline bint stays_finite(
    const real* theta, const real* gradient, real learning_rate, Py_ssize_t n
) noexcept nogil:
    """Whether the update leaves every parameter a finite number."""
    cdef Py_ssize_t p
    cdef int64_t broken = 0
    cdef real x
    for p in range(n):
        x = theta[p] - learning_rate * gradient[p]
        # The difference is 0 for finite numbers and NaN for all others.
        broken += x - x != 0
    return broken == 0


cdef inline void update(
    real* theta, const real* gradient, real learning_rate, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t p
    for p in range(n):
        theta[p] -= learning_rate * gradient[p]


# --- what Python calls ------------------------------------------------------------------------

cdef inline const real* start_of(const real[:, ::1] a) noexcept nogil:
    """The address of the first element; NULL where there is none."""
    return &a[0, 0] if a.shape[0] > 0 and a.shape[1] > 0 else NULL


cdef inline void affine(
    const real[:, ::1] W, const real[:, ::1] b, const real[:, ::1] A, real[:, ::1] out,
    Finish finish,
) noexcept nogil:
    product(
        start_of(W), W.shape[1], 1, W.shape[0], W.shape[1], start_of(b), start_of(A), A.shape[1],
        <real*>start_of(out), out.shape[1], out.shape[1], finish,
    )


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


def sigmoid_cross_entropy(
    const real[:, ::1] Z,      # (n_out, m)
    const real[:, ::1] Y,      # (n_out, m), each exactly 0 or 1
    real[:, ::1] A,            # (n_out, m), overwritten
    real[:, ::1] dZ,           # (n_out, m), overwritten
):
    """Overwrite ``A`` with ``sigmoid(Z)`` and ``dZ`` with ``(A - Y) / m``; return the cost.

    The cost is the lesson's, ``nansum(-log(A) * Y - log(1 - A) * (1 - Y)) / m``: infinite where the
    sigmoid saturates on the wrong side.
    """
    cdef Py_ssize_t m = Z.shape[1]
    cdef Py_ssize_t o, start, n
    cdef double total = 0
    if Z.shape[0] == 0 or m == 0:
        return float("nan") if m == 0 else 0.0
    with nogil:
        for o in range(Z.shape[0]):
            start = 0
            while start < m:
                n = min(<Py_ssize_t>LOSS_BLOCK, m - start)
                total += sigmoid_cross_entropy_block(
                    &Z[o, start], &Y[o, start], &A[o, start], &dZ[o, start], n, <real>(1.0 / m)
                )
                start += n
    return total / m


def backward(
    const real[:, ::1] W,      # (n_out, n_in)
    const real[:, ::1] A,      # (n_in, m), what the layer read
    const real[:, ::1] dZ,     # (n_out, m)
    real[:, ::1] dW,           # (n_out, n_in), accumulated
    real[:, ::1] db,           # (n_out, 1), accumulated
    real[:, ::1] dA,           # (n_in, m), overwritten; None where nobody asks
):
    """Accumulate ``dW += dZ @ A.T`` and ``db += sum(dZ)``; overwrite ``dA``.

    ``dA = (W.T @ dZ) * (A > 0)``: the mask of the ReLU that made ``A``. ``dA`` may be ``A``.
    """
    cdef Py_ssize_t m = A.shape[1]
    cdef bint wanted = dA is not None
    if wanted and m > 0 and A.shape[0] > 0 and &dA[0, 0] != &A[0, 0]:
        dA[...] = A
    with nogil:
        gradient_product(
            start_of(dZ), m, start_of(A), m, W.shape[0], W.shape[1], m, <real*>start_of(dW),
            <real*>start_of(db),
        )
        if wanted:
            product(
                start_of(W), 1, W.shape[1], W.shape[1], W.shape[0], <const real*>NULL,
                start_of(dZ), m, <real*>start_of(dA), m, m, RELU_BACKWARD,
            )


def update_parameters(
    real[::1] theta,           # (n_parameters,), updated in place
    const real[::1] gradient,  # (n_parameters,)
    double learning_rate,
):
    """Update ``theta -= learning_rate * gradient`` in place."""
    if theta.shape[0] > 0:
        with nogil:
            update(&theta[0], &gradient[0], <real>learning_rate, theta.shape[0])


def forward(
    const Py_ssize_t[::1] sizes,   # (n_layers + 1,)
    const real[::1] theta,         # (n_parameters,)
    const real[:, ::1] X,          # (sizes[0], m)
    real[:, ::1] out,              # (sizes[-1], m), overwritten
):
    """Overwrite ``out`` with the network's output, after the sigmoid."""
    cdef Py_ssize_t m = X.shape[1]
    cdef Py_ssize_t start = 0, n, o, e, rows = 0
    cdef Scratch scratch
    cdef real* activations
    cdef real* Z
    if m == 0:
        return
    for o in range(1, sizes.shape[0]):
        rows += sizes[o]
    scratch = allocate(sizes, m, 0, sizeof(real))
    activations = <real*>scratch.aligned
    try:
        with nogil:
            Z = activations + (rows - sizes[sizes.shape[0] - 1]) * scratch.width
            while start < m:
                n = min(scratch.width, m - start)
                forward_block(
                    &sizes[0], scratch.n_layers, &theta[0], &X[0, start], m, n, activations,
                    scratch.width,
                )
                for o in range(out.shape[0]):
                    for e in range(n):
                        out[o, start + e] = sigmoid_of(Z[o * scratch.width + e])
                start += n
    finally:
        free(scratch.memory)


def loss_and_gradient(
    const Py_ssize_t[::1] sizes,   # (n_layers + 1,)
    const real[::1] theta,         # (n_parameters,)
    const real[:, ::1] X,          # (sizes[0], m), m > 0
    const real[:, ::1] Y,          # (sizes[-1], m), each exactly 0 or 1
    real[::1] gradient,            # (n_parameters,), overwritten
):
    """Overwrite ``gradient`` with the cost's derivative by ``theta``; return the cost."""
    cdef Py_ssize_t m = X.shape[1], work = 0
    cdef double cost = 0
    cdef Scratch scratch = allocate(sizes, m, 0, sizeof(real))
    cdef real* X_tail = <real*>scratch.aligned
    cdef real* activations = X_tail + sizes[0] * scratch.width
    try:
        with nogil:
            copy_tail(&X[0, 0], sizes[0], m, scratch.width, X_tail)
            gradient_pass(
                &sizes[0], scratch.n_layers, theta.shape[0], &theta[0], &X[0, 0], &Y[0, 0], m,
                scratch.width, X_tail, &gradient[0], activations, &cost, &work,
            )
    finally:
        free(scratch.memory)
    return cost


def descend(
    const Py_ssize_t[::1] sizes,   # (n_layers + 1,)
    real[::1] theta,               # (n_parameters,), updated in place
    const real[:, ::1] X,          # (sizes[0], m), m > 0
    const real[:, ::1] Y,          # (sizes[-1], m), each exactly 0 or 1
    double learning_rate,
    double[::1] costs,             # (iterations,), overwritten up to the number returned
):
    """Run ``costs.shape[0]`` iterations of gradient descent; return how many were whole.

    ``costs[i]`` is the cost before update ``i``. Fewer are returned when the next update would
    leave the finite numbers: ``theta`` then stays at its last finite value.

    Ctrl-C raises from within, with ``theta`` as the last whole iteration left it.
    """
    cdef Py_ssize_t m = X.shape[1], n_parameters = theta.shape[0], i = 0, work = 0
    cdef Scratch scratch = allocate(sizes, m, n_parameters, sizeof(real))
    cdef real* X_tail = <real*>scratch.aligned
    cdef real* activations = X_tail + sizes[0] * scratch.width
    cdef real* gradient = NULL
    cdef Py_ssize_t layer
    cdef double cost = 0
    gradient = activations
    for layer in range(1, sizes.shape[0]):
        gradient += sizes[layer] * scratch.width
    try:
        with nogil:
            copy_tail(&X[0, 0], sizes[0], m, scratch.width, X_tail)
            while i < costs.shape[0]:
                gradient_pass(
                    &sizes[0], scratch.n_layers, n_parameters, &theta[0], &X[0, 0], &Y[0, 0], m,
                    scratch.width, X_tail, gradient, activations, &cost, &work,
                )
                if not stays_finite(&theta[0], gradient, <real>learning_rate, n_parameters):
                    break
                update(&theta[0], gradient, <real>learning_rate, n_parameters)
                costs[i] = cost
                i += 1
    finally:
        free(scratch.memory)
    return i
