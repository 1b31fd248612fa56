// In: calls of CUDA's driver, of which this is a stand-in (libcuda.so.1). Out: one device of compute capability 9.0 that
// computes on the processor, each launch at the time of the call, and a report of what was asked of it.
//
//   STAND_IN_REPORT=FILE   where the report goes at the end
//   STAND_IN_TRACE=FILE    every call by name, in order
//   STAND_IN_COMPUTE=0     checks and counts launches, but leaves memory as it is
//   STAND_IN_THREADS=N     blocks at a time [2]
//   STAND_IN_DEVICES=N     devices that are there [1]
//   STAND_IN_MEMORY=N      bytes of the device [80 GiB]
//   STAND_IN_LATE=1        work waits in its stream until something waits for it, as late as a GPU may be: what is read
//                          too early, or written over, shows. cuBLAS, cuDNN and cuRAND let it catch up
//   STAND_IN_ORDER=N       order of the warps of a block: 0 as numbered, 1 reversed, others shuffled
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "memory.hpp"
#include "ptx.hpp"

using namespace stand_in;

namespace {

enum Result { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_PTX = 218, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700, NOT_SUPPORTED = 801, INVALID_CAPTURE = 901 };

constexpr unsigned MOST_SHARED = 227 * 1024;

long setting(const char *name, long usual) {
    const char *value = std::getenv(name);
    return value && *value ? std::atol(value) : usual;
}

struct Counted {
    uint64_t calls = 0;
    double operations = 0, seconds = 0;
};

struct Graph {
    std::vector<std::function<void()>> work;
};

struct Stream {
    bool capturing = false;
    Graph *graph = nullptr;
    std::deque<std::function<int()>> waiting;
};

struct Event {
    std::chrono::steady_clock::time_point at;
    void *stream = nullptr;
};

struct State {
    std::mutex guard;
    std::map<std::string, Counted> counts;
    uint64_t uploaded = 0, downloaded = 0, graph_launches = 0;
    Stream usual;
    std::recursive_mutex streams_guard;
    std::set<Stream *> streams{&usual};
    std::map<const char *, size_t> pinned;
    bool late = setting("STAND_IN_LATE", 0) != 0;
    bool computes = setting("STAND_IN_COMPUTE", 1) != 0;
    int workers = int(setting("STAND_IN_THREADS", 2));
    int devices = int(setting("STAND_IN_DEVICES", 1));
    uint64_t bytes = uint64_t(setting("STAND_IN_MEMORY", 80l << 30));
    unsigned order = unsigned(setting("STAND_IN_ORDER", 0));
    int failed = OK;
    std::FILE *trace = opened(std::getenv("STAND_IN_TRACE"));
    static std::FILE *opened(const char *path) { return path && *path ? std::fopen(path, "w") : nullptr; }
    ~State() { report(); }

