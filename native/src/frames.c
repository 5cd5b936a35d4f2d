/* Levels out of JSON, without making a text of any of them.
 *
 * What is taken here is the one form that venues nearly always write: no blanks, no escapes, no signs, and in one
 * frame the same number of fractional digits in all prices, and in all sizes. All else is None.
 */
#include "native.h"

#define DIGITS_MAX 18 /* of one number, so that it fits in 64 bits whatever the digits are */
#define MS_MAX ((int64_t)9223372036854) /* of a time in ms, so that it is ns in 63 bits */
#define UNKNOWN (-1)

typedef struct {
    const unsigned char *at, *end;
} Cursor;

static inline int
take(Cursor *cursor, unsigned char wanted)
{
    if (cursor->at == cursor->end || *cursor->at != wanted)
        return 0;
    cursor->at++;
    return 1;
}

/* Digits as they stand in a text, leading zeros included; gives how many, 0 if none or too many. */
static inline int
take_digits(Cursor *cursor, uint64_t *value, int most)
{
    const unsigned char *from = cursor->at;
    while (cursor->at != cursor->end && (unsigned)(*cursor->at - '0') <= 9) {
        if (cursor->at - from == most)
            return 0;
        *value = *value * 10 + (uint64_t)(*cursor->at++ - '0');
    }
    return (int)(cursor->at - from);
}

/* "12.3400" with `scale` fractional digits as 123400; an UNKNOWN scale becomes that of the text. */
static inline int
take_decimal(Cursor *cursor, int *scale, int64_t *value)
{
    uint64_t digits = 0;
    int fraction = 0;
    if (!take(cursor, '"'))
        return 0;
    int whole = take_digits(cursor, &digits, DIGITS_MAX);
    if (whole == 0)
        return 0;
    if (take(cursor, '.')) {
        fraction = whole == DIGITS_MAX ? 0 : take_digits(cursor, &digits, DIGITS_MAX - whole);
        if (fraction == 0)
            return 0;
    }
    if (*scale == UNKNOWN)
        *scale = fraction;
    *value = (int64_t)digits;
    return fraction == *scale && take(cursor, '"');
}

/* One side, [["0.3513","6195.0"],...]: 1, or 0 if it is written otherwise, or -1 with MemoryError set. */
static int
take_side(Cursor *cursor, int *price_scale, int *size_scale, Values *values)
{
    int64_t price, size;
    if (!take(cursor, '['))
        return 0;
    if (take(cursor, ']'))
        return 1;
    do {
        if (!take(cursor, '[') || !take_decimal(cursor, price_scale, &price) || !take(cursor, ',')
            || !take_decimal(cursor, size_scale, &size) || !take(cursor, ']'))
            return 0;
        if (values_push(values, price) < 0 || values_push(values, size) < 0)
            return -1;
    } while (take(cursor, ','));
    return take(cursor, ']');
}

/* A whole side that is one buffer: a tuple, or None in `*refused` (then NULL is returned without an exception). */
static PyObject *
side_of(PyObject *object, int price_scale, int size_scale, int *is_refused)
{
    Py_buffer view;
    Values values;
    PyObject *tuple = NULL;
    if (PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) < 0) {
        PyErr_Clear();
        *is_refused = 1;
        return NULL;
    }
    Cursor cursor = {view.buf, (const unsigned char *)view.buf + view.len};
    values_begin(&values);
    int taken = take_side(&cursor, &price_scale, &size_scale, &values);
    if (taken == 1 && cursor.at == cursor.end)
        tuple = values_tuple(&values);
    else
        *is_refused = taken >= 0;
    values_end(&values);
    PyBuffer_Release(&view);
    return tuple;
}

/* even_sides(bids, asks, price_scale, size_scale) -> [(price, size, ...), (price, size, ...)], or None.
 *
 * Two sides of raw JSON, all prices with `price_scale` fractional digits and all sizes with `size_scale`.
 */
