/* Codec: messages out of bytes and out of book events, with the classes of raytrade.core.message.
 *
 * A codec holds the classes it builds, the members of the two enumerations by their values, and a bounded memory of
 * names; nothing is kept in the module.
 */
#include "native.h"

/* The layout of a message's header, see HEADER in raytrade/core/message.py. */
enum { AT_LENGTH = 0, AT_KIND = 4, AT_CHANNEL = 5, AT_PRICE_SCALE = 6, AT_SIZE_SCALE = 7, AT_NAME = 8, AT_LINE = 9,
       AT_FLAGS = 10, AT_ID_PREV = 12, AT_ID_LAST = 20, AT_EPOCH = 28, AT_VENUE_NS = 36, AT_RECV_NS = 44,
       AT_HASH = 52, AT_DEPTH = 60, AT_BIDS = 64, AT_ASKS = 68, HEADER_BYTES = 72 };
#define WIDE 1
#define KIND_SNAPSHOT 1
#define KIND_DELTA 2
#define SCALE_MAX 18
#define NAME_BYTES_MAX 255
#define NAMES_MAX 65536
#define MESSAGE_FIELDS 18

enum { INSTRUMENT, ID_PREV, ID_LAST, BIDS, ASKS, PRICE_SCALE, SIZE_SCALE, VENUE_NS, RECV_NS, EPOCH, DEPTH, HASH, FLAGS,
       ATTRIBUTES };
static const char *const attribute_names[ATTRIBUTES] = {
    "instrument", "id_prev", "id_last", "bids", "asks", "price_scale", "size_scale", "ts_venue_ns", "ts_recv_ns",
    "epoch", "depth", "state_hash", "flags",
};

typedef struct {
    PyObject_HEAD
    PyObject *message, *delta, *snapshot; /* classes */
    PyObject *kinds, *channels;           /* tuples: the member of each value, or None */
    PyObject *names;                      /* bytes -> str */
    PyObject *attributes[ATTRIBUTES];     /* interned */
} Codec;

static int
codec_traverse(Codec *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->message);
    Py_VISIT(self->delta);
    Py_VISIT(self->snapshot);
    Py_VISIT(self->kinds);
    Py_VISIT(self->channels);
    Py_VISIT(self->names);
    return 0;
}

static int
codec_clear(Codec *self)
{
    Py_CLEAR(self->message);
    Py_CLEAR(self->delta);
    Py_CLEAR(self->snapshot);
    Py_CLEAR(self->kinds);
    Py_CLEAR(self->channels);
    Py_CLEAR(self->names);
    for (int at = 0; at < ATTRIBUTES; at++)
        Py_CLEAR(self->attributes[at]);
    return 0;
}

static void
codec_dealloc(Codec *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    codec_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Codec(Message, BookDelta, BookSnapshot, kinds, channels). */
static PyObject *
codec_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *message, *delta, *snapshot, *kinds, *channels;
    if (keywords != NULL && PyDict_GET_SIZE(keywords) > 0) {
        PyErr_SetString(PyExc_TypeError, "Codec takes no keywords");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "OOOO!O!:Codec", &message, &delta, &snapshot, &PyTuple_Type, &kinds, &PyTuple_Type,
                          &channels))
        return NULL;
    Codec *self = (Codec *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->message = Py_NewRef(message);
    self->delta = Py_NewRef(delta);
    self->snapshot = Py_NewRef(snapshot);
    self->kinds = Py_NewRef(kinds);
    self->channels = Py_NewRef(channels);
    self->names = PyDict_New();
    int is_whole = self->names != NULL;
    for (int at = 0; at < ATTRIBUTES; at++) {
        self->attributes[at] = PyUnicode_InternFromString(attribute_names[at]);
        is_whole = is_whole && self->attributes[at] != NULL;
    }
    if (!is_whole)
        Py_CLEAR(self);
    return (PyObject *)self;
}

/* The member of a value (borrowed); NULL, without an exception, where there is none. */
static PyObject *
member_of(PyObject *members, unsigned char value)
{
    PyObject *member = value < PyTuple_GET_SIZE(members) ? PyTuple_GET_ITEM(members, value) : Py_None;
    return member == Py_None ? NULL : member;
}

