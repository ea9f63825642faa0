/* The loops over time of LSTM and GRU, over a block of rows.

   They do what cells.py does with torch, but the gates of a step in one pass over memory, and no
   call and no tensor for each step. Matrices are row-major, float32. Products go to the BLAS that
   torch brings. A NaN stays a NaN. */

#include <math.h>
#include <stdint.h>
#include <string.h>

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

/* A polynomial where exp would cancel (Cephes). */
static inline float hyperbolic_tangent(float x) {
    const float s = x * x;
    float p = -5.70498872745e-3f;
    p = p * s + 2.06390887954e-2f;
    p = p * s - 5.37397155531e-2f;
    p = p * s + 1.33314422036e-1f;
    p = p * s - 3.33332819422e-1f;
    p = p * s * x + x;
    const float large = 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f);
    return s < 0.390625f ? p : large;
}

/* out [n, columns] = start out + left [n, inner] right', right [columns, inner] */
static void times_transposed(Sgemm sgemm, float *out, const float *left, const float *right,
                             int n, int columns, int inner, int stride, float start) {
    const float one = 1.0f;
    sgemm("T", "N", &columns, &n, &inner, &one, right, &inner, left, &inner, &start, out, &stride);
}

/* out [n, columns] = start out + left [n, inner] right, right [inner, columns] */
static void times(Sgemm sgemm, float *out, const float *left, const float *right, int n,
                  int columns, int inner, float start) {
    const float one = 1.0f;
    sgemm("N", "N", &columns, &n, &inner, &one, right, &columns, left, &inner, &start, out,
          &columns);
}

/* What the gates get without the recurrence: gates [M', width].

   projected [S, width]; place [M'] says which of its rows each position reads;
   context [rows, width] or NULL. */
static void gather(float *gates, const float *projected, const int64_t *place,
                   const float *context, int size, int width) {
    for (int row = 0; row < size; row++) {
        const float *source = projected + place[row] * (int64_t)width;
        float *target = gates + row * (int64_t)width;
        if (context) {
            const float *more = context + row * (int64_t)width;
            for (int j = 0; j < width; j++) target[j] = source[j] + more[j];
        } else {
            memcpy(target, source, width * sizeof(float));
        }
    }
}

/* The transpose of gather, added. */
static void scatter(float *projected, const int64_t *place, float *context, const float *gates,
                    int size, int width) {
    for (int row = 0; row < size; row++) {
        const float *source = gates + row * (int64_t)width;
        float *target = projected + place[row] * (int64_t)width;
        for (int j = 0; j < width; j++) target[j] += source[j];
        if (context) {
            float *more = context + row * (int64_t)width;
            for (int j = 0; j < width; j++) more[j] += source[j];
        }
    }
}

/* A block of rows through all times. sizes[t] rows hold a symbol at time t, never rising; their
   positions begin at starts[t] in place and hiddens; gates, cells and squashed hold the block's
   own positions one after another. first_* [sizes[0], h]. */
void lstm_forward(Sgemm sgemm, int times_, int h, const int64_t *sizes, const int64_t *starts,
                  const int64_t *place, const float *projected, const float *context,
                  const float *weight, const float *first_hidden, const float *first_cell,
                  float *gates, float *cells, float *squashed, float *hiddens) {
    const float *before = first_hidden, *cell_before = first_cell;
    for (int t = 0; t < times_; t++) {
        const int n = (int)sizes[t];
        float *hidden = hiddens + starts[t] * h;
        gather(gates, projected, place + starts[t], context, n, 4 * h);
        times_transposed(sgemm, gates, before, weight, n, 4 * h, h, 4 * h, 1.0f);
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

/* gates, cells and squashed as lstm_forward left them; d_hidden, d_cell [rows, h] begin at 0 and
   end as the gradient of the first states; d_projected and d_context are added to; d_gates
   [M', 4 h] is filled. */
void lstm_backward(Sgemm sgemm, int times_, int h, const int64_t *sizes, const int64_t *starts,
                   const int64_t *place, float *d_projected, float *d_context,
                   const float *weight, const float *first_cell, const float *gates,
                   const float *cells, const float *squashed, const float *gradient,
                   float *d_gates, float *d_hidden, float *d_cell) {
    int64_t position = 0;
    for (int t = 0; t < times_; t++) position += sizes[t];
    for (int t = times_ - 1; t >= 0; t--) {
        const int n = (int)sizes[t];
        position -= n;
        const float *cell_before = t ? cells + (position - sizes[t - 1]) * h : first_cell;
        float *d_now = d_gates + position * 4 * h;
        for (int row = 0; row < n; row++) {
            const float *restrict gate = gates + (position + row) * 4 * h;
            const float *restrict last = cell_before + (int64_t)row * h;
            const float *restrict q = squashed + (position + row) * h;
            const float *restrict d_out = gradient + (starts[t] + row) * h;
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
        times(sgemm, d_hidden, d_now, weight, n, h, 4 * h, 0.0f);
        scatter(d_projected, place + starts[t], d_context, d_now, n, 4 * h);
    }
}

/* As lstm_forward, with gates r z n; news holds the new gate's recurrent part, bias included. */
void gru_forward(Sgemm sgemm, int times_, int h, const int64_t *sizes, const int64_t *starts,
                 const int64_t *place, const float *projected, const float *context,
                 const float *weight, const float *new_bias, const float *first_hidden,
                 float *gates, float *news, float *hiddens) {
    const float *before = first_hidden;
    for (int t = 0; t < times_; t++) {
        const int n = (int)sizes[t];
        float *hidden = hiddens + starts[t] * h;
        gather(gates, projected, place + starts[t], context, n, 3 * h);
        times_transposed(sgemm, gates, before, weight, n, 2 * h, h, 3 * h, 1.0f);
        times_transposed(sgemm, news, before, weight + (int64_t)2 * h * h, n, h, h, h, 0.0f);
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

/* As lstm_backward; recurrent [M', 3 h] is filled with the gradient of the recurrence's part of the
   gates. */
void gru_backward(Sgemm sgemm, int times_, int h, const int64_t *sizes, const int64_t *starts,
                  const int64_t *place, float *d_projected, float *d_context,
                  const float *weight, const float *first_hidden, const float *gates,
                  const float *news, const float *hiddens, const float *gradient, float *d_gates,
                  float *recurrent, float *d_hidden) {
    int64_t position = 0;
    for (int t = 0; t < times_; t++) position += sizes[t];
    for (int t = times_ - 1; t >= 0; t--) {
        const int n = (int)sizes[t];
        position -= n;
        const float *before = t ? hiddens + starts[t - 1] * h : first_hidden;
        float *d_now = d_gates + position * 3 * h, *by_now = recurrent + position * 3 * h;
        for (int row = 0; row < n; row++) {
            const float *restrict gate = gates + (position + row) * 3 * h;
            const float *restrict fresh = news + (position + row) * h;
            const float *restrict last = before + (int64_t)row * h;
            const float *restrict d_out = gradient + (starts[t] + row) * h;
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
        times(sgemm, d_hidden, by_now, weight, n, h, 3 * h, 1.0f);
        scatter(d_projected, place + starts[t], d_context, d_now, n, 3 * h);
    }
}
