/* Shorter ways to what compiled modules ask of Python most: included before each C file of mypyc's.

   mypyc compiles attributes of its own classes to loads, and leaves the rest to Python's general
   functions, which look everything up anew. Values (msgspec's), names of modules and methods of
   objects in C or Rust are such a rest. What was found once is remembered here, together with what
   Python itself uses to tell that it may have changed: the version of a type, of a dictionary.

   Nothing depends on it: without the file everything works, a sixth slower. */

#include <CPy.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>

#if !defined(Py_GIL_DISABLED) && !defined(PYPY_VERSION)

#define QUORATE_SLOTS 2048
/* One table for all files. */
#define QUORATE_SHARED __attribute__((weak, visibility("hidden")))
/* Not `cold`: the compiler would take for rare what leads there. */
#define QUORATE_RARE __attribute__((weak, visibility("hidden"), noinline))

/* ---- attributes that lie at a fixed place in an object */

typedef struct {
    PyTypeObject *type;
    PyObject *name; /* held, so that nothing else can come to lie where it is */
    Py_ssize_t offset;
    unsigned int version;
} QuorateMember;

QUORATE_SHARED QuorateMember quorate_members[QUORATE_SLOTS];

static inline size_t quorate_mix(PyTypeObject *type, PyObject *name)
{
    return (((uintptr_t)type >> 4) + ((uintptr_t)name >> 4)) % QUORATE_SLOTS;
}

/* Whether what `_PyType_Lookup` has just found holds for as long as the version does. */
static inline int quorate_is_versioned(PyTypeObject *type)
{
    return type->tp_version_tag != 0 && PyType_HasFeature(type, Py_TPFLAGS_VALID_VERSION_TAG);
}

QUORATE_RARE PyObject *quorate_find_attr(PyObject *object, PyObject *name, QuorateMember *member)
{
    PyTypeObject *type = Py_TYPE(object);
    /* What modules have by their type begins with an underscore. */
    if (type == &PyModule_Type && PyUnicode_CheckExact(name) && PyUnicode_GET_LENGTH(name) > 0
        && PyUnicode_READ_CHAR(name, 0) != '_') {
        PyObject *value = PyDict_GetItemWithError(PyModule_GetDict(object), name);
        if (value != NULL) {
            Py_INCREF(value);
            return value;
        }
        PyErr_Clear();
    }
    if (type->tp_getattro == PyObject_GenericGetAttr && PyUnicode_CheckExact(name)) {
        PyObject *found = _PyType_Lookup(type, name);
        if (found != NULL && Py_IS_TYPE(found, &PyMemberDescr_Type)
            && quorate_is_versioned(type)) {
            PyMemberDef *definition = ((PyMemberDescrObject *)found)->d_member;
            if (definition->type == T_OBJECT_EX && (definition->flags & ~READONLY) == 0) {
                Py_INCREF(name);
                Py_XSETREF(member->name, name);
                member->type = type;
                member->offset = definition->offset;
                member->version = type->tp_version_tag;
            }
        }
    }
    return PyObject_GetAttr(object, name);
}

static inline PyObject *quorate_get_attr(PyObject *object, PyObject *name)
{
    PyTypeObject *type = Py_TYPE(object);
    QuorateMember *member = &quorate_members[quorate_mix(type, name)];
    if (likely(member->type == type && member->name == name
               && member->version == type->tp_version_tag)) {
        PyObject *value = *(PyObject **)((char *)object + member->offset);
        if (likely(value != NULL)) {
            Py_INCREF(value);
            return value;
        }
    }
    return quorate_find_attr(object, name, member);
}

/* ---- calls */

/* `PyObject_Vectorcall`, less its check that callees keep to the rules of errors. */
static inline PyObject *quorate_call(PyObject *callee, PyObject *const *arguments, size_t count,
                                     PyObject *keywords)
{
    PyTypeObject *type = Py_TYPE(callee);
    if (likely(PyType_HasFeature(type, Py_TPFLAGS_HAVE_VECTORCALL))) {
        vectorcallfunc call;
        memcpy(&call, (char *)callee + type->tp_vectorcall_offset, sizeof(call));
        if (likely(call != NULL)) {
            return call(callee, arguments, count, keywords);
        }
    }
    return PyObject_Vectorcall(callee, arguments, count, keywords);
}

typedef struct {
    PyTypeObject *type;
    PyObject *name;
    PyObject *method;
    unsigned int version;
} QuorateMethod;

QUORATE_SHARED QuorateMethod quorate_methods[QUORATE_SLOTS];

