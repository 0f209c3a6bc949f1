/* An engine's front end in C, which speaks docs/protocol.md itself.
 *
 *     cc -std=c11 -O2 -o client client.c
 *     ./client /run/mmplane.sock photo.jpg 0
 *
 * It attaches to a sidecar as a producer, has the features of a picture made, reads them in place, and leases them to
 * the ranks of group 0, for which it waits. It prints a line for each array, and then the record for the ranks in hex:
 * mmplane.Inbox opens it, as would a rank in any other language. What goes wrong is one line on standard error, and
 * exit code 1. Linux, a little-endian machine and no library are needed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

__attribute__((format(printf, 1, 2))) static noreturn void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("client: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

#include "blake3.h"
#include "msgpack.h"

enum { VERSION = 1, LABEL_VERSION = 1, DESCRIPTORS_MAX = 96, ANSWER_SECONDS = 60 };
#define FOR_PRINTF(text) (int)((text).end - (text).at), (const char *)(text).at /* a Reader as %.*s */

/* Messages and the descriptors beside them. */

typedef struct { uint64_t number, length_bytes; const uint8_t *at; } Region;

typedef struct {
    int socket;
    int descriptors[DESCRIPTORS_MAX]; /* beside the last record */
    size_t descriptor_count;
    uint8_t plane[16];
    Region regions[DESCRIPTORS_MAX];
    size_t region_count;
} Sidecar;

typedef union { struct cmsghdr head; uint8_t bytes[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))]; } Beside;

static void send_record(const Sidecar *to, Message *record, const int *descriptor) {
    Beside beside = {{CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec whole = {record->bytes, record->count};
    struct msghdr message = {.msg_iov = &whole, .msg_iovlen = 1};
    if (descriptor) {
        memcpy(CMSG_DATA(&beside.head), descriptor, sizeof(int));
        message.msg_control = &beside;
        message.msg_controllen = CMSG_SPACE(sizeof(int));
    }
    if (sendmsg(to->socket, &message, MSG_NOSIGNAL) < 0) fail("the sidecar has ended: %s", strerror(errno));
}

/* The next record's tag and fields, which are there until the next one is received. */
static Reader receive_record(Sidecar *from) {
    static uint8_t bytes[MESSAGE_BYTES_MAX];
    Beside beside;
    struct iovec whole = {bytes, sizeof bytes};
    struct msghdr message = {
        .msg_iov = &whole, .msg_iovlen = 1, .msg_control = &beside, .msg_controllen = sizeof beside,
    };
    ssize_t count = recvmsg(from->socket, &message, MSG_CMSG_CLOEXEC);
    if (count < 0) fail("the sidecar does not answer: %s", strerror(errno));
    if (count == 0) fail("the sidecar has ended, or has closed this connection");
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) fail("the sidecar sent a message that is too long");
    from->descriptor_count = 0;
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS) {
        from->descriptor_count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(from->descriptors, CMSG_DATA(head), from->descriptor_count * sizeof(int));
    }
    return read_array(&(Reader){bytes, bytes + count});
}

/* Regions: the memory that features are in. */

typedef struct { char magic[8]; uint32_t version; uint8_t plane[16]; uint32_t region; uint64_t length_bytes; } Label;
_Static_assert(sizeof(Label) == 40, "a label has no padding");

static void map_region(Sidecar *sidecar, Reader region, size_t at) {
    uint64_t number = read_number(&region), length_bytes = read_number(&region);
    if (at >= sidecar->descriptor_count) fail("region %" PRIu64 " came without a descriptor", number);
    if (sidecar->region_count == DESCRIPTORS_MAX) fail("there are more than %d regions", DESCRIPTORS_MAX);
    int descriptor = sidecar->descriptors[at];
    Label found, right = {"mmplane", LABEL_VERSION, {0}, (uint32_t)number, length_bytes};
    memcpy(right.plane, sidecar->plane, sizeof right.plane);
    ssize_t count = pread(descriptor, &found, sizeof found, (off_t)length_bytes);
    if (count != sizeof found || memcmp(&found, &right, sizeof found))
        fail("region %" PRIu64 " is not one of this plane", number);
    void *memory = mmap(NULL, length_bytes, PROT_READ, MAP_SHARED, descriptor, 0);
    if (memory == MAP_FAILED) fail("region %" PRIu64 " cannot be mapped: %s", number, strerror(errno));
    close(descriptor);
    sidecar->regions[sidecar->region_count++] = (Region){number, length_bytes, memory};
}

