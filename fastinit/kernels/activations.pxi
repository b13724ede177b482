# Elementary functions of one number, and the activations. The functions have no branches, only
# selections, so that the loops around them vectorise. Comparisons with NaN are false, and are
# written so that NaN passes through. Cython takes a literal for a double, which would widen the
# arithmetic on floats: hence <real>. Bits are added as unsigned integers, whose overflow is
# defined, because negative numbers and NaN reach these functions too.

cdef inline real exponential(real x) noexcept nogil:
    """Return exp(x) within two units in the last place, for x where it is a normal number.

    x = n ln 2 + r with |r| <= ln(2) / 2. Adding 1.5 x 2^(mantissa bits) rounds x / ln 2 to the
    integer n and leaves n in the low bits of the sum. exp(r) is a minimax polynomial (relative
    error 3e-18 in float64, 1.9e-9 in float32). 2^(n - 1) is built from its bits, and the last
    factor of two is a multiplication, because n may be one above the largest exponent.
    """
    cdef real shifted, n, r, p
    if real is double:
        shifted = x * 1.4426950408889634 + 6755399441055744.0
        n = shifted - 6755399441055744.0
        # ln 2 is split into two parts. The product of n and the first is exact.
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
        p *= double_from_bits(<int64_t>((<uint64_t>double_bits(shifted) + 1022) << 52))
        return p * <real>2
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
        p *= float_from_bits(<int32_t>((<uint32_t>float_bits(shifted) + 126) << 23))
        return p * <real>2


cdef inline real sigmoid_of(real z) noexcept nogil:
    """Return 1 / (1 + exp(-z)); it is exactly 0 and 1 for the same z as in NumPy."""
    # Beyond these bounds exp(-z) is infinite, or too small to change 1 + exp(-z).
    cdef real highest = 709.782712893384 if real is double else <float>88.72283
    cdef real lowest = -708 if real is double else -87
    cdef real x = -z
    cdef real a
    x = lowest if x < lowest else x
    a = <real>1 / (<real>1 + exponential(highest if x > highest else x))
    return 0 if x > highest else a


cdef inline real exp_of(real x) noexcept nogil:
    """Return exp(x) of any number: infinity on overflow, 0 below the normal numbers."""
    cdef real highest = 709.782712893384 if real is double else <float>88.72283
    # The smallest x for which 2^(n - 1) is a normal number.
    cdef real lowest = -708 if real is double else <float>-86.98
    cdef real y = highest if x > highest else x
    y = exponential(lowest if y < lowest else y)
    y = <real>INFINITY if x > highest else y
    return 0 if x < lowest else y


