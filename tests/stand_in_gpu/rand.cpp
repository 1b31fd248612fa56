// In: the calls of cuRAND that the program makes, on the stand-in driver's memory. Out: libcurand.so.10, which checks
// each against the real library's rules and fills the memory with uniform or normal numbers. A seed gives the same
// numbers everywhere and always, but not NVIDIA's: they are a hash (the finaliser of SplitMix64) of seed and place.
#include <cmath>

#include "product.hpp"

using namespace stand_in;

namespace {

enum Status { SUCCESS = 0, NOT_INITIALIZED = 101, TYPE_ERROR = 103, OUT_OF_RANGE = 104, LENGTH_NOT_MULTIPLE = 105 };
enum Kind { PSEUDO_DEFAULT = 100, PSEUDO_XORWOW = 101, PSEUDO_PHILOX = 161 };

struct Generator {
    bool has_stream = false;
    uint64_t seed = 0, place = 0;
};
Live<Generator> generators;

uint64_t mixed(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

/// The number of one place, in (0, 1], in steps of 2^-53.
double uniform(const Generator &g, uint64_t place) {
    uint64_t drawn = mixed(mixed(g.seed + 0x9e3779b97f4a7c15) + (place + 1) * 0x9e3779b97f4a7c15);
    return double((drawn >> 11) + 1) * 0x1p-53;
}

/// Checks a call that fills `count` numbers, then lets `number` make each from its place.
template <class T, class Number>
int fill(const char *name, Generator *g, T *to, size_t count, bool pairs, const Number &number) {
    if (!generators.holds(g)) return refuse(NOT_INITIALIZED, "%s got no generator that lives", name);
    if (!g->has_stream) return refuse(NOT_INITIALIZED, "%s was called before curandSetStream", name);
    if (pairs && count % 2) return refuse(LENGTH_NOT_MULTIPLE, "%s makes numbers in pairs, not %zu", name, count);
    if (count && (!to || uintptr_t(to) % sizeof(T)))
        return refuse(OUT_OF_RANGE, "%s: %p is no place for its numbers", name, static_cast<void *>(to));
    Span{to, count * sizeof(T)}.touch(name, true);
    stand_in_count(name, 0);
    for (size_t i = 0; stand_in_computes() && i < count; i++) to[i] = T(number(g->place + i));
    g->place += count;
    return SUCCESS;
}

template <class T> int fill_uniform(const char *name, Generator *g, T *to, size_t count) {
    return fill(name, g, to, count, false, [&](uint64_t place) {
        // In f32 the smallest of them must not become 0, and none passes 1.
        return sizeof(T) == 4 ? std::ceil(uniform(*g, place) * 0x1p24) * 0x1p-24 : uniform(*g, place);
    });
}

template <class T> int fill_normal(const char *name, Generator *g, T *to, size_t count, T mean, T deviation) {
    if (!(deviation >= 0)) return refuse(OUT_OF_RANGE, "%s: a standard deviation of %g", name, double(deviation));
    return fill(name, g, to, count, true, [&](uint64_t place) {
        // Two numbers from two places, as Box and Muller have it.
        double radius = std::sqrt(-2 * std::log(uniform(*g, place & ~1ull)));
        double angle = 2 * M_PI * uniform(*g, place | 1);
        return mean + deviation * radius * (place % 2 ? std::sin(angle) : std::cos(angle));
    });
}

} // namespace

extern "C" {

int curandCreateGenerator(Generator **made, int kind) {
    if (kind != PSEUDO_DEFAULT && kind != PSEUDO_XORWOW && kind != PSEUDO_PHILOX)
        return refuse(TYPE_ERROR, "curandCreateGenerator: generator %d is not here", kind);
    if (!made) return refuse(NOT_INITIALIZED, "curandCreateGenerator has nowhere to put the generator");
    *made = generators.make();
    return SUCCESS;
}

int curandDestroyGenerator(Generator *g) {
    return generators.end(g) ? int(SUCCESS) : refuse(NOT_INITIALIZED, "curandDestroyGenerator got none that lives");
}

int curandSetStream(Generator *g, void *) {
    if (!generators.holds(g)) return refuse(NOT_INITIALIZED, "curandSetStream got no generator that lives");
    g->has_stream = true;
    return SUCCESS;
}

int curandSetPseudoRandomGeneratorSeed(Generator *g, unsigned long long seed) {
    if (!generators.holds(g)) return refuse(NOT_INITIALIZED, "curandSetPseudoRandomGeneratorSeed got none that lives");
    g->seed = seed, g->place = 0;
    return SUCCESS;
}

int curandSetGeneratorOffset(Generator *g, unsigned long long offset) {
    if (!generators.holds(g)) return refuse(NOT_INITIALIZED, "curandSetGeneratorOffset got no generator that lives");
    g->place = offset;
    return SUCCESS;
}

int curandGenerateUniform(Generator *g, float *to, size_t count) {
    return fill_uniform("curandGenerateUniform", g, to, count);
}

int curandGenerateUniformDouble(Generator *g, double *to, size_t count) {
    return fill_uniform("curandGenerateUniformDouble", g, to, count);
}

int curandGenerateNormal(Generator *g, float *to, size_t count, float mean, float deviation) {
    return fill_normal("curandGenerateNormal", g, to, count, mean, deviation);
}

int curandGenerateNormalDouble(Generator *g, double *to, size_t count, double mean, double deviation) {
    return fill_normal("curandGenerateNormalDouble", g, to, count, mean, deviation);
}

} // extern "C"