    void report() {
        const char *path = std::getenv("STAND_IN_REPORT");
        if (!path || !*path) return;
        std::FILE *out = std::fopen(path, "w");
        if (!out) return;
        MemoryUse use = memory_use();
        std::fprintf(out, "{\n  \"peak_bytes\": %llu,\n  \"uploaded_bytes\": %llu,\n  \"downloaded_bytes\": %llu,\n  \"graph_launches\": %llu,\n  \"calls\": {",
                     (unsigned long long)use.peak, (unsigned long long)uploaded, (unsigned long long)downloaded, (unsigned long long)graph_launches);
        const char *between = "\n";
        for (const auto &[name, counted] : counts) {
            std::fprintf(out, "%s    \"%s\": {\"calls\": %llu, \"operations\": %.17g, \"seconds\": %.6f}", between, name.c_str(), (unsigned long long)counted.calls, counted.operations, counted.seconds);
            between = ",\n";
        }
        std::fprintf(out, "\n  }\n}\n");
        std::fclose(out);
    }
};

State &state() {
    static State own;
    return own;
}

void count(const std::string &what, double operations = 0, double seconds = 0) {
    State &own = state();
    std::lock_guard<std::mutex> lock(own.guard);
    Counted &counted = own.counts[what];
    if (own.trace) std::fprintf(own.trace, "%s\n", what.c_str());
    counted.calls++;
    counted.operations += operations;
    counted.seconds += seconds;
}

int refuse(int code, const std::string &why) {
    std::fprintf(stderr, "stand-in GPU: %s\n", why.c_str());
    return code;
}

Stream &stream_of(void *handle) { return handle ? *static_cast<Stream *>(handle) : state().usual; }

// Does the work now, or later, or notes it in the graph that the stream captures.
int submit(void *handle, std::function<int()> work) {
    Stream &stream = stream_of(handle);
    if (stream.capturing) {
        stream.graph->work.push_back([work] { work(); });
    } else if (state().late) {
        std::lock_guard<std::recursive_mutex> lock(state().streams_guard);
        stream.waiting.push_back(std::move(work));
    } else {
        return work();
    }
    return OK;
}

// Does what waits in the stream, in order.
void catch_up(Stream &stream) {
    std::lock_guard<std::recursive_mutex> lock(state().streams_guard);
    while (!stream.waiting.empty()) {
        auto work = std::move(stream.waiting.front());
        stream.waiting.pop_front();
        work();
    }
}

void catch_up_all() {
    std::lock_guard<std::recursive_mutex> lock(state().streams_guard);
    for (Stream *stream : state().streams) catch_up(*stream);
}

void *new_stream() {
    auto *stream = new Stream;
    std::lock_guard<std::recursive_mutex> lock(state().streams_guard);
    state().streams.insert(stream);
    return stream;
}

// Whether the driver may read these bytes of the host after the call.
bool is_pinned(const void *start) {
    std::lock_guard<std::recursive_mutex> lock(state().streams_guard);
    auto after = state().pinned.upper_bound(static_cast<const char *>(start));
    if (after == state().pinned.begin()) return false;
    --after;
    return static_cast<const char *>(start) < after->first + after->second;
}

bool inside(uint64_t address, size_t bytes, const char *what) {
    if (is_allocated(address, bytes)) return true;
    refuse(0, std::string(what) + ": " + std::to_string(bytes) + " bytes at " + std::to_string(address) + " are in no allocation");
    return false;
}

struct Loaded {
    std::unique_ptr<Module> module;
};

}  // namespace

