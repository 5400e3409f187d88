/* What prunecli does to every element: draw a block of a random mask, find and count zeros, clear, fill.
 *
 * Plain C11 for GCC and Clang, without Python's headers; prunecli/core/kernel/__init__.py calls it through ctypes. Each
 * function has a counterpart in numpy with the same results to the bit, which also explains the method: in
 * random_stream.py, raw_elements.py, structure/flags.py and group_ranks.py. Arrays may lie at any address, so elements
 * are accessed through types without alignment.
 */

#include "kernel.h"

/* The number of this interface: a library with another one is not used. */
EXPORTED int32_t prunecli_kernel_version(void) { return 8; }

/* ---- The random stream: SFC64 seeded by numpy's SeedSequence ---- */

typedef struct {
    uint64_t a, b, c, counter;
} stream;

static inline uint64_t next_word(stream *s) {
    uint64_t word = s->a + s->b + s->counter++;
    s->a = s->b ^ (s->b >> 11);
    s->b = s->c + (s->c << 3);
    s->c = ((s->c << 24) | (s->c >> 40)) + word;
    return word;
}

typedef struct {
    uint32_t constant, factor;
} hasher;

static uint32_t hashed(hasher *h, uint32_t value) {
    value ^= h->constant;
    h->constant *= h->factor;
    value *= h->constant;
    return value ^ (value >> 16);
}

static uint32_t mixed(uint32_t x, uint32_t y) {
    uint32_t value = 0xca01f9ddu * x - 0x4973f715u * y;
    return value ^ (value >> 16);
}

/* The state of `SFC64(SeedSequence(key, spawn_key=(index,)))`; the method is M. O'Neill's seed_seq_fe128, as numpy
 * documents it. */
static stream seeded(const uint32_t key[4], uint32_t index) {
    hasher in = {0x43b0d7e5u, 0x931e8875u}, out = {0x8b51f9ddu, 0x58f38dedu};
    uint32_t pool[4], words[6];
    uint64_t seeds[3];
    for (int i = 0; i < 4; i++)
        pool[i] = hashed(&in, key[i]);
    for (int from = 0; from < 4; from++)
        for (int to = 0; to < 4; to++)
            if (from != to)
                pool[to] = mixed(pool[to], hashed(&in, pool[from]));
    for (int to = 0; to < 4; to++)
        pool[to] = mixed(pool[to], hashed(&in, index));
    for (int i = 0; i < 6; i++)
        words[i] = hashed(&out, pool[i % 4]);
    for (int i = 0; i < 3; i++)
        seeds[i] = words[2 * i] | (uint64_t)words[2 * i + 1] << 32;
    stream s = {seeds[0], seeds[1], seeds[2], 1};
    for (int i = 0; i < 12; i++)
        next_word(&s);
    return s;
}

/* An exactly uniform integer below `bound`, as `_RawStream.below`. */
static inline uint64_t below(stream *s, uint64_t bound, uint64_t unfair) {
    uint64_t product;
    do
        product = (next_word(s) >> 32) * bound;
    while ((product & 0xffffffffu) < unfair);
    return product >> 32;
}

/* ---- Drawing a block ---- */

/* Choose each rank by one byte: below `threshold`, or equal to it and a further word below `remainder`. With
 * `ties` = 0, equal bytes are not chosen. Returns the number chosen. */
FOR_EACH_PROCESSOR
static int64_t by_bytes(stream *s, int64_t size, uint32_t threshold, uint64_t remainder, int ties, u8 *chosen) {
    u8 bytes[STEP];
    const uint64_t each = 0x0101010101010101u, high = 0x8080808080808080u, equal = each * threshold;
    uint32_t *tied = NULL;
    int64_t found = 0, many = 0, room = 0;
    for (int64_t start = 0; start < size; start += STEP) {
        int64_t count = size - start < STEP ? size - start : STEP;
        for (int64_t at = 0; at < count; at += 8)
            *(u64 *)(bytes + at) = next_word(s);
        for (int64_t at = 0; at < count; at++)
            chosen[start + at] = bytes[at] < threshold;
        found += ones_in_step(chosen + start, count);
        if (!ties)
            continue;
        if (room - many < STEP) {
            uint32_t *more = realloc(tied, (size_t)(room = 2 * room + 4 * STEP) * sizeof *tied);
            if (!more) {
                free(tied);
                return -1;
            }
            tied = more;
        }
        for (int64_t at = 0; at < count; at += 8) {
            uint64_t other = *(const u64 *)(bytes + at) ^ equal;
            if ((other - each) & ~other & high)
                for (int64_t one = at; one < at + 8 && one < count; one++)
                    if (bytes[one] == threshold)
                        tied[many++] = (uint32_t)(start + one);
        }
    }
    for (int64_t at = 0; at < many; at++) {
        u8 taken = (next_word(s) >> 32) < remainder;
        chosen[tied[at]] = taken;
        found += taken;
    }
    free(tied);
    return found;
}

/* Flip a uniform choice of `count` of the `eligible` ranks whose state is `value`, as `_flip`. Returns 0, or -1 without
 * memory. */
