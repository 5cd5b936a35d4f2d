/* raytrade_native: the hot loops of raytrade in C; see native.h for what it promises. */
#include "native.h"

static PyMethodDef methods[] = {
    {"depth_update", native_depth_update, METH_O, "Read Binance's depth frame."},
    {"even_sides", (PyCFunction)(void (*)(void))native_even_sides, METH_FASTCALL, "Read two sides of raw JSON."},
    {"move_side", (PyCFunction)(void (*)(void))native_move_side, METH_FASTCALL, "Move one side of a book."},
    {"read_levels", (PyCFunction)(void (*)(void))native_read_levels, METH_FASTCALL, "Read the levels of a message."},
    {NULL, NULL, 0, NULL},
};

static int
module_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &codec_spec, NULL);
    if (type == NULL)
        return -1;
    int status = PyModule_AddObjectRef(module, "Codec", type);
    Py_DECREF(type);
    return status < 0 ? -1 : PyModule_AddIntConstant(module, "API_VERSION", API_VERSION);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "raytrade_native",
    .m_doc = "The hot loops of raytrade in C: exactly what its Python code gives, or None.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit_raytrade_native(void)
{
    return PyModuleDef_Init(&definition);
}
