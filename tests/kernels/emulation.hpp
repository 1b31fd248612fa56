// In: a kernel as a function of C++. Out: the kernel run on the processor as a GPU would run it: every
// thread of a block is a fiber; barriers, shuffles and the tensor-core instructions meet where they do
// on the device. It stands in for the first half of device.cuh. What it is strict about: shared memory
// begins as NaN and has its exact size, copies behind the program's back arrive only when they are
// awaited, and threads take turns in an order that the caller names, so that a missing barrier shows.
// Layouts of fragments are those of the PTX ISA (ldmatrix, mma.m16n8k16), written down here once more,
// apart from the kernels.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <ucontext.h>
#include <vector>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#define __device__
#define __forceinline__ inline
#define __shared__ static
#define KERNEL(threads) inline void

struct f16 {
    uint16_t bits;
};
struct bf16 {
    uint16_t bits;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

inline float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

inline float to_float(float x) { return x; }
inline float to_float(bf16 x) { return float_of(uint32_t(x.bits) << 16); }
inline float to_float(f16 x) {
    uint32_t sign = uint32_t(x.bits & 0x8000) << 16, exponent = x.bits >> 10 & 31, part = x.bits & 1023;
    if (exponent == 31) return float_of(sign | 0x7f800000 | part << 13);
    if (exponent == 0) return std::copysign(float(part) * 0x1p-24f, float_of(sign | 0x3f800000));
    return float_of(sign | (exponent + 112) << 23 | part << 13);
}

template <typename T> T from_float(float x);
template <> inline float from_float<float>(float x) { return x; }
template <> inline bf16 from_float<bf16>(float x) {
    uint32_t bits = bits_of(x);
    if (std::isnan(x)) return {0x7fff};
    return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
// To the nearest, ties to even: scaled so that the last place of f16 is one, rounded, scaled back.
template <> inline f16 from_float<f16>(float x) {
    uint16_t sign = bits_of(x) >> 16 & 0x8000;
    if (std::isnan(x)) return {0x7fff};
    double size = std::fabs(double(x));
    if (size >= 65520.0) return {uint16_t(sign | 0x7c00)};
    int exponent = size < 0x1p-14 ? -14 : std::ilogb(size);
    double places = std::nearbyint(std::ldexp(size, 10 - exponent));
    if (size < 0x1p-14) return {uint16_t(sign | uint16_t(places))};
    return {uint16_t(sign | ((uint16_t(exponent + 14) << 10) + uint16_t(places)))};
}

// What can be broken on purpose, to see that the checks notice.
enum class Sabotage {
    None,
    FragmentRows,   // the left operand's rows 0-7 and 8-15 change places
    NoTranspose,    // the transposing load does not transpose
    EarlyRead,      // awaiting copies does nothing
    NoBarrier,      // block barriers do nothing
    OneLaneShuffle, // shuffles give each lane its own value
    LostWrite,      // the last 16-byte copy of each thread before a wait is dropped
};

namespace emulation {

struct Copy {
    void *to;
    const void *from;
    bool wanted;
};

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    void *shadow = nullptr;
    bool done = false;
    dim3 thread;
    unsigned barriers = 0;  // block barriers met
    unsigned meetings = 0;  // warp meetings met
    std::vector<Copy> copies, late;
};

struct Warp {
    unsigned arrived = 0, finished = 0;
    const void *given[32];
    void *wanted[32];
};

constexpr size_t STACK = 256 * 1024;

struct Machine {
    dim3 block_size, grid_size, block;
    std::vector<Fiber> fibers;
    std::vector<unsigned> order;  // turn -> fiber
    std::vector<unsigned> turn_of;
    std::vector<Warp> warps;
    unsigned running = 0, at_barrier = 0, barriers_done = 0;
    std::function<void()> kernel;
    unsigned char *shared = nullptr;
    ucontext_t home;
    void *home_shadow = nullptr;
    const void *home_stack = nullptr;
    size_t home_size = 0;
    Sabotage sabotage = Sabotage::None;
    unsigned left = 0;
    uint64_t idle = 0;
    size_t shared_bytes = 0;
    unsigned seed = 0;
};

inline Machine machine;

inline Fiber &self() { return machine.fibers[machine.running]; }
inline unsigned lane() { return machine.running % 32; }
inline Warp &warp() { return machine.warps[machine.running / 32]; }

inline void switch_to(unsigned next) {
    Fiber &from = self(), &to = machine.fibers[next];
    if (next == machine.running) return;
    machine.running = next;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&from.shadow, to.stack.get(), STACK);
#endif
    swapcontext(&from.context, &to.context);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(from.shadow, nullptr, nullptr);
#endif
}

inline unsigned next_alive() {
    unsigned turn = machine.turn_of[machine.running], count = machine.fibers.size();
    for (unsigned i = 1; i <= count; i++) {
        unsigned fiber = machine.order[(turn + i) % count];
        if (!machine.fibers[fiber].done) return fiber;
    }
    return machine.running;
}

// Lets the others run until `met`.
template <typename F> void wait_until(F met) {
    while (!met()) {
        if (++machine.idle > 1u << 26) {
            fprintf(stderr, "threads wait for each other in vain\n");
            exit(3);
        }
        switch_to(next_alive());
    }
    machine.idle = 0;
}

inline void body() {
#ifdef __SANITIZE_ADDRESS__
    const void *stack;
    size_t size;
    __sanitizer_finish_switch_fiber(nullptr, &stack, &size);
    if (machine.home_stack == nullptr) machine.home_stack = stack, machine.home_size = size;
#endif
    machine.kernel();
    self().done = true;
    machine.left--;
    if (machine.left > 0) {
        Fiber &from = self();
        unsigned next = next_alive();
        machine.running = next;
#ifdef __SANITIZE_ADDRESS__
        __sanitizer_start_switch_fiber(nullptr, machine.fibers[next].stack.get(), STACK);
#endif
        swapcontext(&from.context, &machine.fibers[next].context);
    } else {
#ifdef __SANITIZE_ADDRESS__
        __sanitizer_start_switch_fiber(nullptr, machine.home_stack, machine.home_size);
#endif
        setcontext(&machine.home);
    }
}

// Every lane of the warp brings `given` and a place for what it wants; the last to come does `work`.
template <typename F> void meet(const void *given, void *wanted, F work) {
    Warp &own = warp();
    unsigned number = ++self().meetings;
    own.given[lane()] = given;
    own.wanted[lane()] = wanted;
    if (++own.arrived == 32) {
        work(own);
        own.arrived = 0;
        own.finished = number;
    } else {
        wait_until([&] { return own.finished >= number; });
    }
}

// Runs `kernel` with every thread of every block; `seed` shuffles their turns, 0 keeps their order.
inline void launch(dim3 grid, unsigned threads, size_t shared_bytes, unsigned seed,
                   std::function<void()> kernel) {
    Machine &m = machine;
    m.block_size = {threads, 1, 1};
    m.grid_size = grid;
    m.shared_bytes = shared_bytes;
    m.seed = seed;
#ifdef OF_PTX
    return kernel(); // the whole launch at once (ptx_call.hpp)
#endif
    m.kernel = std::move(kernel);
    m.order.resize(threads);
    m.turn_of.resize(threads);
    for (unsigned i = 0; i < threads; i++) m.order[i] = i;
    uint32_t state = seed;
    for (unsigned i = threads; seed != 0 && i > 1; i--) {
        state = state * 1664525u + 1013904223u;
        std::swap(m.order[i - 1], m.order[(state >> 8) % i]);
    }
    for (unsigned i = 0; i < threads; i++) m.turn_of[m.order[i]] = i;
    m.fibers.resize(threads);
    for (Fiber &fiber : m.fibers) {
        if (!fiber.stack) fiber.stack.reset(new char[STACK]);
    }
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                m.block = {x, y, z};
                std::unique_ptr<unsigned char, void (*)(void *)> shared(
                    static_cast<unsigned char *>(malloc(shared_bytes + !shared_bytes)), free);
                m.shared = shared.get();
                memset(m.shared, 0xff, shared_bytes);
                m.warps.assign(threads / 32, Warp());
                m.at_barrier = m.barriers_done = 0;
                m.left = threads;
                for (unsigned i = 0; i < threads; i++) {
                    Fiber &fiber = m.fibers[i];
                    fiber.done = false;
                    fiber.thread = {i, 0, 0};
                    fiber.barriers = fiber.meetings = 0;
                    fiber.copies.clear();
                    fiber.late.clear();
                    getcontext(&fiber.context);
                    fiber.context.uc_stack.ss_sp = fiber.stack.get();
                    fiber.context.uc_stack.ss_size = STACK;
                    fiber.context.uc_link = nullptr;
                    makecontext(&fiber.context, body, 0);
                }
                m.running = m.order[0];
#ifdef __SANITIZE_ADDRESS__
                __sanitizer_start_switch_fiber(&m.home_shadow, m.fibers[m.running].stack.get(), STACK);
#endif
                swapcontext(&m.home, &m.fibers[m.running].context);
#ifdef __SANITIZE_ADDRESS__
                __sanitizer_finish_switch_fiber(m.home_shadow, nullptr, nullptr);
#endif
            }
}

