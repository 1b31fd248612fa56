// In: the text of a PTX module. Out: its kernels as lists of instructions, whose operands are places in a warp's
// registers: immediates and special registers have rows of their own. Functions that are no kernels are left out;
// calling one stops.
#include "ptx.hpp"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <functional>

namespace stand_in {

int size_of(Type type) {
    switch (type) {
    case Type::NONE: case Type::PRED: return 0;
    case Type::B8: case Type::U8: case Type::S8: return 1;
    case Type::B16: case Type::U16: case Type::S16: case Type::F16: case Type::BF16: return 2;
    case Type::B64: case Type::U64: case Type::S64: case Type::F64: return 8;
    default: return 4;
    }
}

bool Mnemonic::has(const char *modifier) const {
    for (const auto &own : modifiers)
        if (own == modifier) return true;
    return false;
}

namespace {

const std::map<std::string, Type> TYPES = {
    {"pred", Type::PRED}, {"b8", Type::B8},   {"b16", Type::B16},   {"b32", Type::B32}, {"b64", Type::B64},
    {"u8", Type::U8},     {"u16", Type::U16}, {"u32", Type::U32},   {"u64", Type::U64}, {"s8", Type::S8},
    {"s16", Type::S16},   {"s32", Type::S32}, {"s64", Type::S64},   {"f16", Type::F16}, {"bf16", Type::BF16},
    {"f32", Type::F32},   {"f64", Type::F64}, {"f16x2", Type::F16X2}, {"bf16x2", Type::BF16X2}};

const char *const SPECIAL[4] = {"%tid", "%ntid", "%ctaid", "%nctaid"};

std::string trimmed(const std::string &text) {
    size_t begin = text.find_first_not_of(" \t\r\n"), end = text.find_last_not_of(" \t\r\n");
    return begin == std::string::npos ? "" : text.substr(begin, end - begin + 1);
}

std::vector<std::string> split(const std::string &text, char at) {
    std::vector<std::string> parts;
    std::string part;
    int depth = 0;
    for (char c : text) {
        if (c == '{' || c == '[' || c == '(') depth++;
        if (c == '}' || c == ']' || c == ')') depth--;
        if (c == at && depth == 0) {
            parts.push_back(trimmed(part));
            part.clear();
        } else {
            part += c;
        }
    }
    if (!trimmed(part).empty()) parts.push_back(trimmed(part));
    return parts;
}

// The text without comments, with its lines kept.
std::string without_comments(const std::string &text) {
    std::string out;
    for (size_t i = 0; i < text.size(); i++) {
        if (text.compare(i, 2, "//") == 0) {
            while (i < text.size() && text[i] != '\n') i++;
            out += '\n';
        } else if (text.compare(i, 2, "/*") == 0) {
            size_t end = text.find("*/", i + 2);
            for (; i < end + 1; i++)
                if (text[i] == '\n') out += '\n';
        } else {
            out += text[i];
        }
    }
    return out;
}

// A declaration of memory: [.align n] .type name[bytes], or .type name.
struct Declared {
    std::string name;
    size_t bytes = 0, align = 1;
    bool open = false;  // whether the size is left to the launch
};

Declared declared(const std::string &text) {
    Declared out;
    std::string words;
    for (char c : text.substr(0, text.find('='))) words += c == '\t' || c == '\n' ? ' ' : c;
    std::string previous, last;
    for (const auto &word : split(words, ' ')) {
        if (word.empty()) continue;
        if (previous == ".align") out.align = std::stoul(word);
        if (word[0] == '.' && TYPES.count(word.substr(1))) out.bytes = size_of(TYPES.at(word.substr(1)));
        previous = word;
        last = word;
    }
    if (out.align < out.bytes) out.align = out.bytes;
    size_t bracket = last.find('[');
    out.name = last.substr(0, bracket);
    if (bracket != std::string::npos) {
        std::string count = last.substr(bracket + 1, last.find(']') - bracket - 1);
        out.open = count.empty();
        out.bytes *= count.empty() ? 0 : std::stoul(count);
    }
    return out;
}

class KernelParser {
  public:
    KernelParser(Kernel &kernel, Module &module, const std::map<std::string, Declared> &outer)
        : kernel(kernel), module(module), outer(outer) {
        scopes.emplace_back();
        for (int i = 0; i < 12; i++) kernel.special[i] = new_row(4).row;
    }

