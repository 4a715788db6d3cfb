/* Times, id digests and columns: Rows of rows.py. */
#include "rows.h"

static int64_t tick_at(const Rows *rows, size_t row)
{
    if (rows->time_width == 4) {
        uint32_t tick;
        memcpy(&tick, rows->times.bytes + row * 4, 4);
        return tick;
    }
    int64_t tick;
    memcpy(&tick, rows->times.bytes + row * 8, 8);
    return tick;
}

size_t rows_count(const Rows *rows) { return rows->times.size / rows->time_width; }

size_t rows_row_bytes(const Rows *rows)
{
    size_t bytes = rows->time_width + DIGEST_BYTES;
    for (int i = 0; i < rows->columns; i++)
        bytes += rows->column[i].width;
    return bytes;
}

int64_t rows_time(const Rows *rows, size_t row)
{
    return tick_at(rows, row) * rows->unit + rows->base;
}

int64_t rows_tick(const Rows *rows, int64_t time)
{
    int64_t apart = time - rows->base, tick = apart / rows->unit;
    return tick - (apart % rows->unit < 0); /* downwards, as Python divides */
}

size_t rows_upto(const Rows *rows, int64_t time, size_t stop)
{
    int64_t tick = rows_tick(rows, time);
    size_t low = 0, high = stop;
    if (stop && tick_at(rows, stop - 1) <= tick)
        return stop;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (tick_at(rows, middle) <= tick)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int rows_has(const Buffer *digests, const uint8_t *digest)
{
    enum { AT_ONCE = 16 }; /* without a branch between them */
    const uint8_t *at = digests->bytes;
    size_t left = digests->size / DIGEST_BYTES;
    uint64_t own = 0, other;
    memcpy(&own, digest, DIGEST_BYTES);
    for (; left > AT_ONCE; left -= AT_ONCE) { /* one more follows: its bytes may be read as well */
        uint64_t found = 0;
        for (int i = 0; i < AT_ONCE; i++, at += DIGEST_BYTES) {
            memcpy(&other, at, sizeof other);
            found |= (other & 0xffffffffffff) == own;
        }
        if (found)
            return 1;
    }
    for (; left > 0; left--, at += DIGEST_BYTES)
        if (memcmp(at, digest, DIGEST_BYTES) == 0)
            return 1;
    return 0;
}

int rows_time_fits(const Rows *rows, int64_t time)
{
    int64_t tick = rows_tick(rows, time);
    if (tick * rows->unit + rows->base != time)
        return 0;
    return rows->time_width == 8 || (tick >= 0 && tick <= UINT32_MAX);
}

/* The most compact ticks that hold the times of all rows and one more: of none before 1970. */
static void choose_ticks(Rows *rows, const int64_t *times, size_t n)
{
    int64_t low = times[0], high = times[0];
    int seconds = 1, milliseconds = 1;
    for (size_t i = 0; i < n; i++) {
        low = times[i] < low ? times[i] : low;
        high = times[i] > high ? times[i] : high;
        seconds &= times[i] % 1000000 == 0;
        milliseconds &= times[i] % 1000 == 0;
    }
    int64_t base = low / 1000 * 1000, most = 1LL << 32;
    rows->unit = 1, rows->base = 0, rows->time_width = 8;
    if (seconds && high < most * 1000000)
        rows->unit = 1000000, rows->time_width = 4;
    else if (milliseconds && high - base < most * 1000)
        rows->unit = 1000, rows->base = base, rows->time_width = 4;
}

static int repack_times(Rows *rows, int64_t time)
{
    size_t n = rows_count(rows);
    Buffer found = {0};
    int64_t *times = malloc((n + 1) * sizeof *times);
    if (!times)
        return -1;
    for (size_t row = 0; row < n; row++)
        times[row] = rows_time(rows, row);
    times[n] = time;
    choose_ticks(rows, times, n + 1);
    if (buffer_reserve(&found, (n + 1) * rows->time_width)) {
        free(times);
        return -1;
    }
    for (size_t row = 0; row < n; row++) {
        int64_t tick = rows_tick(rows, times[row]);
        buffer_insert(&found, found.size, &tick, rows->time_width);
    }
    free(times);
    buffer_free(&rows->times);
    rows->times = found;
    return 0;
}

/* Where a row belongs among those of the same tick: by its digest. */
static size_t place_of(const Rows *rows, int64_t time, const uint8_t *digest)
{
    int64_t tick = rows_tick(rows, time);
    size_t at = rows_upto(rows, time, rows_count(rows));
    while (at && tick_at(rows, at - 1) == tick) {
        if (memcmp(rows->digests.bytes + (at - 1) * DIGEST_BYTES, digest, DIGEST_BYTES) <= 0)
            break;
        at--;
    }
    return at;
}

int rows_insert(Rows *rows, int64_t time, const uint8_t *digest, const Value *values)
{
    size_t n = rows_count(rows);
    if (!rows_time_fits(rows, time) && repack_times(rows, time))
        return -1;
    if (buffer_reserve(&rows->times, 8) || buffer_reserve(&rows->digests, DIGEST_BYTES))
        return -1;
    int64_t tick = rows_tick(rows, time);
    size_t at = place_of(rows, time, digest);
    buffer_insert(&rows->times, at * rows->time_width, &tick, rows->time_width);
    buffer_insert(&rows->digests, at * DIGEST_BYTES, digest, DIGEST_BYTES);
    for (int i = 0; i < rows->columns; i++)
        if (column_insert(&rows->column[i], n, at, values[i]))
            return -1;
    return 0;
}

void rows_drop(Rows *rows, size_t stop)
{
    buffer_drop(&rows->times, stop * rows->time_width);
    buffer_drop(&rows->digests, stop * DIGEST_BYTES);
    for (int i = 0; i < rows->columns; i++)
        column_drop(&rows->column[i], stop);
}

void rows_free(Rows *rows)
{
    buffer_free(&rows->times);
    buffer_free(&rows->digests);
    for (int i = 0; i < rows->columns; i++)
        buffer_free(&rows->column[i].data);
}
