// In: blas.cpp, lt.cpp (by lt_check.cpp), dnn.cpp and rand.cpp, with a ledger of memory in the driver's place. Out:
// exit status 0 where their results agree with plain loops in f64 and their refusals are the real libraries'; else 1,
// and what disagreed. scripts/stand-in-gpu --check compiles and runs it.
#include "checks.hpp"

using namespace stand_in;

void check_lt();

extern "C" {
int cublasCreate_v2(void **);
int cublasDestroy_v2(void *);
int cublasSetStream_v2(void *, void *);
int cublasGemmEx(void *, int, int, int, int, int, Pointer, Pointer, int, int, Pointer, int, int, Pointer, void *, int,
                 int, int, int);
int cublasGemmStridedBatchedEx(void *, int, int, int, int, int, Pointer, Pointer, int, int, long long, Pointer, int,
                               int, long long, Pointer, void *, int, int, long long, int, int, int);
int cublasSgemmStridedBatched(void *, int, int, int, int, int, Pointer, Pointer, int, long long, Pointer, int,
                              long long, Pointer, void *, int, long long, int);
int cublasDgemmStridedBatched(void *, int, int, int, int, int, Pointer, Pointer, int, long long, Pointer, int,
                              long long, Pointer, void *, int, long long, int);
int cudnnCreate(void **);
int cudnnDestroy(void *);
int cudnnSetStream(void *, void *);
int cudnnCreateTensorDescriptor(void **);
int cudnnCreateFilterDescriptor(void **);
int cudnnCreateConvolutionDescriptor(void **);
int cudnnDestroyTensorDescriptor(void *);
int cudnnDestroyFilterDescriptor(void *);
int cudnnDestroyConvolutionDescriptor(void *);
int cudnnSetTensor4dDescriptor(void *, int, int, int, int, int, int);
int cudnnSetTensor4dDescriptorEx(void *, int, int, int, int, int, int, int, int, int);
int cudnnSetFilter4dDescriptor(void *, int, int, int, int, int, int);
int cudnnSetConvolution2dDescriptor(void *, int, int, int, int, int, int, int, int);
int cudnnSetConvolutionMathType(void *, int);
int cudnnSetConvolutionGroupCount(void *, int);
int cudnnGetConvolutionForwardAlgorithm_v7(void *, void *, void *, void *, void *, int, int *, void *);
int cudnnGetConvolutionForwardWorkspaceSize(void *, void *, void *, void *, void *, int, size_t *);
int cudnnConvolutionForward(void *, Pointer, void *, Pointer, void *, Pointer, void *, int, void *, size_t, Pointer,
                            void *, void *);
int curandCreateGenerator(void **, int);
int curandDestroyGenerator(void *);
int curandSetStream(void *, void *);
int curandSetPseudoRandomGeneratorSeed(void *, unsigned long long);
int curandSetGeneratorOffset(void *, unsigned long long);
int curandGenerateUniform(void *, float *, size_t);
int curandGenerateUniformDouble(void *, double *, size_t);
int curandGenerateNormal(void *, float *, size_t, float, float);
int curandGenerateNormalDouble(void *, double *, size_t, double, double);
}

// ---- The driver's part

extern "C" void stand_in_touch(const char *, const void *start, unsigned long bytes, int) {
    auto after = ledger.upper_bound(uintptr_t(start));
    bool inside = after != ledger.begin();
    if (inside) --after, inside = uintptr_t(start) + bytes <= after->first + after->second;
    strayed |= !inside;
}
extern "C" int stand_in_computes(void) { return computes; }
extern "C" void stand_in_count(const char *what, double flop) { counted = what, operations += flop; }

// ---- Number formats

static int cudnn_type(Format f) { return f == Format::F32 ? 0 : f == Format::F64 ? 1 : f == Format::F16 ? 2 : 9; }
static const Format FORMATS[] = {Format::F16, Format::BF16, Format::F32, Format::F64};

