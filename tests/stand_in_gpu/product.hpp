// In: matrices of f16, bf16, f32 or f64, read through strides or by an operand's own rule, and a rule of summation.
// Out: their product, in f32 or f64, handed on in short rows to whoever stores it. Also here: the number formats, and
// what the stand-ins of all libraries share (the driver's ledger, refusals, the register of live objects).
//
// Sums are taken over 256 products at a time, in order, and those sums are added in order: the same numbers at any
// number of threads (STAND_IN_THREADS, 2 where it is not set).
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "formats.hpp"

// The driver's stand-in defines these.
extern "C" {
void stand_in_touch(const char *what, const void *start, unsigned long bytes, int writes);
int stand_in_computes(void);
void stand_in_count(const char *what, double flop);
}

namespace stand_in __attribute__((visibility("hidden"))) {

// ---- What the libraries share

/// Says why a call is refused, and gives back the library's code for it.
__attribute__((format(printf, 2, 3))) inline int refuse(int code, const char *why, ...) {
    char sentence[512];
    va_list values;
    va_start(values, why);
    vsnprintf(sentence, sizeof sentence, why, values);
    va_end(values);
    fprintf(stderr, "stand-in: %s (code %d)\n", sentence, code);
    return code;
}

__attribute__((format(printf, 1, 2))) inline std::string text(const char *form, ...) {
    char line[512];
    va_list values;
    va_start(values, form);
    vsnprintf(line, sizeof line, form, values);
    va_end(values);
    return line;
}

/// The objects that a library has handed out and not yet been given back.
template <class T> class Live {
  public:
    T *make() {
        std::lock_guard<std::mutex> held(lock);
        T *made = new T();
        objects.insert(made);
        return made;
    }
    bool holds(T *object) {
        std::lock_guard<std::mutex> held(lock);
        return objects.count(object) != 0;
    }
    bool end(T *object) {
        std::lock_guard<std::mutex> held(lock);
        if (!objects.erase(object)) return false;
        delete object;
        return true;
    }

  private:
    std::mutex lock;
    std::set<T *> objects;
};

/// Bytes that a call reads or writes.
struct Span {
    const void *start;
    size_t bytes;
    bool meets(const Span &other) const {
        uintptr_t a = uintptr_t(start), b = uintptr_t(other.start);
        return bytes && other.bytes && a < b + other.bytes && b < a + bytes;
    }
    void touch(const char *what, bool writes) const {
        if (bytes) stand_in_touch(what, start, bytes, writes);
    }
};

// ---- Number formats

enum class Format { F32, F64, F16, BF16 };
inline size_t size_of(Format f) { return f == Format::F64 ? 8 : f == Format::F32 ? 4 : 2; }
inline const char *name_of(Format f) {
    return f == Format::F32 ? "f32" : f == Format::F64 ? "f64" : f == Format::F16 ? "f16" : "bf16";
}

/// f32 with the 10 fraction bits that the tensor cores keep.
inline float round_tf32(float x) {
    uint32_t bits = bits_of(x);
    if ((bits & 0x7f800000) == 0x7f800000) return x;
    return of_bits((bits + 0xfff + (bits >> 13 & 1)) & ~0x1fffu);
}

/// `count` numbers from `at` on, every `stride`-th.
template <class Sum>
inline void widen(Format f, const void *base, ptrdiff_t at, ptrdiff_t stride, size_t count, Sum *to) {
    auto each = [&](auto *from, auto wide) {
        from += at;
        if (stride == 1)
            for (size_t i = 0; i < count; i++) to[i] = Sum(wide(from[i]));
        else
            for (size_t i = 0; i < count; i++) to[i] = Sum(wide(from[ptrdiff_t(i) * stride]));
    };
    switch (f) {
    case Format::F32: return each(static_cast<const float *>(base), [](float x) { return x; });
    case Format::F64: return each(static_cast<const double *>(base), [](double x) { return x; });
    case Format::BF16: return each(static_cast<const uint16_t *>(base), widen_bf16);
    case Format::F16: break;
    }
    auto *from = static_cast<const uint16_t *>(base);
    size_t done = 0;
#ifdef __F16C__
    if constexpr (sizeof(Sum) == 4)
        for (; stride == 1 && done + 8 <= count; done += 8) {
            __m128i eight;
            memcpy(&eight, from + at + done, 16);
            _mm256_storeu_ps(to + done, _mm256_cvtph_ps(eight));
        }
#endif
    for (; done < count; done++) to[done] = Sum(widen_f16(from[at + ptrdiff_t(done) * stride]));
}

/// alpha * sum, and beta * what stands there, rounded once. What stands there is not read where beta is 0.
template <class Sum>
inline void put(Format f, void *base, ptrdiff_t at, ptrdiff_t stride, size_t count, const Sum *sums, Sum alpha,
                Sum beta) {
    for (size_t i = 0; i < count; i++) {
        ptrdiff_t place = at + ptrdiff_t(i) * stride;
        Sum value = alpha * sums[i], before = 0;
        if (beta != 0) {
            widen(f, base, place, 1, 1, &before);
            value += beta * before;
        }
        switch (f) {
        case Format::F32: static_cast<float *>(base)[place] = float(value); break;
        case Format::F64: static_cast<double *>(base)[place] = double(value); break;
        case Format::F16: static_cast<uint16_t *>(base)[place] = narrow_f16(float(value)); break;
        case Format::BF16: static_cast<uint16_t *>(base)[place] = narrow_bf16(float(value)); break;
        }
    }
}

// ---- The product

/// How numbers enter, and what holds the sums.
struct Rule {
    enum Entering { AsTheyAre, Tf32, F16, BF16 } entering = AsTheyAre;
    /// Every sum is rounded to f16 after every product.
    bool sums_f16 = false;
};

/// A batch of matrices, read through strides (in numbers).
struct Matrix {
    const void *base;
    Format format;
    ptrdiff_t outer, inner, batch;

