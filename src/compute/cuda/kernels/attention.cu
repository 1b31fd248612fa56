// In: queries [b, n, heads * d], keys and values [b, m, heads * d], in f16 or bf16. Out: softmax(scale *
// q k^T + bias) v, [b, n, heads * d]. No score leaves the chip: a block holds some queries of one head,
// walks over the keys tile by tile and keeps the running maximum and sum of the softmax (Milakov and
// Gimelshein, arXiv 1805.02867), as flash attention does (Dao, arXiv 2307.08691). Products run on the
// tensor cores with sums in f32; while one product is computed, the other's tile is on its way.
//
// Compiled once for each head size: HEAD numbers, a multiple of 8; smaller heads are filled up with
// zeros. The tiles follow from it as below; src/compute/cuda/attention.rs holds the same rule.
#include "attention_sizes.cuh"
#include "device.cuh"

// Parts of the result's columns, each the work of four warps.
#define SLICES (HEAD > 160 ? 2 : 1)
// Times 16 queries that a warp takes; 1 where there is a bias, which needs registers of its own.
#define M_TILES (HEAD <= 80 ? 2 : 1)
// Keys of a tile; at 512 as many as fit into the 99 KiB of shared memory that all devices have.
#define KEYS (HEAD <= 80 ? 64 : HEAD <= 160 ? 32 : 16)
#define PADDED ((HEAD + 15) / 16 * 16)
// 16 bytes more than a row needs: the eight rows of a matrix then lie in different banks.
#define STRIDE (PADDED + 8)
#define WARPS (4 * SLICES)
#define THREADS (32 * WARPS)
#define KEY_TILES (KEYS / 8)
// Tiles of 8 columns of the result that one warp computes.
#define VALUE_TILES (HEAD / 8 / SLICES)
// Where there is one slice, the queries stay in registers.
#define HELD (SLICES == 1)

static_assert(HEAD % (8 * SLICES) == 0 && KEYS % 16 == 0, "tiles of 8 columns and 16 keys");
static_assert(SLICES == 1 || VALUE_TILES % 2 == 0, "a slice begins at an even tile");

// Rows `first..` of a matrix into shared memory, zeros beyond `count` rows and `width` numbers.
template <typename T>
__device__ __forceinline__ void fetch(T *to, const T *from, int rows, long long stride,
                                      unsigned first, unsigned count, unsigned width) {
    const int chunks = PADDED / 8;
    for (int i = threadIdx.x; i < rows * chunks; i += THREADS) {
        int row = i / chunks, chunk = i % chunks;
        bool wanted = first + row < count && chunk * 8 < width;
        const T *source = wanted ? from + (first + row) * stride + chunk * 8 : from;
        copy_16_bytes(to + row * STRIDE + chunk * 8, source, wanted);
    }
}

