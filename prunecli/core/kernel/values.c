/* The order of values: keys of elements, which are in the order of their values, counted and compared.
 *
 * The counterparts in numpy are in core/order.py and core/row_ranks.py. Elements are turned into keys in steps that stay
 * in the fastest cache.
 */

#include "kernel.h"

/* How elements become keys: they are keys already, by magnitude, or as signed numbers. */
enum { AS_IS, MAGNITUDE, SIGNED };

/* Write the keys of at most STEP elements. NaNs, which are above `infinity` without their sign, get the largest key. */
#define KEYS(name, type)                                                                                             \
    static inline void name(const type *restrict raw, int64_t count, int32_t kind, uint64_t infinity,                \
                            type *restrict keys) {                                                                   \
        const type below = (type)((type)-1 >> 1), largest = (type)infinity;                                          \
        if (kind == AS_IS)                                                                                           \
            memcpy(keys, raw, (size_t)count * sizeof(type));                                                         \
        else if (kind == MAGNITUDE)                                                                                  \
            for (int64_t at = 0; at < count; at++) {                                                                 \
                type value = raw[at] & below;                                                                        \
                keys[at] = value > largest ? below : value;                                                          \
            }                                                                                                        \
        else                                                                                                         \
            for (int64_t at = 0; at < count; at++) {                                                                 \
                type value = raw[at] & below;                                                                        \
                type key = (type)(raw[at] > below ? below - value : below + value);                                  \
                keys[at] = value > largest ? (type)-1 : key;                                                         \
            }                                                                                                        \
    }
KEYS(keys_1, u8)
KEYS(keys_2, u16)
KEYS(keys_4, u32)
KEYS(keys_8, u64)

/* Do something by the width of keys, of which it gets the size in bytes and the type. */
#define BY_WIDTH(width, DO)                                                                                          \
    switch (width) {                                                                                                 \
    case 1: DO(1, u8) break;                                                                                         \
    case 2: DO(2, u16) break;                                                                                        \
    case 4: DO(4, u32) break;                                                                                        \
    default: DO(8, u64) break;                                                                                       \
    }

/* Write the keys of `count` elements of `width` <= 8 bytes. */
FOR_EACH_PROCESSOR
EXPORTED void prunecli_keys(const u8 *raw, int64_t count, int32_t width, int32_t kind, uint64_t infinity, u8 *keys) {
#define DO(size, type) keys_##size((const type *)raw, count, kind, infinity, (type *)keys);
    BY_WIDTH(width, DO)
#undef DO
}

/* Count at most STEP keys by their `bits` bits above `shift`, all keys, or those of candidates. Every other key is
 * counted in the second half of `counts`, since an addition would wait for an earlier one to the same number. */
#define ALL(name, type)                                                                                              \
    static inline void name(const type *restrict keys, int64_t count, const u8 *restrict left, int32_t shift,        \
                            int32_t bits, uint32_t *restrict counts) {                                               \
        uint32_t *others = counts + (INT64_C(1) << bits);                                                            \
        const uint32_t most = (UINT32_C(1) << bits) - 1;                                                             \
        int64_t at = 0;                                                                                              \
        if (left)                                                                                                    \
            for (; at + 2 <= count; at += 2) {                                                                       \
                counts[(uint32_t)(keys[at] >> shift) & most] += left[at];                                            \
                others[(uint32_t)(keys[at + 1] >> shift) & most] += left[at + 1];                                    \
            }                                                                                                        \
        else                                                                                                         \
            for (; at + 4 <= count; at += 4) {                                                                       \
                counts[(uint32_t)(keys[at] >> shift) & most]++;                                                      \
                others[(uint32_t)(keys[at + 1] >> shift) & most]++;                                                  \
                counts[(uint32_t)(keys[at + 2] >> shift) & most]++;                                                  \
                others[(uint32_t)(keys[at + 3] >> shift) & most]++;                                                  \
            }                                                                                                        \
        for (; at < count; at++)                                                                                     \
            counts[(uint32_t)(keys[at] >> shift) & most] += left ? left[at] : 1;                                     \
    }
ALL(all_1, u8)
ALL(all_2, u16)
ALL(all_4, u32)
ALL(all_8, u64)

