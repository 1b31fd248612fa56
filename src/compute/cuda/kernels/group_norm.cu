// In: a feature map [batch, channels, inner]. Out: each group of channels normalised, with weight and
// offset in f32, through SiLU where asked. What a convolution before it still owes - its bias and the timestep's
// shift - is added on the way. A group's numbers lie in one piece. A small group is read once by one
// block; a large one is cut into parts, each with its own mean and its own sum of squares about that
// mean, and the parts are joined in a fixed order (Chan, Golub and LeVeque 1983), so that no large
// numbers are subtracted.
#include "device.cuh"

struct GroupNormSizes {
    unsigned size;        // numbers of a group: channels_of_group * inner
    unsigned inner;       // numbers of a channel
    unsigned channels_of_group;
    unsigned groups;
    unsigned parts;       // parts that a group is cut into
    unsigned shift_entry; // numbers from one entry's shift to the next: channels, or 0 where all share one
    float eps;
    unsigned silu;        // 0 or 1
};

// Numbers that a thread keeps.
#define KEPT 32

// What a block knows of its group, whose number is blockIdx.y.
template <typename T> struct Group {
    const GroupNormSizes &sizes;
    const T *bias, *shift;
    unsigned first_channel;

    __device__ __forceinline__ Group(const GroupNormSizes &sizes, const T *bias, const T *shift)
        : sizes(sizes), bias(bias), shift(shift) {
        first_channel = blockIdx.y % sizes.groups * sizes.channels_of_group;
        if (shift) this->shift = shift + blockIdx.y / sizes.groups * sizes.shift_entry;
    }

    __device__ __forceinline__ size_t start() const {
        return static_cast<size_t>(blockIdx.y) * sizes.size;
    }

    __device__ __forceinline__ unsigned channel(unsigned at) const {
        return first_channel + at / sizes.inner;
    }

    __device__ __forceinline__ float owed(unsigned channel) const {
        float sum = bias ? to_float(bias[channel]) : 0.0f;
        return shift ? sum + to_float(shift[channel]) : sum;
    }

    __device__ __forceinline__ float scale(float squares) const {
        return 1.0f / sqrtf(squares / static_cast<float>(sizes.size) + sizes.eps);
    }

    __device__ __forceinline__ float finished(float x, float mean, float scale, float weight,
                                              float offset) const {
        float y = (x - mean) * scale * weight + offset;
        return sizes.silu ? quotient(y, 1.0f + expf(-y)) : y;
    }
};

// A part of a group, in registers. Groups and channels begin at multiples of 16 bytes.
template <typename T> struct Part : Group<T> {
    static const int COUNT = Wide<T>::COUNT;
    unsigned begin, end;

    __device__ __forceinline__ Part(const GroupNormSizes &sizes, const T *bias, const T *shift)
        : Group<T>(sizes, bias, shift) {
        begin = blockIdx.x * blockDim.x * KEPT;
        unsigned full = begin + blockDim.x * KEPT;
        end = full < sizes.size ? full : sizes.size;
    }

    // Where this thread's numbers of a step begin, within the group.
    __device__ __forceinline__ unsigned place(int step) const {
        return begin + (step * blockDim.x + threadIdx.x) * COUNT;
    }

    // This thread's numbers; zeros beyond the end.
    __device__ __forceinline__ void load(float (&kept)[KEPT / COUNT][COUNT], const T *x) const {
        const T *group = x + this->start();
#pragma unroll
        for (int step = 0; step < KEPT / COUNT; step++) {
#pragma unroll
            for (int i = 0; i < COUNT; i++) kept[step][i] = 0.0f;
            unsigned at = place(step);
            if (at < end) {
                load_wide<T>(kept[step], group + at);
                float more = this->owed(this->channel(at));
#pragma unroll
                for (int i = 0; i < COUNT; i++) kept[step][i] += more;
            }
        }
    }

    // Mean and sum of squares about it of this part, the same in all threads.
    __device__ __forceinline__ void moments(const float (&kept)[KEPT / COUNT][COUNT], float *scratch,
                                            float &mean, float &squares) const {
        float sum = 0.0f;
#pragma unroll
        for (int step = 0; step < KEPT / COUNT; step++) {
#pragma unroll
            for (int i = 0; i < COUNT; i++) sum += kept[step][i];
        }
        mean = block_sum(sum, scratch) / static_cast<float>(end - begin);
        float square = 0.0f;
#pragma unroll
        for (int step = 0; step < KEPT / COUNT; step++) {
            if (place(step) < end) {
#pragma unroll
                for (int i = 0; i < COUNT; i++) {
                    square += (kept[step][i] - mean) * (kept[step][i] - mean);
                }
            }
        }
        squares = block_sum(square, scratch);
    }

    __device__ __forceinline__ void store(T *y, const float (&kept)[KEPT / COUNT][COUNT], float mean,
                                          float squares, const float *weight, const float *offset) const {
        const float scale = this->scale(squares);
        T *group = y + this->start();
#pragma unroll
        for (int step = 0; step < KEPT / COUNT; step++) {
            unsigned at = place(step);
            if (at < end) {
                unsigned channel = this->channel(at);
                float w = weight[channel], b = offset[channel];
                float some[COUNT];
#pragma unroll
                for (int i = 0; i < COUNT; i++) {
                    some[i] = this->finished(kept[step][i], mean, scale, w, b);
                }
                store_wide<T>(group + at, some);
            }
        }
    }
};

