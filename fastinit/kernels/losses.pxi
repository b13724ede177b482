# Losses of one block: at most LOSS_BLOCK examples, ``n_out`` rows each ``step`` apart. ``dZ`` holds
# the pre-activations ``Z`` at first and is overwritten with the derivatives of the losses: one
# pointer for both lets the loops vectorise. ``A`` may be NULL. ``w`` holds the weights of the
# examples; it is NULL if all are 1.
#
# A loss is a function over elements, which writes their losses, derivatives and outputs, and
# registers itself below. :func:`weigh_row` sums and scales by example, :func:`loss_lanes` by
# network.

cdef enum:
    # Examples per product of probabilities: a product of so many mantissas below 2 is finite.
    LOSS_WIDTH = 64
    LOSS_BLOCK = 512
    # Examples of a softmax that are computed together; whole registers of all levels.
    SOFTMAX_EXAMPLES = 32

ctypedef void (*float_elements)(
    float* dZ, const float* Y, float* losses, float* A, Py_ssize_t n) noexcept nogil
ctypedef void (*double_elements)(
    double* dZ, const double* Y, double* losses, double* A, Py_ssize_t n) noexcept nogil
ctypedef void (*float_joint)(
    float* dZ, const float* Y, Py_ssize_t Y_step, float* losses, float* A, Py_ssize_t n_out,
    Py_ssize_t step, Py_ssize_t n) noexcept nogil
ctypedef void (*double_joint)(
    double* dZ, const double* Y, Py_ssize_t Y_step, double* losses, double* A, Py_ssize_t n_out,
    Py_ssize_t step, Py_ssize_t n) noexcept nogil
ctypedef double (*float_total)(
    float* dZ, const float* Y, float* A, Py_ssize_t n, float scale) noexcept nogil
ctypedef double (*double_total)(
    double* dZ, const double* Y, double* A, Py_ssize_t n, double scale) noexcept nogil

cdef struct Loss:
    # Either the losses of one output, which does not depend on the others,
    float_elements elements_floats
    double_elements elements_doubles
    # or those of all outputs together.
    float_joint joint_floats
    double_joint joint_doubles
    # The sum over one output's examples of weight 1, with ``dZ`` scaled, if there is a faster way.
    float_total total_floats
    double_total total_doubles

cdef Loss[MOST_NAMES] loss_functions
cdef dict loss_numbers = {}

cdef Loss* add_loss(
    name, float_elements elements_floats, double_elements elements_doubles
) except NULL:
    """Register a loss of independent outputs."""
    cdef Loss* loss = &loss_functions[new_number(loss_numbers, name)]
    loss.elements_floats = elements_floats
    loss.elements_doubles = elements_doubles
    return loss


cdef const Loss* loss_named(name) except NULL:
    return &loss_functions[number_of(loss_numbers, "loss", name)]


