// In: what a call of cuBLASLt says. Out: its descriptors, which live as long as the call, and what the heuristic and
// the product make of them.
#pragma once
#include "checks.hpp"

extern "C" {
size_t cublasLtGetVersion(void);
int cublasLtCreate(void **);
int cublasLtDestroy(void *);
int cublasLtMatmulDescCreate(void **, int, int);
int cublasLtMatmulDescDestroy(void *);
int cublasLtMatmulDescSetAttribute(void *, int, Pointer, size_t);
int cublasLtMatrixLayoutCreate(void **, int, uint64_t, uint64_t, int64_t);
int cublasLtMatrixLayoutDestroy(void *);
int cublasLtMatrixLayoutSetAttribute(void *, int, Pointer, size_t);
int cublasLtMatmulPreferenceCreate(void **);
int cublasLtMatmulPreferenceDestroy(void *);
int cublasLtMatmulPreferenceSetAttribute(void *, int, Pointer, size_t);
int cublasLtMatmulAlgoGetHeuristic(void *, void *, void *, void *, void *, void *, void *, int, void *, int *);
int cublasLtMatmul(void *, void *, Pointer, Pointer, void *, Pointer, void *, Pointer, Pointer, void *, void *, void *,
                   Pointer, void *, size_t, void *);
}

namespace stand_in __attribute__((visibility("hidden"))) {
namespace lt {

enum { A, B, C, D };
constexpr size_t MIB = 1 << 20;
/// The handle that lives as long as the checks.
inline void *library = nullptr;

/// cublasLtMatmulHeuristicResult_t.
struct Found {
    uint64_t algorithm[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

struct Form {
    uint64_t rows = 4, cols = 4;
    int64_t ld = 4;
    int type = 0, order = 0, batch = 1;
    int64_t stride = 0;
};

/// Everything that a call says. Only what differs from the library's defaults is set.
struct Call {
    void *handle = library;
    int compute = 68, scale = 0, pointer_mode = 0, bias_type = -1, ops[3] = {0, 0, 0};
    unsigned epilogue = 1;
    Pointer bias = nullptr;
    int64_t bias_stride = 0;
    Form forms[4];
    unsigned promises[4] = {256, 256, 256, 256};
    uint64_t allowed = 0;
    Pointer alpha = nullptr, beta = nullptr, at[4] = {};
    void *room = nullptr;
    size_t bytes = 0;
    bool afterwards = false; // types and sizes come as attributes
    int ended = -1;          // of its descriptors: A to D, 4 for the description, 5 for the preference
};

/// A call's descriptors.
class Objects {
  public:
    explicit Objects(const Call &x) : call(x) {
        const bool late = x.afterwards;
        int code = cublasLtMatmulDescCreate(&how, late ? 64 : x.compute, late ? 2 : x.scale);
        auto desc = [&](int number, const auto &value, const auto &usual) {
            if (value != usual) code |= cublasLtMatmulDescSetAttribute(how, number, &value, sizeof value);
        };
        if (late) desc(0, x.compute, 64), desc(1, x.scale, 2);
        desc(2, x.pointer_mode, 0), desc(3, x.ops[0], 0), desc(4, x.ops[1], 0), desc(5, x.ops[2], 0);
        desc(7, x.epilogue, 1u), desc(8, x.bias, nullptr), desc(10, x.bias_stride, 0), desc(26, x.bias_type, -1);
        for (int i : {A, B, C, D}) {
            const Form &f = x.forms[i];
            code |= late ? cublasLtMatrixLayoutCreate(&forms[i], 99, 0, 0, 0)
                         : cublasLtMatrixLayoutCreate(&forms[i], f.type, f.rows, f.cols, f.ld);
            auto form = [&](int number, const auto &value, const auto &usual) {
                if (value != usual) code |= cublasLtMatrixLayoutSetAttribute(forms[i], number, &value, sizeof value);
            };
            if (late) form(0, f.type, 99), form(2, f.rows, 0u), form(3, f.cols, 0u), form(4, f.ld, 0);
            form(1, f.order, 0), form(5, f.batch, 1), form(6, f.stride, 0);
        }
        code |= cublasLtMatmulPreferenceCreate(&preference);
        auto wish = [&](int number, const auto &value, const auto &usual) {
            if (value != usual) code |= cublasLtMatmulPreferenceSetAttribute(preference, number, &value, sizeof value);
        };
        wish(1, x.allowed, 0u);
        for (int i : {A, B, C, D}) wish(5 + i, x.promises[i], 256u);
        hold(code == 0, "descriptors");
        if (x.ended >= A && x.ended <= D) code |= cublasLtMatrixLayoutDestroy(forms[x.ended]);
        if (x.ended == 4) code |= cublasLtMatmulDescDestroy(how);
        if (x.ended == 5) code |= cublasLtMatmulPreferenceDestroy(preference);
        hold(code == 0, "their end");
    }
    Objects(const Objects &) = delete;
    ~Objects() {
        int code = 0;
        for (int i : {A, B, C, D})
            if (i != call.ended) code |= cublasLtMatrixLayoutDestroy(forms[i]);
        if (call.ended != 4) code |= cublasLtMatmulDescDestroy(how);
        if (call.ended != 5) code |= cublasLtMatmulPreferenceDestroy(preference);
        hold(code == 0, "their end");
    }
    int choose(Found *found, int *count, int wanted = 1) {
        return cublasLtMatmulAlgoGetHeuristic(call.handle, how, forms[A], forms[B], forms[C], forms[D], preference,
                                              wanted, found, count);
    }
    int multiply(Pointer algorithm) {
        return cublasLtMatmul(call.handle, how, call.alpha, call.at[A], forms[A], call.at[B], forms[B], call.beta,
                              call.at[C], forms[C], const_cast<void *>(call.at[D]), forms[D], algorithm, call.room,
                              call.bytes, nullptr);
    }

  private:
    const Call &call;
    void *how, *forms[4], *preference;
};

} // namespace lt
} // namespace stand_in
