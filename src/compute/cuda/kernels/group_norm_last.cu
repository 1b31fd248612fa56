// In: a feature map whose channels lie side by side, [batch, rows, channels], a row for each pixel. Out: the group
// norm of group_norm.cu of it, in the same order. A block takes a slice of the channels, whole groups in steps of
// 16 bytes, and some of the rows; each thread keeps to one step of channels and goes down the rows. Sums
// are taken about each thread's first number, and joined in a fixed order (Chan, Golub and LeVeque 1983), so that
// no large numbers are subtracted.
#include "device.cuh"

struct GroupNormLastSizes {
    unsigned rows; // pixels of an entry
    unsigned channels;
    unsigned channels_of_group;
    unsigned slice;       // channels that a block takes
    unsigned parts;       // parts that the rows are cut into
    unsigned part_rows;   // rows of a part; the last one may have fewer
    unsigned shift_entry; // numbers from one entry's shift to the next: channels, or 0 where all share one
    float eps;
    unsigned silu; // 0 or 1
};

// Floats of shared memory: mean and squares of every thread's channels, then mean and scale of the groups.
template <typename T> struct Slice {
    static const int COUNT = Wide<T>::COUNT;
    static const int AHEAD = 4; // rows that a thread has asked for at a time
    const GroupNormLastSizes &sizes;
    const T *bias, *shift;
    unsigned first, width;     // of the block's channels
    unsigned lanes;            // rows that the block takes at once
    unsigned lane, column;     // of this thread; the column counts from the block's first channel
    unsigned begin, end;       // of the block's rows
    bool works;                // a thread beyond the last lane or channel does not
    float *means, *squares, *groups;

    __device__ __forceinline__ Slice(const GroupNormLastSizes &sizes, const T *bias, const T *shift, float *shared)
        : sizes(sizes), bias(bias), shift(shift) {
        if (shift) this->shift = shift + blockIdx.z * sizes.shift_entry;
        first = blockIdx.y * sizes.slice;
        width = sizes.channels - first < sizes.slice ? sizes.channels - first : sizes.slice;
        const unsigned columns = sizes.slice / COUNT;
        lanes = blockDim.x / columns;
        lane = threadIdx.x / columns;
        column = threadIdx.x % columns * COUNT;
        begin = blockIdx.x * sizes.part_rows;
        end = sizes.rows - begin < sizes.part_rows ? sizes.rows : begin + sizes.part_rows;
        works = lane < lanes && column < width;
        means = shared;
        squares = means + lanes * sizes.slice;
        groups = squares + lanes * sizes.slice;
    }

    __device__ __forceinline__ size_t place(unsigned row) const {
        return (static_cast<size_t>(blockIdx.z) * sizes.rows + row) * sizes.channels + first + column;
    }

    __device__ __forceinline__ unsigned rows_of(unsigned lane) const {
        return end - begin > lane ? (end - begin - lane + lanes - 1) / lanes : 0;
    }

    // What this thread's channels are owed.
    __device__ __forceinline__ void owed(float (&sum)[COUNT]) const {
        float some[COUNT];
#pragma unroll
        for (int i = 0; i < COUNT; i++) sum[i] = 0.0f;
        if (bias) {
            load_wide<T>(some, bias + first + column);
#pragma unroll
            for (int i = 0; i < COUNT; i++) sum[i] += some[i];
        }
        if (shift) {
            load_wide<T>(some, shift + first + column);
#pragma unroll
            for (int i = 0; i < COUNT; i++) sum[i] += some[i];
        }
    }

    // Mean and sum of squares about it of each thread's channels, into shared memory.
    __device__ __forceinline__ void gather(const T *x) const {
        if (works) {
            float start[COUNT], sum[COUNT], square[COUNT], more[COUNT];
#pragma unroll
            for (int i = 0; i < COUNT; i++) start[i] = sum[i] = square[i] = 0.0f;
            if (begin + lane < end) load_wide<T>(start, x + place(begin + lane));
#pragma unroll AHEAD
            for (unsigned row = begin + lane + lanes; row < end; row += lanes) {
                float some[COUNT];
                load_wide<T>(some, x + place(row));
#pragma unroll
                for (int i = 0; i < COUNT; i++) {
                    float apart = some[i] - start[i];
                    sum[i] += apart;
                    square[i] += apart * apart;
                }
            }
            owed(more);
            const unsigned rows = rows_of(lane);
            const float share = rows ? 1.0f / static_cast<float>(rows) : 0.0f;
            const unsigned at = lane * sizes.slice + column;
#pragma unroll
            for (int i = 0; i < COUNT; i++) {
                means[at + i] = start[i] + more[i] + sum[i] * share;
                squares[at + i] = fmaxf(square[i] - sum[i] * sum[i] * share, 0.0f);
            }
        }
        __syncthreads();
    }

    // The moments of the block's part of its group `group`, the same in all threads of a warp.
    __device__ __forceinline__ void moments(unsigned group, float &mean, float &square) const {
        const unsigned of = sizes.channels_of_group, count = lanes * of;
        const float size = static_cast<float>((end - begin) * of);
        float sum = 0.0f;
        for (unsigned i = threadIdx.x % 32; i < count; i += 32) {
            sum += means[i / of * sizes.slice + group * of + i % of] * static_cast<float>(rows_of(i / of));
        }
        mean = warp_sum(sum) / size;
        float all = 0.0f;
        for (unsigned i = threadIdx.x % 32; i < count; i += 32) {
            const unsigned at = i / of * sizes.slice + group * of + i % of;
            const float apart = means[at] - mean;
            all += squares[at] + apart * apart * static_cast<float>(rows_of(i / of));
        }
        square = warp_sum(all);
    }

    // The group's mean and scale, for all threads of the block once they have met.
    __device__ __forceinline__ void keep(unsigned group, float mean, float square) const {
        const float size = static_cast<float>(sizes.rows) * static_cast<float>(sizes.channels_of_group);
        if (threadIdx.x % 32 == 0) {
            groups[2 * group] = mean;
            groups[2 * group + 1] = 1.0f / sqrtf(square / size + sizes.eps);
        }
    }

    __device__ __forceinline__ void store(T *y, const T *x, const float *weight, const float *offset) const {
        __syncthreads();
        if (!works) return;
        float centre[COUNT], factor[COUNT], more[COUNT];
        owed(more);
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const unsigned group = (column + i) / sizes.channels_of_group;
            centre[i] = groups[2 * group] - more[i];
            factor[i] = groups[2 * group + 1] * weight[first + column + i];
            more[i] = offset[first + column + i];
        }
        // Several rows are on their way at a time: a load does not pass a store before it.
        uint4 raw[AHEAD];
        for (unsigned row = begin + lane; row < end; row += AHEAD * lanes) {
#pragma unroll
            for (int step = 0; step < AHEAD; step++) {
                if (row + step * lanes < end) raw[step] = load_raw(x + place(row + step * lanes));
            }
#pragma unroll
            for (int step = 0; step < AHEAD; step++) {
                if (row + step * lanes >= end) break;
                float some[COUNT];
                widen<T>(some, raw[step]);
#pragma unroll
                for (int i = 0; i < COUNT; i++) {
                    const float value = (some[i] - centre[i]) * factor[i] + more[i];
                    some[i] = sizes.silu ? quotient(value, 1.0f + expf(-value)) : value;
                }
                store_wide<T>(y + place(row + step * lanes), some);
            }
        }
    }
};