static void check_formats() {
    for (uint32_t i = 0; i < 0x10000; i++) {
        uint16_t h = uint16_t(i);
        int exponent = h >> 10 & 31, fraction = h & 1023;
        double size = exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
        double want = exponent == 31 ? (fraction ? NAN : INFINITY) : size;
        want = h & 0x8000 ? -want : want;
        bool alike = std::isnan(want) ? std::isnan(widen_f16(h)) && std::isnan(widen_f16_by_bits(h))
                                      : widen_f16(h) == want && widen_f16_by_bits(h) == want &&
                                            std::signbit(widen_f16(h)) == std::signbit(want);
        hold(alike && (std::isnan(want) || (narrow_f16(float(want)) == h && narrow_f16_by_bits(float(want)) == h)),
             text("f16 %04x", h));
        bool nan = (h & 0x7fff) > 0x7f80;
        hold(nan ? std::isnan(widen_bf16(narrow_bf16(widen_bf16(h)))) : narrow_bf16(widen_bf16(h)) == h,
             text("bf16 %04x", h));
        hold(!std::isnan(want) ||
                 (std::isnan(widen_f16(narrow_f16(NAN))) && std::isnan(widen_f16(narrow_f16_by_bits(NAN)))),
             "NaN");
        // Between two neighbours: the middle goes to the even one, and either side of it to the nearer.
        auto between = [&](float low, float high, uint16_t (*narrow)(float), const char *what) {
            float middle = float((double(low) + double(high)) / 2);
            uint16_t even = h & 1 ? uint16_t(h + 1) : h;
            bool held = narrow(middle) == even && narrow(std::nextafter(middle, high)) == h + 1;
            hold(held && narrow(std::nextafter(middle, low)) == h, text("%s beside %04x", what, h));
        };
        float end = (h & 0x7fff) == 0x7bff ? 65536 : 0; // where the next number would stand
        if ((h & 0x7fff) < 0x7c00) {
            float low = widen_f16(h), high = end ? std::copysign(end, low) : widen_f16(uint16_t(h + 1));
            between(low, high, narrow_f16, "f16");
            between(low, high, narrow_f16_by_bits, "f16 by bits");
        }
        if ((h & 0x7fff) < 0x7f7f) between(widen_bf16(h), widen_bf16(uint16_t(h + 1)), narrow_bf16, "bf16");
    }
}

// ---- Products

struct Product {
    int op_a = 0, op_b = 0, m = 5, n = 7, k = 3, batch = 1, pad = 0;
    bool same_a = false, same_b = false;
    double alpha = 1, beta = 0;
    Format in = Format::F32, out = Format::F32;
    int compute = 68;
};

