/* The loops over time of LSTM and GRU, over blocks of rows that threads share.

   They do what nn.LSTM and nn.GRU do, but the gates of a step in one pass over memory, and without
   a call and a tensor for each step. Matrices are row-major, float32. G is 4 h for an LSTM (gates
   i f g o) and 3 h for a GRU (gates r z n).
   Products are computed by the BLAS of torch, in threads of OpenMP, which torch uses too; each
   worker's part is fixed beforehand, so that sums have the same rounding every time. A NaN stays a
   NaN. */

#include "exponential.h"

/* The workers of a plan side by side, each a turn of the loop that follows. */
#define BY_WORKERS _Pragma("omp parallel for num_threads(plan.workers) schedule(static, 1)")
/* Each worker's blocks, in their order. */
#define FOR_BLOCKS(worker, number)                                                                \
    BY_WORKERS for (int worker = 0; worker < plan.workers; worker++)                              \
        for (int64_t number = plan.shares[worker]; number < plan.shares[worker + 1]; number++)

/* The passes of the loop that follows read nothing that another one writes. */
#ifdef __clang__
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

typedef void (*Sgemm)(const char *, const char *, const int *, const int *, const int *,
                      const float *, const float *, const int *, const float *, const int *,
                      const float *, float *, const int *);

static inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

/* A rational function of least error up to 7.9, where tanh becomes 1 in float32 (as in Eigen). */
static inline float hyperbolic_tangent(float x) {
    x = x > 7.90531110763549805f ? 7.90531110763549805f : x;
    x = x < -7.90531110763549805f ? -7.90531110763549805f : x;
    const float s = x * x;
    float p = -2.76076847742355e-16f;
    p = p * s + 2.00018790482477e-13f;
    p = p * s - 8.60467152213735e-11f;
    p = p * s + 5.12229709037114e-08f;
    p = p * s + 1.48572235717979e-05f;
    p = p * s + 6.37261928875436e-04f;
    p = p * s + 4.89352455891786e-03f;
    float q = 1.19825839466702e-06f;
    q = q * s + 1.18534705686654e-04f;
    q = q * s + 2.26843463243900e-03f;
    q = q * s + 4.89352518554385e-03f;
    return x * p / q;
}

/* out [n, columns] = start out + left [n, inner] right, right [inner, columns]; rows of right and
   of out lie their strides apart. A product with a transposed right is slow where n is
   small. */
static void times(Sgemm sgemm, float *out, int out_stride, const float *left, const float *right,
                  int right_stride, int n, int columns, int inner, float start) {
    const float one = 1.0f;
    sgemm("N", "N", &columns, &n, &inner, &one, right, &right_stride, left, &inner, &start, out,
          &out_stride);
}

/* How a loop runs; blocks.Plan documents the numbers. */
typedef struct {
    int workers;
    int64_t h, directions, inputs, rows, positions, longest;
    const int64_t *shares, *blocks, *sizes, *starts;
} Plan;

/* Rows of one direction: the first of them, where their positions lie in memory that holds block
   after block, and at each time how many hold a symbol, never rising, and where their packed
   positions begin. */
typedef struct {
    int64_t direction, row, own, positions;
    int times;
    const int64_t *sizes, *starts;
} Block;

static Plan plan_of(const int64_t *numbers) {
    Plan plan = {.workers = (int)numbers[0], .h = numbers[1], .directions = numbers[2],
                 .inputs = numbers[3], .rows = numbers[4], .positions = numbers[5],
                 .longest = numbers[6], .shares = numbers + 9};
    plan.blocks = plan.shares + plan.workers + 1;
    plan.sizes = plan.blocks + 6 * numbers[7];
    plan.starts = plan.sizes + numbers[8];
    return plan;
}

static Block block_of(Plan plan, int64_t index) {
    const int64_t *w = plan.blocks + 6 * index;
    const Block block = {w[0], w[1], w[2], w[3], (int)w[4], plan.sizes + w[5], plan.starts + w[5]};
    return block;
}

/* What the gates get without the recurrence: gates [n, width], for n packed positions from start.

   projected [S, width]; index [M], the row of it that each position reads, or NULL if each reads
   its own; context [rows, width] or NULL. */
static void gather(float *gates, const float *projected, const int64_t *index,
                   const float *context, int64_t start, int n, int64_t width) {
    for (int row = 0; row < n; row++) {
        const float *source = projected + (index ? index[start + row] : start + row) * width;
        float *target = gates + row * width;
        if (context) {
            const float *more = context + row * width;
            for (int j = 0; j < width; j++) target[j] = source[j] + more[j];
        } else {
            memcpy(target, source, width * sizeof(float));
        }
    }
}

