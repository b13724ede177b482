"""Philox 4x32-10 and the distributions: element index in, value out.

A counter block is (element block, stream), and the key is the seed; Philox turns them into four
32-bit words. ``BLOCKS`` consecutive blocks form a group, and the elements of a group take the words
in this order: word 0 of every block, then word 1 of every block, and so on. Thus vectors of
consecutive elements come from vectors of consecutive counters, without shuffles. A float takes one
word, so that a group has 256 floats; a double takes two, and a group has 128 doubles.

Every value depends on seed, stream and element index only. The arithmetic is IEEE ``+ - * /`` and
``sqrt`` in the order written here, compiled with contraction off: the same bits on every CPU.
Halves are floats rounded to nearest even.

Kernels do not validate arguments; their callers do. ``fastinit/reference.py`` has functions of the
same names and arguments.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport sqrt, sqrtf
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from "lanes.h":
    int32_t float_bits(float x) noexcept nogil
    int64_t double_bits(double x) noexcept nogil
    float float_from_bits(int32_t bits) noexcept nogil
    double double_from_bits(int64_t bits) noexcept nogil

cdef extern from "philox.h":
    enum:
        BLOCKS
    void philox(
        uint32_t (*words)[BLOCKS], uint64_t first, uint64_t stream, uint64_t key
    ) noexcept nogil

cdef extern from *:
    # Constants are in C, because a literal is a double to Cython and widens float arithmetic.
    """
    /* log(1 + f) - f + f*f/2 over f**3, and sine and cosine on [-pi/4, pi/4]: the minimax
       polynomials of Cephes (S. L. Moshier), single precision. */
    static const float LOG[9] = {
        7.0376836292e-2f, -1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f,
        1.4249322787e-1f, -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f,
        3.3333331174e-1f};
    static const float SINE[3] = {-1.9515295891e-4f, 8.3321608736e-3f, -1.6666654611e-1f};
    static const float COSINE[3] = {
        2.443315711809948e-5f, -1.388731625493765e-3f, 4.166664568298827e-2f};
    static const float LN2 = 0.693147182464599609375f, HALF = 0.5f, ONE = 1.0f, TWO = 2.0f;
    static const float TO_UNIT = 0x1p-31f, TO_ANGLE = 3.6572966e-10f;  /* pi / 4 * 2**-31 */

    /* The same for double, from fdlibm (Sun Microsystems). */
    static const double LOG_D[7] = {
        1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01,
        2.222219843214978396e-01, 2.857142874366239149e-01, 3.999999999940941908e-01,
        6.666666666666735130e-01};
    static const double SINE_D[6] = {
        1.58969099521155010221e-10, -2.50507602534068634195e-08, 2.75573137070700676789e-06,
        -1.98412698298579493134e-04, 8.33333333332248946124e-03, -1.66666666666666324348e-01};
    static const double COSINE_D[6] = {
        -1.13596475577881948265e-11, 2.08757232129817482790e-09, -2.75573143513906633035e-07,
        2.48015872894767294178e-05, -1.38888888888741095749e-03, 4.16666666666666019037e-02};
    static const double LN2_HIGH = 6.93147180369123816490e-01, LN2_LOW = 1.90821492927058770002e-10;
    static const double RIGHT_ANGLE = 1.57079632679489661923;

    /* The quantiles of the normal distribution: Wichura (1988), algorithm AS 241, PPND7 and PPND16.
       The denominators of PPND7 end in 1, which is left out. */
    static const float CENTRAL_NUM[4] = {
        5.9109374720e+1f, 1.5929113202e+2f, 5.0434271938e+1f, 3.3871327179e+0f};
    static const float CENTRAL_DEN[3] = {
        6.7187563600e+1f, 7.8757757664e+1f, 1.7895169469e+1f};
    static const float TAIL_NUM[4] = {
        1.7023821103e-1f, 1.3067284816e+0f, 2.7568153900e+0f, 1.4234372777e+0f};
    static const float TAIL_DEN[2] = {
        1.2021132975e-1f, 7.3700164250e-1f};
    static const float FAR_NUM[4] = {
        1.7337203997e-2f, 4.2868294337e-1f, 3.0812263860e+0f, 6.6579051150e+0f};
    static const float FAR_DEN[2] = {
        1.2258202635e-2f, 2.4197894225e-1f};
    static const double CENTRAL_NUM_D[8] = {
        2.5090809287301226727e+3, 3.3430575583588128105e+4, 6.7265770927008700853e+4,
        4.5921953931549871457e+4, 1.3731693765509461125e+4, 1.9715909503065514427e+3,
        1.3314166789178437745e+2, 3.3871328727963666080e+0};
    static const double CENTRAL_DEN_D[8] = {
        5.2264952788528545610e+3, 2.8729085735721942674e+4, 3.9307895800092710610e+4,
        2.1213794301586595867e+4, 5.3941960214247511077e+3, 6.8718700749205790830e+2,
        4.2313330701600911252e+1, 1.0};
    static const double TAIL_NUM_D[8] = {
        7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
        1.27045825245236838258e+0, 3.64784832476320460504e+0, 5.76949722146069140550e+0,
        4.63033784615654529590e+0, 1.42343711074968357734e+0};
    static const double TAIL_DEN_D[8] = {
        1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
        1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e+0,
        2.05319162663775882187e+0, 1.0};
    static const double FAR_NUM_D[8] = {
        2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
        2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e+0,
        5.46378491116411436990e+0, 6.65790464350110377720e+0};
    static const double FAR_DEN_D[8] = {
        2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
        7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
        5.99832206555887937690e-1, 1.0};
    /* z / y as a function of NEAR_SQUARE - y * y, for y = 1/2 - q up to 0.4785, z up to 2.02: a
       rational fit of relative error 2e-8, which needs no logarithm. */
    static const float NEAR_NUM[6] = {
        -2.4766809723e+3f, 1.6911899083e+4f, 2.2613970259e+4f, 4.7802340476e+3f, 2.7448827333e+2f,
        4.2645668678e+0f};
    static const float NEAR_DEN[4] = {
        1.4096455973e+4f, 9.7333429098e+3f, 1.5165275136e+3f, 7.2536552462e+1f};
    static const float NEAR_SQUARE = 0.23f;
    static const double NEAR_MASS = 0.0215;
    static const float CENTRAL = 0.425f, CENTRAL_SQUARE = 0.180625f;
    static const float TAIL = 1.6f, FAR_AWAY = 5.0f;

    /* Doubles as bits: 1, sqrt(1/2), 2**52, a mantissa, a sign. */
    static const uint64_t ONE_BITS = 0x3ff0000000000000, ROOT_BITS = 0x3fe6a09e667f3bcd;
    static const uint64_t SHIFT_BITS = 0x4330000000000000, MANTISSA = 0x000fffffffffffff;
    static const uint64_t SIGN = 0x8000000000000000;
    """
    const float* LOG
    const float* SINE
    const float* COSINE
    const float LN2, HALF, ONE, TWO, TO_UNIT, TO_ANGLE
    const double* LOG_D
    const double* SINE_D
    const double* COSINE_D
    const float* CENTRAL_NUM
    const float* CENTRAL_DEN
    const float* TAIL_NUM
    const float* TAIL_DEN
    const float* FAR_NUM
    const float* FAR_DEN
    const float* NEAR_NUM
    const float* NEAR_DEN
    const float NEAR_SQUARE, CENTRAL, CENTRAL_SQUARE, TAIL, FAR_AWAY
    const double NEAR_MASS
    const double* CENTRAL_NUM_D
    const double* CENTRAL_DEN_D
    const double* TAIL_NUM_D
    const double* TAIL_DEN_D
    const double* FAR_NUM_D
    const double* FAR_DEN_D
    const double LN2_HIGH, LN2_LOW, RIGHT_ANGLE
    const uint64_t ONE_BITS, ROOT_BITS, SHIFT_BITS, MANTISSA, SIGN

cdef enum:
    FLOATS = 4 * BLOCKS
    DOUBLES = 2 * BLOCKS

ctypedef fused cell:
    float
    double
    uint16_t

cdef struct Draw:
    uint64_t key
    uint64_t stream
    double a
    double b
    double largest
    double lowest
    double left
    double right
    double total
    double exponent
    double unit

ctypedef void (*draw_floats)(float* out, uint64_t group, const Draw* draw) noexcept nogil
ctypedef void (*draw_doubles)(double* out, uint64_t group, const Draw* draw) noexcept nogil


# --- elementary functions -----------------------------------------------------------------------

cdef inline float log_float(float x, float exponent) noexcept nogil:
    """Return ``log(x * 2**exponent)`` of a normal positive x."""
    # x = 2**k * (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), split by its bits.
    cdef int32_t bits = float_bits(x) - 0x3f3504f3
    cdef float k = <float>(bits >> 23) + exponent
    cdef float f = float_from_bits((bits & 0x007fffff) + 0x3f3504f3) - ONE
    # Even and odd powers apart: as many operations as Horner's rule and half its latency.
    cdef float g = f * f
    cdef float even = (((LOG[0] * g + LOG[2]) * g + LOG[4]) * g + LOG[6]) * g + LOG[8]
    cdef float odd = ((LOG[1] * g + LOG[3]) * g + LOG[5]) * g + LOG[7]
    return k * LN2 + (f + g * ((odd * f + even) * f - HALF))


cdef inline double log_double(double x, double exponent) noexcept nogil:
    """Return ``log(x * 2**exponent)`` of a normal positive x."""
    # As above. The exponent becomes a double by its bits, because AVX2 cannot convert int64.
    cdef uint64_t bits = <uint64_t>double_bits(x) + (ONE_BITS - ROOT_BITS)
    cdef double k = double_from_bits((bits >> 52) | SHIFT_BITS) - 4503599627371519.0
    cdef double f = double_from_bits((bits & MANTISSA) + ROOT_BITS) - 1.0
    cdef double s = f / (2.0 + f)
    cdef double z = s * s
    cdef double p = LOG_D[0]
    cdef double half_square = 0.5 * f * f
    p = p * z + LOG_D[1]
    p = p * z + LOG_D[2]
    p = p * z + LOG_D[3]
    p = p * z + LOG_D[4]
    p = p * z + LOG_D[5]
    p = p * z + LOG_D[6]
    k = k + exponent
    return k * LN2_HIGH - ((half_square - (s * (half_square + p * z) + k * LN2_LOW)) - f)


# --- uniform ------------------------------------------------------------------------------------

cdef void uniform_floats(float* out, uint64_t group, const Draw* draw) noexcept nogil:
    """Draw ``low + unit * width`` with 24 random bits, from ``lowest`` to ``largest``."""
    cdef uint32_t words[4][BLOCKS]
    cdef float low = <float>draw.a, step = <float>draw.b * <float>(1.0 / (1 << 24))
    cdef float lowest = <float>draw.lowest, largest = <float>draw.largest, x
    cdef Py_ssize_t w, j
    philox(words, group * BLOCKS, draw.stream, draw.key)
    for w in range(4):
        for j in range(BLOCKS):
            x = low + <float><int32_t>(words[w][j] >> 8) * step
            x = x if x > lowest else lowest
            out[w * BLOCKS + j] = x if x < largest else largest


cdef void uniform_doubles(double* out, uint64_t group, const Draw* draw) noexcept nogil:
    """Draw ``low + unit * width`` with 52 random bits, from ``lowest`` to ``largest``."""
    cdef uint32_t words[4][BLOCKS]
    cdef double x
    cdef Py_ssize_t w, j
    cdef uint64_t bits
    cdef double low = draw.a, width = draw.b, lowest = draw.lowest, largest = draw.largest
    philox(words, group * BLOCKS, draw.stream, draw.key)
    for w in range(2):
        for j in range(BLOCKS):
            bits = words[2 * w][j] | (<uint64_t>words[2 * w + 1][j] << 32)
            x = low + (double_from_bits((bits >> 12) | ONE_BITS) - 1.0) * width
            x = x if x > lowest else lowest
            out[w * BLOCKS + j] = x if x < largest else largest


# --- normal -------------------------------------------------------------------------------------
# Box and Muller (1958): a radius sqrt(-2 log u) and a random direction make two normals. The
# direction is an angle in [-pi/4, pi/4) from 30 bits (50 for doubles); one more bit swaps sine and
# cosine, and another sets the sign of the cosine, which together reach all four quadrants.

cdef void normal_floats(float* out, uint64_t group, const Draw* draw) noexcept nogil:
    cdef uint32_t words[4][BLOCKS]
    cdef float mean = <float>draw.a, std = <float>draw.b
    cdef float u, radius, angle, z, sine, cosine
    cdef int32_t s, c, mixed
    cdef uint32_t w
    cdef Py_ssize_t pair, j
    philox(words, group * BLOCKS, draw.stream, draw.key)
    for pair in range(0, 4, 2):
        for j in range(BLOCKS):
            # 31 bits, because SSE2 and AVX2 convert signed integers only: from 2**-32 to 1.
            u = (<float><int32_t>(words[pair][j] >> 1) + HALF) * TO_UNIT
            radius = sqrtf(-TWO * log_float(u, 0)) * std
            w = words[pair + 1][j]
            angle = <float><int32_t>(w << 2) * TO_ANGLE
            z = angle * angle
            sine = angle + angle * z * ((SINE[0] * z + SINE[1]) * z + SINE[2])
            cosine = ONE - HALF * z + z * z * ((COSINE[0] * z + COSINE[1]) * z + COSINE[2])
            s = float_bits(sine)
            c = float_bits(cosine) ^ <int32_t>((w & 0x40000000) << 1)
            mixed = (s ^ c) & (<int32_t>w >> 31)
            out[pair * BLOCKS + j] = mean + radius * float_from_bits(c ^ mixed)
            out[(pair + 1) * BLOCKS + j] = mean + radius * float_from_bits(s ^ mixed)


cdef void normal_doubles(double* out, uint64_t group, const Draw* draw) noexcept nogil:
    cdef uint32_t words[4][BLOCKS]
    cdef double mean = draw.a, std = draw.b
    cdef double u, radius, angle, z, sine, cosine
    cdef uint64_t bits, s, c, mixed
    cdef Py_ssize_t j
    philox(words, group * BLOCKS, draw.stream, draw.key)
    for j in range(BLOCKS):
        bits = words[0][j] | (<uint64_t>words[1][j] << 32)
        # An odd multiple of 2**-53, exactly: from 2**-53 to 1 - 2**-53.
        u = double_from_bits((bits >> 12) | ONE_BITS) - 0.99999999999999988898
        radius = sqrt(-2.0 * log_double(u, 0)) * std
        bits = words[2][j] | (<uint64_t>words[3][j] << 32)
        angle = double_from_bits(((bits << 2) >> 12) | ONE_BITS) - 1.5
        angle = angle * RIGHT_ANGLE
        z = angle * angle
        sine = SINE_D[0]
        sine = sine * z + SINE_D[1]
        sine = sine * z + SINE_D[2]
        sine = sine * z + SINE_D[3]
        sine = sine * z + SINE_D[4]
        sine = sine * z + SINE_D[5]
        sine = angle + angle * z * sine
        cosine = COSINE_D[0]
        cosine = cosine * z + COSINE_D[1]
        cosine = cosine * z + COSINE_D[2]
        cosine = cosine * z + COSINE_D[3]
        cosine = cosine * z + COSINE_D[4]
        cosine = cosine * z + COSINE_D[5]
        cosine = 1.0 - 0.5 * z + z * z * cosine
        s = <uint64_t>double_bits(sine)
        c = <uint64_t>double_bits(cosine) ^ ((bits << 1) & SIGN)
        mixed = (s ^ c) & (0 - (bits >> 63))
        out[j] = mean + radius * double_from_bits(<int64_t>(c ^ mixed))
        out[BLOCKS + j] = mean + radius * double_from_bits(<int64_t>(s ^ mixed))


# --- truncated normal ---------------------------------------------------------------------------
# Inverse transform from the nearer tail. For a uniform v, the mass `left + v * total` lies to the
# left of the value and `right + (1 - v) * total` to the right; the quantile of the smaller one is
# accurate in either tail. Both are multiplied by a power of two, so that no tail is too small for a
# float; `exponent` undoes this in the logarithm, `unit` elsewhere.

cdef void truncated_normal_floats(float* out, uint64_t group, const Draw* draw) noexcept nogil:
    cdef uint32_t words[4][BLOCKS]
    cdef float numerator[BLOCKS]
    cdef float denominator[BLOCKS]
    cdef float root[BLOCKS]
    cdef float side[BLOCKS]
    cdef float mean = <float>draw.a, std = <float>draw.b
    cdef float lowest = <float>draw.lowest, largest = <float>draw.largest
    cdef float left = <float>draw.left, right = <float>draw.right, total = <float>draw.total
    cdef float exponent = <float>draw.exponent, unit = <float>draw.unit
    cdef float on_left, on_right, q, y, r, x, central, tail
    cdef int32_t k, far
    cdef Py_ssize_t w, j
    philox(words, group * BLOCKS, draw.stream, draw.key)
    if draw.left * draw.unit >= NEAR_MASS and draw.right * draw.unit >= NEAR_MASS:
        # Twice as fast. Bounds are usually two standard deviations or less.
        for w in range(4):
            for j in range(BLOCKS):
                k = <int32_t>(words[w][j] >> 1)
                on_left = left + (<float>k + HALF) * TO_UNIT * total
                on_right = right + (<float>(0x7fffffff - k) + HALF) * TO_UNIT * total
                q = on_left if on_left < on_right else on_right
                y = HALF - q * unit
                r = NEAR_SQUARE - y * y
                tail = NEAR_NUM[0] * r + NEAR_NUM[1]
                tail = (((tail * r + NEAR_NUM[2]) * r + NEAR_NUM[3]) * r + NEAR_NUM[4]) * r
                central = ((NEAR_DEN[0] * r + NEAR_DEN[1]) * r + NEAR_DEN[2]) * r + NEAR_DEN[3]
                x = y * (tail + NEAR_NUM[5]) / (central * r + ONE)
                x = mean + std * ((-ONE if on_left < on_right else ONE) * x)
                x = x if x > lowest else lowest
                out[w * BLOCKS + j] = x if x < largest else largest
        return
    for w in range(4):
        far = 0
        for j in range(BLOCKS):
            k = <int32_t>(words[w][j] >> 1)
            on_left = left + (<float>k + HALF) * TO_UNIT * total
            on_right = right + (<float>(0x7fffffff - k) + HALF) * TO_UNIT * total
            q = on_left if on_left < on_right else on_right
            side[j] = -ONE if on_left < on_right else ONE
            y = HALF - q * unit
            root[j] = sqrtf(-log_float(q, exponent))
            r = CENTRAL_SQUARE - y * y
            x = root[j] - TAIL
            central = y * (((CENTRAL_NUM[0] * r + CENTRAL_NUM[1]) * r + CENTRAL_NUM[2]) * r
                           + CENTRAL_NUM[3])
            tail = ((TAIL_NUM[0] * x + TAIL_NUM[1]) * x + TAIL_NUM[2]) * x + TAIL_NUM[3]
            numerator[j] = central if y <= CENTRAL else tail
            central = ((CENTRAL_DEN[0] * r + CENTRAL_DEN[1]) * r + CENTRAL_DEN[2]) * r + ONE
            tail = (TAIL_DEN[0] * x + TAIL_DEN[1]) * x + ONE
            denominator[j] = central if y <= CENTRAL else tail
            far |= float_bits(FAR_AWAY - root[j])  # negative if one of them is
        if far < 0:
            for j in range(BLOCKS):
                x = root[j] - FAR_AWAY
                y, r = numerator[j], denominator[j]
                tail = ((FAR_NUM[0] * x + FAR_NUM[1]) * x + FAR_NUM[2]) * x + FAR_NUM[3]
                numerator[j] = tail if root[j] > FAR_AWAY else y
                tail = (FAR_DEN[0] * x + FAR_DEN[1]) * x + ONE
                denominator[j] = tail if root[j] > FAR_AWAY else r
        for j in range(BLOCKS):
            x = numerator[j] / denominator[j]
            x = mean + std * (side[j] * x)
            x = x if x > lowest else lowest
            out[w * BLOCKS + j] = x if x < largest else largest


cdef inline double horner(const double* coefficients, double x) noexcept nogil:
    """Return the polynomial of degree 7 with these coefficients, the highest first."""
    cdef double p = coefficients[0]
    p = p * x + coefficients[1]
    p = p * x + coefficients[2]
    p = p * x + coefficients[3]
    p = p * x + coefficients[4]
    p = p * x + coefficients[5]
    p = p * x + coefficients[6]
    return p * x + coefficients[7]


cdef void truncated_normal_doubles(double* out, uint64_t group, const Draw* draw) noexcept nogil:
    cdef uint32_t words[4][BLOCKS]
    cdef double numerator[BLOCKS]
    cdef double denominator[BLOCKS]
    cdef double root[BLOCKS]
    cdef double side[BLOCKS]
    cdef double mean = draw.a, std = draw.b, lowest = draw.lowest, largest = draw.largest
    cdef double left = draw.left, right = draw.right, total = draw.total
    cdef double exponent = draw.exponent, unit = draw.unit
    cdef double v, on_left, on_right, q, y, r, x, central, tail
    cdef uint64_t bits, far
    cdef Py_ssize_t w, j
    philox(words, group * BLOCKS, draw.stream, draw.key)
    for w in range(2):
        far = 0
        for j in range(BLOCKS):
            bits = words[2 * w][j] | (<uint64_t>words[2 * w + 1][j] << 32)
            v = double_from_bits((bits >> 12) | ONE_BITS) - 0.99999999999999988898
            on_left = left + v * total
            on_right = right + (1.0 - v) * total
            q = on_left if on_left < on_right else on_right
            side[j] = -1.0 if on_left < on_right else 1.0
            y = 0.5 - q * unit
            root[j] = sqrt(-log_double(q, exponent))
            r = 0.180625 - y * y
            x = root[j] - 1.6
            central = y * horner(CENTRAL_NUM_D, r)
            tail = horner(TAIL_NUM_D, x)
            numerator[j] = central if y <= 0.425 else tail
            central = horner(CENTRAL_DEN_D, r)
            tail = horner(TAIL_DEN_D, x)
            denominator[j] = central if y <= 0.425 else tail
            far |= <uint64_t>double_bits(5.0 - root[j])
        if far & SIGN:
            for j in range(BLOCKS):
                x = root[j] - 5.0
                y, r = numerator[j], denominator[j]
                tail = horner(FAR_NUM_D, x)
                numerator[j] = tail if root[j] > 5.0 else y
                tail = horner(FAR_DEN_D, x)
                denominator[j] = tail if root[j] > 5.0 else r
        for j in range(BLOCKS):
            x = numerator[j] / denominator[j]
            x = mean + std * (side[j] * x)
            x = x if x > lowest else lowest
            out[w * BLOCKS + j] = x if x < largest else largest


# --- where the values go ------------------------------------------------------------------------

cdef inline uint16_t bfloat16_of(float x) noexcept nogil:
    cdef uint32_t bits = <uint32_t>float_bits(x)
    return <uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)


cdef inline uint16_t float16_of(float x) noexcept nogil:
    """Round to nearest even without branches, subnormals by a float addition, as F. Giesen does."""
    cdef uint32_t bits = <uint32_t>float_bits(x)
    cdef uint32_t size = bits & 0x7fffffff
    cdef uint32_t normal = (size - 0x38000000 + 0xfff + ((size >> 13) & 1)) >> 13
    cdef uint32_t small = float_bits(float_from_bits(<int32_t>size) + HALF) - 0x3f000000
    cdef uint32_t half = small if size < 0x38800000 else normal
    half = 0x7c00 if size >= 0x47800000 else half
    return <uint16_t>(half | ((bits >> 16) & 0x8000))


cdef void fill_matrix(
    cell[:, :] out, uint64_t first, uint64_t step, draw_floats floats, draw_doubles doubles,
    const Draw* draw, bint brain,
) noexcept nogil:
    """Overwrite ``out[r, c]`` with element ``first + r * step + c``."""
    cdef float drawn[FLOATS]
    cdef double drawn_doubles[DOUBLES]
    cdef uint16_t rounded[FLOATS]
    cdef uint64_t element, group, size = DOUBLES if cell is double else FLOATS
    cdef uint64_t held = <uint64_t>-1
    cdef Py_ssize_t r, c, j, offset, n, columns = out.shape[1]
    cdef Py_ssize_t stride = out.strides[1]
    cdef char* target
    cdef bint packed = stride == sizeof(cell)
    cdef cell* values
    if cell is double:
        values = drawn_doubles
    elif cell is float:
        values = drawn
    else:
        values = rounded
    for r in range(out.shape[0]):
        c = 0
        while c < columns:
            element = first + <uint64_t>r * step + <uint64_t>c
            group = element / size
            offset = <Py_ssize_t>(element % size)
            n = min(<Py_ssize_t>size - offset, columns - c)
            target = <char*>&out[r, c]
            if packed and n == <Py_ssize_t>size and cell is not uint16_t:
                if cell is double:
                    doubles(<double*>target, group, draw)
                elif cell is float:
                    floats(<float*>target, group, draw)
            else:
                # Short rows of a window take their values from the same group many times.
                if group != held:
                    held = group
                    if cell is double:
                        doubles(drawn_doubles, group, draw)
                    else:
                        floats(drawn, group, draw)
                    if cell is uint16_t:
                        if brain:
                            for j in range(FLOATS):
                                rounded[j] = bfloat16_of(drawn[j])
                        else:
                            for j in range(FLOATS):
                                rounded[j] = float16_of(drawn[j])
                if packed:
                    memcpy(target, values + offset, n * sizeof(cell))
                else:
                    for j in range(n):
                        (<cell*>(target + j * stride))[0] = values[offset + j]
            c += n


cdef void fill(
    cell[:, :, :] out, uint64_t first, uint64_t step, const uint64_t[:, :] sources,
    uint64_t stream, draw_floats floats, draw_doubles doubles, Draw* draw, bint brain,
) noexcept nogil:
    """Overwrite ``out[i, r, c]`` with element ``first + r * step + c`` of ``sources[i]``.

    A source is a key and a stream, to which ``stream`` is added.
    """
    cdef Py_ssize_t i
    for i in range(out.shape[0]):
        draw.key, draw.stream = sources[i, 0], sources[i, 1] + stream
        fill_matrix(out[i], first, step, floats, doubles, draw, brain)


# --- the kernels --------------------------------------------------------------------------------

def permutation(Py_ssize_t[::1] out, uint64_t key, uint64_t stream):
    """Overwrite ``out`` with 0, 1, ... in random order, at most 2**32 of them.

    Fisher and Yates, from the front: place ``i`` takes one of the ``n - i`` elements left, number
    ``word * (n - i) >> 32`` for word ``i`` of the generator. Their probabilities differ by at most
    ``2**-32``.
    """
    cdef uint32_t drawn[4][BLOCKS]
    cdef Py_ssize_t i, k, n = out.shape[0], start = 0
    cdef Py_ssize_t j, held
    with nogil:
        for i in range(n):
            out[i] = i
        while start < n:
            philox(drawn, <uint64_t>(start // (4 * BLOCKS)) * BLOCKS, stream, key)
            for k in range(min(<Py_ssize_t>(4 * BLOCKS), n - start)):
                i = start + k
                j = i + <Py_ssize_t>(
                    (<uint64_t>drawn[k // BLOCKS][k % BLOCKS] * <uint64_t>(n - i)) >> 32
                )
                held = out[i]
                out[i] = out[j]
                out[j] = held
            start += 4 * BLOCKS


def words(uint32_t[:, :] out, uint64_t first, uint64_t step, uint64_t key, uint64_t stream):
    """Overwrite ``out`` with the words of the generator, in the order in which floats take them."""
    cdef uint32_t drawn[4][BLOCKS]
    cdef uint64_t element, held = <uint64_t>-1
    cdef Py_ssize_t r, c, offset
    with nogil:
        for r in range(out.shape[0]):
            for c in range(out.shape[1]):
                element = first + <uint64_t>r * step + <uint64_t>c
                if element / FLOATS != held:
                    held = element / FLOATS
                    philox(drawn, held * BLOCKS, stream, key)
                offset = <Py_ssize_t>(element % FLOATS)
                out[r, c] = drawn[offset / BLOCKS][offset % BLOCKS]


def uniform(
    cell[:, :, :] out, uint64_t first, uint64_t step, const uint64_t[:, :] sources,
    uint64_t stream, double low, double width, double lowest, double largest, bint brain,
):
    """Overwrite ``out`` with ``low + unit * width``, from ``lowest`` to ``largest``."""
    cdef Draw draw
    draw.a, draw.b, draw.lowest, draw.largest = low, width, lowest, largest
    with nogil:
        fill(out, first, step, sources, stream, uniform_floats, uniform_doubles, &draw, brain)


def normal(
    cell[:, :, :] out, uint64_t first, uint64_t step, const uint64_t[:, :] sources,
    uint64_t stream, double mean, double std, bint brain,
):
    """Overwrite ``out`` with draws from the normal distribution."""
    cdef Draw draw
    draw.a, draw.b = mean, std
    with nogil:
        fill(out, first, step, sources, stream, normal_floats, normal_doubles, &draw, brain)


def truncated_normal(
    cell[:, :, :] out, uint64_t first, uint64_t step, const uint64_t[:, :] sources,
    uint64_t stream, double mean, double std, double left, double right, double total,
    double exponent, double unit, double lowest, double largest, bint brain,
):
    """Overwrite ``out`` with draws from the part of the normal distribution between two bounds.

    ``left`` and ``right`` are the masses outside the bounds and ``total`` the mass between them,
    all divided by ``unit = 2**exponent``. Values are from ``lowest`` to ``largest``.
    """
    cdef Draw draw
    draw.a, draw.b = mean, std
    draw.left, draw.right, draw.total = left, right, total
    draw.exponent, draw.unit = exponent, unit
    draw.lowest, draw.largest = lowest, largest
    with nogil:
        fill(
            out, first, step, sources, stream, truncated_normal_floats, truncated_normal_doubles,
            &draw, brain,
        )


# --- shuffles of NumPy ----------------------------------------------------------------------------

cdef struct BitGenerator:
    # That of numpy/random/bitgen.h.
    void* state
    uint64_t (*next_uint64)(void* state) noexcept nogil
    uint32_t (*next_uint32)(void* state) noexcept nogil
    double (*next_double)(void* state) noexcept nogil
    uint64_t (*next_raw)(void* state) noexcept nogil


cdef void shuffle(
    const BitGenerator* bits, Py_ssize_t* sample, uint32_t* drawn, Py_ssize_t n
) noexcept nogil:
    """Shuffle ``sample`` as ``RandomState.shuffle`` does, by the same draws.

    Each partner of element i is drawn from 0 to i by rejection. The next draw overwrites a rejected
    one, because a branch on the outcome would be mispredicted at every fourth draw.
    """
    cdef Py_ssize_t i = n - 1, other
    cdef uint32_t mask = 0xFFFFFFFF
    while i > 0:
        while mask >> 1 >= <uint32_t>i:
            mask >>= 1
        drawn[i] = bits.next_uint32(bits.state) & mask
        i -= drawn[i] <= <uint32_t>i
    for i in range(n - 1, 0, -1):
        other = sample[drawn[i]]
        sample[drawn[i]] = sample[i]
        sample[i] = other


def shuffles(
    generator,                 # a bit generator of NumPy
    Py_ssize_t[::1] sample,    # (n,), n < 2**32, shuffled in place
    Py_ssize_t[:, ::1] out,    # (k, n), overwritten
):
    """Shuffle ``sample`` k times as ``RandomState.shuffle`` does; ``out`` has it after each."""
    cdef const BitGenerator* bits = <const BitGenerator*>PyCapsule_GetPointer(
        generator.capsule, "BitGenerator"
    )
    cdef Py_ssize_t n = sample.shape[0], k
    cdef uint32_t* drawn
    if n == 0 or out.shape[0] == 0:
        return
    drawn = <uint32_t*>PyMem_Malloc(n * sizeof(uint32_t))
    if drawn == NULL:
        raise MemoryError(f"no memory for a shuffle of {n} numbers")
    try:
        with generator.lock:
            with nogil:
                for k in range(out.shape[0]):
                    shuffle(bits, &sample[0], drawn, n)
                    memcpy(&out[k, 0], &sample[0], n * sizeof(Py_ssize_t))
    finally:
        PyMem_Free(drawn)


# --- what only the tests call -------------------------------------------------------------------

def _counters(uint32_t[:, :] out, uint64_t first, uint64_t key, uint64_t stream):
    """Overwrite ``out[w, b]``, of shape (4, n), with word w of counter ``(first + b, stream)``."""
    cdef uint32_t drawn[4][BLOCKS]
    cdef Py_ssize_t w, b
    with nogil:
        for b in range(out.shape[1]):
            if b % BLOCKS == 0:
                philox(drawn, first + <uint64_t>b, stream, key)
            for w in range(4):
                out[w, b] = drawn[w][b % BLOCKS]
