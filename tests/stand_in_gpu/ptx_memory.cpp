// In: the name of a PTX instruction that touches memory or other lanes. Out: the function that does it. Every address
// is held against what was allocated and against its alignment, as a GPU would, and more strictly.
#include "ptx_operations.hpp"

#include <mutex>

namespace stand_in {

namespace {

constexpr uint64_t SHARED_WINDOW = 1ull << 56, LOCAL_WINDOW = 1ull << 57;

[[noreturn]] void refuse(const Instruction &in, int lane, const std::string &why) {
    throw Fault("line " + std::to_string(in.line) + ", lane " + std::to_string(lane) + ": " + (in.text ? *in.text : "") + ": " + why);
}

uint64_t address_in(const Warp &warp, const Operand &operand, int lane) {
    uint64_t address = 0;
    std::memcpy(&address, warp.rows + operand.row + size_t(lane) * operand.size, operand.size);
    return address;
}

// Where `bytes` bytes of memory lie.
char *locate(Warp &warp, const Instruction &in, Space space, uint64_t address, size_t bytes, bool writes, int lane) {
    if (address % bytes) refuse(in, lane, "the address " + std::to_string(address) + " is no multiple of " + std::to_string(bytes));
    if (space == Space::GENERIC && address & (SHARED_WINDOW | LOCAL_WINDOW)) {
        space = address & SHARED_WINDOW ? Space::SHARED : Space::LOCAL;
        address &= SHARED_WINDOW - 1;
    }
    if (space == Space::SHARED) {
        if (address + bytes > warp.block->shared.size()) refuse(in, lane, "byte " + std::to_string(address) + " is outside the shared memory");
        return warp.block->shared.data() + address;
    }
    if (space == Space::LOCAL) {
        size_t own = warp.local.size() / LANES;
        if (address + bytes > own) refuse(in, lane, "byte " + std::to_string(address) + " is outside the local memory");
        return warp.local.data() + own * size_t(lane) + address;
    }
    try {
        check_global(address, bytes, writes);
    } catch (const Fault &fault) {
        refuse(in, lane, fault.what());
    }
    return reinterpret_cast<char *>(address);
}

// ld.space.type {d, ...}, [address]
void load(Warp &warp, const Instruction &in) {
    const Operand &at = in.operand[in.parts];
    size_t bytes = size_t(in.width) * in.parts;
    for_lanes(warp.mask, [&](int lane) {
        uint64_t address = address_in(warp, at, lane) + uint64_t(in.offset);
        const char *from = in.space == Space::PARAM ? warp.block->parameters + address : locate(warp, in, in.space, address, bytes, false, lane);
        for (int part = 0; part < in.parts; part++) {
            const Operand &to = in.operand[part];
            uint64_t value = 0;
            std::memcpy(&value, from + size_t(part) * in.width, in.width);
            if (in.extend) {
                int unused = 64 - in.width * 8;
                value = uint64_t(int64_t(value << unused) >> unused);
            }
            std::memcpy(warp.rows + to.row + size_t(lane) * to.size, &value, to.size);
        }
    });
}

// st.space.type [address], {a, ...}
void store(Warp &warp, const Instruction &in) {
    const Operand &at = in.operand[0];
    size_t bytes = size_t(in.width) * in.parts;
    for_lanes(warp.mask, [&](int lane) {
        char *to = locate(warp, in, in.space, address_in(warp, at, lane) + uint64_t(in.offset), bytes, true, lane);
        for (int part = 0; part < in.parts; part++) {
            const Operand &from = in.operand[part + 1];
            std::memcpy(to + size_t(part) * in.width, warp.rows + from.row + size_t(lane) * from.size, in.width);
        }
    });
}

// atom.add.type d, [address], a
template <class T> void atomic_add(Warp &warp, const Instruction &in) {
    static std::mutex one_at_a_time;
    T *old = warp.row<T>(in.operand[0]);
    const T *a = warp.row<T>(in.operand[2]);
    std::lock_guard<std::mutex> guard(one_at_a_time);
    for_lanes(warp.mask, [&](int lane) {
        auto *to = reinterpret_cast<T *>(locate(warp, in, in.space, address_in(warp, in.operand[1], lane) + uint64_t(in.offset), sizeof(T), true, lane));
        old[lane] = *to;
        *to = T(*to + a[lane]);
    });
}

void need_whole_warp(Warp &warp, const Instruction &in, uint32_t members) {
    uint32_t absent = members & (warp.alive | warp.waiting) & ~warp.mask;
    if (absent) refuse(in, __builtin_ctz(absent), "the lane is named but is elsewhere");
}

// shfl.sync.mode.b32 d[|p], a, b, c, members
void shuffle(Warp &warp, const Instruction &in) {
    int second = in.mode & 256 ? 1 : 0, kind = in.mode & 15;
    const uint32_t *a = warp.row<uint32_t>(in.operand[1 + second]), *b = warp.row<uint32_t>(in.operand[2 + second]);
    const uint32_t *c = warp.row<uint32_t>(in.operand[3 + second]), *members = warp.row<uint32_t>(in.operand[4 + second]);
    uint32_t values[LANES], inside = 0;
    uint32_t *to = warp.row<uint32_t>(in.operand[0]);
    for_lanes(warp.mask, [&](int lane) {
        need_whole_warp(warp, in, members[lane]);
        int segment = int(c[lane] >> 8 & 31), clamp = int(c[lane] & 31), by = int(b[lane] & 31);
        int most = (lane & segment) | (clamp & ~segment), from = lane;
        bool in_range = true;
        switch (kind) {
        case 0: from = lane - by; in_range = from >= most; break;                       // up
        case 1: from = lane + by; in_range = from <= most; break;                       // down
        case 2: from = lane ^ by; in_range = from <= most; break;                       // bfly
        default: from = (lane & segment) | (by & ~segment); in_range = from <= most;   // idx
        }
        if (!in_range) from = lane;
        if (!(warp.mask >> from & 1)) refuse(in, lane, "it reads from a lane that is not there");
        values[lane] = a[from];
        inside |= uint32_t(in_range) << lane;
    });
    for_lanes(warp.mask, [&](int lane) { to[lane] = values[lane]; });
    if (second) warp.predicate(in.operand[1]) = merged(warp.predicate(in.operand[1]), inside, warp.mask);
}

void warp_barrier(Warp &warp, const Instruction &in) {
    const uint32_t *members = warp.row<uint32_t>(in.operand[0]);
    for_lanes(warp.mask, [&](int lane) { need_whole_warp(warp, in, members[lane]); });
}

// ldmatrix.sync.aligned.m8n8.x4[.trans].shared.b16: lane l brings the address of row l % 8 of matrix l / 8 and
// receives, of each matrix, two neighbours of row l / 4 (of column l / 4, transposed).
void load_matrices(Warp &warp, const Instruction &in) {
    need_whole_warp(warp, in, 0xffffffffu);
    int matrices = in.count - 1;
    bool transposed = in.mode & 1;
    const char *rows[LANES];
    for (int lane = 0; lane < matrices * 8; lane++)
        rows[lane] = locate(warp, in, Space::SHARED, address_in(warp, in.operand[matrices], lane) + uint64_t(in.offset), 16, false, lane);
    for (int matrix = 0; matrix < matrices; matrix++) {
        uint32_t *to = warp.row<uint32_t>(in.operand[matrix]);
        for (int lane = 0; lane < LANES; lane++) {
            uint16_t pair[2];
            for (int i = 0; i < 2; i++) {
                int row = lane / 4, column = lane % 4 * 2 + i;
                if (transposed) std::swap(row, column);
                std::memcpy(&pair[i], rows[matrix * 8 + row] + column * 2, 2);
            }
            std::memcpy(&to[lane], pair, 4);
        }
    }
}

// mma.sync.aligned.m16n8k16.row.col.f32.T.T.f32 {d x4}, {a x4}, {b x2}, {c x4}. With g = lane / 4 and t = lane % 4,
// a lane's registers hold, by the manual, of a [16, 16]: rows g, g + 8, g, g + 8 at columns 2t and 2t + 8 (the last
// two); of b [16, 8]: column g at rows 2t and 2t + 8; of c and d [16, 8]: rows g and g + 8 at column 2t.
template <class H> void multiply_tiles(Warp &warp, const Instruction &in) {
    need_whole_warp(warp, in, 0xffffffffu);
    float a[16][16], b[16][8];
    auto half = [&](int operand, int lane, int i) {
        H value;
        std::memcpy(&value, warp.rows + in.operand[operand].row + size_t(lane) * 4 + size_t(i) * 2, 2);
        return float(double(value));
    };
    for (int lane = 0; lane < LANES; lane++) {
        int g = lane / 4, t = lane % 4 * 2;
        for (int i = 0; i < 2; i++) {
            for (int part = 0; part < 4; part++) a[g + part % 2 * 8][t + part / 2 * 8 + i] = half(4 + part, lane, i);
            for (int part = 0; part < 2; part++) b[t + part * 8 + i][g] = half(8 + part, lane, i);
        }
    }
    float d[16][8] = {};
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < 8; column++) d[row][column] += a[row][k] * b[k][column];
    for (int lane = 0; lane < LANES; lane++)
        for (int part = 0; part < 4; part++) {
            float c = warp.row<float>(in.operand[10 + part])[lane];
            warp.row<float>(in.operand[part])[lane] = c + d[lane / 4 + part / 2 * 8][lane % 4 * 2 + part % 2];
        }
}

// cp.async.cg.shared.global [to], [from], 16, bytes: the copy is made when it is waited for, so that a kernel which
// does not wait reads what was there before.
void begin_copy(Warp &warp, const Instruction &in) {
    const uint32_t *size = warp.row<uint32_t>(in.operand[2]);
    const uint32_t *given = in.count > 3 ? warp.row<uint32_t>(in.operand[3]) : size;
    for_lanes(warp.mask, [&](int lane) {
        Warp::Copy copy = {};
        uint64_t to = address_in(warp, in.operand[0], lane);
        locate(warp, in, Space::SHARED, to, 16, true, lane);
        uint64_t from = address_in(warp, in.operand[1], lane);
        if (from % 16) refuse(in, lane, "the address is no multiple of 16");
        if (size[lane] != 16) refuse(in, lane, "copies of 16 bytes only are known");
        copy.to = uint32_t(to);
        if (given[lane]) std::memcpy(copy.bytes, locate(warp, in, Space::GLOBAL, from, 16, false, lane), given[lane]);
        warp.copies[lane].push_back(copy);
    });
}

void await_copies(Warp &warp, const Instruction &) {
    for_lanes(warp.mask, [&](int lane) {
        for (const auto &copy : warp.copies[lane]) std::memcpy(warp.block->shared.data() + copy.to, copy.bytes, 16);
        warp.copies[lane].clear();
    });
}

template <uint64_t WINDOW> void to_generic(Warp &warp, const Instruction &in) {
    auto *to = warp.row<uint64_t>(in.operand[0]);
    const auto *from = warp.row<uint64_t>(in.operand[1]);
    for_lanes(warp.mask, [&](int lane) { to[lane] = from[lane] | WINDOW; });
}

void nothing(Warp &, const Instruction &) {}

Space space_of(const Mnemonic &m) {
    if (m.has("global")) return Space::GLOBAL;
    if (m.has("shared")) return Space::SHARED;
    if (m.has("local")) return Space::LOCAL;
    if (m.has("param")) return Space::PARAM;
    return Space::GENERIC;
}

}  // namespace