    /// Lays a block out as panels of `width` outer places, [inner, width] each; places beyond the block are 0.
    template <class Sum>
    void pack(size_t b, size_t outer0, size_t outers, size_t inner0, size_t inners, size_t width, Sum *to) const {
        std::vector<Sum> line(inners);
        for (size_t o = 0; o < outers; o += width, to += inners * width) {
            size_t here = std::min(width, outers - o);
            ptrdiff_t at = ptrdiff_t(b) * batch + ptrdiff_t(outer0 + o) * outer + ptrdiff_t(inner0) * inner;
            if (here < width) std::fill(to, to + inners * width, Sum(0));
            if (inner == 1 && outer != 1)
                for (size_t w = 0; w < here; w++) {
                    widen(format, base, at + ptrdiff_t(w) * outer, 1, inners, line.data());
                    for (size_t k = 0; k < inners; k++) to[k * width + w] = line[k];
                }
            else
                for (size_t k = 0; k < inners; k++)
                    widen(format, base, at + ptrdiff_t(k) * inner, outer, here, to + k * width);
        }
    }
};

#ifdef __AVX512F__
#define STAND_IN_VECTOR 64
#else
#define STAND_IN_VECTOR 32
#endif
template <class Sum> struct VectorOf;
template <> struct VectorOf<float> {
    typedef float Type __attribute__((vector_size(STAND_IN_VECTOR), may_alias));
};
template <> struct VectorOf<double> {
    typedef double Type __attribute__((vector_size(STAND_IN_VECTOR), may_alias));
};
/// As many sums as the registers hold.
template <class Sum> struct Tile {
    static constexpr size_t rows = STAND_IN_VECTOR == 64 ? 12 : 6;
    static constexpr size_t lanes = STAND_IN_VECTOR / sizeof(Sum), cols = 2 * lanes;
};

/// Adds one tile of the product of two panels to `sums` [rows, cols].
template <class Sum> inline void add_tile(size_t depth, const Sum *left, const Sum *right, Sum *sums) {
    using T = Tile<Sum>;
    using V = typename VectorOf<Sum>::Type;
    V total[T::rows][2] = {};
    for (size_t k = 0; k < depth; k++, left += T::rows, right += T::cols) {
        V first = *reinterpret_cast<const V *>(right), second = *reinterpret_cast<const V *>(right + T::lanes);
        for (size_t i = 0; i < T::rows; i++) {
            total[i][0] += left[i] * first;
            total[i][1] += left[i] * second;
        }
    }
    for (size_t i = 0; i < T::rows; i++)
        for (size_t half = 0; half < 2; half++)
            *reinterpret_cast<V *>(sums + i * T::cols + half * T::lanes) += total[i][half];
}

struct alignas(64) Line {
    char bytes[64];
};
/// Numbers that start on a cache line.
template <class Sum> struct Room {
    std::vector<Line> lines;
    Sum *of(size_t numbers) {
        lines.resize((numbers * sizeof(Sum) + sizeof(Line) - 1) / sizeof(Line));
        return reinterpret_cast<Sum *>(lines.data());
    }
};

struct Size {
    size_t batch, rows, cols, inner;
};

/// left [rows, inner] times right [inner, cols] for every b of the batch. Operands have Matrix::pack, with rows or
/// cols outside. `store(b, row, col, count, sums)` gets every piece of every row once, from several threads.
template <class Sum, class Left, class Right, class Store>
inline void multiply(Size size, Rule rule, const Left &left, const Right &right, const Store &store) {
    using T = Tile<Sum>;
    constexpr size_t block_rows = 16 * T::rows, block_cols = 384;
    const size_t depth = rule.sums_f16 ? 1 : 256;
    auto parts = [](size_t whole, size_t part) { return (whole + part - 1) / part; };
    const size_t down = parts(size.rows, block_rows), across = parts(size.cols, block_cols);
    const size_t blocks = size.batch * down * across;
    std::atomic<size_t> next{0};
    auto enter = [&](Sum *numbers, size_t count) {
        for (size_t i = 0; rule.entering != Rule::AsTheyAre && i < count; i++) {
            float x = float(numbers[i]);
            numbers[i] = rule.entering == Rule::Tf32  ? round_tf32(x)
                         : rule.entering == Rule::F16 ? widen_f16(narrow_f16(x))
                                                      : widen_bf16(narrow_bf16(x));
        }
    };
    auto work = [&] {
        Room<Sum> left_room, right_room, sums_room;
        for (size_t block; (block = next++) < blocks;) {
            const size_t b = block / (down * across), col0 = block % across * block_cols;
            const size_t row0 = block / across % down * block_rows;
            const size_t rows = std::min(block_rows, size.rows - row0), cols = std::min(block_cols, size.cols - col0);
            const size_t row_tiles = parts(rows, T::rows), col_tiles = parts(cols, T::cols), tile = T::rows * T::cols;
            Sum *sums = sums_room.of(row_tiles * col_tiles * tile);
            std::fill(sums, sums + row_tiles * col_tiles * tile, Sum(0));
            for (size_t k = 0; k < size.inner; k += depth) {
                const size_t deep = std::min(depth, size.inner - k);
                const size_t lefts = row_tiles * T::rows * deep, rights = col_tiles * T::cols * deep;
                Sum *l = left_room.of(lefts), *r = right_room.of(rights);
                left.pack(b, row0, rows, k, deep, T::rows, l);
                right.pack(b, col0, cols, k, deep, T::cols, r);
                enter(l, lefts), enter(r, rights);
                for (size_t j = 0; j < col_tiles; j++)
                    for (size_t i = 0; i < row_tiles; i++)
                        add_tile(deep, l + i * T::rows * deep, r + j * T::cols * deep,
                                 sums + (j * row_tiles + i) * tile);
                for (size_t i = 0; rule.sums_f16 && i < row_tiles * col_tiles * tile; i++)
                    sums[i] = widen_f16(narrow_f16(float(sums[i])));
            }
            for (size_t row = 0; row < rows; row++)
                for (size_t col = 0; col < cols; col += T::cols) {
                    const size_t at = col / T::cols * row_tiles + row / T::rows;
                    const Sum *from = sums + at * tile + row % T::rows * T::cols;
                    store(b, row0 + row, col0 + col, std::min(T::cols, cols - col), from);
                }
        }
    };
    const char *asked = getenv("STAND_IN_THREADS");
    const double products = double(size.batch) * size.rows * size.cols * size.inner;
    size_t threads = products < 4e6 ? 1 : std::min(blocks, size_t(std::max(1, asked ? atoi(asked) : 2)));
    std::vector<std::thread> others;
    for (size_t i = 1; i < threads; i++) others.emplace_back(work);
    work();
    for (auto &other : others) other.join();
}

} // namespace stand_in
