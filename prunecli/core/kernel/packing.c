/* Packed files: kept elements moved together, and apart; numbers split into planes of their bytes, and merged.
 *
 * The counterparts in numpy are in core/planes.py.
 */

#include "kernel.h"

/* Move elements of `width` bytes from `*from` to `*to`, both of which go on: the flagged ones together, or, with
 * `apart`, the first ones to where flags are set, and 0 elsewhere. Returns how many of `count` were looked at: most of
 * them, or none. Vectors do not end behind the memory of all `count` elements, but at most 16 bytes behind the moved
 * ones. Together, the bits of elements without a flag are added to `lost`. */
static inline __attribute__((always_inline)) int64_t shuffled(const u8 **from, int64_t count, int32_t width,
                                                              const u8 *keep, int apart, u8 **to, u64 *lost) {
    int64_t at = 0;
#if SHUFFLES
    typedef u8 vector __attribute__((vector_size(16), aligned(1)));
    u8 orders[256][16] = {{0}}; /* of the bytes of `size` elements, by their flags; that of the first is the lowest */
    u8 others[256][16] = {{0}}; /* all bits of the elements without a flag */
    vector left = {0};
    const int32_t size = width == 4 ? 4 : 8;
    if (width > 4 || count < STEP)
        return 0;
    for (int32_t flags = 0; flags < 1 << size; flags++)
        for (int32_t one = 0, rank = 0; one < size; rank += flags >> one++ & 1)
            for (int32_t byte = 0; byte < width; byte++)
                if (flags >> one & 1)
                    orders[flags][(apart ? one : rank) * width + byte] = (u8)((apart ? rank : one) * width + byte);
                else
                    others[flags][one * width + byte] = 0xff;
    for (; at + 16 <= count; at += 8) {
        uint32_t bits = (uint32_t)(*(const u64 *)(keep + at) * 0x0102040810204080u >> 56);
        for (int32_t part = 0; part < 8; part += size, bits >>= size) {
            const uint32_t flags = bits & ((1u << size) - 1);
            const int64_t all = size * width, moved = __builtin_popcount(flags) * width;
            const vector some = *(const vector *)*from, other = *(const vector *)others[flags];
            vector found = __builtin_shuffle(some, *(const vector *)orders[flags]);
            if (apart)
                found &= ~other;
            else
                left |= some & other;
            *(vector *)*to = found;
            *from += apart ? moved : all;
            *to += apart ? all : moved;
        }
    }
    for (int32_t byte = 0; byte < 16; byte++)
        *lost |= left[byte];
#endif
    return at;
}

/* Move the kept ones of `count` elements of `width` bytes together: to `out`, which has room for all of them. Returns
 * whether another one has a bit that is not 0. */
FOR_EACH_PROCESSOR
EXPORTED int32_t prunecli_gather(const u8 *raw, int64_t count, int32_t width, const u8 *keep, u8 *out) {
    const u8 *from = raw;
    u64 lost = 0;
#define GATHER(type)                                                                                                 \
    for (int64_t at = shuffled(&from, count, sizeof(type), keep, 0, &out, &lost); at < count; at++) {                \
        const type one = ((const type *)raw)[at];                                                                    \
        lost |= one & (type)((type)keep[at] - 1);                                                                    \
        *(type *)out = one;                                                                                          \
        out += keep[at] * sizeof(type);                                                                              \
    }
    switch (width) {
    case 1: GATHER(u8) break;
    case 2: GATHER(u16) break;
    case 4: GATHER(u32) break;
    case 8: GATHER(u64) break;
    default:
        for (int64_t at = 0; at < count; at++) {
            lost |= (((const u64 *)raw)[2 * at] | ((const u64 *)raw)[2 * at + 1]) & ((uint64_t)keep[at] - 1);
            memcpy(out, raw + 16 * at, 16);
            out += 16 * keep[at];
        }
    }
    return lost != 0;
}

/* The reverse: put `values` where kept and 0 elsewhere. 16 bytes behind the last of `values` may be read, too. */
FOR_EACH_PROCESSOR
EXPORTED void prunecli_scatter(const u8 *values, int64_t count, int32_t width, const u8 *keep, u8 *raw) {
    u8 *to = raw;
    u64 lost = 0;
#define SCATTER(type)                                                                                                \
    for (int64_t at = shuffled(&values, count, sizeof(type), keep, 1, &to, &lost); at < count; at++) {               \
        ((type *)raw)[at] = *(const type *)values & (type)(0 - (type)keep[at]);                                      \
        values += keep[at] * sizeof(type);                                                                           \
    }
    switch (width) {
    case 1: SCATTER(u8) break;
    case 2: SCATTER(u16) break;
    case 4: SCATTER(u32) break;
    case 8: SCATTER(u64) break;
    default:
        for (int64_t at = 0; at < count; at++) {
            memcpy(raw + 16 * at, values, 16);
            values += 16 * keep[at];
            ((u64 *)raw)[2 * at] &= 0 - (uint64_t)keep[at];
            ((u64 *)raw)[2 * at + 1] &= 0 - (uint64_t)keep[at];
        }
    }
}

/* Split `count` numbers of `width` <= 8 bytes into planes of their bytes, the lowest first. With `rotate`, the highest
 * bit moves to the lowest place before. */
FOR_EACH_PROCESSOR
EXPORTED void prunecli_split(const u8 *restrict raw, int64_t count, int32_t width, int32_t rotate,
                             u8 *restrict planes) {
    const int by = rotate != 0, back = 8 * width - by;
#define SPLIT(type)                                                                                                  \
    for (int64_t at = 0; at < count; at++) {                                                                         \
        type value = ((const type *)raw)[at];                                                                        \
        if (by)                                                                                                      \
            value = (type)(value << 1 | value >> back);                                                              \
        for (size_t byte = 0; byte < sizeof(type); byte++)                                                           \
            planes[(int64_t)byte * count + at] = (u8)(value >> 8 * byte);                                            \
    }
    switch (width) {
    case 1: memcpy(planes, raw, (size_t)count); break;
    case 2: SPLIT(u16) break;
    case 4: SPLIT(u32) break;
    default: SPLIT(u64) break;
    }
}

/* The reverse; the planes may lie anywhere. */
FOR_EACH_PROCESSOR
EXPORTED void prunecli_merge(const u8 *const *planes, int64_t count, int32_t width, int32_t rotate, u8 *restrict raw) {
    const int by = rotate != 0, back = 8 * width - by;
#define MERGE(type)                                                                                                  \
    const u8 *own[sizeof(type)];                                                                                     \
    memcpy(own, planes, sizeof own);                                                                                 \
    for (int64_t at = 0; at < count; at++) {                                                                         \
        type value = 0;                                                                                              \
        for (size_t byte = 0; byte < sizeof(type); byte++)                                                           \
            value |= (type)((type)own[byte][at] << 8 * byte);                                                        \
        if (by)                                                                                                      \
            value = (type)(value >> 1 | value << back);                                                              \
        ((type *)raw)[at] = value;                                                                                   \
    }
    switch (width) {
    case 1: memcpy(raw, planes[0], (size_t)count); break;
    case 2: {
        MERGE(u16)
    } break;
    case 4: {
        MERGE(u32)
    } break;
    default: {
        MERGE(u64)
    }
    }
}
