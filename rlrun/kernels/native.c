/* The optional C half of the kernels. Compiled without contraction into fused multiply-adds, so its bits are those of NumPy.

   First, backward of a stack of MLPs and forward of those with ReLU: the same matrix products as kernels/mlp.py, by the BLAS that NumPy brings,
   with what lies between them done while the numbers are still in the cache.

   Layers 0 .. layers-1 are hidden, layer `layers` is the linear head; layer l turns sizes[l] numbers into sizes[l + 1].
   Row a of `parameters` (and of `gradients`) is agent a's; weights[l] and biases[l] are the places of its blocks in the row.
   activations[l] is the memory [agents, batch, sizes[l + 1]] of layer l's results; slopes[l] that of their derivatives. */

#include <stdint.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef int64_t integer;
typedef void (*gemm_function)(int, int, int, integer, integer, integer, float, const float *, integer, const float *, integer, float,
                              float *, integer);
typedef void (*gemv_function)(int, int, integer, integer, float, const float *, integer, const float *, integer, float, float *, integer);
typedef float (*dot_function)(integer, const float *, integer, const float *, integer);

enum { ROW_MAJOR = 101, COLUMN_MAJOR = 102, PLAIN = 111, TRANSPOSED = 112 };

typedef struct {
    gemm_function gemm;
    gemv_function gemv;
    dot_function dot;
    integer agents, batch, layers, row_length, relu;
    const integer *sizes, *weights, *biases;
    const float *parameters;
    float *gradients;
    float **activations, **slopes;
    const float *ones; /* [batch] */
} stack;

/* y [m, n] = x [m, k] w [k, n], by the function of BLAS that NumPy takes for these sizes; k > 1. */
static void multiply(const stack *s, integer m, integer n, integer k, const float *x, integer x_step, const float *w, float *y)
{
    if (m == 1 && n == 1)
        *y = s->dot(k, x, 1, w, 1);
    else if (m == 1)
        s->gemv(ROW_MAJOR, TRANSPOSED, k, n, 1, w, n, x, 1, 0, y, 1);
    else if (n == 1)
        s->gemv(COLUMN_MAJOR, TRANSPOSED, k, m, 1, x, x_step, w, 1, 0, y, 1);
    else
        s->gemm(ROW_MAJOR, PLAIN, PLAIN, m, n, k, 1, x, x_step, w, n, 0, y, n);
}

static void add_bias(float *y, const float *bias, integer rows, integer width, int relu)
{
    for (integer row = 0; row < rows; row++, y += width)
        if (relu)
            for (integer i = 0; i < width; i++) {
                float value = y[i] + bias[i];
                y[i] = value <= 0 ? 0 : value; /* nan stays nan */
            }
        else
            for (integer i = 0; i < width; i++)
                y[i] += bias[i];
}

/* Of ReLU networks. x: [agents, batch, sizes[0]], its rows x_row apart and its agents x_agent apart, in floats. */
void forward(const stack *s, const float *x, integer x_agent, integer x_row)
{
    for (integer agent = 0; agent < s->agents; agent++) {
        const float *row = s->parameters + agent * s->row_length, *input = x + agent * x_agent;
        integer step = x_row;
        for (integer layer = 0; layer <= s->layers; layer++) {
            integer in = s->sizes[layer], out = s->sizes[layer + 1];
            float *y = s->activations[layer] + agent * s->batch * out;
            multiply(s, s->batch, out, in, input, step, row + s->weights[layer], y);
            add_bias(y, row + s->biases[layer], s->batch, out, layer < s->layers);
            input = y;
            step = out;
        }
    }
}

/* The gradients of a layer's weights [in, out] and biases [out]; batch > 1. */
static void layer_gradients(const stack *s, integer in, integer out, const float *input, integer step, const float *slope,
                            float *weights, float *biases)
{
    if (out == 1) {
        s->gemv(ROW_MAJOR, TRANSPOSED, s->batch, in, 1, input, step, slope, 1, 0, weights, 1);
        *biases = s->dot(s->batch, s->ones, 1, slope, 1);
    } else {
        s->gemm(ROW_MAJOR, TRANSPOSED, PLAIN, in, out, s->batch, 1, input, step, slope, out, 0, weights, out);
        s->gemv(ROW_MAJOR, TRANSPOSED, s->batch, out, 1, slope, out, s->ones, 1, 0, biases, 1);
    }
}