static int flip(stream *s, u8 *chosen, int64_t size, u8 value, int64_t eligible, int64_t count) {
    uint32_t *places = NULL;
    int64_t bound = size, scale = size / eligible;
    if (eligible * 16 < size) {
        places = malloc((size_t)eligible * sizeof *places);
        if (!places)
            return -1;
        bound = 0;
        for (int64_t at = 0; at < size; at++)
            if (chosen[at] == value)
                places[bound++] = (uint32_t)at;
        scale = 1;
    }
    const uint64_t unfair = (UINT64_C(1) << 32) % (uint64_t)bound;
    while (count)
        /* A round draws this many numbers, whether or not it needs them all: the next round begins behind them. */
        for (int64_t draws = count * (scale + 1) + 16; draws; draws--) {
            uint64_t drawn = below(s, (uint64_t)bound, unfair);
            uint64_t rank = places ? places[drawn] : drawn;
            if (count && chosen[rank] == value) {
                chosen[rank] = !value;
                count--;
            }
        }
    free(places);
    return 0;
}

/* Draw block `index` of the stream of `key`: a uniform subset of `amount` of `size` < 2**32 ranks, 1 where chosen.
 * `rare` and `close` are parts of the stream's definition. Returns 0, or -1 without memory. */
EXPORTED int32_t prunecli_draw(const uint32_t key[4], uint32_t index, int64_t size, int64_t amount, int64_t rare,
                               uint64_t close, u8 *chosen) {
    int64_t found;
    stream s;
    if (amount == 0 || amount == size) {
        memset(chosen, amount != 0, (size_t)size);
        return 0;
    }
    s = seeded(key, index);
    if (amount * rare <= size) {
        memset(chosen, 0, (size_t)size);
        found = 0;
    } else if ((size - amount) * rare <= size) {
        memset(chosen, 1, (size_t)size);
        found = size;
    } else {
        uint64_t level = ((uint64_t)amount << 40) / (uint64_t)size;
        uint64_t nearest = (level + (UINT64_C(1) << 31)) >> 32;
        uint64_t error = level > nearest << 32 ? level - (nearest << 32) : (nearest << 32) - level;
        int ties = error > close;
        found = by_bytes(&s, size, (uint32_t)(ties ? level >> 32 : nearest), level & 0xffffffffu, ties, chosen);
        if (found < 0)
            return -1;
    }
    if (found == amount)
        return 0;
    u8 value = found > amount;
    return flip(&s, chosen, size, value, value ? found : size - found, value ? found - amount : amount - found);
}

/* Draw `count` subsets one after the other, each as block 0 of the stream of its key. */
EXPORTED int32_t prunecli_draw_each(const uint32_t (*keys)[4], int64_t count, const int64_t *sizes,
                                    const int64_t *amounts, int64_t rare, uint64_t close, u8 *chosen) {
    for (int64_t at = 0; at < count; chosen += sizes[at++])
        if (prunecli_draw(keys[at], 0, sizes[at], amounts[at], rare, close, chosen))
            return -1;
    return 0;
}

/* ---- Elements ---- */

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

/* ---- Groups ---- */

#define LARGEST_GROUP 32
#define LANES 64 /* groups side by side */

typedef struct {
    const u8 *keys; /* of `width` bytes each; without them, the tie words are the keys */
    const u8 *left; /* the candidates; without them, all elements are candidates */
    u8 *out;
    int64_t inner;
    uint64_t tie_key, start;
    int32_t width, size, kept;
} groups;

static inline uint64_t key_at(const groups *g, int64_t at) {
    if (!g->keys)
        return tie_word(g->tie_key, g->start + (uint64_t)at);
    switch (g->width) {
    case 1: return g->keys[at];
    case 2: return ((const u16 *)g->keys)[at];
    case 4: return ((const u32 *)g->keys)[at];
    default: return ((const u64 *)g->keys)[at];
    }
}

/* Write the flags of the group whose first element is `base`, with equal keys in the order of their tie words. */
static void by_ties(const groups *g, int64_t base) {
    uint64_t keys[LARGEST_GROUP], words[LARGEST_GROUP];
    int64_t places[LARGEST_GROUP];
    int32_t count = 0;
    for (int32_t k = 0; k < g->size; k++) {
        int64_t at = base + k * g->inner;
        g->out[at] = 0;
        if (g->left && !g->left[at])
            continue;
        keys[count] = key_at(g, at);
        words[count] = tie_word(g->tie_key, g->start + (uint64_t)at);
        places[count++] = at;
    }
    for (int32_t j = 0; j < count; j++) {
        int32_t rank = 0;
        for (int32_t k = 0; k < count; k++)
            rank += keys[k] < keys[j] || (keys[k] == keys[j] && words[k] < words[j]);
        g->out[places[j]] = rank < count - g->kept;
    }
}

/* Write the flags of `count` <= LANES groups whose first elements are `base`. The smallest keys are found without tie
 * words, and the few groups in which these decide are done again. Elements that are no candidates get the largest key. */
