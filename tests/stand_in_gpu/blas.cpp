// In: the calls of cuBLAS that the program makes, on the stand-in driver's memory. Out: libcublas.so.13, which checks
// each against the real library's rules, says in one sentence why it refuses one, and computes the rest on the
// processor (product.hpp). Matrices are column-major, as cuBLAS has them.
#include "product.hpp"

using namespace stand_in;

namespace {

enum Status { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum DataType { R_32F = 0, R_64F = 1, R_16F = 2, R_16BF = 14 };
enum Compute {
    COMPUTE_16F = 64,
    COMPUTE_16F_PEDANTIC = 65,
    COMPUTE_32F = 68,
    COMPUTE_32F_PEDANTIC = 69,
    COMPUTE_64F = 70,
    COMPUTE_64F_PEDANTIC = 71,
    COMPUTE_32F_FAST_16F = 74,
    COMPUTE_32F_FAST_16BF = 75,
    COMPUTE_32F_FAST_TF32 = 77,
};

struct Handle {
    bool has_stream = false;
};
Live<Handle> handles;

struct Operand {
    const void *start;
    int type, ld;
    long long stride;
};

/// One call: C = alpha op(A) op(B) + beta C, for every matrix of the batch.
struct Gemm {
    const char *name;
    Handle *handle;
    int op_a, op_b, m, n, k;
    const void *alpha;
    Operand a, b;
    const void *beta;
    Operand c;
    int batch, compute, algorithm;
};

bool format_of(int type, Format &format) {
    switch (type) {
    case R_32F: format = Format::F32; return true;
    case R_64F: format = Format::F64; return true;
    case R_16F: format = Format::F16; return true;
    case R_16BF: format = Format::BF16; return true;
    }
    return false;
}

/// Whether cuBLAS has products of these formats for this compute type, and how they are summed.
bool rule_of(int compute, Format in, Format out, Rule &rule, const char *&words) {
    rule = Rule();
    switch (compute) {
    case COMPUTE_16F:
    case COMPUTE_16F_PEDANTIC:
        rule.sums_f16 = true;
        words = "sums in f16";
        return in == Format::F16 && out == Format::F16;
    case COMPUTE_32F:
    case COMPUTE_32F_PEDANTIC: words = "sums in f32"; return in != Format::F64 && (out == in || out == Format::F32);
    case COMPUTE_32F_FAST_16F:
        rule.entering = Rule::F16;
        words = "f16 for f32";
        return in == Format::F32 && out == Format::F32;
    case COMPUTE_32F_FAST_16BF:
        rule.entering = Rule::BF16;
        words = "bf16 for f32";
        return in == Format::F32 && out == Format::F32;
    case COMPUTE_32F_FAST_TF32:
        rule.entering = Rule::Tf32;
        words = "tf32 for f32";
        return in == Format::F32 && out == Format::F32;
    case COMPUTE_64F:
    case COMPUTE_64F_PEDANTIC: words = "sums in f64"; return in == Format::F64 && out == Format::F64;
    }
    return false;
}

/// The bytes of `batch` column-major matrices of `rows` by `cols`.
Span span_of(const Operand &x, Format format, size_t rows, size_t cols, size_t batch) {
    if (!rows || !cols || !batch) return {x.start, 0};
    return {x.start, ((batch - 1) * size_t(x.stride) + (cols - 1) * size_t(x.ld) + rows) * size_of(format)};
}

template <class Sum> void compute(const Gemm &g, Format in, Format out, Rule rule, Sum alpha, Sum beta) {
    // Row-major, C is transposed: its rows come from B, its columns from A.
    Matrix from_b{g.b.start, in, g.b.ld, 1, g.b.stride}, from_a{g.a.start, in, 1, g.a.ld, g.a.stride};
    if (g.op_b) std::swap(from_b.outer, from_b.inner);
    if (g.op_a) std::swap(from_a.outer, from_a.inner);
    void *c = const_cast<void *>(g.c.start);
    Size size{size_t(g.batch), size_t(g.n), size_t(g.m), size_t(g.k)};
    multiply<Sum>(size, rule, from_b, from_a, [&](size_t b, size_t row, size_t col, size_t count, const Sum *sums) {
        ptrdiff_t at = ptrdiff_t(b) * g.c.stride + ptrdiff_t(row) * g.c.ld + ptrdiff_t(col);
        put(out, c, at, 1, count, sums, alpha, beta);
    });
}

/// What holds for every handle that is used.
int check_handle(const char *name, Handle *handle) {
    if (!handles.holds(handle)) return refuse(NOT_INITIALIZED, "%s got no handle of cublasCreate_v2", name);
    if (!handle->has_stream) return refuse(INVALID_VALUE, "%s was called before cublasSetStream_v2", name);
    return SUCCESS;
}

int gemm(const Gemm &g) {
    if (int code = check_handle(g.name, g.handle)) return code;
    if (g.op_a < 0 || g.op_a > 2 || g.op_b < 0 || g.op_b > 2)
        return refuse(INVALID_VALUE, "%s: operations %d and %d are none of N, T and C", g.name, g.op_a, g.op_b);
    if (g.m < 0 || g.n < 0 || g.k < 0 || g.batch < 0)
        return refuse(INVALID_VALUE, "%s: m %d, n %d, k %d or batch %d is negative", g.name, g.m, g.n, g.k, g.batch);
    bool known =
        (g.algorithm >= -1 && g.algorithm <= 23) || (g.algorithm >= 99 && g.algorithm <= 115) || g.algorithm == 999;
    if (!known) return refuse(INVALID_VALUE, "%s: %d is no algorithm", g.name, g.algorithm);
    Format in, in_b, out;
    Rule rule;
    const char *words = "";
    bool formats = format_of(g.a.type, in) && format_of(g.b.type, in_b) && format_of(g.c.type, out);
    if (!formats || in != in_b || !rule_of(g.compute, in, out, rule, words))
        return refuse(NOT_SUPPORTED, "%s: data types %d, %d and %d do not go with compute type %d", g.name, g.a.type,
                      g.b.type, g.c.type, g.compute);

    const int rows_a = g.op_a ? g.k : g.m, cols_a = g.op_a ? g.m : g.k;
    const int rows_b = g.op_b ? g.n : g.k, cols_b = g.op_b ? g.k : g.n;
    struct {
        const char *what;
        const Operand &x;
        Format format;
        int rows;
    } matrices[] = {{"A", g.a, in, rows_a}, {"B", g.b, in, rows_b}, {"C", g.c, out, g.m}};
    for (auto &[what, x, format, rows] : matrices) {
        if (x.ld < std::max(1, rows))
            return refuse(INVALID_VALUE, "%s: the leading dimension of %s is %d, but it has %d rows", g.name, what,
                          x.ld, rows);
        if (x.stride < 0) return refuse(INVALID_VALUE, "%s: the stride of %s is %lld", g.name, what, x.stride);
        if (uintptr_t(x.start) % size_of(format))
            return refuse(INVALID_VALUE, "%s: %s starts at %p, which is no place for an %s", g.name, what, x.start,
                          name_of(format));
    }
    if (!g.alpha || !g.beta) return refuse(INVALID_VALUE, "%s: alpha or beta is a null pointer", g.name);
    if (!g.m || !g.n || !g.batch) return SUCCESS;
    if (!g.c.start || (g.k && (!g.a.start || !g.b.start)))
        return refuse(INVALID_VALUE, "%s: a matrix is a null pointer", g.name);
    const long long apart = (g.n - 1LL) * g.c.ld + g.m; // from a matrix' first number to behind its last
    const bool in_turn = g.c.stride >= apart;
    const bool interleaved = g.c.stride >= g.m && g.c.ld >= g.c.stride * (g.batch - 1) + g.m;
    if (g.batch > 1 && !in_turn && !interleaved)
        return refuse(INVALID_VALUE, "%s: results %lld numbers apart overlap (m %d, n %d, ldc %d)", g.name, g.c.stride,
                      g.m, g.n, g.c.ld);

    Span a = span_of(g.a, in, rows_a, cols_a, g.batch), b = span_of(g.b, in, rows_b, cols_b, g.batch);
    Span c = span_of(g.c, out, g.m, g.n, g.batch);
    if (c.meets(a) || c.meets(b)) return refuse(INVALID_VALUE, "%s: C lies over A or B", g.name);
    a.touch(text("%s, A", g.name).c_str(), false);
    b.touch(text("%s, B", g.name).c_str(), false);
    c.touch(text("%s, C", g.name).c_str(), true);
    const char *letters = "NTC";
    std::string call =
        text("%s %s %c%c m %d n %d k %d batch %d %s%s%s", g.name, name_of(in), letters[g.op_a], letters[g.op_b], g.m,
             g.n, g.k, g.batch, words, out == in ? "" : " to ", out == in ? "" : name_of(out));
    stand_in_count(call.c_str(), 2.0 * g.m * g.n * g.k * g.batch);
    if (!stand_in_computes()) return SUCCESS;
    if (in == Format::F64) {
        compute(g, in, out, rule, *static_cast<const double *>(g.alpha), *static_cast<const double *>(g.beta));
    } else {
        // alpha and beta have the format of the sums.
        Format scale = rule.sums_f16 ? Format::F16 : Format::F32;
        float alpha, beta;
        widen(scale, g.alpha, 0, 1, 1, &alpha);
        widen(scale, g.beta, 0, 1, 1, &beta);
        compute(g, in, out, rule, alpha, beta);
    }
    return SUCCESS;
}

} // namespace

extern "C" {

int cublasCreate_v2(Handle **handle) {
    if (!handle) return refuse(INVALID_VALUE, "cublasCreate_v2 has nowhere to put the handle");
    *handle = handles.make();
    return SUCCESS;
}

int cublasDestroy_v2(Handle *handle) {
    return handles.end(handle) ? int(SUCCESS) : refuse(NOT_INITIALIZED, "cublasDestroy_v2 got no handle that lives");
}

int cublasSetStream_v2(Handle *handle, void *) {
    if (!handles.holds(handle)) return refuse(NOT_INITIALIZED, "cublasSetStream_v2 got no handle of cublasCreate_v2");
    handle->has_stream = true;
    return SUCCESS;
}

int cublasGemmEx(Handle *handle, int op_a, int op_b, int m, int n, int k, const void *alpha, const void *a, int a_type,
                 int lda, const void *b, int b_type, int ldb, const void *beta, void *c, int c_type, int ldc,
                 int compute, int algorithm) {
    Operand left{a, a_type, lda, 0}, right{b, b_type, ldb, 0}, result{c, c_type, ldc, 0};
    return gemm({"cublasGemmEx", handle, op_a, op_b, m, n, k, alpha, left, right, beta, result, 1, compute, algorithm});
}

int cublasGemmStridedBatchedEx(Handle *handle, int op_a, int op_b, int m, int n, int k, const void *alpha,
                               const void *a, int a_type, int lda, long long stride_a, const void *b, int b_type,
                               int ldb, long long stride_b, const void *beta, void *c, int c_type, int ldc,
                               long long stride_c, int batch, int compute, int algorithm) {
    Operand left{a, a_type, lda, stride_a}, right{b, b_type, ldb, stride_b}, result{c, c_type, ldc, stride_c};
    return gemm({"cublasGemmStridedBatchedEx", handle, op_a, op_b, m, n, k, alpha, left, right, beta, result, batch,
                 compute, algorithm});
}

int cublasSgemmStridedBatched(Handle *handle, int op_a, int op_b, int m, int n, int k, const float *alpha,
                              const float *a, int lda, long long stride_a, const float *b, int ldb, long long stride_b,
                              const float *beta, float *c, int ldc, long long stride_c, int batch) {
    Operand left{a, R_32F, lda, stride_a}, right{b, R_32F, ldb, stride_b}, result{c, R_32F, ldc, stride_c};
    return gemm({"cublasSgemmStridedBatched", handle, op_a, op_b, m, n, k, alpha, left, right, beta, result, batch,
                 COMPUTE_32F, -1});
}

int cublasDgemmStridedBatched(Handle *handle, int op_a, int op_b, int m, int n, int k, const double *alpha,
                              const double *a, int lda, long long stride_a, const double *b, int ldb,
                              long long stride_b, const double *beta, double *c, int ldc, long long stride_c,
                              int batch) {
    Operand left{a, R_64F, lda, stride_a}, right{b, R_64F, ldb, stride_b}, result{c, R_64F, ldc, stride_c};
    return gemm({"cublasDgemmStridedBatched", handle, op_a, op_b, m, n, k, alpha, left, right, beta, result, batch,
                 COMPUTE_64F, -1});
}

} // extern "C"