cdef inline real expm1_of(real x) noexcept nogil:
    """Return exp(x) - 1 for x <= 0, within two units in the last place.

    With exp(r) - 1 = r + r^2 q(r), exp(x) - 1 is 2^n (exp(r) - 1) + (2^n - 1), a sum without
    cancellation. q is a Chebyshev fit; the relative error of r + r^2 q(r) is 5e-10 in float32 and
    9e-19 in float64.
    """
    cdef real lowest = -50 if real is double else -25
    cdef real y = lowest if x < lowest else x
    cdef real shifted, n, r, q, scale
    if real is double:
        shifted = y * 1.4426950408889634 + 6755399441055744.0
        n = shifted - 6755399441055744.0
        r = (y - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10
        q = 2.091812988660952e-09
        q = q * r + 2.510520706464424e-08
        q = q * r + 2.755726330017862e-07
        q = q * r + 2.755725542387984e-06
        q = q * r + 2.4801587336422683e-05
        q = q * r + 0.00019841269874802173
        q = q * r + 0.0013888888888879082
        q = q * r + 0.008333333333326141
        q = q * r + 0.04166666666666668
        q = q * r + 0.1666666666666667
        q = q * r + 0.5
        scale = double_from_bits(<int64_t>((<uint64_t>double_bits(shifted) + 1023) << 52))
    else:
        shifted = y * <float>1.44269504 + <float>12582912.0
        n = shifted - <float>12582912.0
        r = (y - n * <float>0.693359375) - n * <float>-2.12194440e-4
        q = <float>0.00019899276222384887
        q = q * r + <float>0.0013933643522487942
        q = q * r + <float>0.008333298480356209
        q = q * r + <float>0.041666464976127526
        q = q * r + <float>0.16666666719007714
        q = q * r + <float>0.5000000013462218
        scale = float_from_bits(<int32_t>((<uint32_t>float_bits(shifted) + 127) << 23))
    return scale * (r + r * r * q) + (scale - <real>1)


cdef inline real log_of_sum(real f, real k) noexcept nogil:
    """Return k ln 2 + log(1 + f) for sqrt(1/2) <= 1 + f <= sqrt(2).

    With s = f / (2 + f), log(1 + f) is 2 atanh(s). The polynomials in s^2 are those of e_log.c and
    e_logf.c in fdlibm.
    """
    cdef real s = f / (<real>2 + f)
    cdef real z = s * s
    cdef real half_square = <real>0.5 * f * f
    cdef real p
    if real is double:
        p = 1.479819860511658591e-01
        p = p * z + 1.531383769920937332e-01
        p = p * z + 1.818357216161805012e-01
        p = p * z + 2.222219843214978396e-01
        p = p * z + 2.857142874366239149e-01
        p = p * z + 3.999999999940941908e-01
        p = p * z + 6.666666666666735130e-01
        p = s * (half_square + p * z) + k * 1.90821492927058770002e-10
        return k * 6.93147180369123816490e-01 - ((half_square - p) - f)
    else:
        p = <float>0.24279078841
        p = p * z + <float>0.28498786688
        p = p * z + <float>0.40000972152
        p = p * z + <float>0.66666662693
        p = s * (half_square + p * z) + k * <float>9.0580006145e-06
        return k * <float>6.9313812256e-01 - ((half_square - p) - f)


cdef inline real log_of(real x) noexcept nogil:
    """Return log(x) of a normal positive number; infinity and NaN pass through."""
    cdef int64_t wide
    cdef int32_t narrow
    cdef real m, k, y
    if real is double:
        # Subtracting the bits of sqrt(1/2) moves the boundary between two exponents there, so that
        # the mantissa is in [sqrt(1/2), sqrt(2)).
        wide = <int64_t>(<uint64_t>double_bits(x) - <uint64_t>0x3FE6A09E667F3BCD)
        k = <double>(wide >> 52)
        m = double_from_bits((wide & <int64_t>0xFFFFFFFFFFFFF) + <int64_t>0x3FE6A09E667F3BCD)
        y = log_of_sum[double](m - <real>1, k)
    else:
        narrow = <int32_t>(<uint32_t>float_bits(x) - <uint32_t>0x3F3504F3)
        k = <float>(narrow >> 23)
        m = float_from_bits((narrow & 0x7FFFFF) + 0x3F3504F3)
        y = log_of_sum[float](m - <real>1, k)
    return y if x - x == 0 else x


cdef inline real log1p_of(real x) noexcept nogil:
    """Return log(1 + x) for 0 <= x <= 1."""
    cdef real k = 1 if x > <real>0.41421356 else 0
    return log_of_sum((x - <real>1) * <real>0.5 if x > <real>0.41421356 else x, k)


cdef inline real tanh_of(real x) noexcept nogil:
    """Return tanh(x): -t / (t + 2) with t = exp(-2 |x|) - 1, and the sign of x."""
    cdef real t = expm1_of(<real>-2 * (x if x > 0 else -x))
    t = t / (t + <real>2)
    return -t if x > 0 else t


cdef inline real half_erfc(real x, real gauss) noexcept nogil:
    """Return erfc(x) / 2 for x >= 0, given exp(-x^2).

    erfc(x) exp(x^2) (1 + 2 x) is smooth in t = (x - 3) / (x + 3), which lies between -1 and 1 [1]_.
    The polynomial is a Chebyshev fit made for this function; its relative error is 7e-8 in float32
    and 1e-16 in float64.

    .. [1] Shepherd and Laframboise, Mathematics of Computation 36, 1981.
    """
    cdef real t = (x - <real>3) / (x + <real>3)
    cdef real p
    if real is double:
        p = 9.862533510345587e-10
        p = p * t - 3.1813541434969274e-09
        p = p * t - 1.3312919661038687e-08
        p = p * t + 2.7843881265502222e-08
        p = p * t + 1.0183620603842736e-07
        p = p * t - 1.205414228648938e-07
        p = p * t - 6.166011460398726e-07
        p = p * t + 3.3669790806407595e-07
        p = p * t + 3.472370944977168e-06
        p = p * t - 7.187883834404266e-07
        p = p * t - 2.0100542268525612e-05
        p = p * t + 4.94412434222366e-06
        p = p * t + 0.0001250993424583729
        p = p * t - 0.00010515831297813128
        p = p * t - 0.0007798322696543306
        p = p * t + 0.0018886900977441495
        p = p * t + 0.0025293918156939696
        p = p * t - 0.023770514891530075
        p = p * t + 0.0683080273440099
        p = p * t - 0.11927366341676002
        p = p * t + 0.1296451587027594
        p = p * t - 0.04756229435342038
        p = p * t - 0.13562110612458117
        p = p * t + 1.2530080582697296
    else:
        p = <float>-9.254516686923966e-05
        p = p * t - <float>0.0005138505128719338
        p = p * t + <float>0.001875079123772353
        p = p * t + <float>0.0022865137034448328
        p = p * t - <float>0.02376357643949504
        p = p * t + <float>0.06840958165633677
        p = p * t - <float>0.1192752752822409
        p = p * t + <float>0.129627504721725
        p = p * t - <float>0.047562156927520076
        p = p * t - <float>0.13562023891915578
        p = p * t + <float>1.2530080563677553
    return <real>0.5 * gauss * p / (<real>1 + <real>2 * x)


# --- activations ----------------------------------------------------------------------------------
#
# An activation is a row function ``forward``, which overwrites pre-activations with activations,
# and a row function ``backward``, which overwrites activations with derivatives. If the derivative
# does not follow from the activation alone, ``forward`` writes it to ``derivatives``, which is
# unused otherwise, and there is no ``backward``. Each registers itself below its functions.

ctypedef void (*float_forward)(
    float* z, float* derivatives, Py_ssize_t n, float negative_slope) noexcept nogil
ctypedef void (*double_forward)(
    double* z, double* derivatives, Py_ssize_t n, double negative_slope) noexcept nogil
ctypedef void (*float_backward)(float* a, Py_ssize_t n, float negative_slope) noexcept nogil
ctypedef void (*double_backward)(double* a, Py_ssize_t n, double negative_slope) noexcept nogil

cdef struct Activation:
    float_forward forward_floats
    double_forward forward_doubles
    float_backward backward_floats   # NULL if ``forward`` writes the derivatives
    double_backward backward_doubles

cdef Activation[MOST_NAMES] activations
cdef dict activation_numbers = {}

cdef Activation* add_activation(
    name, float_forward forward_floats, double_forward forward_doubles,
    float_backward backward_floats, double_backward backward_doubles,
) except NULL:
    cdef Activation* activation = &activations[new_number(activation_numbers, name)]
    activation.forward_floats = forward_floats
    activation.forward_doubles = forward_doubles
    activation.backward_floats = backward_floats
    activation.backward_doubles = backward_doubles
    return activation


cdef const Activation* activation_named(name) except NULL:
    return &activations[number_of(activation_numbers, "activation", name)]


cdef inline bint keeps_derivatives(const Activation* activation) noexcept nogil:
    """Whether ``forward`` writes the derivatives."""
    return activation.backward_floats == NULL


cdef inline void forward_row(
    real* z, real* derivatives, Py_ssize_t n, const Activation* activation, real negative_slope
) noexcept nogil:
    if real is float:
        activation.forward_floats(z, derivatives, n, negative_slope)
    else:
        activation.forward_doubles(z, derivatives, n, negative_slope)


cdef inline void backward_row(
    real* a, Py_ssize_t n, const Activation* activation, real negative_slope
) noexcept nogil:
    if real is float:
        activation.backward_floats(a, n, negative_slope)
    else:
        activation.backward_doubles(a, n, negative_slope)


# The end of a row is computed as a whole register. One number at a time, 15 take as long as 240.

cdef inline void activate_row(
    real* z, real* derivatives, Py_ssize_t n, const Activation* activation, real negative_slope
) noexcept nogil:
    """Overwrite ``z`` with its activation; and ``derivatives``, if they are kept."""
    cdef real last[MOST_LANES]
    cdef real slopes[MOST_LANES]
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real), whole = n // lanes * lanes
    if whole > 0:
        forward_row(z, derivatives, whole, activation, negative_slope)
    if whole < n:
        copy_in(&last[0], z + whole, n - whole)
        forward_row(&last[0], &slopes[0], lanes, activation, negative_slope)
        copy_out(z + whole, &last[0], n - whole)
        if keeps_derivatives(activation):
            copy_out(derivatives + whole, &slopes[0], n - whole)


