// In: nothing. Out: every GPU kernel run on the processor, thread by thread, and compared with plain
// loops in f64, over odd sizes; then the same with something broken on purpose, which must be noticed.
// Says nothing about speed, and cannot know whether a real device does what its manual says.
// Exit status: 0 all held, 1 something did not.

#include <exception>

#include "attention.hpp"
#include "channels_last.hpp"
#include "norms.hpp"

template <typename T> void norms() {
    check_group_norm<T>({2, 8, 4, 24, Way::Whole, 64, true, true});
    check_group_norm<T>({1, 4, 4, 16, Way::Whole, 64, false, false});         // groups of one channel
    check_group_norm<T>({1, 64, 2, 64, Way::Whole, 64, true, false});         // a block's fill, to the number
    check_group_norm<T>({1, 8, 2, 136, Way::Whole, 512, true, true, 300});    // a large mean
    check_group_norm<T>({2, 6, 2, 1416, Way::Parts, 64, true, true});         // parts, the last one smaller
    check_group_norm<T>({1, 4, 2, 2048, Way::Parts, 64, false, false});       // parts, all full
    check_group_norm<T>({1, 2, 1, 2056, Way::Parts, 32, true, false, 1000});  // a large mean, more parts than lanes
    check_group_norm<T>({1, 80, 1, 1024, Way::Parts, 32, true, false});       // more parts than threads
    check_group_norm<T>({2, 6, 3, 35, Way::Any, 64, true, true});             // nothing divides by 8
    check_group_norm<T>({1, 3, 3, 1, Way::Any, 32, false, true});             // groups of one number
    for (bool rms : {false, true}) {
        check_row_norm<T>(1, 320, rms, 0);
        check_row_norm<T>(5, 768, rms, rms ? 0 : 500);
        check_row_norm<T>(3, 13, rms, 0);
        check_row_norm<T>(7, 8, rms, 1);
    }
    check_finish<T>(2, 6, 24, true, true, true);
    check_finish<T>(3, 320, 1, true, false, true);
    check_finish<T>(2, 8, 1, true, true, false);
    check_finish<T>(2, 5, 7, true, true, true);
    check_finish<T>(2, 16, 1, true, true, true, 9);
    check_finish<T>(3, 5, 1, true, true, false, 4);
    check_finish<T>(1, 1, 1, false, false, false);
    check_geglu<T>(1, 1280, true);
    check_geglu<T>(77, 40, false);
    check_geglu<T>(3, 7, true);
    for (unsigned curve = 0; curve < 5; curve++) check_curve<T>(curve % 2 ? 1000 : 77, curve, curve);
    check_turn<T>(2, 33, 70, true);
    check_turn<T>(1, 1, 1, false);
    check_turn<T>(1, 64, 32, true);
}

template <typename T> void attentions() {
    check_attention<T>({40, 40, 1, 1, 1, 1});
    check_attention<T>({40, 40, 2, 2, 129, 77});
    check_attention<T>({40, 40, 1, 2, 65, 65, true});
    check_attention<T>({40, 8, 1, 3, 5, 9});                   // a head filled up with zeros
    check_attention<T>({64, 64, 1, 2, 130, 200, false, BiasKind::None, false, 1, 6}); // sharp softmaxes
    check_attention<T>({64, 64, 1, 1, 77, 77, true});
    check_attention<T>({64, 64, 2, 2, 70, 70, false, BiasKind::None, true});
    check_attention<T>({64, 64, 2, 2, 17, 70, false, BiasKind::PerHead});
    check_attention<T>({64, 64, 2, 1, 66, 150, false, BiasKind::KeyMask});
    check_attention<T>({80, 80, 1, 2, 100, 77});
    check_attention<T>({80, 72, 1, 1, 33, 64, false, BiasKind::Full});
    check_attention<T>({128, 128, 1, 1, 65, 33, true});
    check_attention<T>({128, 96, 1, 2, 20, 50, true, BiasKind::Full});
    check_attention<T>({160, 160, 1, 2, 64, 77});
    check_attention<T>({160, 160, 1, 1, 70, 31, false, BiasKind::Full});
    check_attention<T>({512, 512, 1, 1, 65, 70});
    check_attention<T>({512, 200, 1, 1, 10, 40, false, BiasKind::Full});
}