QUORATE_RARE PyObject *quorate_find_method(PyObject *name, PyObject *const *arguments,
                                           size_t count, PyObject *keywords, QuorateMethod *known)
{
    PyTypeObject *type = Py_TYPE(arguments[0]);
    /* No instance has attributes of its own, which would come first. */
    if (type->tp_getattro == PyObject_GenericGetAttr && type->tp_dictoffset == 0
        && PyUnicode_CheckExact(name)) {
        PyObject *found = _PyType_Lookup(type, name);
        if (found != NULL && PyType_HasFeature(Py_TYPE(found), Py_TPFLAGS_METHOD_DESCRIPTOR)
            && quorate_is_versioned(type)) {
            Py_INCREF(name);
            Py_XSETREF(known->name, name);
            known->type = type;
            known->method = found; /* held by the type for as long as the version holds */
            known->version = type->tp_version_tag;
        }
    }
    return PyObject_VectorcallMethod(name, arguments, count, keywords);
}

static inline PyObject *quorate_call_method(PyObject *name, PyObject *const *arguments,
                                            size_t count, PyObject *keywords)
{
    PyTypeObject *type = Py_TYPE(arguments[0]);
    QuorateMethod *known = &quorate_methods[quorate_mix(type, name)];
    if (likely(known->type == type && known->name == name
               && known->version == type->tp_version_tag)) {
        PyObject *method = known->method;
        Py_INCREF(method);
        PyObject *result = quorate_call(method, arguments,
                                        count & ~PY_VECTORCALL_ARGUMENTS_OFFSET, keywords);
        Py_DECREF(method);
        return result;
    }
    return quorate_find_method(name, arguments, count, keywords, known);
}

/* ---- integers */

static inline PyObject *quorate_box(CPyTagged x)
{
    if (likely(CPyTagged_CheckShort(x))) {
        PyObject *value = PyLong_FromSsize_t(CPyTagged_ShortAsSsize_t(x));
        if (likely(value != NULL)) {
            return value;
        }
    }
    return CPyTagged_StealAsObject(x);
}

/* ---- names of a module */

#if PY_VERSION_HEX < 0x030C0000

typedef struct {
    PyObject *key;
    PyObject *value;
    uint64_t version;
} QuorateName;

static __attribute__((noinline)) PyObject *quorate_find_name(PyObject *names, PyObject *key,
                                                             QuorateName *known)
{
    PyObject *value = CPyDict_GetItem(names, key);
    if (value != NULL && PyDict_CheckExact(names) && PyUnicode_CheckExact(key)
        && PyUnicode_CHECK_INTERNED(key)) {
        Py_INCREF(key);
        Py_XSETREF(known->key, key);
        known->value = value; /* held by the dictionary for as long as the version holds */
        known->version = ((PyDictObject *)names)->ma_version_tag;
    }
    return value;
}

/* The version of a dictionary is unlike that of any other, and changes with every change. */
static inline PyObject *quorate_get_name(PyObject *names, PyObject *key, QuorateName *known)
{
    if (likely(known->key == key && PyDict_CheckExact(names)
               && ((PyDictObject *)names)->ma_version_tag == known->version)) {
        Py_INCREF(known->value);
        return known->value;
    }
    return quorate_find_name(names, key, known);
}

/* ---- dictionaries by bytes and text, which know their hash */

static inline PyObject *quorate_get_item(PyObject *dict, PyObject *key, PyObject *otherwise)
{
    Py_hash_t hash = -1;
    if (PyBytes_CheckExact(key)) {
        hash = ((PyBytesObject *)key)->ob_shash;
    } else if (PyUnicode_CheckExact(key)) {
        hash = ((PyASCIIObject *)key)->hash;
    }
    if (likely(hash != -1 && PyDict_CheckExact(dict))) {
        PyObject *value = _PyDict_GetItem_KnownHash(dict, key, hash);
        if (value == NULL) {
            if (unlikely(PyErr_Occurred() != NULL)) {
                return NULL;
            }
            value = otherwise;
        }
        Py_INCREF(value);
        return value;
    }
    return CPyDict_Get(dict, key, otherwise);
}

#define CPyDict_Get quorate_get_item
#define CPyDict_GetWithNone(dict, key) quorate_get_item((dict), (key), Py_None)
#define CPyDict_GetItem(names, key)                                                               \
    ({                                                                                            \
        static QuorateName known_;                                                                \
        quorate_get_name((names), (key), &known_);                                                \
    })

#endif

#define PyObject_GetAttr quorate_get_attr
#define PyObject_Vectorcall quorate_call
#define PyObject_VectorcallMethod quorate_call_method
#define CPyTagged_StealAsObject quorate_box

#endif
