// In: sizes. Out: the stand-in's device memory, which is the processor's, with every allocation known.
#pragma once

#include <cstddef>
#include <cstdint>

namespace stand_in {

struct MemoryUse {
    uint64_t now = 0, peak = 0, allocations = 0;
};

// Memory at a multiple of 512 bytes, as a GPU's pool gives it. With `poison` it holds NaNs in every number format.
void *allocate(size_t bytes, bool poison);
// Whether there was such an allocation.
bool release(uint64_t address);
MemoryUse memory_use();
// Whether the bytes lie in one live allocation.
bool is_allocated(uint64_t address, size_t bytes);

}  // namespace stand_in
