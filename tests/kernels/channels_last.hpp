// In: the kernels of maps whose channels lie side by side. Out: their comparison with f64 loops.
#pragma once

#include "checking.hpp"
#include "group_norm_last.cu"
#include "norms.hpp"

#define LAST_CALLS(T)                                                                                                  \
    inline void last_whole(T *y, const T *x, const float *w, const float *o, const T *b, const T *s,                   \
                           GroupNormLastSizes n) {                                                                     \
        CALL("group_norm_last", group_norm_last_whole_##T, y, x, w, o, b, s, n);                                       \
    }                                                                                                                  \
    inline void last_parts(float *m, const T *x, const T *b, const T *s, GroupNormLastSizes n) {                       \
        CALL("group_norm_last", group_norm_last_parts_##T, m, x, b, s, n);                                             \
    }                                                                                                                  \
    inline void last_apply(T *y, const T *x, const float *w, const float *o, const T *b, const T *s, const float *m,   \
                           GroupNormLastSizes n) {                                                                     \
        CALL("group_norm_last", group_norm_last_apply_##T, y, x, w, o, b, s, m, n);                                    \
    }
namespace call {
LAST_CALLS(f16)
LAST_CALLS(bf16)
LAST_CALLS(f32)
inline void besides(uint4 *y, const uint4 *a, const uint4 *b, BesideSizes n) { CALL("pointwise", beside, y, a, b, n); }
inline void enlarged(uint4 *y, const uint4 *x, EnlargeSizes n) { CALL("pointwise", enlarge, y, x, n); }
} // namespace call

struct LastCase {
    unsigned batch, rows, channels, groups;
    unsigned slice;     // channels of a block, as the launch of the program cuts them
    unsigned part_rows; // as many as there are: one block for all of them
    unsigned threads;
    bool silu, owed;
    float mean = 0;
    double reference_eps = 1e-5;
};

template <typename T> bool check_group_norm_last(const LastCase &c) {
    const size_t count = size_t(c.batch) * c.rows * c.channels;
    auto x = numbers<T>(count, 1, 1, c.mean), bias = numbers<T>(c.channels, 4);
    auto shift = numbers<T>(c.batch * c.channels, 5);
    auto weight = numbers<float>(c.channels, 2, 0.3f, 1), offset = numbers<float>(c.channels, 3, 0.3f);
    const unsigned of = c.channels / c.groups, parts = (c.rows + c.part_rows - 1) / c.part_rows;
    const unsigned slices = (c.channels + c.slice - 1) / c.slice, lanes = c.threads / (c.slice / Wide<T>::COUNT);
    GroupNormLastSizes sizes = {c.rows, c.channels, of, c.slice, parts, c.part_rows, c.channels, 1e-5f, c.silu};
    const size_t shared = 4 * (2 * size_t(lanes) * c.slice + 2 * (c.slice / of));
    const T *b = c.owed ? bias.data() : nullptr, *s = c.owed ? shift.data() : nullptr;
    std::string name = "group norm, channels last " + std::to_string(c.batch) + "x" + std::to_string(c.rows) + "x" +
                       std::to_string(c.channels) + " groups " + std::to_string(c.groups) + " parts " +
                       std::to_string(parts) + (c.silu ? " silu" : "") + (c.owed ? " owed" : "") + " mean " +
                       std::to_string(int(c.mean));
    auto found = in_two_orders<T>(name, count, [&](std::vector<T> &y, unsigned seed) {
        const dim3 grid = {parts, slices, c.batch};
        if (parts == 1) {
            emulation::launch(grid, c.threads, shared, seed, [&] {
                call::last_whole(y.data(), x.data(), weight.data(), offset.data(), b, s, sizes);
            });
            return;
        }
        std::vector<float> moments(2 * size_t(c.batch) * c.groups * parts, NAN);
        emulation::launch(grid, c.threads, shared, seed,
                          [&] { call::last_parts(moments.data(), x.data(), b, s, sizes); });
        emulation::launch(grid, c.threads, shared, seed, [&] {
            call::last_apply(y.data(), x.data(), weight.data(), offset.data(), b, s, moments.data(), sizes);
        });
    });
    std::vector<double> expected(count);
    for (unsigned entry = 0; entry < c.batch; entry++)
        for (unsigned group = 0; group < c.groups; group++) {
            auto over = [&](auto visit) {
                for (unsigned row = 0; row < c.rows; row++)
                    for (unsigned channel = group * of; channel < (group + 1) * of; channel++) {
                        const size_t at = (size_t(entry) * c.rows + row) * c.channels + channel;
                        double value = to_float(x[at]);
                        if (c.owed) value += to_float(bias[channel]) + to_float(shift[entry * c.channels + channel]);
                        visit(at, channel, value);
                    }
            };
            double mean = 0, square = 0;
            const double size = double(c.rows) * of;
            over([&](size_t, unsigned, double value) { mean += value / size; });
            over([&](size_t, unsigned, double value) { square += (value - mean) * (value - mean) / size; });
            over([&](size_t at, unsigned channel, double value) {
                double y = (value - mean) / std::sqrt(square + c.reference_eps) * weight[channel] + offset[channel];
                expected[at] = c.silu ? y / (1 + std::exp(-y)) : y;
            });
        }
    // A number near a large mean has few digits of its own.
    return compare(name, found, expected, 4e-6 + 4e-7 * std::fabs(c.mean), 1.01 * rounding<T>() + 4e-6);
}

template <typename T> bool check_beside(unsigned rows, unsigned left, unsigned right) {
    auto a = numbers<T>(size_t(rows) * left, 51), b = numbers<T>(size_t(rows) * right, 52);
    const unsigned step = Wide<T>::COUNT;
    BesideSizes sizes = {rows * (left + right) / step, left / step, right / step};
    std::string name = "beside " + std::to_string(rows) + "x" + std::to_string(left) + "+" + std::to_string(right);
    const auto *a_steps = reinterpret_cast<const uint4 *>(a.data()), *b_steps = reinterpret_cast<const uint4 *>(b.data());
    auto found = in_two_orders<T>(name, size_t(rows) * (left + right), [&](std::vector<T> &y, unsigned seed) {
        emulation::launch({(sizes.count + 63) / 64, 1, 1}, 64, 0, seed,
                          [&] { call::besides(reinterpret_cast<uint4 *>(y.data()), a_steps, b_steps, sizes); });
    });
    std::vector<double> expected;
    for (unsigned row = 0; row < rows; row++) {
        for (unsigned i = 0; i < left; i++) expected.push_back(to_float(a[size_t(row) * left + i]));
        for (unsigned i = 0; i < right; i++) expected.push_back(to_float(b[size_t(row) * right + i]));
    }
    return compare(name, found, expected, 1e-30, 0);
}

template <typename T> bool check_enlarge(unsigned batch, EnlargeSizes sizes) {
    const unsigned channels = sizes.steps * Wide<T>::COUNT;
    auto x = numbers<T>(size_t(batch) * sizes.height * sizes.width * channels, 61);
    sizes.count = batch * sizes.to_height * sizes.to_width * sizes.steps;
    std::string name = "enlarge " + std::to_string(batch) + "x" + std::to_string(sizes.height) + "x" +
                       std::to_string(sizes.width) + "x" + std::to_string(channels) + " to " +
                       std::to_string(sizes.to_height) + "x" + std::to_string(sizes.to_width);
    auto found = in_two_orders<T>(name, size_t(sizes.count) * Wide<T>::COUNT, [&](std::vector<T> &y, unsigned seed) {
        emulation::launch({(sizes.count + 63) / 64, 1, 1}, 64, 0, seed, [&] {
            call::enlarged(reinterpret_cast<uint4 *>(y.data()), reinterpret_cast<const uint4 *>(x.data()), sizes);
        });
    });
    std::vector<double> expected;
    for (unsigned entry = 0; entry < batch; entry++)
        for (unsigned row = 0; row < sizes.to_height; row++)
            for (unsigned column = 0; column < sizes.to_width; column++) {
                const unsigned y = unsigned(std::floor(double(row) * sizes.height / sizes.to_height));
                const unsigned z = unsigned(std::floor(double(column) * sizes.width / sizes.to_width));
                for (unsigned i = 0; i < channels; i++)
                    expected.push_back(
                        to_float(x[((size_t(entry) * sizes.height + y) * sizes.width + z) * channels + i]));
            }
    return compare(name, found, expected, 1e-30, 0);
}

template <typename T> void channels_last() {
    check_group_norm_last<T>({2, 9, 24, 3, 8, 9, 32, true, true});            // one block, a slice for each group
    check_group_norm_last<T>({1, 1, 8, 8, 8, 1, 32, false, false});           // groups of one number
    check_group_norm_last<T>({2, 100, 80, 8, 40, 100, 512, true, true});      // groups of ten channels, four a slice
    check_group_norm_last<T>({1, 64, 240, 4, 120, 64, 96, true, false});      // of sixty, two a slice
    check_group_norm_last<T>({1, 33, 40, 4, 40, 33, 64, true, true, 300});    // a large mean, threads to spare
    check_group_norm_last<T>({2, 103, 80, 8, 80, 50, 64, true, true});        // parts, the last one smaller
    check_group_norm_last<T>({1, 64, 64, 32, 64, 16, 64, false, false});      // parts, all full
    check_group_norm_last<T>({1, 200, 96, 4, 72, 7, 64, true, false});        // more rows at once than a part has
    check_group_norm_last<T>({1, 410, 24, 3, 16, 4, 32, true, true, 1000});   // the last slice smaller, a large mean
    check_beside<T>(3, 16, 24);
    check_beside<T>(130, 8, 8);
    check_enlarge<T>(2, {0, 1, 3, 4, 6, 8});
    check_enlarge<T>(1, {0, 3, 4, 3, 7, 5});                                  // to odd sizes
}
