// In: bits. Out: f16 and bf16 as f32 and back, each rounded once to nearest even.
#pragma once

#include <cstdint>
#include <cstring>
#ifdef __F16C__
#include <immintrin.h>
#endif

namespace stand_in __attribute__((visibility("hidden"))) {

inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}
inline float of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

inline float widen_f16_by_bits(uint16_t h) {
    uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
    if (exponent == 31) return of_bits(sign | 0x7f800000 | fraction << 13 | (fraction ? 0x400000 : 0));
    if (exponent == 0) return of_bits(sign | bits_of(float(fraction) * 0x1p-24f));
    return of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}
inline uint16_t narrow_f16_by_bits(float x) {
    uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000) return uint16_t(sign | 0x7e00 | (size >> 13 & 0x3ff));
    if (size >= 0x477ff000) return uint16_t(sign | 0x7c00); // from 65520 on
    // Below the normal numbers: 0.5 has the spacing of f16's smallest numbers, so this addition rounds.
    if (size < 0x38800000) return uint16_t(sign | (bits_of(of_bits(size) + 0.5f) - 0x3f000000));
    return uint16_t(sign | (size + 0xfff + (size >> 13 & 1) - 0x38000000) >> 13);
}
#ifdef __F16C__
inline float widen_f16(uint16_t h) { return _cvtsh_ss(h); }
inline uint16_t narrow_f16(float x) { return uint16_t(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT)); }
#else
inline float widen_f16(uint16_t h) { return widen_f16_by_bits(h); }
inline uint16_t narrow_f16(float x) { return narrow_f16_by_bits(x); }
#endif
inline float widen_bf16(uint16_t b) { return of_bits(uint32_t(b) << 16); }
inline uint16_t narrow_bf16(float x) {
    uint32_t bits = bits_of(x);
    if ((bits & 0x7fffffff) > 0x7f800000) return uint16_t(bits >> 16 | 0x40);
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

} // namespace stand_in
