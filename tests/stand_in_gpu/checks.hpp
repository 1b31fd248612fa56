// In: a library's results and what they should be, in f64. Out: the count of checks and of those that do not hold. Also
// here: memory on the "device", with a ledger in the place of the driver's.
#pragma once
#include <unistd.h>

#include <cmath>
#include <functional>
#include <map>

#include "product.hpp"

using Pointer = const void *;

namespace stand_in __attribute__((visibility("hidden"))) {

// ---- The driver's part

inline std::map<uintptr_t, size_t> ledger;
/// Whether a call has reached for what the ledger does not hold, and whether calls are to compute.
inline bool strayed = false, computes = true;
inline std::string counted;
inline double operations = 0;

// ---- Numbers and comparisons

inline int checks = 0, failures = 0;
inline void hold(bool held, const std::string &what) {
    checks++;
    if (!held && failures++ < 20) printf("does not hold: %s\n", what.c_str());
}

/// A call that must end in `want`, and say one sentence where that is an error.
inline void ends(int want, const std::string &what, const std::function<int()> &call) {
    auto said = [] { return long(lseek(2, 0, SEEK_CUR)); };
    long before = said();
    int got = call();
    hold(got == want, text("%s gives %d, not %d", what.c_str(), got, want));
    hold((said() > before) == (want != 0), what + ": a sentence, and only for an error");
}

inline double drawn() { // in [-1, 1]
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return double(int64_t(state)) * 0x1p-63;
}

/// Numbers on the "device", all NaN at first.
struct Numbers {
    Format format;
    struct alignas(512) Piece {
        char bytes[512];
    };
    std::vector<Piece> room; // at a multiple of 512 bytes, as the driver gives memory
    Numbers(Format f, size_t count) : format(f), room(count * size_of(f) / sizeof(Piece) + 1) {
        ledger[uintptr_t(room.data())] = count * size_of(f);
        for (size_t i = 0; i < count; i++) set(i, NAN);
    }
    Numbers(const Numbers &) = delete;
    ~Numbers() { ledger.erase(uintptr_t(room.data())); }
    void *at(size_t i = 0) { return reinterpret_cast<char *>(room.data()) + i * size_of(format); }
    double get(size_t i) {
        double wide;
        widen(format, room.data(), ptrdiff_t(i), 1, 1, &wide);
        return wide;
    }
    std::vector<double> all() {
        std::vector<double> wide(ledger[uintptr_t(room.data())] / size_of(format));
        for (size_t i = 0; i < wide.size(); i++) wide[i] = get(i);
        return wide;
    }
    void set(size_t i, double x) {
        float less = float(x);
        uint16_t half = format == Format::F16 ? narrow_f16(less) : narrow_bf16(less);
        memcpy(at(i),
               format == Format::F64   ? Pointer(&x)
               : format == Format::F32 ? Pointer(&less)
                                       : Pointer(&half),
               size_of(format));
    }
};

/// Whether `got` is `want` but for one rounding to its format and sums of `size` (of the products' amounts) in `sums`.
inline bool near(Format format, double got, double want, double size, Format sums) {
    double unit = format == Format::F16    ? 0x1p-11
                  : format == Format::BF16 ? 0x1p-8
                  : format == Format::F32  ? 0x1p-24
                                           : 0x1p-53;
    double slack = 12 * (sums == Format::F64 ? 0x1p-53 : 0x1p-24) * (size + std::fabs(want));
    return std::fabs(got - want) <= 1.01 * unit * std::fabs(want) + slack + (format == Format::F16 ? 0x1p-25 : 0);
}

inline int cublas_type(Format f) { return f == Format::F32 ? 0 : f == Format::F64 ? 1 : f == Format::F16 ? 2 : 14; }

} // namespace stand_in
