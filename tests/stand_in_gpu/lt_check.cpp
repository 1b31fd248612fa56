// In: lt.cpp, on the ledger of checks.hpp. Out: whether its products agree with plain loops in f64, rounded once, and
// its heuristic asks for the workspace that they take.
#include "lt_check.hpp"

using namespace stand_in;
using namespace stand_in::lt;

namespace {

struct Product {
    Format format = Format::F32;
    int op_a = 0, op_b = 0, m = 5, n = 7, k = 3, batch = 1, pad = 0;
    /// How many numbers behind a multiple of 512 bytes each starts.
    size_t behind = 0;
    bool same_a = false, same_b = false, bias = false, bias_apart = false, other_c = false, same_c = false;
    bool itself = false; // without an algorithm
    float alpha = 1, beta = 0;
    size_t allowed = 0;
};

void check(const Product &p) {
    const size_t m = size_t(p.m), n = size_t(p.n), k = size_t(p.k), pad = size_t(p.pad), last = size_t(p.batch) - 1;
    Call x;
    auto form = [&](int i, size_t rows, size_t cols, size_t more, bool same) {
        Form &f = x.forms[i];
        f.type = cublas_type(p.format), f.rows = rows, f.cols = cols, f.ld = int64_t(rows + more), f.batch = p.batch;
        f.stride = same || p.batch == 1 ? 0 : f.ld * int64_t(cols) + int64_t(5 * pad);
        return p.behind + last * size_t(f.stride) + size_t(f.ld) * (cols - 1) + rows;
    };
    const size_t numbers_a = p.op_a ? form(A, k, m, pad, p.same_a) : form(A, m, k, pad, p.same_a);
    const size_t numbers_b = p.op_b ? form(B, n, k, 2 * pad, p.same_b) : form(B, k, n, 2 * pad, p.same_b);
    const size_t numbers_d = form(D, m, n, pad, false);
    const size_t numbers_c = form(C, m, n, p.other_c ? 3 * pad : pad, p.same_c);
    const size_t far_bias = p.bias_apart ? m + 1 : 0;
    Numbers a(p.format, numbers_a), b(p.format, numbers_b), d(p.format, numbers_d);
    Numbers other(p.format, p.other_c ? numbers_c : 0), bias(p.format, p.behind + last * far_bias + m);
    Numbers &c = p.other_c ? other : d;
    auto at = [&](int i, size_t g, size_t row, size_t col) {
        const Form &f = x.forms[i];
        return p.behind + g * size_t(f.stride) + col * size_t(f.ld) + row;
    };
    auto at_a = [&](size_t g, size_t i, size_t l) { return p.op_a ? at(A, g, l, i) : at(A, g, i, l); };
    auto at_b = [&](size_t g, size_t l, size_t j) { return p.op_b ? at(B, g, j, l) : at(B, g, l, j); };
    for (size_t g = 0; g <= last; g++) {
        for (size_t l = 0; l < k; l++) {
            for (size_t i = 0; i < m; i++) a.set(at_a(g, i, l), drawn());
            for (size_t j = 0; j < n; j++) b.set(at_b(g, l, j), drawn());
        }
        for (size_t j = 0; p.beta != 0 && j < n; j++)
            for (size_t i = 0; i < m; i++) c.set(at(C, g, i, j), drawn());
        for (size_t i = 0; p.bias && i < m; i++) bias.set(p.behind + g * far_bias + i, drawn());
    }
    const std::vector<double> from_a = a.all(), from_b = b.all(), from_c = c.all(), added = bias.all();
    const std::vector<double> before = d.all();
    const char letters[] = "NTC";
    const std::string want_line =
        text("cublasLtMatmul %s %c%c m %d n %d k %d batch %d sums in f32%s%s", name_of(p.format), letters[p.op_a],
             letters[p.op_b], p.m, p.n, p.k, p.batch, p.bias ? " bias" : "", p.beta != 0 ? " onto" : "");
    const std::string name = want_line + text(" pad %d behind %zu C %d alpha %g beta %g allowed %zu", p.pad, p.behind,
                                              p.other_c, p.alpha, p.beta, p.allowed);
    x.ops[0] = p.op_a, x.ops[1] = p.op_b, x.alpha = &p.alpha, x.beta = &p.beta, x.allowed = p.allowed;
    x.afterwards = p.itself;
    x.at[A] = a.at(p.behind), x.at[B] = b.at(p.behind), x.at[C] = c.at(p.behind), x.at[D] = d.at(p.behind);
    if (p.bias) x.epilogue = 4, x.bias = bias.at(p.behind), x.bias_stride = int64_t(far_bias);
    size_t start = p.behind * size_of(p.format) % 512, aligned = 256;
    while (start % aligned) aligned /= 2;
    for (unsigned &promise : x.promises) promise = unsigned(aligned);

    Found found[3] = {};
    int count = -1;
    const bool wants = p.k >= 1024 && p.allowed >= MIB;
    ends(0, name + ", its heuristic", [&] { return Objects(x).choose(found, &count, 3); });
    bool alike = count == (wants ? 2 : 1);
    for (int i = 0; i < 3; i++) {
        Found &f = found[i];
        alike &= f.workspace == (wants && i == 0 ? MIB : 0) && f.state == 0 && (f.waves > 0) == (i < count);
        alike &= !f.reserved[0] && !f.reserved[1] && !f.reserved[2] && !f.reserved[3];
        alike &= std::any_of(f.algorithm, f.algorithm + 8, [](uint64_t w) { return w != 0; }) == (i < count);
    }
    hold(alike, name + ", what the heuristic found");
    x.bytes = p.itself ? p.allowed : found[0].workspace;
    Numbers room(Format::F32, x.bytes / 4);
    x.room = x.bytes ? room.at() : nullptr;
    strayed = false, operations = 0;
    ends(0, name, [&] { return Objects(x).multiply(p.itself ? nullptr : found[0].algorithm); });
    alike = !strayed && operations == 2.0 * p.m * p.n * p.k * p.batch && counted == want_line;
    std::vector<bool> written(before.size());
    for (size_t g = 0; g <= last && computes; g++)
        for (size_t j = 0; j < n; j++)
            for (size_t i = 0; i < m; i++) {
                double sum = 0, size = 0;
                for (size_t l = 0; l < k; l++) {
                    double product = from_a[at_a(g, i, l)] * from_b[at_b(g, l, j)];
                    sum += product, size += std::fabs(product);
                }
                double want = double(p.alpha) * sum;
                if (p.beta != 0) want += double(p.beta) * from_c[at(C, g, i, j)];
                if (p.bias) want += added[p.behind + g * far_bias + i];
                size = std::fabs(double(p.alpha)) * size + std::fabs(double(p.beta)) + (p.bias ? 1 : 0);
                alike &= near(p.format, d.get(at(D, g, i, j)), want, size, Format::F32);
                written[at(D, g, i, j)] = true;
            }
    auto same = [](double left, double right) { return left == right || (std::isnan(left) && std::isnan(right)); };
    for (size_t i = 0; i < before.size(); i++) alike &= written[i] || same(d.get(i), before[i]);
    for (size_t i = 0; i < from_c.size() && p.other_c; i++) alike &= same(c.get(i), from_c[i]);
    const char *bytes = static_cast<const char *>(x.room);
    for (size_t i = 0; i < x.bytes; i++) alike &= bytes[i] == (wants && computes ? char(0xa5) : "\0\0\xc0\x7f"[i % 4]);
    hold(alike, name);
}

void check_products() {
    for (Format f : {Format::F16, Format::BF16, Format::F32})
        for (int ops = 0; ops < 4; ops++)
            for (int more = 0; more < 4; more++) {
                Product p;
                p.format = f, p.op_a = ops & 1, p.op_b = ops >> 1, p.bias = more & 1, p.beta = more & 2 ? 0.75f : 0;
                check(p);
                p.m = p.n = p.k = 1, p.itself = true;
                check(p);
                p.m = 37, p.n = 65, p.k = 300, p.pad = 3, p.batch = 3, p.alpha = -0.5f, p.bias_apart = true;
                check(p);
                p.other_c = p.same_b = true, p.behind = 3, p.itself = p.bias_apart = false;
                check(p);
                p.same_a = p.same_c = true, p.same_b = false, p.behind = 8, p.allowed = 4 * MIB;
                check(p);
                p.m = 130, p.n = 33, p.k = 1024, p.batch = 1, p.alpha = 1, p.pad = ops, p.same_a = p.same_c = false;
                check(p);
                p.itself = true, p.allowed = MIB - 16, p.other_c = more == 3, p.op_a *= 2, p.op_b *= 2;
                check(p);
                p.allowed = 2 * MIB, p.m = 401, p.behind = 64, p.beta = more & 2 ? 1.0f : 0;
                check(p);
            }
    computes = false;
    Product still;
    still.bias = true, check(still), still.beta = 1, still.k = 1024, still.allowed = MIB, check(still);
    computes = true;
}

/// One number: alpha * (the sum of `left`) + beta * c + bias, in f32 and then rounded, once.
double one(Format format, int compute, std::vector<double> left, double c = 0, double bias = 0) {
    Numbers a(format, left.size()), b(format, left.size()), from(format, 1), to(format, 1), more(format, 1);
    for (size_t i = 0; i < left.size(); i++) a.set(i, left[i]), b.set(i, 1);
    from.set(0, c), more.set(0, bias);
    const float ones[] = {1, 1};
    Call x;
    for (Form &f : x.forms) f.type = cublas_type(format), f.rows = f.cols = 1, f.ld = 1;
    x.forms[A].cols = x.forms[B].rows = left.size(), x.forms[B].ld = int64_t(left.size());
    x.compute = compute, x.epilogue = 4, x.bias = more.at(), x.alpha = ones, x.beta = ones + 1;
    x.at[A] = a.at(), x.at[B] = b.at(), x.at[C] = from.at(), x.at[D] = to.at();
    ends(0, "one number", [&] { return Objects(x).multiply(nullptr); });
    return to.get(0);
}

void check_rounding() {
    hold(one(Format::F16, 68, {2048, 1}, 0, 1) == 2050, "sum and bias are rounded once");
    hold(one(Format::F16, 68, {2048, 1}, 1, 0) == 2050, "sum and C are rounded once");
    hold(one(Format::BF16, 68, {256, 0.5}, 0.5, 0) == 256 && one(Format::BF16, 68, {256, 0.5}, 0.25, 0.375) == 258,
         "sum, C and bias are rounded once");
    hold(one(Format::F16, 68, std::vector<double>(4096, 1)) == 4096, "sums are held in f32");
    hold(one(Format::F32, 68, {1 + 0x1p-12}) == 1 + 0x1p-12, "f32 enters whole");
    hold(one(Format::F32, 77, {1 + 0x1p-12}) == 1 && one(Format::F32, 77, {1 + 0x1p-10}) == 1 + 0x1p-10,
         "tf32 drops the 12th bit");
    hold(one(Format::F32, 77, {1}, 0, 1 + 0x1p-20) == 2 + 0x1p-20, "the bias enters whole");
    hold(counted.find("cublasLtMatmul f32 NN m 1 n 1 k 1 batch 1 tf32 for f32 bias onto") == 0, "what is counted");
}

} // namespace

void check_lt_refusals();

void check_lt() {
    hold(cublasLtGetVersion() == 130000, "a version");
    ends(0, "cuBLASLt", [] { return cublasLtCreate(&library); });
    check_products(), check_rounding();
    check_lt_refusals();
    ends(0, "its end", [] { return cublasLtDestroy(library); });
}