inline uint16_t half_of(unsigned word, unsigned number) { return uint16_t(word >> 16 * number); }

template <typename T> float number(uint16_t bits) {
    T x;
    x.bits = bits;
    return to_float(x);
}

struct Tiles {
    const float *c;
    const unsigned *a;
    unsigned b[2];
};

template <typename T> void multiply(Warp &warp) {
    static float a[16][16], b[16][8];
    bool swapped = machine.sabotage == Sabotage::FragmentRows;
    for (unsigned l = 0; l < 32; l++) {
        const Tiles &given = *static_cast<const Tiles *>(warp.given[l]);
        unsigned group = l / 4, place = l % 4;
        for (unsigned i = 0; i < 8; i++) {
            unsigned row = group + ((i / 2 % 2 == 0) != swapped ? 0 : 8);
            a[row][place * 2 + i % 2 + (i >= 4 ? 8 : 0)] = number<T>(half_of(given.a[i / 2], i % 2));
        }
        for (unsigned i = 0; i < 4; i++) {
            b[place * 2 + i % 2 + (i >= 2 ? 8 : 0)][group] = number<T>(half_of(given.b[i / 2], i % 2));
        }
    }
    for (unsigned l = 0; l < 32; l++) {
        const Tiles &given = *static_cast<const Tiles *>(warp.given[l]);
        float *c = static_cast<float *>(warp.wanted[l]);
        for (unsigned i = 0; i < 4; i++) {
            unsigned row = l / 4 + (i >= 2 ? 8 : 0), column = l % 4 * 2 + i % 2;
            float sum = given.c[i];
            for (unsigned k = 0; k < 16; k++) sum += a[row][k] * b[k][column];
            c[i] = sum;
        }
    }
}

