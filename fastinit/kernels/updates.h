/* The optimisers: the formulas that update parameters and state by a gradient.
 *
 * An optimiser is two functions: `range` updates consecutive parameters of one network, `lanes`
 * those of a register of networks, each with its own settings. A macro defines both for floats and
 * doubles; the optimisers are listed in OPTIMIZERS, at the end.
 */
#ifndef FASTINIT_UPDATES_H
#define FASTINIT_UPDATES_H

#include "lanes.h"

/* The settings: numbers for `range`, arrays of MOST_LANES numbers for `lanes`. KEEP is 1 less the
 * decoupled weight decay, REST1 and REST2 are 1 - beta1 and 1 - beta2, and ROOT is the factor of
 * the root of the second mean. GAIN is the factor of the gradient in a velocity. */
enum { RATE, L2, KEEP, EPSILON, BETA1, BETA2, REST1, REST2, ROOT, NESTEROV, GAIN, N_SETTINGS };

/* `slots` is the number of rows of state: none, `first`, or `first` and `second`. If `corrects` is
 * 1, RATE and ROOT include the factors that correct Adam's means for their start at 0. There is a
 * function of lanes for each kind of gradient: see DEFINE_LANES_OF. */
enum { WHOLE, BY_LANES, BY_SCALARS, N_PRODUCTS };
#define DEFINE_UPDATE_TYPES(real)                                                                  \
    typedef int (*real##_range_update)(                                                            \
        long long n, const real *p, real *out, const real *g, const real *settings, real *first,   \
        real *second);                                                                             \
    typedef void (*real##_lanes_update)(                                                           \
        long long rows, long long n, real *p, const real *g, const real *d, const real *settings,  \
        real *nonfinite, real *first, real *second);
DEFINE_UPDATE_TYPES(float)
DEFINE_UPDATE_TYPES(double)

typedef struct {
    const char *name;
    int slots, corrects;
    float_range_update float_range;
    double_range_update double_range;
    float_lanes_update float_lanes[N_PRODUCTS];
    double_lanes_update double_lanes[N_PRODUCTS];
} Optimizer;

/* A `part` is what the compiler handles at once: a register, or a single number. */
#if defined(__GNUC__) || defined(__clang__)
#define DEFINE_PARTS(real, integer, root_of)                                                       \
    typedef real##_lanes real##_part;                                                              \
    static inline real##_part real##_where(real##_part positive, real##_part a, real##_part b)      \
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
    /* Not a sum, whose latency would limit the loop. */                                           \
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

DEFINE_PARTS(float, int32_t, sqrtf)
DEFINE_PARTS(double, int64_t, sqrt)

#define SETTING(real, k) (*(const real##_part *)(settings + (k)*MOST_LANES + v))
#define PART(real, array) (*(real##_part *)((array) + k * lanes + v))
#define GRADIENT(real) real##_gradient(g, d, scalars, k, v)
#define DEFINE_GRADIENTS(real)                                                                     \
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
    }
DEFINE_GRADIENTS(float)
DEFINE_GRADIENTS(double)

#if defined(__GNUC__) || defined(__clang__)
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE static inline
#endif

/* The three kinds of gradient: `g`; for each of `rows` units, its `d` times the inputs `g`, which
 * each network has for itself; or times inputs that all networks share. Each kind has a function of
 * its own, whose loops have no branches. */
