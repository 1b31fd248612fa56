// In: nothing. Out: what all kernels share: number formats, wide loads, sums over a warp and a block,
// and the tensor-core instructions, each as one inline function. The check without a GPU
// (scripts/kernel-check) puts its own versions of these functions in place of the ones below; the
// kernels themselves are compiled unchanged.
#pragma once

#ifdef EMULATED
#include "emulation.hpp"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef __half f16;
typedef __nv_bfloat16 bf16;

#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
#define SHARED_BYTES(name) extern __shared__ __align__(16) unsigned char name[]

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(f16 x) { return __half2float(x); }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }

template <typename T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ f16 from_float<f16>(float x) { return __float2half_rn(x); }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) { return __float2bfloat16_rn(x); }

// The value of the lane whose number differs by the bits of `mask`.
__device__ __forceinline__ float warp_xor(float x, int mask) {
    return __shfl_xor_sync(0xffffffffu, x, mask);
}

__device__ __forceinline__ void warp_barrier() { __syncwarp(); }

// 2^x to two units in the last place; numbers below 2^-126 become zero.
__device__ __forceinline__ float power_of_two(float x) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}

// a / b to two units in the last place, and zero where b passes 2^126.
__device__ __forceinline__ float quotient(float a, float b) { return __fdividef(a, b); }

// Two neighbours of a fragment: `low` is the one with the smaller index.
template <typename T> __device__ __forceinline__ unsigned pack(float low, float high);
template <> __device__ __forceinline__ unsigned pack<f16>(float low, float high) {
    __half2 both = __floats2half2_rn(low, high);
    return *reinterpret_cast<unsigned *>(&both);
}
template <> __device__ __forceinline__ unsigned pack<bf16>(float low, float high) {
    __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<unsigned *>(&both);
}

// Four 8x8 matrices of 16-bit numbers; lane l gives the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void load_matrices(unsigned (&to)[4], const void *shared) {
    unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

// The same, each matrix transposed.
__device__ __forceinline__ void load_matrices_transposed(unsigned (&to)[4], const void *shared) {
    unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

// c [16, 8] += a [16, 16] * b [16, 8], sums in f32.
template <typename T>
__device__ __forceinline__ void multiply_tiles(float (&c)[4], const unsigned (&a)[4], unsigned b0,
                                               unsigned b1);
template <>
__device__ __forceinline__ void multiply_tiles<f16>(float (&c)[4], const unsigned (&a)[4],
                                                    unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ __forceinline__ void multiply_tiles<bf16>(float (&c)[4], const unsigned (&a)[4],
                                                     unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// 16 bytes from memory to shared memory behind the program's back, or zeros; both addresses are
// multiples of 16, and `from` may be read even where zeros are asked for.
__device__ __forceinline__ void copy_16_bytes(void *shared, const void *from, bool wanted) {
    unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    int bytes = wanted ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
                 "r"(bytes)
                 : "memory");
}

// Until all copies that this thread has begun are done; others see them after a barrier.
__device__ __forceinline__ void await_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

#endif

// Numbers in 16 bytes.
template <typename T> struct Wide {
    static const int COUNT = 16 / sizeof(T);
};

// 16 bytes at an address that is a multiple of 16.
template <typename T> __device__ __forceinline__ uint4 load_raw(const T *from) {
    return *reinterpret_cast<const uint4 *>(from);
}

// 16 bytes as f32.
template <typename T> __device__ __forceinline__ void widen(float (&to)[Wide<T>::COUNT], const uint4 &raw) {
    const T *parts = reinterpret_cast<const T *>(&raw);
#pragma unroll
    for (int i = 0; i < Wide<T>::COUNT; i++) to[i] = to_float(parts[i]);
}

// The same from memory.
template <typename T>
__device__ __forceinline__ void load_wide(float (&to)[Wide<T>::COUNT], const T *from) {
    widen<T>(to, load_raw(from));
}

template <typename T>
__device__ __forceinline__ void store_wide(T *to, const float (&from)[Wide<T>::COUNT]) {
    uint4 raw;
    T *parts = reinterpret_cast<T *>(&raw);
#pragma unroll
    for (int i = 0; i < Wide<T>::COUNT; i++) parts[i] = from_float<T>(from[i]);
    *reinterpret_cast<uint4 *>(to) = raw;
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) x += warp_xor(x, mask);
    return x;
}

// The sum over a block of whole warps, the same bits in every thread. `scratch` holds 32 numbers.
__device__ __forceinline__ float block_sum(float x, float *scratch) {
    x = warp_sum(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
    __syncthreads();
    float sum = 0.0f;
    for (unsigned warp = 0; warp < blockDim.x / 32; warp++) sum += scratch[warp];
    return sum;
}