/* The derivatives of a hidden layer's inputs to its activation, below [batch, in], from those of the next layer's, slope [batch, out]. */
static void pass_down(const stack *s, integer in, integer out, const float *activation, const float *slope, const float *weights,
                      float *below)
{
    if (out == 1)
        for (integer sample = 0; sample < s->batch; sample++)
            for (integer i = 0; i < in; i++)
                below[sample * in + i] = slope[sample] * weights[i];
    else
        s->gemm(ROW_MAJOR, PLAIN, TRANSPOSED, s->batch, in, out, 1, slope, out, weights, out, 0, below, in);
    if (s->relu)
        for (integer i = 0; i < s->batch * in; i++)
            below[i] *= activation[i] > 0 ? 1.0f : 0.0f;
    else /* tanh */
        for (integer i = 0; i < s->batch * in; i++)
            below[i] *= 1 - activation[i] * activation[i];
}

/* dy: [agents, batch, outputs], the derivatives of the results of the last forward pass with the same x. */
void backward(const stack *s, const float *x, integer x_agent, integer x_row, const float *dy)
{
    for (integer agent = 0; agent < s->agents; agent++) {
        const float *row = s->parameters + agent * s->row_length;
        float *gradient = s->gradients + agent * s->row_length;
        const float *slope = dy + agent * s->batch * s->sizes[s->layers + 1];
        for (integer layer = s->layers; layer > 0; layer--) {
            integer in = s->sizes[layer], out = s->sizes[layer + 1];
            const float *input = s->activations[layer - 1] + agent * s->batch * in;
            float *below = s->slopes[layer - 1] + agent * s->batch * in;
            layer_gradients(s, in, out, input, in, slope, gradient + s->weights[layer], gradient + s->biases[layer]);
            pass_down(s, in, out, input, slope, row + s->weights[layer], below);
            slope = below;
        }
        layer_gradients(s, s->sizes[0], s->sizes[1], x + agent * x_agent, x_row, slope, gradient + s->weights[0], gradient + s->biases[0]);
    }
}

typedef struct {
    integer size;
    float *parameters;
    const float *gradients;
    float *first, *second, *largest; /* largest: NULL without AMSGrad */
    float beta1, rest1, beta2, rest2, epsilon;
} adam_row;

/* One step of Adam, as optim.Adam.step writes it with NumPy. */
void adam_step(const adam_row *row, float keep, float rate, float root, float limit, float scale)
{
    float *restrict parameters = row->parameters, *restrict first = row->first, *restrict second = row->second;
    const float *restrict gradients = row->gradients;
    float *restrict largest = row->largest;
    float beta1 = row->beta1, rest1 = row->rest1, beta2 = row->beta2, rest2 = row->rest2, epsilon = row->epsilon;
    for (integer i = 0; i < row->size; i++) {
        float slope = gradients[i];
        slope = slope < -limit ? -limit : slope;
        slope = slope > limit ? limit : slope;
        slope *= scale;
        first[i] = beta1 * first[i] + rest1 * slope;
        second[i] = beta2 * second[i] + rest2 * slope * slope;
    }
    if (largest)
        for (integer i = 0; i < row->size; i++)
            largest[i] = largest[i] > second[i] ? largest[i] : second[i];
    const float *spread = largest ? largest : second;
    for (integer i = 0; i < row->size; i++)
        parameters[i] = parameters[i] * keep - rate * first[i] / (__builtin_sqrtf(spread[i]) / root + epsilon);
}

/* target += share (source - target) */
void move_towards(integer size, float *restrict target, const float *restrict source, float share)
{
    for (integer i = 0; i < size; i++)
        target[i] += (source[i] - target[i]) * share;
}

/* Whether this thread's floating-point unit treats denormal numbers as 0. */
void flush_denormals(integer wanted)
{
#if defined(__x86_64__)
    unsigned bits = 0x8040; /* results that are denormal, and operands */
    _mm_setcsr(wanted ? _mm_getcsr() | bits : _mm_getcsr() & ~bits);
#elif defined(__aarch64__)
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    uint64_t bit = 1 << 24;
    __asm__ volatile("msr fpcr, %0" : : "r"(wanted ? control | bit : control & ~bit));
#endif
}