static const uint8_t *find_slot(const Sidecar *sidecar, Reader slot, uint64_t *slot_bytes) {
    uint64_t number = read_number(&slot), offset_bytes = read_number(&slot);
    *slot_bytes = read_number(&slot);
    for (size_t i = 0; i < sidecar->region_count; i++) {
        const Region *region = &sidecar->regions[i];
        if (region->number != number) continue;
        if (offset_bytes > region->length_bytes || *slot_bytes > region->length_bytes - offset_bytes) break;
        return region->at + offset_bytes;
    }
    fail("an item lies outside of the regions");
}

/* The conversation. */

static Sidecar attach(const char *path) {
    Sidecar sidecar = {.socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) fail("%s is too long for a socket's path", path);
    memcpy(address.sun_path, path, strlen(path));
    if (connect(sidecar.socket, (struct sockaddr *)&address, sizeof address) < 0)
        fail("no sidecar listens at %s: %s", path, strerror(errno));
    struct timeval limit = {.tv_sec = ANSWER_SECONDS};
    setsockopt(sidecar.socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);

    Message hello = {0};
    put_array(&hello, 3), put_text(&hello, "hello"), put_number(&hello, VERSION), put_text(&hello, "producer");
    send_record(&sidecar, &hello, NULL);
    Reader fields = receive_record(&sidecar), tag = read_text(&fields);
    if (is(tag, "refused")) {
        Reader reason = read_text(&fields);
        fail("the sidecar refuses: %.*s", FOR_PRINTF(reason));
    }
    if (!is(tag, "welcome") || read_number(&fields) != VERSION) fail("this is no sidecar of version %d", VERSION);
    Reader plane = read_text(&fields);
    memcpy(sidecar.plane, take(&plane, sizeof sidecar.plane).at, sizeof sidecar.plane);
    skip(&fields); /* the fingerprint of its processors */
    Reader regions = read_array(&fields);
    for (size_t at = 0; regions.at < regions.end; at++) map_region(&sidecar, read_array(&regions), at);
    return sidecar;
}

/* The fields of the answer to `request`, behind its number. `media` is handed over if the sidecar needs the bytes. */
static Reader ask(Sidecar *sidecar, Message *question, uint64_t request, const char *wanted, const int *media) {
    send_record(sidecar, question, NULL);
    for (;;) {
        Reader fields = receive_record(sidecar), tag = read_text(&fields);
        if (is(tag, "region_up")) {
            map_region(sidecar, read_array(&fields), 0);
            continue;
        }
        if (read_number(&fields) != request) fail("the sidecar answers what was not asked");
        if (is(tag, wanted)) return fields;
        if (is(tag, "failed")) {
            Reader failure = read_array(&fields);
            skip(&failure); /* the status */
            Reader code = read_text(&failure), why = read_text(&failure);
            fail("%.*s: %.*s", FOR_PRINTF(code), FOR_PRINTF(why));
        }
        if (!is(tag, "need_bytes") || !media) fail("the sidecar sent %.*s instead of %s", FOR_PRINTF(tag), wanted);
        Message bytes = {0};
        put_array(&bytes, 2), put_text(&bytes, "bytes"), put_number(&bytes, request);
        send_record(sidecar, &bytes, media);
    }
}

/* A descriptor of memory with the file's content, which nobody can change or shrink any more; and its digest. */
static int seal(const char *path, uint8_t digest[32], uint64_t *length_bytes) {
    int file = open(path, O_RDONLY | O_CLOEXEC), memory = memfd_create("media", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (file < 0 || memory < 0) fail("%s: %s", path, strerror(errno));
    while (sendfile(memory, file, NULL, 1 << 30) > 0) continue;
    close(file);
    struct stat status;
    if (fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) < 0 || fstat(memory, &status) < 0)
        fail("%s: %s", path, strerror(errno));
    *length_bytes = (uint64_t)status.st_size;
    void *content = mmap(NULL, *length_bytes, PROT_READ, MAP_PRIVATE, memory, 0);
    if (content == MAP_FAILED) fail("%s has no content", path);
    blake3(digest, content, *length_bytes);
    munmap(content, *length_bytes);
    return memory;
}