cdef double saturating_row(
    real* dZ, const real* Y, real* A, Py_ssize_t m, real scale
) noexcept nogil:
    """Return the sum of -log(p) over at most LOSS_BLOCK examples, p the true label's probability.

    A sum of logarithms is the logarithm of a product: each p is split into mantissa and exponent,
    mantissas are multiplied and exponents added, lane by lane, and the logarithm is taken once.
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
            # NaN does not count, as in nansum.
            p = p if p == p else 1
            # Scaled by a power of two, so that subnormal probabilities become normal numbers.
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
    # By halves: a product in order would be a chain of LOSS_WIDTH dependent multiplications.
    for v in range(LOSS_WIDTH):
        products[v] = mantissas[v]
    half = LOSS_WIDTH // 2
    while half > 0:
        for v in range(half):
            products[v] *= products[v + half]
        half //= 2
    return -(c_log(products[0]) + exponents * 0.6931471805599453)


cdef void saturating_elements(
    real* dZ, const real* Y, real* losses, real* A, Py_ssize_t n
) noexcept nogil:
    """-log(p), infinite if the sigmoid saturates on the wrong side."""
    cdef Py_ssize_t e
    cdef double p
    cdef real a
    for e in range(n):
        a = sigmoid_of(dZ[e])
        p = a if Y[e] > 0 else <real>1 - a
        # NaN does not count, as in nansum.
        losses[e] = <real>(-c_log(p)) if p == p else <real>0
        if A != NULL:
            A[e] = a
        dZ[e] = a - Y[e]


cdef Loss* saturating = add_loss(
    "saturating_cross_entropy", saturating_elements[float], saturating_elements[double]
)
saturating.total_floats = saturating_row[float]
saturating.total_doubles = saturating_row[double]


cdef void sigmoid_elements(
    real* dZ, const real* Y, real* losses, real* A, Py_ssize_t n
) noexcept nogil:
    """max(z, 0) - z y + log(1 + exp(-|z|)), which is finite for every finite z."""
    cdef Py_ssize_t e
    cdef real z, y, t, a
    for e in range(n):
        z = dZ[e]
        y = Y[e]
        t = exp_of(-z if z > 0 else z)
        a = <real>1 / (<real>1 + t)
        a = a if z > 0 else t * a
        # By label, 0 or 1: the difference of z and z y could be that of two infinities.
        z = -z if y > 0 else z
        losses[e] = log1p_of(t) + (z if z > 0 else 0)
        dZ[e] = a - y
        if A != NULL:
            A[e] = a


add_loss("sigmoid_cross_entropy", sigmoid_elements[float], sigmoid_elements[double])


cdef inline real clipped(real p) noexcept nogil:
    """Return a probability between the machine epsilon and 1 less that; NaN stays NaN."""
    cdef real epsilon
    if real is double:
        epsilon = 2.220446049250313e-16
    else:
        epsilon = <float>1.1920928955078125e-07
    p = epsilon if p < epsilon else p
    return <real>1 - epsilon if p > <real>1 - epsilon else p


cdef void clipped_sigmoid_elements(
    real* dZ, const real* Y, real* losses, real* A, Py_ssize_t n
) noexcept nogil:
    """-log of the true label's probability, clipped as in scikit-learn; its derivative is not."""
    cdef Py_ssize_t e
    cdef real y, a, p
    for e in range(n):
        y = Y[e]
        a = sigmoid_of(dZ[e])
        p = clipped(a)
        losses[e] = -log_of(p if y > 0 else <real>1 - p)
        dZ[e] = a - y
        if A != NULL:
            A[e] = a


add_loss(
    "clipped_sigmoid_cross_entropy", clipped_sigmoid_elements[float],
    clipped_sigmoid_elements[double],
)


cdef void squared_error_elements(
    real* dZ, const real* Y, real* losses, real* A, Py_ssize_t n
) noexcept nogil:
    """(z - y)^2 / 2."""
    cdef Py_ssize_t e
    cdef real d
    for e in range(n):
        if A != NULL:
            A[e] = dZ[e]
        d = dZ[e] - Y[e]
        losses[e] = <real>0.5 * d * d
        dZ[e] = d


add_loss(
    "squared_error", squared_error_elements[float], squared_error_elements[double]
)


cdef void poisson_elements(
    real* dZ, const real* Y, real* losses, real* A, Py_ssize_t n
) noexcept nogil:
    """exp(z) - y z."""
    cdef Py_ssize_t e
    cdef real z, a
    for e in range(n):
        z = dZ[e]
        a = exp_of(z)
        losses[e] = a - Y[e] * z
        dZ[e] = a - Y[e]
        if A != NULL:
            A[e] = a


add_loss("poisson", poisson_elements[float], poisson_elements[double])


cdef inline void registers_in(real* out, const real* a, Py_ssize_t n) noexcept nogil:
    """Copy ``n`` numbers; the lanes after the last one are zeros."""
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real), e = 0
    while e < n:
        copy_in(out + e, a + e, min(lanes, n - e))
        e += lanes


cdef inline void registers_out(real* out, const real* a, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real), e = 0
    while e < n:
        copy_out(out + e, a + e, min(lanes, n - e))
        e += lanes


cdef inline void softmax_tile(
    real* dZ, const real* Y, Py_ssize_t Y_step, real* losses, real* A, Py_ssize_t n_out,
    Py_ssize_t step, Py_ssize_t n, bint clips,
) noexcept nogil:
    """:func:`softmax_of` for up to SOFTMAX_EXAMPLES examples."""
    cdef real top[SOFTMAX_EXAMPLES]
    cdef real sums[SOFTMAX_EXAMPLES]
    cdef real own[SOFTMAX_EXAMPLES]
    cdef real z[SOFTMAX_EXAMPLES]
    cdef real y[SOFTMAX_EXAMPLES]
    # Whole registers. GCC would unroll loops over a constant number of a few lanes, and then not
    # vectorise them: softmax took four times as long with AVX2.
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t width = ceil_div(n, lanes) * lanes, o, v
    cdef real t
    registers_in(&top[0], dZ, n)
    for v in range(width):
        sums[v] = own[v] = 0
    for o in range(1, n_out):
        registers_in(&z[0], dZ + o * step, n)
        for v in range(width):
            top[v] = z[v] if z[v] > top[v] else top[v]
    for o in range(n_out):
        registers_in(&z[0], dZ + o * step, n)
        registers_in(&y[0], Y + o * Y_step, n)
        for v in range(width):
            t = exp_of(z[v] - top[v])
            sums[v] += t
            own[v] += (t if clips else top[v] - z[v]) if y[v] > 0 else 0
            z[v] = t
        registers_out(dZ + o * step, &z[0], n)
    for v in range(width):
        if clips:
            own[v] = -log_of(clipped(own[v] / sums[v]))
        else:
            own[v] += log_of(sums[v])
        sums[v] = <real>1 / sums[v]
    registers_out(losses, &own[0], n)
    for o in range(n_out):
        registers_in(&z[0], dZ + o * step, n)
        registers_in(&y[0], Y + o * Y_step, n)
        for v in range(width):
            z[v] *= sums[v]
        if A != NULL:
            registers_out(A + o * step, &z[0], n)
        for v in range(width):
            z[v] -= y[v]
        registers_out(dZ + o * step, &z[0], n)


