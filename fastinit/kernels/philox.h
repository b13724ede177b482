/* Philox 4x32-10: ten rounds over one vector register of counters at a time.
 *
 * Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Every
 * 32-bit word of a counter sits in the low half of a 64-bit lane. The widening multiply reads low
 * halves only, so the rounds let the high halves run wild and never mask them. Compilers do not
 * find that instruction from plain C, hence the intrinsics.
 */
#ifndef FASTINIT_PHILOX_H
#define FASTINIT_PHILOX_H

#include <stdint.h>

enum { BLOCKS = 64 };

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#include <immintrin.h>

#if defined(__AVX512F__)
enum { PAIRS = 8 };
#define LOW_PRODUCT(a, b) (word_lanes)_mm512_mul_epu32((__m512i)(a), (__m512i)(b))
#elif defined(__AVX2__)
enum { PAIRS = 4 };
#define LOW_PRODUCT(a, b) (word_lanes)_mm256_mul_epu32((__m256i)(a), (__m256i)(b))
#else
enum { PAIRS = 2 };
#define LOW_PRODUCT(a, b) (word_lanes)_mm_mul_epu32((__m128i)(a), (__m128i)(b))
#endif
typedef uint64_t word_lanes __attribute__((vector_size(PAIRS * 8), aligned(4), may_alias));
#define EACH(x) ((x) - (word_lanes){0})
#define STORE(out, x) (*(word_lanes *)(out) = (x))

#else

enum { PAIRS = 1 };
typedef uint64_t word_lanes;
#define LOW_PRODUCT(a, b) ((uint64_t)(uint32_t)(a) * (uint32_t)(b))
#define EACH(x) (x)
#define STORE(out, x) ((out)[0] = (uint32_t)(x), (out)[1] = (uint32_t)((x) >> 32))

#endif

typedef struct { word_lanes x0, x1, x2, x3; } philox_counters;

static inline philox_counters philox_rounds(philox_counters c, uint64_t key)
{
    const word_lanes m0 = EACH((uint64_t)0xD2511F53), m1 = EACH((uint64_t)0xCD9E8D57);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        const word_lanes p0 = LOW_PRODUCT(c.x0, m0), p1 = LOW_PRODUCT(c.x2, m1);
        c.x0 = (p1 >> 32) ^ c.x1 ^ EACH((uint64_t)k0);
        c.x1 = p1;
        c.x2 = (p0 >> 32) ^ c.x3 ^ EACH((uint64_t)k1);
        c.x3 = p0;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    return c;
}

/* Even and odd counters side by side are 32-bit words in order, without a shuffle. */
#define PACK(out, even, odd)                                                                       \
    do {                                                                                           \
        const word_lanes packed = ((even) & EACH((uint64_t)0xFFFFFFFF)) | ((odd) << 32);           \
        STORE(out, packed);                                                                        \
    } while (0)

/* Overwrite words[w][b] with word w of block first + b, for BLOCKS blocks. */
static inline void philox(uint32_t words[4][BLOCKS], uint64_t first, uint64_t stream, uint64_t key)
{
    const word_lanes zero = EACH((uint64_t)0);
    for (int block = 0; block < BLOCKS; block += 2 * PAIRS) {
        uint64_t even[PAIRS];
        for (int pair = 0; pair < PAIRS; pair++)
            even[pair] = first + block + 2 * pair;
        philox_counters a, b;
        a.x0 = *(const word_lanes *)even;
        b.x0 = a.x0 + 1;
        a.x1 = a.x0 >> 32;
        b.x1 = b.x0 >> 32;
        a.x2 = b.x2 = zero + stream;
        a.x3 = b.x3 = zero + (stream >> 32);
        a = philox_rounds(a, key);
        b = philox_rounds(b, key);
        PACK(&words[0][block], a.x0, b.x0);
        PACK(&words[1][block], a.x1, b.x1);
        PACK(&words[2][block], a.x2, b.x2);
        PACK(&words[3][block], a.x3, b.x3);
    }
}

#endif
