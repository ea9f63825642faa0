/* The loops over time of LSTM and GRU, over blocks of rows that threads share, and a softmax.

   They do what nn.LSTM, nn.GRU and model/softmax.py do with torch, but the gates of a step in one
   pass over memory, and without a call and a tensor for each step. Matrices are row-major, float32.
   Products are computed by the BLAS of torch, in threads of OpenMP, which torch uses too; each
   worker's part is fixed beforehand, so that sums have the same rounding every time. A NaN stays a
   NaN. */

#include <math.h>
#include <stdint.h>
#include <string.h>

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

/* exp by 2^n times a polynomial (Cephes, S. Moshier): error below 2 ulp; no branch. */
static inline float exponential(float x) {
    x = x > 88.3f ? 88.3f : x;
    x = x < -87.3f ? -87.3f : x;
    const float n = floorf(x * 1.44269504088896341f + 0.5f);
    float r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const int32_t bits = ((int32_t)n + 127) * (1 << 23);
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

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

/* A block through all times; the arguments are the block's own, but for projected and index. */
static void lstm_forward_block(Sgemm sgemm, Block block, int h, const float *projected,
                               const int64_t *index, const float *context, const float *transposed,
                               const float *first_hidden, const float *first_cell, float *gates,
                               float *cells, float *squashed, float *hiddens) {
    const float *before = first_hidden, *cell_before = first_cell;
    for (int t = 0; t < block.times; t++) {
        const int n = (int)block.sizes[t];
        float *hidden = hiddens + block.starts[t] * h;
        gather(gates, projected, index, context, block.starts[t], n, 4 * h);
        times(sgemm, gates, 4 * h, before, transposed, 4 * h, n, 4 * h, h, 1.0f);
        for (int row = 0; row < n; row++) {
            float *restrict gate = gates + (int64_t)row * 4 * h;
            float *restrict c = cells + (int64_t)row * h, *restrict q = squashed + (int64_t)row * h;
            float *restrict out = hidden + (int64_t)row * h;
            const float *restrict last = cell_before + (int64_t)row * h;
            INDEPENDENT for (int j = 0; j < h; j++) {
                const float i = sigmoid(gate[j]), f = sigmoid(gate[h + j]);
                const float g = hyperbolic_tangent(gate[2 * h + j]), o = sigmoid(gate[3 * h + j]);
                const float now = f * last[j] + i * g, tanh_now = hyperbolic_tangent(now);
                gate[j] = i, gate[h + j] = f, gate[2 * h + j] = g, gate[3 * h + j] = o;
                c[j] = now, q[j] = tanh_now, out[j] = o * tanh_now;
            }
        }
        before = hidden, cell_before = cells;
        gates += (int64_t)n * 4 * h, cells += (int64_t)n * h, squashed += (int64_t)n * h;
    }
}

/* gates, cells and squashed as lstm_forward_block left them; d_hidden, d_cell [rows, h] begin at 0
   and end as the gradient of the first states; d_projected and d_context are added to; d_gates
   [M', 4 h] is filled. */
static void lstm_backward_block(Sgemm sgemm, Block block, int h, float *d_projected,
                                const int64_t *index, float *d_context, const float *weight,
                                const float *first_cell, const float *gates, const float *cells,
                                const float *squashed, const float *gradient, float *d_gates,
                                float *d_hidden, float *d_cell) {
    int64_t position = block.positions;
    for (int t = block.times - 1; t >= 0; t--) {
        const int n = (int)block.sizes[t];
        position -= n;
        const float *cell_before = t ? cells + (position - block.sizes[t - 1]) * h : first_cell;
        float *d_now = d_gates + position * 4 * h;
        for (int row = 0; row < n; row++) {
            const float *restrict gate = gates + (position + row) * 4 * h;
            const float *restrict last = cell_before + (int64_t)row * h;
            const float *restrict q = squashed + (position + row) * h;
            const float *restrict d_out = gradient + (block.starts[t] + row) * h;
            const float *restrict d_h = d_hidden + (int64_t)row * h;
            float *restrict d_c = d_cell + (int64_t)row * h;
            float *restrict d = d_now + (int64_t)row * 4 * h;
            INDEPENDENT for (int j = 0; j < h; j++) {
                const float i = gate[j], f = gate[h + j], g = gate[2 * h + j], o = gate[3 * h + j];
                const float by_hidden = d_h[j] + d_out[j];
                const float by_cell = d_c[j] + by_hidden * o * (1.0f - q[j] * q[j]);
                d[j] = by_cell * g * i * (1.0f - i);
                d[h + j] = by_cell * last[j] * f * (1.0f - f);
                d[2 * h + j] = by_cell * i * (1.0f - g * g);
                d[3 * h + j] = by_hidden * q[j] * o * (1.0f - o);
                d_c[j] = by_cell * f;
            }
        }
        times(sgemm, d_hidden, h, d_now, weight, h, n, h, 4 * h, 0.0f);
        scatter(d_projected, index, d_context, d_now, block.starts[t], n, 4 * h);
    }
}

/* As lstm_forward_block, with gates r z n; news holds the new gate's recurrent part and bias. */
static void gru_forward_block(Sgemm sgemm, Block block, int h, const float *projected,
                              const int64_t *index, const float *context, const float *transposed,
                              const float *new_bias, const float *first_hidden, float *gates,
                              float *news, float *hiddens) {
    const float *before = first_hidden;
    for (int t = 0; t < block.times; t++) {
        const int n = (int)block.sizes[t];
        float *hidden = hiddens + block.starts[t] * h;
        gather(gates, projected, index, context, block.starts[t], n, 3 * h);
        times(sgemm, gates, 3 * h, before, transposed, 3 * h, n, 2 * h, h, 1.0f);
        times(sgemm, news, h, before, transposed + 2 * h, 3 * h, n, h, h, 0.0f);
        for (int row = 0; row < n; row++) {
            float *restrict gate = gates + (int64_t)row * 3 * h;
            float *restrict fresh = news + (int64_t)row * h;
            float *restrict out = hidden + (int64_t)row * h;
            const float *restrict last = before + (int64_t)row * h;
            INDEPENDENT for (int j = 0; j < h; j++) {
                const float r = sigmoid(gate[j]), z = sigmoid(gate[h + j]);
                const float recurrent = fresh[j] + new_bias[j];
                const float n_ = hyperbolic_tangent(gate[2 * h + j] + r * recurrent);
                gate[j] = r, gate[h + j] = z, gate[2 * h + j] = n_, fresh[j] = recurrent;
                out[j] = n_ + z * (last[j] - n_);
            }
        }
        before = hidden;
        gates += (int64_t)n * 3 * h, news += (int64_t)n * h;
    }
}

/* As lstm_backward_block; recurrent [M', 3 h] is filled with the gradient of the recurrence's part
   of the gates. */
static void gru_backward_block(Sgemm sgemm, Block block, int h, float *d_projected,
                               const int64_t *index, float *d_context, const float *weight,
                               const float *first_hidden, const float *gates, const float *news,
                               const float *hiddens, const float *gradient, float *d_gates,
                               float *recurrent, float *d_hidden) {
    int64_t position = block.positions;
    for (int t = block.times - 1; t >= 0; t--) {
        const int n = (int)block.sizes[t];
        position -= n;
        const float *before = t ? hiddens + block.starts[t - 1] * h : first_hidden;
        float *d_now = d_gates + position * 3 * h, *by_now = recurrent + position * 3 * h;
        for (int row = 0; row < n; row++) {
            const float *restrict gate = gates + (position + row) * 3 * h;
            const float *restrict fresh = news + (position + row) * h;
            const float *restrict last = before + (int64_t)row * h;
            const float *restrict d_out = gradient + (block.starts[t] + row) * h;
            float *restrict d_h = d_hidden + (int64_t)row * h;
            float *restrict d = d_now + (int64_t)row * 3 * h;
            float *restrict by = by_now + (int64_t)row * 3 * h;
            INDEPENDENT for (int j = 0; j < h; j++) {
                const float r = gate[j], z = gate[h + j], n_ = gate[2 * h + j];
                const float by_hidden = d_h[j] + d_out[j];
                const float d_n = by_hidden * (1.0f - z) * (1.0f - n_ * n_);
                const float d_r = d_n * fresh[j] * r * (1.0f - r);
                const float d_z = by_hidden * (last[j] - n_) * z * (1.0f - z);
                d[j] = by[j] = d_r, d[h + j] = by[h + j] = d_z;
                d[2 * h + j] = d_n, by[2 * h + j] = d_n * r;
                d_h[j] = by_hidden * z;
            }
        }
        times(sgemm, d_hidden, h, by_now, weight, h, n, h, 3 * h, 1.0f);
        scatter(d_projected, index, d_context, d_now, block.starts[t], n, 3 * h);
    }
}

/* All rows through all times.

   projected [D, S, 4 h]; index [D, M] or NULL; context [D, rows, 4 h] or NULL; transposed, of the
   weight, [D, h, 4 h]; first_hidden, first_cell [D, rows, h]; gates [D M, 4 h], cells and
   squashed [D M, h] hold block after block; hiddens [D, M, h]. */
void lstm_forward(Sgemm sgemm, const int64_t *numbers, const float *projected, const int64_t *index,
                  const float *context, const float *transposed, const float *first_hidden,
                  const float *first_cell, float *gates, float *cells, float *squashed,
                  float *hiddens) {
    const Plan plan = plan_of(numbers);
    const int64_t h = plan.h;
    FOR_BLOCKS(worker, number) {
        const Block block = block_of(plan, number);
        const int64_t d = block.direction, row = d * plan.rows + block.row, own = block.own * h;
        lstm_forward_block(sgemm, block, h, projected + d * plan.inputs * 4 * h,
                           index ? index + d * plan.positions : NULL,
                           context ? context + row * 4 * h : NULL, transposed + d * 4 * h * h,
                           first_hidden + row * h, first_cell + row * h, gates + 4 * own,
                           cells + own, squashed + own, hiddens + d * plan.positions * h);
    }
}

/* The gradients, from that of hiddens. d_projected and d_weight are filled; d_context, d_hidden and
   d_cell begin at 0. scratch [workers, longest, 5 h]; spare [workers, numbers in d_projected, if
   there is an index, and in d_weight]. */
void lstm_backward(Sgemm sgemm, const int64_t *numbers, float *d_projected, const int64_t *index,
                   float *d_context, const float *weight, const float *first_hidden,
                   const float *first_cell, const float *gates, const float *cells,
                   const float *squashed, const float *hiddens, const float *gradient,
                   float *scratch, float *spare, float *d_weight, float *d_hidden, float *d_cell) {
    const Plan plan = plan_of(numbers);
    const int64_t h = plan.h, of_inputs = index ? plan.directions * plan.inputs * 4 * h : 0;
    const int64_t stride = of_inputs + plan.directions * 4 * h * h;
    const Sum sums[] = {{d_weight, spare + of_inputs, 4 * h * h},
                        {d_projected, spare, plan.inputs * 4 * h}};
    clear(plan, sums, index ? 2 : 1, stride);
    FOR_BLOCKS(worker, number) {
        const Block block = block_of(plan, number);
        const int64_t d = block.direction, row = d * plan.rows + block.row, own = block.own * h;
        const int64_t here = d * plan.positions * h;
        float *d_gates = scratch + worker * plan.longest * 5 * h;
        float *d_inputs = d_projected + d * plan.inputs * 4 * h;
        if (index) d_inputs = part_of(plan, sums[1], stride, worker, d);
        lstm_backward_block(sgemm, block, h, d_inputs, index ? index + d * plan.positions : NULL,
                            d_context ? d_context + row * 4 * h : NULL, weight + d * 4 * h * h,
                            first_cell + row * h, gates + 4 * own, cells + own, squashed + own,
                            gradient + here, d_gates, d_hidden + row * h, d_cell + row * h);
        add_weight_gradient(sgemm, block, h, 4 * h, d_gates, first_hidden + row * h, hiddens + here,
                            d_gates + plan.longest * 4 * h,
                            part_of(plan, sums[0], stride, worker, d));
    }
    total(plan, sums, index ? 2 : 1, stride);
}

/* As lstm_forward, with gates r z n; new_bias [D, h]; gates [D M, 3 h], news [D M, h]. */
void gru_forward(Sgemm sgemm, const int64_t *numbers, const float *projected, const int64_t *index,
                 const float *context, const float *transposed, const float *new_bias,
                 const float *first_hidden, float *gates, float *news, float *hiddens) {
    const Plan plan = plan_of(numbers);
    const int64_t h = plan.h;
    FOR_BLOCKS(worker, number) {
        const Block block = block_of(plan, number);
        const int64_t d = block.direction, row = d * plan.rows + block.row, own = block.own * h;
        gru_forward_block(sgemm, block, h, projected + d * plan.inputs * 3 * h,
                          index ? index + d * plan.positions : NULL,
                          context ? context + row * 3 * h : NULL, transposed + d * 3 * h * h,
                          new_bias + d * h, first_hidden + row * h, gates + 3 * own, news + own,
                          hiddens + d * plan.positions * h);
    }
}

/* As lstm_backward; scratch [workers, longest, 7 h]; d_bias [D, h] is filled too, and spare has
   memory for it. */
void gru_backward(Sgemm sgemm, const int64_t *numbers, float *d_projected, const int64_t *index,
                  float *d_context, const float *weight, const float *first_hidden,
                  const float *gates, const float *news, const float *hiddens,
                  const float *gradient, float *scratch, float *spare, float *d_weight,
                  float *d_bias, float *d_hidden) {
    const Plan plan = plan_of(numbers);
    const int64_t h = plan.h, of_inputs = index ? plan.directions * plan.inputs * 3 * h : 0;
    const int64_t of_weight = plan.directions * 3 * h * h;
    const int64_t stride = of_inputs + of_weight + plan.directions * h;
    const Sum sums[] = {{d_weight, spare + of_inputs, 3 * h * h},
                        {d_bias, spare + of_inputs + of_weight, h},
                        {d_projected, spare, plan.inputs * 3 * h}};
    clear(plan, sums, index ? 3 : 2, stride);
    FOR_BLOCKS(worker, number) {
        const Block block = block_of(plan, number);
        const int64_t d = block.direction, row = d * plan.rows + block.row, own = block.own * h;
        const int64_t here = d * plan.positions * h;
        float *d_gates = scratch + worker * plan.longest * 7 * h;
        float *recurrent = d_gates + plan.longest * 3 * h;
        float *d_inputs = d_projected + d * plan.inputs * 3 * h;
        if (index) d_inputs = part_of(plan, sums[2], stride, worker, d);
        gru_backward_block(sgemm, block, h, d_inputs, index ? index + d * plan.positions : NULL,
                           d_context ? d_context + row * 3 * h : NULL, weight + d * 3 * h * h,
                           first_hidden + row * h, gates + 3 * own, news + own, hiddens + here,
                           gradient + here, d_gates, recurrent, d_hidden + row * h);
        add_weight_gradient(sgemm, block, h, 3 * h, recurrent, first_hidden + row * h,
                            hiddens + here, recurrent + plan.longest * 3 * h,
                            part_of(plan, sums[0], stride, worker, d));
        float *bias = part_of(plan, sums[1], stride, worker, d);
        for (int64_t i = 0; i < block.positions; i++)
            for (int64_t j = 0; j < h; j++) bias[j] += recurrent[(3 * i + 2) * h + j];
    }
    total(plan, sums, index ? 3 : 2, stride);
}

/* Logits [n, size], to which table [K, size] of classes [n] is added unless it is NULL: log_prob
   [n] is that of targets [n]. With upstream [n] the logits become their gradient for it; without,
   they are undefined. */
void log_softmax(int64_t n, int64_t size, float *logits, const float *table,
                 const int64_t *classes, const int64_t *targets, const float *upstream,
                 float *log_prob) {
    for (int64_t row = 0; row < n; row++) {
        float *restrict x = logits + row * size;
        if (table) {
            const float *restrict more = table + classes[row] * size;
            for (int64_t j = 0; j < size; j++) x[j] += more[j];
        }
        const float chosen = x[targets[row]];
        float largest = x[0], sum = 0.0f;
        _Pragma("omp simd reduction(max : largest)") for (int64_t j = 0; j < size; j++)
            largest = x[j] > largest ? x[j] : largest;
        _Pragma("omp simd reduction(+ : sum)") for (int64_t j = 0; j < size; j++) {
            const float below = x[j] - largest;
            x[j] = below < -87.0f ? 0.0f : exponential(below); /* no denormal numbers */
            sum += x[j];
        }
        log_prob[row] = chosen - largest - logf(sum);
        if (upstream) {
            const float scale = -upstream[row] / sum;
            for (int64_t j = 0; j < size; j++) x[j] *= scale;
            x[targets[row]] += upstream[row];
        }
    }
}