static void check_product(void *blas, const Product &p, bool typed = false) {
    const size_t m = size_t(p.m), n = size_t(p.n), k = size_t(p.k);
    const size_t lda = (p.op_a ? k : m) + size_t(p.pad), ldb = (p.op_b ? n : k) + size_t(p.pad),
                 ldc = m + size_t(p.pad);
    const size_t cols_a = p.op_a ? m : k, cols_b = p.op_b ? k : n, gap = size_t(p.pad) * 5;
    const size_t far_a = p.same_a ? 0 : lda * cols_a + gap, far_b = p.same_b ? 0 : ldb * cols_b + gap,
                 far_c = ldc * n + gap;
    const size_t last = size_t(p.batch) - 1;
    Numbers a(p.in, last * far_a + lda * (cols_a - 1) + (p.op_a ? k : m)),
        b(p.in, last * far_b + ldb * (cols_b - 1) + (p.op_b ? n : k));
    Numbers c(p.out, last * far_c + ldc * (n - 1) + m);
    auto at_a = [&](size_t g, size_t i, size_t l) { return g * far_a + (p.op_a ? i * lda + l : l * lda + i); };
    auto at_b = [&](size_t g, size_t l, size_t j) { return g * far_b + (p.op_b ? l * ldb + j : j * ldb + l); };
    for (size_t g = 0; g <= last; g++) {
        for (size_t l = 0; l < k; l++) {
            for (size_t i = 0; i < m; i++) a.set(at_a(g, i, l), drawn());
            for (size_t j = 0; j < n; j++) b.set(at_b(g, l, j), drawn());
        }
        for (size_t j = 0; p.beta != 0 && j < n; j++)
            for (size_t i = 0; i < m; i++) c.set(g * far_c + j * ldc + i, drawn());
    }
    const std::vector<double> before = c.all(), from_a = a.all(), from_b = b.all();
    float less[] = {float(p.alpha), float(p.beta)};
    uint16_t half[] = {narrow_f16(less[0]), narrow_f16(less[1])};
    double more[] = {p.alpha, p.beta};
    const char *scale = p.in == Format::F64 ? (char *)more : p.compute == 64 ? (char *)half : (char *)less;
    const char *beta = scale + (p.in == Format::F64 ? 8 : p.compute == 64 ? 2 : 4);
    std::string name =
        text("product %s to %s, ops %d %d, m %d n %d k %d batch %d pad %d alpha %g beta %g compute %d", name_of(p.in),
             name_of(p.out), p.op_a, p.op_b, p.m, p.n, p.k, p.batch, p.pad, p.alpha, p.beta, p.compute);
    const int in = cublas_type(p.in), out = cublas_type(p.out), la = int(lda), lb = int(ldb), lc = int(ldc);
    strayed = false, operations = 0;
    ends(0, name, [&] {
        if (typed && p.in == Format::F32)
            return cublasSgemmStridedBatched(blas, p.op_a, p.op_b, p.m, p.n, p.k, scale, a.at(), la, far_a, b.at(), lb,
                                             far_b, beta, c.at(), lc, far_c, p.batch);
        if (typed)
            return cublasDgemmStridedBatched(blas, p.op_a, p.op_b, p.m, p.n, p.k, scale, a.at(), la, far_a, b.at(), lb,
                                             far_b, beta, c.at(), lc, far_c, p.batch);
        if (p.batch == 1)
            return cublasGemmEx(blas, p.op_a, p.op_b, p.m, p.n, p.k, scale, a.at(), in, la, b.at(), in, lb, beta,
                                c.at(), out, lc, p.compute, 99);
        return cublasGemmStridedBatchedEx(blas, p.op_a, p.op_b, p.m, p.n, p.k, scale, a.at(), in, la, far_a, b.at(), in,
                                          lb, far_b, beta, c.at(), out, lc, far_c, p.batch, p.compute, 99);
    });
    bool alike = !strayed && operations == 2.0 * p.m * p.n * p.k * p.batch;
    for (size_t i = 0; i < before.size() && computes; i++) {
        size_t g = i / far_c, j = i % far_c / ldc, row = i % far_c % ldc;
        if (j >= n || row >= m) {
            alike &= std::isnan(c.get(i)); // between the columns nothing is written
            continue;
        }
        double sum = 0, size = 0;
        for (size_t l = 0; l < k; l++) {
            double product = from_a[at_a(g, row, l)] * from_b[at_b(g, l, j)];
            sum += product, size += std::fabs(product);
        }
        double want = p.alpha * sum + (p.beta != 0 ? p.beta * before[i] : 0);
        alike &= near(p.out, c.get(i), want, std::fabs(p.alpha) * size + std::fabs(p.beta),
                      p.in == Format::F64 ? Format::F64 : Format::F32);
    }
    for (size_t i = 0; i < before.size() && !computes; i++)
        alike &= p.beta == 0 ? std::isnan(c.get(i)) : c.get(i) == before[i];
    hold(alike, name);
}

