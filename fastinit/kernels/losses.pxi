# Losses of one block: at most LOSS_BLOCK examples, ``n_out`` rows each ``step`` apart. ``dZ`` comes
# as the pre-activations ``Z`` and is overwritten: with one pointer for both, loops vectorise. ``A``
# may be NULL. ``w`` holds the weights of the examples, or is NULL where all are 1.

cdef enum Loss:
    SATURATING_CROSS_ENTROPY
    SIGMOID_CROSS_ENTROPY
    SOFTMAX_CROSS_ENTROPY
    SQUARED_ERROR
    POISSON

cdef dict LOSSES = {
    "saturating_cross_entropy": SATURATING_CROSS_ENTROPY,
    "sigmoid_cross_entropy": SIGMOID_CROSS_ENTROPY,
    "softmax_cross_entropy": SOFTMAX_CROSS_ENTROPY,
    "squared_error": SQUARED_ERROR,
    "poisson": POISSON,
}


cdef double saturating_row(
    real* dZ, const real* Y, real* A, Py_ssize_t m, real scale
) noexcept nogil:
    """Sum of -log(p) over at most LOSS_BLOCK examples, p the probability of the true label.

    A sum of logarithms is the logarithm of a product: each p is split into mantissa and exponent,
    mantissas are multiplied and exponents added, lane by lane, and the logarithm is taken once.

    Each piece is read whole, into ``a``, and then written.
    """
    cdef real a[LOSS_WIDTH]
    cdef real mantissas[LOSS_WIDTH]
    cdef double products[LOSS_WIDTH]
    cdef Py_ssize_t start = 0, n, v, half
    cdef int64_t exponents = 0, zeros = 0
    cdef int32_t narrow_exponents = 0, narrow_zeros = 0
    cdef int64_t wide
    cdef int32_t narrow
    cdef real p
    for v in range(LOSS_WIDTH):
        mantissas[v] = 1
    while start < m:
        n = min(<Py_ssize_t>LOSS_WIDTH, m - start)
        for v in range(n):
            a[v] = sigmoid_of(dZ[start + v])
        for v in range(n):
            p = a[v] if Y[start + v] > 0 else <real>1 - a[v]
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
    # By halves, in double: one after another would wait for LOSS_WIDTH multiplications in a row.
    for v in range(LOSS_WIDTH):
        products[v] = mantissas[v]
    half = LOSS_WIDTH // 2
    while half > 0:
        for v in range(half):
            products[v] *= products[v + half]
        half //= 2
    return -(c_log(products[0]) + exponents * 0.6931471805599453)


cdef double weighted_saturating_row(
    real* dZ, const real* Y, const real* w, real* A, Py_ssize_t m, real scale
) noexcept nogil:
    """The same of weighted examples: a logarithm each."""
    cdef Py_ssize_t e
    cdef double total = 0, p
    cdef real a
    for e in range(m):
        a = sigmoid_of(dZ[e])
        p = a if Y[e] > 0 else <real>1 - a
        if w[e] > 0 and p == p:
            total -= w[e] * c_log(p)
        if A != NULL:
            A[e] = a
        dZ[e] = (a - Y[e]) * (w[e] * scale)
    return total


cdef double sigmoid_row(
    real* dZ, const real* Y, const real* w, real* A, Py_ssize_t m, real scale
) noexcept nogil:
    """Sum of w (max(z, 0) - z y + log(1 + exp(-|z|))), which is finite for every finite z."""
    cdef real losses[LOSS_BLOCK]
    cdef Py_ssize_t e
    cdef real z, y, t, a
    for e in range(m):
        z = dZ[e]
        y = Y[e]
        t = exp_of(-z if z > 0 else z)
        a = <real>1 / (<real>1 + t)
        a = a if z > 0 else t * a
        # The label is 0 or 1, so that no infinity meets its opposite.
        z = -z if y > 0 else z
        losses[e] = log1p_of(t) + (z if z > 0 else 0)
        dZ[e] = a - y
        if A != NULL:
            A[e] = a
    return weigh_row(losses, w, dZ, m, scale)


