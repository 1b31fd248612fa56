// In: the calls of cuDNN that the program makes, on the stand-in driver's memory. Out: libcudnn.so.9, which checks each
// against the real library's rules, says in one sentence why it refuses one, and convolves on the processor: the
// numbers under every output pixel are laid out tile by tile as a matrix and multiplied by the filters (product.hpp).
// f32 without FMA_MATH enters as TF32, as the real library may have it. Workspaces are written over.
#include "product.hpp"

using namespace stand_in;

namespace {

enum Status {
    SUCCESS = 0,
    NOT_INITIALIZED = 1001,
    BAD_PARAM = 2000,
    BAD_PARAM_NULL_POINTER = 2002,
    BAD_PARAM_MISALIGNED_POINTER = 2003,
    BAD_PARAM_SIZE_INSUFFICIENT = 2006,
    BAD_PARAM_SHAPE_MISMATCH = 2008,
    NOT_SUPPORTED = 3000,
};
enum DataType { DATA_FLOAT = 0, DATA_DOUBLE = 1, DATA_HALF = 2, DATA_BFLOAT16 = 9 };
enum Layout { NCHW = 0, NHWC = 1 };
enum Math { DEFAULT_MATH = 0, TENSOR_OP_MATH = 1, ALLOW_CONVERSION = 2, FMA_MATH = 3 };
enum Algorithm { IMPLICIT_GEMM = 0, IMPLICIT_PRECOMP_GEMM = 1, ALGORITHMS = 8 };

struct Handle {
    bool has_stream = false;
};
/// A map's or filter's numbers: n, c, h, w and the way from one to the next.
struct Tensor {
    bool set = false;
    Format format{};
    int dims[4]{};
    ptrdiff_t strides[4]{};
    bool channels_last = false;
};
struct Filter : Tensor {};
struct Convolution {
    bool set = false;
    int pad[2]{}, stride[2]{}, dilation[2]{}, mode = 0, groups = 1, math = DEFAULT_MATH;
    Format sums{};
};
Live<Handle> handles;
Live<Tensor> tensors;
Live<Filter> filters;
Live<Convolution> convolutions;

/// cudnnConvolutionFwdAlgoPerf_t.
struct Found {
    int algorithm, status;
    float time;
    size_t memory;
    int determinism, math, reserved[3];
};

bool format_of(int type, Format &format) {
    switch (type) {
    case DATA_FLOAT: format = Format::F32; return true;
    case DATA_DOUBLE: format = Format::F64; return true;
    case DATA_HALF: format = Format::F16; return true;
    case DATA_BFLOAT16: format = Format::BF16; return true;
    }
    return false;
}

int set_dims(const char *name, Tensor &t, int type, const int (&dims)[4], const ptrdiff_t (&strides)[4], bool last) {
    if (!format_of(type, t.format)) return refuse(NOT_SUPPORTED, "%s: data type %d is not here", name, type);
    size_t reach = 1;
    for (int i = 0; i < 4; i++) {
        if (dims[i] < 1 || strides[i] < 1)
            return refuse(BAD_PARAM, "%s: size %d of %d numbers, %td apart", name, i, dims[i], strides[i]);
        t.dims[i] = dims[i], t.strides[i] = strides[i];
        reach += size_t(dims[i] - 1) * size_t(strides[i]);
    }
    if (reach > size_t(1) << 31)
        return refuse(NOT_SUPPORTED, "%s: a tensor of %zu numbers; cuDNN takes 2 Gi of them", name, reach);
    t.set = true, t.channels_last = last;
    return SUCCESS;
}

int set_layout(const char *name, Tensor &t, int layout, int type, int n, int c, int h, int w) {
    if (layout != NCHW && layout != NHWC) return refuse(NOT_SUPPORTED, "%s: format %d is not here", name, layout);
    const ptrdiff_t C = c, H = h, W = w;
    if (layout == NCHW) return set_dims(name, t, type, {n, c, h, w}, {C * H * W, H * W, W, 1}, false);
    return set_dims(name, t, type, {n, c, h, w}, {C * H * W, 1, W * C, C}, true);
}

Span span_of(const Tensor &t, const void *start) {
    size_t last = 0;
    for (int i = 0; i < 4; i++) last += size_t(t.dims[i] - 1) * size_t(t.strides[i]);
    return {start, (last + 1) * size_of(t.format)};
}

/// One convolution, its descriptors found to be alive and to agree.
struct Call {
    const Tensor *x, *y;
    const Filter *w;
    const Convolution *conv;

