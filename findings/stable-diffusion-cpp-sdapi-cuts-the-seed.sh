#!/usr/bin/env bash
# stable-diffusion.cpp's server, as it comes with stable-diffusion-cpp-python 0.4.7. Its own API reads a seed with all 64 bits; its
# `/sdapi/v1/txt2img`, in the form of AUTOMATIC1111's web UI, reads the same field with `j.value("seed", -1)`. The type of the
# default decides there (nlohmann::json), so the number goes through a C int: seed 2^32 + 1 is seed 1, and 2^31 or 2^63 - 1 are
# negative, which the server takes for "random". It answers 200, and `parameters` repeats the seed that was sent. So a client that
# sends 32 or 64 bits gets another image each time for half of its seeds, from a server that repeats all of them over its own API.
#
# The two pieces that read a seed are cut out of the server's sources as they stand, and compiled with its own json.hpp.
# dpg-bench sends 31 bits to this API and 63 to the other (docs/measurements/image-servers.md, where the server itself was run).
# Exit 0: it is still so. Exit 1: it changed. Two minutes, most of them pip; needs g++ with C++17.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
# The package is taken apart, not built.
venv/bin/pip download -q --no-deps --no-binary stable-diffusion-cpp-python -d sdist stable-diffusion-cpp-python==0.4.7
tar xzf sdist/*.tar.gz
cd stable_diffusion_cpp_python-0.4.7/vendor/stable-diffusion.cpp
{
    echo '#include "thirdparty/json.hpp"'
    echo '#include <cstdio>'
    echo '#include <string>'
    echo '#include <type_traits>'
    echo 'using json = nlohmann::json;'
    echo 'int64_t sdapi(const json& j) {'
    grep -m1 'int64_t seed *= j.value("seed"' examples/server/routes_sdapi.cpp
    echo 'return seed; }'
    echo 'int64_t sdcpp(const json& j) { int64_t seed = 42;'
    sed -n '/auto load_if_exists = \[&\](const char\* key, auto& out) {/,/^    };/p;/^    load_if_exists("seed", seed);/p' \
        examples/common/common.cpp
    echo 'return seed; }'
    cat <<'CPP'
int main() {
    bool as_found = true;
    struct { const char* sent; long long sdapi; long long sdcpp; } rows[] = {
        {"{\"seed\": 1}", 1, 1},
        {"{\"seed\": 2147483647}", 2147483647, 2147483647},
        {"{\"seed\": 2147483648}", -2147483648LL, 2147483648LL},
        {"{\"seed\": 4294967297}", 1, 4294967297LL},
        {"{\"seed\": 9223372036854775807}", -1, 9223372036854775807LL},
        {"{}", -1, 42},
    };
    for (auto& row : rows) {
        const json j = json::parse(row.sent);
        const long long a = sdapi(j), b = sdcpp(j);
        std::printf("%-30s sdapi reads %lld%s, its own API %lld\n", row.sent, a, a < 0 ? " (random)" : "", b);
        as_found = as_found && a == row.sdapi && b == row.sdcpp;
    }
    return as_found ? 0 : 1;
}
CPP
} >seed.cpp
grep -q 'if (seed < 0) {' examples/common/common.cpp
g++ -std=c++17 -I. seed.cpp -o seed
./seed || { echo "changed: see above" && exit 1; }
echo "as found"
