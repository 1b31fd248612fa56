// In: the attention kernels, one namespace for each head size. Out: their comparison with f64 loops.
#pragma once

#include "attention_sizes.cuh"
#include "checking.hpp"
#include "device.cuh"

#define HEAD 40
namespace head_40 {
#include "attention.cu"
enum { HEAD_SIZE = HEAD, SLICE_COUNT = SLICES, TILES = M_TILES, TILE_KEYS = KEYS, ROW = STRIDE };
}
#include "undefine_attention.hpp"
#define HEAD 64
namespace head_64 {
#include "attention.cu"
enum { HEAD_SIZE = HEAD, SLICE_COUNT = SLICES, TILES = M_TILES, TILE_KEYS = KEYS, ROW = STRIDE };
}
#include "undefine_attention.hpp"
#define HEAD 80
namespace head_80 {
#include "attention.cu"
enum { HEAD_SIZE = HEAD, SLICE_COUNT = SLICES, TILES = M_TILES, TILE_KEYS = KEYS, ROW = STRIDE };
}
#include "undefine_attention.hpp"
#define HEAD 128
namespace head_128 {
#include "attention.cu"
enum { HEAD_SIZE = HEAD, SLICE_COUNT = SLICES, TILES = M_TILES, TILE_KEYS = KEYS, ROW = STRIDE };
}
#include "undefine_attention.hpp"
#define HEAD 160
namespace head_160 {
#include "attention.cu"
enum { HEAD_SIZE = HEAD, SLICE_COUNT = SLICES, TILES = M_TILES, TILE_KEYS = KEYS, ROW = STRIDE };
}
#include "undefine_attention.hpp"
#define HEAD 512
namespace head_512 {
#include "attention.cu"
enum { HEAD_SIZE = HEAD, SLICE_COUNT = SLICES, TILES = M_TILES, TILE_KEYS = KEYS, ROW = STRIDE };
}
#include "undefine_attention.hpp"
namespace in_f32 {
#include "attention_f32.cu"
enum { STATIC_FLOATS = 2 * DEPTH * STRIDE + ROWS * (KEYS + 1), VALUE_ROWS = STEP };
}
#include "undefine_attention.hpp"

// How a kernel is launched: queries of a block, threads, bytes of shared memory.
struct Shape {
    unsigned queries, threads, shared;
};