PyObject *
native_even_sides(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    uint64_t price_scale, size_scale;
    int is_refused = 0;
    if (count != 4 || !exact_uint(args[2], DIGITS_MAX, &price_scale) || !exact_uint(args[3], DIGITS_MAX, &size_scale))
        Py_RETURN_NONE;
    PyObject *sides = PyList_New(2);
    if (sides == NULL)
        return NULL;
    for (int side = 0; side < 2; side++) {
        PyObject *levels = side_of(args[side], (int)price_scale, (int)size_scale, &is_refused);
        if (levels == NULL) {
            Py_DECREF(sides);
            if (is_refused)
                Py_RETURN_NONE;
            return NULL;
        }
        PyList_SET_ITEM(sides, side, levels);
    }
    return sides;
}

/* An unsigned JSON number without leading zeros that is at most `most`. */
static int
take_number(Cursor *cursor, int64_t most, int64_t *number)
{
    uint64_t digits = 0;
    const unsigned char *from = cursor->at;
    int length = take_digits(cursor, &digits, DIGITS_MAX);
    if (length == 0 || (length > 1 && *from == '0') || (int64_t)digits > most)
        return 0;
    *number = (int64_t)digits;
    return 1;
}

/* A JSON text of printable ASCII without escapes; `*from` and `*length` are what stands between the quotes. */
static int
take_text(Cursor *cursor, const char **from, Py_ssize_t *length)
{
    if (!take(cursor, '"'))
        return 0;
    *from = (const char *)cursor->at;
    while (cursor->at != cursor->end && *cursor->at != '"') {
        if (*cursor->at < 0x20 || *cursor->at > 0x7e || *cursor->at == '\\')
            return 0;
        cursor->at++;
    }
    *length = (const char *)cursor->at - *from;
    return take(cursor, '"');
}

static int
is_text(const char *from, Py_ssize_t length, const char *wanted)
{
    return (size_t)length == strlen(wanted) && memcmp(from, wanted, (size_t)length) == 0;
}

/* The fields of a depthUpdate; `seen` has one bit for each that was there. */
enum { HAS_EVENT = 1, HAS_TIME = 2, HAS_TRANSACTION = 4, HAS_SYMBOL = 8, HAS_FIRST = 16, HAS_LAST = 32,
       HAS_PREVIOUS = 64, HAS_BIDS = 128, HAS_ASKS = 256 };
#define NEEDED (HAS_EVENT | HAS_SYMBOL | HAS_FIRST | HAS_LAST | HAS_BIDS | HAS_ASKS)

typedef struct {
    int seen, price_scale, size_scale;
    const char *symbol;
    Py_ssize_t symbol_length;
    int64_t time_ms, transaction_ms, first, last, previous;
    Values bids, asks;
} Depth;

static int
field_of(const char *key, Py_ssize_t length)
{
    if (length == 2)
        return key[0] == 'p' && key[1] == 'u' ? HAS_PREVIOUS : 0;
    if (length != 1)
        return 0;
    switch (key[0]) {
    case 'e': return HAS_EVENT;
    case 'E': return HAS_TIME;
    case 'T': return HAS_TRANSACTION;
    case 's': return HAS_SYMBOL;
    case 'U': return HAS_FIRST;
    case 'u': return HAS_LAST;
    case 'b': return HAS_BIDS;
    case 'a': return HAS_ASKS;
    default: return 0;
    }
}

static int
take_field(Cursor *cursor, int field, Depth *depth)
{
    const char *text;
    Py_ssize_t length;
    switch (field) {
    case HAS_EVENT: return take_text(cursor, &text, &length) && is_text(text, length, "depthUpdate");
    case HAS_TIME: return take_number(cursor, MS_MAX, &depth->time_ms);
    case HAS_TRANSACTION: return take_number(cursor, MS_MAX, &depth->transaction_ms);
    case HAS_SYMBOL: return take_text(cursor, &depth->symbol, &depth->symbol_length) && depth->symbol_length > 0;
    case HAS_FIRST: return take_number(cursor, INT64_MAX, &depth->first);
    case HAS_LAST: return take_number(cursor, INT64_MAX, &depth->last);
    case HAS_PREVIOUS: return take_number(cursor, INT64_MAX, &depth->previous);
    case HAS_BIDS: return take_side(cursor, &depth->price_scale, &depth->size_scale, &depth->bids);
    default: return take_side(cursor, &depth->price_scale, &depth->size_scale, &depth->asks);
    }
}

