/* Draw a block of a random mask, as random_stream.py does. */

#include "kernel.h"

/* The number of this interface: a library with another one is not used. */
EXPORTED int32_t prunecli_kernel_version(void) { return 10; }

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
