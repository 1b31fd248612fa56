// In: nothing. Out: what the operations of a warp share.
#pragma once

#include "numbers.hpp"
#include "ptx.hpp"

namespace stand_in {

// Calls `f` with each lane of the mask. A whole warp, the usual case, is a plain loop.
template <class F> inline void for_lanes(uint32_t mask, F f) {
    if (mask == 0xffffffffu) {
        for (int lane = 0; lane < LANES; lane++) f(lane);
        return;
    }
    for (; mask; mask &= mask - 1) f(__builtin_ctz(mask));
}

inline uint32_t merged(uint32_t old, uint32_t fresh, uint32_t mask) { return (old & ~mask) | (fresh & mask); }

// Arithmetic, comparisons and conversions; null for what is not among them.
Operation find_computation(const Mnemonic &mnemonic, Instruction &instruction);

}  // namespace stand_in