    size_t products() const { return size_t(w->dims[1]) * w->dims[2] * w->dims[3]; }
    /// What an algorithm needs; false where the stand-in does without the algorithm. Two do: without a workspace, and
    /// with a table of places, which one by one filters do without.
    bool workspace(int algorithm, size_t &bytes) const {
        const size_t area = size_t(w->dims[2]) * w->dims[3];
        bytes = algorithm == IMPLICIT_PRECOMP_GEMM && area > 1 ? size_t(y->dims[2]) * y->dims[3] * area * 4 : 0;
        return algorithm == IMPLICIT_GEMM || algorithm == IMPLICIT_PRECOMP_GEMM;
    }
};

int check(const char *name, Handle *handle, const Tensor *x, const Filter *w, const Convolution *conv,
          const Tensor *y) {
    if (!handles.holds(handle)) return refuse(NOT_INITIALIZED, "%s got no handle of cudnnCreate", name);
    if (!handle->has_stream) return refuse(BAD_PARAM, "%s was called before cudnnSetStream", name);
    if (!tensors.holds(const_cast<Tensor *>(x)) || !tensors.holds(const_cast<Tensor *>(y)) ||
        !filters.holds(const_cast<Filter *>(w)) || !convolutions.holds(const_cast<Convolution *>(conv)))
        return refuse(BAD_PARAM_NULL_POINTER, "%s got a descriptor that does not live", name);
    if (!x->set || !w->set || !conv->set || !y->set)
        return refuse(BAD_PARAM, "%s got a descriptor without content", name);
    const Format f = x->format, sums = conv->sums;
    if (w->format != f || y->format != f)
        return refuse(BAD_PARAM, "%s: a map of %s, filters of %s and a result of %s", name, name_of(f),
                      name_of(w->format), name_of(y->format));
    const bool possible =
        f == Format::F64 ? sums == Format::F64 : sums == Format::F32 || (f == Format::F16 && sums == Format::F16);
    if (!possible) return refuse(NOT_SUPPORTED, "%s: %s is not summed in %s", name, name_of(f), name_of(sums));
    if (w->channels_last && !(x->channels_last && y->channels_last))
        return refuse(NOT_SUPPORTED, "%s: NHWC filters want NHWC maps", name);
    static const bool plain_alone = std::getenv("STAND_IN_PLAIN_MAPS") != nullptr;
    if (w->channels_last && plain_alone)
        return refuse(NOT_SUPPORTED, "%s: STAND_IN_PLAIN_MAPS is set, so NHWC is not taken", name);
    const int groups = conv->groups, outputs = w->dims[0];
    if (x->dims[1] != w->dims[1] * groups || outputs % groups)
        return refuse(BAD_PARAM_SHAPE_MISMATCH, "%s: %d channels for %d filters of %d channels in %d groups", name,
                      x->dims[1], outputs, w->dims[1], groups);
    int want[4] = {x->dims[0], outputs, 0, 0};
    for (int i = 0; i < 2; i++) {
        const int room = x->dims[2 + i] + 2 * conv->pad[i] - (conv->dilation[i] * (w->dims[2 + i] - 1) + 1);
        if (room < 0) return refuse(BAD_PARAM_SHAPE_MISMATCH, "%s: the filters are larger than the padded map", name);
        want[2 + i] = room / conv->stride[i] + 1;
    }
    const int *said = y->dims;
    if (!std::equal(want, want + 4, said))
        return refuse(BAD_PARAM_SHAPE_MISMATCH, "%s: the result is [%d, %d, %d, %d], not [%d, %d, %d, %d]", name,
                      want[0], want[1], want[2], want[3], said[0], said[1], said[2], said[3]);
    return SUCCESS;
}

/// The filters of the groups, a row for each.
struct Rows {
    Matrix matrix;
    size_t groups;
    template <class Sum>
    void pack(size_t b, size_t row, size_t rows, size_t inner, size_t inners, size_t width, Sum *to) const {
        matrix.pack(b % groups, row, rows, inner, inners, width, to);
    }
};

/// The map's numbers under every output pixel, a column for each; 0 beyond the map's edge.
struct Patches {
    const Call &call;
    const void *start;