#define DEFINE_LANES_OF(real, name)                                                                \
    static void real##_##name##_whole(                                                             \
        long long rows, long long n, real *p, const real *g, const real *d, const real *settings,  \
        real *nonfinite, real *first, real *second)                                                \
    {                                                                                              \
        (void)rows, (void)d;                                                                       \
        real##_##name##_lanes(n, p, g, NULL, 0, settings, nonfinite, first, second);               \
    }                                                                                              \
    static void real##_##name##_by_lanes(                                                          \
        long long rows, long long n, real *p, const real *g, const real *d, const real *settings,  \
        real *nonfinite, real *first, real *second)                                                \
    {                                                                                              \
        enum { lanes = VECTOR_BYTES / sizeof(real) };                                              \
        for (long long r = 0; r < rows; r++) {                                                     \
            const long long k = r * n * lanes;                                                     \
            real##_##name##_lanes(n, p + k, g, d + r * lanes, 0, settings, nonfinite, first + k,   \
                                  second + k);                                                     \
        }                                                                                          \
    }                                                                                              \
    static void real##_##name##_by_scalars(                                                        \
        long long rows, long long n, real *p, const real *g, const real *d, const real *settings,  \
        real *nonfinite, real *first, real *second)                                                \
    {                                                                                              \
        enum { lanes = VECTOR_BYTES / sizeof(real) };                                              \
        for (long long r = 0; r < rows; r++) {                                                     \
            const long long k = r * n * lanes;                                                     \
            real##_##name##_lanes(n, p + k, g, d + r * lanes, 1, settings, nonfinite, first + k,   \
                                  second + k);                                                     \
        }                                                                                          \
    }
#define DEFINE_OPTIMIZER(DEFINE, name)                                                             \
    DEFINE(float, sqrtf)                                                                           \
    DEFINE(double, sqrt)                                                                           \
    DEFINE_LANES_OF(float, name)                                                                   \
    DEFINE_LANES_OF(double, name)