/* The text of a name (a new reference); NULL without an exception where it is no UTF-8. */
static PyObject *
name_text(Codec *self, const unsigned char *from, Py_ssize_t length)
{
    PyObject *key = PyBytes_FromStringAndSize((const char *)from, length);
    if (key == NULL)
        return NULL;
    PyObject *text = PyDict_GetItemWithError(self->names, key);
    if (text != NULL) {
        Py_INCREF(text);
    }
    else if (!PyErr_Occurred()) {
        text = PyUnicode_DecodeUTF8((const char *)from, length, "strict");
        if (text == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
            PyErr_Clear();
        if (text != NULL) {
            if (PyDict_GET_SIZE(self->names) >= NAMES_MAX)
                PyDict_Clear(self->names);
            if (PyDict_SetItem(self->names, key, text) < 0)
                Py_CLEAR(text);
        }
    }
    Py_DECREF(key);
    return text;
}

/* The two names of the last message: most messages of a run have the same. */
typedef struct {
    const unsigned char *bytes;
    Py_ssize_t name_length, line_length;
    PyObject *name, *line;
} Names;

static int
names_of(Codec *self, const unsigned char *bytes, Py_ssize_t name_length, Py_ssize_t line_length, Names *names)
{
    if (names->bytes != NULL && name_length == names->name_length && line_length == names->line_length
        && memcmp(names->bytes, bytes, (size_t)(name_length + line_length)) == 0)
        return 1;
    Py_CLEAR(names->name);
    Py_CLEAR(names->line);
    names->bytes = NULL;
    names->name = name_text(self, bytes, name_length);
    if (names->name != NULL)
        names->line = name_text(self, bytes + name_length, line_length);
    if (names->line == NULL)
        return 0;
    names->bytes = bytes;
    names->name_length = name_length;
    names->line_length = line_length;
    return 1;
}

static inline PyObject *
signed_at(const unsigned char *bytes, int at)
{
    return PyLong_FromLongLong((int64_t)read_le(bytes + at, 8));
}

static inline PyObject *
unsigned_at(const unsigned char *bytes, int at, int width)
{
    return PyLong_FromUnsignedLongLong(read_le(bytes + at, width));
}

/* Build a Message of fields that are stolen, NULLs among them being an exception that is set. */
static PyObject *
build(Codec *self, PyObject **fields)
{
    PyObject *message = NULL;
    int is_whole = 1;
    for (int at = 0; at < MESSAGE_FIELDS; at++)
        is_whole = is_whole && fields[at] != NULL;
    if (is_whole)
        message = PyObject_Vectorcall(self->message, fields, MESSAGE_FIELDS, NULL);
    for (int at = 0; at < MESSAGE_FIELDS; at++)
        Py_XDECREF(fields[at]);
    return message;
}

/* Read the one message that lies in `length` bytes. `raw` is these bytes as an object, or NULL: then it is made here.
 * NULL without an exception where it is not one whole message.
 */
static PyObject *
read_message(Codec *self, const unsigned char *bytes, Py_ssize_t length, PyObject *raw, Names *names)
{
    if (length < HEADER_BYTES || read_le(bytes + AT_LENGTH, 4) != (uint64_t)length)
        return NULL;
    Py_ssize_t name_length = bytes[AT_NAME], line_length = bytes[AT_LINE];
    Py_ssize_t body_start = HEADER_BYTES + name_length + line_length;
    uint64_t level_bytes = read_le(bytes + AT_FLAGS, 2) & WIDE ? 32 : 16;
    uint64_t levels = read_le(bytes + AT_BIDS, 4) + read_le(bytes + AT_ASKS, 4);
    if (body_start > length || levels > (uint64_t)(length - body_start) / level_bytes)
        return NULL;
    PyObject *kind = member_of(self->kinds, bytes[AT_KIND]), *channel = member_of(self->channels, bytes[AT_CHANNEL]);
    if (kind == NULL || channel == NULL || bytes[AT_PRICE_SCALE] > SCALE_MAX || bytes[AT_SIZE_SCALE] > SCALE_MAX
        || !names_of(self, bytes + HEADER_BYTES, name_length, line_length, names))
        return NULL;
    PyObject *fields[MESSAGE_FIELDS] = {
        Py_NewRef(kind),
        Py_NewRef(channel),
        unsigned_at(bytes, AT_FLAGS, 2),
        Py_NewRef(names->name),
        Py_NewRef(names->line),
        signed_at(bytes, AT_ID_PREV),
        signed_at(bytes, AT_ID_LAST),
        signed_at(bytes, AT_EPOCH),
        signed_at(bytes, AT_VENUE_NS),
        signed_at(bytes, AT_RECV_NS),
        unsigned_at(bytes, AT_HASH, 8),
        unsigned_at(bytes, AT_DEPTH, 4),
        unsigned_at(bytes, AT_PRICE_SCALE, 1),
        unsigned_at(bytes, AT_SIZE_SCALE, 1),
        unsigned_at(bytes, AT_BIDS, 4),
        unsigned_at(bytes, AT_ASKS, 4),
        PyLong_FromSsize_t(body_start),
        raw != NULL ? Py_NewRef(raw) : PyBytes_FromStringAndSize((const char *)bytes, length),
    };
    return build(self, fields);
}

/* parse(raw) -> Message, or None. */
static PyObject *
codec_parse(Codec *self, PyObject *raw)
{
    if (!PyBytes_CheckExact(raw))
        Py_RETURN_NONE;
    Names names = {0};
    const unsigned char *bytes = (const unsigned char *)PyBytes_AS_STRING(raw);
    PyObject *message = read_message(self, bytes, PyBytes_GET_SIZE(raw), raw, &names);
    Py_XDECREF(names.name);
    Py_XDECREF(names.line);
    if (message == NULL && !PyErr_Occurred())
        Py_RETURN_NONE;
    return message;
}

static int
split_into(Codec *self, const unsigned char *at, const unsigned char *end, PyObject *messages, int *are_books)
{
    Names names = {0};
    int status = 1;
    while (at < end && status == 1) {
        uint64_t length = end - at < HEADER_BYTES ? 0 : read_le(at + AT_LENGTH, 4);
        PyObject *message = NULL;
        if (length != 0 && length <= (uint64_t)(end - at))
            message = read_message(self, at, (Py_ssize_t)length, NULL, &names);
        if (message == NULL) {
            status = PyErr_Occurred() ? -1 : 0;
            break;
        }
        if (at[AT_KIND] > KIND_DELTA)
            *are_books = 0;
        if (PyList_Append(messages, message) < 0)
            status = -1;
        Py_DECREF(message);
        at += length;
    }
    Py_XDECREF(names.name);
    Py_XDECREF(names.line);
    return status;
}

/* split(data, start) -> ([Message, ...], whether all are snapshots and deltas), or None.
 *
 * Cut the run of messages apart that begins at `start` in the bytes `data`.
 */
static PyObject *
codec_split(Codec *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t start;
    int are_books = 1;
    if (count != 2 || !PyBytes_CheckExact(args[0]) || !exact_uint(args[1], INT64_MAX, &start)
        || start > (uint64_t)PyBytes_GET_SIZE(args[0]))
        Py_RETURN_NONE;
    PyObject *messages = PyList_New(0);
    if (messages == NULL)
        return NULL;
    const unsigned char *bytes = (const unsigned char *)PyBytes_AS_STRING(args[0]);
    int status = split_into(self, bytes + start, bytes + PyBytes_GET_SIZE(args[0]), messages, &are_books);
    PyObject *result = NULL;
    if (status == 1)
        result = PyTuple_Pack(2, messages, are_books ? Py_True : Py_False);
    else if (status == 0)
        result = Py_NewRef(Py_None);
    Py_DECREF(messages);
    return result;
}

/* What a book event holds, all references owned. */
typedef struct {
    PyObject *attributes[ATTRIBUTES];
    uint64_t price_scale, size_scale, depth, hash, flags;
    int64_t id_prev, id_last, epoch, venue_ns, recv_ns;
} Event;

/* 1 where the attributes are plain and in the ranges of the header, 0 where not, -1 with an exception. */
static int
event_of(Codec *self, PyObject *object, int is_delta, Event *event)
{
    for (int at = 0; at < ATTRIBUTES; at++) {
        if (at == (is_delta ? DEPTH : ID_PREV))
            continue;
        event->attributes[at] = PyObject_GetAttr(object, self->attributes[at]);
        if (event->attributes[at] == NULL)
            return -1;
    }
    PyObject **of = event->attributes;
    return PyUnicode_CheckExact(of[INSTRUMENT]) && PyTuple_CheckExact(of[BIDS]) && PyTuple_CheckExact(of[ASKS])
           && exact_uint(of[PRICE_SCALE], UINT8_MAX, &event->price_scale)
           && exact_uint(of[SIZE_SCALE], UINT8_MAX, &event->size_scale)
           && exact_uint(of[HASH], UINT64_MAX, &event->hash) && exact_uint(of[FLAGS], UINT16_MAX, &event->flags)
           && exact_int64(of[ID_LAST], &event->id_last) && exact_int64(of[EPOCH], &event->epoch)
           && exact_int64(of[VENUE_NS], &event->venue_ns) && exact_int64(of[RECV_NS], &event->recv_ns)
           && (is_delta ? exact_int64(of[ID_PREV], &event->id_prev) : exact_uint(of[DEPTH], UINT32_MAX, &event->depth));
}

/* Write the levels of a side; 0 where a value is not a plain 64-bit integer. */
static int
write_side(unsigned char *at, PyObject *side)
{
    int64_t value;
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(side); index++, at += 8) {
        if (!exact_int64(PyTuple_GET_ITEM(side, index), &value))
            return 0;
        write_le(at, (uint64_t)value, 8);
    }
    return 1;
}