    template <class Sum>
    void pack(size_t b, size_t pixel, size_t pixels, size_t inner, size_t inners, size_t width, Sum *to) const {
        const Tensor &x = *call.x;
        const Convolution &conv = *call.conv;
        const ptrdiff_t high = call.w->dims[2], wide = call.w->dims[3], channels = call.w->dims[1];
        const ptrdiff_t across = call.y->dims[3], step = conv.stride[1], groups = conv.groups;
        const ptrdiff_t first = ptrdiff_t(b) / groups * x.strides[0] + ptrdiff_t(b) % groups * channels * x.strides[1];
        for (size_t panel = 0; panel < pixels; panel += width)
            for (size_t k = inner; k < inner + inners; k++, to += width) {
                // The filters' numbers stand as their layout has them.
                const ptrdiff_t i = ptrdiff_t(k), area = high * wide;
                const ptrdiff_t c = call.w->channels_last ? i % channels : i / area;
                ptrdiff_t fy = call.w->channels_last ? i / channels / wide : i % area / wide;
                ptrdiff_t fx = call.w->channels_last ? i / channels % wide : i % wide;
                if (conv.mode == 0) fy = high - 1 - fy, fx = wide - 1 - fx;
                const size_t here = std::min(width, pixels - panel);
                std::fill(to, to + width, Sum(0));
                for (size_t lane = 0; lane < here;) { // a stretch of one row of output pixels after the other
                    const ptrdiff_t at = ptrdiff_t(pixel + panel + lane), out_y = at / across, out_x = at % across;
                    const ptrdiff_t count = std::min(ptrdiff_t(here - lane), across - out_x);
                    const ptrdiff_t y = out_y * conv.stride[0] - conv.pad[0] + fy * conv.dilation[0];
                    const ptrdiff_t left = out_x * step - conv.pad[1] + fx * conv.dilation[1];
                    const ptrdiff_t begin = left < 0 ? (-left + step - 1) / step : 0;
                    const ptrdiff_t end = std::min(count, left < x.dims[3] ? (x.dims[3] - left + step - 1) / step : 0);
                    if (y >= 0 && y < x.dims[2] && begin < end)
                        widen(x.format, start,
                              first + c * x.strides[1] + y * x.strides[2] + (left + begin * step) * x.strides[3],
                              step * x.strides[3], size_t(end - begin), to + lane + begin);
                    lane += size_t(count);
                }
            }
    }
};

template <class Sum> void compute(const Call &call, const void *x, const void *w, void *y, Sum alpha, Sum beta) {
    const Tensor &out = *call.y;
    const size_t groups = size_t(call.conv->groups), rows = size_t(out.dims[1]) / groups, inner = call.products();
    Rule rule;
    rule.sums_f16 = call.conv->sums == Format::F16;
    if (call.x->format == Format::F32 && call.conv->math != FMA_MATH) rule.entering = Rule::Tf32;
    Rows left{{w, call.w->format, ptrdiff_t(inner), 1, ptrdiff_t(rows * inner)}, groups};
    Size size{size_t(out.dims[0]) * groups, rows, size_t(out.dims[2]) * out.dims[3], inner};
    auto store = [&](size_t b, size_t row, size_t col, size_t count, const Sum *sums) {
        const ptrdiff_t channel = ptrdiff_t(b % groups * rows + row), across = out.dims[3];
        const ptrdiff_t base = ptrdiff_t(b / groups) * out.strides[0] + channel * out.strides[1];
        for (size_t done = 0; done < count;) {
            const ptrdiff_t pixel = ptrdiff_t(col + done), line = pixel / across, place = pixel % across;
            const size_t some = std::min(count - done, size_t(across - place));
            put(out.format, y, base + line * out.strides[2] + place * out.strides[3], out.strides[3], some, sums + done,
                alpha, beta);
            done += some;
        }
    };
    multiply<Sum>(size, rule, left, Patches{call, x}, store);
}

} // namespace

