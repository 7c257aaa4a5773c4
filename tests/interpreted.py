"""Triton's interpreter without the work that it does again and again.

Before a kernel runs, and before each function that it calls does, the interpreter goes through all of triton.language
and puts its own operations in the place of the compiler's. Within a kernel they are in place: going through it again
changes nothing, and takes as long as the arithmetic of tests' small images.

In each operation it makes the types of the operands and of the result anew. They are values, equal to the ones before.
"""

from collections.abc import Callable


def patch_once() -> None:
    """Leaves out what is in place already, where this Triton has the functions that it takes."""
    try:
        import triton.language as tl
        from triton.runtime import interpreter

        original, nothing_to_restore = interpreter._patch_lang, interpreter._LangPatchScope
    except (ImportError, AttributeError):  # no Triton, or another one than was read: its own way, which takes longer
        return
    interpreter._patch_lang = _unless_patched(original, nothing_to_restore, tl)
    if _is_as_read(interpreter, tl):
        _keep_types(interpreter, tl)


def _unless_patched(original: Callable, nothing_to_restore: Callable, tl) -> Callable:
    known: dict[int, list] = {}  # by the globals of a module, which live as long as its kernels

    def patch(function):
        names = function.__globals__
        if id(names) not in known:
            known[id(names)] = [value for value in names.values() if value is tl or value is tl.core]
        languages = known[id(names)]
        if languages and not any(tl.core.is_builtin(language.load) for language in languages):
            return nothing_to_restore()
        return original(function)

    return patch


def _is_as_read(interpreter, tl) -> bool:
    """Whether the functions that `_keep_types` replaces do what they did when it was written."""
    import triton

    return triton.__version__.startswith("3.7.")


def _keep_types(interpreter, tl) -> None:
    """Types that were made once are used again."""
    core, semantic = tl.core, interpreter.TritonSemantic

    initialize_block, blocks = core.block_type.__init__, {}

    def initialize_once(self, element_ty, shape):
        key = (type(element_ty), getattr(element_ty, "name", None), *shape)
        if not all(type(size) is int for size in key[2:]):
            return initialize_block(self, element_ty, shape)
        if key not in blocks:
            initialize_block(self, element_ty, shape)
            blocks[key] = self
        self.__dict__ = blocks[key].__dict__

    core.block_type.__init__ = initialize_once

    make_block = core.block_type.with_element_ty

    def with_element_ty(self, scalar):
        made = self.__dict__.setdefault("_kept", {})
        name = (type(scalar), scalar.name)
        if name not in made:
            made[name] = make_block(self, scalar)
        return made[name]

    core.block_type.with_element_ty = with_element_ty

    def initialize_tensor(self, handle, type):
        core.base_value.__init__(self)
        self.handle, self.type, self.dtype = handle, type, type.scalar
        if not type.is_block():
            self.shape, self.numel = no_shape, one
            return
        if "_of_tensors" not in type.__dict__:
            shape = core.tuple([core.constexpr(size) for size in type.shape])
            type._of_tensors = shape, core.constexpr(type.numel)
        self.shape, self.numel = type._of_tensors

    no_shape, one = core.tuple([]), core.constexpr(1)
    core.tensor.__init__ = initialize_tensor

    find_numpy, found = interpreter._get_np_dtype, {}

    def numpy_type(of):
        scalar = of.scalar
        key = type(scalar), scalar.name
        if key not in found:
            found[key] = find_numpy(of)
        return found[key]

    interpreter._get_np_dtype = numpy_type

    broadcast = semantic.broadcast_impl_value

    def broadcast_unless_equal(self, lhs, rhs):
        a, b = lhs.type, rhs.type
        if a is b or a.is_block() and b.is_block() and a.shape.values == b.shape.values:
            return lhs, rhs
        return broadcast(self, lhs, rhs)

    semantic.broadcast_impl_value = broadcast_unless_equal

    def replace_builtin(place, name, member, builder, scope):
        inner = getattr(member, "__wrapped__", member)

        def operation(*args, **kwargs):
            kwargs["_semantic"] = interpreter.interpreter_semantic
            return inner(*args, **kwargs)

        scope.set_attr(place, name, operation)

    interpreter._patch_attr = replace_builtin

    compare = core.dtype.__eq__

    def equal(self, other):
        return self is other or compare(self, other)

    core.dtype.__eq__ = equal
