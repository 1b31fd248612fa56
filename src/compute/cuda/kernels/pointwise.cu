// In: what a product or a convolution left. Out: the same with what comes after it - bias, timestep,
// shortcut; the gate of a feed-forward; the turn from positions to channels - in one pass over memory.
#include "device.cuh"

struct FinishSizes {
    unsigned count;       // all numbers: entries * channels * inner
    unsigned channels;
    unsigned inner;       // numbers of a channel that follow one another; 1 for rows of channels
    unsigned rows;        // rows of channels of an entry; 1 where inner holds all of a channel
    unsigned shift_entry; // numbers from one entry's shift to the next: channels, or 0 where all share one
    unsigned wide;        // 0: one by one; 1: 16 bytes of one channel; 2: 16 bytes of neighbouring channels
};

// y = x + bias + shift + shortcut; each of the three may be missing.
template <typename T>
__device__ __forceinline__ void finish(T *y, const T *x, const T *bias, const T *shift,
                                       const T *shortcut, const FinishSizes &sizes) {
    const unsigned count = Wide<T>::COUNT;
    unsigned number = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned step = sizes.wide ? count : 1;
    if (number >= sizes.count / step) return;
    unsigned at = number * step;
    unsigned channel = at / sizes.inner % sizes.channels;
    const unsigned entry = at / sizes.inner / sizes.channels / sizes.rows;
    const T *moved = shift ? shift + entry * sizes.shift_entry : shift;
    if (!sizes.wide) {
        float sum = to_float(x[at]);
        if (bias) sum += to_float(bias[channel]);
        if (moved) sum += to_float(moved[channel]);
        if (shortcut) sum += to_float(shortcut[at]);
        y[at] = from_float<T>(sum);
        return;
    }
    float sum[count], some[count];
    load_wide<T>(sum, x + at);
    if (sizes.wide == 1) {
        float same = bias ? to_float(bias[channel]) : 0.0f;
        if (moved) same += to_float(moved[channel]);
#pragma unroll
        for (int i = 0; i < count; i++) sum[i] += same;
    } else {
        if (bias) {
            load_wide<T>(some, bias + channel);
#pragma unroll
            for (int i = 0; i < count; i++) sum[i] += some[i];
        }
        if (moved) {
            load_wide<T>(some, moved + channel);
#pragma unroll
            for (int i = 0; i < count; i++) sum[i] += some[i];
        }
    }
    if (shortcut) {
        load_wide<T>(some, shortcut + at);
#pragma unroll
        for (int i = 0; i < count; i++) sum[i] += some[i];
    }
    store_wide<T>(y + at, sum);
}

struct GateSizes {
    unsigned count; // numbers of the result: rows * inner
    unsigned inner; // half of a row of the input
    unsigned wide;  // 1: inner is a multiple of 16 bytes
};

// The exact GELU.
__device__ __forceinline__ float gelu(float x) {
    return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
}

// y [rows, inner] = (a + its bias) * gelu(g + its bias) for x [rows, 2 * inner], whose rows are a, g.
template <typename T>
__device__ __forceinline__ void geglu(T *y, const T *x, const T *bias, const GateSizes &sizes) {
    const unsigned count = Wide<T>::COUNT;
    unsigned number = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned step = sizes.wide ? count : 1;
    if (number >= sizes.count / step) return;
    unsigned at = number * step;
    unsigned column = at % sizes.inner;
    const T *row = x + 2 * static_cast<size_t>(at - column);
    if (!sizes.wide) {
        float plain = to_float(row[column]), gate = to_float(row[sizes.inner + column]);
        if (bias) {
            plain += to_float(bias[column]);
            gate += to_float(bias[sizes.inner + column]);
        }
        y[at] = from_float<T>(plain * gelu(gate));
        return;
    }
    float plain[count], gate[count];
    load_wide<T>(plain, row + column);
    load_wide<T>(gate, row + sizes.inner + column);
    if (bias) {
        float some[count];
        load_wide<T>(some, bias + column);
#pragma unroll
        for (int i = 0; i < count; i++) plain[i] += some[i];
        load_wide<T>(some, bias + sizes.inner + column);
#pragma unroll
        for (int i = 0; i < count; i++) gate[i] += some[i];
    }
#pragma unroll
    for (int i = 0; i < count; i++) plain[i] *= gelu(gate[i]);
    store_wide<T>(y + at, plain);
}

struct CurveSizes {
    unsigned count;
    unsigned curve; // 0: x sigmoid(1.702 x); 1: GELU; 2: its tanh form; 3: x sigmoid(x); 4: the square of max(x, 0)
    unsigned wide;  // 1: 16 bytes at a time
};

__device__ __forceinline__ float on_curve(float x, unsigned curve) {
    switch (curve) {
    case 0: return quotient(x, 1.0f + expf(-1.702f * x));
    case 1: return gelu(x);
    case 2: return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case 3: return quotient(x, 1.0f + expf(-x));
    default: x = fmaxf(x, 0.0f); return x * x;
    }
}