static void
write_header(unsigned char *at, const Event *event, int is_delta, uint64_t length, uint64_t name, uint64_t line)
{
    write_le(at + AT_LENGTH, length, 4);
    at[AT_KIND] = is_delta ? KIND_DELTA : KIND_SNAPSHOT;
    at[AT_CHANNEL] = 0;
    at[AT_PRICE_SCALE] = (unsigned char)event->price_scale;
    at[AT_SIZE_SCALE] = (unsigned char)event->size_scale;
    at[AT_NAME] = (unsigned char)name;
    at[AT_LINE] = (unsigned char)line;
    write_le(at + AT_FLAGS, event->flags & ~(uint64_t)WIDE, 2);
    write_le(at + AT_ID_PREV, (uint64_t)event->id_prev, 8);
    write_le(at + AT_ID_LAST, (uint64_t)event->id_last, 8);
    write_le(at + AT_EPOCH, (uint64_t)event->epoch, 8);
    write_le(at + AT_VENUE_NS, (uint64_t)event->venue_ns, 8);
    write_le(at + AT_RECV_NS, (uint64_t)event->recv_ns, 8);
    write_le(at + AT_HASH, event->hash, 8);
    write_le(at + AT_DEPTH, event->depth, 4);
    write_le(at + AT_BIDS, (uint64_t)PyTuple_GET_SIZE(event->attributes[BIDS]) / 2, 4);
    write_le(at + AT_ASKS, (uint64_t)PyTuple_GET_SIZE(event->attributes[ASKS]) / 2, 4);
}