extern "C" {

// For the other stand-ins.
void stand_in_touch(const char *what, const void *start, unsigned long bytes, int) {
    if (bytes && !inside(reinterpret_cast<uint64_t>(start), bytes, what)) std::abort();
}
int stand_in_computes(void) {
    catch_up_all();
    return state().computes;
}
void stand_in_count(const char *what, double flop) { count(what, flop); }
int stand_in_capturing(void *stream) { return stream_of(stream).capturing; }
void stand_in_note(void *stream, void (*work)(void *), void *with) { stream_of(stream).graph->work.push_back([=] { work(with); }); }

int cuInit(unsigned) { return OK; }
int cuDriverGetVersion(int *version) { return *version = 13000, OK; }
int cuDeviceGetCount(int *devices) { return *devices = state().devices, OK; }
int cuDeviceGet(int *device, int number) {
    *device = number;
    return number >= 0 && number < state().devices ? OK : 101;
}
int cuDeviceGetName(char *name, int length, int) {
    std::snprintf(name, size_t(length), "stand-in of compute capability 9.0");
    return OK;
}
int cuDeviceGetUuid_v2(unsigned char *uuid, int) { return std::memset(uuid, 7, 16), OK; }
int cuDeviceTotalMem_v2(size_t *bytes, int) { return *bytes = state().bytes, OK; }
int cuDeviceGetAttribute(int *value, int attribute, int) {
    switch (attribute) {
    case 1: *value = 1024; break;            // threads of a block
    case 8: *value = 48 * 1024; break;       // shared memory of a block
    case 10: *value = LANES; break;
    case 16: *value = 132; break;            // multiprocessors
    case 75: *value = 9; break;              // compute capability
    case 76: *value = 0; break;
    case 81: *value = MOST_SHARED + 1024; break;
    case 97: *value = MOST_SHARED; break;
    case 115: *value = 1; break;             // memory pools
    default: return refuse(INVALID_VALUE, "attribute " + std::to_string(attribute) + " of a device is not known");
    }
    return OK;
}
int cuDevicePrimaryCtxRetain(void **context, int) { return *context = &state(), OK; }
int cuDevicePrimaryCtxRelease_v2(int) { return OK; }
int cuDeviceGetDefaultMemPool(void **pool, int) { return *pool = &state(), OK; }
int cuMemPoolSetAttribute(void *, int attribute, void *) {
    count("cuMemPoolSetAttribute " + std::to_string(attribute));
    return OK;
}
int cuMemPoolTrimTo(void *, size_t) { return OK; }
static thread_local void *current = nullptr;
int cuCtxGetCurrent(void **context) { return *context = current, OK; }
int cuCtxSetCurrent(void *context) { return current = context, OK; }
int cuCtxSetFlags(unsigned) { return OK; }
int cuCtxSynchronize(void) {
    count("synchronize");
    catch_up_all();
    return state().failed;
}
int cuMemGetInfo_v2(size_t *left, size_t *all) {
    *all = state().bytes;
    *left = state().bytes - memory_use().now;
    return OK;
}
int cuGetErrorName(int code, const char **name) {
    static thread_local char text[64];
    std::snprintf(text, sizeof text, "stand-in error %d", code);
    return *name = text, OK;
}
int cuGetErrorString(int code, const char **text) { return cuGetErrorName(code, text); }

int cuStreamCreate(void **stream, unsigned) { return *stream = new_stream(), OK; }
int cuStreamCreateWithPriority(void **stream, unsigned, int) { return *stream = new_stream(), OK; }
int cuStreamDestroy_v2(void *handle) {
    auto *stream = static_cast<Stream *>(handle);
    std::lock_guard<std::recursive_mutex> lock(state().streams_guard);
    catch_up(*stream);
    state().streams.erase(stream);
    delete stream;
    return OK;
}
int cuStreamSynchronize(void *stream) {
    if (stream_of(stream).capturing) return refuse(INVALID_CAPTURE, "a stream is waited for while it is captured");
    count("synchronize");
    catch_up(stream_of(stream));
    return state().failed;
}
int cuStreamWaitEvent(void *, void *event, unsigned) {
    catch_up(stream_of(static_cast<Event *>(event)->stream));
    return OK;
}
int cuStreamIsCapturing(void *stream, int *status) { return *status = stream_of(stream).capturing, OK; }
int cuStreamBeginCapture_v2(void *handle, int) {
    Stream &stream = stream_of(handle);
    if (stream.capturing) return refuse(INVALID_CAPTURE, "the stream is captured already");
    stream.capturing = true;
    stream.graph = new Graph;
    return OK;
}
int cuStreamEndCapture(void *handle, void **graph) {
    Stream &stream = stream_of(handle);
    if (!stream.capturing) return refuse(INVALID_CAPTURE, "no capture is to be ended");
    stream.capturing = false;
    *graph = stream.graph;
    return OK;
}
int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long) { return *executable = graph, OK; }
int cuGraphInstantiate(void **executable, void *graph, unsigned long long flags) { return cuGraphInstantiateWithFlags(executable, graph, flags); }
int cuGraphUpload(void *, void *) { return OK; }
int cuGraphLaunch(void *executable, void *) {
    state().graph_launches++;
    for (auto &work : static_cast<Graph *>(executable)->work) work();
    return state().failed;
}
int cuGraphDestroy(void *) { return OK; }
int cuGraphExecDestroy(void *executable) { return delete static_cast<Graph *>(executable), OK; }

