// In: results of kernels and what they should be, in f64. Out: a line for each comparison, and whether
// all held. What the kernels compute is left to the files beside this one.
#pragma once

#include <algorithm>
#include <string>

#include "emulation.hpp"
#ifdef OF_PTX
#include "ptx_call.hpp"
#else
// Runs one thread of a kernel; the file is that of its PTX, which is not asked for here.
#define CALL(file, kernel, ...) kernel(__VA_ARGS__)
#endif

template <typename T> const char *format_name();
template <> inline const char *format_name<f16>() { return "f16"; }
template <> inline const char *format_name<bf16>() { return "bf16"; }
template <> inline const char *format_name<float>() { return "f32"; }

// Half of the distance from 1 to the next number.
template <typename T> double rounding();
template <> inline double rounding<f16>() { return 0x1p-11; }
template <> inline double rounding<bf16>() { return 0x1p-8; }
template <> inline double rounding<float>() { return 0x1p-24; }

// Numbers that look random, always the same, each a number of the format.
template <typename T> std::vector<T> numbers(size_t count, unsigned seed, float spread = 1, float mean = 0) {
    std::vector<T> result(count);
    uint64_t state = seed * 0x9e3779b97f4a7c15ull + 1;
    for (T &x : result) {
        // The sum of four is nearly normal, of deviation 1 after the factor.
        float sum = 0;
        for (int i = 0; i < 4; i++) {
            state = state * 6364136223846793005ull + 1442695040888963407ull;
            sum += float(state >> 40) / float(1 << 24) - 0.5f;
        }
        x = from_float<T>(mean + spread * 1.7320508f * sum);
    }
    return result;
}

inline int failures = 0, comparisons = 0;
inline bool quiet = false;

// The worst error in units of `bound`, itself absolute; a NaN that is not expected is infinitely wrong.
template <typename T>
bool compare(const std::string &name, const std::vector<T> &found, const std::vector<double> &expected,
             double bound, double relative) {
    double worst = found.size() == expected.size() ? 0 : INFINITY;
    for (size_t i = 0; i < std::min(found.size(), expected.size()); i++) {
        double error = std::fabs(to_float(found[i]) - expected[i]);
        double allowed = bound + relative * std::fabs(expected[i]);
        if (!(error / allowed <= worst)) worst = std::isnan(error) ? INFINITY : std::max(worst, error / allowed);
    }
    bool fine = worst <= 1;
    comparisons++;
    failures += !fine;
    if (!fine || !quiet) {
        printf("%-6s %-4s %-62s %.3f of what is allowed\n", fine ? "ok" : "WRONG", format_name<T>(),
               name.c_str(), worst);
    }
    return fine;
}

template <typename T> bool same_bits(const std::vector<T> &a, const std::vector<T> &b) {
    return a.size() == b.size() && memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// Runs a launch with the threads taking turns in two orders; the results must be the same to the bit.
// `run` gets the seed of the order. A result begins as NaN, so that a number never written shows.
template <typename T, typename F> std::vector<T> in_two_orders(const std::string &name, size_t count, F run) {
    std::vector<T> first(count, from_float<T>(NAN)), second = first;
    run(first, 0u);
    run(second, 77u);
    comparisons++;
    if (!same_bits(first, second)) {
        failures++;
        printf("WRONG  %-4s %s: the order of the threads shows\n", format_name<T>(), name.c_str());
    }
    return first;
}