/* The transpose of gather, added; a position that has its own row fills it. */
static void scatter(float *projected, const int64_t *index, float *context, const float *gates,
                    int64_t start, int n, int64_t width) {
    for (int row = 0; row < n; row++) {
        const float *source = gates + row * width;
        float *target = projected + (index ? index[start + row] : start + row) * width;
        if (index)
            for (int j = 0; j < width; j++) target[j] += source[j];
        else
            memcpy(target, source, width * sizeof(float));
        if (context) {
            float *more = context + row * width;
            for (int j = 0; j < width; j++) more[j] += source[j];
        }
    }
}

/* d_weight [width, h] += d_gates' times the states before them; d_gates [M', width] is a block's.
   previous [M', h] is filled with those states: first [rows, h], then hiddens [M, h]. */
static void add_weight_gradient(Sgemm sgemm, Block block, int64_t h, int64_t width,
                                const float *d_gates, const float *first, const float *hiddens,
                                float *previous, float *d_weight) {
    const int inner = (int)block.positions, columns = (int)h, n = (int)width;
    float *next = previous;
    for (int t = 0; t < block.times; t++) {
        const float *states = t ? hiddens + block.starts[t - 1] * h : first;
        memcpy(next, states, block.sizes[t] * h * sizeof(float));
        next += block.sizes[t] * h;
    }
    const float one = 1.0f;
    sgemm("N", "T", &columns, &n, &inner, &one, previous, &columns, d_gates, &n, &one, d_weight,
          &columns);
}

/* What several blocks of a direction add to: out [D, size]. The first worker of a direction adds to
   out, every other to its own part of spare [workers, stride, of which the sum is a part]. */
typedef struct {
    float *out, *spare;
    int64_t size;
} Sum;

static int has_blocks(Plan plan, int worker, int64_t direction) {
    for (int64_t b = plan.shares[worker]; b < plan.shares[worker + 1]; b++)
        if (block_of(plan, b).direction == direction) return 1;
    return 0;
}

static int first_worker(Plan plan, int64_t direction) {
    for (int worker = 0; worker < plan.workers; worker++)
        if (has_blocks(plan, worker, direction)) return worker;
    return 0;
}

static float *part_of(Plan plan, Sum sum, int64_t stride, int worker, int64_t direction) {
    const int is_first = worker == first_worker(plan, direction);
    return (is_first ? sum.out : sum.spare + worker * stride) + direction * sum.size;
}

/* All parts begin at 0. */
static void clear(Plan plan, const Sum *sums, int count, int64_t stride) {
    BY_WORKERS for (int worker = 0; worker < plan.workers; worker++)
        for (int64_t d = 0; d < plan.directions; d++)
            if (worker == first_worker(plan, d) || has_blocks(plan, worker, d))
                for (int i = 0; i < count; i++)
                    memset(part_of(plan, sums[i], stride, worker, d), 0,
                           sums[i].size * sizeof(float));
}

/* The other workers' parts are added to out, in their order. */
static void total(Plan plan, const Sum *sums, int count, int64_t stride) {
    BY_WORKERS for (int share = 0; share < plan.workers; share++)
        for (int64_t d = 0; d < plan.directions; d++)
            for (int worker = first_worker(plan, d) + 1; worker < plan.workers; worker++)
                for (int i = 0; i < count && has_blocks(plan, worker, d); i++) {
                    const float *part = part_of(plan, sums[i], stride, worker, d);
                    float *out = sums[i].out + d * sums[i].size;
                    const int64_t end = sums[i].size * (share + 1) / plan.workers;
                    for (int64_t j = sums[i].size * share / plan.workers; j < end; j++)
                        out[j] += part[j];
                }
}

/* A step of n rows: gates [n, 4 h], the recurrence included, become their activations; cells,
   squashed (their tanh) and out, all [n, h], are filled. */
static void lstm_step(int n, int h, float *gates, const float *cells_before, float *cells,
                      float *squashed, float *out) {
    for (int64_t row = 0; row < n; row++) {
        float *restrict gate = gates + row * 4 * h, *restrict hidden = out + row * h;
        float *restrict c = cells + row * h, *restrict q = squashed + row * h;
        const float *restrict last = cells_before + row * h;
        INDEPENDENT for (int j = 0; j < h; j++) {
            const float i = sigmoid(gate[j]), f = sigmoid(gate[h + j]);
            const float g = hyperbolic_tangent(gate[2 * h + j]), o = sigmoid(gate[3 * h + j]);
            const float now = f * last[j] + i * g, tanh_now = hyperbolic_tangent(now);
            gate[j] = i, gate[h + j] = f, gate[2 * h + j] = g, gate[3 * h + j] = o;
            c[j] = now, q[j] = tanh_now, hidden[j] = o * tanh_now;
        }
    }
}

