// In: the calls of cuBLASLt that the program makes, on the stand-in driver's memory. Out: libcublasLt.so.13, which
// checks each against the real library's rules, says in one sentence why it refuses one, and computes the rest on the
// processor (product.hpp): D = alpha op(A) op(B) + beta C + bias, column-major, rounded once. An algorithm notes the
// product that it was chosen for and the alignments that it was promised; a call that differs is refused.
#include <climits>

#include "product.hpp"

using namespace stand_in;

namespace {

enum Status { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum DataType { R_32F = 0, R_16F = 2, R_16BF = 14 };
enum Compute { COMPUTE_32F = 68, COMPUTE_32F_FAST_TF32 = 77 };
enum Epilogue { EPILOGUE_DEFAULT = 1, EPILOGUE_BIAS = 4 };

struct Handle {};
/// What is done with the matrices.
struct Description {
    int compute = 0, scale = 0, pointer_mode = 0, op_a = 0, op_b = 0, op_c = 0;
    uint32_t epilogue = EPILOGUE_DEFAULT;
    const void *bias = nullptr;
    int64_t bias_stride = 0;
    int bias_type = -1; // that of D
};
struct Layout {
    uint32_t type = 0;
    int order = 0; // column-major
    uint64_t rows = 0, cols = 0;
    int64_t ld = 0;
    int batch = 1;
    int64_t stride = 0;
    bool operator==(const Layout &other) const {
        return type == other.type && order == other.order && rows == other.rows && cols == other.cols &&
               ld == other.ld && batch == other.batch && stride == other.stride;
    }
};
/// Workspace that an algorithm may ask for, and what every address of A, B, C and D will be a multiple of.
struct Preference {
    uint64_t workspace = 0;
    uint32_t alignments[4] = {256, 256, 256, 256};
};
Live<Handle> handles;
Live<Description> descriptions;
Live<Layout> layouts;
Live<Preference> preferences;

/// cublasLtMatmulAlgo_t, which the program cannot look into.
struct Algorithm {
    uint64_t magic = 0x7473756c62756373, product = 0, workspace = 0;
    uint32_t alignments[4] = {1, 1, 1, 1}, bias_alignment = 1, unused[3] = {};
    uint64_t seal = 0;
};
static_assert(sizeof(Algorithm) == 64, "as cublasLt.h has it");

/// cublasLtMatmulHeuristicResult_t.
struct Found {
    Algorithm algorithm;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};
static_assert(sizeof(Found) == 96, "as cublasLt.h has it");

uint64_t digest(const void *start, size_t bytes) {
    uint64_t sum = 0xcbf29ce484222325;
    for (size_t i = 0; i < bytes; i++) sum = (sum ^ static_cast<const uint8_t *>(start)[i]) * 0x100000001b3;
    return sum;
}
uint64_t seal_of(const Algorithm &algorithm) { return digest(&algorithm, offsetof(Algorithm, seal)); }

bool format_of(uint32_t type, Format &format) {
    switch (type) {
    case R_32F: format = Format::F32; return true;
    case R_16F: format = Format::F16; return true;
    case R_16BF: format = Format::BF16; return true;
    }
    return false;
}

// ---- Objects and their attributes, by the numbers that cublasLt.h gives them

template <class T> int begin(const char *name, Live<T> &objects, T **made, const T &content) {
    if (!made) return refuse(INVALID_VALUE, "%s has nowhere to put what it makes", name);
    *made = objects.make();
    **made = content;
    return SUCCESS;
}
/// The real library takes null, too.
template <class T> int end(const char *name, Live<T> &objects, T *object) {
    return !object || objects.end(object) ? int(SUCCESS) : refuse(INVALID_VALUE, "%s got none that lives", name);
}

struct Attribute {
    int number;
    void *place;
    size_t bytes;
};

int set(const char *name, std::initializer_list<Attribute> known, int number, const void *from, size_t bytes) {
    for (const Attribute &each : known) {
        if (each.number != number) continue;
        if (!from || bytes != each.bytes)
            return refuse(INVALID_VALUE, "%s: attribute %d has %zu bytes, and got %zu from %p", name, number,
                          each.bytes, bytes, from);
        memcpy(each.place, from, bytes);
        return SUCCESS;
    }
    return refuse(NOT_SUPPORTED, "%s: attribute %d is not here", name, number);
}

// ---- One product

/// Its descriptors, found to be alive and to agree.
struct Call {
    const Description *how;
    const Layout *a, *b, *c, *d;
    Format format;
    Rule rule;
    int m, n, k, batch;

