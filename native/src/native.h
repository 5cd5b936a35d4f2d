/* What the parts of raytrade_native share.
 *
 * Rule of the whole module: a function gives exactly what the Python code of raytrade gives, or None, and then the
 * Python code does the work (and raises what is to be raised). Nothing is changed before it is certain that all of it
 * can be done here. Only exceptions of the interpreter itself (MemoryError) leave this module as exceptions.
 */
#ifndef RAYTRADE_NATIVE_H
#define RAYTRADE_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define API_VERSION 1

/* Little-endian reads and writes, wherever the bytes lie. */
static inline uint64_t
read_le(const unsigned char *at, int width)
{
    uint64_t value = 0;
    for (int byte = width - 1; byte >= 0; byte--)
        value = value << 8 | at[byte];
    return value;
}

static inline void
write_le(unsigned char *at, uint64_t value, int width)
{
    for (int byte = 0; byte < width; byte++, value >>= 8)
        at[byte] = (unsigned char)(value & 0xff);
}

/* A growing row of 64-bit integers: small ones live in the struct itself. */
#define VALUES_INLINE 128

typedef struct {
    int64_t *items;
    Py_ssize_t count, room;
    int64_t first[VALUES_INLINE];
} Values;

void values_begin(Values *values);
int values_push(Values *values, int64_t value); /* 0, or -1 with MemoryError set */
PyObject *values_tuple(const Values *values);   /* a tuple of int */
void values_end(Values *values);

/* The value of an exact int that fits in 64 bits: 1, else 0 (and no exception). */
int exact_int64(PyObject *object, int64_t *value);
int exact_uint(PyObject *object, uint64_t most, uint64_t *value);

PyObject *levels_tuple(const unsigned char *at, Py_ssize_t count);

/* Methods, one per entry of the module's table. */
PyObject *native_even_sides(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *native_depth_update(PyObject *module, PyObject *frame);
PyObject *native_move_side(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *native_read_levels(PyObject *module, PyObject *const *args, Py_ssize_t count);

extern PyType_Spec codec_spec;

#endif
