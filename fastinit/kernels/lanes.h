/* One vector register of floats or doubles, as wide as this CPU level has them.
 *
 * GCC and Clang keep an array of lanes in registers when its loops are unrolled and every access
 * is one whole vector; their automatic vectoriser does not get there from scalar loops. These few
 * operations are what the kernels need beyond plain C. Other compilers get the same operations as
 * loops over the lanes: the same results, left to their optimiser.
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

#if defined(__GNUC__) || defined(__clang__)
#define prefetch(p) __builtin_prefetch(p)
#elif defined(_M_X64)
#include <intrin.h>
#define prefetch(p) _mm_prefetch((const char *)(p), _MM_HINT_T0)
#else
#define prefetch(p) ((void)0)
#endif

/* In debug builds, fill fresh scratch with NaN: what reads it before it is written gives a wrong result. */
#if defined(FASTINIT_POISON)
#define poison(p, n) memset((p), 0xFF, (n))
#else
#define poison(p, n) ((void)0)
#endif

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

/* A square of numbers, rows to columns. Interleaving the first half of the rows with the second, once
 * for each doubling of the lanes, is a transposition. */
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

/* The updates of a register of networks, of `n` parameters each, in place. Every lane has settings of its own, in
 * arrays of MOST_LANES. The gradient is `g`, or where `d` is not NULL, `d` times the inputs `g`: numbers
 * that the networks share if `scalars`, else a register each. `nonfinite` is 0, and NaN from the
 * first parameter on that is not a finite number. A `part` is what the compiler computes with at once: a register, or a number. */
enum { RATE, L2, KEEP, EPSILON, BETA1, BETA2, REST1, REST2, ROOT, IS_NESTEROV, N_SETTINGS };