inline void load_matrices(unsigned (&to)[4], const void *row, bool transposed) {
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0) {
        fprintf(stderr, "a matrix row that does not begin at 16 bytes\n");
        exit(3);
    }
    meet(row, to, [transposed](Warp &warp) {
        for (unsigned matrix = 0; matrix < 4; matrix++) {
            uint16_t numbers[8][8];
            for (unsigned i = 0; i < 8; i++) memcpy(numbers[i], warp.given[matrix * 8 + i], 16);
            for (unsigned l = 0; l < 32; l++) {
                unsigned row = l / 4, column = l % 4 * 2;
                uint16_t low = transposed ? numbers[column][row] : numbers[row][column];
                uint16_t high = transposed ? numbers[column + 1][row] : numbers[row][column + 1];
                static_cast<unsigned *>(warp.wanted[l])[matrix] = low | unsigned(high) << 16;
            }
        }
    });
}

} // namespace emulation

#define threadIdx (emulation::self().thread)
#define blockIdx (emulation::machine.block)
#define blockDim (emulation::machine.block_size)
#define gridDim (emulation::machine.grid_size)
#define SHARED_BYTES(name) unsigned char *name = emulation::machine.shared

inline void __syncthreads() {
    using namespace emulation;
    if (machine.sabotage == Sabotage::NoBarrier) return;
    unsigned number = ++self().barriers;
    if (++machine.at_barrier == machine.fibers.size()) {
        machine.at_barrier = 0;
        machine.barriers_done = number;
    } else {
        wait_until([=] { return machine.barriers_done >= number; });
    }
}

inline float warp_xor(float x, int mask) {
    float result;
    emulation::meet(&x, &result, [mask](emulation::Warp &warp) {
        bool broken = emulation::machine.sabotage == Sabotage::OneLaneShuffle;
        for (unsigned l = 0; l < 32; l++) {
            *static_cast<float *>(warp.wanted[l]) =
                *static_cast<const float *>(warp.given[broken ? l : l ^ unsigned(mask)]);
        }
    });
    return result;
}

inline void warp_barrier() {
    emulation::meet(nullptr, nullptr, [](emulation::Warp &) {});
}

inline float power_of_two(float x) { return exp2f(x); }

inline float quotient(float a, float b) { return a / b; }

template <typename T> unsigned pack(float low, float high) {
    return from_float<T>(low).bits | unsigned(from_float<T>(high).bits) << 16;
}

inline void load_matrices(unsigned (&to)[4], const void *shared) {
    emulation::load_matrices(to, shared, false);
}

inline void load_matrices_transposed(unsigned (&to)[4], const void *shared) {
    emulation::load_matrices(to, shared, emulation::machine.sabotage != Sabotage::NoTranspose);
}

template <typename T>
void multiply_tiles(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    emulation::Tiles given = {c, a, {b0, b1}};
    emulation::meet(&given, c, emulation::multiply<T>);
}

inline void copy_16_bytes(void *shared, const void *from, bool wanted) {
    if ((reinterpret_cast<uintptr_t>(shared) | reinterpret_cast<uintptr_t>(from)) % 16 != 0) {
        fprintf(stderr, "a copy of 16 bytes that does not begin at 16 bytes\n");
        exit(3);
    }
    emulation::self().copies.push_back({shared, from, wanted});
}

inline void await_copies() {
    using namespace emulation;
    std::vector<Copy> &copies = self().copies;
    if (machine.sabotage == Sabotage::EarlyRead) {
        // They arrive one wait too late.
        std::swap(copies, self().late);
    }
    if (machine.sabotage == Sabotage::LostWrite && !copies.empty()) copies.pop_back();
    for (const Copy &copy : copies) {
        if (copy.wanted) {
            memcpy(copy.to, copy.from, 16);
        } else {
            // The device may read what it does not want.
            volatile unsigned char seen = *static_cast<const unsigned char *>(copy.from);
            (void)seen;
            memset(copy.to, 0, 16);
        }
    }
    copies.clear();
}