/* The same for keys from `first` on, of which at most `span` + 1 numbers are counted; returns how many keys are smaller. */
#define WITHIN(name, type)                                                                                           \
    static inline int64_t name(const type *restrict keys, int64_t count, const u8 *restrict left, int32_t shift,     \
                               uint64_t first, uint64_t span, uint32_t *restrict counts) {                           \
        u8 inside[STEP + 8], lower[STEP];                                                                            \
        const type low = (type)first, reach = (type)span;                                                            \
        for (int64_t at = 0; at < count; at++) {                                                                     \
            inside[at] = (type)(keys[at] - low) <= reach;                                                            \
            lower[at] = keys[at] < low;                                                                              \
        }                                                                                                            \
        if (left)                                                                                                    \
            for (int64_t at = 0; at < count; at++) {                                                                 \
                inside[at] &= left[at];                                                                              \
                lower[at] &= left[at];                                                                               \
            }                                                                                                        \
        memset(inside + count, 0, 8);                                                                                \
        for (int64_t start = 0; start < count; start += 8)                                                           \
            for (uint64_t word = *(const u64 *)(inside + start); word; word &= word - 1)                             \
                counts[(type)(keys[start + (__builtin_ctzll(word) >> 3)] - low) >> shift]++;                         \
        return ones_in_step(lower, count);                                                                           \
    }
WITHIN(within_1, u8)
WITHIN(within_2, u16)
WITHIN(within_4, u32)
WITHIN(within_8, u64)

/* Count the keys of candidates (NULL: of all) from `first` to `first + span`, where (key - first) >> shift is the place in
 * `counts`. If `bits` is not 0, all keys are counted by as many bits above `shift`, and `counts` has twice as many
 * numbers, to be added. Returns how many keys are smaller. */
FOR_EACH_PROCESSOR
EXPORTED int64_t prunecli_histogram(const u8 *raw, int64_t count, int32_t width, int32_t kind, uint64_t infinity,
                                    const u8 *candidates, int32_t shift, int32_t bits, uint64_t first, uint64_t span,
                                    uint32_t *counts) {
    uint64_t memory[STEP];
    int64_t below = 0;
    for (int64_t start = 0; start < count; start += STEP) {
        const int64_t some = count - start < STEP ? count - start : STEP;
        const u8 *part = raw + start * width, *left = candidates ? candidates + start : NULL;
#define DO(size, type)                                                                                               \
    keys_##size((const type *)part, some, kind, infinity, (type *)memory);                                           \
    if (bits)                                                                                                        \
        all_##size((const type *)memory, some, left, shift, bits, counts);                                           \
    else                                                                                                             \
        below += within_##size((const type *)memory, some, left, shift, first, span, counts);
        BY_WIDTH(width, DO)
#undef DO
    }
    return below;
}

/* Add up at most STEP keys by their bits above `shift`: their number, the `fine` bits below those, and the squares. */
#define SUMS(name, type)                                                                                             \
    static inline void name(const type *restrict keys, int64_t count, const u8 *restrict left, int32_t shift,        \
                            int32_t fine, uint64_t *restrict sums) {                                                 \
        const uint64_t most = (UINT64_C(1) << fine) - 1;                                                             \
        for (int64_t at = 0; at < count; at++) {                                                                     \
            const uint64_t one = left ? left[at] : 1, lower = keys[at] >> (shift - fine) & (left ? most & -one : most);\
            uint64_t *own = sums + 3 * (uint64_t)(keys[at] >> shift);                                                \
            own[0] += one;                                                                                           \
            own[1] += lower;                                                                                         \
            own[2] += lower * lower;                                                                                 \
        }                                                                                                            \
    }
SUMS(sums_4, u32)
SUMS(sums_8, u64)