// One block per group that fits into it. Grid (1, batch * groups).
template <typename T>
__device__ __forceinline__ void group_norm_whole(T *y, const T *x, const float *weight, const float *offset,
                                                 const T *bias, const T *shift,
                                                 const GroupNormSizes &sizes) {
    __shared__ float scratch[32];
    Part<T> part(sizes, bias, shift);
    float kept[KEPT / Wide<T>::COUNT][Wide<T>::COUNT], mean, squares;
    part.load(kept, x);
    part.moments(kept, scratch, mean, squares);
    part.store(y, kept, mean, squares, weight, offset);
}

// Mean and squares of each part: moments [batch * groups, parts, 2]. Grid (parts, batch * groups).
template <typename T>
__device__ __forceinline__ void group_norm_parts(float *moments, const T *x, const T *bias,
                                                 const T *shift, const GroupNormSizes &sizes) {
    __shared__ float scratch[32];
    Part<T> part(sizes, bias, shift);
    float kept[KEPT / Wide<T>::COUNT][Wide<T>::COUNT], mean, squares;
    part.load(kept, x);
    part.moments(kept, scratch, mean, squares);
    if (threadIdx.x == 0) {
        float *mine = moments + 2 * (static_cast<size_t>(blockIdx.y) * sizes.parts + blockIdx.x);
        mine[0] = mean;
        mine[1] = squares;
    }
}

// Joins the parts and normalises one of them. Grid (parts, batch * groups), as above.
template <typename T>
__device__ __forceinline__ void group_norm_apply(T *y, const T *x, const float *weight, const float *offset,
                                                 const T *bias, const T *shift,
                                                 const float *moments,
                                                 const GroupNormSizes &sizes) {
    __shared__ float scratch[32];
    Part<T> part(sizes, bias, shift);
    const float *all = moments + 2 * static_cast<size_t>(blockIdx.y) * sizes.parts;
    const unsigned most = blockDim.x * KEPT;
    float sum = 0.0f;
    for (unsigned p = threadIdx.x; p < sizes.parts; p += blockDim.x) {
        unsigned count = p + 1 == sizes.parts ? sizes.size - p * most : most;
        sum += all[2 * p] * (static_cast<float>(count) / static_cast<float>(sizes.size));
    }
    float mean = block_sum(sum, scratch);
    float square = 0.0f;
    for (unsigned p = threadIdx.x; p < sizes.parts; p += blockDim.x) {
        unsigned count = p + 1 == sizes.parts ? sizes.size - p * most : most;
        float away = all[2 * p] - mean;
        square += all[2 * p + 1] + static_cast<float>(count) * away * away;
    }
    float squares = block_sum(square, scratch);
    float kept[KEPT / Wide<T>::COUNT][Wide<T>::COUNT];
    part.load(kept, x);
    part.store(y, kept, mean, squares, weight, offset);
}

// Any shape, number by number: for maps that do not divide into 16 bytes. Grid (1, batch * groups).
template <typename T>
__device__ __forceinline__ void group_norm_any(T *y, const T *x, const float *weight, const float *offset,
                                               const T *bias, const T *shift,
                                               const GroupNormSizes &sizes) {
    __shared__ float scratch[32];
    Group<T> group(sizes, bias, shift);
    x += group.start();
    y += group.start();
    float sum = 0.0f;
    for (unsigned at = threadIdx.x; at < sizes.size; at += blockDim.x) {
        sum += to_float(x[at]) + group.owed(group.channel(at));
    }
    float mean = block_sum(sum, scratch) / static_cast<float>(sizes.size);
    float square = 0.0f;
    for (unsigned at = threadIdx.x; at < sizes.size; at += blockDim.x) {
        float centred = to_float(x[at]) + group.owed(group.channel(at)) - mean;
        square += centred * centred;
    }
    float scale = group.scale(block_sum(square, scratch));
    for (unsigned at = threadIdx.x; at < sizes.size; at += blockDim.x) {
        unsigned channel = group.channel(at);
        float value = to_float(x[at]) + group.owed(channel);
        float w = weight[channel], b = offset[channel];
        y[at] = from_float<T>(group.finished(value, mean, scale, w, b));
    }
}

#define GROUP_NORM(T)                                                                              \
    KERNEL(512)                                                                                    \
    group_norm_whole_##T(T *y, const T *x, const float *weight, const float *offset,               \
                         const T *bias, const T *shift, GroupNormSizes sizes) {                    \
        group_norm_whole<T>(y, x, weight, offset, bias, shift, sizes);                             \
    }                                                                                              \
    KERNEL(256)                                                                                    \
    group_norm_parts_##T(float *moments, const T *x, const T *bias, const T *shift,                \
                         GroupNormSizes sizes) {                                                   \
        group_norm_parts<T>(moments, x, bias, shift, sizes);                                       \
    }                                                                                              \
    KERNEL(256)                                                                                    \
    group_norm_apply_##T(T *y, const T *x, const float *weight, const float *offset,               \
                         const T *bias, const T *shift, const float *moments,                      \
                         GroupNormSizes sizes) {                                                   \
        group_norm_apply<T>(y, x, weight, offset, bias, shift, moments, sizes);                    \
    }                                                                                              \
    KERNEL(256)                                                                                    \
    group_norm_any_##T(T *y, const T *x, const float *weight, const float *offset,                 \
                       const T *bias, const T *shift, GroupNormSizes sizes) {                      \
        group_norm_any<T>(y, x, weight, offset, bias, shift, sizes);                               \
    }

typedef float f32;
GROUP_NORM(f16)
GROUP_NORM(bf16)
GROUP_NORM(f32)
