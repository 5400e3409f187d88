/* What prunecli does to every element, in C: this file has what all sources of the kernel share.
 *
 * Plain C11 for GCC and Clang, without Python's headers; prunecli/core/kernel/__init__.py calls it through ctypes. Each
 * function has a counterpart in numpy with the same results to the bit, which also explains the method. Arrays may lie at
 * any address, so elements are accessed through types without alignment.
 */

#ifndef PRUNECLI_KERNEL_H
#define PRUNECLI_KERNEL_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the kernel is written for little-endian machines; prunecli works without it"
#endif

/* One library runs on all x86-64 processors, and with AVX2 or AVX-512 where they are; GCC knows the latter's level since
 * version 12. Shuffles of vectors are compiled where they are instructions. `CC="gcc -march=x86-64-v3
 * -DFOR_EACH_PROCESSOR="` makes a library with one version only, to test that. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__)
#if defined(FOR_EACH_PROCESSOR)
#elif __GNUC__ >= 12
#define FOR_EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx2", "default")))
#endif
#define SHUFFLES 1
#elif defined(__GNUC__) && !defined(__clang__) && defined(__aarch64__)
#define FOR_EACH_PROCESSOR
#define SHUFFLES 1
#else
#define FOR_EACH_PROCESSOR
#define SHUFFLES 0
#endif

#define EXPORTED __attribute__((visibility("default")))

typedef uint8_t __attribute__((may_alias)) u8;
typedef uint16_t __attribute__((may_alias, aligned(1))) u16;
typedef uint32_t __attribute__((may_alias, aligned(1))) u32;
typedef uint64_t __attribute__((may_alias, aligned(1))) u64;

/* ---- Counting flags ---- */

#define STEP 2048 /* elements at a time, whose flags stay in the fastest cache */

/* The number of ones among at most STEP flags, in eight sums side by side, each of at most 255 flags at once. */
static inline int64_t ones_in_step(const u8 *flags, int64_t count) {
    int64_t found = 0, at = 0;
    while (count - at >= 8) {
        uint64_t sums = 0;
        int64_t stop = count - at < 8 * 255 ? at + (count - at) / 8 * 8 : at + 8 * 255;
        for (; at < stop; at += 8)
            sums += *(const u64 *)(flags + at);
        sums = (sums & 0x00ff00ff00ff00ffu) + ((sums >> 8) & 0x00ff00ff00ff00ffu);
        found += (int64_t)((sums * 0x0001000100010001u) >> 48);
    }
    for (; at < count; at++)
        found += flags[at];
    return found;
}

/* ---- Ties ---- */

/* The word of the element at a position, as in tie_words.py: an output of SplitMix64. */
static inline uint64_t tie_word(uint64_t key, uint64_t position) {
    uint64_t word = key + (position + 1) * 0x9e3779b97f4a7c15u;
    word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9u;
    word = (word ^ word >> 27) * 0x94d049bb133111ebu;
    return word ^ word >> 31;
}

#endif