cdef double weigh_row(
    const real* losses, const real* w, real* dZ, Py_ssize_t m, real scale
) noexcept nogil:
    """Return the weighted sum of the losses, and scale ``dZ``."""
    cdef double sums[LOSS_WIDTH]
    cdef Py_ssize_t start = 0, v, half, n
    for v in range(LOSS_WIDTH):
        sums[v] = 0
    while start < m:
        n = min(<Py_ssize_t>LOSS_WIDTH, m - start)
        if w == NULL:
            for v in range(n):
                sums[v] += losses[start + v]
                dZ[start + v] *= scale
        else:
            for v in range(n):
                # No loss counts where the weight is nothing, not even an infinite one.
                sums[v] += w[start + v] * losses[start + v] if w[start + v] > 0 else 0
                dZ[start + v] *= w[start + v] * scale
        start += n
    half = LOSS_WIDTH // 2
    while half > 0:
        for v in range(half):
            sums[v] += sums[v + half]
        half //= 2
    return sums[0]


cdef double softmax_block(
    real* dZ, const real* Y, const real* w, real* A, Py_ssize_t n_out, Py_ssize_t step,
    Py_ssize_t m, real scale,
) noexcept nogil:
    """Sum of w (log(sum(exp(z - max z))) - (z_true - max z))."""
    cdef real top[LOSS_BLOCK]
    cdef real sums[LOSS_BLOCK]
    cdef real losses[LOSS_BLOCK]
    cdef Py_ssize_t o, e
    cdef real z, t
    for e in range(m):
        top[e] = dZ[e]
        sums[e] = 0
        losses[e] = 0
    for o in range(1, n_out):
        for e in range(m):
            top[e] = dZ[o * step + e] if dZ[o * step + e] > top[e] else top[e]
    for o in range(n_out):
        for e in range(m):
            z = dZ[o * step + e] - top[e]
            t = exp_of(z)
            sums[e] += t
            losses[e] -= z if Y[o * step + e] > 0 else 0
            dZ[o * step + e] = t
    for e in range(m):
        losses[e] += log_of(sums[e])
        sums[e] = <real>1 / sums[e]
        top[e] = scale if w == NULL else w[e] * scale
    for o in range(n_out):
        for e in range(m):
            t = dZ[o * step + e] * sums[e]
            if A != NULL:
                A[o * step + e] = t
            dZ[o * step + e] = (t - Y[o * step + e]) * top[e]
    # A row of its own for dZ: it is scaled already.
    return weigh_row(losses, w, top, m, <real>1)


cdef double squared_error_row(
    real* dZ, const real* Y, const real* w, real* A, Py_ssize_t m, real scale
) noexcept nogil:
    """Sum of w (z - y)^2 / 2."""
    cdef real losses[LOSS_BLOCK]
    cdef Py_ssize_t e
    cdef real d
    for e in range(m):
        if A != NULL:
            A[e] = dZ[e]
        d = dZ[e] - Y[e]
        losses[e] = <real>0.5 * d * d
        dZ[e] = d
    return weigh_row(losses, w, dZ, m, scale)


cdef double poisson_row(
    real* dZ, const real* Y, const real* w, real* A, Py_ssize_t m, real scale
) noexcept nogil:
    """Sum of w (exp(z) - y z)."""
    cdef real losses[LOSS_BLOCK]
    cdef Py_ssize_t e
    cdef real z, a
    for e in range(m):
        z = dZ[e]
        a = exp_of(z)
        losses[e] = a - Y[e] * z
        dZ[e] = a - Y[e]
        if A != NULL:
            A[e] = a
    return weigh_row(losses, w, dZ, m, scale)


cdef double loss_block(
    Loss loss, real* dZ, const real* Y, const real* w, real* A, Py_ssize_t n_out, Py_ssize_t step,
    Py_ssize_t m, real scale,
) noexcept nogil:
    """Return the weighted sum of the block's losses; write ``A``, and ``dZ`` times ``scale``."""
    cdef double total = 0
    cdef Py_ssize_t o, row
    cdef real* a
    if loss == SOFTMAX_CROSS_ENTROPY:
        return softmax_block(dZ, Y, w, A, n_out, step, m, scale)
    for o in range(n_out):
        row = o * step
        a = A + row if A != NULL else A
        if loss == SIGMOID_CROSS_ENTROPY:
            total += sigmoid_row(dZ + row, Y + row, w, a, m, scale)
        elif loss == SQUARED_ERROR:
            total += squared_error_row(dZ + row, Y + row, w, a, m, scale)
        elif loss == POISSON:
            total += poisson_row(dZ + row, Y + row, w, a, m, scale)
        elif w != NULL:
            total += weighted_saturating_row(dZ + row, Y + row, w, a, m, scale)
        else:
            total += saturating_row(dZ + row, Y + row, a, m, scale)
    return total
