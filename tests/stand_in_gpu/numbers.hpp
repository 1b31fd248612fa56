// In: nothing. Out: PTX's number formats on the processor: f16 and bf16 with one rounding to nearest even, and the
// conversions from numbers to whole numbers, which hold at the ends of their range.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "formats.hpp"

namespace stand_in {

template <class To, class From> inline To bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "a number and its bits");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

// From a double, so that a sum or product of two halves is rounded once.
inline uint16_t double_to_half(double x) {
    uint16_t sign = std::signbit(x) ? 0x8000 : 0;
    double size = std::fabs(x);
    if (std::isnan(x)) return 0x7fff;
    if (size >= 65520.0) return sign | 0x7c00;
    if (size < 0x1p-14) return sign | uint16_t(std::nearbyint(size * 0x1p24));
    int exponent;
    double fraction = std::frexp(size, &exponent);  // 0.5 <= fraction < 1
    auto whole = uint32_t(std::nearbyint(fraction * 2048.0));  // 1024 to 2048; 2048 carries into the exponent
    return sign | uint16_t((uint32_t(exponent + 13) << 10) + whole);
}

// A double is first made the odd float beside it where it is none, so that bf16 is rounded once.
inline uint16_t double_to_brain(double x) {
    float near = float(x);
    if (std::isfinite(near) && double(near) != x) {
        float down = double(near) > x ? std::nextafterf(near, -INFINITY) : near;
        near = bits<uint32_t>(down) & 1 ? down : std::nextafterf(down, INFINITY);
    }
    return narrow_bf16(near);
}

struct f16 {
    uint16_t raw;
    f16() = default;
    explicit f16(double x) : raw(double_to_half(x)) {}
    operator double() const { return widen_f16(raw); }
};

struct bf16 {
    uint16_t raw;
    bf16() = default;
    explicit bf16(double x) : raw(double_to_brain(x)) {}
    operator double() const { return widen_bf16(raw); }
};

struct f16x2 {
    f16 part[2];
};
struct bf16x2 {
    bf16 part[2];
};

template <class T> constexpr bool is_number = std::is_floating_point_v<T> || std::is_same_v<T, f16> || std::is_same_v<T, bf16>;

// What PTX's cvt makes of a number for a whole type: the nearest that it holds, 0 for NaN.
template <class To> inline To to_whole(double x) {
    if (std::isnan(x)) return 0;
    constexpr double low = double(std::numeric_limits<To>::min());
    const double past = std::ldexp(1.0, std::numeric_limits<To>::digits);
    if (x <= low) return std::numeric_limits<To>::min();
    if (x >= past) return std::numeric_limits<To>::max();
    return To(x);
}

}  // namespace stand_in