Operation find_operation(const Mnemonic &m, Instruction &in) {
    const std::string &base = m.base;
    Type type = m.types.empty() ? Type::NONE : m.types.back();
    if (base == "bra") {
        in.flow = Flow::BRANCH;
        return nullptr;
    }
    if (base == "ret" || base == "exit") {
        in.flow = Flow::EXIT;
        return nullptr;
    }
    if (base == "bar" || base == "barrier") {
        if (m.has("warp")) {
            in.meets = 1;
            return warp_barrier;
        }
        in.flow = Flow::BARRIER;
        return nullptr;
    }
    in.space = space_of(m);
    Operation found = nullptr;
    if (base == "ld" || base == "st") {
        if (base == "st" && in.space == Space::PARAM) return nullptr;  // for a call, which stops
        in.width = uint8_t(size_of(type));
        in.extend = type == Type::S8 || type == Type::S16 || type == Type::S32 || type == Type::S64;
        return base == "ld" ? load : store;
    }
    if (base == "atom" && m.has("add")) {
        switch (type) {
        case Type::U32: return atomic_add<uint32_t>;
        case Type::U64: return atomic_add<uint64_t>;
        case Type::F16: return atomic_add<f16>;
        case Type::BF16: return atomic_add<bf16>;
        case Type::F32: return atomic_add<float>;
        case Type::F64: return atomic_add<double>;
        default: break;
        }
    } else if (base == "shfl") {
        in.mode = m.has("up") ? 0 : m.has("down") ? 1 : m.has("bfly") ? 2 : 3;
        in.meets = 5;
        found = shuffle;
    } else if (base == "ldmatrix" && m.has("m8n8") && type == Type::B16) {
        in.mode = m.has("trans");
        in.meets = -1;
        found = load_matrices;
    } else if (base == "mma" && m.has("m16n8k16") && m.has("row") && m.has("col") && m.types.size() == 4 && m.types[0] == Type::F32 && m.types[3] == Type::F32 && m.types[1] == m.types[2]) {
        in.meets = -1;
        if (m.types[1] == Type::F16) found = multiply_tiles<f16>;
        if (m.types[1] == Type::BF16) found = multiply_tiles<bf16>;
    } else if (base == "cp" && m.has("async") && m.has("wait_all")) {
        found = await_copies;
    } else if (base == "cp" && m.has("async") && m.has("cg")) {
        found = begin_copy;
    } else if (base == "membar" || base == "fence") {
        found = nothing;
    } else if (base == "cvta" && !m.has("to") && m.has("shared")) {
        found = to_generic<SHARED_WINDOW>;
    } else if (base == "cvta" && !m.has("to") && m.has("local")) {
        found = to_generic<LOCAL_WINDOW>;
    } else {
        found = find_computation(m, in);
    }
    if (!found) in.flow = Flow::STOP;
    return found;
}

Type operand_type(const Mnemonic &m, int number) {
    const std::string &base = m.base;
    Type last = m.types.empty() ? Type::B64 : m.types.back();
    if (base == "shl" || base == "shr") return number == 2 ? Type::U32 : last;
    if (base == "bfi") return number >= 3 ? Type::U32 : last;
    if (base == "shfl" || base == "cp" || base == "bar" || base == "mma") return Type::U32;
    if (base == "cvt") return m.types[number == 0 ? 0 : 1];
    if ((base == "mul" || base == "mad") && m.has("wide") && (number == 0 || number == 3)) {
        switch (last) {
        case Type::U16: return Type::U32;
        case Type::S16: return Type::S32;
        case Type::U32: return Type::U64;
        default: return Type::S64;
        }
    }
    if (base == "selp" && number == 3) return Type::PRED;
    return last;
}

}  // namespace stand_in