cdef inline void derivatives_of_row(
    real* a, const real* derivatives, Py_ssize_t n, const Activation* activation,
    real negative_slope,
) noexcept nogil:
    """Overwrite activations with the activation's derivative."""
    cdef real last[MOST_LANES]
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real), whole = n // lanes * lanes
    if keeps_derivatives(activation):
        memcpy(a, derivatives, n * sizeof(real))
        return
    if whole > 0:
        backward_row(a, whole, activation, negative_slope)
    if whole < n:
        copy_in(&last[0], a + whole, n - whole)
        backward_row(&last[0], lanes, activation, negative_slope)
        copy_out(a + whole, &last[0], n - whole)


cdef void relu_forward(
    real* z, real* derivatives, Py_ssize_t n, real negative_slope
) noexcept nogil:
    cdef Py_ssize_t e
    for e in range(n):
        z[e] = 0 if z[e] < 0 else z[e]


cdef void relu_backward(real* a, Py_ssize_t n, real negative_slope) noexcept nogil:
    cdef Py_ssize_t e
    for e in range(n):
        a[e] = 1 if a[e] > 0 else 0


cdef Activation* relu_activation = add_activation(
    "relu", relu_forward[float], relu_forward[double], relu_backward[float], relu_backward[double]
)


cdef inline bint is_relu(const Activation* activation) noexcept nogil:
    """Whether matrix products apply the activation before they store their sums, both ways."""
    return activation == relu_activation