static void check_products(void *blas) {
    for (Format f : FORMATS)
        for (int ops = 0; ops < 4; ops++) {
            Product p;
            p.in = p.out = f, p.op_a = ops & 1, p.op_b = ops >> 1, p.compute = f == Format::F64 ? 70 : 68;
            check_product(blas, p);
            p.m = 1, p.n = 1, p.k = 1;
            check_product(blas, p);
            p.m = 37, p.n = 65, p.k = 300, p.pad = 3, p.batch = 3, p.alpha = -0.5, p.beta = 0.75;
            check_product(blas, p);
            p.same_a = ops == 1 || ops == 2, p.same_b = !p.same_a, p.beta = 0;
            check_product(blas, p);
            p.m = 401, p.n = 200, p.k = 270, p.batch = 2, p.pad = 1, p.alpha = 1, p.beta = 1;
            check_product(blas, p);
            if (f == Format::F32 || f == Format::F64) check_product(blas, p, true);
            if (f != Format::F64) p.out = Format::F32, check_product(blas, p);
        }
    computes = false;
    Product still;
    check_product(blas, still);
    still.beta = 1, check_product(blas, still);
    computes = true;

    // How sums are held and numbers enter, on 4096 products of one number with 1.
    auto sum = [&](Format f, int compute, double number, int count) {
        Numbers a(f, size_t(count)), b(f, size_t(count)), c(f, 1);
        for (size_t i = 0; i < size_t(count); i++) a.set(i, number), b.set(i, 1);
        const float one[] = {1, 0};
        const uint16_t half[] = {0x3c00, 0};
        Pointer alpha = compute == 64 ? Pointer(half) : one, beta = compute == 64 ? Pointer(half + 1) : one + 1;
        const int type = cublas_type(f);
        ends(0, "a sum", [&] {
            return cublasGemmEx(blas, 1, 0, 1, 1, count, alpha, a.at(), type, count, b.at(), type, count, beta, c.at(),
                                type, 1, compute, -1);
        });
        return c.get(0);
    };
    hold(sum(Format::F16, 64, 1, 4096) == 2048, "sums in f16 stop at 2048");
    hold(sum(Format::F16, 68, 1, 4096) == 4096, "sums in f32 do not");
    hold(sum(Format::F32, 68, 1 + 0x1p-12, 1) == 1 + 0x1p-12, "f32 enters whole");
    hold(sum(Format::F32, 77, 1 + 0x1p-12, 1) == 1, "tf32 drops the 12th bit");
    hold(sum(Format::F32, 77, 1e6, 1) > 9e5 && std::isinf(sum(Format::F32, 74, 1e6, 1)),
         "tf32 holds a million, f16 does not");
    hold(sum(Format::F32, 75, 1 + 0x1p-9, 1) == 1, "bf16 drops the 9th bit");

    std::string first;
    for (const char *threads : {"1", "2", "5"}) {
        setenv("STAND_IN_THREADS", threads, 1);
        const size_t side = 420;
        Numbers a(Format::F32, side * side), c(Format::F32, side * side);
        for (size_t i = 0; i < side * side; i++) a.set(i, std::sin(double(i)));
        const float scale[] = {1, 0};
        const int n = int(side);
        cublasSgemmStridedBatched(blas, 0, 1, n, n, n, scale, a.at(), n, 0, a.at(), n, 0, scale + 1, c.at(), n, 0, 1);
        std::string bytes(static_cast<char *>(c.at()), side * side * 4);
        hold(first.empty() || bytes == first, std::string("the same bytes with threads ") + threads);
        first = bytes;
    }
    unsetenv("STAND_IN_THREADS");
}

static void check_blas_refusals(void *blas) {
    Numbers a(Format::F32, 64), b(Format::F32, 64), c(Format::F32, 64);
    const float one[] = {1, 0};
    struct Changed {
        void *handle;
        int op = 0, lda = 4, ldb = 4, ldc = 4, type = 0, compute = 68, batch = 2, algorithm = -1, m = 4;
        long long apart = 16, apart_a = 16;
        Pointer alpha, a, c;
    } const good{blas, 0, 4, 4, 4, 0, 68, 2, -1, 4, 16, 16, one, a.at(), c.at()};
    auto with = [&](int want, const char *what, const std::function<void(Changed &)> &change) {
        Changed x = good;
        change(x);
        ends(want, what, [&] {
            return cublasGemmStridedBatchedEx(x.handle, x.op, 0, x.m, 4, 4, x.alpha, x.a, x.type, x.lda, x.apart_a,
                                              b.at(), x.type, x.ldb, 16, one + 1, const_cast<void *>(x.c), x.type,
                                              x.ldc, x.apart, x.batch, x.compute, x.algorithm);
        });
    };
    void *other = nullptr;
    ends(0, "another handle", [&] { return cublasCreate_v2(&other); });
    with(0, "a good call", [](Changed &) {});
    with(0, "nothing to do", [](Changed &x) { x.m = 0, x.a = nullptr; });
    with(0, "interleaved results", [](Changed &x) { x.ldc = 8, x.apart = 4; });
    with(7, "lda too small", [](Changed &x) { x.lda = 3; });
    with(7, "ldb too small", [](Changed &x) { x.ldb = 3; });
    with(7, "ldc too small", [](Changed &x) { x.ldc = 3; });
    with(7, "overlapping results", [](Changed &x) { x.apart = 15; });
    with(7, "a backward stride", [](Changed &x) { x.apart_a = -16; });
    with(7, "no operation", [](Changed &x) { x.op = 3; });
    with(7, "a negative size", [](Changed &x) { x.m = -1; });
    with(7, "no algorithm", [](Changed &x) { x.algorithm = 50; });
    with(7, "no alpha", [](Changed &x) { x.alpha = nullptr; });
    with(7, "no A", [](Changed &x) { x.a = nullptr; });
    with(7, "A misaligned", [](Changed &x) { x.a = static_cast<const char *>(x.a) + 2; });
    with(7, "the result over A", [&](Changed &x) { x.c = a.at(4); });
    with(15, "f16 sums of f32", [](Changed &x) { x.compute = 64; });
    with(15, "f64 sums of f32", [](Changed &x) { x.compute = 70; });
    with(15, "f32 sums of f64", [](Changed &x) { x.type = 1; });
    with(15, "bf16 for f16", [](Changed &x) { x.type = 2, x.compute = 75; });
    with(15, "no such type", [](Changed &x) { x.type = 99; });
    with(7, "no stream", [&](Changed &x) { x.handle = other; });
    with(1, "no handle", [](Changed &x) { x.handle = nullptr; });
    ends(0, "its end", [&] { return cublasDestroy_v2(other); });
    with(1, "a handle that has ended", [&](Changed &x) { x.handle = other; });
    ends(1, "a second end", [&] { return cublasDestroy_v2(other); });
    strayed = computes = false;
    with(0, "reading beyond A", [](Changed &x) { x.lda = 30; });
    hold(strayed, "what lies beyond A is touched"), computes = true;
}