#define LANES_OF(real, name)                                                                       \
    {real##_##name##_whole, real##_##name##_by_lanes, real##_##name##_by_scalars}
#define OPTIMIZER(name, slots, corrects)                                                           \
    {#name, slots, corrects, float_##name##_range, double_##name##_range,                          \
     LANES_OF(float, name), LANES_OF(double, name)}

/* `range` writes the updated parameters to `out`, which may be `p`, and returns whether one of them
 * is not a finite number: x - x is 0 for finite numbers and NaN otherwise. `lanes` overwrites the
 * parameters, leaves those of a network whose rate is 0 as they are, and sets their lanes of
 * `nonfinite` to NaN if a parameter is not a finite number. */
#define RANGE_ARGUMENTS(real)                                                                      \
    long long n, const real *p, real *out, const real *g, const real *settings, real *first,       \
        real *second
#define LANES_ARGUMENTS(real)                                                                      \
    long long n, real *__restrict p, const real *__restrict g, const real *__restrict d,           \
        int scalars, const real *__restrict settings, real *__restrict nonfinite,                  \
        real *__restrict first, real *__restrict second

#define DEFINE_GRADIENT_DESCENT(real, root_of)                                                     \
    static int real##_gradient_descent_range(RANGE_ARGUMENTS(real))                                \
    {                                                                                              \
        const real rate = settings[RATE], l2 = settings[L2];                                       \
        int64_t wrong = 0;                                                                         \
        (void)first, (void)second;                                                                 \
        for (long long k = 0; k < n; k++) {                                                        \
            const real x = p[k] - rate * (g[k] + l2 * p[k]);                                       \
            out[k] = x;                                                                            \
            wrong += x - x != 0;                                                                   \
        }                                                                                          \
        return wrong != 0;                                                                         \
    }                                                                                              \
    ALWAYS_INLINE void real##_gradient_descent_lanes(LANES_ARGUMENTS(real))                        \
    {                                                                                              \
        enum { lanes = VECTOR_BYTES / sizeof(real) };                                              \
        (void)first, (void)second;                                                                 \
        for (int v = 0; v < lanes; v += real##_apart) {                                            \
            const real##_part rate = SETTING(real, RATE), l2 = SETTING(real, L2);                  \
            /* Saves one multiplication per parameter. */                                          \
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
    }
DEFINE_OPTIMIZER(DEFINE_GRADIENT_DESCENT, gradient_descent)

#define DEFINE_MOMENTUM(real, root_of)                                                             \
    static int real##_momentum_range(RANGE_ARGUMENTS(real))                                        \
    {                                                                                              \
        const real rate = settings[RATE], l2 = settings[L2], beta1 = settings[BETA1];              \
        const real gain = settings[GAIN];                                                          \
        int64_t wrong = 0;                                                                         \
        (void)second;                                                                              \
        if (settings[NESTEROV] > 0) {                                                              \
            for (long long k = 0; k < n; k++) {                                                    \
                const real slope = gain * (g[k] + l2 * p[k]);                                      \
                const real velocity = beta1 * first[k] + slope;                                    \
                const real x = p[k] - rate * (slope + beta1 * velocity);                           \
                first[k] = velocity;                                                               \
                out[k] = x;                                                                        \
                wrong += x - x != 0;                                                               \
            }                                                                                      \
        } else {                                                                                   \
            for (long long k = 0; k < n; k++) {                                                    \
                const real velocity = beta1 * first[k] + gain * (g[k] + l2 * p[k]);                \
                const real x = p[k] - rate * velocity;                                             \
                first[k] = velocity;                                                               \
                out[k] = x;                                                                        \
                wrong += x - x != 0;                                                               \
            }                                                                                      \
        }                                                                                          \
        return wrong != 0;                                                                         \
    }                                                                                              \
    ALWAYS_INLINE void real##_momentum_lanes(LANES_ARGUMENTS(real))                                \
    {                                                                                              \
        enum { lanes = VECTOR_BYTES / sizeof(real) };                                              \
        (void)second;                                                                              \
        for (int v = 0; v < lanes; v += real##_apart) {                                            \
            const real##_part rate = SETTING(real, RATE), l2 = SETTING(real, L2);                  \
            const real##_part beta1 = SETTING(real, BETA1), nesterov = SETTING(real, NESTEROV);    \
            const real##_part gain = SETTING(real, GAIN);                                          \
            real##_part wrong = *(real##_part *)(nonfinite + v);                                   \
            for (long long k = 0; k < n; k++) {                                                    \
                const real##_part old = PART(real, p);                                             \
                const real##_part slope = gain * (GRADIENT(real) + l2 * old);                      \
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
    }
DEFINE_OPTIMIZER(DEFINE_MOMENTUM, momentum)

#define DEFINE_ADAM(real, root_of)                                                                 \
    static int real##_adam_range(RANGE_ARGUMENTS(real))                                            \
    {                                                                                              \
        const real rate = settings[RATE], l2 = settings[L2], keep = settings[KEEP];                \
        const real beta2 = settings[BETA2], rest1 = settings[REST1], rest2 = settings[REST2];      \
        const real root = settings[ROOT], epsilon = settings[EPSILON];                             \
        int64_t wrong = 0;                                                                         \
        for (long long k = 0; k < n; k++) {                                                        \
            const real slope = g[k] + l2 * p[k];                                                   \
            const real mean = first[k] + rest1 * (slope - first[k]);                               \
            const real square = beta2 * second[k] + rest2 * (slope * slope);                       \
            const real x = keep * p[k] - rate * mean / (root_of(square) * root + epsilon);         \
            first[k] = mean;                                                                       \
            second[k] = square;                                                                    \
            out[k] = x;                                                                            \
            wrong += x - x != 0;                                                                   \
        }                                                                                          \
        return wrong != 0;                                                                         \
    }                                                                                              \
    ALWAYS_INLINE void real##_adam_lanes(LANES_ARGUMENTS(real))                                    \
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
DEFINE_OPTIMIZER(DEFINE_ADAM, adam)

static const Optimizer OPTIMIZERS[] = {
    OPTIMIZER(gradient_descent, 0, 0),
    OPTIMIZER(momentum, 1, 0),
    OPTIMIZER(adam, 2, 1),
};
enum { N_OPTIMIZERS = sizeof OPTIMIZERS / sizeof *OPTIMIZERS };

#endif