/* A hold on the features of a picture; `item`, where they are, is copied as it came. */
static uint64_t obtain(Sidecar *sidecar, const char *path, Message *item) {
    uint8_t digest[32];
    uint64_t length_bytes;
    int media = seal(path, digest, &length_bytes);
    Message question = {0};
    put_array(&question, 3), put_text(&question, "obtain"), put_number(&question, 1);
    put_array(&question, 3); /* media: what is wanted of it, digest, length */
    put_array(&question, 1), put_text(&question, "image");
    put_bytes(&question, digest, sizeof digest), put_number(&question, length_bytes);
    Reader answer = ask(sidecar, &question, 1, "holding", &media);
    uint64_t hold = read_number(&answer);
    Reader came = skip(&answer);
    put(item, came.at, (size_t)(came.end - came.at));
    close(media);
    return hold;
}

static uint64_t element_bytes(Reader dtype) {
    static const struct { const char *name; uint64_t bytes; } DTYPES[] = {
        {"bool", 1},  {"uint8", 1},   {"int8", 1},  {"int16", 2},   {"float16", 2}, {"bfloat16", 2},
        {"int32", 4}, {"float32", 4}, {"int64", 8}, {"float64", 8},
    };
    for (size_t i = 0; i < sizeof DTYPES / sizeof *DTYPES; i++)
        if (is(dtype, DTYPES[i].name)) return DTYPES[i].bytes;
    fail("there is no dtype %.*s", FOR_PRINTF(dtype));
}

static void print_hex(const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) printf("%02x", bytes[i]);
    putchar('\n');
}

/* NAME DTYPE [SIDE, ...] and the digest of the bytes, which are read where they lie. */
static void show_array(Reader tensor, const uint8_t *slot, uint64_t slot_bytes) {
    Reader name = read_text(&tensor), dtype = read_text(&tensor), shape = read_array(&tensor);
    uint64_t offset_bytes = read_number(&tensor), bytes = element_bytes(dtype);
    printf("%.*s %.*s [", FOR_PRINTF(name), FOR_PRINTF(dtype));
    while (shape.at < shape.end) {
        uint64_t side = read_number(&shape);
        if (side && bytes > slot_bytes / side) fail("an array is larger than its slot");
        bytes *= side;
        printf("%" PRIu64 "%s", side, shape.at < shape.end ? ", " : "");
    }
    if (offset_bytes > slot_bytes || bytes > slot_bytes - offset_bytes) fail("an array reaches beyond its slot");
    uint8_t digest[32];
    blake3(digest, slot + offset_bytes, bytes);
    fputs("] ", stdout), print_hex(digest, sizeof digest);
}

static void show_item(const Sidecar *sidecar, const Message *came) {
    Reader whole = {came->bytes, came->bytes + came->count}, item = read_array(&whole);
    skip(&item), skip(&item), skip(&item); /* "item", the content key, the modality */
    uint64_t slot_bytes;
    const uint8_t *slot = find_slot(sidecar, read_array(&item), &slot_bytes);
    for (Reader tensors = read_array(&item); tensors.at < tensors.end;)
        show_array(read_array(&tensors), slot, slot_bytes);
}

/* Lease a held item to a group once its ranks are there; the record for them. */
static void lease(Sidecar *sidecar, uint64_t hold, uint64_t group, const Message *item, Message *leased) {
    Message wait = {0}, question = {0};
    put_array(&wait, 3), put_text(&wait, "await"), put_number(&wait, 2), put_number(&wait, group);
    ask(sidecar, &wait, 2, "done", NULL);
    put_array(&question, 4), put_text(&question, "lease"), put_number(&question, 3);
    put_number(&question, hold), put_number(&question, group);
    Reader answer = ask(sidecar, &question, 3, "leasing", NULL);
    uint64_t number = read_number(&answer), life = read_number(&answer);
    put_array(leased, 4), put_number(leased, number), put(leased, item->bytes, item->count);
    put_bytes(leased, sidecar->plane, sizeof sidecar->plane), put_number(leased, life);
}

int main(int count, char **arguments) {
    if (count != 4) fail("usage: client SOCKET PICTURE GROUP");
    Sidecar sidecar = attach(arguments[1]);
    Message item = {0}, leased = {0}, bye = {0};
    uint64_t hold = obtain(&sidecar, arguments[2], &item);
    show_item(&sidecar, &item);
    lease(&sidecar, hold, strtoull(arguments[3], NULL, 10), &item, &leased);
    printf("leased "), print_hex(leased.bytes, leased.count);
    put_array(&bye, 1), put_text(&bye, "bye"); /* which ends the hold too; the lease is the ranks' */
    send_record(&sidecar, &bye, NULL);
    return 0;
}