// ---- Convolutions

struct Map {
    int n = 2, c = 4, h = 7, w = 5, outputs = 6, high = 3, wide = 3, pad[2] = {1, 1}, stride[2] = {1, 1},
        dilation[2] = {1, 1};
    int groups = 1, mode = 1, math = 3, algorithm = 1, layout = 0; // 0 NCHW, 1 NHWC, 2 twice as far apart
    double alpha = 1, beta = 0;
    Format format = Format::F32, sums = Format::F32;
    int wrong_height = 0, missing_workspace = 0, want = 0;
};

static void check_convolution(void *dnn, const Map &p) {
    const int H = (p.h + 2 * p.pad[0] - p.dilation[0] * (p.high - 1) - 1) / p.stride[0] + 1;
    const int W = (p.w + 2 * p.pad[1] - p.dilation[1] * (p.wide - 1) - 1) / p.stride[1] + 1;
    const int inner = p.c / p.groups, apart = p.layout == 2 ? 2 : 1;
    auto place = [&](int n, int c, int y, int x, int C, int rows, int cols, bool last) {
        return size_t(last ? ((n * rows + y) * cols + x) * C + c : ((n * C + c) * rows + y) * cols + x);
    };
    const bool last = p.layout == 1;
    Numbers x(p.format, size_t(p.n * p.c * p.h * p.w - 1) * size_t(apart) + 1),
        w(p.format, size_t(p.outputs * inner * p.high * p.wide));
    Numbers y(p.format, size_t(p.n * p.outputs * H * W));
    for (int i = 0; i < p.n * p.c * p.h * p.w; i++) x.set(size_t(i * apart), drawn());
    for (int i = 0; i < p.outputs * inner * p.high * p.wide; i++) w.set(size_t(i), drawn());
    for (int i = 0; i < p.n * p.outputs * H * W && p.beta != 0; i++) y.set(size_t(i), drawn());
    const std::vector<double> before = y.all(), map = x.all(), filter = w.all();
    std::string name = text("%s map [%d, %d, %d, %d], %d filters %d by %d, stride %d %d pad %d %d dilation %d %d "
                            "groups %d layout %d mode %d",
                            name_of(p.format), p.n, p.c, p.h, p.w, p.outputs, p.high, p.wide, p.stride[0], p.stride[1],
                            p.pad[0], p.pad[1], p.dilation[0], p.dilation[1], p.groups, p.layout, p.mode);
    void *xd, *wd, *yd, *cd;
    cudnnCreateTensorDescriptor(&xd), cudnnCreateTensorDescriptor(&yd), cudnnCreateFilterDescriptor(&wd),
        cudnnCreateConvolutionDescriptor(&cd);
    const int type = cudnn_type(p.format), d = apart;
    int code = p.layout == 2 ? cudnnSetTensor4dDescriptorEx(xd, type, p.n, p.c, p.h, p.w, d * p.c * p.h * p.w,
                                                            d * p.h * p.w, d * p.w, d)
                             : cudnnSetTensor4dDescriptor(xd, last, type, p.n, p.c, p.h, p.w);
    code |= cudnnSetTensor4dDescriptor(yd, last, type, p.n, p.outputs, H + p.wrong_height, W);
    code |= cudnnSetFilter4dDescriptor(wd, type, last, p.outputs, inner, p.high, p.wide);
    code |= cudnnSetConvolution2dDescriptor(cd, p.pad[0], p.pad[1], p.stride[0], p.stride[1], p.dilation[0],
                                            p.dilation[1], p.mode, cudnn_type(p.sums));
    code |= cudnnSetConvolutionMathType(cd, p.math) | cudnnSetConvolutionGroupCount(cd, p.groups);
    hold(code == 0, name + ": descriptors");
    size_t bytes = 0;
    int size_code = p.want == 2006 ? 0 : p.want;
    ends(size_code, name,
         [&] { return cudnnGetConvolutionForwardWorkspaceSize(dnn, xd, wd, cd, yd, p.algorithm, &bytes); });
    Numbers room(Format::F64, bytes / 8 + 1);
    const float less[] = {float(p.alpha), float(p.beta)};
    const double more[] = {p.alpha, p.beta};
    const bool wide = p.format == Format::F64;
    strayed = false, operations = 0;
    ends(p.want, name, [&] {
        return cudnnConvolutionForward(dnn, wide ? Pointer(more) : less, xd, x.at(), wd, w.at(), cd, p.algorithm,
                                       bytes ? room.at() : nullptr, bytes - size_t(p.missing_workspace),
                                       wide ? Pointer(more + 1) : less + 1, yd, y.at());
    });
    bool alike = !strayed && (p.want || operations == 2.0 * p.n * p.outputs * H * W * inner * p.high * p.wide);
    for (size_t i = 0; i < before.size() && !computes; i++) alike &= std::isnan(y.get(i));
    for (int n = 0; n < p.n && !p.want && computes; n++)
        for (int o = 0; o < p.outputs; o++)
            for (int v = 0; v < H * W; v++) {
                double sum = 0, size = 0;
                for (int c = 0; c < inner; c++)
                    for (int t = 0; t < p.high * p.wide; t++) {
                        int fy = t / p.wide, fx = t % p.wide, channel = o / (p.outputs / p.groups) * inner + c;
                        int row = v / W * p.stride[0] - p.pad[0] + (p.mode ? fy : p.high - 1 - fy) * p.dilation[0];
                        int col = v % W * p.stride[1] - p.pad[1] + (p.mode ? fx : p.wide - 1 - fx) * p.dilation[1];
                        if (row < 0 || row >= p.h || col < 0 || col >= p.w) continue;
                        double product = map[place(n, channel, row, col, p.c, p.h, p.w, last) * size_t(apart)] *
                                         filter[place(o, c, fy, fx, inner, p.high, p.wide, last)];
                        sum += product, size += std::fabs(product);
                    }
                size_t at = place(n, o, v / W, v % W, p.outputs, H, W, last);
                double want = p.alpha * sum + (p.beta != 0 ? p.beta * before[at] : 0);
                alike &= near(p.format, y.get(at), want, std::fabs(p.alpha) * size + std::fabs(p.beta), p.sums);
            }
    hold(alike, name);
    cudnnDestroyTensorDescriptor(xd), cudnnDestroyTensorDescriptor(yd), cudnnDestroyFilterDescriptor(wd),
        cudnnDestroyConvolutionDescriptor(cd);
}