/* The gradient of a step: d_gates [n, 4 h] is filled; d_hidden, of the states but for their own
   gradient d_out, is read; d_cells becomes that of the cells before. */
static void lstm_step_gradient(int n, int h, const float *gates, const float *cells_before,
                               const float *squashed, const float *d_out, const float *d_hidden,
                               float *d_cells, float *d_gates) {
    for (int64_t row = 0; row < n; row++) {
        const float *restrict gate = gates + row * 4 * h, *restrict q = squashed + row * h;
        const float *restrict last = cells_before + row * h, *restrict d_o = d_out + row * h;
        const float *restrict d_h = d_hidden + row * h;
        float *restrict d_c = d_cells + row * h, *restrict d = d_gates + row * 4 * h;
        INDEPENDENT for (int j = 0; j < h; j++) {
            const float i = gate[j], f = gate[h + j], g = gate[2 * h + j], o = gate[3 * h + j];
            const float by_hidden = d_h[j] + d_o[j];
            const float by_cell = d_c[j] + by_hidden * o * (1.0f - q[j] * q[j]);
            d[j] = by_cell * g * i * (1.0f - i);
            d[h + j] = by_cell * last[j] * f * (1.0f - f);
            d[2 * h + j] = by_cell * i * (1.0f - g * g);
            d[3 * h + j] = by_hidden * q[j] * o * (1.0f - o);
            d_c[j] = by_cell * f;
        }
    }
}

/* As lstm_step, with gates [n, 3 h], of which the new one lacks the recurrence: news [n, h], to
   which new_bias [h] is added. */
static void gru_step(int n, int h, float *gates, const float *before, const float *new_bias,
                     float *news, float *out) {
    for (int64_t row = 0; row < n; row++) {
        float *restrict gate = gates + row * 3 * h, *restrict hidden = out + row * h;
        float *restrict fresh = news + row * h;
        const float *restrict last = before + row * h;
        INDEPENDENT for (int j = 0; j < h; j++) {
            const float r = sigmoid(gate[j]), z = sigmoid(gate[h + j]);
            const float recurrent = fresh[j] + new_bias[j];
            const float n_ = hyperbolic_tangent(gate[2 * h + j] + r * recurrent);
            gate[j] = r, gate[h + j] = z, gate[2 * h + j] = n_, fresh[j] = recurrent;
            hidden[j] = n_ + z * (last[j] - n_);
        }
    }
}

/* As lstm_step_gradient; recurrent [n, 3 h] is filled with the gradient of the recurrence's part of
   the gates, and d_hidden becomes the part of the states before that passes by the gates. */
static void gru_step_gradient(int n, int h, const float *gates, const float *before,
                              const float *news, const float *d_out, float *d_hidden,
                              float *recurrent, float *d_gates) {
    for (int64_t row = 0; row < n; row++) {
        const float *restrict gate = gates + row * 3 * h, *restrict fresh = news + row * h;
        const float *restrict last = before + row * h, *restrict d_o = d_out + row * h;
        float *restrict d_h = d_hidden + row * h, *restrict d = d_gates + row * 3 * h;
        float *restrict by = recurrent + row * 3 * h;
        INDEPENDENT for (int j = 0; j < h; j++) {
            const float r = gate[j], z = gate[h + j], n_ = gate[2 * h + j];
            const float by_hidden = d_h[j] + d_o[j];
            const float d_n = by_hidden * (1.0f - z) * (1.0f - n_ * n_);
            const float d_r = d_n * fresh[j] * r * (1.0f - r);
            const float d_z = by_hidden * (last[j] - n_) * z * (1.0f - z);
            d[j] = by[j] = d_r, d[h + j] = by[h + j] = d_z;
            d[2 * h + j] = d_n, by[2 * h + j] = d_n * r;
            d_h[j] = by_hidden * z;
        }
    }
}

/* All rows through all times: hiddens [D, M, h] are filled.

   num_gates 4 or 3; projected [D, S, G]; index [D, M] or NULL; context [D, rows, G] or NULL;
   transposed, of the weight, [D, h, G]; first_hidden [D, rows, h]; extra, the first cells
   [D, rows, h] or a GRU's new_bias [D, h]. For the backward pass, block after block: gates
   [D M, G]; cells, or a GRU's news, [D M, h]; squashed [D M, h], NULL for a GRU. */
