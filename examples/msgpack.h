/* MessagePack, as far as the protocol's records need it, for client.c, which defines `fail`.
 *
 * A Message is written, a Reader stands somewhere in bytes that came. Every read checks that the bytes are there and of
 * the kind that is wanted, and fails otherwise. There are no maps, no extensions and no negative numbers in records.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { MESSAGE_BYTES_MAX = 65536 };
typedef struct { size_t count; uint8_t bytes[MESSAGE_BYTES_MAX]; } Message;
typedef struct { const uint8_t *at, *end; } Reader;

static void put(Message *to, const void *bytes, size_t count) {
    if (count > sizeof to->bytes - to->count) fail("a record is longer than 64 KiB");
    memcpy(to->bytes + to->count, bytes, count);
    to->count += count;
}

static void put_byte(Message *to, unsigned byte) { put(to, &(uint8_t){(uint8_t)byte}, 1); }

static void put_array(Message *to, unsigned fields) { put_byte(to, 0x90 | fields); } /* at most 15 */

static void put_text(Message *to, const char *text) { /* at most 31 bytes */
    put_byte(to, 0xa0 | (unsigned)strlen(text));
    put(to, text, strlen(text));
}

static void put_bytes(Message *to, const void *bytes, uint8_t count) {
    put_byte(to, 0xc4), put_byte(to, count);
    put(to, bytes, count);
}

static void put_number(Message *to, uint64_t number) {
    put_byte(to, 0xcf);
    for (int bits = 56; bits >= 0; bits -= 8) put_byte(to, number >> bits & 0xff);
}

static Reader take(Reader *from, uint64_t count) {
    if (count > (uint64_t)(from->end - from->at)) fail("the sidecar sent a record that is cut short");
    Reader taken = {from->at, from->at + count};
    from->at = taken.end;
    return taken;
}

static uint64_t take_number(Reader *from, unsigned bytes) { /* the most significant byte comes first */
    uint64_t number = 0;
    for (Reader each = take(from, bytes); each.at < each.end; each.at++) number = number << 8 | *each.at;
    return number;
}

enum Kind { NUMBER, TEXT, ARRAY, OTHER };

/* What the first byte of a value tells: the value's kind, and that its number or length stands in the byte itself
 * (`bytes` 0) or in so many that follow, twice as many for each step beyond `first`. */
static const struct { uint8_t first, last; enum Kind kind; uint8_t bytes; } HEADS[] = {
    {0x00, 0x7f, NUMBER, 0}, {0xcc, 0xcf, NUMBER, 1},
    {0xa0, 0xbf, TEXT, 0},   {0xd9, 0xdb, TEXT, 1},   {0xc4, 0xc6, TEXT, 1}, /* the last are bytes */
    {0x90, 0x9f, ARRAY, 0},  {0xdc, 0xdd, ARRAY, 2},
    {0xc0, 0xc3, OTHER, 0},  {0xcb, 0xcb, OTHER, 8},  {0xd0, 0xd3, OTHER, 1}, {0xe0, 0xff, OTHER, 0},
};

static enum Kind take_head(Reader *from, uint64_t *number) {
    uint8_t byte = *take(from, 1).at;
    for (size_t i = 0; i < sizeof HEADS / sizeof *HEADS; i++)
        if (HEADS[i].first <= byte && byte <= HEADS[i].last) {
            unsigned step = byte - HEADS[i].first;
            *number = HEADS[i].bytes ? take_number(from, HEADS[i].bytes << step) : step;
            return HEADS[i].kind;
        }
    fail("the sidecar sent a value that begins with %#x", byte);
}

static Reader skip(Reader *from) { /* step over a value; the value as it came */
    Reader skipped = *from;
    for (uint64_t left = 1, number; left; left--) {
        enum Kind kind = take_head(from, &number);
        if (kind == ARRAY) left += number;
        if (kind == TEXT) take(from, number);
    }
    skipped.end = from->at;
    return skipped;
}

static uint64_t read_number(Reader *from) {
    uint64_t number;
    if (take_head(from, &number) != NUMBER) fail("the sidecar sent something else where a number belongs");
    return number;
}

static Reader read_text(Reader *from) { /* or bytes */
    uint64_t count;
    if (take_head(from, &count) != TEXT) fail("the sidecar sent something else where text or bytes belong");
    return take(from, count);
}

/* Step over an array; what is in it. So fields that a later version has appended are passed over. */
static Reader read_array(Reader *from) {
    Reader inside = skip(from);
    uint64_t count;
    if (take_head(&inside, &count) != ARRAY) fail("the sidecar sent something else where an array belongs");
    return inside;
}

static bool is(Reader text, const char *what) {
    return (size_t)(text.end - text.at) == strlen(what) && !memcmp(text.at, what, strlen(what));
}