cdef void leaky_relu_forward(
    real* z, real* derivatives, Py_ssize_t n, real negative_slope
) noexcept nogil:
    cdef Py_ssize_t e
    for e in range(n):
        z[e] = z[e] if z[e] > 0 else z[e] * negative_slope


cdef void leaky_relu_backward(real* a, Py_ssize_t n, real negative_slope) noexcept nogil:
    cdef Py_ssize_t e
    for e in range(n):
        a[e] = 1 if a[e] > 0 else negative_slope


add_activation(
    "leaky_relu", leaky_relu_forward[float], leaky_relu_forward[double],
    leaky_relu_backward[float], leaky_relu_backward[double],
)


cdef void tanh_forward(
    real* z, real* derivatives, Py_ssize_t n, real negative_slope
) noexcept nogil:
    cdef Py_ssize_t e
    for e in range(n):
        z[e] = tanh_of(z[e])


cdef void tanh_backward(real* a, Py_ssize_t n, real negative_slope) noexcept nogil:
    cdef Py_ssize_t e
    for e in range(n):
        a[e] = (<real>1 - a[e]) * (<real>1 + a[e])


add_activation(
    "tanh", tanh_forward[float], tanh_forward[double], tanh_backward[float], tanh_backward[double]
)


cdef void sigmoid_forward(
    real* z, real* derivatives, Py_ssize_t n, real negative_slope
) noexcept nogil:
    cdef Py_ssize_t e
    for e in range(n):
        z[e] = sigmoid_of(z[e])


cdef void sigmoid_backward(real* a, Py_ssize_t n, real negative_slope) noexcept nogil:
    cdef Py_ssize_t e
    for e in range(n):
        a[e] = a[e] * (<real>1 - a[e])


add_activation(
    "sigmoid", sigmoid_forward[float], sigmoid_forward[double],
    sigmoid_backward[float], sigmoid_backward[double],
)


cdef void identity_forward(
    real* z, real* derivatives, Py_ssize_t n, real negative_slope
) noexcept nogil:
    pass


cdef void identity_backward(real* a, Py_ssize_t n, real negative_slope) noexcept nogil:
    cdef Py_ssize_t e
    for e in range(n):
        a[e] = 1


add_activation(
    "identity", identity_forward[float], identity_forward[double],
    identity_backward[float], identity_backward[double],
)


cdef void gelu_forward(
    real* z, real* derivatives, Py_ssize_t n, real negative_slope
) noexcept nogil:
    cdef Py_ssize_t e
    cdef real x, y, share, gauss
    for e in range(n):
        x = z[e]
        y = x if x > 0 else -x
        gauss = exp_of(<real>-0.5 * x * x)
        # The probability above |x|, then below x. From 40 on it is 0, also at infinity.
        y = 40 if y > 40 else y
        share = half_erfc(y * <real>0.7071067811865476, gauss)
        share = <real>1 - share if x > 0 else share
        z[e] = x * share
        derivatives[e] = share + x * gauss * <real>0.3989422804014327


add_activation("gelu", gelu_forward[float], gelu_forward[double], NULL, NULL)


cdef void silu_forward(
    real* z, real* derivatives, Py_ssize_t n, real negative_slope
) noexcept nogil:
    cdef Py_ssize_t e
    cdef real x, share
    for e in range(n):
        x = z[e]
        share = sigmoid_of(x)
        z[e] = x * share
        derivatives[e] = share + x * share * (<real>1 - share)


add_activation("silu", silu_forward[float], silu_forward[double], NULL, NULL)


cdef void selu_forward(
    real* z, real* derivatives, Py_ssize_t n, real negative_slope
) noexcept nogil:
    cdef Py_ssize_t e
    cdef real x, y
    for e in range(n):
        x = z[e]
        y = <real>1.7580993408473766 * expm1_of(0 if x > 0 else x)
        z[e] = <real>1.0507009873554805 * x if x > 0 else y


cdef void selu_backward(real* a, Py_ssize_t n, real negative_slope) noexcept nogil:
    cdef Py_ssize_t e
    for e in range(n):
        a[e] = <real>1.0507009873554805 if a[e] > 0 else a[e] + <real>1.7580993408473766


add_activation(
    "selu", selu_forward[float], selu_forward[double], selu_backward[float], selu_backward[double]
)