void forward(Sgemm sgemm, int num_gates, const int64_t *numbers, const float *projected,
             const int64_t *index, const float *context, const float *transposed,
             const float *first_hidden, const float *extra, float *gates, float *cells,
             float *squashed, float *hiddens) {
    const Plan plan = plan_of(numbers);
    const int h = (int)plan.h, g = num_gates * h, is_lstm = num_gates == 4;
    FOR_BLOCKS(worker, number) {
        const Block block = block_of(plan, number);
        const int64_t d = block.direction, row = d * plan.rows + block.row;
        const int64_t *own_index = index ? index + d * plan.positions : NULL;
        const float *weight = transposed + d * g * h, *before = first_hidden + row * h;
        const float *last = extra + (is_lstm ? row : d) * h;
        int64_t own = block.own;
        for (int t = 0; t < block.times; t++) {
            const int n = (int)block.sizes[t];
            float *gate = gates + own * g, *cell = cells + own * h;
            float *hidden = hiddens + (d * plan.positions + block.starts[t]) * h;
            gather(gate, projected + d * plan.inputs * g, own_index,
                   context ? context + row * g : NULL, block.starts[t], n, g);
            times(sgemm, gate, g, before, weight, g, n, is_lstm ? g : 2 * h, h, 1.0f);
            if (is_lstm) {
                lstm_step(n, h, gate, last, cell, squashed + own * h, hidden);
                last = cell;
            } else {
                times(sgemm, cell, h, before, weight + 2 * h, g, n, h, h, 0.0f);
                gru_step(n, h, gate, before, last, cell, hidden);
            }
            before = hidden, own += n;
        }
    }
}

/* The gradients, from that of hiddens. d_projected, d_weight and a GRU's d_extra are filled;
   d_context, d_hidden and an LSTM's d_extra begin at 0. scratch [workers, longest, G + h], for a
   GRU 2 G + h; spare [workers, numbers in what is filled], without d_projected if index is NULL. */
void backward(Sgemm sgemm, int num_gates, const int64_t *numbers, float *d_projected,
              const int64_t *index, float *d_context, const float *weight,
              const float *first_hidden, const float *extra, const float *gates,
              const float *cells, const float *squashed, const float *hiddens,
              const float *gradient, float *scratch, float *spare, float *d_weight, float *d_extra,
              float *d_hidden) {
    const Plan plan = plan_of(numbers);
    const int h = (int)plan.h, g = num_gates * h, is_lstm = num_gates == 4;
    const int64_t of_weight = g * h, of_bias = is_lstm ? 0 : h, of_inputs = plan.inputs * g;
    float *spare_bias = spare + plan.directions * of_weight;
    const Sum sums[] = {{d_weight, spare, of_weight},
                        {d_extra, spare_bias, of_bias},
                        {d_projected, spare_bias + plan.directions * of_bias, of_inputs}};
    const int count = index ? 3 : 2;
    const int64_t stride = plan.directions * (of_weight + of_bias + (index ? of_inputs : 0));
    clear(plan, sums, count, stride);
    FOR_BLOCKS(worker, number) {
        const Block block = block_of(plan, number);
        const int64_t d = block.direction, row = d * plan.rows + block.row;
        const int64_t here = d * plan.positions;
        float *d_gates = scratch + worker * plan.longest * ((is_lstm ? 1 : 2) * g + h);
        float *recurrent = is_lstm ? d_gates : d_gates + plan.longest * g;
        float *d_inputs = index ? part_of(plan, sums[2], stride, worker, d)
                                : d_projected + d * of_inputs;
        int64_t position = block.positions;
        for (int t = block.times - 1; t >= 0; t--) {
            const int n = (int)block.sizes[t];
            position -= n;
            const int64_t own = block.own + position;
            const float *before = first_hidden + row * h, *last = extra + row * h;
            if (t) before = hiddens + (here + block.starts[t - 1]) * h;
            if (t) last = cells + (own - block.sizes[t - 1]) * h;
            const float *d_out = gradient + (here + block.starts[t]) * h;
            float *d_now = d_gates + position * g, *by_now = recurrent + position * g;
            if (is_lstm)
                lstm_step_gradient(n, h, gates + own * g, last, squashed + own * h, d_out,
                                   d_hidden + row * h, d_extra + row * h, d_now);
            else
                gru_step_gradient(n, h, gates + own * g, before, cells + own * h, d_out,
                                  d_hidden + row * h, by_now, d_now);
            times(sgemm, d_hidden + row * h, h, by_now, weight + d * of_weight, h, n, h, g,
                  is_lstm ? 0.0f : 1.0f);
            scatter(d_inputs, index ? index + here : NULL, d_context ? d_context + row * g : NULL,
                    d_now, block.starts[t], n, g);
        }
        add_weight_gradient(sgemm, block, h, g, recurrent, first_hidden + row * h,
                            hiddens + here * h, recurrent + plan.longest * g,
                            part_of(plan, sums[0], stride, worker, d));
        float *bias = part_of(plan, sums[1], stride, worker, d);
        for (int64_t i = 0; i < block.positions && !is_lstm; i++)
            for (int64_t j = 0; j < h; j++) bias[j] += recurrent[(3 * i + 2) * h + j];
    }
    total(plan, sums, count, stride);
}
