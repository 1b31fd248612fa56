// In: the name of a PTX instruction. Out: the function that computes it for the lanes of a warp. What they do is what
// the PTX instruction set manual says of each, not what any one compiler makes of it. Loads, stores, shuffles and the
// tensor cores' instructions are in ptx_memory.cpp.
#include "ptx_operations.hpp"

#include <cfenv>

namespace stand_in {

namespace {

template <class T> using Wider = std::conditional_t<sizeof(T) == 2, std::conditional_t<std::is_signed_v<T>, int32_t, uint32_t>,
                                                    std::conditional_t<sizeof(T) == 4, std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>,
                                                                       std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>>>;

template <class T> T flushed(T x, bool ftz) {
    if constexpr (std::is_same_v<T, float>)
        if (ftz && std::fpclassify(x) == FP_SUBNORMAL) return std::copysign(0.0f, x);
    return x;
}

template <class T> T saturated(T x) { return T(std::isnan(double(x)) ? 0.0 : std::fmin(std::fmax(double(x), 0.0), 1.0)); }

// Sums and products in another rounding than the nearest. The functions are not inlined and their numbers volatile, so
// that the compiler moves nothing over the change of rounding.
template <class T> __attribute__((noinline)) T rounded(int rounding, int what, T a, T b, T c) {
    static const int MODES[4] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};
    volatile T x = a, y = b, z = c, result;
    std::fesetround(MODES[rounding]);
    switch (what) {
    case 0: result = x + y; break;
    case 1: result = x - y; break;
    case 2: result = x * y; break;
    case 3: result = x / y; break;
    default: result = std::fma(T(x), T(y), T(z)); break;
    }
    std::fesetround(FE_TONEAREST);
    return result;
}

template <class T, class F> void one(Warp &warp, const Instruction &in, F f) {
    T *to = warp.row<T>(in.operand[0]);
    const T *a = warp.row<T>(in.operand[1]);
    for_lanes(warp.mask, [&](int lane) { to[lane] = f(a[lane]); });
}

template <class T, class F> void two(Warp &warp, const Instruction &in, F f) {
    T *to = warp.row<T>(in.operand[0]);
    const T *a = warp.row<T>(in.operand[1]), *b = warp.row<T>(in.operand[2]);
    for_lanes(warp.mask, [&](int lane) { to[lane] = f(a[lane], b[lane]); });
}

template <class T, class F> void three(Warp &warp, const Instruction &in, F f) {
    T *to = warp.row<T>(in.operand[0]);
    const T *a = warp.row<T>(in.operand[1]), *b = warp.row<T>(in.operand[2]), *c = warp.row<T>(in.operand[3]);
    for_lanes(warp.mask, [&](int lane) { to[lane] = f(a[lane], b[lane], c[lane]); });
}

// A sum, difference, product or quotient of numbers.
template <class T, int WHAT> void number(Warp &warp, const Instruction &in) {
    if constexpr (std::is_same_v<T, float> || std::is_same_v<T, double>) {
        if (in.rounding || in.ftz || in.sat)
            return two<T>(warp, in, [&](T a, T b) {
                T r = rounded<T>(in.rounding, WHAT, flushed(a, in.ftz), flushed(b, in.ftz), T(0));
                r = flushed(r, in.ftz);
                return in.sat ? saturated(r) : r;
            });
    }
    two<T>(warp, in, [](T a, T b) {
        if constexpr (WHAT == 0) return T(a + b);
        if constexpr (WHAT == 1) return T(a - b);
        if constexpr (WHAT == 2) return T(a * b);
        if constexpr (WHAT == 3) return T(a / b);
    });
}

template <class T> void fused(Warp &warp, const Instruction &in) {
    if constexpr (std::is_same_v<T, float> || std::is_same_v<T, double>) {
        if (in.rounding || in.ftz || in.sat)
            return three<T>(warp, in, [&](T a, T b, T c) {
                T r = flushed(rounded<T>(in.rounding, 4, flushed(a, in.ftz), flushed(b, in.ftz), flushed(c, in.ftz)), in.ftz);
                return in.sat ? saturated(r) : r;
            });
        three<T>(warp, in, [](T a, T b, T c) { return std::fma(a, b, c); });
    } else {
        three<T>(warp, in, [](T a, T b, T c) { return T(std::fma(double(a), double(b), double(c))); });
    }
}

// The same of two halves at a time.
template <class P, class H, int WHAT> void pairs(Warp &warp, const Instruction &in) {
    P *to = warp.row<P>(in.operand[0]);
    const P *a = warp.row<P>(in.operand[1]), *b = warp.row<P>(in.operand[2]), *c = WHAT == 4 ? warp.row<P>(in.operand[3]) : nullptr;
    for_lanes(warp.mask, [&](int lane) {
        for (int i = 0; i < 2; i++) {
            double x = a[lane].part[i], y = b[lane].part[i];
            to[lane].part[i] = H(WHAT == 0 ? x + y : WHAT == 1 ? x - y : WHAT == 2 ? x * y : std::fma(x, y, double(c[lane].part[i])));
        }
    });
}

// The smaller or larger; of a number and NaN the number.
template <class T, bool LARGER> void extreme(Warp &warp, const Instruction &in) {
    two<T>(warp, in, [](T a, T b) {
        if constexpr (is_number<T>) return T(LARGER ? std::fmax(double(a), double(b)) : std::fmin(double(a), double(b)));
        else return LARGER ? (a > b ? a : b) : (a < b ? a : b);
    });
}

enum Function { ABSOLUTE, NEGATIVE, ROOT, INVERSE_ROOT, INVERSE, POWER, LOGARITHM, SINE, COSINE, TANGENT_H };

template <class T, int WHAT> void function(Warp &warp, const Instruction &in) {
    one<T>(warp, in, [&](T raw) {
        T x = flushed(raw, in.ftz);
        if constexpr (WHAT == ABSOLUTE) return flushed(T(std::fabs(double(x))), in.ftz);
        if constexpr (WHAT == NEGATIVE) return flushed(T(-double(x)), in.ftz);
        if constexpr (WHAT == ROOT) return flushed(T(std::sqrt(x)), in.ftz);
        if constexpr (WHAT == INVERSE_ROOT) return flushed(T(1.0 / std::sqrt(double(x))), in.ftz);
        if constexpr (WHAT == INVERSE) return flushed(T(T(1) / x), in.ftz);
        if constexpr (WHAT == POWER) return flushed(T(std::exp2(double(x))), in.ftz);
        if constexpr (WHAT == LOGARITHM) return flushed(T(std::log2(double(x))), in.ftz);
        if constexpr (WHAT == SINE) return flushed(T(std::sin(double(x))), in.ftz);
        if constexpr (WHAT == COSINE) return flushed(T(std::cos(double(x))), in.ftz);
        if constexpr (WHAT == TANGENT_H) return flushed(T(std::tanh(double(x))), in.ftz);
    });
}

enum Whole { PLUS, MINUS, TIMES, OVER, REST, HIGH, AND, OR, XOR, LEFT, RIGHT };

template <class T, int WHAT> void whole(Warp &warp, const Instruction &in) {
    using U = std::make_unsigned_t<T>;
    if constexpr (WHAT == LEFT || WHAT == RIGHT) {
        T *to = warp.row<T>(in.operand[0]);
        const T *a = warp.row<T>(in.operand[1]);
        const uint32_t *by = warp.row<uint32_t>(in.operand[2]);
        for_lanes(warp.mask, [&](int lane) {
            constexpr uint32_t width = sizeof(T) * 8;
            uint32_t n = by[lane];
            if constexpr (WHAT == LEFT) to[lane] = n >= width ? T(0) : T(U(a[lane]) << n);
            else to[lane] = n >= width ? T(a[lane] < 0 ? -1 : 0) : T(a[lane] >> n);
        });
    } else two<T>(warp, in, [](T a, T b) {
        if constexpr (WHAT == PLUS) return T(U(a) + U(b));
        if constexpr (WHAT == MINUS) return T(U(a) - U(b));
        if constexpr (WHAT == TIMES) return T(uint64_t(U(a)) * uint64_t(U(b)));
        // What the manual leaves open, a division by zero, is made loud: all bits.
        if constexpr (WHAT == OVER) return b == 0 ? T(-1) : (std::is_signed_v<T> && b == T(-1)) ? T(U(0) - U(a)) : T(a / b);
        if constexpr (WHAT == REST) return b == 0 ? T(-1) : (std::is_signed_v<T> && b == T(-1)) ? T(0) : T(a % b);
        if constexpr (WHAT == HIGH) return T((Wider<T>(a) * Wider<T>(b)) >> (sizeof(T) * 8));
        if constexpr (WHAT == AND) return T(a & b);
        if constexpr (WHAT == OR) return T(a | b);
        if constexpr (WHAT == XOR) return T(a ^ b);
    });
}

template <class T> void multiply_add(Warp &warp, const Instruction &in) {
    using U = std::make_unsigned_t<T>;
    three<T>(warp, in, [](T a, T b, T c) { return T(uint64_t(U(a)) * uint64_t(U(b)) + uint64_t(U(c))); });
}

template <class T, bool ADD> void wide(Warp &warp, const Instruction &in) {
    using W = Wider<T>;
    W *to = warp.row<W>(in.operand[0]);
    const T *a = warp.row<T>(in.operand[1]), *b = warp.row<T>(in.operand[2]);
    const W *c = ADD ? warp.row<W>(in.operand[3]) : nullptr;
    for_lanes(warp.mask, [&](int lane) { to[lane] = W(W(a[lane]) * W(b[lane]) + (ADD ? c[lane] : W(0))); });
}

template <class T> void negative_whole(Warp &warp, const Instruction &in) { one<T>(warp, in, [](T a) { return T(0 - std::make_unsigned_t<T>(a)); }); }
template <class T> void absolute_whole(Warp &warp, const Instruction &in) { one<T>(warp, in, [](T a) { return a < 0 ? T(0 - std::make_unsigned_t<T>(a)) : a; }); }
template <class T> void complement(Warp &warp, const Instruction &in) { one<T>(warp, in, [](T a) { return T(~a); }); }

template <class T> void count_bits(Warp &warp, const Instruction &in) {
    uint32_t *to = warp.row<uint32_t>(in.operand[0]);
    const T *a = warp.row<T>(in.operand[1]);
    for_lanes(warp.mask, [&](int lane) {
        uint64_t x = a[lane];
        if (in.mode == 1) to[lane] = uint32_t(__builtin_popcountll(x));
        else to[lane] = x ? uint32_t(__builtin_clzll(x)) - (64 - sizeof(T) * 8) : sizeof(T) * 8;
    });
}

// bfi d, a, b, start, length: the low bits of a in place of b's.
template <class T> void insert_bits(Warp &warp, const Instruction &in) {
    T *to = warp.row<T>(in.operand[0]);
    const T *a = warp.row<T>(in.operand[1]), *b = warp.row<T>(in.operand[2]);
    const uint32_t *start = warp.row<uint32_t>(in.operand[3]), *length = warp.row<uint32_t>(in.operand[4]);
    for_lanes(warp.mask, [&](int lane) {
        T result = b[lane];
        for (uint32_t i = 0; i < (length[lane] & 255) && (start[lane] & 255) + i < sizeof(T) * 8; i++) {
            T bit = T(1) << ((start[lane] & 255) + i);
            result = (a[lane] >> i) & 1 ? T(result | bit) : T(result & ~bit);
        }
        to[lane] = result;
    });
}

// copysign d, a, b: the sign of a with the size of b.
template <class T> void with_sign(Warp &warp, const Instruction &in) { two<T>(warp, in, [](T a, T b) { return std::copysign(b, a); }); }

// Comparisons by number: eq ne lt le gt ge, then the same where NaN is equal to nothing but makes them true.
template <class T> bool compare(int how, T a, T b) {
    if constexpr (is_number<T>) {
        bool unordered = std::isnan(double(a)) || std::isnan(double(b));
        if (how == 12) return !unordered;
        if (how == 13) return unordered;
        if (unordered) return how >= 6;
        how %= 6;
    }
    switch (how) {
    case 0: return a == b;
    case 1: return a != b;
    case 2: return a < b;
    case 3: return a <= b;
    case 4: return a > b;
    default: return a >= b;
    }
}

template <class T> uint32_t compared(Warp &warp, const Instruction &in, int a, int b) {
    const T *x = warp.row<T>(in.operand[a]), *y = warp.row<T>(in.operand[b]);
    uint32_t result = 0;
    int how = in.mode & 15;
    for_lanes(warp.mask, [&](int lane) { result |= uint32_t(compare<T>(how, x[lane], y[lane])) << lane; });
    return result;
}

// setp.how[.and|or|xor] p[|q], a, b[, c]
template <class T> void set_predicate(Warp &warp, const Instruction &in) {
    int second = in.mode & 256 ? 1 : 0;
    uint32_t truth = compared<T>(warp, in, 1 + second, 2 + second), other = ~truth;
    if (int join = in.mode >> 4 & 15) {
        uint32_t c = warp.predicate(in.operand[3 + second]);
        truth = join == 1 ? truth & c : join == 2 ? truth | c : truth ^ c;
        other = join == 1 ? other & c : join == 2 ? other | c : other ^ c;
    }
    warp.predicate(in.operand[0]) = merged(warp.predicate(in.operand[0]), truth, warp.mask);
    if (second) warp.predicate(in.operand[1]) = merged(warp.predicate(in.operand[1]), other, warp.mask);
}

// set.how.D.T: one or all bits for true.
template <class D, class T> void set_value(Warp &warp, const Instruction &in) {
    uint32_t truth = compared<T>(warp, in, 1, 2);
    D *to = warp.row<D>(in.operand[0]);
    for_lanes(warp.mask, [&](int lane) {
        bool yes = truth >> lane & 1;
        if constexpr (is_number<D>) to[lane] = D(yes ? 1.0 : 0.0);
        else to[lane] = yes ? D(-1) : D(0);
    });
}

template <class T> void select(Warp &warp, const Instruction &in) {
    uint32_t choice = warp.predicate(in.operand[3]);
    T *to = warp.row<T>(in.operand[0]);
    const T *a = warp.row<T>(in.operand[1]), *b = warp.row<T>(in.operand[2]);
    for_lanes(warp.mask, [&](int lane) { to[lane] = choice >> lane & 1 ? a[lane] : b[lane]; });
}

template <int WHAT> void predicates(Warp &warp, const Instruction &in) {
    uint32_t a = warp.predicate(in.operand[1]), b = in.count > 2 ? warp.predicate(in.operand[2]) : 0;
    uint32_t result = WHAT == 0 ? (a & b) : WHAT == 1 ? (a | b) : WHAT == 2 ? (a ^ b) : WHAT == 3 ? ~a : a;
    warp.predicate(in.operand[0]) = merged(warp.predicate(in.operand[0]), result, warp.mask);
}

// mov.pred with the immediate 0 or -1, which is held as 32 bits a lane.
void predicate_of_constant(Warp &warp, const Instruction &in) {
    uint32_t value = in.operand[1].size == 0 ? warp.predicate(in.operand[1]) : *warp.row<uint32_t>(in.operand[1]) ? ~0u : 0u;
    warp.predicate(in.operand[0]) = merged(warp.predicate(in.operand[0]), value, warp.mask);
}

template <class T> void move(Warp &warp, const Instruction &in) {
    if (in.mode == 0) return one<T>(warp, in, [](T a) { return a; });
    // {d, ...} = a, or d = {a, ...}: the parts from the lowest bits on.
    bool apart = in.mode == 2;
    int parts = in.count - 1;
    size_t size = sizeof(T) / size_t(parts);
    const Operand &both = in.operand[apart ? parts : 0];
    for_lanes(warp.mask, [&](int lane) {
        char *joined = warp.rows + both.row + size_t(lane) * both.size;
        for (int part = 0; part < parts; part++) {
            const Operand &own = in.operand[apart ? part : part + 1];
            char *piece = warp.rows + own.row + size_t(lane) * own.size;
            if (apart) std::memcpy(piece, joined + size * part, size);
            else std::memcpy(joined + size * part, piece, size);
        }
    });
}

template <class T> T read(const Warp &warp, const Operand &operand, int lane) {
    T value;
    std::memcpy(&value, warp.rows + operand.row + size_t(lane) * operand.size, sizeof value);
    return value;
}

// A value in a register that may be wider: whole values are extended by their sign.
template <class T> void write(Warp &warp, const Operand &operand, int lane, T value) {
    char *to = warp.rows + operand.row + size_t(lane) * operand.size;
    if constexpr (std::is_integral_v<T>) {
        int64_t extended = int64_t(value);
        std::memcpy(to, &extended, operand.size);
    } else {
        std::memcpy(to, &value, sizeof value);
    }
}

// A number without its fraction, by the rounding of an instruction: 4 nearest, 5 zero, 6 down, 7 up.
double without_fraction(double x, int rounding) {
    switch (rounding) {
    case 5: return std::trunc(x);
    case 6: return std::floor(x);
    case 7: return std::ceil(x);
    default: return std::nearbyint(x);
    }
}

template <class D, class S> void convert(Warp &warp, const Instruction &in) {
    for_lanes(warp.mask, [&](int lane) {
        S x = read<S>(warp, in.operand[1], lane);
        if constexpr (!is_number<S> && !is_number<D>) {
            write<D>(warp, in.operand[0], lane, D(x));
        } else if constexpr (!is_number<D>) {
            write<D>(warp, in.operand[0], lane, to_whole<D>(without_fraction(double(x), in.rounding)));
        } else if constexpr (!is_number<S>) {
            // A whole number of 64 bits must not pass through a double on its way to f32.
            if constexpr (std::is_same_v<D, float>) write<D>(warp, in.operand[0], lane, float(x));
            else write<D>(warp, in.operand[0], lane, D(double(x)));
        } else {
            double value = double(x);
            if (in.rounding >= 4) value = without_fraction(value, in.rounding);
            if (in.sat) value = std::isnan(value) ? 0.0 : std::fmin(std::fmax(value, 0.0), 1.0);
            write<D>(warp, in.operand[0], lane, D(value));
        }
    });
}

// cvt.rn.f16x2.f32 d, a, b: a becomes the upper half.
template <class P, class H> void convert_pair(Warp &warp, const Instruction &in) {
    P *to = warp.row<P>(in.operand[0]);
    const float *a = warp.row<float>(in.operand[1]), *b = warp.row<float>(in.operand[2]);
    for_lanes(warp.mask, [&](int lane) {
        to[lane].part[0] = H(double(b[lane]));
        to[lane].part[1] = H(double(a[lane]));
    });
}

template <class D> Operation convert_to(Type from) {
    switch (from) {
    case Type::U8: return convert<D, uint8_t>;
    case Type::U16: return convert<D, uint16_t>;
    case Type::U32: return convert<D, uint32_t>;
    case Type::U64: return convert<D, uint64_t>;
    case Type::S8: return convert<D, int8_t>;
    case Type::S16: return convert<D, int16_t>;
    case Type::S32: return convert<D, int32_t>;
    case Type::S64: return convert<D, int64_t>;
    case Type::F16: return convert<D, f16>;
    case Type::BF16: return convert<D, bf16>;
    case Type::F32: return convert<D, float>;
    case Type::F64: return convert<D, double>;
    default: return nullptr;
    }
}

Operation conversion(Type to, Type from) {
    switch (to) {
    case Type::U8: return convert_to<uint8_t>(from);
    case Type::U16: return convert_to<uint16_t>(from);
    case Type::U32: return convert_to<uint32_t>(from);
    case Type::U64: return convert_to<uint64_t>(from);
    case Type::S8: return convert_to<int8_t>(from);
    case Type::S16: return convert_to<int16_t>(from);
    case Type::S32: return convert_to<int32_t>(from);
    case Type::S64: return convert_to<int64_t>(from);
    case Type::F16: return convert_to<f16>(from);
    case Type::BF16: return convert_to<bf16>(from);
    case Type::F32: return convert_to<float>(from);
    case Type::F64: return convert_to<double>(from);
    case Type::F16X2: return from == Type::F32 ? convert_pair<f16x2, f16> : nullptr;
    case Type::BF16X2: return from == Type::F32 ? convert_pair<bf16x2, bf16> : nullptr;
    default: return nullptr;
    }
}

template <class T> Operation of_numbers(const Mnemonic &m) {
    constexpr bool full = std::is_same_v<T, float> || std::is_same_v<T, double>;
    const std::string &base = m.base;
    if (base == "add") return number<T, 0>;
    if (base == "sub") return number<T, 1>;
    if (base == "mul") return number<T, 2>;
    if (base == "fma" || base == "mad") return fused<T>;
    if (base == "min") return extreme<T, false>;
    if (base == "max") return extreme<T, true>;
    if (base == "abs") return function<T, ABSOLUTE>;
    if (base == "neg") return function<T, NEGATIVE>;
    if (base == "ex2") return function<T, POWER>;
    if (base == "tanh") return function<T, TANGENT_H>;
    if constexpr (full) {
        if (base == "div") return number<T, 3>;
        if (base == "sqrt") return function<T, ROOT>;
        if (base == "rsqrt") return function<T, INVERSE_ROOT>;
        if (base == "rcp") return function<T, INVERSE>;
        if (base == "lg2") return function<T, LOGARITHM>;
        if (base == "sin") return function<T, SINE>;
        if (base == "cos") return function<T, COSINE>;
        if (base == "copysign") return with_sign<T>;
    }
    return nullptr;
}

template <class P, class H> Operation of_pairs(const Mnemonic &m) {
    if (m.base == "add") return pairs<P, H, 0>;
    if (m.base == "sub") return pairs<P, H, 1>;
    if (m.base == "mul") return pairs<P, H, 2>;
    if (m.base == "fma") return pairs<P, H, 4>;
    return nullptr;
}

template <class T> Operation of_wholes(const Mnemonic &m, Instruction &in) {
    const std::string &base = m.base;
    bool carry = m.has("cc");
    if (carry) return nullptr;
    if (base == "add") return whole<T, PLUS>;
    if (base == "sub") return whole<T, MINUS>;
    if constexpr (sizeof(T) < 8) {
        if (base == "mul" && m.has("wide")) return wide<T, false>;
        if (base == "mad" && m.has("wide")) return wide<T, true>;
    }
    if (base == "mul") return m.has("hi") ? whole<T, HIGH> : whole<T, TIMES>;
    if (base == "mad" && !m.has("hi")) return multiply_add<T>;
    if (base == "div") return whole<T, OVER>;
    if (base == "rem") return whole<T, REST>;
    if (base == "and") return whole<T, AND>;
    if (base == "or") return whole<T, OR>;
    if (base == "xor") return whole<T, XOR>;
    if (base == "not") return complement<T>;
    if (base == "shl") return whole<T, LEFT>;
    if (base == "shr") return whole<T, RIGHT>;
    if (base == "min") return extreme<T, false>;
    if (base == "max") return extreme<T, true>;
    if (base == "neg") return negative_whole<T>;
    if (base == "abs") return absolute_whole<T>;
    if constexpr (sizeof(T) >= 4) {
        using U = std::make_unsigned_t<T>;
        if (base == "bfi") return insert_bits<U>;
        if (base == "clz" || base == "popc") {
            in.mode = base == "popc";
            return count_bits<U>;
        }
    }
    return nullptr;
}

template <class T> Operation of_values(const Mnemonic &m) {
    if (m.base == "mov") return move<T>;
    if (m.base == "selp") return select<T>;
    return nullptr;
}

int comparison(const Mnemonic &m) {
    static const char *const NAMES[14] = {"eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"};
    static const char *const UNSIGNED[4] = {"lo", "ls", "hi", "hs"};
    for (int i = 0; i < 14; i++)
        if (m.has(NAMES[i])) return i;
    for (int i = 0; i < 4; i++)
        if (m.has(UNSIGNED[i])) return i + 2;
    return -1;
}

template <class T> Operation of_comparisons(const Mnemonic &m) {
    if (m.base == "setp") return set_predicate<T>;
    switch (m.types[0]) {
    case Type::U32: return set_value<uint32_t, T>;
    case Type::S32: return set_value<int32_t, T>;
    case Type::F16: return set_value<f16, T>;
    case Type::BF16: return set_value<bf16, T>;
    case Type::F32: return set_value<float, T>;
    default: return nullptr;
    }
}

// Calls `choose` with a value of the type.
template <class F> Operation with_type(Type type, F choose) {
    switch (type) {
    case Type::B8: case Type::U8: return choose(uint8_t());
    case Type::S8: return choose(int8_t());
    case Type::B16: case Type::U16: return choose(uint16_t());
    case Type::S16: return choose(int16_t());
    case Type::B32: case Type::U32: return choose(uint32_t());
    case Type::S32: return choose(int32_t());
    case Type::B64: case Type::U64: return choose(uint64_t());
    case Type::S64: return choose(int64_t());
    case Type::F16: return choose(f16());
    case Type::BF16: return choose(bf16());
    case Type::F32: return choose(float());
    case Type::F64: return choose(double());
    default: return nullptr;
    }
}

}  // namespace

