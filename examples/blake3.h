/* BLAKE3 of bytes that are all in memory, for client.c: short, not fast. An engine links the official libblake3.
 *
 * For little-endian machines: words of the digest and of blocks are used as they lie in memory.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static const uint32_t IV[8] = {
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
};
static const uint8_t ORDER[16] = {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8};
enum { CHUNK_START = 1, CHUNK_END = 2, PARENT = 4, ROOT = 8, CHUNK_BYTES = 1024, BLOCK_BYTES = 64 };

static uint32_t rotate(uint32_t word, int by) { return word >> by | word << (32 - by); }

static void mix(uint32_t *v, int a, int b, int c, int d, uint32_t x, uint32_t y) {
    v[a] += v[b] + x, v[d] = rotate(v[d] ^ v[a], 16), v[c] += v[d], v[b] = rotate(v[b] ^ v[c], 12);
    v[a] += v[b] + y, v[d] = rotate(v[d] ^ v[a], 8), v[c] += v[d], v[b] = rotate(v[b] ^ v[c], 7);
}

static void compress(uint32_t cv[8], const uint32_t block[16], uint32_t bytes, uint64_t chunk, uint32_t flags) {
    uint32_t v[16], m[16], next[16];
    memcpy(v, cv, 32), memcpy(v + 8, IV, 16), memcpy(m, block, 64);
    v[12] = (uint32_t)chunk, v[13] = (uint32_t)(chunk >> 32), v[14] = bytes, v[15] = flags;
    for (int round = 0; round < 7; round++) {
        for (int i = 0; i < 4; i++) mix(v, i, i + 4, i + 8, i + 12, m[2 * i], m[2 * i + 1]);
        for (int i = 0; i < 4; i++)
            mix(v, i, (i + 1) % 4 + 4, (i + 2) % 4 + 8, (i + 3) % 4 + 12, m[2 * i + 8], m[2 * i + 9]);
        for (int i = 0; i < 16; i++) next[i] = m[ORDER[i]];
        memcpy(m, next, 64);
    }
    for (int i = 0; i < 8; i++) cv[i] = v[i] ^ v[i + 8];
}

/* The chaining value of a subtree. Its left half is as large a power of two of chunks as leaves some for the right. */
static void hash_tree(uint32_t cv[8], const uint8_t *bytes, size_t count, uint64_t chunk, uint32_t root) {
    uint32_t block[16];
    memcpy(cv, IV, 32);
    if (count > CHUNK_BYTES) {
        size_t left = CHUNK_BYTES;
        while (2 * left < count) left *= 2;
        hash_tree(block, bytes, left, chunk, 0);
        hash_tree(block + 8, bytes + left, count - left, chunk + left / CHUNK_BYTES, 0);
        compress(cv, block, BLOCK_BYTES, 0, PARENT | root);
        return;
    }
    size_t at = 0, taken;
    do {
        taken = count - at < BLOCK_BYTES ? count - at : BLOCK_BYTES;
        memset(block, 0, sizeof block), memcpy(block, bytes + at, taken);
        uint32_t flags = (at ? 0 : CHUNK_START) | (at + taken == count ? CHUNK_END | root : 0);
        compress(cv, block, (uint32_t)taken, chunk, flags);
    } while ((at += taken) < count);
}

static void blake3(uint8_t digest[32], const uint8_t *bytes, size_t count) {
    uint32_t cv[8];
    hash_tree(cv, bytes, count, 0, ROOT);
    memcpy(digest, cv, sizeof cv);
}
