// In: lt.cpp, on the ledger of checks.hpp. Out: whether it refuses what cuBLASLt refuses, with its codes, and takes
// what is just not that.
#include "lt_check.hpp"

using namespace stand_in;
using namespace stand_in::lt;

namespace {

/// A good product of 4 by 4 matrices, with a bias, and what may be changed of it.
struct Good {
    Numbers numbers[4], bias, room;
    Call call;
    const float ones[2] = {1, 1};
    Good()
        : numbers{{Format::F32, 64}, {Format::F32, 64}, {Format::F32, 64}, {Format::F32, 64}}, bias(Format::F32, 16),
          room(Format::F32, MIB / 4) {
        for (int i : {A, B, C, D}) call.at[i] = numbers[i].at();
        call.alpha = ones, call.beta = ones + 1, call.epilogue = 4, call.bias = bias.at();
    }
};
using Change = std::function<void(Call &)>;

/// What neither the heuristic nor the product takes.
void refused(int want, const std::string &what, const Change &change) {
    Good good;
    change(good.call);
    Found found;
    int count = 7;
    ends(want, what + ", in the heuristic", [&] { return Objects(good.call).choose(&found, &count); });
    hold(count == 7, what + ": no count of algorithms");
    ends(want, what, [&] { return Objects(good.call).multiply(nullptr); });
}

void check_refused_descriptors() {
    void *other = nullptr;
    ends(0, "another handle", [&] { return cublasLtCreate(&other); });
    ends(0, "its end", [&] { return cublasLtDestroy(other); });
    ends(7, "a second end", [&] { return cublasLtDestroy(other); });
    ends(7, "the end of no handle", [] { return cublasLtDestroy(nullptr); });
    refused(1, "a handle that has ended", [&](Call &x) { x.handle = other; });
    refused(1, "no handle", [](Call &x) { x.handle = nullptr; });
    refused(7, "a description that has ended", [](Call &x) { x.ended = 4; });
    for (int i : {A, B, C, D}) {
        const std::string which(1, "ABCD"[i]);
        auto with = [&](int want, const char *what, const std::function<void(Form &)> &change) {
            refused(want, what + (" of " + which), [&](Call &x) { change(x.forms[i]); });
        };
        refused(7, "a layout that has ended, of " + which, [&](Call &x) { x.ended = i; });
        with(15, "another data type", [](Form &f) { f.type = 2; });
        with(15, "rows in order", [](Form &f) { f.order = 1; });
        with(7, "too small a leading dimension", [](Form &f) { f.ld = 3; });
        with(7, "no rows", [](Form &f) { f.rows = 0; });
        with(7, "no columns", [](Form &f) { f.cols = 0; });
        with(7, "another count of rows", [](Form &f) { f.rows = 3; });
        with(7, "another count of columns", [](Form &f) { f.cols = 5; });
        with(7, "another batch", [](Form &f) { f.batch = 2, f.stride = 16; });
        with(7, "a backward stride", [](Form &f) { f.stride = -16; });
        with(15, "2 Gi columns", [](Form &f) { f.cols = 1ull << 31; });
        with(15, "a leading dimension of 2 Gi", [](Form &f) { f.ld = 1ll << 31; });
    }
    auto all = [](const std::function<void(Form &)> &change) {
        return [=](Call &x) { std::for_each(x.forms, x.forms + 4, change); };
    };
    refused(15, "f64", all([](Form &f) { f.type = 1; }));
    refused(15, "no such type", all([](Form &f) { f.type = 99; }));
    refused(7, "batches of none", all([](Form &f) { f.batch = 0; }));
    refused(7, "overlapping results", all([](Form &f) { f.batch = 2, f.stride = 15; }));
    for (int type : {64, 65, 69, 70, 74, 75, 78, 0})
        refused(15, text("compute type %d", type), [=](Call &x) { x.compute = type; });
    refused(15, "tf32 for f16", [&](Call &x) { x.compute = 77, all([](Form &f) { f.type = 2; })(x); });
    refused(15, "f16 scales", [](Call &x) { x.scale = 2; });
    refused(15, "scales on the device", [](Call &x) { x.pointer_mode = 1; });
    refused(7, "no operation of A", [](Call &x) { x.ops[0] = 3; });
    refused(7, "no operation of B", [](Call &x) { x.ops[1] = -1; });
    refused(15, "a turned C", [](Call &x) { x.ops[2] = 1; });
    for (unsigned epilogue : {0u, 2u, 6u, 32u, 36u, 256u})
        refused(15, text("epilogue %u", epilogue), [=](Call &x) { x.epilogue = epilogue; });
    refused(15, "a bias of another type", [](Call &x) { x.bias_type = 2; });
    refused(7, "a backward stride of the bias", [](Call &x) { x.bias_stride = -4; });
}

void check_refused_heuristics() {
    Good good;
    Found found[2];
    int count = 7;
    auto with = [&](int want, const char *what, int ended, Found *to, int *of, int wanted) {
        good.call.ended = ended;
        ends(want, what, [&] { return Objects(good.call).choose(to, of, wanted); });
    };
    with(0, "a good heuristic", -1, found, &count, 1);
    hold(count == 1, "one algorithm is asked for");
    with(7, "a preference that has ended", 5, found, &count, 1);
    with(7, "no algorithm is asked for", -1, found, &count, 0);
    with(7, "nowhere to put algorithms", -1, nullptr, &count, 1);
    with(7, "nowhere to put their count", -1, found, nullptr, 1);
    good.call.forms[A].cols = good.call.forms[B].rows = 1024, good.call.forms[B].ld = 1024, good.call.allowed = MIB;
    found[1].workspace = 99;
    with(0, "one of two", -1, found, &count, 1);
    hold(count == 1 && found[0].workspace == MIB && found[1].workspace == 99, "no more than asked for");
    with(0, "two of two", -1, found, &count, 2);
    hold(count == 2 && found[0].workspace == MIB && found[1].workspace == 0, "and all of them");
}

/// A product that is called with the heuristic's algorithm for it as `before` leaves it.
void called(int want, const std::string &what, const Change &before, const Change &change) {
    Good good;
    before(good.call);
    Found found;
    int count = 0;
    ends(0, what + ", in the heuristic", [&] { return Objects(good.call).choose(&found, &count); });
    change(good.call);
    if (want) ends(0, what + ", without algorithm", [&] { return Objects(good.call).multiply(nullptr); });
    ends(want, what, [&] { return Objects(good.call).multiply(found.algorithm); });
}

void check_refused_algorithms() {
    const Change nothing = [](Call &) {};
    auto moved = [](Pointer at, size_t bytes) { return Pointer(static_cast<const char *>(at) + bytes); };
    called(0, "a good call", nothing, nothing);
    called(0, "another bias", nothing, [&](Call &x) { x.bias = moved(x.at[B], 0); });
    for (int i : {A, B, C, D}) {
        const std::string which(1, "ABCD"[i]);
        auto promised = [=](unsigned bytes) { return [=](Call &x) { x.promises[i] = bytes, x.bias = nullptr; }; };
        auto shifted = [=](size_t bytes) {
            return [=](Call &x) { x.at[i] = moved(x.at[i], bytes), x.bias = x.at[A == i ? B : A]; };
        };
        called(0, "16 bytes on, as promised, " + which, promised(16), shifted(16));
        called(7, "8 bytes on, not as promised, " + which, promised(16), shifted(8));
        called(7, "128 bytes on, not as is usual, " + which, nothing, shifted(128));
        called(7, "another leading dimension of " + which, nothing, [=](Call &x) { x.forms[i].ld = 8; });
    }
    // D's promise holds for the bias, and so does the pointer that the heuristic saw.
    auto bias = [&](unsigned promise, size_t then, size_t now) {
        const Change seen = [=](Call &x) { x.promises[D] = promise, x.bias = then ? moved(x.bias, then) : nullptr; };
        return std::pair<Change, Change>(seen, [=](Call &x) { x.bias = moved(x.at[A], now); });
    };
    auto [seen, run] = bias(16, 0, 16);
    called(0, "a bias 16 bytes on, as D promises", seen, run);
    std::tie(seen, run) = bias(16, 0, 8);
    called(7, "a bias 8 bytes on, not as D promises", seen, run);
    std::tie(seen, run) = bias(16, 32, 32);
    called(0, "a bias 32 bytes on, as the heuristic saw it", seen, run);
    std::tie(seen, run) = bias(16, 32, 16);
    called(7, "a bias 16 bytes on, not as the heuristic saw it", seen, run);

    called(7, "another k", nothing, [](Call &x) { x.forms[A].cols = x.forms[B].rows = 3; });
    called(7, "another m", nothing, [](Call &x) { x.forms[A].rows = x.forms[C].rows = x.forms[D].rows = 3; });
    called(7, "another n", nothing, [](Call &x) { x.forms[B].cols = x.forms[C].cols = x.forms[D].cols = 3; });
    called(7, "A turned", nothing, [](Call &x) { x.ops[0] = 1; });
    called(7, "B turned", nothing, [](Call &x) { x.ops[1] = 1; });
    called(0, "A turned in the other way", [](Call &x) { x.ops[0] = 1; }, [](Call &x) { x.ops[0] = 2; });
    called(7, "no bias", nothing, [](Call &x) { x.epilogue = 1; });
    called(7, "tf32", nothing, [](Call &x) { x.compute = 77; });
    const Change half = [](Call &x) {
        for (Form &f : x.forms) f.type = 2;
    };
    called(7, "f16", nothing, half);
    called(7, "bf16 for f16", half, [](Call &x) {
        for (Form &f : x.forms) f.type = 14;
    });
    const Change twice = [](Call &x) {
        for (Form &f : x.forms) f.batch = 2, f.stride = 16;
    };
    called(7, "a batch", nothing, twice);
    called(7, "another batch", twice, [](Call &x) {
        for (Form &f : x.forms) f.batch = 3;
    });
    called(7, "another stride", twice, [](Call &x) { x.forms[A].stride = 20; });
    called(7, "another stride of the bias", twice, [](Call &x) { x.bias_stride = 4; });
    const Change large = [](Call &x) {
        x.forms[A].cols = x.forms[B].rows = 1024, x.forms[B].ld = 1024, x.allowed = MIB;
    };
    Numbers a(Format::F32, 4096), b(Format::F32, 4096), room(Format::F32, MIB / 4);
    auto given = [&](size_t bytes) {
        return [&, bytes](Call &x) { x.at[A] = a.at(), x.at[B] = b.at(), x.room = room.at(), x.bytes = bytes; };
    };
    called(0, "the workspace that is needed", large, given(MIB));
    called(7, "too little workspace", large, given(MIB - 16));
    called(7, "no workspace", large, given(0));

    Good good;
    Found found;
    int count;
    uint64_t nought[8] = {};
    Objects(good.call).choose(&found, &count);
    ends(7, "an algorithm of zeros", [&] { return Objects(good.call).multiply(nought); });
    for (uint64_t &word : found.algorithm) {
        word ^= 1;
        ends(7, "an altered algorithm", [&] { return Objects(good.call).multiply(found.algorithm); });
        word ^= 1;
    }
    ends(0, "the algorithm as it was", [&] { return Objects(good.call).multiply(found.algorithm); });
}

void check_refused_calls() {
    auto with = [](int want, const std::string &what, const std::function<void(Good &)> &change) {
        Good good;
        change(good);
        strayed = false;
        ends(want, what, [&] { return Objects(good.call).multiply(nullptr); });
        hold(!strayed, what + " stays inside");
    };
    with(0, "a good call", [](Good &) {});
    with(7, "no alpha", [](Good &g) { g.call.alpha = nullptr; });
    with(7, "no beta", [](Good &g) { g.call.beta = nullptr; });
    with(7, "no bias", [](Good &g) { g.call.bias = nullptr; });
    with(0, "no bias wanted", [](Good &g) { g.call.bias = nullptr, g.call.epilogue = 1; });
    with(7, "a misaligned bias", [](Good &g) { g.call.bias = static_cast<const char *>(g.call.bias) + 2; });
    with(7, "a misaligned workspace", [](Good &g) { g.call.room = g.room.at(2), g.call.bytes = 64; });
    with(7, "a workspace nowhere", [](Good &g) { g.call.bytes = 64; });
    with(0, "the result over C", [](Good &g) { g.call.at[C] = g.call.at[D]; });
    with(7, "the result over C of another layout",
         [](Good &g) { g.call.at[C] = g.call.at[D], g.call.forms[C].ld = 8; });
    with(7, "the result over C of another stride", [](Good &g) {
        for (Form &f : g.call.forms) f.batch = 2, f.stride = 16;
        g.call.at[C] = g.call.at[D], g.call.forms[C].stride = 20;
    });
    with(7, "the result over the bias", [](Good &g) { g.call.bias = g.numbers[D].at(12); });
    with(7, "the workspace over the bias", [](Good &g) { g.call.room = g.bias.at(), g.call.bytes = 64; });
    for (int i : {A, B, C, D}) {
        const std::string which(1, "ABCD"[i]);
        with(7, "no " + which, [=](Good &g) { g.call.at[i] = nullptr; });
        with(7, which + " misaligned", [=](Good &g) { g.call.at[i] = static_cast<char *>(g.numbers[i].at()) + 2; });
        with(7, "the workspace over " + which, [=](Good &g) { g.call.room = g.numbers[i].at(12), g.call.bytes = 64; });
        if (i != D) with(7, "the result partly over " + which, [=](Good &g) { g.call.at[i] = g.numbers[D].at(15); });
        if (i != D) with(0, "the result behind " + which, [=](Good &g) { g.call.at[i] = g.numbers[D].at(16); });
    }
    // What lies beyond an allocation is touched, even where nothing is computed.
    computes = false;
    auto strays = [](const std::string &what, const std::function<void(Good &)> &change) {
        Good good;
        change(good);
        strayed = false;
        ends(0, what, [&] { return Objects(good.call).multiply(nullptr); });
        hold(strayed, what + " is seen");
    };
    for (int i : {A, B, C, D}) {
        const std::string which(1, "ABCD"[i]);
        strays("reading beyond " + which, [=](Good &g) { g.call.forms[i].ld = 21; });
        strays("a batch beyond " + which, [=](Good &g) {
            for (Form &f : g.call.forms) f.batch = 2, f.stride = 16;
            g.call.forms[i].stride = 49;
        });
    }
    strays("reading beyond the bias", [](Good &g) { g.call.bias = g.bias.at(13); });
    strays("a batch beyond the bias", [](Good &g) {
        for (Form &f : g.call.forms) f.batch = 2, f.stride = 16;
        g.call.bias_stride = 13;
    });
    strays("a workspace too long", [](Good &g) { g.call.room = g.room.at(), g.call.bytes = MIB + 1; });
    computes = true;
}

/// Attributes take their own size alone, and only those that the stand-in knows.
void check_attributes() {
    void *how, *form, *wish;
    cublasLtMatmulDescCreate(&how, 68, 0), cublasLtMatrixLayoutCreate(&form, 0, 4, 4, 4);
    cublasLtMatmulPreferenceCreate(&wish);
    const uint64_t value[2] = {};
    const unsigned eight = 8, twelve = 12;
    struct Kind {
        const char *name;
        int (*set)(void *, int, Pointer, size_t), (*end)(void *);
        void *object;
        std::map<int, size_t> sizes;
    } kinds[] = {
        {"description", cublasLtMatmulDescSetAttribute, cublasLtMatmulDescDestroy, how,
         {{0, 4}, {1, 4}, {2, 4}, {3, 4}, {4, 4}, {5, 4}, {7, 4}, {8, 8}, {10, 8}, {26, 4}}},
        {"layout", cublasLtMatrixLayoutSetAttribute, cublasLtMatrixLayoutDestroy, form,
         {{0, 4}, {1, 4}, {2, 8}, {3, 8}, {4, 8}, {5, 4}, {6, 8}}},
        {"preference", cublasLtMatmulPreferenceSetAttribute, cublasLtMatmulPreferenceDestroy, wish,
         {{1, 8}, {5, 4}, {6, 4}, {7, 4}, {8, 4}}},
    };
    for (auto &[name, set, end, object, sizes] : kinds) {
        auto ends_in = [&, set = set, object = object](int want, int number, Pointer from, size_t bytes) {
            ends(want, text("attribute %d of a %s, %zu bytes", number, name, bytes),
                 [&] { return set(object, number, from, bytes); });
        };
        for (int number = -1; number < 48; number++) {
            auto known = sizes.find(number);
            if (known == sizes.end()) {
                ends_in(15, number, value, 4);
                continue;
            }
            const bool power = object == wish && number > 1;
            ends_in(0, number, power ? Pointer(&eight) : value, known->second);
            ends_in(7, number, nullptr, known->second);
            for (size_t bytes : {0, 1, 4, 8, 16})
                if (bytes != known->second) ends_in(7, number, value, bytes);
            if (power) ends_in(7, number, &twelve, 4), ends_in(7, number, value, 4);
        }
        ends(0, "its end", [&, end = end, object = object] { return end(object); });
        ends(7, "a second end", [&, end = end, object = object] { return end(object); });
        ends(0, "the end of none", [&, end = end] { return end(nullptr); });
        ends_in(7, sizes.begin()->first, value, sizes.begin()->second);
    }
    ends(7, "no place for a handle", [] { return cublasLtCreate(nullptr); });
    ends(7, "no place for a description", [] { return cublasLtMatmulDescCreate(nullptr, 68, 0); });
    ends(7, "no place for a layout", [] { return cublasLtMatrixLayoutCreate(nullptr, 0, 4, 4, 4); });
    ends(7, "no place for a preference", [] { return cublasLtMatmulPreferenceCreate(nullptr); });
}

} // namespace

void check_lt_refusals() {
    check_refused_descriptors();
    check_refused_heuristics();
    check_refused_algorithms();
    check_refused_calls();
    check_attributes();
}