static void check_convolutions(void *dnn) {
    for (Format f : FORMATS) {
        Map p;
        p.format = f, p.sums = f == Format::F64 ? f : Format::F32;
        check_convolution(dnn, p);
        for (int layout : {0, 1, 2}) {
            Map q = p;
            q.layout = layout, q.stride[0] = q.stride[1] = 2, q.h = 9;
            check_convolution(dnn, q);
            q.groups = 2, q.stride[1] = 3, q.pad[0] = 2, q.pad[1] = 0, q.alpha = -2, q.beta = 0.5;
            check_convolution(dnn, q);
            q.dilation[0] = 2, q.dilation[1] = 3, q.h = 11, q.w = 23, q.mode = 0, q.algorithm = 0;
            check_convolution(dnn, q);
            q.high = q.wide = 1, q.pad[0] = 0, q.dilation[0] = 1, q.stride[0] = 1, q.mode = 1, q.algorithm = 1;
            check_convolution(dnn, q);
            q.high = 2, q.wide = 4, q.groups = q.c, q.outputs = 2 * q.c;
            check_convolution(dnn, q);
        }
        p.n = 3, p.c = 40, p.outputs = 200, p.h = 21, p.w = 45, p.beta = 1;
        check_convolution(dnn, p);
    }
    computes = false, check_convolution(dnn, Map()), computes = true;
    Map p;
    p.c = 1, p.high = p.wide = 1, p.pad[0] = p.pad[1] = 0, p.format = p.sums = Format::F16;
    check_convolution(dnn, p);
    p.pad[0] = 1, p.algorithm = 6, p.want = 3000, check_convolution(dnn, p);
    p.algorithm = 1, p.format = Format::BF16, check_convolution(dnn, p);
    p.format = Format::F32, check_convolution(dnn, p);
    p = Map(), p.wrong_height = 1, p.want = 2008, check_convolution(dnn, p);
    p = Map(), p.missing_workspace = 1, p.want = 2006, check_convolution(dnn, p);
}

