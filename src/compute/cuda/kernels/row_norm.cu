// In: rows of numbers. Out: each row normalised: layer norm (about its mean, with weight and bias) or
// RMS norm (no mean, no bias). One warp a row; mean and squares in f32, in two passes, the second of
// which finds the row in the cache.
#include "device.cuh"

struct RowNormSizes {
    unsigned long long rows;
    unsigned width;
    float eps;
    unsigned wide; // 1: every row starts at a multiple of 16 bytes, and the width is a multiple of that
};

// The numbers of a row that belong to this lane, in a fixed order.
template <typename T, typename F>
__device__ __forceinline__ void for_lane(const T *row, const RowNormSizes &sizes, F use) {
    const int count = Wide<T>::COUNT;
    unsigned lane = threadIdx.x % 32;
    if (sizes.wide) {
        for (unsigned at = lane * count; at < sizes.width; at += 32 * count) {
            float some[count];
            load_wide<T>(some, row + at);
            use(at, some, count);
        }
    } else {
        for (unsigned at = lane; at < sizes.width; at += 32) {
            float one = to_float(row[at]);
            use(at, &one, 1);
        }
    }
}

template <typename T>
__device__ __forceinline__ void put(T *row, unsigned at, const float *from, int count) {
    if (count == Wide<T>::COUNT) {
        float some[Wide<T>::COUNT];
#pragma unroll
        for (int i = 0; i < Wide<T>::COUNT; i++) some[i] = from[i];
        store_wide<T>(row + at, some);
    } else {
        row[at] = from_float<T>(from[0]);
    }
}

template <typename T>
__device__ __forceinline__ void layer_norm(T *y, const T *x, const float *weight, const float *bias,
                                           const RowNormSizes &sizes) {
    size_t number = static_cast<size_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
    if (number >= sizes.rows) return;
    const T *row = x + number * sizes.width;
    T *result = y + number * sizes.width;
    float sum = 0.0f;
    for_lane<T>(row, sizes, [&](unsigned, const float *some, int count) {
#pragma unroll
        for (int i = 0; i < count; i++) sum += some[i];
    });
    float mean = warp_sum(sum) / static_cast<float>(sizes.width);
    float square = 0.0f;
    for_lane<T>(row, sizes, [&](unsigned, const float *some, int count) {
#pragma unroll
        for (int i = 0; i < count; i++) square += (some[i] - mean) * (some[i] - mean);
    });
    float variance = warp_sum(square) / static_cast<float>(sizes.width);
    float scale = 1.0f / sqrtf(variance + sizes.eps);
    for_lane<T>(row, sizes, [&](unsigned at, const float *some, int count) {
        float done[Wide<T>::COUNT];
#pragma unroll
        for (int i = 0; i < count; i++) {
            done[i] = (some[i] - mean) * scale * weight[at + i] + bias[at + i];
        }
        put<T>(result, at, done, count);
    });
}

// As the networks define it, the normalised number is rounded before it meets its weight.
template <typename T>
__device__ __forceinline__ void rms_norm(T *y, const T *x, const T *weight,
                                         const RowNormSizes &sizes) {
    size_t number = static_cast<size_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
    if (number >= sizes.rows) return;
    const T *row = x + number * sizes.width;
    T *result = y + number * sizes.width;
    float square = 0.0f;
    for_lane<T>(row, sizes, [&](unsigned, const float *some, int count) {
#pragma unroll
        for (int i = 0; i < count; i++) square += some[i] * some[i];
    });
    float mean_square = warp_sum(square) / static_cast<float>(sizes.width);
    float scale = 1.0f / sqrtf(mean_square + sizes.eps);
    for_lane<T>(row, sizes, [&](unsigned at, const float *some, int count) {
        float done[Wide<T>::COUNT];
#pragma unroll
        for (int i = 0; i < count; i++) {
            done[i] = to_float(from_float<T>(some[i] * scale)) * to_float(weight[at + i]);
        }
        put<T>(result, at, done, count);
    });
}

#define ROW_NORM(T)                                                                                \
    KERNEL(128)                                                                                    \
    layer_norm_##T(T *y, const T *x, const float *weight, const float *bias, RowNormSizes sizes) { \
        layer_norm<T>(y, x, weight, bias, sizes);                                                  \
    }                                                                                              \
    KERNEL(128) rms_norm_##T(T *y, const T *x, const T *weight, RowNormSizes sizes) {              \
        rms_norm<T>(y, x, weight, sizes);                                                          \
    }

typedef float f32;
ROW_NORM(f16)
ROW_NORM(bf16)
ROW_NORM(f32)
