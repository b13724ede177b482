"""Build of the extension modules: each kernel body is compiled once per CPU level.

All other settings are in pyproject.toml.
"""

import os
import sysconfig
import tempfile
from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

DEBUG = os.environ.get("FASTINIT_DEBUG_BUILD", "") == "1"

# Flags by compiler family and level. The levels are those of the x86-64 psABI. At x86_64_v4,
# compilers use 256-bit registers by default, which halves the multiply-adds per instruction. Tuning
# for the first processor of a level instead of a generic one was 8 % faster on Intel and AMD
# processors. AVX2 has 16 registers, 15 of which hold the numbers of a tile. Without
# -fno-move-loop-invariants, GCC keeps the constants of ReLU in two more, and one sum of the tile in
# memory: products took up to 1.4 times as long.
GCC_LEVELS = {
    "baseline": [],
    "x86_64_v3": ["-march=x86-64-v3", "-mtune=haswell", "-fno-move-loop-invariants"],
    "x86_64_v4": ["-march=x86-64-v4", "-mtune=skylake-avx512", "-mprefer-vector-width=512"],
}
MSVC_LEVELS = {"baseline": [], "x86_64_v3": ["/arch:AVX2"], "x86_64_v4": ["/arch:AVX512"]}

# -fno-math-errno and -fno-trapping-math allow the compiler to vectorise branches and square roots.
# They do not change results, because the kernels read neither errno nor floating-point exception
# flags. -ffast-math and -Ofast are not used: they break NaN and infinity, and linking with them
# makes the whole process flush subnormals to zero.
GCC_FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math"]
if not DEBUG:
    GCC_FLAGS.append("-g0")  # with debug information the wheel is six times as large

# The kernel bodies, and flags for one of them. A fused multiply-add rounds once instead of twice.
# The bits of random numbers must not depend on whether the CPU has that instruction.
BODIES = ("dense", "random")
GCC_BODY_FLAGS = {"random": ["-ffp-contract=off"]}

# The sums of a tile stay in registers only if the function is inlined into the loop that calls it,
# so that its loops are unrolled there. Cython allows builds to redefine this macro.
GCC_MACROS = [("CYTHON_INLINE", "__inline__ __attribute__((always_inline))")]

# Scratch memory is not initialised. Debug builds fill it with NaN, so that tests detect reads of
# it.
MACROS = [("FASTINIT_POISON", "1")] if DEBUG else []

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "freethreading_compatible": True,
    "embedsignature": True,
}


def levels() -> list[str]:
    """Return the CPU levels to build for the target's architecture."""
    # The platform of the target: linux-x86_64, win-amd64, macosx-11.0-arm64, ... Builds for
    # macosx-10.9-universal2 compile each source for both architectures with the same flags, unless
    # ARCHFLAGS selects one.
    target = sysconfig.get_platform()
    universal = "-arch arm64" if target.endswith("universal2") else ""
    arm64 = "arm64" in os.environ.get("ARCHFLAGS", universal)
    x86_64 = target.endswith(("x86_64", "amd64", "universal2")) and not arm64
    return list(GCC_LEVELS) if x86_64 else ["baseline"]


def extensions() -> list[Extension]:
    """Return the extension modules: ``cpu``, and each kernel body once per level."""
    found = cythonize(
        [Extension("fastinit.kernels.cpu", ["fastinit/kernels/cpu.pyx"])],
        build_dir="build/cython",
        compiler_directives=DIRECTIVES,
    )
    for level in levels():
        found += cythonize(
            [
                Extension(
                    f"fastinit.kernels.{body}_{level}",
                    [f"fastinit/kernels/{body}.pyx"],
                    include_dirs=["fastinit/kernels"],
                    depends=glob("fastinit/kernels/*.h") + glob("fastinit/kernels/*.pxi"),
                )
                for body in BODIES
            ],
            build_dir=f"build/cython-{level}",
            compiler_directives=DIRECTIVES,
        )
    return found


class BuildExt(build_ext):
    """Select the flags in ``build_ext``, because the type of the compiler is not known earlier."""

    def build_extensions(self) -> None:
        """Add the flags of the compiler and of the level to each extension, and build them."""
        self.parallel = self.parallel or os.cpu_count()
        msvc = self.compiler.compiler_type == "msvc"
        flags = MSVC_LEVELS if msvc else GCC_LEVELS
        known = {level: self._accepts(flags[level]) for level in levels()}
        for extension in list(self.extensions):
            body, _, level = extension.name.rpartition(".")[2].partition("_")
            extension.extra_compile_args += ["/O2"] if msvc else GCC_FLAGS
            if not level:
                continue
            if not known[level]:
                self.warn(
                    f"{extension.name} not built: the compiler does not support {flags[level][0]}"
                )
                self.extensions.remove(extension)
            extension.define_macros += MACROS if msvc else MACROS + GCC_MACROS
            extension.extra_compile_args += flags[level]
            extension.extra_compile_args += [] if msvc else GCC_BODY_FLAGS.get(body, [])
        super().build_extensions()

    def _accepts(self, flags: list[str]) -> bool:
        """Return whether the compiler accepts the flags: GCC does from 11 on, Clang from 12 on."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "nothing.c")
            source.write_text("int nothing;\n")
            try:
                self.compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
            except CompileError:
                return False
        return True


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExt})
