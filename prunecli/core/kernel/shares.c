/* How a global amount is divided: the share of a block, as `_hypergeometric` in random_stream.py computes it. */

#include "kernel.h"

#include <float.h>

/* Turn `fraction` into the number of `draws` that fall on the `good` ones of all, by inversion over the probabilities
 * from `low` to `high` around the `mode`; `rest` are all, less `good`, less `draws`. The result is that of numpy to the
 * bit, since both round each operation alike. Returns -1 if nothing was done: there is not enough memory, or doubles
 * have more digits here. */
EXPORTED int64_t prunecli_share(double fraction, double rest, double good, double draws, int64_t mode, int64_t low,
                                int64_t high) {
    int64_t count = high - low + 1, first = 0, stop = count;
    double *sums = FLT_EVAL_METHOD == 0 ? malloc((size_t)count * sizeof *sums) : NULL, weight = 1.0;
    if (!sums)
        return -1;
    sums[mode - low] = 1.0;
    for (int64_t at = mode; at > low; at--) {
        double x = (double)at;
        weight *= (rest + x) * x / ((good + 1 - x) * (draws + 1 - x));
        sums[at - low - 1] = weight;
    }
    weight = 1.0;
    for (int64_t at = mode; at < high; at++) {
        double x = (double)at;
        weight *= (good - x) * (draws - x) / ((x + 1) * (rest + 1 + x));
        sums[at - low + 1] = weight;
    }
    for (int64_t at = 1; at < count; at++)
        sums[at] += sums[at - 1];
    for (double target = fraction * sums[count - 1]; first < stop;) {
        int64_t middle = first + (stop - first) / 2;
        if (sums[middle] <= target)
            first = middle + 1;
        else
            stop = middle;
    }
    free(sums);
    return low + first;
}
