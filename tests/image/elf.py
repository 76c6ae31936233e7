"""Whether a program is static, and of an architecture: by its header, as the kernel reads it.

elf.py amd64|arm64 PROGRAM
"""

import struct
import sys

MACHINES = {"amd64": 62, "arm64": 183}
INTERPRETED, DYNAMIC_SECTION, NEEDED = 3, 2, 1


def problems(architecture: str, program: bytes) -> list[str]:
    """What is wrong with it."""
    if program[:6] != b"\x7fELF\x02\x01":
        return ["not a program of 64 bits"]
    machine = struct.unpack_from("<H", program, 18)[0]
    offset, size, count = (
        struct.unpack_from("<Q", program, 32)[0],
        *struct.unpack_from("<HH", program, 54),
    )
    wrong = [] if machine == MACHINES[architecture] else [f"of machine {machine}, not {architecture}"]
    for at in range(offset, offset + size * count, size):
        kind, _, start, _, _, length = struct.unpack_from("<IIQQQQ", program, at)
        if kind == INTERPRETED:
            wrong.append(f"needs {program[start : start + length].decode()}")
        if kind == DYNAMIC_SECTION:
            entries = struct.iter_unpack("<QQ", program[start : start + length])
            wrong += ["needs a library" for tag, _ in entries if tag == NEEDED]
    return wrong


def main() -> int:
    architecture, path = sys.argv[1:]
    with open(path, "rb") as file:
        program = file.read()
    wrong = problems(architecture, program)
    for what in wrong:
        print(f"{path}: {what}", file=sys.stderr)
    if not wrong:
        print(f"ok: {architecture}, static, {len(program) / 2**20:.1f} MiB")
    return 1 if wrong else 0


sys.exit(main())