    void body(const std::string &text, size_t line) {
        std::string statement;
        size_t began = line;
        for (size_t i = 0; i < text.size(); i++) {
            char c = text[i];
            if (c == '\n') line++;
            bool empty = trimmed(statement).empty();
            if (empty) began = line;
            if (empty && c == '{') {
                scopes.emplace_back();
            } else if (empty && c == '}') {
                scopes.pop_back();
            } else if (c == ':' && trimmed(statement).find_first_of(" \t.") == std::string::npos) {
                labels[trimmed(statement)] = kernel.code.size();
                statement.clear();
            } else if (c == ';') {
                std::string whole = trimmed(statement);
                statement.clear();
                try {
                    this->statement(whole, began);
                } catch (const std::exception &fault) {
                    throw Fault("PTX line " + std::to_string(began) + ": " + whole + ": " + fault.what());
                }
            } else {
                statement += c;
            }
        }
        Instruction end;
        end.flow = Flow::EXIT;
        kernel.code.push_back(end);
        for (auto &[at, label] : branches) {
            if (!labels.count(label)) throw Fault("no label " + label);
            kernel.code[at].target = labels[label];
        }
        kernel.row_bytes = rows;
        kernel.static_shared = shared;
        kernel.local_bytes = local;
    }

  private:
    Kernel &kernel;
    Module &module;
    const std::map<std::string, Declared> &outer;
    struct Register {
        Operand operand;
    };
    std::vector<std::map<std::string, Operand>> scopes;
    std::map<std::string, uint64_t> shared_places, local_places;
    std::map<std::string, size_t> labels;
    std::vector<std::pair<size_t, std::string>> branches;
    std::map<std::pair<uint64_t, int>, Operand> constants;
    size_t rows = 0, shared = 0, local = 0;

    Operand new_row(int size) {
        Operand operand;
        rows = (rows + 63) / 64 * 64;
        operand.row = uint32_t(rows);
        operand.size = uint8_t(size);
        rows += size == 0 ? 4 : size_t(size) * LANES;
        return operand;
    }

    Operand constant(uint64_t value, int size) {
        auto found = constants.find({value, size});
        if (found != constants.end()) return found->second;
        Operand operand = new_row(size);
        std::vector<char> row(size_t(size) * LANES);
        for (int lane = 0; lane < LANES; lane++) std::memcpy(row.data() + lane * size, &value, size);
        kernel.constants.emplace_back(operand.row, row);
        return constants[{value, size}] = operand;
    }

    static size_t place(size_t &used, const Declared &what) {
        used = (used + what.align - 1) / what.align * what.align;
        size_t at = used;
        used += what.bytes;
        return at;
    }

    void statement(const std::string &text, size_t line) {
        if (text.empty() || text.rfind(".pragma", 0) == 0 || text.rfind(".loc ", 0) == 0) return;
        if (text.rfind(".reg", 0) == 0) return registers(text);
        if (text.rfind(".shared", 0) == 0) {
            Declared what = declared(text);
            shared_places[what.name] = place(shared, what);
        } else if (text.rfind(".local", 0) == 0) {
            Declared what = declared(text);
            local_places[what.name] = place(local, what);
        } else if (text.rfind(".param", 0) != 0) {
            instruction(text, line);
        }
    }

    // .reg .f32 %f<12>; or .reg .b16 a, b;
    void registers(const std::string &text) {
        size_t dot = text.find('.', 4), end = text.find_first_of(" \t", dot);
        Type type = TYPES.at(text.substr(dot + 1, end - dot - 1));
        for (const auto &name : split(text.substr(end), ',')) {
            size_t bracket = name.find('<');
            if (bracket == std::string::npos) {
                scopes.back()[name] = new_row(size_of(type));
                continue;
            }
            int count = std::stoi(name.substr(bracket + 1));
            for (int i = 0; i < count; i++) scopes.back()[name.substr(0, bracket) + std::to_string(i)] = new_row(size_of(type));
        }
    }

    const Operand *find_register(const std::string &name) {
        for (auto scope = scopes.rbegin(); scope != scopes.rend(); ++scope) {
            auto found = scope->find(name);
            if (found != scope->end()) return &found->second;
        }
        return nullptr;
    }

    uint64_t address_of(const std::string &name) {
        if (shared_places.count(name)) return shared_places[name];
        if (local_places.count(name)) return local_places[name];
        for (const auto &parameter : kernel.parameters)
            if (parameter.name == name) return parameter.place;
        auto global = module.globals.find(name);
        if (global != module.globals.end()) return reinterpret_cast<uint64_t>(global->second.data());
        auto open = outer.find(name);
        if (open != outer.end()) {
            // Shared memory that the launch brings begins behind the kernel's own.
            shared = (shared + open->second.align - 1) / open->second.align * open->second.align;
            return shared;
        }
        throw Fault("nothing is called " + name);
    }