#define BESIDE(name, type)                                                                                           \
    FOR_EACH_PROCESSOR                                                                                               \
    static void name(const groups *g, const int64_t *base, int64_t count) {                                          \
        type keys[LARGEST_GROUP][LANES] = {{0}}, least[LANES], most[LANES], surplus[LANES], doubt[LANES] = {0};      \
        const int32_t size = g->size;                                                                                \
        for (int64_t l = 0; l < LANES; l++)                                                                          \
            surplus[l] = (type)(size - g->kept);                                                                     \
        for (int64_t l = 0; l < count; l++) {                                                                        \
            int32_t found = 0;                                                                                       \
            for (int32_t k = 0; k < size; k++) {                                                                     \
                int64_t at = base[l] + k * g->inner;                                                                 \
                int left = !g->left || g->left[at];                                                                  \
                keys[k][l] = left ? (type)key_at(g, at) : (type)-1;                                                  \
                found += left;                                                                                       \
            }                                                                                                        \
            if (g->left)                                                                                             \
                surplus[l] = (type)(found > g->kept ? found - g->kept : 0);                                          \
        }                                                                                                            \
        for (int32_t j = 0; j < size; j++) {                                                                         \
            for (int64_t l = 0; l < LANES; l++)                                                                      \
                least[l] = most[l] = 0;                                                                              \
            for (int32_t k = 0; k < size; k++)                                                                       \
                for (int64_t l = 0; k != j && l < LANES; l++) {                                                      \
                    least[l] += keys[k][l] < keys[j][l];                                                             \
                    most[l] += keys[k][l] <= keys[j][l];                                                             \
                }                                                                                                    \
            for (int64_t l = 0; l < LANES; l++)                                                                      \
                doubt[l] |= (type)((least[l] < surplus[l]) != (most[l] < surplus[l]));                               \
            for (int64_t l = 0; l < count; l++)                                                                      \
                g->out[base[l] + j * g->inner] = least[l] < surplus[l];                                              \
        }                                                                                                            \
        for (int64_t l = 0; l < count; l++)                                                                          \
            if (doubt[l])                                                                                            \
                by_ties(g, base[l]);                                                                                 \
    }
BESIDE(beside_32, uint32_t)
BESIDE(beside_64, uint64_t)

typedef int16_t shorts __attribute__((vector_size(32)));
typedef uint64_t quads __attribute__((vector_size(32)));
typedef int8_t bytes __attribute__((vector_size(16)));

/* The same for `count` groups of 4 neighbours with keys of 2 bytes, all of them candidates, four groups at a time. Each
 * key is compared to the others of its group by rotating the group. */
FOR_EACH_PROCESSOR
static void fours(const groups *g, int64_t count) {
    const int16_t most = (int16_t)(g->kept - 4), least = (int16_t)(1 - g->kept);
    const u8 *source = g->keys;
    u8 *out = g->out;
    for (int64_t at = 0; at + 16 <= 4 * count; at += 16) {
        shorts keys;
        memcpy(&keys, source + 2 * at, sizeof keys);
        keys ^= INT16_MIN; /* their order is that of signed numbers then, which processors compare faster */
        const quads group = (quads)keys;
        const shorts one = (shorts)(group >> 16 | group << 48), two = (shorts)(group >> 32 | group << 32);
        const shorts three = (shorts)(group >> 48 | group << 16);
        const shorts smaller = (one < keys) + (two < keys) + (three < keys) > most; /* true is -1 */
        const shorts certain = (keys < one) + (keys < two) + (keys < three) < least; /* whatever the ties */
        const bytes flags = __builtin_convertvector(smaller, bytes) & 1;
        memcpy(out + at, &flags, sizeof flags);
        const quads doubt = (quads)(smaller ^ certain);
        if (doubt[0] | doubt[1] | doubt[2] | doubt[3])
            for (int part = 0; part < 4; part++)
                if (doubt[part])
                    by_ties(g, at + 4 * part);
    }
    for (int64_t at = count / 4 * 16; at < 4 * count; at += 4)
        by_ties(g, at);
}

/* Of each group of `size` <= 32 elements that lie `inner` places apart, flag all candidates but the `kept` ones with the
 * largest keys. `count` elements are whole groups. */
EXPORTED void prunecli_drop_smallest(const u8 *keys, int32_t width, const u8 *left, int64_t count, int32_t size,
                                     int64_t inner, int32_t kept, uint64_t tie_key, uint64_t start, u8 *out) {
    const groups g = {keys, left, out, inner, tie_key, start, width, size, kept};
    if (keys && width == 2 && size == 4 && inner == 1 && !left) {
        fours(&g, count / 4);
        return;
    }
    int64_t base[LANES], next = 0, column = 0;
    for (int64_t first = 0, many = count / size; first < many; first += LANES) {
        int64_t some = many - first < LANES ? many - first : LANES;
        for (int64_t l = 0; l < some; l++) {
            base[l] = next++;
            if (++column == inner) {
                column = 0;
                next += (size - 1) * inner;
            }
        }
        if (keys && width <= 4)
            beside_32(&g, base, some);
        else
            beside_64(&g, base, some);
    }
}