#if defined(__GNUC__) || defined(__clang__)
#define DEFINE_PARTS(real, integer, root_of)                                                       \
    typedef real##_lanes real##_part;                                                              \
    static inline real##_part real##_where(const real##_part positive, real##_part a, real##_part b)\
    {                                                                                              \
        const integer##_lanes mask = positive > 0;                                                 \
        return (real##_part)((mask & (integer##_lanes)a) | (~mask & (integer##_lanes)b));          \
    }                                                                                              \
    static inline real##_part real##_root(const real##_part a)                                     \
    {                                                                                              \
        real##_part roots = a;                                                                     \
        for (int v = 0; v < (int)(sizeof a / sizeof(real)); v++) roots[v] = root_of(a[v]);         \
        return roots;                                                                              \
    }                                                                                              \
    /* Not by a sum, whose latency would be that of the loop. */                                   \
    static inline real##_part real##_mark(const real##_part wrong, const real##_part x)            \
    {                                                                                              \
        return (real##_part)((integer##_lanes)wrong | (integer##_lanes)(x - x));                   \
    }
#else
#define DEFINE_PARTS(real, integer, root_of)                                                       \
    typedef real real##_part;                                                                      \
    static inline real real##_where(real positive, real a, real b)                                 \
    {                                                                                              \
        return positive > 0 ? a : b;                                                               \
    }                                                                                              \
    static inline real real##_root(real a)                                                         \
    {                                                                                              \
        return root_of(a);                                                                         \
    }                                                                                              \
    static inline real real##_mark(real wrong, real x)                                             \
    {                                                                                              \
        return wrong + (x - x);                                                                    \
    }
#endif

#define SETTING(real, k) (*(const real##_part *)(settings + (k)*MOST_LANES + v))
#define PART(real, array) (*(real##_part *)((array) + k * lanes + v))
#define GRADIENT(real) real##_gradient(g, d, scalars, k, v)
#define DEFINE_LANE_UPDATES(real)                                                                  \
    enum { real##_apart = sizeof(real##_part) / sizeof(real) };                                    \
    static inline real##_part real##_at(const real *a)                                             \
    {                                                                                              \
        return *(const real##_part *)a;                                                            \
    }                                                                                              \
    static inline real##_part real##_input(                                                        \
        const real *g, const real *d, int scalars, long long k, int v)                             \
    {                                                                                              \
        enum { lanes = VECTOR_BYTES / sizeof(real) };                                              \
        if (d != NULL && scalars)                                                                  \
            return g[k] - (real##_part){0};                                                        \
        return real##_at(g + k * lanes + v);                                                       \
    }                                                                                              \
    static inline real##_part real##_gradient(                                                     \
        const real *g, const real *d, int scalars, long long k, int v)                             \
    {                                                                                              \
        const real##_part input = real##_input(g, d, scalars, k, v);                               \
        if (d == NULL)                                                                             \
            return input;                                                                          \
        return input * real##_at(d + v);                                                           \
    }                                                                                              \
    static inline real##_part real##_scaled(const real##_part rate, const real *d, int v)          \
    {                                                                                              \
        if (d == NULL)                                                                             \
            return rate;                                                                           \
        return rate * real##_at(d + v);                                                            \
    }                                                                                              \
    static inline void real##_descend_lanes(                                                       \
        long long n, real *__restrict p, const real *__restrict g,                                 \
        const real *__restrict d, int scalars, const real *__restrict settings,                    \
        real *__restrict nonfinite)                                                                \
    {                                                                                              \
        enum { lanes = VECTOR_BYTES / sizeof(real) };                                              \
        for (int v = 0; v < lanes; v += real##_apart) {                                            \
            const real##_part rate = SETTING(real, RATE), l2 = SETTING(real, L2);                  \
            /* One multiplication less for each parameter than in the order of the formula. */     \
            const real##_part keep = 1 - rate * l2;                                                \
            const real##_part by = real##_scaled(rate, d, v);                                      \
            real##_part wrong = *(real##_part *)(nonfinite + v);                                   \
            for (long long k = 0; k < n; k++) {                                                    \
                const real##_part old = PART(real, p);                                             \
                const real##_part x = keep * old - by * real##_input(g, d, scalars, k, v);         \
                const real##_part next = real##_where(rate, x, old);                               \
                PART(real, p) = next;                                                              \
                wrong = real##_mark(wrong, next);                                                  \
            }                                                                                      \
            *(real##_part *)(nonfinite + v) = wrong;                                               \
        }                                                                                          \
    }                                                                                              \
    static inline void real##_momentum_lanes(                                                      \
        long long n, real *__restrict p, const real *__restrict g,                                 \
        const real *__restrict d, int scalars, const real *__restrict settings,                    \
        real *__restrict nonfinite, real *__restrict first)                                        \
    {                                                                                              \
        enum { lanes = VECTOR_BYTES / sizeof(real) };                                              \
        for (int v = 0; v < lanes; v += real##_apart) {                                            \
            const real##_part rate = SETTING(real, RATE), l2 = SETTING(real, L2);                  \
            const real##_part beta1 = SETTING(real, BETA1), nesterov = SETTING(real, IS_NESTEROV); \
            real##_part wrong = *(real##_part *)(nonfinite + v);                                   \
            for (long long k = 0; k < n; k++) {                                                    \
                const real##_part old = PART(real, p);                                             \
                const real##_part slope = GRADIENT(real) + l2 * old;                               \
                const real##_part velocity = beta1 * PART(real, first) + slope;                    \
                const real##_part ahead = slope + beta1 * velocity;                                \
                const real##_part along = real##_where(nesterov, ahead, velocity);                 \
                const real##_part next = real##_where(rate, old - rate * along, old);              \
                PART(real, first) = velocity;                                                      \
                PART(real, p) = next;                                                              \
                wrong = real##_mark(wrong, next);                                                  \
            }                                                                                      \
            *(real##_part *)(nonfinite + v) = wrong;                                               \
        }                                                                                          \
    }                                                                                              \
    static inline void real##_adam_lanes(                                                          \
        long long n, real *__restrict p, const real *__restrict g,                                 \
        const real *__restrict d, int scalars, const real *__restrict settings,                    \
        real *__restrict nonfinite, real *__restrict first,                                        \
        real *__restrict second)                                                                   \
    {                                                                                              \
        enum { lanes = VECTOR_BYTES / sizeof(real) };                                              \
        for (int v = 0; v < lanes; v += real##_apart) {                                            \
            const real##_part rate = SETTING(real, RATE), l2 = SETTING(real, L2);                  \
            const real##_part keep = SETTING(real, KEEP), epsilon = SETTING(real, EPSILON);        \
            const real##_part beta2 = SETTING(real, BETA2), root = SETTING(real, ROOT);            \
            const real##_part rest1 = SETTING(real, REST1), rest2 = SETTING(real, REST2);          \
            real##_part wrong = *(real##_part *)(nonfinite + v);                                   \
            for (long long k = 0; k < n; k++) {                                                    \
                const real##_part old = PART(real, p);                                             \
                const real##_part slope = GRADIENT(real) + l2 * old;                               \
                const real##_part before = PART(real, first);                                      \
                const real##_part mean = before + rest1 * (slope - before);                        \
                const real##_part square = beta2 * PART(real, second) + rest2 * (slope * slope);   \
                const real##_part step = mean / (real##_root(square) * root + epsilon);            \
                const real##_part next = real##_where(rate, keep * old - rate * step, old);        \
                PART(real, first) = mean;                                                          \
                PART(real, second) = square;                                                       \
                PART(real, p) = next;                                                              \
                wrong = real##_mark(wrong, next);                                                  \
            }                                                                                      \
            *(real##_part *)(nonfinite + v) = wrong;                                               \
        }                                                                                          \
    }

DEFINE_PARTS(float, int32_t, sqrtf)
DEFINE_PARTS(double, int64_t, sqrt)
DEFINE_LANE_UPDATES(float)
DEFINE_LANE_UPDATES(double)

#endif