/* {"e":"depthUpdate",...}, each field at most once and no others: 1, 0 or -1 as of `take_side`. */
static int
take_depth(Cursor *cursor, Depth *depth)
{
    const char *key;
    Py_ssize_t length;
    if (!take(cursor, '{'))
        return 0;
    do {
        if (!take_text(cursor, &key, &length) || !take(cursor, ':'))
            return 0;
        int field = field_of(key, length);
        if (field == 0 || depth->seen & field)
            return 0;
        depth->seen |= field;
        int taken = take_field(cursor, field, depth);
        if (taken != 1)
            return taken;
    } while (take(cursor, ','));
    return take(cursor, '}') && (depth->seen & NEEDED) == NEEDED;
}

/* The frame, bare or as {"stream":"...","data":{...}}. */
static int
take_frame(Cursor *cursor, Depth *depth)
{
    static const char opening[] = "{\"stream\":";
    static const char between[] = ",\"data\":";
    const char *name;
    Py_ssize_t length;
    if ((size_t)(cursor->end - cursor->at) < sizeof(opening) || memcmp(cursor->at, opening, sizeof(opening) - 1) != 0) {
        int taken = take_depth(cursor, depth);
        return taken == 1 ? cursor->at == cursor->end : taken;
    }
    cursor->at += sizeof(opening) - 1;
    if (!take_text(cursor, &name, &length) || (size_t)(cursor->end - cursor->at) < sizeof(between)
        || memcmp(cursor->at, between, sizeof(between) - 1) != 0)
        return 0;
    cursor->at += sizeof(between) - 1;
    int taken = take_depth(cursor, depth);
    return taken == 1 ? take(cursor, '}') && cursor->at == cursor->end : taken;
}

static PyObject *
depth_tuple(const Depth *depth)
{
    PyObject *fields[8] = {
        PyUnicode_FromStringAndSize(depth->symbol, depth->symbol_length),
        PyLong_FromLongLong(depth->first),
        PyLong_FromLongLong(depth->last),
        depth->seen & HAS_PREVIOUS ? PyLong_FromLongLong(depth->previous) : Py_NewRef(Py_None),
        PyLong_FromLongLong(depth->transaction_ms ? depth->transaction_ms : depth->time_ms),
        values_tuple(&depth->bids),
        values_tuple(&depth->asks),
        Py_BuildValue("(ii)", depth->price_scale, depth->size_scale),
    };
    PyObject *tuple = PyTuple_New(8);
    for (int at = 0; at < 8; at++)
        if (fields[at] == NULL)
            Py_CLEAR(tuple);
    for (int at = 0; at < 8; at++) {
        if (tuple != NULL)
            PyTuple_SET_ITEM(tuple, at, fields[at]);
        else
            Py_XDECREF(fields[at]);
    }
    return tuple;
}

/* depth_update(frame) -> (symbol, U, u, pu or None, ms, bids, asks, (price scale, size scale)), or None.
 *
 * Binance's depth frame as bytes. A scale is -1 where the frame has no level to show it.
 */
PyObject *
native_depth_update(PyObject *module, PyObject *frame)
{
    if (!PyBytes_CheckExact(frame))
        Py_RETURN_NONE;
    const unsigned char *from = (const unsigned char *)PyBytes_AS_STRING(frame);
    Cursor cursor = {from, from + PyBytes_GET_SIZE(frame)};
    Depth depth;
    memset(&depth, 0, offsetof(Depth, bids));
    depth.price_scale = depth.size_scale = UNKNOWN;
    values_begin(&depth.bids);
    values_begin(&depth.asks);
    int taken = take_frame(&cursor, &depth);
    PyObject *found = NULL;
    if (taken == 1)
        found = depth_tuple(&depth);
    else if (taken == 0)
        found = Py_NewRef(Py_None);
    values_end(&depth.bids);
    values_end(&depth.asks);
    return found;
}
