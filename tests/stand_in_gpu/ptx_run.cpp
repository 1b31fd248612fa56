// In: a kernel and a launch. Out: its effects on memory. Blocks are dealt to a few threads; within one, warps take
// turns at barriers, and the lanes of a warp that part are run from the one that is furthest behind, so that they meet
// again where their ways do.
#include "ptx.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>

namespace stand_in {

namespace {

class BlockRunner {
  public:
    BlockRunner(const Kernel &kernel, const Launch &launch, unsigned order) : kernel(kernel), launch(launch) {
        unsigned threads = launch.threads[0] * launch.threads[1] * launch.threads[2];
        warps.resize((threads + LANES - 1) / LANES);
        rows.resize(warps.size());
        for (size_t w = 0; w < warps.size(); w++) {
            rows[w].resize(kernel.row_bytes + 64);
            warps[w].rows = rows[w].data();
            warps[w].block = &block;
            warps[w].local.resize(kernel.local_bytes * LANES);
            for (const auto &[place, bytes] : kernel.constants) std::memcpy(warps[w].rows + place, bytes.data(), bytes.size());
            for (unsigned lane = 0; lane < LANES; lane++) {
                unsigned number = unsigned(w) * LANES + lane;
                unsigned at[3] = {number % launch.threads[0], number / launch.threads[0] % launch.threads[1], number / launch.threads[0] / launch.threads[1]};
                for (unsigned axis = 0; axis < 3; axis++) {
                    set(w, 0 + axis, lane, at[axis]);
                    set(w, 3 + axis, lane, launch.threads[axis]);
                    set(w, 9 + axis, lane, launch.grid[axis]);
                }
            }
        }
        block.kernel = &kernel;
        block.parameters = launch.parameters;
        block.shared.resize(kernel.static_shared + launch.dynamic_shared + 16);
        turns.resize(warps.size());
        std::iota(turns.begin(), turns.end(), size_t(0));
        if (order == 1) std::reverse(turns.begin(), turns.end());
        if (order > 1)
            for (size_t i = turns.size(); i > 1; i--) std::swap(turns[i - 1], turns[(order * 2654435761u + i * 40503u) % i]);
    }

    void run(unsigned x, unsigned y, unsigned z) {
        // Shared memory that nobody wrote holds NaNs.
        std::memset(block.shared.data(), 0xff, block.shared.size());
        unsigned threads = launch.threads[0] * launch.threads[1] * launch.threads[2];
        const unsigned at[3] = {x, y, z};
        for (size_t w = 0; w < warps.size(); w++) {
            Warp &warp = warps[w];
            unsigned lanes = std::min(unsigned(LANES), threads - unsigned(w) * LANES);
            warp.alive = lanes == LANES ? ~0u : (1u << lanes) - 1;
            warp.waiting = 0;
            std::memset(warp.place, 0, sizeof warp.place);
            for (unsigned axis = 0; axis < 3; axis++)
                for (unsigned lane = 0; lane < LANES; lane++) set(w, 6 + axis, lane, at[axis]);
            for (auto &copies : warp.copies) copies.clear();
        }
        for (;;) {
            bool left = false;
            for (size_t w : turns) run_warp(warps[w]);
            for (Warp &warp : warps) {
                left |= warp.waiting != 0;
                warp.waiting = 0;
            }
            if (!left) return;
        }
    }

  private:
    const Kernel &kernel;
    const Launch &launch;
    Block block;
    std::vector<Warp> warps;
    std::vector<std::vector<char>> rows;
    std::vector<size_t> turns;

    void set(size_t warp, unsigned special, unsigned lane, uint32_t value) {
        std::memcpy(warps[warp].rows + kernel.special[special] + lane * 4, &value, 4);
    }

    static uint32_t named_by(Warp &warp, const Instruction &in, uint32_t group) {
        const Operand &members = in.operand[in.meets - 1 + (in.mode >> 8 & 1)];
        return warp.row<uint32_t>(members)[__builtin_ctz(group)];
    }