    // An immediate: bits of a number, or a whole number.
    static bool immediate(const std::string &text, uint64_t &value) {
        if (text.rfind("0f", 0) == 0 || text.rfind("0F", 0) == 0) {
            value = std::stoull(text.substr(2), nullptr, 16);
            return true;
        }
        if (text.rfind("0d", 0) == 0 || text.rfind("0D", 0) == 0) {
            value = std::stoull(text.substr(2), nullptr, 16);
            return true;
        }
        if (!std::isdigit(static_cast<unsigned char>(text[0])) && text[0] != '-') return false;
        value = text[0] == '-' ? uint64_t(std::stoll(text, nullptr, 0)) : std::stoull(text, nullptr, 0);
        return true;
    }

    Operand operand(const std::string &text, Type type) {
        if (text == "_") return new_row(8);
        if (const Operand *found = find_register(text)) return *found;
        for (int kind = 0; kind < 4; kind++)
            for (int axis = 0; axis < 3; axis++)
                if (text == std::string(SPECIAL[kind]) + "." + "xyz"[axis]) {
                    Operand special;
                    special.row = kernel.special[kind * 3 + axis];
                    special.size = 4;
                    return special;
                }
        if (text == "WARP_SZ") return constant(LANES, 4);
        uint64_t value = 0;
        if (immediate(text, value)) {
            return constant(value, size_of(type) ? size_of(type) : 4);
        }
        size_t plus = text.find('+');
        uint64_t more = plus == std::string::npos ? 0 : std::stoull(text.substr(plus + 1));
        return constant(address_of(trimmed(text.substr(0, plus))) + more, size_of(type) ? size_of(type) : 8);
    }

    // [register + bytes] or [name + bytes].
    void address(const std::string &text, Instruction &out) {
        std::string inner = trimmed(text.substr(1, text.size() - 2));
        size_t plus = inner.find('+');
        if (plus != std::string::npos) {
            out.offset = std::stoll(trimmed(inner.substr(plus + 1)));
            inner = trimmed(inner.substr(0, plus));
        }
        if (const Operand *found = find_register(inner)) {
            out.operand[out.count++] = *found;
            return;
        }
        if (out.space == Space::PARAM && inner.rfind("retval", 0) == 0) inner = kernel.parameters[0].name;  // behind a call, which stops
        out.operand[out.count++] = constant(address_of(inner), 8);
    }

    void instruction(const std::string &text, size_t line) {
        Instruction out;
        out.line = uint32_t(line);
        std::string rest = text;
        if (rest[0] == '@') {
            out.negated = rest[1] == '!';
            size_t end = rest.find_first_of(" \t\n");
            const Operand *guard = find_register(rest.substr(out.negated ? 2 : 1, end - (out.negated ? 2 : 1)));
            if (!guard) throw Fault("no such predicate");
            out.guard = int32_t(guard->row);
            rest = trimmed(rest.substr(end));
        }
        size_t end = rest.find_first_of(" \t\n");
        std::string name = rest.substr(0, end);
        std::string arguments = end == std::string::npos ? "" : trimmed(rest.substr(end));
        Mnemonic mnemonic;
        auto words = split(name, '.');
        mnemonic.base = words[0];
        for (size_t i = 1; i < words.size(); i++) {
            auto type = TYPES.find(words[i]);
            if (type != TYPES.end()) mnemonic.types.push_back(type->second);
            else mnemonic.modifiers.push_back(words[i]);
        }
        kernel.texts.push_back(std::make_unique<std::string>(text));
        out.text = kernel.texts.back().get();
        out.operation = find_operation(mnemonic, out);
        if (out.flow == Flow::BRANCH) {
            branches.emplace_back(kernel.code.size(), arguments);
        } else if (out.operation || out.flow == Flow::BARRIER) {
            operands(arguments, mnemonic, out);
        }
        kernel.code.push_back(out);
    }

