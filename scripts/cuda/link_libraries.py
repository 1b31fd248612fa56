#!/usr/bin/env python3
"""In: the source folder of the cudarc crate. Out: one static archive for each CUDA library that it declares, whose
functions load the real library when the first of them is called (load_on_first_use.S and .c). A program linked
against these has no CUDA library among those it needs to start, and building it needs none either.

    link_libraries.py CUDARC_SOURCE OUTPUT_FOLDER
"""

import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent

# Library: module of cudarc that declares it, file names to try, code returned where it is missing.
LIBRARIES = {
    "cuda": ("driver", ["libcuda.so.1"], 100),  # CUDA_ERROR_NO_DEVICE
    "nvrtc": ("nvrtc", ["libnvrtc.so.13", "libnvrtc.so.12"], 7),  # BUILTIN_OPERATION_FAILURE
    "curand": ("curand", ["libcurand.so.10"], 203),  # INITIALIZATION_FAILED
    "cublas": ("cublas", ["libcublas.so.13", "libcublas.so.12"], 1),  # NOT_INITIALIZED
    "cublasLt": ("cublaslt", ["libcublasLt.so.13", "libcublasLt.so.12"], 1),  # NOT_INITIALIZED
    "cudnn": ("cudnn", ["libcudnn.so.9"], 1001),  # NOT_INITIALIZED
}


def declared_functions(cudarc, module):
    text = (cudarc / "src" / module / "sys" / "mod.rs").read_text()
    names = sorted(set(re.findall(r'extern "C" \{\s*fn (\w+)\(', text)))
    if not names:
        raise SystemExit(f"{cudarc}: no functions found in {module}/sys/mod.rs; this cudarc is laid out otherwise")
    return names


def make_archive(library, cudarc, out):
    module, file_names, code = LIBRARIES[library]
    names = declared_functions(cudarc, module)
    entries = out / f"{library}.entries"
    entries.write_text("".join(f"entry {name}\n" for name in names))
    defines = [
        f'-DENTRIES="{entries}"',
        f"-DFIND_FUNCTION=find_function_of_{library}",
        "-DFILE_NAMES=" + ",".join(f'"{name}"' for name in file_names),
        f"-DERROR_CODE={code}",
    ]
    objects = []
    for source in ("load_on_first_use.S", "load_on_first_use.c"):
        objects.append(out / f"{library}_{source[-1].lower()}.o")
        subprocess.check_call(["gcc", "-O2", "-fPIC", *defines, "-c", HERE / source, "-o", objects[-1]])
    archive = out / f"lib{library}.a"
    archive.unlink(missing_ok=True)
    subprocess.check_call(["ar", "rcs", archive, *objects])
    for part in [entries, *objects]:
        part.unlink()
    return len(names)


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    cudarc, out = map(pathlib.Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    for library in LIBRARIES:
        print(f"lib{library}.a: {make_archive(library, cudarc, out)} functions", file=sys.stderr)


if __name__ == "__main__":
    main()
