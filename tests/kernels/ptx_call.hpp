// In: a kernel's name and its arguments. Out: the launch that `emulation::launch` was asked for, made with the PTX that
// NVIDIA's compiler wrote of the kernel (the folder $PTX_FOLDER) by the interpreter of tests/stand_in_gpu. A sabotage
// changes the PTX.
#pragma once

#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include "../stand_in_gpu/ptx.hpp"

namespace ptx_call {

inline void replace(std::string &text, const std::string &what, const std::string &with, bool all = true) {
    size_t found = 0;
    for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size(), found++) {
        text.replace(at, what.size(), with);
        if (!all) return;
    }
    if (!found) throw stand_in::Fault("the PTX has no " + what + " to be changed");
}

// The first two registers of the left operand change places, in every product of tiles.
inline void swap_fragment_rows(std::string &text) {
    for (size_t at = 0; (at = text.find("mma.sync", at)) != std::string::npos;) {
        size_t open = text.find('{', text.find('}', at)), comma = text.find(',', open), end = text.find(',', comma + 1);
        std::string first = text.substr(open + 1, comma - open - 1), second = text.substr(comma + 1, end - comma - 1);
        text.replace(open + 1, end - open - 1, second + "," + first);
        at = end;
    }
}

inline void sabotage(std::string &text, Sabotage what) {
    switch (what) {
    case Sabotage::FragmentRows: return swap_fragment_rows(text);
    case Sabotage::NoTranspose: return replace(text, "x4.trans.shared", "x4.shared");
    case Sabotage::EarlyRead: return replace(text, "cp.async.wait_all;", ";");
    case Sabotage::NoBarrier: return replace(text, "bar.sync \t0;", ";");
    case Sabotage::OneLaneShuffle: return replace(text, "shfl.sync.bfly", "shfl.sync.up");
    case Sabotage::LostWrite: return replace(text, "cp.async.cg.shared.global [%r", "mov.u32 %r1, %r1; // ");
    default: return;
    }
}

inline stand_in::Module &module(const std::string &file) {
    static std::map<std::pair<std::string, Sabotage>, std::unique_ptr<stand_in::Module>> loaded;
    auto &found = loaded[{file, emulation::machine.sabotage}];
    if (!found) {
        std::string path = std::string(std::getenv("PTX_FOLDER")) + "/" + file + ".ptx";
        std::ifstream in(path);
        std::stringstream text;
        text << in.rdbuf();
        if (!in) throw stand_in::Fault(path + " cannot be read");
        std::string whole = text.str();
        sabotage(whole, emulation::machine.sabotage);
        found = stand_in::parse_module(whole);
    }
    return *found;
}

template <class... A> void launch(const std::string &file, const std::string &name, const A &...arguments) {
    auto found = module(file).kernels.find(name);
    if (found == module(file).kernels.end()) throw stand_in::Fault(file + ".ptx has no " + name);
    stand_in::Kernel &kernel = *found->second;
    std::vector<char> packed(kernel.parameter_bytes + 8);
    size_t number = 0;
    auto put = [&](const void *argument, size_t size) {
        const auto &parameter = kernel.parameters.at(number++);
        if (parameter.size != size) throw stand_in::Fault(name + ": " + parameter.name + " has another size");
        std::memcpy(packed.data() + parameter.place, argument, size);
    };
    (put(&arguments, sizeof arguments), ...);
    const auto &m = emulation::machine;
    if (m.block_size.x > kernel.most_threads) throw stand_in::Fault(name + ": too many threads");
    stand_in::Launch what = {{m.grid_size.x, m.grid_size.y, m.grid_size.z}, {m.block_size.x, 1, 1}, unsigned(m.shared_bytes), packed.data()};
    stand_in::run_kernel(kernel, what, 2, m.seed);
}

} // namespace ptx_call

namespace stand_in {
// The vectors of a check are under the address sanitizer.
void check_global(uint64_t, size_t, bool) {}
void forget_checked() {}
} // namespace stand_in

#define CALL(file, kernel, ...) ptx_call::launch(file, #kernel, __VA_ARGS__)
