"""An emulator of PTX, the assembly language of CUDA devices, for code without loops and functions.

It runs what a compiler made for a device on a machine without one. All threads of all programs run
at once, each register an array. Arithmetic is NumPy's, which rounds as the ``.rn`` instructions of
PTX are specified to: to nearest, with subnormals and without contraction. Instructions that it does
not know, such as fused or approximate ones, raise KeyError.
"""

import re

import numpy as np

TYPES = {"s": "i", "u": "u", "b": "u", "f": "f"}
BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "and": np.bitwise_and,
    "or": np.bitwise_or, "xor": np.bitwise_xor,
}  # fmt: skip
COMPARED = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
}  # fmt: skip


def dtype_of(kind):
    if kind == "pred":
        return np.dtype(bool)
    return np.dtype(f"{TYPES[kind[0]]}{int(kind[1:]) // 8}")


class Machine:
    """The threads of ``programs`` programs, and memory that begins at address 0 and grows up."""

    def __init__(self, text, parameters, programs, memory):
        threads = int(re.search(r"\.reqntid (\d+)", text)[1])
        self.parameters, self.memory = parameters, memory
        self.n = programs * threads
        self.registers = {
            "%ctaid.x": np.repeat(np.arange(programs, dtype=np.uint32), threads),
            "%tid.x": np.tile(np.arange(threads, dtype=np.uint32), programs),
        }
        body = re.sub(
            r"//.*|^\s*\..*", "", text[text.index("{\n", text.index(".reqntid")) :], flags=re.M
        )
        body = body[: body.index("ret;")]
        self.lines = re.findall(r"\$\w+(?=:)|(?:@!?%p\d+\s+)?[a-z][\w.]*[^;:]*(?=;)", body)
        self.active = np.ones(self.n, bool)
        self.asleep = {}

    def run(self):
        here = 0
        with np.errstate(all="ignore"):
            while here < len(self.lines):
                line = self.lines[here]
                here += 1
                if line.startswith("$"):
                    self.active = self.active | self.asleep.pop(line, False)
                    continue
                guard, name, rest = re.fullmatch(
                    r"(?:@(!?%p\d+)\s+)?([a-z][\w.]*)\s+(.*)", line, re.S
                ).groups()
                arguments = [
                    part.strip() for part in re.findall(r"\{.*?\}|\[.*?\]|[^,\s][^,]*", rest)
                ]
                where = self.guard(guard)
                if name == "bra":
                    # Threads that branch forward sleep until the others have come there.
                    assert arguments[0] in self.lines[here:], line
                    self.asleep[arguments[0]] = self.asleep.get(arguments[0], False) | where
                    self.active = self.active & ~where
                elif name.startswith("st.global."):
                    self.store(where, dtype_of(name.split(".")[-1]), *arguments)
                else:
                    assert guard is None, line
                    self.step(name.split("."), *arguments)

    def guard(self, name):
        if name is None:
            return self.active
        found = self.registers[name.lstrip("!")]
        return self.active & (~found if name[0] == "!" else found)

    def read(self, operand, dtype):
        if operand in self.registers:
            return self.registers[operand].view(dtype)
        if operand[:2] in ("0f", "0d"):
            bits = np.array(int(operand[2:], 16), f"u{(len(operand) - 2) // 2}")
        else:
            bits = np.array(int(operand) % 2 ** (8 * dtype.itemsize), f"u{dtype.itemsize}")
        return np.full(self.n, bits.view(dtype))

    def write(self, register, values):
        bits = np.dtype(f"u{values.itemsize}")
        values = values if values.dtype.kind == "b" else values.view(bits)
        if not self.active.all() and register in self.registers:
            values = np.where(self.active, values, self.registers[register])
        self.registers[register] = values

    def store(self, where, dtype, address, value):
        base, offset = re.fullmatch(r"\[\s*(\S+)(?:\s*\+\s*(\d+))?\s*\]", address).groups()
        addresses = self.registers[base][where] + np.uint64(offset or 0)
        assert (addresses % np.uint64(dtype.itemsize) == 0).all()
        cells = self.memory.view(f"u{dtype.itemsize}")
        cells[addresses // np.uint64(dtype.itemsize)] = self.registers[value.strip("{} ")][where]

    def step(self, name, out, *operands):
        operation, last = name[0], name[-1]
        if operation == "ld":  # a parameter
            number = int(re.search(r"_param_(\d+)", operands[0])[1])
            self.write(out, np.full(self.n, self.parameters[number], np.uint64))
        elif operation == "mov":
            self.move(out, operands[0], dtype_of(last))
        elif operation == "cvt":
            assert len(name) == 3 or name[1] == "rn", name
            self.write(out, self.read(operands[0], dtype_of(last)).astype(dtype_of(name[-2])))
        elif operation == "setp":
            a, b = (self.read(x, dtype_of(last)) for x in operands)
            self.write(out, COMPARED[name[1]](a, b))
        elif operation == "selp":
            a, b = (self.read(x, dtype_of(last)) for x in operands[:2])
            self.write(out, np.where(self.registers[operands[2]], a, b))
        elif operation in ("shl", "shr"):
            dtype = dtype_of(last)
            count = self.read(operands[1], np.dtype(np.uint32)).astype(dtype)
            shift = np.left_shift if operation == "shl" else np.right_shift
            self.write(out, shift(self.read(operands[0], dtype), count))
        elif operation == "bfe":
            x = self.read(operands[0], dtype_of(last))
            self.write(out, x >> int(operands[1]) & (2 ** int(operands[2]) - 1))
        elif last.endswith("x2"):  # two numbers in a register
            half = dtype_of(last[:-2])
            assert half.kind != "f" or name[1:-1] == ["rn"], name
            whole = np.dtype(f"u{2 * half.itemsize}")
            a, b = (self.read(x, whole).view(half) for x in operands)
            self.write(out, BINARY[operation](a, b).view(whole))
        else:
            self.compute(name, out, dtype_of(last), operands)

    def move(self, out, operand, dtype):
        halves = np.dtype(f"u{dtype.itemsize // 2}")
        if out[0] == "{":
            parts = self.read(operand, dtype).view(halves).reshape(-1, 2)
            for register, part in zip(out.strip("{}").split(","), parts.T, strict=True):
                self.write(register.strip(), part.copy())
        elif operand[0] == "{":
            parts = [self.read(part.strip(), halves) for part in operand.strip("{}").split(",")]
            self.write(out, np.stack(parts, axis=1).reshape(-1).view(dtype))
        else:
            self.write(out, self.read(operand, dtype))

    def compute(self, name, out, dtype, operands):
        operation, how = name[0], name[1:-1]
        values = [self.read(x, dtype) for x in operands]
        if dtype.kind == "f" and operation != "neg":
            # Without .rn, the assembler may contract.
            assert how == ["rn"], name
        match operation, how:
            case "neg", []:
                found = -values[0]
            case "sqrt", _:
                found = np.sqrt(values[0])
            case "div", _:
                found = values[0] / values[1] if dtype.kind == "f" else values[0] // values[1]
            case "mad", ["lo"]:
                found = values[0] * values[1] + values[2]
            case "mul", ["hi" | "wide"]:
                assert dtype == np.uint32, name
                found = values[0].astype(np.uint64) * values[1].astype(np.uint64)
                if how == ["hi"]:
                    found = (found >> np.uint64(32)).astype(np.uint32)
            case _, [] | ["lo"] | ["rn"]:
                found = BINARY[operation](*values)
            case _:
                raise KeyError(".".join(name))
        self.write(out, found)
