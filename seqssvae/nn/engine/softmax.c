/* The softmax of model/softmax.py in one pass over each row of logits; a NaN stays a NaN. */

#include "exponential.h"

/* Logits [n, size], to which table [K, size] of classes [n] is added unless it is NULL: log_prob
   [n] is that of targets [n]. With upstream [n] the logits become their gradient for it; without,
   they are undefined. Unless share [n] is NULL, upstream is the gradient of
   log(exp(share + log_prob) + exp(rest)). */
void log_softmax(int64_t n, int64_t size, float *logits, const float *table,
                 const int64_t *classes, const int64_t *targets, const float *upstream,
                 const float *share, const float *rest, float *log_prob) {
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
            float given = upstream[row];
            if (share) given /= 1.0f + expf(rest[row] - share[row] - log_prob[row]);
            const float scale = -given / sum;
            for (int64_t j = 0; j < size; j++) x[j] *= scale;
            x[targets[row]] += given;
        }
    }
}
