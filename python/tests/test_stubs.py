"""The stubs, which type checkers read in place of the native module, name what it has, with the same arguments."""

import ast
import inspect
import pathlib

import pytest

import dpg_bench
from dpg_bench import _native

STUBS = ast.parse(pathlib.Path(dpg_bench.__file__).with_name("_native.pyi").read_text())
# Those of every class or of the way in which it is made.
OF_ALL = {"__doc__", "__module__", "__repr__", "__new__"}


def stub_names(body):
    names = set()
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign):
            names.add(node.target.id)
    return names


def stub_signature(function, bound):
    """Names, kinds and defaults of the arguments, without `self` or `cls` where it is `bound`."""
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    kinds = [inspect.Parameter.POSITIONAL_OR_KEYWORD] * len(positional)
    defaults = [None] * (len(positional) - len(given.defaults)) + list(given.defaults)
    arguments = list(zip(positional, kinds, defaults))[1 if bound else 0 :]
    arguments += [(one, inspect.Parameter.KEYWORD_ONLY, default) for one, default in zip(given.kwonlyargs, given.kw_defaults)]
    assert given.vararg is None and given.kwarg is None
    told = []
    for argument, kind, default in arguments:
        value = inspect.Parameter.empty if default is None else ast.literal_eval(default)
        told.append((argument.arg, kind, value))
    return told


def native_signature(function):
    told = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "self":
            continue
        # pyo3 shows no default that is made by code; here these are empty lists.
        default = () if parameter.default is ... else parameter.default
        told.append((name, parameter.kind, default))
    return told


CLASSES = {node.name: node for node in STUBS.body if isinstance(node, ast.ClassDef)}
FUNCTIONS = {node.name: node for node in STUBS.body if isinstance(node, ast.FunctionDef)}


def test_every_name_has_a_stub():
    named = {name for name in vars(_native) if not name.startswith("__") or name == "__version__"}
    assert stub_names(STUBS.body) - {"_Path"} == named
    assert set(dpg_bench.__all__) - {"evaluate"} <= named
    # What the package exports is there.
    assert all(hasattr(dpg_bench, name) for name in dpg_bench.__all__)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_function_takes_what_its_stub_says(name):
    assert native_signature(getattr(_native, name)) == stub_signature(FUNCTIONS[name], bound=False)


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"DpgBenchError"}))
def test_a_class_has_what_its_stub_says(name):
    native, stub = getattr(_native, name), CLASSES[name]
    has = {member for member in vars(native) if member not in OF_ALL}
    assert has == stub_names(stub.body) - OF_ALL
    for node in stub.body:
        decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
        member = vars(native)[node.name] if node.name != "__new__" else native
        if "property" in decorators:
            assert inspect.isdatadescriptor(member), node.name
            continue
        assert not inspect.isdatadescriptor(member), node.name
        # Those of Python's own protocols have arguments without names.
        if node.name == "__new__" or not node.name.startswith("__") or node.name == "__arrow_c_stream__":
            bound = "staticmethod" not in decorators
            function = getattr(native, node.name) if node.name != "__new__" else native
            assert native_signature(function) == stub_signature(node, bound), node.name
    # Without `__new__` in its stub Python cannot make one.
    if "__new__" not in stub_names(stub.body):
        with pytest.raises(TypeError):
            native()


def test_the_package_takes_what_it_hands_on():
    own = inspect.signature(dpg_bench.evaluate).parameters
    assert [name for name, _, _ in native_signature(_native.evaluate)] == list(own)