    bool has_bias() const { return how->epilogue == EPILOGUE_BIAS; }
    /// Equal for products that one algorithm may do.
    uint64_t digest() const {
        std::vector<int64_t> all{m, n, k, batch, int(format), how->compute, how->op_a != 0, how->op_b != 0};
        all.push_back(how->epilogue);
        for (const Layout *x : {a, b, c, d}) all.push_back(x->ld), all.push_back(batch > 1 ? x->stride : 0);
        all.push_back(batch > 1 && has_bias() ? how->bias_stride : 0);
        return ::digest(all.data(), all.size() * sizeof all[0]);
    }
    /// The stand-in's algorithms for large sums take workspace where they may have it.
    size_t workspace(size_t most) const { return k >= 1024 && most >= 1 << 20 ? 1 << 20 : 0; }
    Span span_of(const Layout &x, const void *start) const {
        const size_t column = size_t(x.cols - 1) * size_t(x.ld) + x.rows;
        return {start, (size_t(batch - 1) * size_t(x.stride) + column) * size_of(format)};
    }
};

int check_layout(const char *name, const char *what, const Layout &x, int batch) {
    if (x.order) return refuse(NOT_SUPPORTED, "%s: %s has the order %d; only columns are here", name, what, x.order);
    if (!x.rows || !x.cols) return refuse(INVALID_VALUE, "%s: %s is empty", name, what);
    if (x.rows > INT_MAX || x.cols > INT_MAX || x.ld > INT_MAX)
        return refuse(NOT_SUPPORTED, "%s: %s has a size beyond 32 bits", name, what);
    if (x.ld < int64_t(x.rows))
        return refuse(INVALID_VALUE, "%s: the leading dimension of %s is %lld, but it has %llu rows", name, what,
                      static_cast<long long>(x.ld), static_cast<unsigned long long>(x.rows));
    if (x.batch < 1 || x.batch != batch)
        return refuse(INVALID_VALUE, "%s: %s is a batch of %d, D one of %d", name, what, x.batch, batch);
    if (x.stride < 0)
        return refuse(INVALID_VALUE, "%s: the stride of %s is %lld", name, what, static_cast<long long>(x.stride));
    return SUCCESS;
}

int check(const char *name, Handle *handle, Description *how, Layout *a, Layout *b, Layout *c, Layout *d, Call &call) {
    if (!handles.holds(handle)) return refuse(NOT_INITIALIZED, "%s got no handle of cublasLtCreate", name);
    if (!descriptions.holds(how)) return refuse(INVALID_VALUE, "%s got a description that does not live", name);
    for (Layout *x : {a, b, c, d})
        if (!layouts.holds(x)) return refuse(INVALID_VALUE, "%s got a layout that does not live", name);
    Format format;
    if (!format_of(d->type, format) || a->type != d->type || b->type != d->type || c->type != d->type)
        return refuse(NOT_SUPPORTED, "%s: data types %u, %u, %u and %u; all f16, all bf16 or all f32 are here", name,
                      a->type, b->type, c->type, d->type);
    Rule rule;
    if (how->compute == COMPUTE_32F_FAST_TF32) rule.entering = Rule::Tf32;
    const bool sums = how->compute == COMPUTE_32F || (rule.entering == Rule::Tf32 && format == Format::F32);
    if (!sums || how->scale != R_32F)
        return refuse(NOT_SUPPORTED, "%s: compute type %d and scale type %d do not go with %s", name, how->compute,
                      how->scale, name_of(format));
    if (how->pointer_mode)
        return refuse(NOT_SUPPORTED, "%s: pointer mode %d; alpha and beta come from the host", name, how->pointer_mode);
    if (how->op_a < 0 || how->op_a > 2 || how->op_b < 0 || how->op_b > 2)
        return refuse(INVALID_VALUE, "%s: operations %d and %d are none of N, T and C", name, how->op_a, how->op_b);
    if (how->op_c) return refuse(NOT_SUPPORTED, "%s: C is to be turned (operation %d)", name, how->op_c);
    if (how->epilogue != EPILOGUE_DEFAULT && how->epilogue != EPILOGUE_BIAS)
        return refuse(NOT_SUPPORTED, "%s: epilogue %u is not here", name, how->epilogue);
    if (how->bias_type != -1 && how->bias_type != int(d->type))
        return refuse(NOT_SUPPORTED, "%s: the bias has data type %d, D %u", name, how->bias_type, d->type);
    if (how->bias_stride < 0) return refuse(INVALID_VALUE, "%s: the stride of the bias is negative", name);
    struct {
        const char *what;
        const Layout &x;
    } matrices[] = {{"A", *a}, {"B", *b}, {"C", *c}, {"D", *d}};
    for (auto &[what, x] : matrices)
        if (int code = check_layout(name, what, x, d->batch)) return code;

    const uint64_t m = how->op_a ? a->cols : a->rows, k = how->op_a ? a->rows : a->cols;
    const uint64_t inner = how->op_b ? b->cols : b->rows, n = how->op_b ? b->rows : b->cols;
    call = {how, a, b, c, d, format, rule, int(m), int(n), int(k), d->batch};
    if (inner != k) return refuse(INVALID_VALUE, "%s: op(A) has %d columns, op(B) %d rows", name, call.k, int(inner));
    for (const Layout *x : {c, d})
        if (x->rows != m || x->cols != n)
            return refuse(INVALID_VALUE, "%s: %s is %d by %d, the product %d by %d", name, x == c ? "C" : "D",
                          int(x->rows), int(x->cols), call.m, call.n);
    const int64_t apart = int64_t(n - 1) * d->ld + int64_t(m); // from a matrix' first number to behind its last
    const bool interleaved = d->stride >= int64_t(m) && d->ld >= d->stride * (d->batch - 1) + int64_t(m);
    if (d->batch > 1 && d->stride < apart && !interleaved)
        return refuse(INVALID_VALUE, "%s: results %lld numbers apart overlap (m %d, n %d, ldd %lld)", name,
                      static_cast<long long>(d->stride), call.m, call.n, static_cast<long long>(d->ld));
    return SUCCESS;
}

/// Where a call's numbers are; C and bias are null where they are not read.
struct Places {
    const void *a, *b, *c, *bias;
    void *d;
};

void compute(const Call &call, const Places &at, float alpha, float beta) {
    const Layout &a = *call.a, &b = *call.b, &c = *call.c, &d = *call.d;
    // Row-major, D is transposed: its rows come from B, its columns from A.
    Matrix from_b{at.b, call.format, b.ld, 1, b.stride}, from_a{at.a, call.format, 1, a.ld, a.stride};
    if (call.how->op_b) std::swap(from_b.outer, from_b.inner);
    if (call.how->op_a) std::swap(from_a.outer, from_a.inner);
    Size size{size_t(call.batch), size_t(call.n), size_t(call.m), size_t(call.k)};
    auto store = [&](size_t g, size_t col, size_t row, size_t count, const float *sums) {
        float values[Tile<float>::cols], more[Tile<float>::cols];
        auto place = [&](const Layout &x) { return ptrdiff_t(g) * x.stride + ptrdiff_t(col) * x.ld + ptrdiff_t(row); };
        for (size_t i = 0; i < count; i++) values[i] = alpha * sums[i];
        if (at.c) {
            widen(call.format, at.c, place(c), 1, count, more);
            for (size_t i = 0; i < count; i++) values[i] += beta * more[i];
        }
        if (at.bias) {
            widen(call.format, at.bias, ptrdiff_t(g) * call.how->bias_stride + ptrdiff_t(row), 1, count, more);
            for (size_t i = 0; i < count; i++) values[i] += more[i];
        }
        put(call.format, at.d, place(d), 1, count, values, 1.0f, 0.0f);
    };
    multiply<float>(size, call.rule, from_b, from_a, store);
}

/// Whether an algorithm of the heuristic may be used for this call.
int check_algorithm(const char *name, const Algorithm &algorithm, const Call &call, size_t workspace) {
    if (algorithm.magic != Algorithm().magic || algorithm.seal != seal_of(algorithm))
        return refuse(INVALID_VALUE, "%s got an algorithm that is none of cublasLtMatmulAlgoGetHeuristic", name);
    if (algorithm.product != call.digest())
        return refuse(INVALID_VALUE, "%s: the algorithm was chosen for another product than m %d n %d k %d of %s", name,
                      call.m, call.n, call.k, name_of(call.format));
    if (workspace < algorithm.workspace)
        return refuse(INVALID_VALUE, "%s: %zu bytes of workspace; the algorithm needs %llu", name, workspace,
                      static_cast<unsigned long long>(algorithm.workspace));
    return SUCCESS;
}

} // namespace

extern "C" {

size_t cublasLtGetVersion(void) { return 130000; }

int cublasLtCreate(Handle **handle) { return begin("cublasLtCreate", handles, handle, Handle()); }
int cublasLtDestroy(Handle *handle) {
    return handles.end(handle) ? int(SUCCESS) : refuse(INVALID_VALUE, "cublasLtDestroy got no handle that lives");
}

int cublasLtMatmulDescCreate(Description **made, int compute, int scale) {
    Description content;
    content.compute = compute, content.scale = scale;
    return begin("cublasLtMatmulDescCreate", descriptions, made, content);
}
int cublasLtMatmulDescDestroy(Description *ended) { return end("cublasLtMatmulDescDestroy", descriptions, ended); }
int cublasLtMatmulDescSetAttribute(Description *d, int number, const void *from, size_t bytes) {
    const char *name = "cublasLtMatmulDescSetAttribute";
    if (!descriptions.holds(d)) return refuse(INVALID_VALUE, "%s got no description that lives", name);
    return set(name,
               {{0, &d->compute, 4},
                {1, &d->scale, 4},
                {2, &d->pointer_mode, 4},
                {3, &d->op_a, 4},
                {4, &d->op_b, 4},
                {5, &d->op_c, 4},
                {7, &d->epilogue, 4},
                {8, &d->bias, 8},
                {10, &d->bias_stride, 8},
                {26, &d->bias_type, 4}},
               number, from, bytes);
}

int cublasLtMatrixLayoutCreate(Layout **made, uint32_t type, uint64_t rows, uint64_t cols, int64_t ld) {
    Layout content;
    content.type = type, content.rows = rows, content.cols = cols, content.ld = ld;
    return begin("cublasLtMatrixLayoutCreate", layouts, made, content);
}
int cublasLtMatrixLayoutDestroy(Layout *ended) { return end("cublasLtMatrixLayoutDestroy", layouts, ended); }
int cublasLtMatrixLayoutSetAttribute(Layout *x, int number, const void *from, size_t bytes) {
    const char *name = "cublasLtMatrixLayoutSetAttribute";
    if (!layouts.holds(x)) return refuse(INVALID_VALUE, "%s got no layout that lives", name);
    return set(name,
               {{0, &x->type, 4},
                {1, &x->order, 4},
                {2, &x->rows, 8},
                {3, &x->cols, 8},
                {4, &x->ld, 8},
                {5, &x->batch, 4},
                {6, &x->stride, 8}},
               number, from, bytes);
}

int cublasLtMatmulPreferenceCreate(Preference **made) {
    return begin("cublasLtMatmulPreferenceCreate", preferences, made, Preference());
}
int cublasLtMatmulPreferenceDestroy(Preference *ended) {
    return end("cublasLtMatmulPreferenceDestroy", preferences, ended);
}
int cublasLtMatmulPreferenceSetAttribute(Preference *p, int number, const void *from, size_t bytes) {
    const char *name = "cublasLtMatmulPreferenceSetAttribute";
    if (!preferences.holds(p)) return refuse(INVALID_VALUE, "%s got no preference that lives", name);
    Preference next = *p;
    uint32_t *alignments = next.alignments;
    const int code = set(name,
                         {{1, &next.workspace, 8},
                          {5, alignments, 4},
                          {6, alignments + 1, 4},
                          {7, alignments + 2, 4},
                          {8, alignments + 3, 4}},
                         number, from, bytes);
    if (code) return code;
    // The real library takes any number here, which then promises nothing that could be kept.
    for (uint32_t each : next.alignments)
        if (!each || each & (each - 1))
            return refuse(INVALID_VALUE, "%s: an alignment of %u bytes is no power of two", name, each);
    *p = next;
    return SUCCESS;
}

int cublasLtMatmulAlgoGetHeuristic(Handle *handle, Description *how, Layout *a, Layout *b, Layout *c, Layout *d,
                                   Preference *preference, int wanted, Found *found, int *count) {
    const char *name = "cublasLtMatmulAlgoGetHeuristic";
    Call call;
    if (int code = check(name, handle, how, a, b, c, d, call)) return code;
    if (!preferences.holds(preference)) return refuse(INVALID_VALUE, "%s got no preference that lives", name);
    if (wanted < 1 || !found || !count) return refuse(INVALID_VALUE, "%s: no room for %d algorithms", name, wanted);
    stand_in_count("heuristic of cublasLtMatmul", 0);
    Algorithm algorithm;
    algorithm.product = call.digest();
    std::copy(preference->alignments, preference->alignments + 4, algorithm.alignments);
    // No preference is the bias' own. What D promises holds for it, and so does what the description's pointer shows,
    // from which cublasLt.h has its alignment expected.
    uint32_t shown = 256;
    while (shown > 1 && uintptr_t(how->bias) % shown) shown /= 2;
    algorithm.bias_alignment = std::max(algorithm.alignments[3], how->bias ? shown : 1);
    const double tiles = double((call.m + 127) / 128) * ((call.n + 127) / 128) * call.batch;
    *count = 0;
    // The first takes workspace if it may and likes to; one without comes last.
    for (size_t workspace = call.workspace(preference->workspace); *count < wanted; workspace = 0) {
        algorithm.workspace = workspace;
        algorithm.seal = seal_of(algorithm);
        found[(*count)++] = {algorithm, workspace, SUCCESS, float(tiles / 132), {0, 0, 0, 0}};
        if (!workspace) break;
    }
    return SUCCESS;
}

int cublasLtMatmul(Handle *handle, Description *how, const float *alpha, const void *a, Layout *a_form, const void *b,
                   Layout *b_form, const float *beta, const void *c, Layout *c_form, void *d, Layout *d_form,
                   const Algorithm *algorithm, void *workspace, size_t bytes, void *) {
    const char *name = "cublasLtMatmul";
    Call call;
    if (int code = check(name, handle, how, a_form, b_form, c_form, d_form, call)) return code;
    if (!alpha || !beta) return refuse(INVALID_VALUE, "%s: alpha or beta is a null pointer", name);
    if (!a || !b || !c || !d) return refuse(INVALID_VALUE, "%s: a matrix is a null pointer", name);
    const void *bias = call.has_bias() ? how->bias : nullptr;
    if (call.has_bias() && !bias) return refuse(INVALID_VALUE, "%s: the bias is a null pointer", name);
    if ((bytes && !workspace) || uintptr_t(workspace) % 16)
        return refuse(INVALID_VALUE, "%s: %p is no place for %zu bytes of workspace", name, workspace, bytes);
    Algorithm chosen; // promised nothing
    if (algorithm) {
        chosen = *algorithm;
        if (int code = check_algorithm(name, chosen, call, bytes)) return code;
    } else {
        chosen.workspace = call.workspace(bytes);
    }

    const size_t bias_numbers = size_t(call.batch - 1) * size_t(how->bias_stride) + size_t(call.m);
    const Span room{workspace, bytes}, result = call.span_of(*d_form, d);
    struct {
        const char *what;
        Span span;
        uint32_t alignment;
    } all[] = {
        {"A", call.span_of(*a_form, a), chosen.alignments[0]},
        {"B", call.span_of(*b_form, b), chosen.alignments[1]},
        {"C", call.span_of(*c_form, c), chosen.alignments[2]},
        {"the bias", {bias, bias ? bias_numbers * size_of(call.format) : 0}, chosen.bias_alignment},
        {"D", result, chosen.alignments[3]},
    };
    for (auto &[what, span, alignment] : all) {
        const uintptr_t start = uintptr_t(span.start);
        if (start % size_of(call.format))
            return refuse(INVALID_VALUE, "%s: %s starts at %p, which is no place for an %s", name, what, span.start,
                          name_of(call.format));
        if (start % alignment)
            return refuse(INVALID_VALUE, "%s: %s starts at %p; the algorithm was promised multiples of %u bytes", name,
                          what, span.start, alignment);
        const bool in_place = c == d && *what == 'C';
        if (in_place && !(*c_form == *d_form))
            return refuse(INVALID_VALUE, "%s: C is D, but their layouts differ", name);
        if (*what != 'D' && !in_place && result.meets(span))
            return refuse(INVALID_VALUE, "%s: D lies over %s", name, what);
        if (room.meets(span)) return refuse(INVALID_VALUE, "%s: the workspace lies over %s", name, what);
    }
    for (auto &[what, span, alignment] : all) span.touch(text("%s, %s", name, what).c_str(), *what == 'D');
    room.touch("cublasLtMatmul, workspace", true);
    const char *letters = "NTC";
    std::string line = text("%s %s %c%c m %d n %d k %d batch %d %s%s%s", name, name_of(call.format),
                            letters[how->op_a], letters[how->op_b], call.m, call.n, call.k, call.batch,
                            call.rule.entering == Rule::Tf32 ? "tf32 for f32" : "sums in f32", bias ? " bias" : "",
                            *beta != 0 ? " onto" : "");
    stand_in_count(line.c_str(), 2.0 * call.m * call.n * call.k * call.batch);
    if (!stand_in_computes()) return SUCCESS;
    if (chosen.workspace) memset(workspace, 0xa5, bytes);
    compute(call, {a, b, *beta != 0 ? c : nullptr, bias, d}, *alpha, *beta);
    return SUCCESS;
}

} // extern "C"