/* The message of an event whose fields were looked at; NULL, perhaps without an exception. */
static PyObject *
written(Codec *self, const Event *event, int is_delta, PyObject *line)
{
    PyObject *const *of = event->attributes;
    Py_ssize_t name_length, line_length, bids = PyTuple_GET_SIZE(of[BIDS]), asks = PyTuple_GET_SIZE(of[ASKS]);
    const char *name = PyUnicode_AsUTF8AndSize(of[INSTRUMENT], &name_length);
    const char *source = name == NULL ? NULL : PyUnicode_AsUTF8AndSize(line, &line_length);
    if (source == NULL) {
        if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
            PyErr_Clear();
        return NULL;
    }
    Py_ssize_t body_start = HEADER_BYTES + name_length + line_length;
    if (name_length > NAME_BYTES_MAX || line_length > NAME_BYTES_MAX || bids % 2 || asks % 2
        || (uint64_t)bids + (uint64_t)asks > (UINT32_MAX - (uint64_t)body_start) / 8)
        return NULL;
    Py_ssize_t length = body_start + 8 * (bids + asks);
    PyObject *raw = PyBytes_FromStringAndSize(NULL, length);
    if (raw == NULL)
        return NULL;
    unsigned char *bytes = (unsigned char *)PyBytes_AS_STRING(raw);
    if (!write_side(bytes + body_start, of[BIDS]) || !write_side(bytes + body_start + 8 * bids, of[ASKS])) {
        Py_DECREF(raw);
        return NULL;
    }
    write_header(bytes, event, is_delta, (uint64_t)length, (uint64_t)name_length, (uint64_t)line_length);
    memcpy(bytes + HEADER_BYTES, name, (size_t)name_length);
    memcpy(bytes + HEADER_BYTES + name_length, source, (size_t)line_length);
    PyObject *kind = member_of(self->kinds, bytes[AT_KIND]), *channel = member_of(self->channels, 0);
    PyObject *fields[MESSAGE_FIELDS] = {
        Py_XNewRef(kind),
        Py_XNewRef(channel),
        unsigned_at(bytes, AT_FLAGS, 2),
        Py_NewRef(of[INSTRUMENT]),
        Py_NewRef(line),
        is_delta ? Py_NewRef(of[ID_PREV]) : PyLong_FromLong(0),
        Py_NewRef(of[ID_LAST]),
        Py_NewRef(of[EPOCH]),
        Py_NewRef(of[VENUE_NS]),
        Py_NewRef(of[RECV_NS]),
        Py_NewRef(of[HASH]),
        is_delta ? PyLong_FromLong(0) : Py_NewRef(of[DEPTH]),
        Py_NewRef(of[PRICE_SCALE]),
        Py_NewRef(of[SIZE_SCALE]),
        unsigned_at(bytes, AT_BIDS, 4),
        unsigned_at(bytes, AT_ASKS, 4),
        PyLong_FromSsize_t(body_start),
        raw,
    };
    return build(self, fields);
}

