/* Operations on one vector register of floats or doubles, as wide as the CPU level has them.
 *
 * GCC and Clang keep an array of lanes in registers if its loops are unrolled and every access is a
 * whole vector; their automatic vectoriser does not achieve this from scalar loops. Other compilers
 * get the same operations as loops over the lanes, with the same results.
 */
#ifndef FASTINIT_LANES_H
#define FASTINIT_LANES_H

#include <math.h>
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

#if (defined(__GNUC__) || defined(__clang__)) && defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__GNUC__) || defined(__clang__)
#define prefetch(p) __builtin_prefetch(p)
#elif defined(_M_X64)
#include <intrin.h>
#define prefetch(p) _mm_prefetch((const char *)(p), _MM_HINT_T0)
#else
#define prefetch(p) ((void)0)
#endif

/* In debug builds, scratch memory is filled with NaN, so that a read before a write shows. */
#if defined(FASTINIT_POISON)
#define poison(p, n) memset((p), 0xFF, (n))
#else
#define poison(p, n) ((void)0)
#endif

#if defined(__GNUC__) || defined(__clang__)

/* The sum of the lanes: halves of a register are added, from 64 bytes to 32 and to 16. */
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
    static inline void real##_multiply(real *out, const real *a)                                   \
    {                                                                                              \
        *(real##_lanes *)out *= *(const real##_lanes *)a;                                          \
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
    static inline void real##_multiply(real *out, const real *a)                                   \
    {                                                                                              \
        for (int v = 0; v < real##_n; v++) out[v] *= a[v];                                         \
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

/* The first `n` lanes, for the end of a row: `copy_in` reads no more than these and sets the others
 * to 0, `copy_out` writes no more than these. Masked stores of AVX2 take 30 cycles on AMD processors,
 * so only AVX-512 has them here. */
#if defined(__AVX512F__) && (defined(__GNUC__) || defined(__clang__))
#define DEFINE_COPY_IN(real, suffix, mask)                                                         \
    static inline void real##_copy_in(real *out, const real *a, long long n)                       \
    {                                                                                              \
        *(real##_lanes *)out =                                                                     \
            (real##_lanes)_mm512_maskz_loadu_##suffix((mask)((1u << n) - 1), a);                   \
    }
#define DEFINE_COPY_OUT(real, suffix, mask)                                                        \
    static inline void real##_copy_out(real *out, const real *a, long long n)                      \
    {                                                                                              \
        _mm512_mask_storeu_##suffix(out, (mask)((1u << n) - 1), _mm512_loadu_##suffix(a));         \
    }
DEFINE_COPY_IN(float, ps, __mmask16)
DEFINE_COPY_IN(double, pd, __mmask8)
DEFINE_COPY_OUT(float, ps, __mmask16)
DEFINE_COPY_OUT(double, pd, __mmask8)
#else
#if defined(__AVX2__) && (defined(__GNUC__) || defined(__clang__))
#define DEFINE_COPY_IN(real, integer, suffix, ones)                                                \
    static inline void real##_copy_in(real *out, const real *a, long long n)                       \
    {                                                                                              \
        static const integer ones_and_zeros[2 * VECTOR_BYTES / sizeof(real)] = ones;               \
        const __m256i first = _mm256_loadu_si256(                                                  \
            (const __m256i *)(ones_and_zeros + VECTOR_BYTES / sizeof(real) - n));                  \
        *(real##_lanes *)out = (real##_lanes)_mm256_maskload_##suffix(a, first);                   \
    }
#define ONES_32 {-1, -1, -1, -1, -1, -1, -1, -1}
#define ONES_64 {-1, -1, -1, -1}
DEFINE_COPY_IN(float, int32_t, ps, ONES_32)
DEFINE_COPY_IN(double, int64_t, pd, ONES_64)
#else
#define DEFINE_COPY_IN(real)                                                                       \
    static inline void real##_copy_in(real *out, const real *a, long long n)                       \
    {                                                                                              \
        for (int v = 0; v < (int)(VECTOR_BYTES / sizeof(real)); v++) out[v] = v < n ? a[v] : 0;    \
    }
DEFINE_COPY_IN(float)
DEFINE_COPY_IN(double)
#endif
/* In pieces of 8, 4, 2 and 1 lanes. */
#define DEFINE_COPY_OUT(real)                                                                      \
    static inline void real##_copy_piece(real **out, const real **a, long long n, int size)        \
    {                                                                                              \
        if (size > (int)(VECTOR_BYTES / sizeof(real)) || (n & size) == 0) return;                  \
        memcpy(*out, *a, size * sizeof(real));                                                     \
        *out += size;                                                                              \
        *a += size;                                                                                \
    }                                                                                              \
    static inline void real##_copy_out(real *out, const real *a, long long n)                      \
    {                                                                                              \
        real##_copy_piece(&out, &a, n, 8);                                                         \
        real##_copy_piece(&out, &a, n, 4);                                                         \
        real##_copy_piece(&out, &a, n, 2);                                                         \
        real##_copy_piece(&out, &a, n, 1);                                                         \
    }
DEFINE_COPY_OUT(float)
DEFINE_COPY_OUT(double)
#endif

/* Transposes a square of numbers. Interleaving the first half of the rows with the second, log2(n)
 * times, is a transposition. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define HAS_SHUFFLES
#endif
#endif

#if defined(HAS_SHUFFLES)
#define LOW_2 0, 2
#define HIGH_2 1, 3
#define LOW_4 0, 4, 1, 5
#define HIGH_4 2, 6, 3, 7
#define LOW_8 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH_8 4, 12, 5, 13, 6, 14, 7, 15
#define LOW_16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define DEFINE_TRANSPOSE(real, n)                                                                  \
    static inline void real##_transpose(real *out, long long out_step, const real *a,              \
                                        long long a_step)                                          \
    {                                                                                              \
        real##_lanes x[n], y[n];                                                                   \
        _Pragma("GCC unroll 16") for (int i = 0; i < n; i++)                                       \
            x[i] = *(const real##_lanes *)(a + i * a_step);                                        \
        _Pragma("GCC unroll 4") for (int size = 1; size < n; size *= 2)                            \
        {                                                                                          \
            _Pragma("GCC unroll 8") for (int i = 0; i < n / 2; i++)                                \
            {                                                                                      \
                y[2 * i] = __builtin_shufflevector(x[i], x[i + n / 2], LOW_##n);                   \
                y[2 * i + 1] = __builtin_shufflevector(x[i], x[i + n / 2], HIGH_##n);              \
            }                                                                                      \
            _Pragma("GCC unroll 16") for (int i = 0; i < n; i++) x[i] = y[i];                      \
        }                                                                                          \
        _Pragma("GCC unroll 16") for (int i = 0; i < n; i++)                                       \
            *(real##_lanes *)(out + i * out_step) = x[i];                                          \
    }
#else
#define DEFINE_TRANSPOSE(real, n)                                                                  \
    static inline void real##_transpose(real *out, long long out_step, const real *a,              \
                                        long long a_step)                                          \
    {                                                                                              \
        for (int i = 0; i < n; i++)                                                                \
            for (int k = 0; k < n; k++) out[k * out_step + i] = a[i * a_step + k];                 \
    }
#endif

#if defined(__AVX512F__)
DEFINE_TRANSPOSE(float, 16)
DEFINE_TRANSPOSE(double, 8)
#elif defined(__AVX2__)
DEFINE_TRANSPOSE(float, 8)
DEFINE_TRANSPOSE(double, 4)
#else
DEFINE_TRANSPOSE(float, 4)
DEFINE_TRANSPOSE(double, 2)
#endif

/* The bits of a number as an integer, and back. Compilers remove the copies. */
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