#define HALF_HEAD(SIZE, T)                                                                         \
    if (tier == SIZE) {                                                                            \
        using namespace head_##SIZE;                                                               \
        unsigned queries = 64 * (bias ? 1 : TILES);                                                \
        shape = {queries, 128 * SLICE_COUNT, (queries + 2 * TILE_KEYS) * ROW * 2};                 \
        run = [=] {                                                                                \
            if (bias) CALL("attention_" #SIZE, attention_with_bias_##T, r, q, k, v, bias, sizes);  \
            else CALL("attention_" #SIZE, attention_##T, r, q, k, v, bias, sizes);                 \
        };                                                                                         \
    }
#define HALF_HEADS(T)                                                                              \
    inline Shape prepare(unsigned tier, T *r, const T *q, const T *k, const T *v, const float *bias, \
                         AttentionSizes sizes, std::function<void()> &run) {              \
        Shape shape = {0, 0, 0};                                                                   \
        HALF_HEAD(40, T) HALF_HEAD(64, T) HALF_HEAD(80, T) HALF_HEAD(128, T) HALF_HEAD(160, T)     \
        HALF_HEAD(512, T)                                                                          \
        return shape;                                                                              \
    }
HALF_HEADS(f16)
HALF_HEADS(bf16)

inline Shape prepare(unsigned tier, float *r, const float *q, const float *k, const float *v, const float *bias,
                     AttentionSizes sizes, std::function<void()> &run) {
    using namespace in_f32;
    unsigned columns = tier <= 64 ? 4 : tier <= 80 ? 5 : tier <= 160 ? 10 : 32;
    run = [=] {
        if (columns == 4) CALL("attention_f32", attention_4_f32, r, q, k, v, bias, sizes);
        if (columns == 5) CALL("attention_f32", attention_5_f32, r, q, k, v, bias, sizes);
        if (columns == 10) CALL("attention_f32", attention_10_f32, r, q, k, v, bias, sizes);
        if (columns == 32) CALL("attention_f32", attention_32_f32, r, q, k, v, bias, sizes);
    };
    return {64, 256, (STATIC_FLOATS + VALUE_ROWS * 16 * columns) * 4};
}

enum class BiasKind { None, Full, PerHead, KeyMask };

struct AttentionCase {
    unsigned tier, head, batch, heads, queries, keys;
    bool causal = false;
    BiasKind bias = BiasKind::None;
    bool packed = false;        // queries, keys and values are thirds of one matrix
    float reference_scale = 1;  // for the sabotage of the reference
    float spread = 1;           // of queries and keys
};

template <typename T> bool check_attention(const AttentionCase &c) {
    unsigned width = c.head * c.heads, stride = c.packed ? 3 * width : width;
    auto q = numbers<T>(size_t(c.batch) * c.queries * stride, 51, c.spread);
    auto k = c.packed ? q : numbers<T>(size_t(c.batch) * c.keys * width, 52, c.spread);
    auto v = c.packed ? q : numbers<T>(size_t(c.batch) * c.keys * width, 53);
    const T *query = q.data(), *key = c.packed ? q.data() + width : k.data(),
            *value = c.packed ? q.data() + 2 * width : v.data();
    // Full: one for each score. PerHead: the same for all entries. KeyMask: hides keys, the first tile's too.
    bool full = c.bias == BiasKind::Full, mask = c.bias == BiasKind::KeyMask;
    size_t plane = size_t(c.queries) * c.keys;
    size_t count = full ? c.batch * c.heads * plane : mask ? size_t(c.batch) * c.keys : c.heads * plane;
    auto bias = numbers<float>(c.bias == BiasKind::None ? 0 : count, 54, 2);
    for (size_t i = 0; mask && i < count; i++) bias[i] = i % c.keys < c.keys / 2 + i / c.keys ? -INFINITY : 0;
    AttentionSizes sizes = {};
    sizes.query_entry = (long long)c.queries * stride, sizes.query_row = stride;
    sizes.key_entry = sizes.value_entry = (long long)c.keys * stride;
    sizes.key_row = sizes.value_row = stride;
    if (full || c.bias == BiasKind::PerHead) {
        sizes.bias_entry = full ? c.heads * plane : 0;
        sizes.bias_head = plane, sizes.bias_row = c.keys, sizes.bias_key = 1;
    } else if (mask) {
        sizes.bias_entry = c.keys, sizes.bias_key = 1;
    }
    sizes.queries = c.queries, sizes.keys = c.keys, sizes.heads = c.heads, sizes.head = c.head;
    double scale = 1 / std::sqrt(double(c.head));
    sizes.scale = float(scale / std::log(2));
    sizes.causal = c.causal;
    const float *added = c.bias == BiasKind::None ? nullptr : bias.data();
    std::string name = "attention " + std::to_string(c.tier) + " head " + std::to_string(c.head) + " b " +
                       std::to_string(c.batch) + " h " + std::to_string(c.heads) + " " + std::to_string(c.queries) +
                       "x" + std::to_string(c.keys) + (c.causal ? " causal" : "") + (c.packed ? " packed" : "") +
                       (full ? " bias" : mask ? " mask" : added ? " bias of heads" : "");
    auto found = in_two_orders<T>(name, size_t(c.batch) * c.queries * width, [&](std::vector<T> &r, unsigned seed) {
        std::function<void()> run;
        Shape shape = prepare(c.tier, r.data(), query, key, value, added, sizes, run);
        emulation::launch({(c.queries + shape.queries - 1) / shape.queries, c.heads, c.batch}, shape.threads,
                          shape.shared, seed, run);
    });
    std::vector<double> expected(found.size()), scores(c.keys);
    double largest = 0, steepest = 0;
    for (unsigned b = 0; b < c.batch; b++)
        for (unsigned h = 0; h < c.heads; h++)
            for (unsigned i = 0; i < c.queries; i++) {
                double sum = 0, top = -INFINITY;
                for (unsigned j = 0; j < c.keys; j++) {
                    double dot = 0;
                    for (unsigned d = 0; d < c.head; d++) {
                        dot += double(to_float(query[b * sizes.query_entry + i * sizes.query_row + h * c.head + d])) *
                               to_float(key[b * sizes.key_entry + j * sizes.key_row + h * c.head + d]);
                    }
                    scores[j] = dot * scale * c.reference_scale;
                    if (added) {
                        scores[j] += added[b * sizes.bias_entry + h * sizes.bias_head + i * sizes.bias_row +
                                           j * sizes.bias_key];
                    }
                    if (std::isfinite(scores[j])) steepest = std::max(steepest, std::fabs(scores[j]));
                    if (c.causal && j > i) scores[j] = -INFINITY;
                    top = std::max(top, scores[j]);
                }
                for (double &score : scores) sum += score = std::exp(score - top);
                for (unsigned d = 0; d < c.head; d++) {
                    double mixed = 0;
                    for (unsigned j = 0; j < c.keys; j++) {
                        mixed += scores[j] / sum *
                                 to_float(value[b * sizes.value_entry + j * sizes.value_row + h * c.head + d]);
                    }
                    expected[(size_t(b) * c.queries + i) * width + h * c.head + d] = mixed;
                    largest = std::max(largest, std::fabs(mixed));
                }
            }
    // Rounding of the shares and of the result, the values being of about size one; in f32 a score's own
    // last digit, which grows with the score, shows in its share.
    double bound = sizeof(T) == 4 ? 4e-6 + 3e-7 * steepest : rounding<T>() * std::max(1.0, largest);
    return compare(name, found, expected, bound, 1.01 * rounding<T>());
}
