/* Find the smallest elements of every group of neighbours, as group_ranks.py does, and the groups that are fullest, as
 * structure/flags.py does. */

#include "kernel.h"

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

/* ---- The fullest groups ---- */

#define TILE 4096 /* flags at a time */

typedef struct {
    int32_t levels; /* the groups have 2, 4, ... elements, so many sizes */
    u8 least[4];    /* the smallest number of zeros in a group of each size */
} fullest;

/* Examine consecutive groups of at most TILE flags in all. */
FOR_EACH_PROCESSOR
static void beside(const u8 *zero, int64_t count, fullest *found) {
    u8 sums[2][TILE / 2];
    const u8 *from = zero;
    for (int32_t level = 0; level < found->levels; level++) {
        u8 *to = sums[level % 2], least = found->least[level];
        count /= 2;
        for (int64_t l = 0; l < count; l++) {
            const u16 both = ((const u16 *)from)[l];
            const u8 sum = (u8)(both + (both >> 8));
            to[l] = sum;
            least = sum < least ? sum : least;
        }
        found->least[level] = least;
        from = to;
    }
}

/* Examine `wide` groups side by side, whose elements lie `inner` apart, of at most TILE flags in all. */
FOR_EACH_PROCESSOR
static void apart(const u8 *zero, int64_t wide, int64_t inner, fullest *found) {
    u8 sums[2][TILE / 2];
    const u8 *from = zero;
    for (int32_t level = 0; level < found->levels; level++) {
        u8 *to = sums[level % 2], least = found->least[level];
        for (int32_t row = 0; row < 1 << (found->levels - level - 1); row++) {
            const u8 *one = from + 2 * row * inner, *other = one + inner;
            for (int64_t l = 0; l < wide; l++) {
                const u8 sum = (u8)(one[l] + other[l]);
                to[row * wide + l] = sum;
                least = sum < least ? sum : least;
            }
        }
        found->least[level] = least;
        from = to;
        inner = wide;
    }
}

/* Return the number of nonzero elements in the fullest group of each size, at most its cap; 8 bits each. */
static uint32_t most_of(const fullest *found, uint32_t caps) {
    uint32_t most = 0;
    for (int32_t level = 0; level < found->levels; level++) {
        const uint32_t kept = (uint32_t)(2 << level) - found->least[level], cap = caps >> 8 * level & 255;
        most |= (kept < cap ? kept : cap) << 8 * level;
    }
    return most;
}

/* Return the largest numbers of nonzero elements in groups of 2, 4, 8 and 16 elements that lie `inner` apart, each at
 * most its cap; 8 bits each. `count` flags of zeros are whole groups of the largest size. Caps of sizes that are not wanted
 * are 0. */
EXPORTED uint32_t prunecli_most_kept(const u8 *zero, int64_t count, int64_t inner, uint32_t caps) {
    fullest found = {0, {2, 4, 8, 16}};
    while (found.levels < 4 && caps >> 8 * found.levels)
        found.levels++;
    const int64_t size = (int64_t)1 << found.levels, band = size * inner;
    uint32_t most = 0;
    if (inner == 1)
        for (int64_t at = 0; at < count && most != caps; at += TILE) {
            beside(zero + at, count - at < TILE ? count - at : TILE, &found);
            most = most_of(&found, caps);
        }
    else
        for (int64_t first = 0; first < count && most != caps; first += band)
            for (int64_t at = 0; at < inner && most != caps; at += TILE / size) {
                apart(zero + first + at, inner - at < TILE / size ? inner - at : TILE / size, inner, &found);
                most = most_of(&found, caps);
            }
    return most;
}