/* message_of(event, line) -> Message, or None.
 *
 * The message of a BookDelta or BookSnapshot received on `line`, whose values all fit in 64 bits.
 */
static PyObject *
codec_message_of(Codec *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyUnicode_CheckExact(args[1]))
        Py_RETURN_NONE;
    PyObject *type = (PyObject *)Py_TYPE(args[0]);
    int is_delta = type == self->delta;
    if (!is_delta && type != self->snapshot)
        Py_RETURN_NONE;
    Event event = {0};
    int status = event_of(self, args[0], is_delta, &event);
    PyObject *message = status == 1 ? written(self, &event, is_delta, args[1]) : NULL;
    for (int at = 0; at < ATTRIBUTES; at++)
        Py_XDECREF(event.attributes[at]);
    if (message == NULL && !PyErr_Occurred())
        Py_RETURN_NONE;
    return message;
}

static PyMethodDef codec_methods[] = {
    {"parse", (PyCFunction)codec_parse, METH_O, "Read one message."},
    {"split", (PyCFunction)(void (*)(void))codec_split, METH_FASTCALL, "Cut a run of messages apart."},
    {"message_of", (PyCFunction)(void (*)(void))codec_message_of, METH_FASTCALL, "Write a book event."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot codec_slots[] = {
    {Py_tp_doc, "Messages out of bytes and out of book events."},
    {Py_tp_new, codec_new},
    {Py_tp_dealloc, codec_dealloc},
    {Py_tp_traverse, codec_traverse},
    {Py_tp_clear, codec_clear},
    {Py_tp_methods, codec_methods},
    {0, NULL},
};

PyType_Spec codec_spec = {
    .name = "raytrade_native.Codec",
    .basicsize = sizeof(Codec),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = codec_slots,
};