    // Until every lane has ended or waits at a barrier of the block.
    void run_warp(Warp &warp) {
        const Instruction *code = kernel.code.data();
        // Of the lanes in `group`; `next` is the nearest place ahead where others wait to be met. Those in `stalled`
        // wait for lanes that the instruction at their place names.
        uint32_t at = 0, group = 0, next = 0, stalled = 0;
        bool forced = false, parted = false;  // nobody can come any more; there are lanes outside the group
        auto choose = [&] {
            uint32_t able = warp.alive & ~warp.waiting;
            forced = !(able & ~stalled);
            if (forced) stalled = 0;
            at = next = ~0u;
            group = 0;
            for (uint32_t rest = able & ~stalled; rest; rest &= rest - 1) at = std::min(at, warp.place[__builtin_ctz(rest)]);
            for (uint32_t rest = able; rest; rest &= rest - 1) {
                int lane = __builtin_ctz(rest);
                if (warp.place[lane] == at) group |= 1u << lane;
                else if (warp.place[lane] > at) next = std::min(next, warp.place[lane]);
            }
            parted = group != able;
        };
        auto leave = [&](uint32_t lanes, uint32_t place) {
            for (; lanes; lanes &= lanes - 1) warp.place[__builtin_ctz(lanes)] = place;
        };
        for (choose(); group;) {
            const Instruction &in = code[at];
            if (in.meets && parted && !forced) {
                uint32_t named = in.meets < 0 ? ~0u : named_by(warp, in, group);
                if (named & warp.alive & ~warp.waiting & ~group) {
                    stalled |= group;
                    leave(group, at);
                    choose();
                    continue;
                }
            }
            stalled &= ~group;
            uint32_t able = group;
            if (in.guard >= 0) {
                uint32_t truth;
                std::memcpy(&truth, warp.rows + in.guard, 4);
                able &= in.negated ? ~truth : truth;
            }
            if (able && in.flow == Flow::NEXT) {
                warp.mask = able;
                if (in.operation) in.operation(warp, in);
            } else if (able && in.flow == Flow::BRANCH) {
                if (able != group) {
                    leave(able, in.target);
                    leave(group & ~able, at + 1);
                    choose();
                    continue;
                }
                at = in.target;
                if (parted) {
                    leave(group, at);
                    choose();
                }
                continue;
            } else if (able && in.flow == Flow::STOP) {
                throw Fault("line " + std::to_string(in.line) + ": " + (in.text ? *in.text : "") + " is nothing that the stand-in knows");
            } else if (able) {
                leave(group, at + 1);
                if (in.flow == Flow::EXIT) warp.alive &= ~able;
                else warp.waiting |= able;
                choose();
                continue;
            }
            if (++at >= next) {
                leave(group, at);
                choose();
            }
        }
    }
};

}  // namespace

void run_kernel(const Kernel &kernel, const Launch &launch, int workers, unsigned order) {
    uint64_t blocks = uint64_t(launch.grid[0]) * launch.grid[1] * launch.grid[2];
    std::atomic<uint64_t> taken{0};
    std::exception_ptr fault;
    std::mutex fault_guard;
    auto work = [&] {
        try {
            forget_checked();
            BlockRunner runner(kernel, launch, order);
            for (uint64_t number; (number = taken++) < blocks;)
                runner.run(unsigned(number % launch.grid[0]), unsigned(number / launch.grid[0] % launch.grid[1]), unsigned(number / launch.grid[0] / launch.grid[1]));
        } catch (...) {
            std::lock_guard<std::mutex> guard(fault_guard);
            if (!fault) fault = std::current_exception();
            taken = blocks;
        }
    };
    if (workers < 2 || blocks < 4) {
        work();
    } else {
        std::vector<std::thread> threads;
        for (int i = 0; i < workers; i++) threads.emplace_back(work);
        for (auto &thread : threads) thread.join();
    }
    if (fault) std::rethrow_exception(fault);
}

}  // namespace stand_in
