// In: sizes and addresses. Out: allocations, and whether an address is inside one.
#include "memory.hpp"

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <shared_mutex>

#include "ptx.hpp"

namespace stand_in {

namespace {

std::shared_mutex guard;
std::map<uint64_t, size_t> allocations;
MemoryUse use;

struct Range {
    uint64_t begin = 0, end = 0;
};
// The ranges that this thread's launch has met last; nothing is freed during a launch.
thread_local Range met[8];
thread_local unsigned next_met = 0;

bool find(uint64_t address, size_t bytes, Range &found) {
    std::shared_lock<std::shared_mutex> lock(guard);
    auto after = allocations.upper_bound(address);
    if (after == allocations.begin()) return false;
    --after;
    found.begin = after->first;
    found.end = after->first + after->second;
    return address + bytes <= found.end;
}

}  // namespace

void *allocate(size_t bytes, bool poison) {
    void *memory = nullptr;
    if (posix_memalign(&memory, 512, (bytes + 511) / 512 * 512) != 0) return nullptr;
    if (poison) std::memset(memory, 0xff, bytes);
    std::unique_lock<std::shared_mutex> lock(guard);
    allocations[reinterpret_cast<uint64_t>(memory)] = bytes;
    use.now += bytes;
    use.allocations++;
    if (use.now > use.peak) use.peak = use.now;
    return memory;
}

bool release(uint64_t address) {
    std::unique_lock<std::shared_mutex> lock(guard);
    auto found = allocations.find(address);
    if (found == allocations.end()) return false;
    use.now -= found->second;
    allocations.erase(found);
    free(reinterpret_cast<void *>(address));
    return true;
}

MemoryUse memory_use() {
    std::shared_lock<std::shared_mutex> lock(guard);
    return use;
}

bool is_allocated(uint64_t address, size_t bytes) {
    Range range;
    return find(address, bytes, range);
}

void check_global(uint64_t address, size_t bytes, bool) {
    for (const Range &range : met)
        if (address >= range.begin && address + bytes <= range.end) return;
    Range range;
    if (!find(address, bytes, range)) throw Fault("the address " + std::to_string(address) + " is in no allocation");
    met[next_met++ % 8] = range;
}

void forget_checked() {
    for (Range &range : met) range = {};
}

}  // namespace stand_in