// y = the curve at x, number by number.
template <typename T> __device__ __forceinline__ void curve(T *y, const T *x, const CurveSizes &sizes) {
    const unsigned count = Wide<T>::COUNT;
    unsigned number = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned step = sizes.wide ? count : 1;
    if (number >= sizes.count / step) return;
    unsigned at = number * step;
    if (!sizes.wide) {
        y[at] = from_float<T>(on_curve(to_float(x[at]), sizes.curve));
        return;
    }
    float some[count];
    load_wide<T>(some, x + at);
#pragma unroll
    for (int i = 0; i < count; i++) some[i] = on_curve(some[i], sizes.curve);
    store_wide<T>(y + at, some);
}

struct TransposeSizes {
    unsigned rows;
    unsigned columns;
};

#define TURN 32

// y [batch, columns, rows] = x [batch, rows, columns] turned, plus bias [columns] and shortcut (as y);
// both may be missing. Grid (column tiles, row tiles, batch), 32 x 8 threads in a line.
template <typename T>
__device__ __forceinline__ void turn(T *y, const T *x, const T *bias, const T *shortcut,
                                     const TransposeSizes &sizes) {
    __shared__ float tile[TURN][TURN + 1];
    size_t entry = static_cast<size_t>(blockIdx.z) * sizes.rows * sizes.columns;
    unsigned across = threadIdx.x % TURN, down = threadIdx.x / TURN, lines = blockDim.x / TURN;
    unsigned column = blockIdx.x * TURN + across, row = blockIdx.y * TURN + across;
    for (unsigned i = down; i < TURN; i += lines) {
        unsigned from = blockIdx.y * TURN + i;
        if (from < sizes.rows && column < sizes.columns) {
            tile[i][across] = to_float(x[entry + static_cast<size_t>(from) * sizes.columns + column]);
        }
    }
    __syncthreads();
    for (unsigned i = down; i < TURN; i += lines) {
        unsigned to = blockIdx.x * TURN + i;
        if (to < sizes.columns && row < sizes.rows) {
            size_t at = entry + static_cast<size_t>(to) * sizes.rows + row;
            float value = tile[across][i];
            if (bias) value += to_float(bias[to]);
            if (shortcut) value += to_float(shortcut[at]);
            y[at] = from_float<T>(value);
        }
    }
}

struct BesideSizes {
    unsigned count; // steps of 16 bytes of the result
    unsigned left;  // steps of a row of a
    unsigned right; // and of b
};

// y [rows, left + right] = each row of a [rows, left], then that of b [rows, right].
KERNEL(256) beside(uint4 *y, const uint4 *a, const uint4 *b, BesideSizes sizes) {
    unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= sizes.count) return;
    unsigned row = at / (sizes.left + sizes.right), column = at % (sizes.left + sizes.right);
    y[at] = column < sizes.left ? a[row * sizes.left + column] : b[row * sizes.right + column - sizes.left];
}

struct EnlargeSizes {
    unsigned count; // steps of 16 bytes of the result
    unsigned steps; // of a pixel's channels
    unsigned height, width;
    unsigned to_height, to_width;
};

// y [batch, to_height, to_width, steps]: of x [batch, height, width, steps] the nearest pixel, the one
// that a pixel's upper left corner falls into.
KERNEL(256) enlarge(uint4 *y, const uint4 *x, EnlargeSizes sizes) {
    unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= sizes.count) return;
    unsigned pixel = at / sizes.steps, line = pixel / sizes.to_width;
    unsigned column = pixel % sizes.to_width * sizes.width / sizes.to_width;
    unsigned row = line % sizes.to_height * sizes.height / sizes.to_height;
    unsigned from = (line / sizes.to_height * sizes.height + row) * sizes.width + column;
    y[at] = x[from * sizes.steps + at % sizes.steps];
}

#define POINTWISE(T)                                                                               \
    KERNEL(256)                                                                                    \
    finish_##T(T *y, const T *x, const T *bias, const T *shift, const T *shortcut,                 \
               FinishSizes sizes) {                                                                \
        finish<T>(y, x, bias, shift, shortcut, sizes);                                             \
    }                                                                                              \
    KERNEL(256) geglu_##T(T *y, const T *x, const T *bias, GateSizes sizes) {                      \
        geglu<T>(y, x, bias, sizes);                                                               \
    }                                                                                              \
    KERNEL(256) curve_##T(T *y, const T *x, CurveSizes sizes) { curve<T>(y, x, sizes); }           \
    KERNEL(256)                                                                                    \
    turn_##T(T *y, const T *x, const T *bias, const T *shortcut, TransposeSizes sizes) {                \
        turn<T>(y, x, bias, shortcut, sizes);                                                      \
    }

typedef float f32;
POINTWISE(f16)
POINTWISE(bf16)
POINTWISE(f32)
