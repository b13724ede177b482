"""The extension modules: one kernel body, compiled once per CPU level.

Everything that is not about compiling stands in pyproject.toml.
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

# Flags by compiler family and level, named by the x86-64 psABI. AVX-512 code is told to use whole
# 512-bit registers: the compilers' default of 256 bits halves the multiply-adds per instruction.
# Tuning for the first processor of a level, not for the generic one, won 8 % on both makes.
GCC_LEVELS = {
    "baseline": [],
    "x86_64_v3": ["-march=x86-64-v3", "-mtune=haswell"],
    "x86_64_v4": ["-march=x86-64-v4", "-mtune=skylake-avx512", "-mprefer-vector-width=512"],
}
MSVC_LEVELS = {"baseline": [], "x86_64_v3": ["/arch:AVX2"], "x86_64_v4": ["/arch:AVX512"]}

# Neither changes a result: kernels read no errno and no floating-point exception flags, and saying
# so lets the compiler vectorise branches and square roots. Never -ffast-math, never -Ofast: they
# break NaN and infinity, and linking with them makes the whole process flush subnormals to zero.
GCC_FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math"]
if not DEBUG:
    GCC_FLAGS.append("-g0")  # debug information would be five sixths of the wheel

# The bodies, and what only one of them needs. A multiply and an add contracted into one instruction
# round once instead of twice: other bits wherever the CPU has the instruction.
BODIES = ("dense", "random")
GCC_BODY_FLAGS = {"random": ["-ffp-contract=off"]}

# A tile's sums stay in registers only where its loops are unrolled inside the loop around the call,
# so "inline" must be an order. Cython leaves this macro to the builder.
GCC_MACROS = [("CYTHON_INLINE", "__inline__ __attribute__((always_inline))")]

# Scratch memory is not cleared; a debug build fills it with NaN, so that tests notice early reads.
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
    # The platform is the target's, not that of the machine that compiles: linux-x86_64, win-amd64,
    # macosx-11.0-arm64, or macosx-10.9-universal2, which compiles each source for two architectures
    # with one set of flags, unless ARCHFLAGS says for which.
    target = sysconfig.get_platform()
    universal = "-arch arm64" if target.endswith("universal2") else ""
    arm64 = "arm64" in os.environ.get("ARCHFLAGS", universal)
    x86_64 = target.endswith(("x86_64", "amd64", "universal2")) and not arm64
    return list(GCC_LEVELS) if x86_64 else ["baseline"]


def extensions() -> list[Extension]:
    """Cythonize each kernel body once per level, each time into a folder of its own."""
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
    """Choose the flags here, where the kind of compiler is known at last."""

    def build_extensions(self) -> None:
        """Add the flags of compiler and level to each extension, then build all at once."""
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
                self.warn(f"{extension.name} left out: this compiler has no {flags[level][0]}")
                self.extensions.remove(extension)
            extension.define_macros += MACROS if msvc else MACROS + GCC_MACROS
            extension.extra_compile_args += flags[level]
            extension.extra_compile_args += [] if msvc else GCC_BODY_FLAGS.get(body, [])
        super().build_extensions()

    def _accepts(self, flags: list[str]) -> bool:
        """Whether the compiler knows these flags; those before GCC 11 and Clang 12 do not."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "nothing.c")
            source.write_text("int nothing;\n")
            try:
                self.compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
            except CompileError:
                return False
        return True


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExt})