int cuEventCreate(void **event, unsigned) { return *event = new Event, OK; }
int cuEventDestroy_v2(void *event) { return delete static_cast<Event *>(event), OK; }
int cuEventRecord(void *event, void *stream) {
    count("event");
    static_cast<Event *>(event)->stream = stream;
    return static_cast<Event *>(event)->at = std::chrono::steady_clock::now(), OK;
}
int cuEventSynchronize(void *event) {
    catch_up(stream_of(static_cast<Event *>(event)->stream));
    return OK;
}
int cuEventQuery(void *event) { return cuEventSynchronize(event); }
int cuEventElapsedTime_v2(float *milliseconds, void *from, void *to) {
    *milliseconds = std::chrono::duration<float, std::milli>(static_cast<Event *>(to)->at - static_cast<Event *>(from)->at).count();
    return OK;
}
int cuEventElapsedTime(float *milliseconds, void *from, void *to) { return cuEventElapsedTime_v2(milliseconds, from, to); }

int cuMemAlloc_v2(uint64_t *address, size_t bytes) {
    if (bytes == 0) return refuse(INVALID_VALUE, "memory of 0 bytes is asked for");
    if (memory_use().now + bytes > state().bytes) return OUT_OF_MEMORY;
    *address = reinterpret_cast<uint64_t>(allocate(bytes, state().computes));
    count("allocate");
    return *address ? OK : OUT_OF_MEMORY;
}
int cuMemAllocAsync(uint64_t *address, size_t bytes, void *) { return cuMemAlloc_v2(address, bytes); }
static int free_now(uint64_t address) {
    if (!release(address)) return refuse(INVALID_VALUE, "memory that was not allocated is freed");
    count("free");
    return OK;
}
int cuMemFree_v2(uint64_t address) {
    catch_up_all();
    return free_now(address);
}
int cuMemFreeAsync(uint64_t address, void *stream) {
    // What a graph uses must outlive the capture.
    if (stream_of(stream).capturing) return OK;
    return submit(stream, [=] { return free_now(address); });
}
int cuMemHostAlloc(void **memory, size_t bytes, unsigned) {
    *memory = std::malloc(bytes);
    count("allocate on the host");
    std::lock_guard<std::recursive_mutex> lock(state().streams_guard);
    state().pinned[static_cast<char *>(*memory)] = bytes;
    return *memory ? OK : OUT_OF_MEMORY;
}
int cuMemFreeHost(void *memory) {
    std::lock_guard<std::recursive_mutex> lock(state().streams_guard);
    catch_up_all();
    state().pinned.erase(static_cast<char *>(memory));
    return std::free(memory), OK;
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
    if (stream_of(stream).capturing) return refuse(INVALID_CAPTURE, "memory of the host is copied while a stream is captured");
    if (!inside(to, bytes, "copy to the device")) return INVALID_VALUE;
    count("copy to the device");
    state().uploaded += bytes;
    if (!state().computes && bytes > 65536) return OK;
    if (!state().late) return std::memcpy(reinterpret_cast<void *>(to), from, bytes), OK;
    // Pageable memory is read at the call, pinned memory when its turn comes.
    if (is_pinned(from))
        return submit(stream, [=] { return std::memcpy(reinterpret_cast<void *>(to), from, bytes), int(OK); });
    std::vector<char> kept(static_cast<const char *>(from), static_cast<const char *>(from) + bytes);
    return submit(stream, [to, kept = std::move(kept)] { return std::memcpy(reinterpret_cast<void *>(to), kept.data(), kept.size()), int(OK); });
}
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) {
    int code = cuMemcpyHtoDAsync_v2(to, from, bytes, nullptr);
    catch_up_all();
    return code;
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
    if (stream_of(stream).capturing) return refuse(INVALID_CAPTURE, "memory of the device is read while a stream is captured");
    if (!inside(from, bytes, "copy to the host")) return INVALID_VALUE;
    count("copy to the host");
    state().downloaded += bytes;
    if (!state().computes) return std::memset(to, 0, bytes), OK;
    if (state().late && is_pinned(to)) {
        // Who reads it before it has come reads NaNs.
        std::memset(to, 0xff, bytes);
        return submit(stream, [=] { return std::memcpy(to, reinterpret_cast<void *>(from), bytes), int(OK); });
    }
    // A copy to pageable memory returns when it is done.
    catch_up(stream_of(stream));
    std::memcpy(to, reinterpret_cast<void *>(from), bytes);
    return state().failed;
}
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) {
    int code = cuMemcpyDtoHAsync_v2(to, from, bytes, nullptr);
    catch_up_all();
    return code ? code : state().failed;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream) {
    if (!inside(to, bytes, "copy on the device") || !inside(from, bytes, "copy on the device")) return INVALID_VALUE;
    count("copy on the device");
    return submit(stream, [=] {
        if (state().computes) std::memmove(reinterpret_cast<void *>(to), reinterpret_cast<void *>(from), bytes);
        return int(OK);
    });
}
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void *stream) {
    if (!inside(to, bytes, "fill")) return INVALID_VALUE;
    count("fill");
    return submit(stream, [=] {
        if (state().computes) std::memset(reinterpret_cast<void *>(to), value, bytes);
        return int(OK);
    });
}
int cuMemsetD8_v2(uint64_t to, unsigned char value, size_t bytes) { return cuMemsetD8Async(to, value, bytes, nullptr); }