template <typename T, int TILES, bool BIAS>
__device__ __forceinline__ void attention(T *result, const T *query, const T *key, const T *value,
                                          const float *bias, const AttentionSizes &sizes) {
    const unsigned QUERIES = 64 * TILES;
    SHARED_BYTES(shared);
    T *queries = reinterpret_cast<T *>(shared);
    T *keys = queries + QUERIES * STRIDE;
    T *values = keys + KEYS * STRIDE;

    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const unsigned slice = warp / 4, own_row = warp % 4 * 16 * TILES;
    const unsigned first = blockIdx.x * QUERIES, head = blockIdx.y, entry = blockIdx.z;
    query += entry * sizes.query_entry + head * sizes.head;
    key += entry * sizes.key_entry + head * sizes.head;
    value += entry * sizes.value_entry + head * sizes.head;
    if (BIAS) bias += entry * sizes.bias_entry + head * sizes.bias_head;

    // The keys that the block's last query sees.
    unsigned reach = sizes.keys;
    if (sizes.causal && first + QUERIES < reach) reach = first + QUERIES;

    fetch<T>(queries, query, QUERIES, sizes.query_row, first, sizes.queries, sizes.head);
    fetch<T>(keys, key, KEYS, sizes.key_row, 0, sizes.keys, sizes.head);

    // Of fragments, a lane holds rows lane / 4 and 8 below, columns lane % 4 * 2 and the next.
    unsigned held[HELD ? TILES : 1][HELD ? PADDED / 16 : 1][4];
    float sums[TILES][VALUE_TILES][4];
    float maximum[TILES][2], weight[TILES][2];
#pragma unroll
    for (int m = 0; m < TILES; m++) {
#pragma unroll
        for (int n = 0; n < VALUE_TILES; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) sums[m][n][i] = 0.0f;
        }
        maximum[m][0] = maximum[m][1] = -INFINITY;
        weight[m][0] = weight[m][1] = 0.0f;
    }

    // Lane l addresses row l % 8 of matrix l / 8: of queries, matrices go down and then across; of
    // keys, across and then down, as the right operand wants them; of values, down and then across.
    const T *query_at = queries + (own_row + lane % 16) * STRIDE + lane / 16 * 8;
    const T *key_at = keys + (lane / 16 * 8 + lane % 8) * STRIDE + lane / 8 % 2 * 8;
    const T *value_at = values + lane % 16 * STRIDE + lane / 16 * 8 + slice * VALUE_TILES * 8;

    for (unsigned from = 0; from < reach; from += KEYS) {
        await_copies();
        __syncthreads();
        fetch<T>(values, value, KEYS, sizes.value_row, from, sizes.keys, sizes.head);
        if (HELD && from == 0) {
#pragma unroll
            for (int m = 0; m < TILES; m++) {
#pragma unroll
                for (int k = 0; k < PADDED / 16; k++) {
                    load_matrices(held[m][k], query_at + m * 16 * STRIDE + k * 16);
                }
            }
        }

        float scores[TILES][KEY_TILES][4];
#pragma unroll
        for (int m = 0; m < TILES; m++) {
#pragma unroll
            for (int n = 0; n < KEY_TILES; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) scores[m][n][i] = 0.0f;
            }
        }
#pragma unroll
        for (int k = 0; k < PADDED / 16; k++) {
            unsigned left[TILES][4];
#pragma unroll
            for (int m = 0; m < TILES; m++) {
                if (HELD) {
#pragma unroll
                    for (int i = 0; i < 4; i++) left[m][i] = held[HELD ? m : 0][HELD ? k : 0][i];
                } else {
                    load_matrices(left[m], query_at + m * 16 * STRIDE + k * 16);
                }
            }
#pragma unroll
            for (int n = 0; n < KEY_TILES; n += 2) {
                unsigned right[4];
                load_matrices(right, key_at + n * 8 * STRIDE + k * 16);
#pragma unroll
                for (int m = 0; m < TILES; m++) {
                    multiply_tiles<T>(scores[m][n], left[m], right[0], right[1]);
                    multiply_tiles<T>(scores[m][n + 1], left[m], right[2], right[3]);
                }
            }
        }

        // The values are here, and nobody reads these keys any more.
        await_copies();
        __syncthreads();
        if (from + KEYS < reach) {
            fetch<T>(keys, key, KEYS, sizes.key_row, from + KEYS, sizes.keys, sizes.head);
        }

        const bool edge = from + KEYS > sizes.keys || (sizes.causal && from + KEYS > first + own_row);
        // What the scores are still to be multiplied by.
        const float factor = BIAS ? 1.0f : sizes.scale;
#pragma unroll
        for (int m = 0; m < TILES; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const unsigned row = first + own_row + m * 16 + half * 8 + lane / 4;
                float top = -INFINITY;
#pragma unroll
                for (int n = 0; n < KEY_TILES; n++) {
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        float &score = scores[m][n][half * 2 + i];
                        const unsigned column = from + n * 8 + lane % 4 * 2 + i;
                        if (BIAS) {
                            float added = 0.0f;
                            if (row < sizes.queries && column < sizes.keys) {
                                added = bias[row * sizes.bias_row + column * sizes.bias_key];
                            }
                            score = score * sizes.scale + added * LOG2E;
                        }
                        if (edge && (column >= sizes.keys || (sizes.causal && column > row))) {
                            score = -INFINITY;
                        }
                        top = fmaxf(top, score);
                    }
                }
                top = fmaxf(top, warp_xor(top, 1));
                top = fmaxf(top, warp_xor(top, 2));
                const float before = maximum[m][half];
                const float now = fmaxf(before, top * factor);
                maximum[m][half] = now;
                // Minus infinity as long as every key is hidden: nothing is to be subtracted then.
                const float base = now == -INFINITY ? 0.0f : now;
                const float keep = power_of_two(before - base);
                float sum = 0.0f;