/* Add up the keys of candidates (NULL: of all), of `width` 4 or 8, into three `sums` for each number above `shift`. */
FOR_EACH_PROCESSOR
EXPORTED void prunecli_sums(const u8 *raw, int64_t count, int32_t width, int32_t kind, uint64_t infinity,
                            const u8 *candidates, int32_t shift, int32_t fine, uint64_t *sums) {
    uint64_t memory[STEP];
    for (int64_t start = 0; start < count; start += STEP) {
        const int64_t some = count - start < STEP ? count - start : STEP;
        const u8 *part = raw + start * width, *left = candidates ? candidates + start : NULL;
        if (width == 4) {
            keys_4((const u32 *)part, some, kind, infinity, (u32 *)memory);
            sums_4((const u32 *)memory, some, left, shift, fine, sums);
        } else {
            keys_8((const u64 *)part, some, kind, infinity, (u64 *)memory);
            sums_8((const u64 *)memory, some, left, shift, fine, sums);
        }
    }
}

/* Write which of at most STEP keys are below a threshold, and which are equal to it. */
#define COMPARE(name, type)                                                                                          \
    static inline void name(const type *restrict keys, int64_t count, uint64_t threshold, u8 *restrict below,        \
                            u8 *restrict equal) {                                                                    \
        const type at_most = (type)threshold;                                                                        \
        for (int64_t at = 0; at < count; at++) {                                                                     \
            below[at] = keys[at] < at_most;                                                                          \
            equal[at] = keys[at] == at_most;                                                                         \
        }                                                                                                            \
    }
COMPARE(compare_1, u8)
COMPARE(compare_2, u16)
COMPARE(compare_4, u32)
COMPARE(compare_8, u64)

static inline void and_flags(u8 *restrict flags, const u8 *restrict others, int64_t count) {
    for (int64_t at = 0; at < count; at++)
        flags[at] &= others[at];
}

/* Write to `out` which keys are below `threshold`, and to `tied` the places of candidates with an equal one; without
 * `out`, only count candidates: those below in `counts[0]`, equal ones in `counts[1]`. Returns how many are tied. */
FOR_EACH_PROCESSOR
EXPORTED int64_t prunecli_below(const u8 *raw, int64_t count, int32_t width, int32_t kind, uint64_t infinity,
                                const u8 *candidates, uint64_t threshold, u8 *out, uint32_t *tied, int64_t counts[2]) {
    uint64_t memory[STEP];
    u8 own[STEP], equal[STEP + 8];
    int64_t found = 0;
    counts[0] = counts[1] = 0;
    for (int64_t start = 0; start < count; start += STEP) {
        const int64_t some = count - start < STEP ? count - start : STEP;
        const u8 *part = raw + start * width;
        u8 *below = out ? out + start : own;
#define DO(size, type)                                                                                               \
    keys_##size((const type *)part, some, kind, infinity, (type *)memory);                                           \
    compare_##size((const type *)memory, some, threshold, below, equal);
        BY_WIDTH(width, DO)
#undef DO
        if (candidates)
            and_flags(equal, candidates + start, some);
        if (!out) {
            if (candidates)
                and_flags(own, candidates + start, some);
            counts[0] += ones_in_step(own, some);
            counts[1] += ones_in_step(equal, some);
        }
        if (!tied)
            continue;
        memset(equal + some, 0, 8);
        for (int64_t at = 0; at < some; at += 8)
            for (uint64_t word = *(const u64 *)(equal + at); word; word &= word - 1)
                tied[found++] = (uint32_t)(start + at + (__builtin_ctzll(word) >> 3));
    }
    return found;
}

/* Find the smallest of at most STEP keys that are left, and the largest of the others, or with `zeros` of all. */
#define OUTERMOST(name, type)                                                                                        \
    static inline void name(const type *restrict keys, int64_t count, const u8 *restrict flags, int32_t zeros,       \
                            uint64_t found[2]) {                                                                     \
        type least = (type)-1, most = 0;                                                                             \
        const type every = zeros ? (type)-1 : 0, flip = zeros ? 1 : 0;                                               \
        for (int64_t at = 0; at < count; at++) {                                                                     \
            type other = (type)((flags[at] ^ flip) - 1);                                                             \
            type low = keys[at] | other, high = keys[at] & (other | every);                                          \
            least = low < least ? low : least;                                                                       \
            most = high > most ? high : most;                                                                        \
        }                                                                                                            \
        found[0] = least < found[0] ? least : found[0];                                                              \
        found[1] = most > found[1] ? most : found[1];                                                                \
    }
OUTERMOST(outermost_1, u8)
OUTERMOST(outermost_2, u16)
OUTERMOST(outermost_4, u32)
OUTERMOST(outermost_8, u64)