static void check_dnn_refusals() {
    void *dnn, *x, *w, *y, *conv;
    ends(0, "a handle", [&] { return cudnnCreate(&dnn); });
    cudnnCreateTensorDescriptor(&x), cudnnCreateTensorDescriptor(&y), cudnnCreateFilterDescriptor(&w);
    cudnnCreateConvolutionDescriptor(&conv);
    struct Found {
        int algorithm, status;
        float time;
        size_t memory;
        int determinism, math, reserved[3];
    } found[8];
    int count = 0;
    auto choose = [&](int want, const char *what) {
        ends(want, what, [&] { return cudnnGetConvolutionForwardAlgorithm_v7(dnn, x, w, conv, y, 8, &count, found); });
    };
    choose(2000, "no stream");
    cudnnSetStream(dnn, nullptr);
    choose(2000, "no content");
    cudnnSetTensor4dDescriptor(x, 0, 0, 1, 4, 8, 8), cudnnSetTensor4dDescriptor(y, 0, 0, 1, 6, 8, 8);
    cudnnSetFilter4dDescriptor(w, 0, 0, 6, 4, 3, 3), cudnnSetConvolution2dDescriptor(conv, 1, 1, 1, 1, 1, 1, 1, 0);
    cudnnSetConvolutionMathType(conv, 3);
    choose(0, "a good call");
    size_t bytes = 0;
    cudnnGetConvolutionForwardWorkspaceSize(dnn, x, w, conv, y, found[0].algorithm, &bytes);
    hold(count == 8 && !found[0].status && found[0].memory == bytes && found[0].math == 3, "what was found");
    // f32 enters as TF32 unless FMA_MATH was asked for.
    for (int math : {0, 3}) {
        Numbers map(Format::F32, 256), filter(Format::F32, 216), result(Format::F32, 384), room(Format::F32, bytes / 4);
        for (size_t i = 0; i < 256; i++) map.set(i, i == 9 ? 1 + 0x1p-12 : 0);
        for (size_t i = 0; i < 216; i++) filter.set(i, i == 4);
        const float one[] = {1, 0};
        cudnnSetConvolutionMathType(conv, math);
        ends(0, "math", [&] {
            return cudnnConvolutionForward(dnn, one, x, map.at(), w, filter.at(), conv, 1, room.at(), bytes, one + 1, y,
                                           result.at());
        });
        hold(result.get(9) == (math ? 1 + 0x1p-12 : 1), "TF32 and FMA_MATH");
        ends(2000, "the workspace over the result", [&] {
            return cudnnConvolutionForward(dnn, one, x, map.at(), w, filter.at(), conv, 1, result.at(), bytes, one + 1,
                                           y, result.at());
        });
    }
    cudnnSetFilter4dDescriptor(w, 0, 0, 6, 3, 3, 3), choose(2008, "other channels");
    cudnnSetFilter4dDescriptor(w, 2, 0, 6, 4, 3, 3), choose(2000, "other formats");
    cudnnSetFilter4dDescriptor(w, 0, 1, 6, 4, 3, 3), choose(3000, "NHWC filters of NCHW maps");
    ends(3000, "2 Gi numbers", [&] { return cudnnSetTensor4dDescriptor(x, 0, 2, 9, 256, 1024, 1024); });
    ends(2000, "no rows", [&] { return cudnnSetTensor4dDescriptor(x, 0, 2, 0, 256, 64, 64); });
    ends(2000, "no steps", [&] { return cudnnSetConvolution2dDescriptor(conv, 1, 1, 0, 1, 1, 1, 1, 0); });
    ends(3000, "sums in bf16", [&] { return cudnnSetConvolution2dDescriptor(conv, 1, 1, 1, 1, 1, 1, 1, 9); });
    ends(0, "its end", [&] { return cudnnDestroyTensorDescriptor(x); });
    ends(2000, "a second end", [&] { return cudnnDestroyTensorDescriptor(x); });
    choose(2002, "a descriptor that has ended");
    ends(0, "the handle's end", [&] { return cudnnDestroy(dnn); });
    choose(1001, "a handle that has ended");
    cudnnDestroyTensorDescriptor(y), cudnnDestroyFilterDescriptor(w), cudnnDestroyConvolutionDescriptor(conv);
}

