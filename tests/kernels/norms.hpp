// In: the norms, gates and finishing kernels. Out: their comparison with f64 loops.
#pragma once

#include "checking.hpp"
#include "group_norm.cu"
#include "pointwise.cu"
#include "row_norm.cu"

#define CALLS(T)                                                                               \
    inline void whole(T *y, const T *x, const float *w, const float *o, const T *b, const T *s,\
                      GroupNormSizes n) { CALL("group_norm", group_norm_whole_##T, y, x, w, o, b, s, n); }\
    inline void any(T *y, const T *x, const float *w, const float *o, const T *b, const T *s,  \
                    GroupNormSizes n) { CALL("group_norm", group_norm_any_##T, y, x, w, o, b, s, n); }\
    inline void parts(float *m, const T *x, const T *b, const T *s, GroupNormSizes n) {        \
        CALL("group_norm", group_norm_parts_##T, m, x, b, s, n);                               \
    }                                                                                          \
    inline void apply(T *y, const T *x, const float *w, const float *o, const T *b, const T *s,\
                      const float *m, GroupNormSizes n) {                                      \
        CALL("group_norm", group_norm_apply_##T, y, x, w, o, b, s, m, n);                      \
    }                                                                                          \
    inline void layer(T *y, const T *x, const float *w, const float *b, RowNormSizes n) {      \
        CALL("row_norm", layer_norm_##T, y, x, w, b, n);                                       \
    }                                                                                          \
    inline void rms(T *y, const T *x, const T *w, RowNormSizes n) { CALL("row_norm", rms_norm_##T, y, x, w, n); }\
    inline void finished(T *y, const T *x, const T *b, const T *s, const T *c, FinishSizes n) {\
        CALL("pointwise", finish_##T, y, x, b, s, c, n);                                       \
    }                                                                                          \
    inline void gated(T *y, const T *x, const T *b, GateSizes n) { CALL("pointwise", geglu_##T, y, x, b, n); }\
    inline void curved(T *y, const T *x, CurveSizes n) { CALL("pointwise", curve_##T, y, x, n); }\
    inline void turned(T *y, const T *x, const T *b, const T *c, TransposeSizes n) {                \
        CALL("pointwise", turn_##T, y, x, b, c, n);                                            \
    }
namespace call {
CALLS(f16)
CALLS(bf16)
CALLS(f32)
} // namespace call

enum class Way { Whole, Parts, Any };

struct GroupNormCase {
    unsigned batch, channels, groups, inner;
    Way way;
    unsigned threads;  // of a block; it fixes how much a part holds
    bool silu, owed;
    float mean = 0;
    double eps = 1e-5;
    double reference_eps = 1e-5;
};

template <typename T> bool check_group_norm(const GroupNormCase &c) {
    size_t count = size_t(c.batch) * c.channels * c.inner;
    auto x = numbers<T>(count, 1, 1, c.mean), bias = numbers<T>(c.channels, 4);
    auto shift = numbers<T>(c.batch * c.channels, 5);
    auto weight = numbers<float>(c.channels, 2, 0.3f, 1), offset = numbers<float>(c.channels, 3, 0.3f);
    unsigned size = c.channels / c.groups * c.inner, most = c.threads * KEPT;
    unsigned cut = (size + most - 1) / most, rows = c.batch * c.groups;
    GroupNormSizes sizes = {size, c.inner, c.channels / c.groups, c.groups, cut, c.channels, float(c.eps), c.silu};
    const T *b = c.owed ? bias.data() : nullptr, *s = c.owed ? shift.data() : nullptr;
    std::string name = "group norm " + std::to_string(c.batch) + "x" + std::to_string(c.channels) + "x" +
                       std::to_string(c.inner) + " groups " + std::to_string(c.groups) +
                       (c.way == Way::Parts ? " parts " + std::to_string(cut) : c.way == Way::Any ? " any" : "") +
                       (c.silu ? " silu" : "") + (c.owed ? " owed" : "") + " mean " + std::to_string(int(c.mean));
    auto found = in_two_orders<T>(name, count, [&](std::vector<T> &y, unsigned seed) {
        if (c.way == Way::Parts) {
            std::vector<float> moments(2 * size_t(rows) * cut, NAN);
            emulation::launch({cut, rows, 1}, c.threads, 0, seed,
                              [&] { call::parts(moments.data(), x.data(), b, s, sizes); });
            emulation::launch({cut, rows, 1}, c.threads, 0, seed, [&] {
                call::apply(y.data(), x.data(), weight.data(), offset.data(), b, s, moments.data(), sizes);
            });
        } else {
            emulation::launch({1, rows, 1}, c.threads, 0, seed, [&] {
                if (c.way == Way::Any) {
                    call::any(y.data(), x.data(), weight.data(), offset.data(), b, s, sizes);
                } else {
                    call::whole(y.data(), x.data(), weight.data(), offset.data(), b, s, sizes);
                }
            });
        }
    });
    std::vector<double> expected(count);
    for (unsigned row = 0; row < rows; row++) {
        auto value = [&](unsigned at) {
            unsigned channel = row % c.groups * sizes.channels_of_group + at / c.inner;
            double sum = to_float(x[size_t(row) * size + at]);
            return c.owed ? sum + to_float(bias[channel]) + to_float(shift[row / c.groups * c.channels + channel])
                          : sum;
        };
        double mean = 0, square = 0;
        for (unsigned at = 0; at < size; at++) mean += value(at) / size;
        for (unsigned at = 0; at < size; at++) square += (value(at) - mean) * (value(at) - mean) / size;
        for (unsigned at = 0; at < size; at++) {
            unsigned channel = row % c.groups * sizes.channels_of_group + at / c.inner;
            double y = (value(at) - mean) / std::sqrt(square + c.reference_eps);
            y = y * weight[channel] + offset[channel];
            expected[size_t(row) * size + at] = c.silu ? y / (1 + std::exp(-y)) : y;
        }
    }
    // A number near a large mean has few digits of its own.
    double bound = 4e-6 + 4e-7 * std::fabs(c.mean);
    return compare(name, found, expected, bound, 1.01 * rounding<T>() + 4e-6);
}

template <typename T> bool check_row_norm(unsigned rows, unsigned width, bool rms, float mean, bool wrong = false) {
    auto x = numbers<T>(size_t(rows) * width, 11, 1, mean);
    auto weight = numbers<float>(width, 12, 0.3f, 1), bias = numbers<float>(width, 13, 0.3f);
    auto own = numbers<T>(width, 12, 0.3f, 1);
    RowNormSizes sizes = {rows, width, 1e-5f, width % Wide<T>::COUNT == 0};
    std::string name = std::string(rms ? "rms" : "layer") + " norm " + std::to_string(rows) + "x" +
                       std::to_string(width) + " mean " + std::to_string(int(mean));
    auto found = in_two_orders<T>(name, x.size(), [&](std::vector<T> &y, unsigned seed) {
        emulation::launch({(rows + 3) / 4, 1, 1}, 128, 0, seed, [&] {
            rms ? call::rms(y.data(), x.data(), own.data(), sizes)
                : call::layer(y.data(), x.data(), weight.data(), bias.data(), sizes);
        });
    });
    std::vector<double> expected(x.size());
    for (unsigned row = 0; row < rows; row++) {
        const T *in = x.data() + size_t(row) * width;
        double middle = 0, square = 0;
        for (unsigned i = 0; i < width && !rms; i++) middle += to_float(in[i]) / double(width);
        for (unsigned i = 0; i < width; i++) square += std::pow(to_float(in[i]) - middle, 2) / width;
        double scale = 1 / std::sqrt(square + (wrong ? 1e-2 : 1e-5));
        for (unsigned i = 0; i < width; i++) {
            double y = (to_float(in[i]) - middle) * scale;
            expected[size_t(row) * width + i] = rms ? y * to_float(own[i]) : y * weight[i] + bias[i];
        }
    }
    // RMS norm rounds twice.
    return compare(name, found, expected, 4e-6 + 4e-7 * std::fabs(mean), (rms ? 2.1 : 1.01) * rounding<T>() + 4e-6);
}

template <typename T>
bool check_finish(unsigned entries, unsigned channels, unsigned inner, bool bias, bool shift, bool shortcut,
                  unsigned rows = 1) {
    size_t count = size_t(entries) * rows * channels * inner;
    auto x = numbers<T>(count, 21), b = numbers<T>(channels, 22), s = numbers<T>(entries * channels, 23),
         c = numbers<T>(count, 24);
    unsigned wide = inner % Wide<T>::COUNT == 0 ? 1 : inner == 1 && channels % Wide<T>::COUNT == 0 ? 2 : 0;
    FinishSizes sizes = {unsigned(count), channels, inner, rows, channels, wide};
    std::string name = "finish " + std::to_string(entries) + "x" + std::to_string(rows) + "x" +
                       std::to_string(channels) + "x" + std::to_string(inner) + (bias ? " bias" : "") + (shift ? " shift" : "") +
                       (shortcut ? " shortcut" : "");
    unsigned threads = 64, steps = unsigned(count) / (wide ? Wide<T>::COUNT : 1);
    auto found = in_two_orders<T>(name, count, [&](std::vector<T> &y, unsigned seed) {
        emulation::launch({(steps + threads - 1) / threads, 1, 1}, threads, 0, seed, [&] {
            call::finished(y.data(), x.data(), bias ? b.data() : nullptr, shift ? s.data() : nullptr,
                           shortcut ? c.data() : nullptr, sizes);
        });
    });
    std::vector<double> expected(count);
    for (size_t i = 0; i < count; i++) {
        size_t channel = i / inner % channels, entry = i / inner / channels / rows;
        expected[i] = to_float(x[i]) + (bias ? to_float(b[channel]) : 0.0) +
                      (shift ? to_float(s[entry * channels + channel]) : 0.0) + (shortcut ? to_float(c[i]) : 0.0);
    }
    return compare(name, found, expected, 5e-7, 1.01 * rounding<T>());
}

template <typename T> bool check_geglu(unsigned rows, unsigned inner, bool bias, bool tanh_form = false) {
    auto x = numbers<T>(size_t(rows) * 2 * inner, 31, 2), b = numbers<T>(2 * inner, 32);
    GateSizes sizes = {rows * inner, inner, inner % Wide<T>::COUNT == 0};
    std::string name = "geglu " + std::to_string(rows) + "x" + std::to_string(inner) + (bias ? " bias" : "");
    unsigned threads = 64, steps = rows * inner / (sizes.wide ? Wide<T>::COUNT : 1);
    auto found = in_two_orders<T>(name, size_t(rows) * inner, [&](std::vector<T> &y, unsigned seed) {
        emulation::launch({(steps + threads - 1) / threads, 1, 1}, threads, 0, seed,
                          [&] { call::gated(y.data(), x.data(), bias ? b.data() : nullptr, sizes); });
    });
    std::vector<double> expected(size_t(rows) * inner);
    for (unsigned row = 0; row < rows; row++) {
        for (unsigned i = 0; i < inner; i++) {
            size_t at = size_t(row) * 2 * inner + i;
            double plain = to_float(x[at]) + (bias ? to_float(b[i]) : 0.0);
            double g = to_float(x[at + inner]) + (bias ? to_float(b[inner + i]) : 0.0);
            double gelu = tanh_form
                              ? g / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g)))
                              : g / 2 * (1 + std::erf(g / std::sqrt(2)));
            expected[size_t(row) * inner + i] = plain * gelu;
        }
    }
    return compare(name, found, expected, 2e-6, 1.01 * rounding<T>());
}

template <typename T> bool check_curve(unsigned count, unsigned curve, unsigned other) {
    auto x = numbers<T>(count, 71, 3);
    if (count > 2) x[0] = from_float<T>(-60000), x[1] = from_float<T>(200), x[2] = from_float<T>(0);
    CurveSizes sizes = {count, curve, count % Wide<T>::COUNT == 0};
    const char *names[] = {"quick GELU", "GELU", "GELU's tanh form", "SiLU", "squared ReLU"};
    std::string name = std::string(names[curve]) + " " + std::to_string(count);
    unsigned threads = 64, steps = count / (sizes.wide ? Wide<T>::COUNT : 1);
    auto found = in_two_orders<T>(name, count, [&](std::vector<T> &y, unsigned seed) {
        emulation::launch({(steps + threads - 1) / threads, 1, 1}, threads, 0, seed,
                          [&] { call::curved(y.data(), x.data(), sizes); });
    });
    std::vector<double> expected(count);
    for (unsigned i = 0; i < count; i++) {
        double v = to_float(x[i]), large = std::fmax(v, 0);
        double curves[] = {v / (1 + std::exp(-1.702 * v)), v / 2 * (1 + std::erf(v / std::sqrt(2))),
                           v / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v))),
                           v / (1 + std::exp(-v)), large * large};
        expected[i] = curves[other];
    }
    return compare(name, found, expected, 2e-6, 1.01 * rounding<T>() + 4e-7);
}

template <typename T> bool check_turn(unsigned batch, unsigned rows, unsigned columns, bool more) {
    auto x = numbers<T>(size_t(batch) * rows * columns, 41), c = numbers<T>(x.size(), 42);
    auto b = numbers<T>(columns, 43);
    std::string name = "turn " + std::to_string(batch) + "x" + std::to_string(rows) + "x" + std::to_string(columns) +
                       (more ? " bias shortcut" : "");
    auto found = in_two_orders<T>(name, x.size(), [&](std::vector<T> &y, unsigned seed) {
        emulation::launch({(columns + 31) / 32, (rows + 31) / 32, batch}, 256, 0, seed, [&] {
            call::turned(y.data(), x.data(), more ? b.data() : nullptr, more ? c.data() : nullptr, {rows, columns});
        });
    });
    std::vector<double> expected(x.size());
    for (unsigned e = 0; e < batch; e++)
        for (unsigned row = 0; row < rows; row++)
            for (unsigned column = 0; column < columns; column++) {
                size_t at = (size_t(e) * columns + column) * rows + row;
                expected[at] = to_float(x[(size_t(e) * rows + row) * columns + column]) +
                               (more ? double(to_float(b[column])) + to_float(c[at]) : 0.0);
            }
    return compare(name, found, expected, 5e-7, 1.01 * rounding<T>());
}
