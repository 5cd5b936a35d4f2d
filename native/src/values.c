/* Rows of 64-bit integers on their way to and from Python. */
#include "native.h"

void
values_begin(Values *values)
{
    values->items = values->first;
    values->count = 0;
    values->room = VALUES_INLINE;
}

int
values_push(Values *values, int64_t value)
{
    if (values->count == values->room) {
        Py_ssize_t room = 2 * values->room;
        int is_inline = values->items == values->first;
        int64_t *items = PyMem_Realloc(is_inline ? NULL : values->items, (size_t)room * sizeof(int64_t));
        if (items == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        if (is_inline)
            memcpy(items, values->first, sizeof(values->first));
        values->items = items;
        values->room = room;
    }
    values->items[values->count++] = value;
    return 0;
}

void
values_end(Values *values)
{
    if (values->items != values->first)
        PyMem_Free(values->items);
}

PyObject *
values_tuple(const Values *values)
{
    PyObject *tuple = PyTuple_New(values->count);
    if (tuple == NULL)
        return NULL;
    for (Py_ssize_t at = 0; at < values->count; at++) {
        PyObject *item = PyLong_FromLongLong(values->items[at]);
        if (item == NULL) {
            Py_DECREF(tuple);
            return NULL;
        }
        PyTuple_SET_ITEM(tuple, at, item);
    }
    return tuple;
}

/* A tuple of `count` little-endian 64-bit integers; the caller has seen that they are there. */
PyObject *
levels_tuple(const unsigned char *at, Py_ssize_t count)
{
    PyObject *tuple = PyTuple_New(count);
    if (tuple == NULL)
        return NULL;
    for (Py_ssize_t index = 0; index < count; index++, at += 8) {
        PyObject *item = PyLong_FromLongLong((int64_t)read_le(at, 8));
        if (item == NULL) {
            Py_DECREF(tuple);
            return NULL;
        }
        PyTuple_SET_ITEM(tuple, index, item);
    }
    return tuple;
}

int
exact_int64(PyObject *object, int64_t *value)
{
    int overflow = 0;
    if (!PyLong_CheckExact(object))
        return 0;
    *value = PyLong_AsLongLongAndOverflow(object, &overflow);
    return overflow == 0;
}

int
exact_uint(PyObject *object, uint64_t most, uint64_t *value)
{
    if (!PyLong_CheckExact(object))
        return 0;
    *value = PyLong_AsUnsignedLongLong(object);
    if (*value == (uint64_t)-1 && PyErr_Occurred()) { /* negative, or wider than 64 bits */
        PyErr_Clear();
        return 0;
    }
    return *value <= most;
}

/* read_levels(raw, start, bids, asks) -> ((price, size, ...), (price, size, ...)), or None.
 *
 * The levels of a message whose values are 64 bits wide: `start` is where they begin in the bytes `raw`. None if they
 * are not all there.
 */
PyObject *
native_read_levels(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    uint64_t start, bids, asks;
    if (count != 4 || !PyBytes_CheckExact(args[0]) || !exact_uint(args[1], UINT32_MAX, &start)
        || !exact_uint(args[2], UINT32_MAX, &bids) || !exact_uint(args[3], UINT32_MAX, &asks))
        Py_RETURN_NONE;
    uint64_t size = (uint64_t)PyBytes_GET_SIZE(args[0]);
    if (start > size || bids + asks > (size - start) / 16)
        Py_RETURN_NONE;
    const unsigned char *at = (const unsigned char *)PyBytes_AS_STRING(args[0]) + start;
    PyObject *left = levels_tuple(at, 2 * (Py_ssize_t)bids);
    PyObject *right = left == NULL ? NULL : levels_tuple(at + 16 * bids, 2 * (Py_ssize_t)asks);
    PyObject *sides = right == NULL ? NULL : PyTuple_Pack(2, left, right);
    Py_XDECREF(left);
    Py_XDECREF(right);
    return sides;
}
