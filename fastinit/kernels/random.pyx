"""Philox 4x32-10 and the distributions: element index in, value out.

A counter block is (element block, stream), the key is the seed; Philox makes four 32-bit words of
it. ``BLOCKS`` consecutive blocks form a group, and the elements of a group take the words in this
order: word 0 of every block, then word 1 of every block, and so on. So vectors of consecutive
elements come from vectors of consecutive counters and nothing is ever shuffled. A float takes one
word, 256 to a group; a double takes two, 128 to a group.

Every value depends on seed, stream and element index alone. The arithmetic is IEEE ``+ - * /`` and
``sqrt`` in the order written here, compiled with contraction off: the same bits on every CPU.
Halves are floats rounded to nearest even.

The callers have checked everything: no kernel validates. Twins with the same names and arguments
are in ``fastinit/reference.py``.
"""

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
    # Constant arrays in C, because a Cython literal is a double and would widen float arithmetic.
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
    double c

ctypedef void (*draw_floats)(float* out, uint64_t group, const Draw* draw) noexcept nogil
ctypedef void (*draw_doubles)(double* out, uint64_t group, const Draw* draw) noexcept nogil


# --- elementary functions -----------------------------------------------------------------------

cdef inline float log_float(float x, float exponent) noexcept nogil:
    """Return ``log(x * 2**exponent)`` of a normal positive x."""
    # x = 2**k * (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), split by its bits.
    cdef int32_t bits = float_bits(x) - 0x3f3504f3
    cdef float k = <float>(bits >> 23) + exponent
    cdef float f = float_from_bits((bits & 0x007fffff) + 0x3f3504f3) - ONE
    cdef float p = LOG[0]
    p = p * f + LOG[1]
    p = p * f + LOG[2]
    p = p * f + LOG[3]
    p = p * f + LOG[4]
    p = p * f + LOG[5]
    p = p * f + LOG[6]
    p = p * f + LOG[7]
    p = p * f + LOG[8]
    return k * LN2 + (f + (f * f) * (p * f - HALF))


cdef inline double log_double(double x, double exponent) noexcept nogil:
    """Return ``log(x * 2**exponent)`` of a normal positive x."""
    # As above; the exponent becomes a double through its bits, since AVX2 cannot convert int64.
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
    """``low + unit * width`` with 24 random bits, at most ``largest``."""
    cdef uint32_t words[4][BLOCKS]
    cdef float low = <float>draw.a, step = <float>draw.b * <float>(1.0 / (1 << 24))
    cdef float largest = <float>draw.c, x
    cdef Py_ssize_t w, j
    philox(words, group * BLOCKS, draw.stream, draw.key)
    for w in range(4):
        for j in range(BLOCKS):
            x = low + <float><int32_t>(words[w][j] >> 8) * step
            out[w * BLOCKS + j] = x if x < largest else largest


cdef void uniform_doubles(double* out, uint64_t group, const Draw* draw) noexcept nogil:
    """``low + unit * width`` with 52 random bits, at most ``largest``."""
    cdef uint32_t words[4][BLOCKS]
    cdef double x
    cdef Py_ssize_t w, j
    cdef uint64_t bits
    cdef double low = draw.a, width = draw.b, largest = draw.c
    philox(words, group * BLOCKS, draw.stream, draw.key)
    for w in range(2):
        for j in range(BLOCKS):
            bits = words[2 * w][j] | (<uint64_t>words[2 * w + 1][j] << 32)
            x = low + (double_from_bits((bits >> 12) | ONE_BITS) - 1.0) * width
            out[w * BLOCKS + j] = x if x < largest else largest


# --- normal -------------------------------------------------------------------------------------
# Box and Muller (1958): a radius sqrt(-2 log u) and a random direction make two normals. The
# direction is an angle in [-pi/4, pi/4) from 30 (50) bits, then one bit swaps sine and cosine and
# one sets the cosine's sign, which together reach all four quadrants.

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


# --- where the values go ------------------------------------------------------------------------

cdef inline uint16_t bfloat16_of(float x) noexcept nogil:
    cdef uint32_t bits = <uint32_t>float_bits(x)
    return <uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)


cdef inline uint16_t float16_of(float x) noexcept nogil:
    """Round to nearest even as F. Giesen does: no branch, subnormals by a float addition."""
    cdef uint32_t bits = <uint32_t>float_bits(x)
    cdef uint32_t size = bits & 0x7fffffff
    cdef uint32_t normal = (size - 0x38000000 + 0xfff + ((size >> 13) & 1)) >> 13
    cdef uint32_t small = float_bits(float_from_bits(<int32_t>size) + HALF) - 0x3f000000
    cdef uint32_t half = small if size < 0x38800000 else normal
    half = 0x7c00 if size >= 0x47800000 else half
    return <uint16_t>(half | ((bits >> 16) & 0x8000))


cdef void fill(
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
                # Short rows of a window take their values from one group many times.
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


# --- the kernels --------------------------------------------------------------------------------

def words(uint32_t[:, :] out, uint64_t first, uint64_t step, uint64_t key, uint64_t stream):
    """Overwrite ``out`` with the generator's own words, in the order in which floats take them."""
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
    cell[:, :] out, uint64_t first, uint64_t step, uint64_t key, uint64_t stream,
    double low, double width, double largest, bint brain,
):
    """Overwrite ``out`` with ``low + unit * width``, at most ``largest``."""
    cdef Draw draw
    draw.key, draw.stream = key, stream
    draw.a, draw.b, draw.c = low, width, largest
    with nogil:
        fill(out, first, step, uniform_floats, uniform_doubles, &draw, brain)


def normal(
    cell[:, :] out, uint64_t first, uint64_t step, uint64_t key, uint64_t stream,
    double mean, double std, bint brain,
):
    """Overwrite ``out`` with draws from the normal distribution."""
    cdef Draw draw
    draw.key, draw.stream = key, stream
    draw.a, draw.b = mean, std
    with nogil:
        fill(out, first, step, normal_floats, normal_doubles, &draw, brain)