/* Find the smallest key of the elements with flags, and the largest of the others; or with `zeros`, that of the elements
 * without flags, and the largest of all. At first, `found` has the largest number and 0. Returns the number of flags. */
FOR_EACH_PROCESSOR
EXPORTED int64_t prunecli_outermost(const u8 *raw, int64_t count, int32_t width, int32_t kind, uint64_t infinity,
                                    const u8 *flags, int32_t zeros, uint64_t found[2]) {
    uint64_t memory[STEP];
    int64_t flagged = 0;
    for (int64_t start = 0; start < count; start += STEP) {
        const int64_t some = count - start < STEP ? count - start : STEP;
        const u8 *part = raw + start * width;
#define DO(size, type)                                                                                               \
    keys_##size((const type *)part, some, kind, infinity, (type *)memory);                                           \
    outermost_##size((const type *)memory, some, flags + start, zeros, found);
        BY_WIDTH(width, DO)
#undef DO
        flagged += ones_in_step(flags + start, some);
    }
    return flagged;
}

/* ---- Rows ---- */

/* Return the number with rank `rank` (from 0) among `count` > `rank` numbers of `bits` bits, which are put in another
 * order: byte by byte from the highest on, keeping those that have the same byte as the one with that rank. */
static uint64_t with_rank(uint64_t *numbers, int64_t count, int64_t rank, int32_t bits) {
    for (int32_t shift = bits - 8; shift >= 0 && count > 1; shift -= 8) {
        int64_t found[256] = {0}, kept = 0;
        for (int64_t at = 0; at < count; at++)
            found[numbers[at] >> shift & 255]++;
        uint64_t byte = 0;
        for (; rank >= found[byte]; byte++)
            rank -= found[byte];
        for (int64_t at = 0; at < count; at++) {
            numbers[kept] = numbers[at];
            kept += (numbers[at] >> shift & 255) == byte;
        }
        count = kept;
    }
    return numbers[0];
}

static inline uint64_t key_at(const u8 *keys, int32_t width, int64_t at) {
    switch (width) {
    case 1: return keys[at];
    case 2: return ((const u16 *)keys)[at];
    case 4: return ((const u32 *)keys)[at];
    default: return ((const u64 *)keys)[at];
    }
}

/* Flag the `counts[row]` smallest candidates of each row of `size` elements, with equal keys in the order of their tie
 * words; the first element has the position `start`. Returns the first row in which one with the key `nan` would be
 * flagged, -1 if there is none, and -2 without memory. */
EXPORTED int64_t prunecli_drop_in_rows(const u8 *keys, int32_t width, const u8 *candidates, const int64_t *counts,
                                       int64_t rows, int64_t size, int32_t has_nan, uint64_t nan, uint64_t tie_key,
                                       uint64_t start, u8 *out) {
    uint64_t *room = malloc((size_t)(size + 1) * sizeof *room);
    if (!room)
        return -2;
    memset(out, 0, (size_t)(rows * size));
    for (int64_t row = 0; row < rows; row++) {
        const int64_t first = row * size, last = first + size, wanted = counts[row];
        int64_t left = 0, below = 0, tied = 0;
        if (wanted <= 0)
            continue;
        for (int64_t at = first; at < last; at++) {
            room[left] = key_at(keys, width, at);
            left += candidates[at];
        }
        const uint64_t threshold = with_rank(room, left, wanted - 1, 8 * width);
        if (has_nan && threshold == nan) {
            free(room);
            return row;
        }
        for (int64_t at = first; at < last; at++) {
            uint64_t key = key_at(keys, width, at);
            out[at] = key <= threshold && candidates[at];
            below += key < threshold && candidates[at];
            if (key == threshold && candidates[at])
                room[tied++] = tie_word(tie_key, start + (uint64_t)at);
        }
        if (below + tied == wanted)
            continue;
        const uint64_t word = with_rank(room, tied, wanted - below - 1, 64);
        for (int64_t at = first; at < last; at++)
            if (out[at] && key_at(keys, width, at) == threshold)
                out[at] = tie_word(tie_key, start + (uint64_t)at) <= word;
    }
    free(room);
    return -1;
}
