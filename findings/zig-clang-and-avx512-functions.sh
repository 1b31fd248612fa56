#!/usr/bin/env bash
# ziglang 0.14.1, 0.15.2 and 0.17.1 from PyPI, x86-64. A C function that asks for AVX-512 by itself, with
# `__attribute__((target("avx512f")))`, as libraries do that choose at run time (libdeflate 1.25), is refused by `zig cc -target
# x86_64-linux-gnu` up to 0.15.2: "requires target feature 'evex512'", a feature that was there in clang 18 to 20 alone. gcc 12
# takes the file as it is; with -mevex512 zig does too. From clang 22 (0.17.1) on the file is taken, and -mevex512 is
# refused as an unknown option: no flag is right for all. For the processor of the machine itself (`-target native`) nothing is refused.
# Who builds manylinux wheels with zig (maturin, cargo-zigbuild) meets it in any crate that compiles such a library.
# Exit 0: it is still so. Exit 1: it changed. Some 2 minutes, most of them installation.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export ZIG_GLOBAL_CACHE_DIR="$folder/cache" ZIG_LOCAL_CACHE_DIR="$folder/cache"
cat >"$folder/wide.c" <<'C'
#include <immintrin.h>
__attribute__((target("avx512f"))) int first(const int *numbers) {
    return _mm_cvtsi128_si32(_mm512_castsi512_si128(_mm512_loadu_si512((const void *)numbers)));
}
C
seen=""
for version in 0.14.1 0.15.2 0.17.1; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" --quiet --disable-pip-version-check install "ziglang==$version"
    zig=("$folder/$version/bin/python" -m ziglang)
    clang=$("${zig[@]}" cc --version | sed 's/ (.*//;q')
    for flag in "" -mevex512; do
        said=taken
        # shellcheck disable=SC2086
        "${zig[@]}" cc -target x86_64-linux-gnu.2.28 -O2 $flag -c "$folder/wide.c" -o "$folder/wide.o" 2>"$folder/said" || said=refused
        echo "zig $version ($clang) ${flag:-without a flag}: $said $(sed -n 's/.*error: //p' "$folder/said" | head -n 1 | cut -c 1-90)"
        seen="$seen $said"
    done
done
[ "$seen" = " refused taken refused taken taken refused" ] || { echo "it changed:$seen"; exit 1; }
echo "as found"
