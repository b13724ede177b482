"""Detection of the CPU levels that the processor and the operating system support.

The levels are those of the x86-64 psABI (https://gitlab.com/x86-psABIs/x86-64-ABI). A processor
with AVX is not sufficient: the operating system must also save the vector registers at a context
switch, which XGETBV reports.
"""

cdef extern from *:
    """
    #if defined(__x86_64__) || defined(_M_X64)
    #define FASTINIT_X86_64 1
    #ifdef _MSC_VER
    #include <intrin.h>
    static void fastinit_cpuid(unsigned leaf, unsigned *r) { __cpuidex((int *)r, (int)leaf, 0); }
    static unsigned long long fastinit_xgetbv(void) { return _xgetbv(0); }
    #else
    #include <cpuid.h>
    static void fastinit_cpuid(unsigned leaf, unsigned *r)
    {
        if (!__get_cpuid_count(leaf, 0, r, r + 1, r + 2, r + 3)) r[0] = r[1] = r[2] = r[3] = 0;
    }
    static unsigned long long fastinit_xgetbv(void)
    {
        unsigned low, high;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        return ((unsigned long long)high << 32) | low;
    }
    #endif
    #else
    #define FASTINIT_X86_64 0
    static void fastinit_cpuid(unsigned leaf, unsigned *r)
    {
        (void)leaf;
        r[0] = r[1] = r[2] = r[3] = 0;
    }
    static unsigned long long fastinit_xgetbv(void) { return 0; }
    #endif
    """
    const bint FASTINIT_X86_64
    void fastinit_cpuid(unsigned leaf, unsigned* registers) noexcept nogil
    unsigned long long fastinit_xgetbv() noexcept nogil

# Features that a level requires in addition to those of the level below it: name, CPUID leaf,
# register (0..3 for a, b, c, d), bit.
_X86_64_V3 = (
    ("osxsave", 0x1, 2, 27),
    ("avx", 0x1, 2, 28),
    ("fma", 0x1, 2, 12),
    ("movbe", 0x1, 2, 22),
    ("f16c", 0x1, 2, 29),
    ("avx2", 0x7, 1, 5),
    ("bmi1", 0x7, 1, 3),
    ("bmi2", 0x7, 1, 8),
    ("lzcnt", 0x80000001, 2, 5),
)
_X86_64_V4 = (
    ("avx512f", 0x7, 1, 16),
    ("avx512dq", 0x7, 1, 17),
    ("avx512cd", 0x7, 1, 28),
    ("avx512bw", 0x7, 1, 30),
    ("avx512vl", 0x7, 1, 31),
)
# Bits of XCR0: the registers that the operating system saves.
_YMM_STATE = 0b0000_0110
_ZMM_STATE = 0b1110_0110


def _has(unsigned leaf, int register, int bit):
    cdef unsigned[4] highest
    cdef unsigned[4] registers
    fastinit_cpuid(leaf & 0x80000000u, highest)
    if highest[0] < leaf:
        return False
    fastinit_cpuid(leaf, registers)
    return bool((registers[register] >> bit) & 1)


def missing():
    """Return the features that this machine lacks for each level above ``baseline``.

    Returns
    -------
    dict of str to tuple of str
        Missing features by level; the tuple of a supported level is empty. The dictionary is empty
        on architectures other than x86-64, which have the baseline only.
    """
    if not FASTINIT_X86_64:
        return {}
    v3 = [name for name, leaf, register, bit in _X86_64_V3 if not _has(leaf, register, bit)]
    # XGETBV is an illegal instruction unless the operating system has enabled XSAVE.
    state = 0 if "osxsave" in v3 else fastinit_xgetbv()
    if state & _YMM_STATE != _YMM_STATE:
        v3.append("ymm registers saved by the operating system")
    v4 = [name for name, leaf, register, bit in _X86_64_V4 if not _has(leaf, register, bit)]
    if state & _ZMM_STATE != _ZMM_STATE:
        v4.append("zmm registers saved by the operating system")
    return {"x86_64_v4": (*v3, *v4), "x86_64_v3": tuple(v3)}