Operation find_computation(const Mnemonic &m, Instruction &in) {
    in.ftz = m.has("ftz");
    in.sat = m.has("sat");
    in.rounding = m.has("rz") ? 1 : m.has("rm") ? 2 : m.has("rp") ? 3 : m.has("rni") ? 4 : m.has("rzi") ? 5 : m.has("rmi") ? 6 : m.has("rpi") ? 7 : 0;
    Type type = m.types.empty() ? Type::NONE : m.types.back();
    if (type == Type::PRED) {
        if (m.base == "and") return predicates<0>;
        if (m.base == "or") return predicates<1>;
        if (m.base == "xor") return predicates<2>;
        if (m.base == "not") return predicates<3>;
        if (m.base == "mov") return predicate_of_constant;
        return nullptr;
    }
    if (m.base == "cvt") return m.types.size() == 2 && !m.has("satfinite") ? conversion(m.types[0], m.types[1]) : nullptr;
    if (m.base == "setp" || m.base == "set") {
        int how = comparison(m);
        if (how < 0) return nullptr;
        in.mode = how | (m.has("and") ? 16 : m.has("or") ? 32 : m.has("xor") ? 48 : 0);
        return with_type(type, [&](auto value) -> Operation { return of_comparisons<decltype(value)>(m); });
    }
    if (m.base == "cvta") {
        in.mode = 0;
        return m.has("global") ? Operation(move<uint64_t>) : nullptr;
    }
    if (type == Type::F16X2) return of_pairs<f16x2, f16>(m);
    if (type == Type::BF16X2) return of_pairs<bf16x2, bf16>(m);
    return with_type(type, [&](auto value) -> Operation {
        using T = decltype(value);
        if (Operation found = of_values<T>(m)) return found;
        if constexpr (is_number<T>) return of_numbers<T>(m);
        else return of_wholes<T>(m, in);
    });
}

}  // namespace stand_in