// ---- Random numbers

template <class T>
static void check_numbers(Format f, int (*uniform)(void *, T *, size_t), int (*normal)(void *, T *, size_t, T, T)) {
    const size_t count = 100000;
    Numbers first(f, count), second(f, count);
    T *a = static_cast<T *>(first.at()), *b = static_cast<T *>(second.at());
    void *g = nullptr, *h = nullptr;
    ends(0, "a generator", [&] { return curandCreateGenerator(&g, 100); });
    curandCreateGenerator(&h, 100);
    ends(101, "no stream", [&] { return uniform(g, a, count); });
    curandSetStream(g, nullptr), curandSetStream(h, nullptr);
    curandSetPseudoRandomGeneratorSeed(g, 7), curandSetPseudoRandomGeneratorSeed(h, 7);
    auto mean = [&](int power) {
        double sum = 0;
        for (size_t i = 0; i < count; i++) sum += std::pow(double(a[i]), power);
        return sum / double(count);
    };
    auto beside = [&](double got, double want, const char *what) {
        hold(std::fabs(got - want) < 0.03, text("%s: %g", what, got));
    };
    strayed = false;
    ends(0, "uniform", [&] { return uniform(g, a, count); });
    hold(*std::min_element(a, a + count) > 0 && *std::max_element(a, a + count) <= 1, "in (0, 1]");
    beside(mean(1), 0.5, "uniform mean"), beside(mean(2), 1 / 3.0, "uniform square"),
        beside(mean(3), 0.25, "uniform cube");
    uniform(h, b, count / 2), uniform(h, b + count / 2, count / 2);
    hold(std::equal(a, a + count, b), "a seed's numbers, in two calls as in one");
    curandSetGeneratorOffset(h, 1000), uniform(h, b, 10);
    hold(std::equal(b, b + 10, a + 1000), "an offset");
    curandSetPseudoRandomGeneratorSeed(h, 8), uniform(h, b, count);
    hold(!std::equal(a, a + 10, b), "another seed");
    ends(0, "normal", [&] { return normal(g, a, count, T(1), T(2)); });
    for (size_t i = 0; i < count; i++) a[i] = (a[i] - 1) / 2;
    beside(mean(1), 0, "normal mean"), beside(mean(2), 1, "normal square"), beside(mean(3) / 3, 0, "normal cube");
    beside(mean(4) / 3, 1, "normal fourth power");
    double along = 0;
    for (size_t i = 0; i + 1 < count; i++) along += double(a[i] * a[i + 1]) / double(count);
    beside(along, 0, "neighbours");
    ends(105, "an odd count", [&] { return normal(g, a, 3, T(0), T(1)); });
    hold(!strayed, "random numbers stay inside");
    computes = false, uniform(g, a + 1, count), computes = true;
    hold(strayed, "and are seen outside");
    ends(0, "its end", [&] { return curandDestroyGenerator(g); });
    ends(101, "a generator that has ended", [&] { return uniform(g, a, count); });
    curandDestroyGenerator(h);
}

int main() {
    FILE *said = tmpfile();
    if (!said || dup2(fileno(said), 2) < 0) return 2;
    void *blas, *dnn;
    check_formats();
    ends(0, "cuBLAS", [&] { return cublasCreate_v2(&blas); });
    ends(0, "cuDNN", [&] { return cudnnCreate(&dnn); });
    cublasSetStream_v2(blas, nullptr), cudnnSetStream(dnn, nullptr);
    check_products(blas), check_blas_refusals(blas);
    check_convolutions(dnn), check_dnn_refusals();
    check_numbers(Format::F32, curandGenerateUniform, curandGenerateNormal);
    check_numbers(Format::F64, curandGenerateUniformDouble, curandGenerateNormalDouble);
    check_lt();
    cublasDestroy_v2(blas), cudnnDestroy(dnn);
    printf("%d checks, %d of them do not hold\n", checks, failures);
    return failures != 0;
}