cdef inline void softmax_of(
    real* dZ, const real* Y, Py_ssize_t Y_step, real* losses, real* A, Py_ssize_t n_out,
    Py_ssize_t step, Py_ssize_t n, bint clips,
) noexcept nogil:
    cdef Py_ssize_t e = 0
    while e < n:
        softmax_tile(
            dZ + e, Y + e, Y_step, losses + e, A + e if A != NULL else A, n_out, step,
            min(<Py_ssize_t>SOFTMAX_EXAMPLES, n - e), clips,
        )
        e += SOFTMAX_EXAMPLES


cdef void softmax_elements(
    real* dZ, const real* Y, Py_ssize_t Y_step, real* losses, real* A, Py_ssize_t n_out,
    Py_ssize_t step, Py_ssize_t n,
) noexcept nogil:
    """log(sum(exp(z - max z))) - (z_true - max z), over the rows."""
    softmax_of(dZ, Y, Y_step, losses, A, n_out, step, n, False)


cdef Loss* softmax = add_loss("softmax_cross_entropy", NULL, NULL)
softmax.joint_floats = softmax_elements[float]
softmax.joint_doubles = softmax_elements[double]


cdef void clipped_softmax_elements(
    real* dZ, const real* Y, Py_ssize_t Y_step, real* losses, real* A, Py_ssize_t n_out,
    Py_ssize_t step, Py_ssize_t n,
) noexcept nogil:
    """-log of the true class's probability, clipped as in scikit-learn; its derivative is not."""
    softmax_of(dZ, Y, Y_step, losses, A, n_out, step, n, True)


cdef Loss* clipped_softmax = add_loss("clipped_softmax_cross_entropy", NULL, NULL)
clipped_softmax.joint_floats = clipped_softmax_elements[float]
clipped_softmax.joint_doubles = clipped_softmax_elements[double]


# --- sums and scales ------------------------------------------------------------------------------

cdef inline void call_elements(
    const Loss* loss, real* dZ, const real* Y, real* losses, real* A, Py_ssize_t n
) noexcept nogil:
    if real is float:
        loss.elements_floats(dZ, Y, losses, A, n)
    else:
        loss.elements_doubles(dZ, Y, losses, A, n)


cdef inline void elements_of_row(
    const Loss* loss, real* dZ, const real* Y, real* losses, real* A, Py_ssize_t n
) noexcept nogil:
    """Write losses, derivatives and outputs; as in :func:`activate_row`, in whole registers."""
    cdef real last[4][MOST_LANES]
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real), whole = n // lanes * lanes
    if whole > 0:
        call_elements(loss, dZ, Y, losses, A, whole)
    if whole < n:
        copy_in(&last[0][0], dZ + whole, n - whole)
        copy_in(&last[1][0], Y + whole, n - whole)
        call_elements(loss, &last[0][0], &last[1][0], &last[2][0], &last[3][0], lanes)
        copy_out(dZ + whole, &last[0][0], n - whole)
        copy_out(losses + whole, &last[2][0], n - whole)
        if A != NULL:
            copy_out(A + whole, &last[3][0], n - whole)


cdef inline double total_of_row(
    const Loss* loss, real* dZ, const real* Y, real* A, Py_ssize_t n, real scale
) noexcept nogil:
    if real is float:
        return loss.total_floats(dZ, Y, A, n, scale)
    else:
        return loss.total_doubles(dZ, Y, A, n, scale)


cdef inline bint is_joint(const Loss* loss) noexcept nogil:
    """Whether the outputs depend on each other."""
    return loss.joint_floats != NULL