extern "C" {

int cudnnCreate(Handle **handle) {
    if (!handle) return refuse(BAD_PARAM_NULL_POINTER, "cudnnCreate has nowhere to put the handle");
    *handle = handles.make();
    return SUCCESS;
}
int cudnnDestroy(Handle *handle) {
    return handles.end(handle) ? int(SUCCESS) : refuse(NOT_INITIALIZED, "cudnnDestroy got no handle that lives");
}
int cudnnSetStream(Handle *handle, void *) {
    if (!handles.holds(handle)) return refuse(NOT_INITIALIZED, "cudnnSetStream got no handle of cudnnCreate");
    handle->has_stream = true;
    return SUCCESS;
}

#define MADE_AND_ENDED(Kind, Type, objects)                                                                            \
    int cudnnCreate##Kind##Descriptor(Type **made) {                                                                   \
        if (!made) return refuse(BAD_PARAM_NULL_POINTER, "cudnnCreate" #Kind "Descriptor has nowhere to put it");      \
        *made = objects.make();                                                                                        \
        return SUCCESS;                                                                                                \
    }                                                                                                                  \
    int cudnnDestroy##Kind##Descriptor(Type *ended) {                                                                  \
        if (objects.end(ended)) return SUCCESS;                                                                        \
        return refuse(BAD_PARAM, "cudnnDestroy" #Kind "Descriptor got none that lives");                               \
    }
MADE_AND_ENDED(Tensor, Tensor, tensors)
MADE_AND_ENDED(Filter, Filter, filters)
MADE_AND_ENDED(Convolution, Convolution, convolutions)

int cudnnSetTensor4dDescriptor(Tensor *t, int layout, int type, int n, int c, int h, int w) {
    if (!tensors.holds(t)) return refuse(BAD_PARAM, "cudnnSetTensor4dDescriptor got no descriptor that lives");
    return set_layout("cudnnSetTensor4dDescriptor", *t, layout, type, n, c, h, w);
}
int cudnnSetTensor4dDescriptorEx(Tensor *t, int type, int n, int c, int h, int w, int sn, int sc, int sh, int sw) {
    if (!tensors.holds(t)) return refuse(BAD_PARAM, "cudnnSetTensor4dDescriptorEx got no descriptor that lives");
    return set_dims("cudnnSetTensor4dDescriptorEx", *t, type, {n, c, h, w}, {sn, sc, sh, sw}, sc == 1 && c > 1);
}
int cudnnSetFilter4dDescriptor(Filter *f, int type, int layout, int k, int c, int h, int w) {
    if (!filters.holds(f)) return refuse(BAD_PARAM, "cudnnSetFilter4dDescriptor got no descriptor that lives");
    return set_layout("cudnnSetFilter4dDescriptor", *f, layout, type, k, c, h, w);
}

int cudnnSetConvolution2dDescriptor(Convolution *conv, int pad_h, int pad_w, int stride_h, int stride_w, int dilation_h,
                                    int dilation_w, int mode, int sums) {
    const char *name = "cudnnSetConvolution2dDescriptor";
    if (!convolutions.holds(conv)) return refuse(BAD_PARAM, "%s got no descriptor that lives", name);
    const bool steps = stride_h > 0 && stride_w > 0 && dilation_h > 0 && dilation_w > 0;
    if (pad_h < 0 || pad_w < 0 || !steps || mode < 0 || mode > 1)
        return refuse(BAD_PARAM, "%s: padding %d, %d, stride %d, %d, dilation %d, %d, mode %d", name, pad_h, pad_w,
                      stride_h, stride_w, dilation_h, dilation_w, mode);
    if (!format_of(sums, conv->sums) || conv->sums == Format::BF16)
        return refuse(NOT_SUPPORTED, "%s: nothing is summed in data type %d", name, sums);
    conv->pad[0] = pad_h, conv->pad[1] = pad_w, conv->stride[0] = stride_h, conv->stride[1] = stride_w;
    conv->dilation[0] = dilation_h, conv->dilation[1] = dilation_w, conv->mode = mode, conv->set = true;
    return SUCCESS;
}
int cudnnSetConvolutionMathType(Convolution *conv, int math) {
    if (!convolutions.holds(conv) || math < DEFAULT_MATH || math > FMA_MATH)
        return refuse(BAD_PARAM, "cudnnSetConvolutionMathType got no descriptor that lives, or the math type %d", math);
    conv->math = math;
    return SUCCESS;
}
int cudnnSetConvolutionGroupCount(Convolution *conv, int groups) {
    if (!convolutions.holds(conv) || groups < 1)
        return refuse(BAD_PARAM, "cudnnSetConvolutionGroupCount got no descriptor that lives, or %d groups", groups);
    conv->groups = groups;
    return SUCCESS;
}

int cudnnGetConvolutionForwardAlgorithm_v7(Handle *handle, const Tensor *x, const Filter *w, const Convolution *conv,
                                           const Tensor *y, int wanted, int *count, Found *found) {
    const char *name = "cudnnGetConvolutionForwardAlgorithm_v7";
    if (int code = check(name, handle, x, w, conv, y)) return code;
    if (wanted < 1 || !count || !found) return refuse(BAD_PARAM, "%s: no room for %d algorithms", name, wanted);
    stand_in_count(name, 0);
    const Call call{x, y, w, conv};
    const int order[ALGORITHMS] = {IMPLICIT_PRECOMP_GEMM, IMPLICIT_GEMM, 6, 7, 2, 4, 5, 3};
    *count = std::min(wanted, int(ALGORITHMS));
    for (int i = 0; i < *count; i++) {
        Found each{};
        each.algorithm = order[i];
        each.status = call.workspace(order[i], each.memory) ? SUCCESS : NOT_SUPPORTED;
        each.time = -1, each.determinism = 1, each.math = conv->math;
        found[i] = each;
    }
    return SUCCESS;
}

int cudnnGetConvolutionForwardWorkspaceSize(Handle *handle, const Tensor *x, const Filter *w, const Convolution *conv,
                                            const Tensor *y, int algorithm, size_t *bytes) {
    const char *name = "cudnnGetConvolutionForwardWorkspaceSize";
    if (int code = check(name, handle, x, w, conv, y)) return code;
    if (!bytes) return refuse(BAD_PARAM_NULL_POINTER, "%s has nowhere to put the size", name);
    if (!Call{x, y, w, conv}.workspace(algorithm, *bytes))
        return refuse(NOT_SUPPORTED, "%s: algorithm %d cannot do this convolution here", name, algorithm);
    return SUCCESS;
}

int cudnnConvolutionForward(Handle *handle, const void *alpha, const Tensor *x_form, const void *x,
                            const Filter *w_form, const void *w, const Convolution *conv, int algorithm,
                            void *workspace, size_t bytes, const void *beta, const Tensor *y_form, void *y) {
    const char *name = "cudnnConvolutionForward";
    if (int code = check(name, handle, x_form, w_form, conv, y_form)) return code;
    if (!alpha || !beta || !x || !w || !y) return refuse(BAD_PARAM_NULL_POINTER, "%s got a null pointer", name);
    const Format format = x_form->format;
    if ((uintptr_t(x) | uintptr_t(w) | uintptr_t(y)) % size_of(format))
        return refuse(BAD_PARAM_MISALIGNED_POINTER, "%s: %p, %p or %p is no place for an %s", name, x, w, y,
                      name_of(format));
    const Call call{x_form, y_form, w_form, conv};
    size_t needed;
    if (!call.workspace(algorithm, needed))
        return refuse(NOT_SUPPORTED, "%s: algorithm %d cannot do this convolution here", name, algorithm);
    if (bytes < needed || (needed && !workspace))
        return refuse(BAD_PARAM_SIZE_INSUFFICIENT, "%s: %zu bytes of workspace at %p, algorithm %d needs %zu", name,
                      bytes, workspace, algorithm, needed);
    const Span maps = span_of(*x_form, x), weights = span_of(*w_form, w), results = span_of(*y_form, y);
    const Span room{workspace, bytes};
    if (results.meets(maps) || results.meets(weights) || room.meets(maps) || room.meets(weights) || room.meets(results))
        return refuse(BAD_PARAM, "%s: the result or the workspace lies over something else", name);
    maps.touch("cudnnConvolutionForward, x", false);
    weights.touch("cudnnConvolutionForward, w", false);
    results.touch("cudnnConvolutionForward, y", true);
    room.touch("cudnnConvolutionForward, workspace", true);
    const int *d = x_form->dims, *k = w_form->dims;
    const char *math[] = {"default math", "tensor op", "tensor op with conversion", "fma"};
    std::string maps_line = text("%s %s [%d, %d, %d, %d] by [%d, %d, %d, %d]", name, name_of(format), d[0], d[1], d[2],
                                 d[3], k[0], k[1], k[2], k[3]);
    std::string line =
        text("%s%s stride %d padding %d dilation %d groups %d sums in %s, %s", maps_line.c_str(),
             w_form->channels_last ? " channels last" : "", conv->stride[0], conv->pad[0], conv->dilation[0],
             conv->groups, name_of(conv->sums), math[conv->math]);
    const double pixels = double(y_form->dims[0]) * y_form->dims[1] * y_form->dims[2] * y_form->dims[3];
    stand_in_count(line.c_str(), 2 * pixels * double(call.products()));
    if (!stand_in_computes()) return SUCCESS;
    if (bytes) memset(workspace, 0xa5, bytes);
    // alpha and beta are f32 for every format but f64.
    if (format == Format::F64)
        compute(call, x, w, y, *static_cast<const double *>(alpha), *static_cast<const double *>(beta));
    else
        compute(call, x, w, y, *static_cast<const float *>(alpha), *static_cast<const float *>(beta));
    return SUCCESS;
}

} // extern "C"
