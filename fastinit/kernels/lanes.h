/* One vector register of floats or doubles, as wide as this CPU level has them.
 *
 * GCC and Clang keep an array of lanes in registers when its loops are unrolled and every access
 * is one whole vector; their automatic vectoriser does not get there from scalar loops. These few
 * operations are what the kernels need beyond plain C. Other compilers get the same operations as
 * loops over the lanes: the same results, left to their optimiser.
 */
#ifndef FASTINIT_LANES_H
#define FASTINIT_LANES_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { VECTOR_BYTES = 64 };
#elif defined(__AVX2__)
enum { VECTOR_BYTES = 32 };
#else
enum { VECTOR_BYTES = 16 };
#endif
enum { MOST_LANES = VECTOR_BYTES / sizeof(float) };

#if defined(__GNUC__) || defined(__clang__)

/* The sum of the lanes, by halves of a register: 64 bytes to 32, 32 to 16, the last by hand. */
typedef float float_16 __attribute__((vector_size(16), aligned(4), may_alias));
typedef float float_32 __attribute__((vector_size(32), aligned(4), may_alias));
typedef double double_16 __attribute__((vector_size(16), aligned(8), may_alias));
typedef double double_32 __attribute__((vector_size(32), aligned(8), may_alias));

static inline float float_sum_16(const void *p)
{
    const float_16 x = *(const float_16 *)p;
    return (x[0] + x[2]) + (x[1] + x[3]);
}
static inline double double_sum_16(const void *p)
{
    const double_16 x = *(const double_16 *)p;
    return x[0] + x[1];
}
#define DEFINE_SUM(real)                                                                           \
    static inline real real##_sum_32(const void *p)                                                \
    {                                                                                              \
        const real##_16 x = ((const real##_16 *)p)[0] + ((const real##_16 *)p)[1];                 \
        return real##_sum_16(&x);                                                                  \
    }                                                                                              \
    static inline real real##_sum_64(const void *p)                                                \
    {                                                                                              \
        const real##_32 x = ((const real##_32 *)p)[0] + ((const real##_32 *)p)[1];                 \
        return real##_sum_32(&x);                                                                  \
    }
DEFINE_SUM(float)
DEFINE_SUM(double)

#define DEFINE_LANES(real, integer)                                                                \
    typedef real real##_lanes                                                                      \
        __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));              \
    typedef integer integer##_lanes                                                                \
        __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));              \
    static inline void real##_fill(real *out, real w)                                              \
    {                                                                                              \
        *(real##_lanes *)out = w - (real##_lanes){0};                                              \
    }                                                                                              \
    static inline void real##_copy(real *out, const real *a)                                       \
    {                                                                                              \
        *(real##_lanes *)out = *(const real##_lanes *)a;                                           \
    }                                                                                              \
    static inline void real##_add(real *out, const real *a)                                        \
    {                                                                                              \
        *(real##_lanes *)out += *(const real##_lanes *)a;                                          \
    }                                                                                              \
    static inline void real##_multiply_add(real *out, const real *a, real w)                       \
    {                                                                                              \
        *(real##_lanes *)out += *(const real##_lanes *)a * w;                                      \
    }                                                                                              \
    static inline void real##_multiply_add_lanes(real *out, const real *a, const real *b)          \
    {                                                                                              \
        *(real##_lanes *)out += *(const real##_lanes *)a * *(const real##_lanes *)b;               \
    }                                                                                              \
    static inline void real##_relu(real *out, const real *z)                                       \
    {                                                                                              \
        const real##_lanes x = *(const real##_lanes *)z;                                           \
        *(real##_lanes *)out = (real##_lanes)(~(x < 0) & (integer##_lanes)x);                      \
    }                                                                                              \
    static inline void real##_relu_backward(real *a, const real *da)                               \
    {                                                                                              \
        const integer##_lanes one = (integer##_lanes)((real##_lanes){0} + 1);                      \
        const integer##_lanes active = *(const real##_lanes *)a > 0;                               \
        *(real##_lanes *)a = *(const real##_lanes *)da * (real##_lanes)(active & one);             \
    }                                                                                              \
    static inline real real##_sum(const real *a)                                                   \
    {                                                                                              \
        const real##_lanes x = *(const real##_lanes *)a;                                           \
        return VECTOR_BYTES == 64 ? real##_sum_64(&x)                                              \
                                  : VECTOR_BYTES == 32 ? real##_sum_32(&x) : real##_sum_16(&x);    \
    }

#else

#define DEFINE_LANES(real, integer)                                                                \
    enum { real##_n = VECTOR_BYTES / sizeof(real) };                                               \
    static inline void real##_fill(real *out, real w)                                              \
    {                                                                                              \
        for (int v = 0; v < real##_n; v++) out[v] = w;                                             \
    }                                                                                              \
    static inline void real##_copy(real *out, const real *a)                                       \
    {                                                                                              \
        for (int v = 0; v < real##_n; v++) out[v] = a[v];                                          \
    }                                                                                              \
    static inline void real##_add(real *out, const real *a)                                        \
    {                                                                                              \
        for (int v = 0; v < real##_n; v++) out[v] += a[v];                                         \
    }                                                                                              \
    static inline void real##_multiply_add(real *out, const real *a, real w)                       \
    {                                                                                              \
        for (int v = 0; v < real##_n; v++) out[v] += a[v] * w;                                     \
    }                                                                                              \
    static inline void real##_multiply_add_lanes(real *out, const real *a, const real *b)          \
    {                                                                                              \
        for (int v = 0; v < real##_n; v++) out[v] += a[v] * b[v];                                  \
    }                                                                                              \
    static inline void real##_relu(real *out, const real *z)                                       \
    {                                                                                              \
        for (int v = 0; v < real##_n; v++) out[v] = z[v] < 0 ? 0 : z[v];                           \
    }                                                                                              \
    static inline void real##_relu_backward(real *a, const real *da)                               \
    {                                                                                              \
        for (int v = 0; v < real##_n; v++) a[v] = da[v] * (real)(a[v] > 0);                        \
    }                                                                                              \
    static inline real real##_sum(const real *a)                                                   \
    {                                                                                              \
        real s[real##_n];                                                                          \
        real##_copy(s, a);                                                                         \
        for (int half = real##_n / 2; half > 0; half /= 2)                                         \
            for (int v = 0; v < half; v++) s[v] += s[v + half];                                    \
        return s[0];                                                                               \
    }

#endif

DEFINE_LANES(float, int32_t)
DEFINE_LANES(double, int64_t)

/* The bits of a number as an integer and back; compilers turn the copies into nothing. */
static inline int32_t float_bits(float x)
{
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline int64_t double_bits(double x)
{
    int64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float float_from_bits(int32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline double double_from_bits(int64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#endif