#pragma unroll
                for (int n = 0; n < KEY_TILES; n++) {
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        float &score = scores[m][n][half * 2 + i];
                        score = power_of_two(score * factor - base);
                        sum += score;
                    }
                }
                weight[m][half] = weight[m][half] * keep + sum;
#pragma unroll
                for (int n = 0; n < VALUE_TILES; n++) {
                    sums[m][n][half * 2] *= keep;
                    sums[m][n][half * 2 + 1] *= keep;
                }
            }
        }

#pragma unroll
        for (int k = 0; k < KEYS / 16; k++) {
            unsigned left[TILES][4];
#pragma unroll
            for (int m = 0; m < TILES; m++) {
                left[m][0] = pack<T>(scores[m][2 * k][0], scores[m][2 * k][1]);
                left[m][1] = pack<T>(scores[m][2 * k][2], scores[m][2 * k][3]);
                left[m][2] = pack<T>(scores[m][2 * k + 1][0], scores[m][2 * k + 1][1]);
                left[m][3] = pack<T>(scores[m][2 * k + 1][2], scores[m][2 * k + 1][3]);
            }
#pragma unroll
            for (int n = 0; n < VALUE_TILES; n += 2) {
                unsigned right[4];
                load_matrices_transposed(right, value_at + k * 16 * STRIDE + n * 8);
#pragma unroll
                for (int m = 0; m < TILES; m++) {
                    multiply_tiles<T>(sums[m][n], left[m], right[0], right[1]);
                    if (n + 1 < VALUE_TILES) {
                        multiply_tiles<T>(sums[m][n + 1], left[m], right[2], right[3]);
                    }
                }
            }
        }
    }

    // Through the queries' place, so that whole rows are written.
    __syncthreads();
#pragma unroll
    for (int m = 0; m < TILES; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float total = weight[m][half];
            total += warp_xor(total, 1);
            total += warp_xor(total, 2);
            const float share = 1.0f / total;
            T *row = queries + (own_row + m * 16 + half * 8 + lane / 4) * STRIDE;
#pragma unroll
            for (int n = 0; n < VALUE_TILES; n++) {
                unsigned both = pack<T>(sums[m][n][half * 2] * share, sums[m][n][half * 2 + 1] * share);
                const unsigned column = (slice * VALUE_TILES + n) * 8 + lane % 4 * 2;
                *reinterpret_cast<unsigned *>(row + column) = both;
            }
        }
    }
    warp_barrier();
    const unsigned width = sizes.head * sizes.heads;
    result += entry * static_cast<long long>(sizes.queries) * width + head * sizes.head;
    for (unsigned i = lane; i < 16 * TILES * VALUE_TILES; i += 32) {
        const unsigned row = own_row + i / VALUE_TILES;
        const unsigned column = (slice * VALUE_TILES + i % VALUE_TILES) * 8;
        if (first + row < sizes.queries && column < sizes.head) {
            *reinterpret_cast<uint4 *>(result + static_cast<long long>(first + row) * width + column) =
                *reinterpret_cast<const uint4 *>(queries + row * STRIDE + column);
        }
    }
}

#define ATTENTION(T)                                                                               \
    KERNEL(THREADS)                                                                                \
    attention_##T(T *result, const T *query, const T *key, const T *value, const float *bias,      \
                  AttentionSizes sizes) {                                                          \
        attention<T, M_TILES, false>(result, query, key, value, bias, sizes);                      \
    }                                                                                              \
    KERNEL(THREADS)                                                                                \
    attention_with_bias_##T(T *result, const T *query, const T *key, const T *value,               \
                            const float *bias, AttentionSizes sizes) {                             \
        attention<T, 1, true>(result, query, key, value, bias, sizes);                             \
    }

ATTENTION(f16)
ATTENTION(bf16)