#define SLICE(T)                                                                                                       \
    SHARED_BYTES(bytes);                                                                                               \
    const Slice<T> slice(sizes, bias, shift, reinterpret_cast<float *>(bytes));                                        \
    const unsigned groups = slice.width / sizes.channels_of_group, warps = blockDim.x / 32

// All rows in one part. Grid (1, slices, batch).
template <typename T>
__device__ __forceinline__ void group_norm_last_whole(T *y, const T *x, const float *weight, const float *offset,
                                                      const T *bias, const T *shift,
                                                      const GroupNormLastSizes &sizes) {
    SLICE(T);
    slice.gather(x);
    for (unsigned group = threadIdx.x / 32; group < groups; group += warps) {
        float mean, square;
        slice.moments(group, mean, square);
        slice.keep(group, mean, square);
    }
    slice.store(y, x, weight, offset);
}

// Mean and squares of each part of a group: moments [batch, groups, parts, 2]. Grid (parts, slices, batch).
template <typename T>
__device__ __forceinline__ void group_norm_last_parts(float *moments, const T *x, const T *bias, const T *shift,
                                                      const GroupNormLastSizes &sizes) {
    SLICE(T);
    slice.gather(x);
    const size_t all = sizes.channels / sizes.channels_of_group, before = slice.first / sizes.channels_of_group;
    for (unsigned group = threadIdx.x / 32; group < groups; group += warps) {
        float mean, square;
        slice.moments(group, mean, square);
        if (threadIdx.x % 32 == 0) {
            float *mine = moments + 2 * ((blockIdx.z * all + before + group) * sizes.parts + blockIdx.x);
            mine[0] = mean;
            mine[1] = square;
        }
    }
}

