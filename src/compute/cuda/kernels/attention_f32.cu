// In: queries [b, n, heads * d], keys and values [b, m, heads * d], all f32. Out: as attention.cu, but in
// f32 throughout, without tensor cores: for parity with the processor and for networks that overflow
// smaller formats. A block of 16 x 16 threads holds 64 queries of one head; a thread computes four rows
// by four keys of the scores and four rows by COLUMNS numbers of the result.
#include "attention_sizes.cuh"
#include "device.cuh"

#define ROWS 64
#define KEYS 64
// Numbers of a head that are multiplied at a time, and keys whose values are.
#define DEPTH 16
#define STEP 8
#define STRIDE (ROWS + 4)

template <int COLUMNS>
__device__ __forceinline__ void attention_f32(float *result, const float *query, const float *key,
                                              const float *value, const float *bias,
                                              const AttentionSizes &sizes) {
    SHARED_BYTES(shared);
    float *queries = reinterpret_cast<float *>(shared);  // [DEPTH, STRIDE], turned
    float *keys = queries + DEPTH * STRIDE;              // [DEPTH, STRIDE], turned
    float *shares = keys + DEPTH * STRIDE;               // [ROWS, KEYS + 1]
    float *values = shares + ROWS * (KEYS + 1);          // [STEP, 16 * COLUMNS]
    const unsigned across = threadIdx.x % 16, down = threadIdx.x / 16;
    const unsigned first = blockIdx.x * ROWS, head = blockIdx.y, entry = blockIdx.z;
    query += entry * sizes.query_entry + head * sizes.head;
    key += entry * sizes.key_entry + head * sizes.head;
    value += entry * sizes.value_entry + head * sizes.head;
    if (bias) bias += entry * sizes.bias_entry + head * sizes.bias_head;
    unsigned reach = sizes.keys;
    if (sizes.causal && first + ROWS < reach) reach = first + ROWS;

    float sums[4][COLUMNS], maximum[4], weight[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        maximum[i] = -INFINITY;
        weight[i] = 0.0f;
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) sums[i][j] = 0.0f;
    }
    for (unsigned from = 0; from < reach; from += KEYS) {
        float scores[4][4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) scores[i][j] = 0.0f;
        }
        for (unsigned part = 0; part < sizes.head; part += DEPTH) {
            __syncthreads();
            for (unsigned i = threadIdx.x; i < ROWS * DEPTH; i += 256) {
                const unsigned row = i / DEPTH, column = i % DEPTH;
                const bool inside = part + column < sizes.head;
                const unsigned q = first + row, k = from + row;
                queries[column * STRIDE + row] =
                    inside && q < sizes.queries ? query[q * sizes.query_row + part + column] : 0.0f;
                keys[column * STRIDE + row] =
                    inside && k < sizes.keys ? key[k * sizes.key_row + part + column] : 0.0f;
            }
            __syncthreads();
#pragma unroll
            for (int c = 0; c < DEPTH; c++) {
                float left[4], right[4];
#pragma unroll
                for (int i = 0; i < 4; i++) left[i] = queries[c * STRIDE + down * 4 + i];
#pragma unroll
                for (int j = 0; j < 4; j++) right[j] = keys[c * STRIDE + across * 4 + j];
#pragma unroll
                for (int i = 0; i < 4; i++) {
#pragma unroll
                    for (int j = 0; j < 4; j++) scores[i][j] += left[i] * right[j];
                }
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const unsigned row = first + down * 4 + i;
            float top = -INFINITY;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const unsigned column = from + across * 4 + j;
                float score = scores[i][j] * sizes.scale;
                if (column >= sizes.keys || (sizes.causal && column > row)) {
                    score = -INFINITY;
                } else if (bias && row < sizes.queries) {
                    score += LOG2E * bias[row * sizes.bias_row + column * sizes.bias_key];
                }
                scores[i][j] = score;
                top = fmaxf(top, score);
            }
            // The 16 threads of a row are half of a warp.
#pragma unroll
            for (int mask = 1; mask < 16; mask *= 2) top = fmaxf(top, warp_xor(top, mask));
            const float before = maximum[i];
            const float now = fmaxf(before, top);
            maximum[i] = now;
            const float base = now == -INFINITY ? 0.0f : now;
            const float keep = power_of_two(before - base);
            float sum = 0.0f;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float share = power_of_two(scores[i][j] - base);
                sum += share;
                shares[(down * 4 + i) * (KEYS + 1) + across * 4 + j] = share;
            }
            weight[i] = weight[i] * keep + sum;
#pragma unroll
            for (int j = 0; j < COLUMNS; j++) sums[i][j] *= keep;
        }
        for (unsigned part = 0; part < KEYS; part += STEP) {
            __syncthreads();
            for (unsigned i = threadIdx.x; i < STEP * 16 * COLUMNS; i += 256) {
                const unsigned row = from + part + i / (16 * COLUMNS), column = i % (16 * COLUMNS);
                values[i] = row < sizes.keys && column < sizes.head
                                ? value[row * sizes.value_row + column]
                                : 0.0f;
            }
            __syncthreads();
#pragma unroll
            for (int k = 0; k < STEP; k++) {
                float left[4];
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    left[i] = shares[(down * 4 + i) * (KEYS + 1) + part + k];
                }
#pragma unroll
                for (int j = 0; j < COLUMNS; j++) {
                    const float right = values[k * 16 * COLUMNS + j * 16 + across];
#pragma unroll
                    for (int i = 0; i < 4; i++) sums[i][j] += left[i] * right;
                }
            }
        }
    }
    const unsigned width = sizes.head * sizes.heads;
    result += entry * static_cast<long long>(sizes.queries) * width + head * sizes.head;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float total = weight[i];
#pragma unroll
        for (int mask = 1; mask < 16; mask *= 2) total += warp_xor(total, mask);
        const unsigned row = first + down * 4 + i;
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) {
            const unsigned column = j * 16 + across;
            if (row < sizes.queries && column < sizes.head) {
                result[static_cast<long long>(row) * width + column] = sums[i][j] / total;
            }
        }
    }
}

#define ATTENTION(COLUMNS)                                                                         \
    KERNEL(256)                                                                                    \
    attention_##COLUMNS##_f32(float *result, const float *query, const float *key,                 \
                              const float *value, const float *bias, AttentionSizes sizes) {       \
        attention_f32<COLUMNS>(result, query, key, value, bias, sizes);                            \
    }

// Heads of up to 16 times as many numbers.
ATTENTION(4)
ATTENTION(5)
ATTENTION(10)
ATTENTION(32)
