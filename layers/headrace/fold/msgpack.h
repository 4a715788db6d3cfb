/* The part of msgpack in which states are packed: written as msgspec writes it, byte for byte.
 * Source: the MessagePack specification, https://github.com/msgpack/msgpack/blob/master/spec.md */
#ifndef HEADRACE_MSGPACK_H
#define HEADRACE_MSGPACK_H

#include "buffer.h"

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
    int failed; /* what was read is not what was expected: nothing after it means anything */
} Reader;

typedef struct {
    const uint8_t *bytes;
    size_t size;
} Slice;

/* Unsigned big-endian integer of so many bytes. */
static inline uint64_t read_big(Reader *reader, int width)
{
    uint64_t value = 0;
    if (reader->failed || reader->end - reader->at < width) {
        reader->failed = 1;
        return 0;
    }
    for (int i = 0; i < width; i++)
        value = value << 8 | *reader->at++;
    return value;
}

static inline int64_t read_int(Reader *reader)
{
    uint8_t tag = (uint8_t)read_big(reader, 1);
    if (tag < 0x80)
        return tag;
    if (tag >= 0xe0)
        return (int8_t)tag;
    switch (tag) {
    case 0xcc: case 0xcd: case 0xce:
        return (int64_t)read_big(reader, 1 << (tag - 0xcc));
    case 0xcf: {
        uint64_t value = read_big(reader, 8);
        reader->failed |= value > INT64_MAX;
        return (int64_t)value;
    }
    case 0xd0: return (int8_t)read_big(reader, 1);
    case 0xd1: return (int16_t)read_big(reader, 2);
    case 0xd2: return (int32_t)read_big(reader, 4);
    case 0xd3: return (int64_t)read_big(reader, 8);
    }
    reader->failed = 1;
    return 0;
}

static inline Slice read_slice(Reader *reader, size_t size)
{
    if (reader->failed || (size_t)(reader->end - reader->at) < size) {
        reader->failed = 1;
        return (Slice){NULL, 0};
    }
    Slice slice = {reader->at, size};
    reader->at += size;
    return slice;
}

static inline Slice read_bytes(Reader *reader)
{
    uint8_t tag = (uint8_t)read_big(reader, 1);
    if (tag < 0xc4 || tag > 0xc6)
        reader->failed = 1;
    return read_slice(reader, reader->failed ? 0 : (size_t)read_big(reader, 1 << (tag - 0xc4)));
}

static inline Slice read_text(Reader *reader)
{
    uint8_t tag = (uint8_t)read_big(reader, 1);
    if (tag >= 0xa0 && tag < 0xc0)
        return read_slice(reader, tag & 0x1f);
    if (tag < 0xd9 || tag > 0xdb)
        reader->failed = 1;
    return read_slice(reader, reader->failed ? 0 : (size_t)read_big(reader, 1 << (tag - 0xd9)));
}

/* Number of entries; ``few`` is the tag of none, ``many`` of a 16-bit number of them. */
static inline size_t read_count(Reader *reader, uint8_t few, uint8_t many)
{
    uint8_t tag = (uint8_t)read_big(reader, 1);
    if ((tag & 0xf0) == few)
        return tag & 0x0f;
    if (tag != many)
        reader->failed = 1;
    return (size_t)read_big(reader, 2);
}

static inline size_t read_array(Reader *reader) { return read_count(reader, 0x90, 0xdc); }
static inline size_t read_map(Reader *reader) { return read_count(reader, 0x80, 0xde); }

/* Writing: into room that was reserved, 9 bytes for a number or a head. */

static inline void write_big(Buffer *out, uint8_t tag, uint64_t value, int width)
{
    out->bytes[out->size++] = tag;
    for (int i = width - 1; i >= 0; i--)
        out->bytes[out->size++] = (uint8_t)(value >> 8 * i);
}

static inline void write_int(Buffer *out, int64_t value)
{
    if (value >= -32 && value < 128)
        out->bytes[out->size++] = (uint8_t)value;
    else if (value >= 0) {
        if (value <= UINT8_MAX) write_big(out, 0xcc, (uint64_t)value, 1);
        else if (value <= UINT16_MAX) write_big(out, 0xcd, (uint64_t)value, 2);
        else if (value <= UINT32_MAX) write_big(out, 0xce, (uint64_t)value, 4);
        else write_big(out, 0xcf, (uint64_t)value, 8);
    } else {
        if (value >= INT8_MIN) write_big(out, 0xd0, (uint64_t)value, 1);
        else if (value >= INT16_MIN) write_big(out, 0xd1, (uint64_t)value, 2);
        else if (value >= INT32_MIN) write_big(out, 0xd2, (uint64_t)value, 4);
        else write_big(out, 0xd3, (uint64_t)value, 8);
    }
}

static inline void write_sized_head(Buffer *out, uint8_t tag, size_t size)
{
    int width = size <= UINT8_MAX ? 1 : size <= UINT16_MAX ? 2 : 4;
    write_big(out, (uint8_t)(tag + width / 2), size, width);
}

static inline void write_sized(Buffer *out, uint8_t tag, const void *bytes, size_t size)
{
    write_sized_head(out, tag, size);
    if (size)
        memcpy(out->bytes + out->size, bytes, size);
    out->size += size;
}

static inline void write_bytes(Buffer *out, const void *bytes, size_t size)
{
    write_sized(out, 0xc4, bytes, size);
}

static inline void write_text(Buffer *out, const char *text, size_t size)
{
    if (size >= 32) {
        write_sized(out, 0xd9, text, size);
        return;
    }
    out->bytes[out->size++] = (uint8_t)(0xa0 | size);
    memcpy(out->bytes + out->size, text, size);
    out->size += size;
}

static inline void write_count(Buffer *out, uint8_t few, uint8_t many, size_t count)
{
    if (count < 16)
        out->bytes[out->size++] = (uint8_t)(few | count);
    else
        write_big(out, many, count, 2);
}

#endif