// Joins the parts and normalises one of them. Grid (parts, slices, batch), as above.
template <typename T>
__device__ __forceinline__ void group_norm_last_apply(T *y, const T *x, const float *weight, const float *offset,
                                                      const T *bias, const T *shift, const float *moments,
                                                      const GroupNormLastSizes &sizes) {
    SLICE(T);
    const size_t all = sizes.channels / sizes.channels_of_group, before = slice.first / sizes.channels_of_group;
    for (unsigned group = threadIdx.x / 32; group < groups; group += warps) {
        const float *parts = moments + 2 * (blockIdx.z * all + before + group) * sizes.parts;
        // The rows of a part over all of them: channels of a group are the same in each.
        const float full = static_cast<float>(sizes.part_rows);
        const float last = static_cast<float>(sizes.rows - (sizes.parts - 1) * sizes.part_rows);
        float sum = 0.0f;
        for (unsigned p = threadIdx.x % 32; p < sizes.parts; p += 32) {
            sum += parts[2 * p] * ((p + 1 == sizes.parts ? last : full) / static_cast<float>(sizes.rows));
        }
        const float mean = warp_sum(sum);
        float square = 0.0f;
        for (unsigned p = threadIdx.x % 32; p < sizes.parts; p += 32) {
            const float count = (p + 1 == sizes.parts ? last : full) * static_cast<float>(sizes.channels_of_group);
            const float apart = parts[2 * p] - mean;
            square += parts[2 * p + 1] + apart * apart * count;
        }
        slice.keep(group, mean, warp_sum(square));
    }
    slice.store(y, x, weight, offset);
}

#define GROUP_NORM_LAST(T)                                                                                             \
    KERNEL(512)                                                                                                        \
    group_norm_last_whole_##T(T *y, const T *x, const float *weight, const float *offset, const T *bias,               \
                              const T *shift, GroupNormLastSizes sizes) {                                              \
        group_norm_last_whole<T>(y, x, weight, offset, bias, shift, sizes);                                            \
    }                                                                                                                  \
    KERNEL(256)                                                                                                        \
    group_norm_last_parts_##T(float *moments, const T *x, const T *bias, const T *shift, GroupNormLastSizes sizes) {   \
        group_norm_last_parts<T>(moments, x, bias, shift, sizes);                                                      \
    }                                                                                                                  \
    KERNEL(256)                                                                                                        \
    group_norm_last_apply_##T(T *y, const T *x, const float *weight, const float *offset, const T *bias,               \
                              const T *shift, const float *moments, GroupNormLastSizes sizes) {                        \
        group_norm_last_apply<T>(y, x, weight, offset, bias, shift, moments, sizes);                                   \
    }

typedef float f32;
GROUP_NORM_LAST(f16)
GROUP_NORM_LAST(bf16)
GROUP_NORM_LAST(f32)
