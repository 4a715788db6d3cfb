/* Bytes that are read where they lie until something changes them. */
#ifndef HEADRACE_BUFFER_H
#define HEADRACE_BUFFER_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint8_t *bytes;
    size_t size;
    size_t room; /* 0: borrowed from the stored state, which must outlive this */
} Buffer;

static inline Buffer buffer_borrowed(const uint8_t *bytes, size_t size)
{
    return (Buffer){(uint8_t *)bytes, size, 0};
}

static inline void buffer_free(Buffer *buffer)
{
    if (buffer->room)
        free(buffer->bytes);
    *buffer = (Buffer){NULL, 0, 0};
}

/* Own the bytes, with room for so many more. Returns 0, or -1 without memory. */
static inline int buffer_reserve(Buffer *buffer, size_t more)
{
    size_t wanted = buffer->size + more;
    if (wanted <= buffer->room)
        return 0;
    size_t room = wanted + wanted / 8 + 64;
    uint8_t *bytes = buffer->room ? realloc(buffer->bytes, room) : malloc(room);
    if (!bytes)
        return -1;
    if (!buffer->room && buffer->size)
        memcpy(bytes, buffer->bytes, buffer->size);
    buffer->bytes = bytes;
    buffer->room = room;
    return 0;
}

/* Put bytes in at an offset, in room that was reserved. */
static inline void buffer_insert(Buffer *buffer, size_t at, const void *bytes, size_t size)
{
    if (at < buffer->size)
        memmove(buffer->bytes + at + size, buffer->bytes + at, buffer->size - at);
    memcpy(buffer->bytes + at, bytes, size);
    buffer->size += size;
}

static inline int buffer_append(Buffer *buffer, const void *bytes, size_t size)
{
    if (buffer_reserve(buffer, size))
        return -1;
    buffer_insert(buffer, buffer->size, bytes, size);
    return 0;
}

/* Forget the first bytes; of what is borrowed, look past them. */
static inline void buffer_drop(Buffer *buffer, size_t size)
{
    if (buffer->room)
        memmove(buffer->bytes, buffer->bytes + size, buffer->size - size);
    else
        buffer->bytes += size;
    buffer->size -= size;
}

#endif