    void operands(const std::string &arguments, const Mnemonic &mnemonic, Instruction &out) {
        {
            int number = 0;
            for (const auto &part : split(arguments, ',')) {
                if (out.count > 14) throw Fault("too many operands");
                Type type = operand_type(mnemonic, number);
                if (part[0] == '[') {
                    address(part, out);
                } else if (part[0] == '{') {
                    auto parts = split(part.substr(1, part.size() - 2), ',');
                    if (mnemonic.base == "ld" || mnemonic.base == "st") out.parts = uint8_t(parts.size());
                    if (mnemonic.base == "mov") out.mode = number == 0 ? 2 : 1;  // taken apart, or put together
                    bool words = size_of(type) / int(parts.size()) == 4;
                    Type piece = mnemonic.base == "mov" ? (words ? Type::B32 : Type::B16) : type;
                    for (const auto &own : parts) out.operand[out.count++] = operand(own, piece);
                } else {
                    size_t bar = part.find('|');
                    out.operand[out.count++] = operand(trimmed(part.substr(0, bar)), type);
                    if (bar != std::string::npos) {
                        out.operand[out.count++] = operand(trimmed(part.substr(bar + 1)), Type::PRED);
                        out.mode |= 256;  // a second result
                    }
                }
                number++;
            }
        }
    }
};

size_t matching(const std::string &text, size_t from, char open, char close) {
    int depth = 0;
    for (size_t i = from; i < text.size(); i++) {
        if (text[i] == open) depth++;
        if (text[i] == close && --depth == 0) return i;
    }
    throw Fault("a bracket is not closed");
}

void parameters_of(Kernel &kernel, const std::string &text) {
    for (const auto &part : split(text, ',')) {
        Declared what = declared(part);
        Parameter parameter;
        parameter.name = what.name;
        parameter.size = what.bytes;
        parameter.align = what.align;
        kernel.parameter_bytes = (kernel.parameter_bytes + what.align - 1) / what.align * what.align;
        parameter.place = kernel.parameter_bytes;
        kernel.parameter_bytes += what.bytes;
        kernel.parameters.push_back(parameter);
    }
}

std::vector<char> initial(const std::string &text, const Declared &what) {
    std::vector<char> bytes(what.bytes + 16);
    size_t equals = text.find('=');
    if (equals == std::string::npos) return bytes;
    std::string list = text.substr(text.find('{', equals) + 1);
    size_t at = 0;
    for (const auto &number : split(list.substr(0, list.find('}')), ',')) bytes[at++] = char(std::stoi(number));
    return bytes;
}

}  // namespace

std::unique_ptr<Module> parse_module(const std::string &raw) {
    auto module = std::make_unique<Module>();
    std::string text = without_comments(raw);
    std::map<std::string, Declared> outer;
    size_t i = 0;
    auto line_of = [&](size_t at) { return 1 + std::count(text.begin(), text.begin() + long(at), '\n'); };
    while ((i = text.find_first_not_of(" \t\r\n", i)) != std::string::npos) {
        size_t end = text.find_first_of("\n;{", i);
        if (end == std::string::npos) break;
        std::string head = text.substr(i, end - i);
        if (head.find(".entry") != std::string::npos) {
            auto kernel = std::make_unique<Kernel>();
            size_t at = text.find(".entry", i) + 6;
            size_t open = text.find('(', at), close = matching(text, open, '(', ')');
            kernel->name = trimmed(text.substr(at, open - at));
            parameters_of(*kernel, text.substr(open + 1, close - open - 1));
            size_t brace = text.find('{', close), last = matching(text, brace, '{', '}');
            std::string limits = text.substr(close + 1, brace - close - 1);
            size_t most = limits.find(".maxntid");
            if (most != std::string::npos) kernel->most_threads = unsigned(std::stoul(limits.substr(most + 8)));
            KernelParser parser(*kernel, *module, outer);
            parser.body(text.substr(brace + 1, last - brace - 1), size_t(line_of(brace)));
            module->kernels[kernel->name] = std::move(kernel);
            i = last + 1;
        } else if (head.find(".func") != std::string::npos) {
            size_t semicolon = text.find(';', i), brace = text.find('{', i);
            i = brace < semicolon ? matching(text, brace, '{', '}') + 1 : semicolon + 1;
        } else if (head.find(".global") != std::string::npos || head.find(".shared") != std::string::npos) {
            size_t semicolon = text.find(';', i);
            std::string whole = text.substr(i, semicolon - i);
            Declared what = declared(whole);
            if (head.find(".global") != std::string::npos) module->globals[what.name] = initial(whole, what);
            else outer[what.name] = what;
            i = semicolon + 1;
        } else {
            i = end + 1;
        }
    }
    return module;
}

}  // namespace stand_in