int cuModuleLoadData(void **module, const void *image) {
    try {
        *module = new Loaded{parse_module(static_cast<const char *>(image))};
        count("module");
        return OK;
    } catch (const std::exception &fault) {
        return refuse(INVALID_PTX, fault.what());
    }
}
int cuModuleUnload(void *) { return OK; }
int cuModuleGetFunction(void **function, void *module, const char *name) {
    auto &kernels = static_cast<Loaded *>(module)->module->kernels;
    auto found = kernels.find(name);
    if (found == kernels.end()) return refuse(NOT_FOUND, std::string("the module has no kernel ") + name);
    *function = found->second.get();
    return OK;
}
int cuFuncSetAttribute(void *function, int attribute, int value) {
    auto &kernel = *static_cast<Kernel *>(function);
    if (attribute != 8) return refuse(INVALID_VALUE, "attribute " + std::to_string(attribute) + " of a kernel is not known");
    if (value < 0 || kernel.static_shared + unsigned(value) > MOST_SHARED) return refuse(INVALID_VALUE, kernel.name + ": " + std::to_string(value) + " bytes of shared memory are too many");
    kernel.dynamic_allowed = unsigned(value);
    return OK;
}

int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *stream, void **arguments, void **extra) {
    auto &kernel = *static_cast<Kernel *>(function);
    auto no = [&](const std::string &why) { return refuse(INVALID_VALUE, kernel.name + ": " + why); };
    if (!gx || !gy || !gz || gx > 0x7fffffffu || gy > 65535 || gz > 65535) return no("the grid is " + std::to_string(gx) + " x " + std::to_string(gy) + " x " + std::to_string(gz));
    uint64_t threads = uint64_t(bx) * by * bz;
    if (!threads || threads > kernel.most_threads || bz > 64) return no(std::to_string(threads) + " threads are no block of it");
    if (shared > kernel.dynamic_allowed) return no(std::to_string(shared) + " bytes of shared memory were not asked for");
    if (extra) return no("arguments in a buffer are not known");
    std::vector<char> packed(kernel.parameter_bytes + 8);
    for (size_t i = 0; i < kernel.parameters.size(); i++) std::memcpy(packed.data() + kernel.parameters[i].place, arguments[i], kernel.parameters[i].size);
    Launch launch = {{gx, gy, gz}, {bx, by, bz}, shared, nullptr};
    return submit(stream, [&kernel, launch, packed]() mutable {
        auto begin = std::chrono::steady_clock::now();
        launch.parameters = packed.data();
        if (state().failed) return state().failed;
        try {
            if (state().computes) run_kernel(kernel, launch, state().workers, state().order);
        } catch (const std::exception &fault) {
            state().failed = ILLEGAL_ADDRESS;
            return refuse(ILLEGAL_ADDRESS, kernel.name + ": " + fault.what());
        }
        count("kernel " + kernel.name, 0, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
        return int(OK);
    });
}

}  // extern "C"
