// In: PTX as the compiler of CUDA C writes it. Out: the types of its interpreter. A warp is run as a whole: every
// register is a row of 32 values, and an instruction is a function over the rows that its operands name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace stand_in {

constexpr int LANES = 32;

// What is wrong with a program, in one sentence.
struct Fault : std::runtime_error {
    using std::runtime_error::runtime_error;
};

enum class Type : uint8_t {
    NONE, PRED, B8, B16, B32, B64, U8, U16, U32, U64, S8, S16, S32, S64, F16, BF16, F32, F64, F16X2, BF16X2
};
int size_of(Type type);

enum class Space : uint8_t { GENERIC, GLOBAL, SHARED, LOCAL, PARAM };

struct Warp;
struct Instruction;
using Operation = void (*)(Warp &, const Instruction &);

// How the flow goes on after an instruction.
enum class Flow : uint8_t { NEXT, BRANCH, EXIT, BARRIER, STOP };

struct Operand {
    uint32_t row = 0;    // place in the warp's registers, in bytes
    uint8_t size = 0;    // bytes of one lane's value; 0 for a predicate, whose row is one word of 32 bits
};

struct Instruction {
    Operation operation = nullptr;
    Flow flow = Flow::NEXT;
    Space space = Space::GENERIC;
    uint8_t count = 0;       // operands
    uint8_t parts = 1;       // values of a vector
    uint8_t width = 0;       // bytes of a value in memory
    bool extend = false;     // whether a value read is signed
    bool negated = false;    // whether the guard is
    bool ftz = false, sat = false;
    int rounding = 0;        // of numbers: 0 nearest, 1 zero, 2 down, 3 up
    int mode = 0;            // what an operation chooses from, in its own numbers
    int8_t meets = 0;        // operand, from 1, that names the lanes which must be here; -1: all
    int32_t guard = -1;      // row of the predicate, if any
    uint32_t target = 0;     // of a branch
    int64_t offset = 0;      // of an address
    Operand operand[16];
    uint32_t line = 0;
    const std::string *text = nullptr;
};

struct Parameter {
    std::string name;
    size_t size = 0, align = 1, place = 0;
};

struct Kernel {
    std::string name;
    std::vector<Parameter> parameters;
    size_t parameter_bytes = 0;
    std::vector<Instruction> code;
    size_t row_bytes = 0;                 // of the registers of one warp
    std::vector<std::pair<uint32_t, std::vector<char>>> constants;  // rows that never change
    size_t static_shared = 0, local_bytes = 0;
    unsigned most_threads = 1024;
    uint32_t special[12] = {};            // rows of tid, ntid, ctaid, nctaid; x, y, z
    std::vector<std::unique_ptr<std::string>> texts;
    // Set by the driver.
    unsigned dynamic_allowed = 48 * 1024;
    uint64_t launches = 0;
};

struct Module {
    std::map<std::string, std::unique_ptr<Kernel>> kernels;
    std::map<std::string, std::vector<char>> globals;
};

// Reads `text`. A fault names the line.
std::unique_ptr<Module> parse_module(const std::string &text);

// What `parse_module` looks up for the instruction `name`: its operation, and its flow. An operation that is not known
// becomes one that stops when it is executed. May set fields of `instruction`.
struct Mnemonic {
    std::string base;
    std::vector<std::string> modifiers;
    std::vector<Type> types;
    bool has(const char *modifier) const;
};
Operation find_operation(const Mnemonic &mnemonic, Instruction &instruction);
// The type of the operand of this number, which decides how wide an immediate is.
Type operand_type(const Mnemonic &mnemonic, int number);

struct Block {
    const Kernel *kernel = nullptr;
    std::vector<char> shared;
    const char *parameters = nullptr;
};

struct Warp {
    char *rows = nullptr;
    uint32_t mask = 0;               // lanes that execute the present instruction
    uint32_t alive = 0, waiting = 0;
    uint32_t place[LANES] = {};      // the next instruction of a lane that is not being run
    Block *block = nullptr;
    std::vector<char> local;         // of 32 lanes, one after the other
    struct Copy {
        uint32_t to;
        char bytes[16];
    };
    std::vector<Copy> copies[LANES];  // begun, not waited for

    template <class T> T *row(const Operand &operand) { return reinterpret_cast<T *>(rows + operand.row); }
    uint32_t &predicate(const Operand &operand) { return *row<uint32_t>(operand); }
};

struct Launch {
    unsigned grid[3], threads[3];
    unsigned dynamic_shared;
    const char *parameters;
};

// Runs every block. `order` picks in which order the warps of a block run between barriers.
void run_kernel(const Kernel &kernel, const Launch &launch, int workers, unsigned order);

// The driver's memory, asked by the interpreter: throws a Fault unless [address, address + bytes) lies in one live
// allocation.
void check_global(uint64_t address, size_t bytes, bool writes);
// Forgets what `check_global` remembers of this thread.
void forget_checked();

}  // namespace stand_in
