#!/usr/bin/env bash
# rustc and cargo 1.95.0: a dependency that is built at opt-level 0 makes the crate above it slower, although that one has its
# own level 1 and calls nothing of it in its hot loop.
#
# Seen: `(0..n).rev()` is used in both. With the dependency at level 0 the program holds a function
# `Range::spec_next_back` out of line, which the upper crate's loop calls at every step: 744 ms. With the dependency at level 1
# or 3 there is no such function: 187 and 113 ms. At levels 0, 1 and s rustc lets crates share the copies of generic functions
# that those below have made, and a crate at level 0 makes one of every inline function too.
#
# A guess would be that the level of a package in [profile.dev.package] concerns that package alone.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/src" "$work/below/src"
cd "$work"
rustc --version
manifest() { printf '[package]\nname = "%s"\nversion = "0.1.0"\nedition = "2024"\n' "$1"; }
manifest below >below/Cargo.toml
cat >below/src/lib.rs <<'RUST'
pub fn count(n: usize) -> usize {
    let mut sum = 0;
    for i in (0..n).rev() {
        sum += i;
    }
    sum
}
RUST
cat >src/main.rs <<'RUST'
#[inline(never)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sum = 0.0;
    for i in (0..a.len()).rev() {
        sum += a[i] * b[i];
    }
    sum
}

fn main() {
    let a = vec![1.0f32; 1 << 20];
    let start = std::time::Instant::now();
    let sum: f32 = (0..50).map(|_| dot(&a, std::hint::black_box(&a))).sum();
    println!("{} ms (sum {sum}, {})", start.elapsed().as_millis(), below::count(std::hint::black_box(3)));
}
RUST
for level in 0 1 3; do
    manifest above >Cargo.toml
    printf '[dependencies]\nbelow = { path = "below" }\n[profile.dev]\nopt-level = 1\n[profile.dev.package.below]\nopt-level = %s\n' \
        "$level" >>Cargo.toml
    CARGO_TARGET_DIR="$work/target$level" cargo build --quiet
    echo "dependency at level $level: $("$work/target$level/debug/above")"
    shared="$(nm "$work/target$level/debug/above" | grep -c spec_next_back || true)"
    case "$level:$shared" in
        0:[1-9]* | [13]:0) ;;
        *) echo "changed: at level $level the program has $shared functions spec_next_back" >&2; exit 1 ;;
    esac
done
echo "as found"
