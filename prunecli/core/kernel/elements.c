/* Find and count zeros, clear, fill and compare elements, as raw_elements.py and structure/flags.py do. */

#include "kernel.h"

/* The flags of zeros among `count` <= STEP elements: all bits of `mask` are 0. */
#define ZEROS(name, type)                                                                                            \
    static inline void name(const type *restrict raw, int64_t count, uint64_t mask, u8 *restrict zero) {             \
        const type bits = (type)mask;                                                                                \
        for (int64_t at = 0; at < count; at++)                                                                       \
            zero[at] = (raw[at] & bits) == 0;                                                                        \
    }
ZEROS(zeros_1, u8)
ZEROS(zeros_2, u16)
ZEROS(zeros_4, u32)
ZEROS(zeros_8, u64)

static inline void zeros_16(const u64 *restrict raw, int64_t count, uint64_t mask, u8 *restrict zero) {
    for (int64_t at = 0; at < count; at++)
        zero[at] = ((raw[2 * at] | raw[2 * at + 1]) & mask) == 0;
}

#define CLEAR(name, type)                                                                                            \
    static inline void name(type *restrict raw, int64_t count, const u8 *restrict keep) {                            \
        for (int64_t at = 0; at < count; at++)                                                                       \
            raw[at] &= (type)(0 - (type)keep[at]);                                                                   \
    }
CLEAR(clear_1, u8)
CLEAR(clear_2, u16)
CLEAR(clear_4, u32)
CLEAR(clear_8, u64)

static inline void clear_16(u64 *restrict raw, int64_t count, const u8 *restrict keep) {
    for (int64_t at = 0; at < count; at++) {
        raw[2 * at] &= 0 - (uint64_t)keep[at];
        raw[2 * at + 1] &= 0 - (uint64_t)keep[at];
    }
}

/* Set flags where others are not set. */
static inline void or_not(u8 *restrict flags, const u8 *restrict others, int64_t count) {
    for (int64_t at = 0; at < count; at++)
        flags[at] |= others[at] ^ 1;
}

/* Find the zeros of `count` elements of `width` bytes (an element is zero if all its bits in `mask` are), counting
 * those with the mask `before` and those with the mask `keep`; NULL keeps everything. The flags of the latter are
 * written to `zero`, unless it is NULL. With `clear`, elements that are not kept become 0. Returns both numbers, the
 * first in the low 32 bits: `count` < 2**32. */
FOR_EACH_PROCESSOR
EXPORTED uint64_t prunecli_zeros(u8 *raw, int64_t count, int32_t width, uint64_t mask, const u8 *before,
                                 const u8 *keep, u8 *zero, int32_t clear) {
    u8 own[STEP];
    uint64_t was = 0, now = 0;
    for (int64_t start = 0; start < count; start += STEP) {
        int64_t some = count - start < STEP ? count - start : STEP;
        u8 *part = raw + start * width, *flags = zero ? zero + start : own;
        const u8 *kept = keep ? keep + start : NULL;
        switch (width) {
        case 1: zeros_1(part, some, mask, flags); break;
        case 2: zeros_2((u16 *)part, some, mask, flags); break;
        case 4: zeros_4((u32 *)part, some, mask, flags); break;
        case 8: zeros_8((u64 *)part, some, mask, flags); break;
        default: zeros_16((u64 *)part, some, mask, flags); break;
        }
        if (before)
            or_not(flags, before + start, some);
        int64_t found = ones_in_step(flags, some);
        was += (uint64_t)found;
        if (kept) {
            or_not(flags, kept, some);
            found = ones_in_step(flags, some);
        }
        now += (uint64_t)found;
        if (!clear)
            continue;
        switch (width) {
        case 1: clear_1(part, some, kept); break;
        case 2: clear_2((u16 *)part, some, kept); break;
        case 4: clear_4((u32 *)part, some, kept); break;
        case 8: clear_8((u64 *)part, some, kept); break;
        default: clear_16((u64 *)part, some, kept); break;
        }
    }
    return was | now << 32;
}

/* Set `count` elements of `width` <= 8 bytes to `one` where kept, else to 0. */
FOR_EACH_PROCESSOR
EXPORTED void prunecli_fill(u8 *raw, int64_t count, int32_t width, uint64_t one, const u8 *keep) {
#define FILL(type)                                                                                                   \
    for (int64_t at = 0; at < count; at++)                                                                           \
        ((type *)raw)[at] = (type)one & (type)(0 - (type)keep[at])
    switch (width) {
    case 1: FILL(u8); break;
    case 2: FILL(u16); break;
    case 4: FILL(u32); break;
    default: FILL(u64); break;
    }
}

/* Whether `count` elements of `width` <= 8 bytes all equal `one`. */
FOR_EACH_PROCESSOR
EXPORTED int32_t prunecli_all_equal(const u8 *raw, int64_t count, int32_t width, uint64_t one) {
    for (int64_t start = 0; start < count; start += STEP) {
        int64_t some = count - start < STEP ? count - start : STEP;
        const u8 *part = raw + start * width;
        uint64_t other = 0;
#define COMPARE(type)                                                                                                \
    {                                                                                                                \
        type found = 0;                                                                                              \
        for (int64_t at = 0; at < some; at++)                                                                        \
            found |= ((const type *)part)[at] ^ (type)one;                                                           \
        other = found;                                                                                               \
    }
        switch (width) {
        case 1: COMPARE(u8) break;
        case 2: COMPARE(u16) break;
        case 4: COMPARE(u32) break;
        default: COMPARE(u64) break;
        }
        if (other)
            return 0;
    }
    return 1;
}

/* The number of groups of 4 and of 8 consecutive flags in which at least half are set, the former in the low 32 bits.
 * The last group of 4 may stand alone; `count` < 2**32 is a multiple of 4. */
FOR_EACH_PROCESSOR
EXPORTED uint64_t prunecli_halved_groups(const u8 *flags, int64_t count) {
    uint64_t fours = 0, eights = 0;
    for (int64_t at = 0; at + 8 <= count; at += 8) {
        uint64_t word = *(const u64 *)(flags + at);
        uint32_t low = ((uint32_t)word * 0x01010101u) >> 24, high = ((uint32_t)(word >> 32) * 0x01010101u) >> 24;
        fours += (low >= 2) + (high >= 2);
        eights += low + high >= 4;
    }
    if (count % 8 == 4)
        fours += flags[count - 4] + flags[count - 3] + flags[count - 2] + flags[count - 1] >= 2;
    return fours | eights << 32;
}
