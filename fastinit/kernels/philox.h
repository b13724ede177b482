/* Philox 4x32-10: ten rounds over one vector register of counters at a time.
 *
 * Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Every
 * 32-bit word of a counter sits in the low half of a 64-bit lane. The widening multiply reads low
 * halves only, so the rounds need not mask the high halves. Compilers do not find that instruction
 * from plain C, hence the intrinsics.
 */
#ifndef FASTINIT_PHILOX_H
#define FASTINIT_PHILOX_H

#include <stdint.h>

enum { BLOCKS = 64 };

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#include <immintrin.h>

#if defined(__AVX512F__)
/* Independent chains of rounds hide the multiplier's latency; as many as fit into registers. */
enum { PAIRS = 8, CHAINS = 4 };
#define LOW_PRODUCT(a, b) (word_lanes)_mm512_mul_epu32((__m512i)(a), (__m512i)(b))
#elif defined(__AVX2__)
enum { PAIRS = 4, CHAINS = 2 };
#define LOW_PRODUCT(a, b) (word_lanes)_mm256_mul_epu32((__m256i)(a), (__m256i)(b))
#else
enum { PAIRS = 2, CHAINS = 2 };
#define LOW_PRODUCT(a, b) (word_lanes)_mm_mul_epu32((__m128i)(a), (__m128i)(b))
#endif
typedef uint64_t word_lanes __attribute__((vector_size(PAIRS * 8), aligned(4), may_alias));
#define EACH(x) ((x) - (word_lanes){0})
#define STORE(out, x) (*(word_lanes *)(out) = (x))

#else

enum { PAIRS = 1, CHAINS = 2 };
typedef uint64_t word_lanes;
#define LOW_PRODUCT(a, b) ((uint64_t)(uint32_t)(a) * (uint32_t)(b))
#define EACH(x) (x)
/* Word by word, because big-endian machines store the high half first. */
#define STORE(out, x)                                                                              \
    do {                                                                                           \
        const word_lanes stored = (x);                                                             \
        (out)[0] = (uint32_t)stored;                                                               \
        (out)[1] = (uint32_t)(stored >> 32);                                                       \
    } while (0)

#endif

/* Overwrite words[w][b] with word w of block first + b, for BLOCKS blocks. */
static inline void philox(uint32_t words[4][BLOCKS], uint64_t first, uint64_t stream, uint64_t key)
{
    const word_lanes m0 = EACH((uint64_t)0xD2511F53), m1 = EACH((uint64_t)0xCD9E8D57);
    const word_lanes low = EACH((uint64_t)0xFFFFFFFF);
    for (int block = 0; block < BLOCKS; block += CHAINS * PAIRS) {
        word_lanes x0[CHAINS], x1[CHAINS], x2[CHAINS], x3[CHAINS];
        uint64_t even[PAIRS];
        uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
        for (int pair = 0; pair < PAIRS; pair++)
            even[pair] = first + block + 2 * pair;
        for (int c = 0; c < CHAINS; c++) {
            x0[c] = *(const word_lanes *)even + (uint64_t)(c / 2 * 2 * PAIRS + c % 2);
            x1[c] = x0[c] >> 32;
            x2[c] = EACH(stream);
            x3[c] = EACH(stream >> 32);
        }
        for (int round = 0; round < 10; round++) {
            for (int c = 0; c < CHAINS; c++) {
                const word_lanes p0 = LOW_PRODUCT(x0[c], m0), p1 = LOW_PRODUCT(x2[c], m1);
                x0[c] = (p1 >> 32) ^ x1[c] ^ EACH((uint64_t)k0);
                x1[c] = p1;
                x2[c] = (p0 >> 32) ^ x3[c] ^ EACH((uint64_t)k1);
                x3[c] = p0;
            }
            k0 += 0x9E3779B9;
            k1 += 0xBB67AE85;
        }
        /* An even and an odd counter share a lane: 32-bit words in order without a shuffle. */
        for (int c = 0; c < CHAINS; c += 2) {
            const int b = block + c * PAIRS;
            STORE(&words[0][b], (x0[c] & low) | (x0[c + 1] << 32));
            STORE(&words[1][b], (x1[c] & low) | (x1[c + 1] << 32));
            STORE(&words[2][b], (x2[c] & low) | (x2[c + 1] << 32));
            STORE(&words[3][b], (x3[c] & low) | (x3[c + 1] << 32));
        }
    }
}

#endif