// Whether a check that must fail does.
template <typename F> void must_fail(const char *what, Sabotage sabotage, F check) {
    int before = failures;
    emulation::machine.sabotage = sabotage;
    fflush(stdout);
    FILE *kept = stdout;
    stdout = fopen("/dev/null", "w");
    bool noticed = true;
    try {
        noticed = !check() || failures > before;
    } catch (const std::exception &) {
        // The interpreter of PTX refused it.
    }
    fclose(stdout);
    stdout = kept;
    emulation::machine.sabotage = Sabotage::None;
    failures = before + !noticed;
    comparisons++;
    printf("%-6s noticed on purpose: %s\n", noticed ? "ok" : "WRONG", what);
}

int main() {
    check_attention<f16>({40, 40, 1, 1, 4096, 77});
    norms<f16>();
    norms<bf16>();
    norms<float>();
    channels_last<f16>();
    channels_last<bf16>();
    channels_last<float>();
    attentions<f16>();
    attentions<bf16>();
    attentions<float>();

    auto attention = [] { return check_attention<f16>({64, 64, 1, 1, 70, 130}); };
    auto norm = [] { return check_group_norm<f16>({2, 6, 2, 1416, Way::Parts, 64, true, true}); };
    auto last = [] { return check_group_norm_last<f16>({2, 103, 80, 8, 80, 50, 64, true, true}); };
    auto f32 = [] { return check_attention<float>({64, 64, 1, 1, 70, 130}); };
    must_fail("rows of a fragment swapped", Sabotage::FragmentRows, attention);
    must_fail("values not transposed", Sabotage::NoTranspose, attention);
    must_fail("copies read before they arrive", Sabotage::EarlyRead, attention);
    must_fail("a copy lost", Sabotage::LostWrite, attention);
    must_fail("shuffles that stay in their lane, attention", Sabotage::OneLaneShuffle, attention);
    must_fail("no barriers, attention", Sabotage::NoBarrier, attention);
    must_fail("no barriers, attention in f32", Sabotage::NoBarrier, f32);
    must_fail("no barriers, group norm", Sabotage::NoBarrier, norm);
    must_fail("shuffles that stay in their lane, group norm", Sabotage::OneLaneShuffle, norm);
    must_fail("no barriers, group norm of channels last", Sabotage::NoBarrier, last);
    must_fail("shuffles that stay in their lane, group norm of channels last", Sabotage::OneLaneShuffle, last);
    must_fail("no barriers, turn", Sabotage::NoBarrier, [] { return check_turn<f16>(2, 33, 70, true); });
    must_fail("a reference with another scale", Sabotage::None, [] {
        AttentionCase other = {64, 64, 1, 1, 70, 130};
        other.reference_scale = 1.02f;
        return check_attention<f16>(other);
    });
    must_fail("a reference with another epsilon", Sabotage::None, [] {
        GroupNormCase other = {2, 8, 4, 24, Way::Whole, 64, true, true};
        other.reference_eps = 1e-2;
        return check_group_norm<f16>(other);
    });
    must_fail("a reference with another epsilon, group norm of channels last", Sabotage::None, [] {
        LastCase other = {2, 9, 24, 3, 8, 9, 32, true, true};
        other.reference_eps = 1e-2;
        return check_group_norm_last<f16>(other);
    });
    must_fail("a reference with another epsilon, layer norm", Sabotage::None,
              [] { return check_row_norm<f16>(5, 768, false, 0, true); });
    must_fail("a reference with the tanh form of GELU", Sabotage::None,
              [] { return check_geglu<f16>(77, 40, false, true); });
    for (unsigned other = 1; other < 5; other++)
        must_fail("a reference on another curve", Sabotage::None, [=] { return check_curve<f16>(77, 0, other); });
    printf("%d of %d checks held\n", comparisons - failures, comparisons);
    return failures == 0 ? 0 : 1;
}
