/* One side of a book: sizes by price, and the prices as a sorted list of keys whose last element is the best one. */
#include "native.h"

/* Compare the key at an index with a wanted one: -1, 0 or 1; a key wider than 64 bits lies beyond all that are not.
 * 2 if the list holds something else than integers.
 */
static inline int
compare(PyObject *item, int64_t wanted)
{
    int overflow = 0;
    if (!PyLong_CheckExact(item))
        return 2;
    int64_t key = PyLong_AsLongLongAndOverflow(item, &overflow);
    if (overflow)
        return overflow;
    return key < wanted ? -1 : key > wanted;
}

/* The first index whose key is not below `wanted`; -1 if the list holds something else than integers.
 * Nothing here runs Python code, so that the list stays as it is meanwhile.
 */
static Py_ssize_t
place_of(PyObject *keys, int64_t wanted)
{
    Py_ssize_t low = 0, high = PyList_GET_SIZE(keys);
    while (low < high) {
        Py_ssize_t middle = low + (high - low) / 2;
        int order = compare(PyList_GET_ITEM(keys, middle), wanted);
        if (order == 2)
            return -1;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int
set_level(PyObject *sizes, PyObject *keys, int64_t key, PyObject *price, PyObject *size)
{
    int is_known = PyDict_Contains(sizes, price);
    if (is_known < 0)
        return -1;
    if (!is_known) {
        Py_ssize_t place = place_of(keys, key);
        if (place < 0) {
            PyErr_SetString(PyExc_TypeError, "a book's keys must be integers");
            return -1;
        }
        PyObject *number = PyLong_FromLongLong(key);
        if (number == NULL)
            return -1;
        int status = PyList_Insert(keys, place, number);
        Py_DECREF(number);
        if (status < 0)
            return -1;
    }
    return PyDict_SetItem(sizes, price, size);
}

static int
remove_level(PyObject *sizes, PyObject *keys, int64_t key, PyObject *price)
{
    PyObject *held = PyDict_GetItemWithError(sizes, price);
    if (held == NULL)
        return PyErr_Occurred() ? -1 : 0;
    int is_level = PyObject_IsTrue(held);
    if (is_level < 0 || PyDict_DelItem(sizes, price) < 0)
        return -1;
    if (!is_level)
        return 0;
    Py_ssize_t place = place_of(keys, key);
    if (place < 0 || place >= PyList_GET_SIZE(keys)) {
        PyErr_SetString(PyExc_IndexError, "list assignment index out of range");
        return -1;
    }
    return PyList_SetSlice(keys, place, place + 1, NULL);
}

/* move_side(sizes, keys, sign, levels) -> True, or None with nothing changed.
 *
 * Move one side by flat levels (price, size, price, size, ...) in their order: a size of 0 removes. `keys` are
 * `sign * price`. None unless all values are 64-bit integers.
 */
PyObject *
native_move_side(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    int64_t sign, price, size;
    if (count != 4 || !PyDict_CheckExact(args[0]) || !PyList_CheckExact(args[1]) || !exact_int64(args[2], &sign)
        || (sign != 1 && sign != -1) || !PyTuple_CheckExact(args[3]))
        Py_RETURN_NONE;
    PyObject *levels = args[3];
    Py_ssize_t length = PyTuple_GET_SIZE(levels);
    if (length % 2)
        Py_RETURN_NONE;
    for (Py_ssize_t at = 0; at < length; at++)
        if (!exact_int64(PyTuple_GET_ITEM(levels, at), &price) || price == INT64_MIN)
            Py_RETURN_NONE;
    for (Py_ssize_t at = 0; at < length; at += 2) {
        PyObject *first = PyTuple_GET_ITEM(levels, at), *second = PyTuple_GET_ITEM(levels, at + 1);
        exact_int64(first, &price);
        exact_int64(second, &size);
        int status = size ? set_level(args[0], args[1], sign * price, first, second)
                          : remove_level(args[0], args[1], sign * price, first);
        if (status < 0)
            return NULL;
    }
    Py_RETURN_TRUE;
}