cdef inline void joint_elements(
    const Loss* loss, real* dZ, const real* Y, Py_ssize_t Y_step, real* losses, real* A,
    Py_ssize_t n_out, Py_ssize_t step, Py_ssize_t n,
) noexcept nogil:
    if real is float:
        loss.joint_floats(dZ, Y, Y_step, losses, A, n_out, step, n)
    else:
        loss.joint_doubles(dZ, Y, Y_step, losses, A, n_out, step, n)


cdef double weigh_row(
    const real* losses, const real* w, real* dZ, Py_ssize_t m, real scale
) noexcept nogil:
    """Return the weighted sum of the losses, and scale ``dZ`` unless it is NULL."""
    cdef double sums[LOSS_WIDTH]
    cdef Py_ssize_t start = 0, v, half, n
    for v in range(LOSS_WIDTH):
        sums[v] = 0
    while start < m:
        n = min(<Py_ssize_t>LOSS_WIDTH, m - start)
        if w == NULL:
            for v in range(n):
                sums[v] += losses[start + v]
        else:
            for v in range(n):
                # An example of weight 0 does not count, even if its loss is infinite.
                sums[v] += w[start + v] * losses[start + v] if w[start + v] != 0 else 0
        start += n
    if dZ != NULL:
        scale_row(dZ, w, m, scale)
    half = LOSS_WIDTH // 2
    while half > 0:
        for v in range(half):
            sums[v] += sums[v + half]
        half //= 2
    return sums[0]


cdef inline void scale_row(real* dZ, const real* w, Py_ssize_t m, real scale) noexcept nogil:
    cdef Py_ssize_t e
    if w == NULL:
        for e in range(m):
            dZ[e] *= scale
    else:
        for e in range(m):
            dZ[e] *= w[e] * scale


cdef double loss_block(
    const Loss* loss, real* dZ, const real* Y, Py_ssize_t Y_step, const real* w, real* A,
    Py_ssize_t n_out, Py_ssize_t step, Py_ssize_t m, real scale,
) noexcept nogil:
    """Return the weighted sum of the block's losses; write ``A``, and ``dZ`` times ``scale``."""
    cdef real losses[LOSS_BLOCK]
    cdef double total = 0
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real), o, at, n
    cdef bint joint = is_joint(loss)
    cdef real* a
    if joint:
        joint_elements(loss, dZ, Y, Y_step, &losses[0], A, n_out, step, m)
        total = weigh_row(&losses[0], w, <real*>NULL, m, scale)
    if m < lanes and step == m and Y_step == m and w == NULL:
        # Rows that do not fill a register, without gaps between them, are computed as one row.
        m *= n_out
        n_out = 1
    for o in range(n_out):
        if joint:
            scale_row(dZ + o * step, w, m, scale)
            continue
        at = 0
        while at < m:
            n = min(m - at, <Py_ssize_t>LOSS_BLOCK)
            a = A + o * step + at if A != NULL else A
            if loss.total_floats != NULL and w == NULL:
                total += total_of_row(loss, dZ + o * step + at, Y + o * Y_step + at, a, n, scale)
            else:
                elements_of_row(
                    loss, dZ + o * step + at, Y + o * Y_step + at, &losses[0], a, n
                )
                total += weigh_row(
                    &losses[0], w + at if w != NULL else w, dZ + o * step + at, n, scale
                )
            at += n
    return total


cdef void loss_lanes(
    const Loss* loss, real* dZ, const real* Y, const real* w, real* A, Py_ssize_t n_out,
    Py_ssize_t m, real scale, double* costs,
) noexcept nogil:
    """Add each network's weighted sum of losses to its cost; write ``A``, and ``dZ`` times scale.

    All arrays but ``w`` hold a register of networks for each of the ``m`` examples.
    """
    cdef real losses[LOSS_BLOCK]
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t o, e, v, n = m * lanes
    cdef real weight
    for o in range(n_out):
        if not is_joint(loss):
            elements_of_row(
                loss, dZ + o * n, Y + o * n, &losses[0], A + o * n if A != NULL else A, n
            )
        elif o == 0:
            joint_elements(loss, dZ, Y, n, &losses[0], A, n_out, n, n)
        for e in range(m):
            weight = 1 if w == NULL else w[e]
            if weight != 0 and (o == 0 or not is_joint(loss)):
                for v in range(lanes):
                    costs[v] += weight * losses[e * lanes + v]
            weight *= scale
            for v in range(lanes):
                dZ[o * n + e * lanes + v] *= weight
